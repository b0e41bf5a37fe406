#!lua flags=allow-oom
-- Publish a message that is not stored to every living node; each delivers it to all of its
-- connections.
--
-- KEYS  1 leases, 2 counters, 3 the record of the message id
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 for how long the message id is remembered (ms), or 0, 7.. ids that are left out
--
-- A message whose id is remembered is not published again. If Redis refuses to publish, nothing is done, and
-- the error is the reply; it begins with PARTLY if some nodes received it.
-- Returns the number of nodes.

local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')
if remembered(KEYS[3], ARGV[6], {'*'})[1] then return #nodes end
remember_all(KEYS[3], ARGV[6], {'*', '0'})
local message, excluding = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}, arguments_from(7)
local problem, heard = nil, 0
for _, node in ipairs(nodes) do
  local refused = hand(KEYS[2], ARGV[2], ARGV[1], node, message, '*', excluding)
  if refused then problem = refused else heard = heard + 1 end
end
if problem then return unheard(problem, heard, KEYS[3], ARGV[6], {'*', '0'}) end
return #nodes
