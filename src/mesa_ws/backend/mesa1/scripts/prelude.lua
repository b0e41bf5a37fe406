-- Put in front of the body of every script, behind its first line.
--
-- What 1.x keeps is only touched as 1.x does: `connected_clients` is a set of ids,
-- `connected_clients_count` a number, `undelivered_messages` a hash of id to a JSON list. Everything
-- else is ours alone: the user key of an id, a hash of node to connections; the held key of a node, a
-- set of ids; leases, graces (both by Redis's own clock) and counts of nodes.

-- Milliseconds of Redis's own clock: the one clock that all nodes share.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A function that says whether a node has a lease; it asks Redis once for each node.
local function lease_reader(leases, now)
  local known = {}
  return function(node)
    if known[node] == nil then
      known[node] = tonumber(redis.call('ZSCORE', leases, node) or '0') > now
    end
    return known[node]
  end
end

-- Connections of an id: those at living nodes of ours, or 1 if only 1.x says that it is there.
local function connections(user, connected, id, is_live)
  local seats, sum = redis.pcall('HGETALL', user), 0
  if seats.err or #seats == 0 then
    local is_there = redis.pcall('SISMEMBER', connected, id)
    return is_there == 1 and 1 or 0
  end
  for i = 1, #seats, 2 do
    if is_live(seats[i]) then sum = sum + (tonumber(seats[i + 1]) or 0) end
  end
  return sum
end

-- A node holds an id no more. If that was the last of ours, the id leaves the set that 1.x reads.
local function leave_seat(user, node, id, graces, due, connected)
  if redis.pcall('HDEL', user, node) ~= 1 or redis.call('EXISTS', user) == 1 then return end
  redis.pcall('SREM', connected, id)
  redis.call('ZADD', graces, due, id)
end

-- Let a node's part in the number that 1.x reads be so many connections. Our nodes' own are the least
-- that it can be: servers of 1.x take away too much when they stop, or after somebody deleted it.
local function recount(counts, total, node, now_has)
  local delta = now_has - (tonumber(redis.call('HGET', counts, node) or '0') or 0)
  if now_has == 0 then redis.call('HDEL', counts, node) else redis.call('HSET', counts, node, now_has) end
  local now_is, ours = delta ~= 0 and redis.pcall('INCRBY', total, delta) or redis.pcall('GET', total), 0
  for _, each in ipairs(redis.call('HVALS', counts)) do ours = ours + (tonumber(each) or 0) end
  now_is = type(now_is) ~= 'table' and tonumber(now_is or '0')
  if now_is and now_is < ours then redis.call('SET', total, ours) end
end
