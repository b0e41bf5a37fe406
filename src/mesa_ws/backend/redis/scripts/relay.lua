#!lua flags=allow-oom
-- Publish a message with an idempotency key that is not stored to each node that holds one of its recipients.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id, 4.. the user key of each recipient
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), 6 its delivery policy, or '', 7.. the recipients, in the order of KEYS
-- REPLY  the number of nodes, then for each recipient its connections, or -1 for a corrupt key; if the message
--        was stored for one of them before, then for each its text in the record, or ''
--
-- A recipient in the record of this message id does not get it again. Nodes whose lease ran out are
-- skipped, never removed: only reap.lua removes. If Redis refuses to publish, nothing is done, and the error
-- is the reply; it begins with PARTLY if some nodes received it.

local FIRST = 7
local now = now_ms()
local mailing, reply, news, was_stored = {}, {0, 0}, {}, false
local known = remembered(KEYS[3], unpack(ARGV, FIRST))
for n = 1, #ARGV - FIRST + 1 do
  local before, id = known[n], ARGV[FIRST - 1 + n]
  local nodes, online = holders(KEYS[3 + n], mailing, now)
  was_stored = was_stored or before and before ~= '0'
  for i = 1, nodes and #nodes or 0 do address(mailing[nodes[i]], not before and id) end
  reply[n + 1] = nodes and online or -1
  if not before then
    local last = #news
    news[last + 1], news[last + 2] = id, '0'
  end
end
if ARGV[6] ~= '' then set_policy(mailing, ARGV[6]) end
remember_all(KEYS[3], news)
local posted = post_once(mailing, KEYS[2], KEYS[3], news)
if type(posted) == 'table' then return posted end
reply[1] = posted
for n = 1, was_stored and #known or 0 do reply[#reply + 1] = known[n] or '' end
return reply
