#!lua flags=allow-oom
-- Read the pool of portals.
--
-- KEYS   1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 era, 5 signs
-- ARGV   1 an era, if there is none, 2 expiry (ms), 3 the channel of events, 4 where the pool is set aside if it is
--        no set, 5 lease of a portal whose score has no length (ms)
-- REPLY  era, how many listen, the pool, leases as {portal, milliseconds left, ...}, portals that are gone as
--        {portal, 'ours' or 'theirs', ...}
--
-- While Redis may have been away, every portal that has a lease lives.

local pool, portals, gone, era, signs = unpack(KEYS)
local fresh, expiry, channel, cleared, lease = unpack(ARGV)
for key, kind in pairs({[portals] = 'zset', [gone] = 'hash', [era] = 'string'}) do renew(key, kind) end
if clear_way(pool, 'set', cleared) then redis.call('DEL', era) end -- it has to be put back
redis.call('SET', era, fresh, 'NX')
redis.call('PEXPIRE', era, expiry)
local now = now_ms()
shorten(portals, now, lease)
local left, least = redis.call('ZRANGE', portals, 0, -1, 'WITHSCORES'), must_wait(signs, now) and 1 or -math.huge
for i = 2, #left, 2 do left[i] = math.max(least, math.floor(tonumber(left[i]) - now)) end
local listeners = tonumber(redis.call('PUBSUB', 'NUMSUB', channel)[2])
return {redis.call('GET', era), listeners, redis.call('SMEMBERS', pool), left, redis.call('HGETALL', gone)}
