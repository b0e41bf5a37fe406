#!lua flags=allow-oom
-- Publish messages that are not stored, each once to every node that holds one of its recipients.
--
-- KEYS   1 leases, 2 counters, then for each message the user key of each recipient
-- ARGV   1 prefix of the channels of nodes, 2 kind and 3 delivery policy, or '', of all messages, then for each
--        message: its id, its body, the number of its recipients, and these, in the order of KEYS
-- REPLY  for each message: the number of nodes, then for each recipient its connections, or -1 for a corrupt key.
--        Or an error, after which the others are published all the same: nothing was done for this message, or
--        some nodes received it, if it begins with PARTLY. The reply for a message alone is in no list.
--
-- The messages have no idempotency key, so a repetition is not recognized; relay.lua is for those that have one.
-- Nodes whose lease ran out are skipped, never removed: only reap.lua removes. Leases are read once for all messages.

local now, mailing, replies = now_ms(), {}, {}
local key, at = 3, 4

-- Publish the message at a place of ARGV, whose first recipient has that user key.
local function relay(place, user)
  local reply, count = {0}, ARGV[place + 2]
  for n = 1, count do
    local nodes, online = holders(KEYS[user + n - 1], mailing, now)
    for i = 1, nodes and #nodes or 0 do address(mailing[nodes[i]], ARGV[place + 2 + n]) end
    reply[n + 1] = nodes and online or -1
  end
  if ARGV[3] ~= '' then set_policy(mailing, ARGV[3]) end
  local nodes, problem = publish_once(mailing, KEYS[2], ARGV[place], ARGV[place + 1])
  if problem then return redis.error_reply(problem) end
  reply[1] = nodes
  return reply
end

while at <= #ARGV do
  local is_done, reply = pcall(relay, at, key)
  replies[#replies + 1] = is_done and reply or redis.error_reply(problem_of(reply))
  for _, head in pairs(mailing) do
    if head then head[1], head[4] = false, {} end
  end
  key, at = key + ARGV[at + 2], at + 3 + ARGV[at + 2]
end
return #replies == 1 and replies[1] or replies
