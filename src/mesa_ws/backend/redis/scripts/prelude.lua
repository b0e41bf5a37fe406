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

local NOTHING = {}

-- Extend the life of a key to at least so long (ms).
local function outlive(key, life)
  if redis.call('PTTL', key) < tonumber(life) then redis.call('PEXPIRE', key, life) end
end

-- Write without changing anything. WAIT and WAITAOF cover the writes of their own connection, and from Redis 7.2
-- on they succeed at once where it wrote nothing: so a repeat has to write, or it would be confirmed unproven.
local function touch(key) -- rare
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
local function put_aside(key) -- rare
  if redis.call('PEXPIRE', key, 604800000) == 0 then return end -- which it keeps when it is renamed
  redis.call('RENAME', key, (string.gsub(key, '^(mesa:%b{}:)', '%1z:')))
end

-- A sequence as a number, or nil for what cannot be one.
local function natural(text)
  return text and #text <= 15 and not string.find(text, '%D') and tonumber(text) or nil
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

-- The scripts that send a message have it in their first arguments: 1 prefix of the channels of nodes, 2 kind, 3 id,
-- 4 body, 5 for how long its id is remembered (ms), or 0.

-- The record of this message id for each recipient: 'epoch:sequence', or '0' when it was not stored; false
-- when the message did not come before. A key of another type is not Mesa's.
local function remembered(done, ...)
  if ARGV[5] == '0' or redis.call('EXISTS', done) == 0 then return NOTHING end
  local known = redis.pcall('HMGET', done, ...)
  if not known.err then return known end
  check_data(known)
  redis.call('DEL', done)
  return NOTHING
end

-- Write the record of a message id: a flat list of recipient, text. Redis searches a small hash from its beginning,
-- so that many recipients would take a time that grows with their square: a long value makes it a table.
local function remember_all(done, news)
  local MANY, LONG = 32, 65
  local count = #news
  if ARGV[5] == '0' or count == 0 then return end
  if count > MANY then news[count + 1], news[count + 2] = '\0', string.rep(' ', LONG) end
  redis.call('HSET', done, unpack(news))
  redis.call('PEXPIRE', done, ARGV[5])
end

-- The number of the next frame for a node. It is taken before anything is stored: a script that may not
-- write, or finds counters of another type, fails here, and a frame that never comes leaves a gap.
local function next_counter(counters, node)
  local counter = redis.call('HINCRBY', counters, node, '1')
  if counter == 1 then redis.call('PEXPIRE', counters, EXPIRY) end
  return counter
end

-- The head of a frame without its counter, ids and positions; it has room for one id.
local function new_head()
  return {false, ARGV[2], ARGV[3], {nil}, NOTHING, NOTHING}
end

-- The living nodes that hold an id, and the number of its connections over all of them; nil for the list
-- when the key is corrupt, which affects that id only. A mailing gets the head of the frame of each node, or false
-- for one without a lease: so a node with several recipients gets one frame, and Redis is asked once for it.
local function holders(user, mailing, now, may_not_write)
  local found = redis.pcall('HGETALL', user) -- node, seat, node, seat ... becomes the list of living nodes
  if found.err then
    check_data(found)
    return nil, 0
  end
  local size, count, total = #found, 0, 0
  for i = 1, size, 2 do
    local node = found[i]
    local head = mailing[node]
    if head == nil then
      head = has_lease(KEYS[1], node, now, may_not_write) and new_head()
      mailing[node] = head
    end
    if head then
      local sockets = tonumber(string.match(found[i + 1], '^(%d+) %d+ %d+ %S+ [01]$'))
      if not sockets then return nil, 0 end
      count, total = count + 1, total + sockets
      found[count] = node
    end
  end
  for i = size, count + 1, -1 do found[i] = nil end
  return found, total
end

-- Note that a node holds a recipient: without an id it counts, and gets no frame.
local function address(head, id, epoch, sequence)
  local ids, positions = head[4], head[6]
  head[1] = head[1] or 0
  if id then ids[#ids + 1] = id end
  if epoch and positions == NOTHING then
    head[6] = {epoch, sequence}
  elseif epoch then
    local last = #positions
    positions[last + 1], positions[last + 2] = epoch, sequence
  end
end

-- The mailing of a message to everybody; ids that do not get it are MessagePack, of which one byte is the empty list.
local function mailing_to_all(nodes, excluding)
  local mailing = {}
  excluding = #excluding > 1 and cmsgpack.unpack(excluding) or NOTHING
  for _, node in ipairs(nodes) do
    local head = new_head()
    head[1], head[4], head[5] = 0, '*', excluding
    mailing[node] = head
  end
  return mailing
end

-- Add the delivery policy to all frames of a mailing.
local function set_policy(mailing, delivery) -- rare
  for _, head in pairs(mailing) do
    if head then head[7] = delivery end
  end
end

-- Publish the frame of one node. Returns the error where Redis refuses that, else nil.
local function publish(node, head, body)
  head = cmsgpack.pack(head)
  local frame = struct.pack('>I4', #head) .. head .. body
  local reply = redis.pcall('PUBLISH', ARGV[1] .. node, frame)
  return type(reply) == 'table' and reply.err or nil
end

-- Publish a stored message, with counters that were taken before. If Redis refuses that, the node finds the gap,
-- and reads. Returns how many nodes hold a recipient, and the last such error, or nil.
local function post(mailing)
  local nodes, problem = 0, nil
  for node, head in pairs(mailing) do
    if head and head[1] then nodes = nodes + 1 end
    if head and #head[4] > 0 then problem = publish(node, head, ARGV[4]) or problem end
  end
  return nodes, problem
end

-- Publish a message that is not stored, and count only frames that were published. Returns how many nodes hold a
-- recipient; or nil and the error where Redis refused, which begins with PARTLY if a node received the message.
local function publish_once(mailing, counters, id, body)
  local nodes, problem, heard = 0, nil, 0
  for node, head in pairs(mailing) do
    if head and head[1] then nodes = nodes + 1 end
    if head and #head[4] > 0 then
      head[1], head[3] = next_counter(counters, node), id
      local refused = publish(node, head, body)
      if refused then redis.call('HINCRBY', counters, node, -1) end
      problem, heard = refused or problem, refused and heard or heard + 1
    end
  end
  if not problem then return nodes end
  return nil, heard > 0 and 'PARTLY ' .. problem or problem
end

-- The same for a message with an idempotency key. Returns how many nodes hold a recipient, or the error reply: if
-- no node received the message, its new records are undone, since it may come again.
local function post_once(mailing, counters, done, news)
  local nodes, problem = publish_once(mailing, counters, ARGV[3], ARGV[4])
  if not problem then return nodes end
  if ARGV[5] ~= '0' and string.find(problem, 'PARTLY ', 1, true) ~= 1 then
    for i = 1, #news, 2 do redis.call('HDEL', done, news[i]) end
  end
  return redis.error_reply(problem)
end
