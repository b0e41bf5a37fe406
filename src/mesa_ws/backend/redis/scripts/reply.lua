#!lua flags=allow-oom
-- Publish a message to one connection of one node.
--
-- KEYS  1 leases, 2 counters, 3 the record of the message id
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6 for how long the message id is remembered (ms), or 0, 7 node, 8 connection
--
-- A message whose id is remembered is not published again. If Redis refuses to publish, nothing is done, and
-- the error is the reply.
-- Returns 1 when the node lives, else 0.

if not lease_reader(KEYS[1], now_ms())(ARGV[7]) then return 0 end
if remembered(KEYS[3], ARGV[6], {ARGV[8]})[1] then return 1 end
remember_all(KEYS[3], ARGV[6], {ARGV[8], '0'})
local message = {kind = ARGV[3], id = ARGV[4], body = ARGV[5]}
local problem = hand(KEYS[2], ARGV[2], ARGV[1], ARGV[7], message, {ARGV[8]}, {})
if problem then return unheard(problem, 0, KEYS[3], ARGV[6], {ARGV[8], '0'}) end
return 1
