#!lua
-- Store a message to everybody (*) in the shared outbox, and publish it to every living node.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id,
--        4 position and 5 outbox of messages to everybody
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 most messages and 7 most bytes of the outbox, 8 life of
--        the message (ms), 9 how many replicas have to be online, 0 or 1, 10 ids that do not get
--        it, as MessagePack
-- REPLY  nodes, replicas online, sequence, epoch, 1 if corrupt data was set aside, else 0, why it could not be
--        published or ''. Or the error NOREPLICAS or READONLY; or another one, which begins with PARTLY if the
--        message is stored.
--
-- The stored body is: four bytes, big endian, with the length of the list of ids that do not get it; that
-- list as MessagePack; the body. Clients do not acknowledge these messages, so expired ones do not count
-- as dropped.
-- A message whose id is remembered is not stored or published again; it has sequence 0 and epoch '' if it was
-- not stored. Without allow-oom a full Redis refuses the script before it changes anything. If Redis refuses to
-- publish, the nodes find the gap, and read.

local host, excluding = read_host(), ARGV[10]
local refused = refusal(host, KEYS[4], ARGV[9])
if refused then return refused end
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. host.now, '+inf')
local before = remembered(KEYS[3], '*')[1]
if before then
  touch(KEYS[3])
  local epoch, sequence = string.match(before, '^(%x+):(%d+)$')
  return {#nodes, host.replicas, tonumber(sequence or '0'), epoch or '', 0, ''}
end
local mailing = mailing_to_all(nodes, excluding)
for node, head in pairs(mailing) do head[1] = next_counter(KEYS[2], node) end
local body = struct.pack('>I4', #excluding) .. excluding .. ARGV[4]
local entry = new_entry(ARGV[3], body, ARGV[6], ARGV[7], ARGV[8], host.now)
local box = append_by_hints(KEYS[4], KEYS[5], '*', host, entry)
  or append_without_hints(KEYS[4], KEYS[5], '*', host, entry)

local is_done, failure = pcall(function()
  make_room(box, entry)
  remember_all(KEYS[3], {'*', box.e .. ':' .. box.digits})
end)
for _, head in pairs(mailing) do head[6] = {box.e, box.s} end
local _, problem = post(mailing)
if not is_done then return redis.error_reply('PARTLY ' .. problem_of(failure)) end
return {#nodes, host.replicas, box.s, box.e, box.is_aside, problem or ''}
