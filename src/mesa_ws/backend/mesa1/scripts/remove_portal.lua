#!lua flags=allow-oom
-- Remove a portal that leaves, or that is dead, from the pool, and announce that once.
--
-- KEYS   1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 signs
-- ARGV   1 portal, 2 why: 'leaves'; 'ours' or 'theirs' for a dead portal, 3 channel, 4 the announcement,
--        5 expiry (ms)
-- REPLY  1 if it was announced, else 0
--
-- A server of 1.x that hears the same leave twice removes another portal from its list, so only the call
-- that removed the portal announces it. A portal with a lease is never removed as dead, and none
-- of ours while Redis may have been away.

local pool, portals, gone, signs = unpack(KEYS)
local portal, why, channel, announcement, expiry = unpack(ARGV)
renew(portals, 'zset')
renew(gone, 'hash')
if why == 'leaves' then
  redis.call('HDEL', gone, portal)
  local had_lease = redis.call('ZREM', portals, portal) == 1
  if try('SREM', pool, portal) ~= 1 and not had_lease then return 0 end
else
  local now = now_ms()
  if lease_reader(portals, now)(portal) or (why == 'ours' and must_wait(signs, now)) then return 0 end
  redis.call('ZREM', portals, portal)
  if try('SREM', pool, portal) ~= 1 then return 0 end
  redis.call('HSET', gone, portal, why)
  redis.call('PEXPIRE', gone, expiry)
end
redis.call('PUBLISH', channel, announcement)
return 1
