-- Put in front of every script of both wires, before its prelude.
--
-- A lease, and a grace, is a score in a ZSET: the millisecond of Redis's own clock at which it ends.
-- The fraction of the score says how long it is: n/4096 stands for 2^(n/128) ms, at most one percent
-- more than it is. That clock may step back, also because a replica takes over whose clock is behind. A
-- score written before would then last longer by as much. So a score that would end later than its own
-- length from now is shortened to that length: by heartbeats, and by scripts that read it and may write.
--
-- If all members of a namespace are silent at the same time, Redis was away, and not they. So each
-- heartbeat of a node or a portal is a sign, and one that comes too late, or to another run of Redis, begins
-- a reprieve: every lease and grace that had not ended by the last sign gets its full length again. For
-- silences in a row, only the silence less a third of a lease is added, so that dead members still end.
--
-- SIGNS, HASH  at  time of the last sign (ms); by  time by which the next one has to come: half a lease later
--              run  the replication id of the Redis that the last sign came to
--              since  the sign before the last silence; till  the score at which its reprieve ends
--              +<node>  1 where the lease of a node had run out, so that messages skipped it

-- Milliseconds of Redis's own clock: the one clock that all nodes share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The score that ends so many milliseconds from now.
local function end_of(now, length) -- rare
  length = math.floor(length)
  if length < 1 then return now end
  return now + length + math.ceil(128 * math.log(length) / math.log(2)) / 4096
end

-- The corrected score, where it ends too late; else nil. A score without a length gets one.
local function shortened(score, now, otherwise) -- rare
  local code = (score - math.floor(score)) * 4096
  local length = code >= 1 and math.ceil(2 ^ (code / 128)) or otherwise
  if score - now <= length + 1 then return nil end
  return code >= 1 and now + length + code / 4096 or end_of(now, length)
end

-- Shorten the scores that end too late, the latest first: some at each call, as long as there are any.
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

-- Whether a node has a lease.
local function has_lease(leases, node, now, may_not_write)
  local score = tonumber(redis.call('ZSCORE', leases, node) or '0')
  if score <= now then return false end
  if score - now > 2 ^ (score % 1 * 32) + 1 and not may_not_write then
    local right = shortened(score, now, math.huge)
    if right then redis.call('ZADD', leases, 'XX', right, node) end
  end
  return true
end

-- A function that says whether a node has a lease; it asks Redis once for each node.
local function lease_reader(leases, now, may_not_write)
  local known = {}
  return function(node)
    if known[node] == nil then known[node] = has_lease(leases, node, now, may_not_write) end
    return known[node]
  end
end

-- The replication id of this Redis, and the reply to INFO replication that contains it; nil twice for a user
-- without that right. The call is written so that rights.py does not find it, since the right is optional.
local function run_of_redis()
  local ask = redis.pcall
  local info = ask('INFO', 'replication')
  if type(info) ~= 'string' then return nil, nil end
  local _, before = string.find(info, 'master_replid:', 1, true)
  return before and string.sub(info, before + 1, before + 16), info
end

-- The signs; empty where the key has another type.
local function read_signs(signs)
  local found = try('HMGET', signs, 'at', 'by', 'run', 'since', 'till')
  if found.err then found = {} end
  local at, by = tonumber(found[1] or nil), tonumber(found[2] or nil)
  local since, till = tonumber(found[4] or nil), tonumber(found[5] or nil)
  return {at = at, by = by, run = found[3] or nil, since = since or 0, till = till or 0}
end

-- Whether the next sign should have come by now, unless the clock has stepped back.
local function is_late(known, now)
  return known.at ~= nil and known.by ~= nil and known.at <= now and known.by < now
end

-- Whether a reprieve is under way, unless the clock has stepped back.
local function is_reprieved(known, now)
  return known.till > now and not shortened(known.till, now, 0)
end

-- Whether expired leases and graces must not end yet, because Redis was away or may have been.
local function must_wait(signs, now)
  local known = read_signs(signs)
  return is_late(known, now) or is_reprieved(known, now)
end

