#!lua flags=allow-oom
-- Remove a portal that leaves, or that is dead, from the pool, and announce that once.
--
-- KEYS  1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 signs
-- ARGV  1 portal, 2 why: 'leaves'; 'ours' or 'theirs' for a dead portal, 3 channel, 4 the
--       announcement, 5 expiry (ms)
--
-- A server of 1.x that hears the same leave twice removes another portal from its list, so only the call
-- that removed the portal announces it. A portal with a lease is never removed as dead, and none
-- of ours while Redis may have been away.
-- Returns 1 if it was announced, else 0.

local portal, why = ARGV[1], ARGV[2]
renew(KEYS[2], 'zset')
renew(KEYS[3], 'hash')
if why == 'leaves' then
  redis.call('HDEL', KEYS[3], portal)
  local had_lease = redis.call('ZREM', KEYS[2], portal) == 1
  if try('SREM', KEYS[1], portal) ~= 1 and not had_lease then return 0 end
  redis.call('PUBLISH', ARGV[3], ARGV[4])
  return 1
end
local now = now_ms()
if lease_reader(KEYS[2], now)(portal) or (why == 'ours' and must_wait(KEYS[4], now)) then return 0 end
redis.call('ZREM', KEYS[2], portal)
if try('SREM', KEYS[1], portal) ~= 1 then return 0 end
redis.call('HSET', KEYS[3], portal, why)
redis.call('PEXPIRE', KEYS[3], ARGV[5])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1
