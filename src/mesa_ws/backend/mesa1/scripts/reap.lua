#!lua flags=allow-oom
-- Remove a node whose lease ran out: some of its ids at a time, and then its connections.
--
-- KEYS  1 leases, 2 counts, 3 graces, 4 connected_clients, 5 connected_clients_count, 6 signs
-- ARGV  1 prefix of held keys, 2 prefix of user keys, 3 how many ids, 4 a node that gives up its own
--       lease, or '' to take the node whose lease ran out first, 5 expiry (ms), 6 grace (ms): 0 for a
--       lease that ran out, which was grace enough
--
-- Any number of nodes may do this at once and again. A node with a lease is never touched, and none at
-- all while Redis may have been away.
-- Returns 1 when there may be more to forget, else 0.

local node, now = ARGV[4], now_ms()
if node == '' then
  if must_wait(KEYS[6], now) then return 0 end
  node = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
  if not node then return 0 end
else
  redis.call('ZADD', KEYS[1], 'XX', 0, node)
end
local held = ARGV[1] .. node
local ids = try('SRANDMEMBER', held, ARGV[3])
if ids.err then
  redis.call('DEL', held)
  ids = {}
end
for _, id in ipairs(ids) do
  leave(ARGV[2] .. id, node, id, KEYS[3], end_of(now, ARGV[6]), KEYS[4])
  redis.call('SREM', held, id)
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])
if redis.call('EXISTS', held) == 1 then return 1 end
recount(KEYS[2], KEYS[5], node, 0)
redis.call('ZREM', KEYS[1], node)
redis.call('HDEL', KEYS[6], '+' .. node)
return ARGV[4] == '' and 1 or 0