-- Give members of one key that had not ended by the last sign more time, some at most: their full length, or
-- what is added. Returns the latest end.
local function prolong_leases(key, known, now, otherwise, added, passed_over)
  local MOST = 1024
  local running = redis.call('ZRANGEBYSCORE', key, '(' .. known.at, '(+inf', 'WITHSCORES', 'LIMIT', 0, MOST)
  local latest = 0
  for i = 1, #running, 2 do
    local score = tonumber(running[i + 1])
    local code = math.floor((score - math.floor(score)) * 4096 + 0.5)
    local length = code >= 1 and math.ceil(2 ^ (code / 128)) or otherwise
    local due = added and score + added or now + length + code / 4096
    redis.call('ZADD', key, 'XX', due, running[i])
    if passed_over and score <= now and due > now then redis.call('HSET', passed_over, '+' .. running[i], 1) end
    latest = math.max(latest, due)
  end
  return latest
end

-- Record the sign of a member, and begin a reprieve for all if Redis was away. Leases are those of nodes;
-- others are more keys with leases. Returns the signs, and the argument of read_host().
local function note_sign(signs, now, length, expiry, leases, others)
  length = tonumber(length)
  local known, run, info = read_signs(signs), run_of_redis()
  local is_other_run = known.at ~= nil and known.run ~= nil and run ~= nil and known.run ~= run
  if is_other_run or is_late(known, now) then
    local is_full = is_other_run or known.till <= known.at
    local added = not is_full and math.floor(math.max(0, now - known.by) + length / 6) or nil
    local latest = prolong_leases(leases, known, now, length, added, signs)
    for _, key in ipairs(others) do prolong_leases(key, known, now, length, added) end
    if is_full then
      known.since, known.till = known.at, math.max(end_of(now, length), latest)
    else
      known.till = known.till + added
    end
    redis.call('HSET', signs, 'since', known.since, 'till', known.till)
  end
  local by = math.floor(now + length / 2)
  if known.at and known.at <= now and known.by then by = math.max(by, known.by) end
  redis.call('HSET', signs, 'at', now, 'by', by)
  if run then redis.call('HSET', signs, 'run', run) end
  redis.call('PEXPIRE', signs, expiry)
  return known, info
end

-- Extend the graces that end before the reprieve does, some at most; the next heartbeat goes on.
local function postpone(graces, known, now)
  if not is_reprieved(known, now) then return end
  local MOST = 1024
  local since, till = '(' .. known.since, string.format('(%.17g', known.till)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', graces, since, till, 'LIMIT', 0, MOST)) do
    redis.call('ZADD', graces, 'XX', known.till, id)
  end
end

-- Whether an id counts as forgotten: its grace ended so long ago while Redis was reachable.
local function is_untold(signs, due, now)
  local UNTOLD = 60000
  if due >= now - UNTOLD then return false end
  local by = tonumber(try('HGET', signs, 'by') or nil)
  return not by or by >= now
end

-- Forget those ids, some at each call: a cluster that returns after a long time may have left any number.
local function forget_untold(graces, now)
  local MOST, UNTOLD = 5000, 60000
  local count = redis.call('ZCOUNT', graces, '-inf', now - UNTOLD)
  if count > 0 then redis.call('ZREMRANGEBYRANK', graces, 0, math.min(count, MOST) - 1) end
end

-- How many members of a key have ended; 0 during a reprieve, in which none counts as ended.
local function count_ended(key, known, now)
  return is_reprieved(known, now) and 0 or redis.call('ZCOUNT', key, '-inf', now)
end

-- Take some ids whose grace is over, so that one node reports them offline, and return those that is_held() does
-- not find. None is taken while Redis may have been away, since clients could not come back during that time.
-- Each id is given to one node only; when that reply is lost, no node reports it.
local function take_gone(graces, signs, is_held)
  local gone, now = {}, now_ms()
  if must_wait(signs, now) then return gone end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', graces, '-inf', now, 'LIMIT', 0, MAX_IDS)) do
    redis.call('ZREM', graces, id)
    if not is_held(id) then gone[#gone + 1] = id end
  end
  return gone
end

-- The node that a call cleans up after: a node that gives up its own lease, or '' for the one whose lease ran out
-- first; nil when there is none, or when Redis may have been away. A node with a lease is never chosen.
local function node_to_reap(leases, signs, node, now)
  if node ~= '' then
    redis.call('ZADD', leases, 'XX', 0, node)
    return node
  end
  if must_wait(signs, now) then return nil end
  return redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)[1]
end

-- Release some ids of a node.
local function release_some(held, release)
  local ids = try('SRANDMEMBER', held, MAX_IDS)
  if ids.err then
    redis.call('DEL', held)
    ids = {}
  end
  for _, id in ipairs(ids) do
    release(id)
    redis.call('SREM', held, id)
  end
end
