#!lua flags=allow-oom
-- Publish a message to one connection of one node.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 node, 7 connection
-- REPLY  1 when the node lives, else 0
--
-- A message whose id is remembered is not published again. If Redis refuses to publish, nothing is done, and
-- the error is the reply.

local message, mailing, node, connection = read_message(), new_mailing(), ARGV[6], ARGV[7]
local news = {connection, '0'}
if not lease_reader(KEYS[1], now_ms())(node) then return 0 end
if remembered(KEYS[3], message, {connection})[1] then return 1 end
remember_all(KEYS[3], message, news)
address(mailing, node, connection)
return post_once(mailing, KEYS[2], message, KEYS[3], news) or 1
