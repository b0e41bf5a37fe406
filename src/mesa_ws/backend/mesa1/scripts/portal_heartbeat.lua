#!lua flags=allow-oom
-- Renew the lease of one of our portals, and keep it in the pool that 1.x reads.
--
-- KEYS   1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 leases of nodes, 5 signs
-- ARGV   1 portal, 2 lease (ms), 3 expiry (ms), 4 1 if it has just started, 5 the announcement
-- REPLY  1 if it was announced, else 0
--
-- The portal is announced when it starts, and when others had removed it as dead and announced that. If only
-- Redis has forgotten it, servers of 1.x still know it, and would have it twice.

local pool, portals, gone, leases, signs = unpack(KEYS)
local portal, lease, expiry, is_new, announcement = unpack(ARGV)
local now = now_ms()
for i, kind in pairs({[2] = 'zset', [3] = 'hash', [4] = 'zset', [5] = 'hash'}) do renew(KEYS[i], kind) end
local was_gone = redis.call('HDEL', gone, portal) == 1
try('SADD', pool, portal)
note_sign(signs, now, lease, expiry, leases, {portals})
local had_lease = redis.call('ZADD', portals, end_of(now, lease), portal) == 0
shorten(portals, now, lease)
redis.call('PEXPIRE', portals, expiry)
if (is_new ~= '1' or had_lease) and not was_gone then return 0 end
redis.call('PUBLISH', pool, announcement) -- the pool names a set and a channel
return 1
