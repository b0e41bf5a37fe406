#!lua flags=allow-oom
-- Count deliveries of events, delete events from their queues, or move them to the dead letters.
--
-- KEYS  1 dead letters, 2 how many were rejected, then for each queue: its owner, itself, its
--       deliveries, weights of its connections, and the records of messages that the handlers of its done
--       or rejected events sent
-- ARGV  1 portal, 2 life of deliveries (ms), 3 life of dead letters and of that number (ms), 4 most dead letters, 5 most
--       bytes of them, 6 for how long messages are remembered now (ms), 7 how many replicas have to be
--       online: 0 or 1, then for each queue:
--       partition, token by which the portal owns it, last attempt that begins here, number of
--       messages, number of steps, and for each step: action, offset; unless it begins
--       also connection and weight; for dead letters the reason
--
-- Actions: begin, done, reject, die. Replies may be lost, so a repeated call changes nothing: it is
-- recognized by its last attempt, which the deliveries hold under the empty offset. The script does not check
-- that an event that begins exists, which would cost a copy of it: only the owner deletes events.
-- Returns a list: the replicas online, 0 where none is needed; then for each step -1 when another portal owns
-- the queue; else the number of deliveries where the event begins, or 0. Or the error NOREPLICAS.

local LAST = ''
local reply, key, at = {wanted_replicas(ARGV[7])}, 3, 8
local queue, deliveries, weights, partition

-- Delete an event from its queue; returns whether it was there.
local function take_out(place, connection, weight)
  local is_there = redis.call('XDEL', queue, place) > 0
  redis.call('HDEL', deliveries, place)
  if is_there and redis.call('HINCRBY', weights, connection, -weight) <= 0 then
    redis.call('HDEL', weights, connection)
  end
  return is_there
end

-- Delete an event and count it. A step that may be refused comes first; a count that is no number is reset.
local function reject(place, connection, weight)
  local before = tonumber(redis.call('GET', KEYS[2])) or 0
  if take_out(place, connection, weight) then redis.call('SET', KEYS[2], before + 1, 'PX', ARGV[3]) end
end

-- Steps that may be refused come before the dead letter is written, or after the event was deleted: so none
-- becomes a dead letter twice.
local function bury(place, reason, connection, weight)
  redis.call('XDEL', queue, '0-1') -- no entry
  local entry = redis.call('XRANGE', queue, place, place)[1]
  if not entry then return end
  local fields = entry[2]
  for _, value in ipairs({'p', partition, 'r', reason, 'y', redis.call('HGET', deliveries, place) or '0'}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], '*', unpack(fields))
  take_out(place, connection, weight)
  keep_within(KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end

-- Whether the steps of this queue were applied before, and only the reply was lost.
local function is_repeated(attempt)
  if attempt == '0' then return false end
  local this = ARGV[1] .. ' ' .. attempt
  if redis.call('HGET', deliveries, LAST) == this then return true end
  redis.call('HSET', deliveries, LAST, this)
  return false
end

local function begin(place, repeated)
  local known = repeated and redis.call('HGET', deliveries, place)
  return known and tonumber(known) or redis.call('HINCRBY', deliveries, place, 1)
end

-- Apply one step, or skip it if the queue is lost; returns its result.
local function step(is_owned, repeated)
  local action, place = ARGV[at], ARGV[at + 1]
  at = at + 2
  if action == 'begin' then return is_owned and begin(place, repeated) or -1 end
  local connection, weight = ARGV[at], ARGV[at + 1]
  at = at + 2
  local reason = ARGV[at]
  if action == 'die' then at = at + 1 end
  if not is_owned then return -1 end
  if action == 'reject' then reject(place, connection, weight) end
  if action == 'die' then bury(place, reason, connection, weight) end
  take_out(place, connection, weight)
  return 0
end

while at <= #ARGV do
  local owner, messages = ARGV[1] .. '|' .. ARGV[at + 1], tonumber(ARGV[at + 3])
  local attempt, steps = ARGV[at + 2], tonumber(ARGV[at + 4])
  partition, queue, deliveries, weights = ARGV[at], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3]
  local is_owned = redis.call('GET', KEYS[key]) == owner
  local repeated = is_owned and is_repeated(attempt)
  key, at = key + 4, at + 5
  for _ = 1, steps do reply[#reply + 1] = step(is_owned, repeated) end
  if is_owned then
    redis.call('PEXPIRE', deliveries, ARGV[2])
    for i = key, key + messages - 1 do redis.call('PEXPIRE', KEYS[i], ARGV[6], 'LT') end
  end
  key = key + messages
end
return reply
