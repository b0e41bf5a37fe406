#!lua flags=allow-oom
-- Replace the list of an id, unless it has changed since it was read.
--
-- KEYS   1 undelivered_messages, 2 where corrupt lists are set aside
-- ARGV   1 id, 2 the list that was read, 3 the new list, or '' for none, 4 1 to set the old list aside
-- REPLY  1 if it was replaced, else 0

local id, old, new, sets_aside = unpack(ARGV)
if try('HGET', KEYS[1], id) ~= old then return 0 end
if sets_aside == '1' then set_aside(KEYS[2], old) end
if new == '' then redis.call('HDEL', KEYS[1], id) else redis.call('HSET', KEYS[1], id, new) end
return 1
