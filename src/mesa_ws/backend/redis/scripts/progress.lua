#!lua flags=no-writes
-- Read how far the living nodes have carried out orders.
--
-- KEYS   1 leases, 2 carried out, 3 position of orders
-- ARGV   none
-- REPLY  epoch of the orders or '', the epochs before it and where each ended as 'epoch:top,epoch:top' or '',
--        then for each living node: its id, and what it has noted or ''

local found = try('HMGET', KEYS[3], 'e', 'f')
local reply = found.err and {'', ''} or {found[1] or '', found[2] or ''}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')) do
  local noted = try('HGET', KEYS[2], node)
  reply[#reply + 1] = node
  reply[#reply + 1] = type(noted) == 'string' and noted or ''
end
return reply
