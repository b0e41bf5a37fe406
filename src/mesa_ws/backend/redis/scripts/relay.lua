#!lua flags=allow-oom
-- Publish a message that is not stored to the nodes that hold one of its recipients, once to each.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id, 4.. the user key of each recipient
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 its delivery policy, or '', 7.. the recipients, in the order of KEYS
-- REPLY  the number of nodes, then for each recipient its connections, or -1 for a corrupt key; if the message
--        was stored for one of them before, then for each its text in the record, or ''
--
-- A recipient in the record of this message id does not get it again. Nodes whose lease ran out are
-- skipped, never removed: only reap.lua removes. If Redis refuses to publish, nothing is done, and the error
-- is the reply; it begins with PARTLY if some nodes received it.

local message, is_live = read_message(), lease_reader(KEYS[1], now_ms())
local mailing, news, reply, was_stored = new_mailing(), {}, {0}, false
local ids = {unpack(ARGV, 7)}
message.delivery = ARGV[6] ~= '' and ARGV[6] or nil
local known = remembered(KEYS[3], message, ids)
for i, id in ipairs(ids) do
  local before = known[i]
  local nodes, online = holders(KEYS[3 + i], is_live)
  was_stored = was_stored or before and before ~= '0'
  for _, node in ipairs(nodes or {}) do address(mailing, node, not before and id) end
  reply[#reply + 1] = nodes and online or -1
  if not before and message.remember ~= '0' then
    news[#news + 1] = id
    news[#news + 1] = '0'
  end
end
remember_all(KEYS[3], message, news)
local refused = post_once(mailing, KEYS[2], message, KEYS[3], news)
if refused then return refused end
reply[1] = #mailing.order
for i = 1, was_stored and #ids or 0 do reply[#reply + 1] = known[i] or '' end
return reply
