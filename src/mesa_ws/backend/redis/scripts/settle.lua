#!lua flags=allow-oom
-- Count deliveries of letters, take them out of their queue, or put them among the dead.
--
-- KEYS  1 owner of the partition, 2 its queue, 3 its deliveries, 4 dead letters, 5 weights of its
--       connections, then what is remembered of messages that were sent on account of letters that are done
-- ARGV  1 what the owner key has to hold, 2 life of deliveries (ms), 3 life of dead letters (ms),
--       4 most dead letters, 5 for how long messages are remembered now (ms), 6 most bytes
--       of dead letters, 7 partition, then for each step: action, place, connection, weight, and the attempt or the reason
--
-- Actions: begin, done, die. Once more, they change nothing: replies may be lost. Whether a letter that begins is
-- there is not looked at, which would cost a copy of it: only the owner takes letters out.
-- Returns -1 when somebody else owns the partition; else for each step how often the letter was
-- delivered by now where it begins, or 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end

local function bury(place, reason)
  local entry = redis.call('XRANGE', KEYS[2], place, place)[1]
  if not entry then return end
  local deliveries = string.match(redis.call('HGET', KEYS[3], place) or '0', '^%d+')
  local fields = entry[2]
  for _, value in ipairs({'p', ARGV[7], 'r', reason, 'y', deliveries}) do
    fields[#fields + 1] = value
  end
  redis.call('XADD', KEYS[4], 'MAXLEN', ARGV[4], '*', unpack(fields))
  keep_within(KEYS[4], ARGV[6])
  redis.call('PEXPIRE', KEYS[4], ARGV[3])
end

local function begin(place, attempt)
  local count, last = string.match(redis.call('HGET', KEYS[3], place) or '', '^(%d+) ?(.*)$')
  local this = attempt .. ' ' .. ARGV[1]
  if last == this then return tonumber(count) end
  count = (tonumber(count) or 0) + 1
  redis.call('HSET', KEYS[3], place, count .. ' ' .. this)
  return count
end

local function take_out(place, connection, weight)
  redis.call('HDEL', KEYS[3], place)
  if redis.call('XDEL', KEYS[2], place) == 0 then return end
  if redis.call('HINCRBY', KEYS[5], connection, -weight) <= 0 then redis.call('HDEL', KEYS[5], connection) end
end

local reply = {}
for at = 8, #ARGV, 5 do
  local action, place = ARGV[at], ARGV[at + 1]
  if action == 'begin' then
    reply[#reply + 1] = begin(place, ARGV[at + 4])
  else
    if action == 'die' then bury(place, ARGV[at + 4]) end
    take_out(place, ARGV[at + 2], ARGV[at + 3])
    reply[#reply + 1] = 0
  end
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
for i = 6, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[5], 'LT') end
return reply
