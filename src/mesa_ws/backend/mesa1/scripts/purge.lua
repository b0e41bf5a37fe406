#!lua flags=allow-oom
-- Throw away what 1.x keeps for an id.
--
-- KEYS  1 undelivered_messages
-- ARGV  1 id
-- Returns what that was, or nil.

local raw = redis.pcall('HGET', KEYS[1], ARGV[1])
redis.pcall('HDEL', KEYS[1], ARGV[1])
return type(raw) == 'string' and raw or nil
