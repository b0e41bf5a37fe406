#!lua
-- Put a message into the outbox of each recipient, and hand it to the nodes that hold one of them.
--
-- KEYS  1 leases, 2 counters, 3 what is remembered of the message id,
--       then for each recipient: its position, its outbox, its user key
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 most messages of one outbox, 7 most bytes of it, 8 life of the message (ms),
--       9 for how long the message id is remembered (ms), or 0,
--       10 how many replicas have to be online: 0 or 1,
--       11.. the id of each recipient, in the order of KEYS
--
-- A recipient for whom this message id is remembered has it already: it gets the position of then,
-- and nothing is stored or told again. Nodes whose lease ran out are passed over.
-- Has no allow-oom: a full Redis refuses it before anything is done.
-- Returns {nodes, replicas online, then for each recipient: sequence, epoch, its connections or
-- -1 for a corrupt user key, unacknowledged messages dropped to make room, 1 if corrupt data was
-- set aside, else 0}. A recipient that got the message before without it being stored has sequence
-- 0 and epoch ''. Or the error NOREPLICAS.

local host = read_host()
if host.replicas < tonumber(ARGV[10]) then
  return redis.error_reply('NOREPLICAS no replica is online')
end
local message = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}
local max_messages, max_bytes, ttl = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local is_live = lease_reader(KEYS[1], host.now)
local mailing, news, reply = new_mailing(), {}, {0, host.replicas}
local known = remembered(KEYS[3], ARGV[9], arguments_from(11))

local function store(m, o, id)
  local box = open_box(m, o, id, host)
  local displaced = push(box, message, ttl, max_messages, max_bytes, host.now)
  note_dropped(box)
  save(box, ttl + DAY)
  news[#news + 1] = id
  news[#news + 1] = box.e .. ':' .. box.s
  return box.e, box.s, displaced, box.is_aside
end

for n = 1, (#KEYS - 3) / 3 do
  local at, id, before = 3 * n + 1, ARGV[10 + n], known[n]
  local epoch, sequence, displaced, is_aside = '', 0, 0, 0
  if before then
    epoch, sequence = string.match(before, '^(%x+):(%d+)$')
    epoch, sequence = epoch or '', tonumber(sequence or '0')
  else
    epoch, sequence, displaced, is_aside = store(KEYS[at], KEYS[at + 1], id)
  end
  local nodes, online = holders(KEYS[at + 2], is_live)
  for _, node in ipairs(nodes or {}) do
    if before then address(mailing, node) else address(mailing, node, id, epoch, sequence) end
  end
  for _, value in ipairs({sequence, epoch, nodes and online or -1, displaced, is_aside}) do
    reply[#reply + 1] = value
  end
end
remember_all(KEYS[3], ARGV[9], news)
post(mailing, KEYS[2], ARGV[2], ARGV[1], message)
reply[1] = #mailing.order
return reply
