#!lua
-- Store a message in the outbox of each recipient, and publish it to the nodes that hold one of them.
--
-- KEYS  1 leases, 2 counters, 3 the record of the message id,
--       then for each recipient: its position, its outbox, its user key
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 most messages of one outbox, 7 most bytes of it, 8 life of the message (ms),
--       9 for how long the message id is remembered (ms), or 0,
--       10 how many replicas have to be online: 0 or 1,
--       11.. the id of each recipient, in the order of KEYS
--
-- A recipient in the record of this message id has the message already: the reply has its position of
-- that time, and nothing is stored or published again. Nodes whose lease ran out are skipped.
-- Without allow-oom a full Redis refuses the script before it changes anything.
-- Steps that may be refused come before the first message is stored: reading which nodes hold the
-- recipients, and counting for these nodes. A later refusal stops nothing else: the message is published and
-- recorded for the recipients that have it. If Redis refuses to publish, the node finds the gap, and reads.
-- Returns {nodes, replicas online, why it could not be published or '', then for each recipient: sequence,
-- epoch, its connections or -1 for a corrupt user key, unacknowledged messages dropped to make room, 1 if
-- corrupt data was set aside, else 0}. A recipient that got the message before without it being stored has
-- sequence 0 and epoch ''. Or the error NOREPLICAS, or READONLY in a master that was left; or another one, which
-- begins with PARTLY if the message is stored for some recipients.

local host = read_host()
if try('GET', string.match(KEYS[4], '^mesa:%b{}:') .. 'L') == host.id then -- leave.lua says why
  return redis.error_reply('READONLY another master counts')
end
if host.replicas < tonumber(ARGV[10]) then
  return redis.error_reply('NOREPLICAS no replica is online')
end
local message = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}
local max_messages, max_bytes, ttl = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local is_live = lease_reader(KEYS[1], host.now)
local mailing, news, reply, failure = new_mailing(), {}, {0, host.replicas, ''}, nil
local known = remembered(KEYS[3], ARGV[9], arguments_from(11))

local each, counters = {}, {}
for n = 1, (#KEYS - 3) / 3 do
  local one = {at = 3 * n + 1, id = ARGV[10 + n], before = known[n]}
  one.nodes, one.online = holders(KEYS[one.at + 2], is_live)
  for _, node in ipairs(not one.before and one.nodes or {}) do
    counters[node] = counters[node] or next_counter(KEYS[2], ARGV[2], node)
  end
  each[n] = one
end

local function store(one)
  local box = open_box(KEYS[one.at], KEYS[one.at + 1], one.id, host, false, KEYS[one.at + 2])
  append(box, message, ttl, host.now)
  one.box, one.epoch, one.sequence, one.is_aside = box, box.e, box.s, box.is_aside
  news[#news + 1] = one.id
  news[#news + 1] = box.e .. ':' .. box.s
end

local function tidy(box)
  local displaced = make_room(box, ttl, max_messages, max_bytes)
  note_dropped(box)
  write(box)
  return displaced
end

-- Run a step unless an earlier one failed; a failure does not end the script.
local function attempt(step, ...)
  if failure then return nil end
  local is_done, result = pcall(step, ...)
  if is_done then return result end
  failure = problem_of(result)
end

for _, one in ipairs(each) do
  local displaced
  if one.before then
    one.epoch, one.sequence = string.match(one.before, '^(%x+):(%d+)$')
  else
    attempt(store, one)
    displaced = one.box and attempt(tidy, one.box)
  end
  for _, node in ipairs(one.nodes or {}) do
    if one.box then address(mailing, node, one.id, one.epoch, one.sequence) else address(mailing, node) end
  end
  local online = one.nodes and one.online or -1
  local sequence = tonumber(one.sequence or '0')
  for _, value in ipairs({sequence, one.epoch or '', online, displaced or 0, one.is_aside or 0}) do
    reply[#reply + 1] = value
  end
end
if #news == 0 then touch(KEYS[3]) end
local is_remembered, problem = pcall(remember_all, KEYS[3], ARGV[9], news)
if not is_remembered then failure = failure or problem_of(problem) end
reply[3] = post(mailing, counters, ARGV[1], message) or ''
if failure then return redis.error_reply((#news > 0 and 'PARTLY ' or '') .. failure) end
reply[1] = #mailing.order
return reply
