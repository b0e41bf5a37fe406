-- Put in front of every script of both wires, before its prelude.
--
-- A lease, and a grace, is a score in a ZSET: the millisecond of Redis's own clock at which it ends.
-- The fraction of the score says how long it is: n/4096 stands for 2^(n/128) ms, at most one percent
-- more than it is. That clock may step back, also because a replica takes over whose clock is
-- behind. What was written before would then last as much longer. So whatever would end later than
-- its own length from now is shortened to that length: by heartbeats, and by scripts that read it and may write.

-- Milliseconds of Redis's own clock: the one clock that all nodes share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The score of what ends so many milliseconds from now.
local function end_of(now, length)
  length = math.floor(length)
  if length < 1 then return now end
  return now + length + math.ceil(128 * math.log(length) / math.log(2)) / 4096
end

-- What a score has to be, where it ends too late; else nil. A score without a length is given one.
local function shortened(score, now, otherwise)
  local code = (score - math.floor(score)) * 4096
  local length = code >= 1 and math.ceil(2 ^ (code / 128)) or otherwise
  if score - now <= length + 1 then return nil end
  return code >= 1 and now + length + code / 4096 or end_of(now, length)
end

-- Shorten what ends too late, of which the latest come first: some at each call, as long as there are any.
local function shorten(key, now, otherwise)
  local AT_ONCE, MOST = 16, 1024
  otherwise = tonumber(otherwise)
  for _ = 1, MOST / AT_ONCE do
    local latest = redis.call('ZREVRANGEBYSCORE', key, '(+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, AT_ONCE)
    local count = 0
    for i = 1, #latest, 2 do
      local score = shortened(tonumber(latest[i + 1]), now, otherwise)
      if score then
        redis.call('ZADD', key, 'XX', score, latest[i])
        count = count + 1
      end
    end
    if count < AT_ONCE then return end
  end
end

-- A function that says whether a node has a lease; it asks Redis once for each node.
local function lease_reader(leases, now, may_not_write)
  local known = {}
  return function(node)
    if known[node] == nil then
      local score = tonumber(redis.call('ZSCORE', leases, node) or '0')
      known[node] = score > now
      local right = known[node] and not may_not_write and shortened(score, now, math.huge)
      if right then redis.call('ZADD', leases, 'XX', right, node) end
    end
    return known[node]
  end
end
