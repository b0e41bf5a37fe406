#!lua flags=allow-oom
-- Remove a node whose lease ran out: some of its ids at a time, and then its connections.
--
-- KEYS   1 leases, 2 counts, 3 graces, 4 connected_clients, 5 connected_clients_count, 6 signs
-- ARGV   1 prefix of held keys, 2 prefix of user keys, 3 a node that gives up its own lease, or '' for the one
--        whose lease ran out first, 4 expiry (ms), 5 grace (ms): 0 for a lease that ran out, which was grace enough
-- REPLY  1 when there may be more to forget, else 0
--
-- Any number of nodes may do this at once and again.

local leases, counts, graces, connected, total, signs = unpack(KEYS)
local holdings, users, given, expiry, grace = unpack(ARGV)
local now = now_ms()
local node = node_to_reap(leases, signs, given, now)
if not node then return 0 end
local held, due = holdings .. node, end_of(now, grace)
release_some(held, function(id) release_id(users .. id, node, id, graces, due, connected) end)
redis.call('PEXPIRE', graces, expiry)
if redis.call('EXISTS', held) == 1 then return 1 end
recount(counts, total, node, 0)
redis.call('ZREM', leases, node)
redis.call('HDEL', signs, '+' .. node)
return given == '' and 1 or 0
