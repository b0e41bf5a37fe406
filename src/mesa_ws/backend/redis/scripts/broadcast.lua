#!lua flags=allow-oom
-- Publish a message that is not stored to every living node, which delivers it to all of its connections.
--
-- KEYS   1 leases, 2 counters, 3 the record of the message id
-- ARGV   1 prefix of the channels of nodes, 2 kind, 3 id and 4 body of the message, 5 for how long the id is
--        remembered (ms), or 0, 6 ids that do not get it, as MessagePack, 7 its delivery policy, or ''
-- REPLY  the number of nodes
--
-- A message whose id is remembered is not published again. If Redis refuses to publish, nothing is done, and
-- the error is the reply; it begins with PARTLY if some nodes received it.

local message, nodes = read_message(), redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')
if remembered(KEYS[3], message, {'*'})[1] then return #nodes end
local news = {'*', '0'}
message.excluding = #ARGV[6] > 1 and cmsgpack.unpack(ARGV[6]) or nil -- one byte is the empty list
message.delivery = ARGV[7] ~= '' and ARGV[7] or nil
remember_all(KEYS[3], message, news)
return post_once(mailing_to_all(nodes), KEYS[2], message, KEYS[3], news) or #nodes
