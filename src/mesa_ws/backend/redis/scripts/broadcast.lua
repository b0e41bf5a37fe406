#!lua flags=allow-oom
-- Hand a message to every living node; each delivers it to all of its connections.
--
-- KEYS  1 leases, 2 counters
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6.. ids that are left out
--
-- Returns the number of nodes.

local excluding = {}
for i = 6, #ARGV do excluding[#excluding + 1] = ARGV[i] end
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')
for _, node in ipairs(nodes) do
  publish(KEYS[2], ARGV[2], ARGV[1], node, ARGV[3], ARGV[4], '*', excluding, ARGV[5])
end
return #nodes
