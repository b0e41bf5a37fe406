-- Put in front of the body of every script, behind its first line.
--
-- What 1.x keeps is only touched as 1.x does: `connected_clients` is a set of ids,
-- `connected_clients_count` a number, `undelivered_messages` a hash of id to a JSON list. Everything
-- else is ours alone: the user key of an id, a hash of node to connections; the held key of a node, a
-- set of ids; leases, graces (both by Redis's own clock) and counts of nodes.

-- Whether a key can be used as one of this type.
local function is_of(key, kind)
  local is = redis.call('TYPE', key).ok
  return is == kind or is == 'none'
end

-- What is ours alone is made anew where it is not what we have written.
local function renew(key, kind)
  if not is_of(key, kind) then redis.call('DEL', key) end
end

-- What 1.x keeps has one type. Another one is in everybody's way, and set aside for people.
local function clear_way(key, kind, aside, life)
  if is_of(key, kind) then return false end
  redis.call('PEXPIRE', key, life) -- which it keeps when it is renamed
  redis.call('RENAME', key, aside)
  return true
end

-- What could not be read of a list joins what was set aside before.
local function set_aside(aside, raw, life)
  renew(aside, 'list')
  redis.call('RPUSH', aside, raw)
  redis.call('LTRIM', aside, -100, -1)
  redis.call('PEXPIRE', aside, life)
end

-- A function that says whether any process that is not a node of ours hears the messages. Every node
-- hears its own channel by the same connection.
local function foreign_reader(channel, leases, channels)
  local answer
  return function()
    if answer == nil then
      local heard = redis.pcall('PUBSUB', 'NUMSUB', channel) -- a user may lack the right to ask
      local others = heard.err and 1 or heard[2]
      for _, node in ipairs(others > 0 and not heard.err and redis.call('ZRANGE', leases, 0, -1) or {}) do
        others = others - redis.call('PUBSUB', 'NUMSUB', channels .. node)[2]
      end
      answer = others > 0
    end
    return answer
  end
end

-- Connections of an id: those at living nodes of ours, or 1 if only 1.x says that it is there. Servers
-- of 1.x that were killed leave that behind, so it counts while there is any.
local function connections(user, connected, id, is_live, has_foreigners)
  local seats, sum = try('HGETALL', user), 0
  if seats.err or #seats == 0 then
    local is_there = try('SISMEMBER', connected, id)
    return is_there == 1 and has_foreigners() and 1 or 0
  end
  for i = 1, #seats, 2 do
    if is_live(seats[i]) then sum = sum + (tonumber(seats[i + 1]) or 0) end
  end
  return sum
end

-- A node holds an id no more. If that was the last of ours, the id leaves the set that 1.x reads.
local function leave_seat(user, node, id, graces, due, connected)
  local had = try('HDEL', user, node)
  if type(had) == 'table' then had = redis.call('DEL', user) end
  if had ~= 1 or redis.call('EXISTS', user) == 1 then return end
  try('SREM', connected, id)
  redis.call('ZADD', graces, due, id)
end

-- Let a node's part in the number that 1.x reads be so many connections. Our nodes' own are the least
-- that it can be: servers of 1.x take away too much when they stop, or after somebody deleted it. A key
-- of another type is somebody else's.
local function recount(counts, total, node, now_has)
  local delta = now_has - (tonumber(redis.call('HGET', counts, node) or '0') or 0)
  if now_has == 0 then redis.call('HDEL', counts, node) else redis.call('HSET', counts, node, now_has) end
  if not is_of(total, 'string') then return end
  local now_is, ours = tonumber(redis.call('GET', total) or '0'), 0
  if delta ~= 0 then now_is = tonumber(try('INCRBY', total, delta)) end
  for _, each in ipairs(redis.call('HVALS', counts)) do ours = ours + (tonumber(each) or 0) end
  if not now_is or now_is < ours then redis.call('SET', total, ours) end
end
