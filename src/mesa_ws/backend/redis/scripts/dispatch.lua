#!lua
-- Store a message in the outbox of each recipient, and publish it to the nodes that hold one of them.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id,
--        then for each recipient: its position, its outbox, its user key
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 most messages and 7 most bytes of one outbox, 8 life of
--        the message (ms), 9 how many replicas have to be online, 0 or 1, 10.. the recipients, in the
--        order of KEYS
-- REPLY  nodes, replicas online, why it could not be published or '', what else happened, then for each recipient:
--        sequence, epoch, its connections or -1 for a corrupt user key. What else happened is a list: the number of
--        a recipient, unacknowledged messages dropped to make room, 1 if corrupt data was set aside, else 0; where
--        one of them is not 0. Or the error NOREPLICAS, or READONLY in a master that was left; or another one, which
--        begins with PARTLY if the message is stored for some recipients.
--
-- A recipient in the record of this message id has the message already: the reply has its position of
-- that time, and nothing is stored or published again; sequence 0 and epoch '' if it was not stored. Nodes
-- whose lease ran out are skipped.
-- Without allow-oom a full Redis refuses the script before it changes anything.
-- Steps that may be refused come before the first message is stored: reading which nodes hold the
-- recipients, and counting for these nodes. A later refusal stops nothing else: the message is published and
-- recorded for the recipients that have it. If Redis refuses to publish, the node finds the gap, and reads.

local FIRST = 10
local host = read_host()
local refused = refusal(host, KEYS[4], ARGV[9])
if refused then return refused end
local entry = new_entry(ARGV[3], ARGV[4], ARGV[6], ARGV[7], ARGV[8], host.now)
local mailing, rest, news, failure = {}, {}, {}, nil
local reply = {0, host.replicas, '', rest}
local known, nodes_of, online_of = remembered(KEYS[3], unpack(ARGV, FIRST)), {}, {}

for n = 1, #ARGV - FIRST + 1 do
  local nodes, online = holders(KEYS[3 * n + 3], mailing, host.now)
  nodes_of[n], online_of[n] = nodes or false, nodes and online or -1
  for i = 1, nodes and not known[n] and #nodes or 0 do
    local head = mailing[nodes[i]]
    head[1] = head[1] or next_counter(KEYS[2], nodes[i])
  end
end

-- The outbox of a recipient, once it has the message.
local stored

-- Store the message for a recipient; returns how many unacknowledged ones were dropped to make room.
local function store(n)
  local id, position, outbox = ARGV[FIRST - 1 + n], KEYS[3 * n + 1], KEYS[3 * n + 2]
  local box = append_by_hints(position, outbox, id, host, entry)
    or append_without_hints(position, outbox, id, host, entry, KEYS[3 * n + 3])
  local last = #news
  news[last + 1], news[last + 2], stored = id, box.e .. ':' .. box.digits, box
  local displaced = make_room(box, entry)
  if box.s - box.len > box.a then write_dropped(box) end
  return displaced
end

for n = 1, #nodes_of do
  local before, nodes, epoch, sequence, displaced = known[n], nodes_of[n], nil, nil, 0
  stored = nil
  if before then
    epoch, sequence = string.match(before, '^(%x+):(%d+)$')
    sequence = tonumber(sequence)
  elseif not failure then -- which does not end the script, but nothing more is stored
    local is_done, result = pcall(store, n)
    if is_done then displaced = result else failure = problem_of(result) end
  end
  local box = stored
  if box then epoch, sequence = box.e, box.s end
  for i = 1, nodes and #nodes or 0 do
    local head = mailing[nodes[i]]
    if box then address(head, box.id, epoch, sequence) else address(head) end
  end
  local last = 3 * n + 1
  reply[last + 1], reply[last + 2], reply[last + 3] = sequence or 0, epoch or '', online_of[n]
  local is_aside = box and box.is_aside or 0
  if displaced > 0 or is_aside > 0 then
    local more = #rest
    rest[more + 1], rest[more + 2], rest[more + 3] = n, displaced, is_aside
  end
end
if #news == 0 then touch(KEYS[3]) end
local is_remembered, problem = pcall(remember_all, KEYS[3], news)
if not is_remembered then failure = failure or problem_of(problem) end
reply[1], problem = post(mailing)
reply[3] = problem or ''
if failure then return redis.error_reply((#news > 0 and 'PARTLY ' or '') .. failure) end
return reply
