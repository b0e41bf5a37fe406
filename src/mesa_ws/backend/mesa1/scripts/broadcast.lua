#!lua flags=allow-oom
-- Publish a message to everybody.
--
-- KEYS   1 recipients that are remembered for the message id
-- ARGV   1 channel, 2 the payload, 3 for how long the message id is remembered (ms), or 0
-- REPLY  how many processes heard it, now or the first time
--
-- If Redis refuses, nothing is changed, and the error is the reply.

if ARGV[3] == '0' then return redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end
local before = redis.call('HGET', KEYS[1], '*')
if before then return tonumber(before) end
local heard = redis.pcall('PUBLISH', ARGV[1], ARGV[2])
if type(heard) == 'table' then return heard end
local is_done, problem = pcall(function()
  redis.call('HSET', KEYS[1], '*', heard)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end)
return is_done and heard or redis.error_reply('PARTLY ' .. problem_of(problem))
