-- Comes before the body of every script, after its first line.
--
-- Keys of 1.x are only changed as 1.x does: `connected_clients` is a set of ids,
-- `connected_clients_count` a number, `undelivered_messages` a hash of id to a JSON list. All other keys
-- are our own: the user key of an id, a hash of node to connections; the held key of a node, a
-- set of ids; leases, graces (both by Redis's own clock) and counts of nodes.

-- Rename a key of 1.x that has another type than 1.x keeps there, for inspection; returns whether it did.
local function clear_way(key, kind, aside)
  if is_of(key, kind) then return false end
  redis.call('PEXPIRE', key, ASIDE) -- which it keeps when it is renamed
  redis.call('RENAME', key, aside)
  return true
end

-- Append an unreadable value to those that were set aside before.
local function set_aside(aside, raw)
  renew(aside, 'list')
  redis.call('RPUSH', aside, raw)
  redis.call('LTRIM', aside, -100, -1)
  redis.call('PEXPIRE', aside, ASIDE)
end

-- Returns a function that says whether any process that is not one of our nodes hears the messages. Each
-- of our nodes hears its own channel by the same connection.
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

-- Connections of an id: those on our living nodes, or 1 if only the set of 1.x has it. Servers of 1.x that
-- were killed leave ids in that set, so it counts only while a server of 1.x listens.
local function connections(user, connected, id, is_live, has_foreigners)
  local holders, sum = try('HGETALL', user), 0
  if holders.err or #holders == 0 then
    local is_there = try('SISMEMBER', connected, id)
    return is_there == 1 and has_foreigners() and 1 or 0
  end
  for i = 1, #holders, 2 do
    if is_live(holders[i]) then sum = sum + (tonumber(holders[i + 1]) or 0) end
  end
  return sum
end

-- Remove the connections of an id on a node. If it was the last of our nodes, remove the id from the set of 1.x.
local function release_id(user, node, id, graces, due, connected)
  local had = try('HDEL', user, node)
  if type(had) == 'table' then had = redis.call('DEL', user) end
  if had ~= 1 or redis.call('EXISTS', user) == 1 then return end
  try('SREM', connected, id)
  redis.call('ZADD', graces, due, id)
end

-- Set a node's share of the number that 1.x reads. The number is at least the sum of our nodes' shares:
-- servers of 1.x subtract too much when they stop, or after the key was deleted. A key of another type
-- belongs to another application.
local function recount(counts, total, node, now_has)
  local delta = now_has - (tonumber(redis.call('HGET', counts, node) or '0') or 0)
  if now_has == 0 then redis.call('HDEL', counts, node) else redis.call('HSET', counts, node, now_has) end
  if not is_of(total, 'string') then return end
  local now_is, ours = tonumber(redis.call('GET', total) or '0'), 0
  if delta ~= 0 then now_is = tonumber(try('INCRBY', total, delta)) end
  for _, each in ipairs(redis.call('HVALS', counts)) do ours = ours + (tonumber(each) or 0) end
  if not now_is or now_is < ours then redis.call('SET', total, ours) end
end
