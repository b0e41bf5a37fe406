#!lua flags=allow-oom
-- Take the ids whose grace is over, so that one node reports them offline.
--
-- KEYS  1 the ids with their graces, 2 signs
-- ARGV  1 prefix of user keys, 2 most ids
--
-- None is taken while Redis may have been away, since clients could not come back during that time.
-- Each id is given to one node only; when that reply is lost, no node reports it. The user keys are
-- named here, in the same slot.
-- Returns the ids that no node holds.

local gone, now = {}, now_ms()
if must_wait(KEYS[2], now) then return gone end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', KEYS[1], id)
  if redis.call('EXISTS', ARGV[1] .. id) == 0 then gone[#gone + 1] = id end
end
return gone
