-- Put in front of the body of every script, after its first line.
--
-- Frame on a node's channel: four bytes, big endian, with the length of the head; the head; the
-- body. The head is MessagePack: {counter, kind, message id, ids, excluding, positions}; ids is '*'
-- for everybody. Positions are {epoch, sequence, epoch, sequence ...} in the order of ids, one
-- for everybody, and none for what is not stored. The body is the message as it goes to sockets;
-- no script ever looks into it.
--
-- Seat: the field of a node in a user key, '<sockets> <version> <floor> <epoch> <first>'. A node gives each
-- change of an id a higher version, so that a command that comes late changes nothing. The floor is the
-- lowest sequence that all connections of the id there have acknowledged, in that epoch. First is 1
-- while the id came online by this node and the node has not announced it.

-- Extend the life of a key to at least so long (ms).
local function outlive(key, life)
  if redis.call('PTTL', key) < tonumber(life) then redis.call('PEXPIRE', key, life) end
end

-- Write without changing anything. WAIT and WAITAOF cover the writes of their own connection, and from Redis 7.2
-- on they succeed at once where it wrote nothing: so a repeat has to write, or it would be confirmed unproven.
local function touch(key)
  local life = redis.call('PTTL', key)
  if life > 0 then redis.call('PEXPIRE', key, life) end
end

-- The number of replicas online, of which so many are wanted: 0 or 1. It is an error if they are missing.
local function wanted_replicas(wanted)
  if wanted == '0' then return 0 end
  local count = count_replicas(redis.call('INFO', 'replication'))
  if count == 0 then error(redis.error_reply('NOREPLICAS no replica is online')) end
  return count
end

-- Set a key that Mesa cannot read aside for a week, so that operators can look at it.
local function put_aside(key)
  if redis.call('PEXPIRE', key, 604800000) == 0 then return end -- which it keeps when it is renamed
  redis.call('RENAME', key, (string.gsub(key, '^(mesa:%b{}:)', '%1z:')))
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

-- Release an id from a node. If no node holds it any more, its grace begins; a running grace goes on.
local function release_id(user, node, id, graces, due)
  local is_last = try('HDEL', user, node) == 1
  if redis.call('EXISTS', user) == 1 then return end
  if is_last then
    redis.call('ZADD', graces, due, id)
  else
    redis.call('ZADD', graces, 'XX', 'LT', due, id)
  end
end

-- The living nodes that hold an id, and the number of its connections over all of them; nil for the list
-- when the key is corrupt, which affects that id only.
local function holders(user, is_live)
  local fields = try('HGETALL', user)
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

-- The message of a script that sends one: its first five arguments.
local function read_message()
  return {channels = ARGV[1], kind = ARGV[2], id = ARGV[3], body = ARGV[4], remember = ARGV[5]}
end

-- The record of this message id for each recipient: 'epoch:sequence', or '0' when it was not stored; false
-- when the message did not come before. A key of another type is not Mesa's.
local function remembered(done, message, ids)
  if message.remember == '0' then return {} end
  local known = try('HMGET', done, unpack(ids))
  if not known.err then return known end
  redis.call('DEL', done)
  return {}
end

-- Write the record of a message id: a flat list of recipient, text.
local function remember_all(done, message, news)
  if message.remember == '0' or #news == 0 then return end
  redis.call('HSET', done, unpack(news))
  redis.call('PEXPIRE', done, message.remember)
end

-- The number of the next frame for a node. It is taken before anything is stored: a script that may not
-- write, or finds counters of another type, fails here, and a frame that never comes leaves a gap.
local function next_counter(counters, node)
  local counter = redis.call('HINCRBY', counters, node, 1)
  if counter == 1 then redis.call('PEXPIRE', counters, EXPIRY) end
  return counter
end

-- Which nodes get a message, and what: the ids and positions of a frame, so that a node with several
-- recipients gets one frame.
local function new_mailing()
  return {order = {}, ids = {}, positions = {}}
end

-- The mailing of a message to everybody.
local function mailing_to_all(nodes)
  local ids = {}
  for _, node in ipairs(nodes) do ids[node] = '*' end
  return {order = nodes, ids = ids}
end

-- Add a node that holds a recipient; without an id the node counts, and gets no frame.
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

-- Publish the frame of one node. Returns the error where Redis refuses that, else nil.
local function publish(node, counter, message, ids, positions)
  local head = {counter, message.kind, message.id, ids, message.excluding or {}, positions, message.delivery}
  head = cmsgpack.pack(head)
  local frame = struct.pack('>I4', #head) .. head .. message.body
  local reply = redis.pcall('PUBLISH', message.channels .. node, frame)
  return type(reply) == 'table' and reply.err or nil
end

-- Publish a stored message, with counters that were taken before; positions are those of all frames, if they are
-- the same. If Redis refuses that, the node finds the gap, and reads. Returns the last such error, or nil.
local function post(mailing, counters, message, positions)
  local problem
  for _, node in ipairs(mailing.order) do
    local ids = mailing.ids[node]
    if #ids > 0 then
      problem = publish(node, counters[node], message, ids, positions or mailing.positions[node]) or problem
    end
  end
  return problem
end

-- Publish a message that is not stored, and count only frames that were published. Returns nil, or the error
-- reply where Redis refused: if no node received the message, its new records are undone, since it may come
-- again under its id.
local function post_once(mailing, counters, message, done, news)
  local problem, heard = nil, 0
  for _, node in ipairs(mailing.order) do
    local ids = mailing.ids[node]
    if #ids > 0 then
      local refused = publish(node, next_counter(counters, node), message, ids, {})
      if refused then redis.call('HINCRBY', counters, node, -1) end
      problem, heard = refused or problem, refused and heard or heard + 1
    end
  end
  if not problem then return nil end
  if heard > 0 then return redis.error_reply('PARTLY ' .. problem) end
  if message.remember ~= '0' then
    for i = 1, #news, 2 do redis.call('HDEL', done, news[i]) end
  end
  return redis.error_reply(problem)
end
