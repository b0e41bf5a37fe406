#!lua flags=allow-oom
-- Delete the list of an id.
--
-- KEYS   1 undelivered_messages
-- ARGV   1 id
-- REPLY  the list, or nil

local raw = try('HGET', KEYS[1], ARGV[1])
try('HDEL', KEYS[1], ARGV[1])
return type(raw) == 'string' and raw or nil
