#!lua
-- Append events of a node's connections to the queues of portals.
--
-- KEYS  1 leases, 2 the connections of the node, 3 observers, 4 their stream, then for each event
--       its queue and the weights of the connections there
-- ARGV  1 node, 2 expiry (ms), 3 life of a queue (ms), 4 events that fit whatever their size,
--       5 most weight of one connection that may wait, 6 how many replicas have to be online: 0 or 1,
--       then for each event: connection, partition, sequence,
--       kind, id or '', data, weight, most events of the queue, most bytes of it
--
-- The last sequence of each open connection is kept: an event that came before changes nothing.
-- An event of kind connection opens; disconnection closes; others need an open connection, since one that
-- reap.lua closed has had its last event. Opening and closing events have twice the capacity.
-- The waiting events of one connection have a limit of their own, at which the queue is full for that
-- connection only. Events that other scripts write have no weight; the resulting error is corrected when a
-- queue is empty.
-- Without allow-oom a full Redis refuses the script before it changes anything, and clients have to wait.
-- Returns 0 when the node has no lease: no other node would close its connections. Else a list: the
-- replicas online, 0 where none is needed; then for each event 1 when it was taken, 2 when the queue is full,
-- 3 when the connection is not open, 4 when it is closed already. Or the error NOREPLICAS.

local ARGS, now = 9, now_ms()
if not lease_reader(KEYS[1], now)(ARGV[1]) then return 0 end
local replicas = wanted_replicas(ARGV[6])
local observed = observed_by(KEYS[3], KEYS[4])

-- The memory that a queue takes, by a sample; read once for all events of this call.
local sizes = {}
local function size_of(queue)
  if not sizes[queue] then sizes[queue] = redis.call('MEMORY', 'USAGE', queue) end
  return sizes[queue]
end

local function is_full(queue, is_edge, events, bytes)
  local length = redis.call('XLEN', queue)
  if is_edge then return length >= 2 * events end
  return length >= events or (length >= tonumber(ARGV[4]) and size_of(queue) >= bytes)
end

-- Add the weight of an event, unless its connection has reached its limit.
local function is_weighed(queue, weights, event)
  local before = redis.call('HINCRBY', weights, event.c, event.w) - event.w
  if event.is_edge or before < tonumber(ARGV[5]) then return true end
  redis.call('HINCRBY', weights, event.c, -event.w)
  if redis.call('XLEN', queue) == 0 then redis.call('DEL', weights) end
  return false
end

local function take(queue, weights, event, events, bytes)
  local known = redis.call('HGET', KEYS[2], event.c)
  local last = known and tonumber(string.match(known, '^(%d+) ')) or 0
  event.is_edge = event.k == 'connection' or event.k == 'disconnection'
  if not known and event.k == 'disconnection' then return 4 end
  if not known and event.k ~= 'connection' then return 3 end
  if known and tonumber(event.s) <= last then return 1 end
  if is_full(queue, event.is_edge, events, bytes) then return 2 end
  if not is_weighed(queue, weights, event) then return 2 end
  if event.k == 'disconnection' then
    redis.call('HDEL', KEYS[2], event.c)
  else
    redis.call('HSET', KEYS[2], event.c, event.s .. ' ' .. event.p .. ' ' .. event.i)
  end
  local is_posted, problem = pcall(post_event, queue, observed, ARGV[2], event)
  if not is_posted then
    restore(KEYS[2], event.c, known)
    error(problem)
  end
  posted[weights] = true
  return 1
end

local reply = {replicas}
for n = 1, (#KEYS - 4) / 2 do
  local at = 7 + ARGS * (n - 1)
  local queue, weights = KEYS[3 + 2 * n], KEYS[4 + 2 * n]
  local event = {
    c = ARGV[at], p = ARGV[at + 1], s = ARGV[at + 2], k = ARGV[at + 3], i = ARGV[at + 4],
    d = ARGV[at + 5], w = ARGV[at + 6], n = ARGV[1], t = now,
  }
  reply[n + 1] = take(queue, weights, event, tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]))
end
for i = 1, 2 do outlive(KEYS[i], ARGV[3]) end
prolong(ARGV[3])
if not next(posted) then touch(KEYS[1]) end
return reply
