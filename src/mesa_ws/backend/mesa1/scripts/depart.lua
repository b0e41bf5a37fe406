#!lua flags=allow-oom
-- Take ids whose grace is over, so that one node reports them as offline.
--
-- KEYS  1 graces, 2 connected_clients, 3 signs
-- ARGV  1 prefix of user keys, 2 how many
-- None is taken while Redis may have been away: clients that were about to come back could not.
-- Returns those that no node holds, and that are not in the set of 1.x.

local gone, now = {}, now_ms()
if must_wait(KEYS[3], now) then return gone end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', KEYS[1], id)
  local is_held = redis.call('EXISTS', ARGV[1] .. id) == 1 or try('SISMEMBER', KEYS[2], id) == 1
  if not is_held then gone[#gone + 1] = id end
end
return gone
