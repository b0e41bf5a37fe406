-- Put in front of the body of every script, behind its first line.
--
-- Frame on a node's channel: four bytes, big endian, with the length of the head; the head; the
-- body. The head is MessagePack: {counter, kind, message id, ids, excluding}. The body is the
-- message as it goes to sockets; no script ever looks into it.

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

-- The living nodes that hold an id, and its connections over all of them. No list but an error
-- when the key is not what Mesa writes: that id alone is set aside.
local function holders(user, is_live)
  local fields = redis.pcall('HGETALL', user)
  if fields.err then return nil, 0 end
  local nodes, total = {}, 0
  for i = 1, #fields, 2 do
    if is_live(fields[i]) then
      local sockets = tonumber(string.match(fields[i + 1], '^(%d+) %d+$'))
      if not sockets then return nil, 0 end
      nodes[#nodes + 1] = fields[i]
      total = total + sockets
    end
  end
  return nodes, total
end

-- Publish one frame on a node's channel. The counter goes first: a script that may not write
-- fails here, before anybody has heard of the message.
local function publish(counters, expiry, channels, node, kind, message_id, ids, excluding, body)
  local counter = redis.call('HINCRBY', counters, node, 1)
  if counter == 1 then redis.call('PEXPIRE', counters, expiry) end
  local head = cmsgpack.pack({counter, kind, message_id, ids, excluding})
  redis.call('PUBLISH', channels .. node, struct.pack('>I4', #head) .. head .. body)
end
