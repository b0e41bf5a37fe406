-- Put in front of the body of every script, behind its first line.
--
-- Frame on a node's channel: four bytes, big endian, with the length of the head; the head; the
-- body. The head is MessagePack: {counter, kind, message id, ids, excluding, positions}; ids is '*'
-- for everybody. Positions are {epoch, sequence, epoch, sequence ...} in the order of ids, one
-- for everybody, and none for what is not stored. The body is the message as it goes to sockets;
-- no script ever looks into it.
--
-- Field of a node in a user key: '<sockets> <version> <floor> <epoch> <first>'. The floor is the
-- lowest sequence that all connections of the id there have proven, in that epoch. First is 1
-- while the id came online by this node and the node has not told anybody.

-- The arguments from one on; unpack() cannot take any number.
local function arguments_from(first)
  local rest = {}
  for i = first, #ARGV do rest[#rest + 1] = ARGV[i] end
  return rest
end

-- Let a key live so long (ms) at least.
local function outlive(key, life)
  if redis.call('PTTL', key) < tonumber(life) then redis.call('PEXPIRE', key, life) end
end

-- Keep a key that Mesa cannot read where people can look at it, for a week.
local function put_aside(key)
  if redis.call('EXISTS', key) == 0 then return end
  local aside = string.gsub(key, '^(mesa:%b{}:)', '%1z:')
  redis.call('RENAME', key, aside)
  redis.call('PEXPIRE', aside, 604800000)
end

-- A sequence as a number, or nil for what cannot be one.
local function natural(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- The members of a node's field in a user key, or nil when it has none that Mesa wrote.
local function read_seat(field)
  local pattern = '^(%d+) (%d+) (%d+) (%S+) ([01])$'
  local sockets, version, floor, epoch, first = string.match(field or '', pattern)
  if not sockets then return nil end
  return {sockets = sockets, version = tonumber(version), floor = floor, epoch = epoch, first = first}
end

local function write_seat(user, node, seat)
  local members = {seat.sockets, seat.version, seat.floor, seat.epoch, seat.first}
  redis.call('HSET', user, node, table.concat(members, ' '))
end

-- A node holds an id no more. If nobody does, its grace begins; one that began goes on.
local function leave_seat(user, node, id, graces, due)
  local is_last = redis.pcall('HDEL', user, node) == 1
  if redis.call('EXISTS', user) == 1 then return end
  if is_last then
    redis.call('ZADD', graces, due, id)
  else
    redis.call('ZADD', graces, 'XX', 'LT', due, id)
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
      local sockets = tonumber(string.match(fields[i + 1], '^(%d+) %d+ %d+ %S+ [01]$'))
      if not sockets then return nil, 0 end
      nodes[#nodes + 1] = fields[i]
      total = total + sockets
    end
  end
  return nodes, total
end

-- What became of each recipient when this message came before: 'epoch:sequence', or '0' when it
-- was not stored; false when it did not come. A key of another type cannot be Mesa's.
local function remembered(done, remember, ids)
  if remember == '0' then return {} end
  local known = redis.pcall('HMGET', done, unpack(ids))
  if not known.err then return known end
  redis.call('DEL', done)
  return {}
end

-- Note what became of recipients: a flat list of recipient, text.
local function remember_all(done, remember, news)
  if remember == '0' or #news == 0 then return end
  redis.call('HSET', done, unpack(news))
  redis.call('PEXPIRE', done, remember)
end

-- Publish one frame on a node's channel. The counter goes first: a script that may not write
-- fails here, before anybody has heard of the message.
local function publish(counters, expiry, channels, node, message, ids, excluding, positions)
  local counter = redis.call('HINCRBY', counters, node, 1)
  if counter == 1 then redis.call('PEXPIRE', counters, expiry) end
  local head = cmsgpack.pack({counter, message.kind, message.id, ids, excluding, positions})
  redis.call('PUBLISH', channels .. node, struct.pack('>I4', #head) .. head .. message.body)
end

-- Collects who is told what, so that a node that holds several recipients hears once.
local function new_mailing()
  return {order = {}, ids = {}, positions = {}}
end

-- A node that holds a recipient; one without an id counts, and hears nothing new.
local function address(mailing, node, id, epoch, sequence)
  if not mailing.ids[node] then
    mailing.order[#mailing.order + 1] = node
    mailing.ids[node], mailing.positions[node] = {}, {}
  end
  if id then table.insert(mailing.ids[node], id) end
  if epoch then
    table.insert(mailing.positions[node], epoch)
    table.insert(mailing.positions[node], sequence)
  end
end

local function post(mailing, counters, expiry, channels, message)
  for _, node in ipairs(mailing.order) do
    if #mailing.ids[node] > 0 then
      publish(counters, expiry, channels, node, message, mailing.ids[node], {}, mailing.positions[node])
    end
  end
end
