#!lua flags=allow-oom
-- Renew the lease of one of our portals, and keep it in the pool that 1.x reads.
--
-- KEYS  1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 leases of nodes, 5 signs
-- ARGV  1 portal, 2 lease (ms), 3 expiry (ms), 4 1 if it has just started, 5 channel, 6 the announcement
--
-- The portal is announced when it starts, and when others had removed it as dead and announced that. If only
-- Redis has forgotten it, servers of 1.x still know it, and would have it twice.
-- Returns 1 if it was announced, else 0.

renew(KEYS[2], 'zset')
renew(KEYS[3], 'hash')
local was_gone = redis.call('HDEL', KEYS[3], ARGV[1]) == 1
try('SADD', KEYS[1], ARGV[1])
local now = now_ms()
for at, kind in pairs({[4] = 'zset', [5] = 'hash'}) do renew(KEYS[at], kind) end
note_sign(KEYS[5], now, ARGV[2], ARGV[3], KEYS[4], {KEYS[2]})
local had_lease = redis.call('ZADD', KEYS[2], end_of(now, ARGV[2]), ARGV[1]) == 0
shorten(KEYS[2], now, ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
if (ARGV[4] ~= '1' or had_lease) and not was_gone then return 0 end
redis.call('PUBLISH', ARGV[5], ARGV[6])
return 1
