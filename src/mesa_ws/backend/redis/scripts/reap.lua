#!lua flags=allow-oom
-- Release the ids of a node whose lease ran out, some at a time.
--
-- KEYS  1 leases, 2 counters, 3 the ids with their graces, 4 observers, 5 their stream,
--       6 tallies, 7 signs
-- ARGV  1 prefix of held keys, 2 prefix of user keys, 3 how many ids, 4 a node that gives up its
--       own lease, or '' to take the node whose lease ran out first, 5 expiry (ms), 6 grace (ms):
--       0 for a lease that ran out, which was grace enough, 7 prefix of the keys with connections,
--       8 prefix of queues
--
-- Any number of nodes may run this at once and repeatedly: released ids are skipped. A node with a lease is
-- never touched, and no node while Redis may have been away. The keys of the node and of its ids are named
-- here, in the same slot.
-- Connections that portals know of end: each gets its last event.
-- An id that no node holds any more is offline when its grace is over, as depart.lua reports.
-- Returns 1 when there may be more to release, else 0.

local node, now = ARGV[4], now_ms()
if node == '' then
  if must_wait(KEYS[7], now) then return 0 end
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
  leave(ARGV[2] .. id, node, id, KEYS[3], end_of(now, ARGV[6]))
  redis.call('SREM', held, id)
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])

local open = ARGV[7] .. node
local connections = try('HRANDFIELD', open, ARGV[3], 'WITHVALUES')
if connections.err then
  redis.call('DEL', open)
  connections = {}
end
local observed = observed_by(KEYS[4], KEYS[5])
for at = 1, #connections, 2 do
  local sequence, partition, id = string.match(connections[at + 1], '^(%d+) (%d+) (.*)$')
  redis.call('HDEL', open, connections[at])
  if sequence then
    local event = {
      connection = connections[at], partition = partition, sequence = sequence .. 'r', kind = 'disconnection',
      id = id, node = node, time = now, data = '[1006,""]',
    }
    local is_posted, problem = pcall(post_event, ARGV[8] .. partition, observed, ARGV[5], event)
    if not is_posted then
      restore(open, connections[at], connections[at + 1])
      error(problem)
    end
  end
end
prolong()
if redis.call('EXISTS', open) == 1 then return 1 end

if redis.call('EXISTS', held) == 1 then return 1 end
redis.call('ZREM', KEYS[1], node)
for _, key in ipairs({KEYS[2], KEYS[6]}) do redis.call('HDEL', key, node) end
redis.call('HDEL', KEYS[7], '+' .. node)
return ARGV[4] == '' and 1 or 0
