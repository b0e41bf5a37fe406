#!lua
-- Append events of a node's connections to the queues of portals.
--
-- KEYS   1 leases, 2 the connections of the node, 3 observers, 4 their stream, then for each event its queue and
--        the weights of the connections there
-- ARGV   1 node, 2 life of the observers' stream (ms), 3 how many replicas have to be online, 0 or 1, then for each
--        event: connection, partition, sequence, kind, id or '', data, weight, most events and most bytes of the
--        queue
-- REPLY  0 when the node has no lease: no other node would close its connections. Else the replicas online, 0
--        where none is needed; then for each event 1 when it was taken, 2 when the queue is full, 3 when the
--        connection is not open, 4 when it is closed already. Or the error NOREPLICAS.
--
-- The last sequence of each open connection is kept: an event that came before changes nothing.
-- An event of kind connection opens; disconnection closes; others need an open connection, since one that
-- reap.lua closed has had its last event. Opening and closing events have twice the capacity.
-- The waiting events of one connection have a limit of their own, at which the queue is full for that
-- connection only. Events that other scripts write have no weight; the resulting error is corrected when a
-- queue is empty.
-- Without allow-oom a full Redis refuses the script before it changes anything, and clients have to wait.

local SHARED, ARGS = 4, 9
local node, expiry, now = ARGV[1], ARGV[2], now_ms()
if not lease_reader(KEYS[1], now)(node) then return 0 end
local replicas = wanted_replicas(ARGV[3])
local observed = observed_by(KEYS[3], KEYS[4])

-- The memory that a queue takes, by a sample; read once for all events of this call.
local sizes = {}
local function size_of(queue)
  if not sizes[queue] then sizes[queue] = redis.call('MEMORY', 'USAGE', queue) end
  return sizes[queue]
end

local function is_full(queue, event)
  local length = redis.call('XLEN', queue)
  if event.is_edge then return length >= 2 * event.max_events end
  return length >= event.max_events or (length >= GUARANTEED_EVENTS and size_of(queue) >= event.max_bytes)
end

-- Add the weight of an event, unless its connection has reached its limit.
local function is_weighed(queue, weights, event)
  local before = redis.call('HINCRBY', weights, event.connection, event.weight) - event.weight
  if event.is_edge or before < MAX_CONNECTION_WEIGHT then return true end
  redis.call('HINCRBY', weights, event.connection, -event.weight)
  if redis.call('XLEN', queue) == 0 then redis.call('DEL', weights) end
  return false
end

local function take(queue, weights, event)
  local known = redis.call('HGET', KEYS[2], event.connection)
  local last = known and tonumber(string.match(known, '^(%d+) ')) or 0
  event.is_edge = event.kind == 'connection' or event.kind == 'disconnection'
  if not known and event.kind == 'disconnection' then return 4 end
  if not known and event.kind ~= 'connection' then return 3 end
  if known and tonumber(event.sequence) <= last then return 1 end
  if is_full(queue, event) then return 2 end
  if not is_weighed(queue, weights, event) then return 2 end
  if event.kind == 'disconnection' then
    redis.call('HDEL', KEYS[2], event.connection)
  else
    redis.call('HSET', KEYS[2], event.connection, event.sequence .. ' ' .. event.partition .. ' ' .. event.id)
  end
  local is_posted, problem = pcall(post_event, queue, observed, expiry, event)
  if not is_posted then
    restore(KEYS[2], event.connection, known)
    error(problem)
  end
  posted[weights] = true
  return 1
end

local reply = {replicas}
for n = 1, (#KEYS - SHARED) / 2 do
  local at = 4 + ARGS * (n - 1)
  local event = {
    connection = ARGV[at], partition = ARGV[at + 1], sequence = ARGV[at + 2], kind = ARGV[at + 3],
    id = ARGV[at + 4], data = ARGV[at + 5], weight = ARGV[at + 6], node = node, time = now,
    max_events = tonumber(ARGV[at + 7]), max_bytes = tonumber(ARGV[at + 8]),
  }
  reply[n + 1] = take(KEYS[3 + 2 * n], KEYS[4 + 2 * n], event)
end
for i = 1, 2 do outlive(KEYS[i], BACKLOG_LIFE) end
prolong()
if not next(posted) then touch(KEYS[1]) end
return reply
