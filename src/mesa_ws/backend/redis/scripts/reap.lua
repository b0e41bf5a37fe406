#!lua flags=allow-oom
-- Release the ids of a node whose lease ran out, and end its connections, some at a time.
--
-- KEYS   1 leases, 2 counters, 3 the ids with their graces, 4 observers, 5 their stream, 6 tallies, 7 signs,
--        8 carried out
-- ARGV   1 map
-- MAP    node: one that gives up its own lease, or '' for the one whose lease ran out first
--        expiry: life of the keys of a cluster (ms)
--        grace: of the ids (ms); 0 for a lease that ran out, which was grace enough
--        holdings, users, connections, queues: prefixes of keys, which are named here, in the same slot
-- REPLY  1 when there may be more to release, else 0
--
-- Any number of nodes may run this at once and repeatedly: released ids are skipped.
-- Connections that portals know of end: each gets its last event.
-- An id that no node holds any more is offline when its grace is over, as depart.lua reports.

local leases, counters, graces, observers, stream, tallies, signs, carried_out = unpack(KEYS)
local args, now = cmsgpack.unpack(ARGV[1]), now_ms()
local node = node_to_reap(leases, signs, args.node, now)
if not node then return 0 end
local held, open, due = args.holdings .. node, args.connections .. node, end_of(now, args.grace)
release_some(held, function(id) release_id(args.users .. id, node, id, graces, due) end)
redis.call('PEXPIRE', graces, args.expiry)

local connections = try('HRANDFIELD', open, MAX_IDS, 'WITHVALUES')
if connections.err then
  redis.call('DEL', open)
  connections = {}
end
local observed = observed_by(observers, stream)
for at = 1, #connections, 2 do
  local connection, recorded = connections[at], connections[at + 1]
  local sequence, partition, id = string.match(recorded, '^(%d+) (%d+) (.*)$')
  redis.call('HDEL', open, connection)
  if sequence then
    local event = {
      connection = connection, partition = partition, sequence = sequence .. 'r', kind = 'disconnection',
      id = id, node = node, time = now, data = '[1006,""]',
    }
    local is_posted, problem = pcall(post_event, args.queues .. partition, observed, args.expiry, event)
    if not is_posted then
      restore(open, connection, recorded)
      error(problem)
    end
  end
end
prolong()
if redis.call('EXISTS', open) == 1 or redis.call('EXISTS', held) == 1 then return 1 end

redis.call('ZREM', leases, node)
for _, key in ipairs({counters, tallies, carried_out}) do redis.call('HDEL', key, node) end
redis.call('HDEL', signs, '+' .. node)
return args.node == '' and 1 or 0
