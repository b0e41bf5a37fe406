#!lua flags=allow-oom
-- Read the pool of portals.
--
-- KEYS  1 available_portals_pool, 2 portal leases, 3 portals that are gone, 4 era, 5 signs
-- ARGV  1 an era, if there is none, 2 expiry (ms), 3 the channel of events, 4 where the pool is set aside
--       if it is no set, 5 its life there (ms), 6 lease of a portal whose score has no length (ms)
-- While Redis may have been away, every portal that has a lease lives.
-- Returns {era, how many listen, the pool, leases as {portal, milliseconds left, ...}, portals that are
-- gone as {portal, 'ours' or 'theirs', ...}}.

renew(KEYS[2], 'zset')
renew(KEYS[3], 'hash')
renew(KEYS[4], 'string')
if clear_way(KEYS[1], 'set', ARGV[4], ARGV[5]) then redis.call('DEL', KEYS[4]) end -- it has to be put back
redis.call('SET', KEYS[4], ARGV[1], 'NX')
redis.call('PEXPIRE', KEYS[4], ARGV[2])
local now = now_ms()
shorten(KEYS[2], now, ARGV[6])
local left, least = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES'), must_wait(KEYS[5], now) and 1 or -math.huge
for i = 2, #left, 2 do left[i] = math.max(least, math.floor(tonumber(left[i]) - now)) end
local listeners = redis.call('PUBSUB', 'NUMSUB', ARGV[3])[2]
return {redis.call('GET', KEYS[4]), tonumber(listeners), redis.call('SMEMBERS', KEYS[1]), left, redis.call('HGETALL', KEYS[3])}
