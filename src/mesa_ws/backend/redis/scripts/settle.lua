#!lua flags=allow-oom
-- Count deliveries of events, delete events from their queues, or move them to the dead letters.
--
-- KEYS   1 dead letters, 2 how many were rejected, then for each queue: its owner, itself, its deliveries, weights
--        of its accounts, and the records of messages that the handlers of its done or rejected events sent
-- ARGV   1 portal, 2 how many replicas have to be online, 0 or 1, then for each queue: partition, token by which
--        the portal owns it, last attempt that begins here, number of records, number of steps, and for each
--        step: action, offset; unless it begins also account and weight; for dead letters the reason
-- REPLY  the replicas online, 0 where none is needed; then for each step -1 when another portal owns the queue;
--        else the number of deliveries where the event begins, or 0. Or the error NOREPLICAS.
--
-- Actions: begin, done, reject, die. Replies may be lost, so a repeated call changes nothing: it is
-- recognized by its last attempt, which the deliveries hold under the empty offset. The script does not check
-- that an event that begins exists, which would cost a copy of it: only the owner deletes events.

local MAX_VALUES = 4000 -- of an entry that Mesa did not write; Lua passes about 8000 to a command
local LAST, portal = '', ARGV[1]
local reply, key, at = {wanted_replicas(ARGV[2])}, 3, 3
local queue, deliveries, weights, partition

-- Delete an event from its queue; returns whether it was there.
local function take_out(offset, account, weight)
  local is_there = redis.call('XDEL', queue, offset) > 0
  redis.call('HDEL', deliveries, offset)
  if is_there and redis.call('HINCRBY', weights, account, -weight) <= 0 then
    redis.call('HDEL', weights, account)
  end
  return is_there
end

-- Delete an event and count it. A step that may be refused comes first; a count that is no number is reset.
local function reject(offset, account, weight)
  local before = tonumber(redis.call('GET', KEYS[2])) or 0
  if take_out(offset, account, weight) then redis.call('SET', KEYS[2], before + 1, 'PX', DEAD_LIFE) end
end

-- Steps that may be refused come before the dead letter is written, or after the event was deleted: so none
-- becomes a dead letter twice.
local function bury(offset, account, weight, reason)
  redis.call('XDEL', queue, '0-1') -- no entry
  local entry = redis.call('XRANGE', queue, offset, offset)[1]
  if not entry then return end
  local fields, count = entry[2], redis.call('HGET', deliveries, offset) or '0'
  if #fields > MAX_VALUES then fields = {unpack(fields, 1, MAX_VALUES)} end
  for _, value in ipairs({'p', partition, 'r', reason, 'y', count}) do fields[#fields + 1] = value end
  redis.call('XADD', KEYS[1], 'MAXLEN', MAX_DEAD, '*', unpack(fields))
  take_out(offset, account, weight)
  keep_within(KEYS[1], MAX_KEPT)
  redis.call('PEXPIRE', KEYS[1], DEAD_LIFE)
end

-- Whether the steps of this queue were applied before, and only the reply was lost.
local function is_repeated(attempt)
  if attempt == '0' then return false end
  local this = portal .. ' ' .. attempt
  if redis.call('HGET', deliveries, LAST) == this then return true end
  redis.call('HSET', deliveries, LAST, this)
  return false
end

local function begin(offset, repeated)
  local known = repeated and redis.call('HGET', deliveries, offset)
  return known and tonumber(known) or redis.call('HINCRBY', deliveries, offset, 1)
end

-- Apply the next step of the arguments, or skip it if the queue is lost; returns its result.
local function next_step(is_owned, repeated)
  local action, offset = ARGV[at], ARGV[at + 1]
  at = at + 2
  if action == 'begin' then return is_owned and begin(offset, repeated) or -1 end
  local account, weight, reason = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + (action == 'die' and 3 or 2)
  if not is_owned then return -1 end
  if action == 'reject' then reject(offset, account, weight) end
  if action == 'die' then bury(offset, account, weight, reason) end
  take_out(offset, account, weight)
  return 0
end

while at <= #ARGV do
  local token, attempt, records, steps = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  partition, queue, deliveries, weights = ARGV[at], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3]
  local is_owned = redis.call('GET', KEYS[key]) == portal .. '|' .. token
  local repeated = is_owned and is_repeated(attempt)
  key, at = key + 4, at + 5
  for _ = 1, steps do reply[#reply + 1] = next_step(is_owned, repeated) end
  if is_owned then
    redis.call('PEXPIRE', deliveries, BACKLOG_LIFE)
    for i = key, key + records - 1 do redis.call('PEXPIRE', KEYS[i], REMEMBERED, 'LT') end
  end
  key = key + records
end
return reply
