#!lua flags=allow-oom
-- Forget a node whose lease ran out, some of its ids at a time.
--
-- KEYS  1 leases, 2 counters, 3 the held key of the node
-- ARGV  1 node, 2 prefix of user keys, 3 how many ids, 4 leave: 1 when the node itself gives up its
--       lease, else 0
--
-- Any number of nodes may do this at once and again: what is gone is passed over. A node with a
-- lease is never touched. The user keys are named from the ids in the held key, in the same slot.
-- Returns 0 when the node is alive, 1 when there is more, 2 when it is forgotten.

local node = ARGV[1]
if ARGV[4] == '1' then redis.call('ZADD', KEYS[1], 'XX', 0, node) end
if lease_reader(KEYS[1], now_ms())(node) then return 0 end
local ids = redis.pcall('SRANDMEMBER', KEYS[3], ARGV[3])
if ids.err then
  redis.call('DEL', KEYS[3])
  ids = {}
end
for _, id in ipairs(ids) do
  redis.pcall('HDEL', ARGV[2] .. id, node)
  redis.call('SREM', KEYS[3], id)
end
if redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
redis.call('ZREM', KEYS[1], node)
redis.call('HDEL', KEYS[2], node)
return 2
