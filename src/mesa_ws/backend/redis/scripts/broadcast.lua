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

local nodes, news = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf'), {'*', '0'}
if remembered(KEYS[3], '*')[1] then return #nodes end
local mailing = mailing_to_all(nodes, ARGV[6])
if ARGV[7] ~= '' then set_policy(mailing, ARGV[7]) end
remember_all(KEYS[3], news)
return post_once(mailing, KEYS[2], KEYS[3], news)
