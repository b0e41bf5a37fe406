#!lua flags=allow-oom
-- Publish a message that is not stored to the nodes that hold one of its recipients, once to each.
--
-- KEYS  1 leases, 2 counters, 3 the record of the message id, 4.. the user key of each
--       recipient
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 for how long the message id is remembered (ms), or 0,
--       7.. the id of each recipient, in the order of KEYS
--
-- A recipient in the record of this message id does not get it again. Nodes whose lease ran out are
-- skipped, never removed: only reap.lua removes. If Redis refuses to publish, nothing is done, and the error
-- is the reply; it begins with PARTLY if some nodes received it.
-- Returns the number of nodes, then for each recipient its connections, or -1 for a corrupt key; if the
-- message was stored for one of them before, then for each its text in the record, or ''.

local is_live = lease_reader(KEYS[1], now_ms())
local mailing, news, reply, was_stored = new_mailing(), {}, {0}, false
local known = ARGV[6] == '0' and {} or remembered(KEYS[3], ARGV[6], arguments_from(7))
for i = 4, #KEYS do
  local id, is_news = ARGV[i + 3], not known[i - 3]
  local nodes, online = holders(KEYS[i], is_live)
  was_stored = was_stored or not is_news and known[i - 3] ~= '0'
  for _, node in ipairs(nodes or {}) do address(mailing, node, is_news and id) end
  reply[#reply + 1] = nodes and online or -1
  if is_news and ARGV[6] ~= '0' then
    news[#news + 1] = id
    news[#news + 1] = '0'
  end
end
remember_all(KEYS[3], ARGV[6], news)
local message, problem, heard = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}, nil, 0
for _, node in ipairs(mailing.order) do
  local ids = mailing.ids[node]
  local refused = #ids > 0 and hand(KEYS[2], ARGV[2], ARGV[1], node, message, ids, {})
  if refused then problem = refused elseif #ids > 0 then heard = heard + 1 end
end
if problem then return unheard(problem, heard, KEYS[3], ARGV[6], news) end
reply[1] = #mailing.order
if was_stored then
  for i = 4, #KEYS do reply[#reply + 1] = known[i - 3] or '' end
end
return reply
