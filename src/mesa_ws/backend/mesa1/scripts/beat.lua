#!lua flags=allow-oom
-- Take or renew a node's lease, say how many connections it has, and prove its own channel.
--
-- KEYS  1 leases, 2 counts, 3 connected_clients_count, 4 the held key of the node, 5 graces
-- ARGV  1 node, 2 lease (ms), 3 connections, 4 expiry (ms), 5 the node's own channel
-- Returns {1 if it had a lease, else 0, how many nodes' leases ran out, how many ids' graces are over}.

local node, now = ARGV[1], now_ms()
local had = lease_reader(KEYS[1], now)(node)
redis.call('ZADD', KEYS[1], now + ARGV[2], node)
recount(KEYS[2], KEYS[3], node, tonumber(ARGV[3]))
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[4], KEYS[5]}) do redis.call('PEXPIRE', key, ARGV[4]) end
redis.call('PUBLISH', ARGV[5], '')
local dead, gone = redis.call('ZCOUNT', KEYS[1], '-inf', now), redis.call('ZCOUNT', KEYS[5], '-inf', now)
return {had and 1 or 0, dead, gone}
