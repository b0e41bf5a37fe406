#!lua
-- Store a message in the outbox of each recipient, and publish it to the nodes that hold one of them.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id,
--        then for each recipient: its position, its outbox, its user key
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 most messages and 7 most bytes of one outbox, 8 life of
--        the message (ms), 9 how many replicas have to be online, 0 or 1, 10.. the recipients, in the
--        order of KEYS
-- REPLY  nodes, replicas online, why it could not be published or '', then for each recipient: sequence, epoch,
--        its connections or -1 for a corrupt user key, unacknowledged messages dropped to make room, 1 if corrupt
--        data was set aside, else 0. Or the error NOREPLICAS, or READONLY in a master that was left; or another
--        one, which begins with PARTLY if the message is stored for some recipients.
--
-- A recipient in the record of this message id has the message already: the reply has its position of
-- that time, and nothing is stored or published again; sequence 0 and epoch '' if it was not stored. Nodes
-- whose lease ran out are skipped.
-- Without allow-oom a full Redis refuses the script before it changes anything.
-- Steps that may be refused come before the first message is stored: reading which nodes hold the
-- recipients, and counting for these nodes. A later refusal stops nothing else: the message is published and
-- recorded for the recipients that have it. If Redis refuses to publish, the node finds the gap, and reads.

local host, message = read_host(), read_message()
local limits, ids = read_limits(), {unpack(ARGV, 10)}
local refused = refusal(host, KEYS[4], limits)
if refused then return refused end
local is_live = lease_reader(KEYS[1], host.now)
local mailing, news, reply, failure = new_mailing(), {}, {0, host.replicas, ''}, nil
local known = remembered(KEYS[3], message, ids)

local each, counters = {}, {}
for n, id in ipairs(ids) do
  local one = {at = 3 * n + 1, id = id, before = known[n]}
  one.nodes, one.online = holders(KEYS[one.at + 2], is_live)
  for _, node in ipairs(not one.before and one.nodes or {}) do
    counters[node] = counters[node] or next_counter(KEYS[2], node)
  end
  each[n] = one
end

local function store(one)
  local box = open_box(KEYS[one.at], KEYS[one.at + 1], one.id, host, false, KEYS[one.at + 2])
  append(box, message, limits.ttl, host.now)
  one.box, one.epoch, one.sequence, one.is_aside = box, box.e, box.s, box.is_aside
  news[#news + 1] = one.id
  news[#news + 1] = box.e .. ':' .. box.s
end

local function tidy(box)
  local displaced = make_room(box, limits)
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
local is_remembered, problem = pcall(remember_all, KEYS[3], message, news)
if not is_remembered then failure = failure or problem_of(problem) end
reply[3] = post(mailing, counters, message) or ''
if failure then return redis.error_reply((#news > 0 and 'PARTLY ' or '') .. failure) end
reply[1] = #mailing.order
return reply
