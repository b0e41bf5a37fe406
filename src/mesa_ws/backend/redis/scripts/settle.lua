#!lua flags=allow-oom
-- Count deliveries of letters, take them out of their queues, or put them among the dead.
--
-- KEYS  1 dead letters, then for each queue: its owner, itself, its deliveries, weights of its
--       connections, and what is remembered of messages that were sent on account of letters of it
--       that are done
-- ARGV  1 portal, 2 life of deliveries (ms), 3 life of dead letters (ms), 4 most dead letters, 5 most
--       bytes of them, 6 for how long messages are remembered now (ms), then for each queue:
--       partition, token by which the portal owns it, number of messages, number of steps, and for
--       each step: action, place, connection, weight, and the attempt or the reason
--
-- Actions: begin, done, die. Once more, they change nothing: replies may be lost. Whether a letter
-- that begins is there is not looked at, which would cost a copy of it: only the owner takes letters
-- out.
-- Returns for each step -1 when somebody else owns the queue; else how often the letter was delivered
-- by now where it begins, or 0.

local QUEUE_KEYS, QUEUE_ARGS, STEP_ARGS = 4, 4, 5

local function bury(queue, step)
  local entry = redis.call('XRANGE', queue.name, step.place, step.place)[1]
  if not entry then return end
  local deliveries = string.match(redis.call('HGET', queue.deliveries, step.place) or '0', '^%d+')
  local fields = entry[2]
  for _, value in ipairs({'p', queue.partition, 'r', step.detail, 'y', deliveries}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], '*', unpack(fields))
  keep_within(KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end

local function begin(queue, step)
  local known = redis.call('HGET', queue.deliveries, step.place) or ''
  local count, last = string.match(known, '^(%d+) ?(.*)$')
  local this = step.detail .. ' ' .. queue.owner
  if last == this then return tonumber(count) end
  count = (tonumber(count) or 0) + 1
  redis.call('HSET', queue.deliveries, step.place, count .. ' ' .. this)
  return count
end

local function take_out(queue, step)
  redis.call('HDEL', queue.deliveries, step.place)
  if redis.call('XDEL', queue.name, step.place) == 0 then return end
  if redis.call('HINCRBY', queue.weights, step.connection, -step.weight) <= 0 then
    redis.call('HDEL', queue.weights, step.connection)
  end
end

local function carry_out(queue, step)
  if step.action == 'begin' then return begin(queue, step) end
  if step.action == 'die' then bury(queue, step) end
  take_out(queue, step)
  return 0
end

local reply, key, at = {}, 2, 7
while at <= #ARGV do
  local messages, steps = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local queue = {
    name = KEYS[key + 1], deliveries = KEYS[key + 2], weights = KEYS[key + 3],
    partition = ARGV[at], owner = ARGV[1] .. '|' .. ARGV[at + 1],
  }
  local is_owned = redis.call('GET', KEYS[key]) == queue.owner
  key, at = key + QUEUE_KEYS, at + QUEUE_ARGS
  for _ = 1, steps do
    local step = {
      action = ARGV[at], place = ARGV[at + 1], connection = ARGV[at + 2], weight = ARGV[at + 3],
      detail = ARGV[at + 4],
    }
    reply[#reply + 1] = is_owned and carry_out(queue, step) or -1
    at = at + STEP_ARGS
  end
  if is_owned then
    redis.call('PEXPIRE', queue.deliveries, ARGV[2])
    for i = key, key + messages - 1 do redis.call('PEXPIRE', KEYS[i], ARGV[6], 'LT') end
  end
  key = key + messages
end
return reply
