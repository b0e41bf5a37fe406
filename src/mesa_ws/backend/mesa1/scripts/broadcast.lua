#!lua flags=allow-oom
-- Publish a message to everybody.
--
-- KEYS  1 what is remembered of the message id
-- ARGV  1 channel, 2 the payload, 3 for how long the message id is remembered (ms), or 0
-- Returns how many processes heard it, now or the first time.

if ARGV[3] == '0' then return redis.call('PUBLISH', ARGV[1], ARGV[2]) end
local before = redis.call('HGET', KEYS[1], '*')
if before then return tonumber(before) end
local heard = redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], '*', heard)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return heard
