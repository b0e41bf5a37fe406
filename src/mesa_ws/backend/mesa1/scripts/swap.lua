#!lua flags=allow-oom
-- Replace the list of an id, unless it has changed since it was read.
--
-- KEYS  1 undelivered_messages, 2 where corrupt lists are set aside
-- ARGV  1 id, 2 the list that was read, 3 the new list, or '' for none, 4 1 to set the old list aside, 5 its
--       life there (ms)
-- Returns 1 if it was replaced, else 0.

if try('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
if ARGV[4] == '1' then
  set_aside(KEYS[2], ARGV[2], ARGV[5])
end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
