#!lua
-- Put what happened to connections of a node into queues for portals.
--
-- KEYS  1 leases, 2 the connections of the node, 3 observers, 4 their stream, then for each letter
--       its queue and the weights of the connections there
-- ARGV  1 node, 2 expiry (ms), 3 life of a queue (ms), 4 letters that fit whatever their size,
--       5 what may wait of one connection, 6 how many replicas have to be online: 0 or 1,
--       then for each letter: connection, partition, sequence,
--       kind, id or '', data, weight, most letters of the queue, most bytes of it
--
-- Of each open connection the last sequence is kept: a letter that came before changes nothing.
-- One of kind connection opens; disconnection closes; others need an open connection, for one that
-- was closed by reap.lua has had its last letter. Opening and closing find room for twice as many.
-- Of one connection no more may wait than its part: then the queue is full for it alone. Letters that
-- other scripts write are not weighed; what is wrong on that account is put right when a queue is empty.
-- Has no allow-oom: a full Redis refuses it before anything is done, and clients have to wait.
-- Returns 0 when the node has no lease: nobody would close its connections. Else a list: the replicas online,
-- 0 where none has to be; then for each letter 1 when it was taken, 2 when the queue is full, 3 when the
-- connection is not open, 4 when it is not to be closed any more. Or the error NOREPLICAS.

local ARGS, now = 9, now_ms()
if not lease_reader(KEYS[1], now)(ARGV[1]) then return 0 end
local replicas = wanted_replicas(ARGV[6])
local observed = observed_by(KEYS[3], KEYS[4])

-- How much memory a queue takes, by a sample; asked once for all letters of this call.
local sizes = {}
local function size_of(queue)
  if not sizes[queue] then sizes[queue] = redis.call('MEMORY', 'USAGE', queue) end
  return sizes[queue]
end

local function is_full(queue, is_edge, letters, bytes)
  local length = redis.call('XLEN', queue)
  if is_edge then return length >= 2 * letters end
  return length >= letters or (length >= tonumber(ARGV[4]) and size_of(queue) >= bytes)
end

-- Weigh a letter, unless those of its connection weigh as much as they may already.
local function is_weighed(queue, weights, letter)
  local before = redis.call('HINCRBY', weights, letter.c, letter.w) - letter.w
  if letter.is_edge or before < tonumber(ARGV[5]) then return true end
  redis.call('HINCRBY', weights, letter.c, -letter.w)
  if redis.call('XLEN', queue) == 0 then redis.call('DEL', weights) end
  return false
end

local function take(queue, weights, letter, letters, bytes)
  local known = redis.call('HGET', KEYS[2], letter.c)
  local last = known and tonumber(string.match(known, '^(%d+) ')) or 0
  letter.is_edge = letter.k == 'connection' or letter.k == 'disconnection'
  if not known and letter.k == 'disconnection' then return 4 end
  if not known and letter.k ~= 'connection' then return 3 end
  if known and tonumber(letter.s) <= last then return 1 end
  if is_full(queue, letter.is_edge, letters, bytes) then return 2 end
  if not is_weighed(queue, weights, letter) then return 2 end
  if letter.k == 'disconnection' then
    redis.call('HDEL', KEYS[2], letter.c)
  else
    redis.call('HSET', KEYS[2], letter.c, letter.s .. ' ' .. letter.p .. ' ' .. letter.i)
  end
  local is_posted, problem = pcall(post_letter, queue, observed, ARGV[2], letter)
  if not is_posted then
    restore(KEYS[2], letter.c, known)
    error(problem)
  end
  posted[weights] = true
  return 1
end

local reply = {replicas}
for n = 1, (#KEYS - 4) / 2 do
  local at = 7 + ARGS * (n - 1)
  local queue, weights = KEYS[3 + 2 * n], KEYS[4 + 2 * n]
  local letter = {
    c = ARGV[at], p = ARGV[at + 1], s = ARGV[at + 2], k = ARGV[at + 3], i = ARGV[at + 4],
    d = ARGV[at + 5], w = ARGV[at + 6], n = ARGV[1], t = now,
  }
  reply[n + 1] = take(queue, weights, letter, tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]))
end
for i = 1, 2 do outlive(KEYS[i], ARGV[3]) end
prolong(ARGV[3])
if not next(posted) then touch(KEYS[1]) end
return reply
