#!lua flags=allow-oom
-- Count deliveries of letters, take them out of their queues, or put them among the dead.
--
-- KEYS  1 dead letters, 2 how many were rejected, then for each queue: its owner, itself, its
--       deliveries, weights of its connections, and what is remembered of messages that were sent on
--       account of letters of it that are done or rejected
-- ARGV  1 portal, 2 life of deliveries (ms), 3 life of dead letters and of that number (ms), 4 most dead letters, 5 most
--       bytes of them, 6 for how long messages are remembered now (ms), 7 how many replicas have to be
--       online: 0 or 1, then for each queue:
--       partition, token by which the portal owns it, last attempt that begins here, number of
--       messages, number of steps, and for each step: action, place; where it does not begin
--       also connection and weight; where it dies the reason
--
-- Actions: begin, done, reject, die. The same call once more changes nothing, for replies may be lost: it is
-- known by its last attempt, which stands among the deliveries as that of no place. Whether a letter
-- that begins is there is not looked at, which would cost a copy of it: only the owner takes letters
-- out.
-- Returns a list: the replicas online, 0 where none has to be; then for each step -1 when somebody else owns the
-- queue; else how often the letter was delivered by now where it begins, or 0. Or the error NOREPLICAS.

local LAST = ''
local reply, key, at = {wanted_replicas(ARGV[7])}, 3, 8
local queue, deliveries, weights, partition

-- Take a letter out of its queue; returns whether it was there.
local function take_out(place, connection, weight)
  local is_there = redis.call('XDEL', queue, place) > 0
  redis.call('HDEL', deliveries, place)
  if is_there and redis.call('HINCRBY', weights, connection, -weight) <= 0 then
    redis.call('HDEL', weights, connection)
  end
  return is_there
end

-- Take a letter out and count it. What may be refused comes first, and what is no number is forgotten.
local function reject(place, connection, weight)
  local before = tonumber(redis.call('GET', KEYS[2])) or 0
  if take_out(place, connection, weight) then redis.call('SET', KEYS[2], before + 1, 'PX', ARGV[3]) end
end

-- What may be refused comes before the dead letter is written, or behind the letter was taken out: so none is
-- buried twice.
local function bury(place, reason, connection, weight)
  redis.call('XDEL', queue, '0-1') -- no place
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

-- Whether the steps of this queue were carried out before, and only the reply was lost.
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

-- Carry out one step, or pass over it where the queue is lost; returns what came of it.
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
