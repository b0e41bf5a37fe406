#!lua
-- Store a message to everybody (*) in the shared outbox, and publish it to every living node.
--
-- KEYS  1 leases, 2 counters, 3 the record of the message id,
--       4 position and 5 outbox of messages to everybody
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 most messages of the outbox, 7 most bytes of it, 8 life of the message (ms),
--       9 for how long the message id is remembered (ms), or 0,
--       10 how many replicas have to be online: 0 or 1, 11.. ids that are left out
--
-- The stored body is: four bytes, big endian, with the length of the list of ids that are left out; that
-- list as MessagePack; the body. Clients do not acknowledge these messages, so expired ones do not count
-- as dropped.
-- A message whose id is remembered is not stored or published again. Without allow-oom a full Redis
-- refuses the script before it changes anything. If Redis refuses to publish, the nodes find the gap, and read.
-- Returns {nodes, replicas online, sequence, epoch, 1 if corrupt data was set aside, else 0, why it could not
-- be published or ''}; a message that came before without being stored has sequence 0 and epoch ''. Or the
-- error NOREPLICAS or READONLY; or another one, which begins with PARTLY if the message is stored.

local host = read_host()
if try('GET', string.match(KEYS[4], '^mesa:%b{}:') .. 'L') == host.id then -- leave.lua says why
  return redis.error_reply('READONLY another master counts')
end
if host.replicas < tonumber(ARGV[10]) then
  return redis.error_reply('NOREPLICAS no replica is online')
end
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. host.now, '+inf')
local before = remembered(KEYS[3], ARGV[9], {'*'})[1]
if before then
  touch(KEYS[3])
  local epoch, sequence = string.match(before, '^(%x+):(%d+)$')
  return {#nodes, host.replicas, tonumber(sequence or '0'), epoch or '', 0, ''}
end
local message, excluding = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}, arguments_from(11)
local left_out, ttl = cmsgpack.pack(excluding), tonumber(ARGV[8])
local stored = {id = message.id, body = struct.pack('>I4', #left_out) .. left_out .. message.body}
local counters = {}
for _, node in ipairs(nodes) do counters[node] = next_counter(KEYS[2], ARGV[2], node) end
local box = open_box(KEYS[4], KEYS[5], '*', host)
append(box, stored, ttl, host.now)

local is_done, failure = pcall(function()
  make_room(box, ttl, tonumber(ARGV[6]), tonumber(ARGV[7]))
  remember_all(KEYS[3], ARGV[9], {'*', box.e .. ':' .. box.s})
end)
local problem
for _, node in ipairs(nodes) do
  local positions = {box.e, box.s}
  problem = publish(ARGV[1], node, counters[node], message, '*', excluding, positions) or problem
end
if not is_done then return redis.error_reply('PARTLY ' .. problem_of(failure)) end
return {#nodes, host.replicas, box.s, box.e, box.is_aside, problem or ''}
