#!lua
-- Append events of a node's connections to the queues of portals.
--
-- KEYS   1 leases, 2 the connections of the node, 3 observers, 4 their stream, then for each event its queue and
--        the weights of the accounts there
-- ARGV   1 node, 2 life of the observers' stream (ms), 3 how many replicas have to be online, 0 or 1, then for each
--        event: connection, partition, sequence, kind, id or '', data, network or '', weight, most events
--        and most bytes of the queue
-- REPLY  0 when the node has no lease: no other node would close its connections. Else the replicas online, 0
--        where none is needed; then for each event 1 when it was taken, 2 when the queue is full, 3 when the
--        connection is not open, 4 when it is closed already. Or the error NOREPLICAS.
--
-- The last sequence of each open connection is kept: an event that came before changes nothing.
-- An event of kind connection opens; disconnection closes; others need an open connection, since one that
-- reap.lua closed has had its last event. Opening and closing events, and the first login, have twice the
-- capacity.
-- An event counts for an account: its id, or its network, or else its connection. The queue may be full for one
-- account only; has_place() in backend/inbox.py says when. Events that other scripts write have no weight; the
-- resulting error is corrected when a queue is empty.
-- Without allow-oom a full Redis refuses the script before it changes anything, and clients have to wait.

local SHARED, ARGS = 4, 10
local node, expiry, now = ARGV[1], ARGV[2], now_ms()
if not lease_reader(KEYS[1], now)(node) then return 0 end
local replicas = wanted_replicas(ARGV[3])
local observed = observed_by(KEYS[3], KEYS[4])

-- The number of events of a queue, and the memory that they take, by a sample; read once for all events of this
-- call.
local lengths, sizes = {}, {}
local function length_of(queue)
  if not lengths[queue] then lengths[queue] = redis.call('XLEN', queue) end
  return lengths[queue]
end
local function size_of(queue)
  if not sizes[queue] then sizes[queue] = redis.call('MEMORY', 'USAGE', queue) end
  return sizes[queue]
end

local function is_full(queue, event)
  local length = length_of(queue)
  if event.is_edge then return length >= 2 * event.max_events end
  return length >= event.max_events or (length >= GUARANTEED_EVENTS and size_of(queue) >= event.max_bytes)
end

-- Whether an account with this weight may have more.
local function has_place(queue, event, weight)
  if event.is_edge or weight < FEW then return true end
  local length = length_of(queue)
  local free = math.min(READ_AHEAD, event.max_events) - length
  if length >= GUARANTEED_EVENTS then
    free = math.min(free, (math.min(READ_AHEAD_BYTES, event.max_bytes) - size_of(queue)) / WEIGHT_UNIT)
  end
  return weight < math.min(MAX_ACCOUNT_WEIGHT, free)
end

-- Add the weight of an event, unless its account has no place.
local function is_weighed(queue, weights, event)
  local account = event.connection
  if event.id ~= '' then account = ':' .. event.id elseif event.network ~= '' then account = event.network end
  local before = redis.call('HINCRBY', weights, account, event.weight) - event.weight
  if has_place(queue, event, before) then return true end
  redis.call('HINCRBY', weights, account, -event.weight)
  if length_of(queue) == 0 then redis.call('DEL', weights) end
  return false
end

local function take(queue, weights, event)
  local known = redis.call('HGET', KEYS[2], event.connection)
  local last, id = string.match(known or '', '^(%d+) %d+ (.*)$')
  local is_login = event.kind == 'authentication' and id == ''
  event.is_edge = is_login or event.kind == 'connection' or event.kind == 'disconnection'
  if not known and event.kind == 'disconnection' then return 4 end
  if not known and event.kind ~= 'connection' then return 3 end
  if known and tonumber(event.sequence) <= (tonumber(last) or 0) then return 1 end
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
  posted[weights], lengths[queue] = true, lengths[queue] + 1
  return 1
end

local reply = {replicas}
for n = 1, (#KEYS - SHARED) / 2 do
  local at = 4 + ARGS * (n - 1)
  local event = {
    connection = ARGV[at], partition = ARGV[at + 1], sequence = ARGV[at + 2], kind = ARGV[at + 3],
    id = ARGV[at + 4], data = ARGV[at + 5], network = ARGV[at + 6], weight = ARGV[at + 7], node = node, time = now,
    max_events = tonumber(ARGV[at + 8]), max_bytes = tonumber(ARGV[at + 9]),
  }
  reply[n + 1] = take(KEYS[3 + 2 * n], KEYS[4 + 2 * n], event)
end
for i = 1, 2 do outlive(KEYS[i], BACKLOG_LIFE) end
prolong()
if not next(posted) then touch(KEYS[1]) end
return reply
