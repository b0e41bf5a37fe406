#!lua flags=no-writes
-- Read how far the living nodes have carried out orders.
--
-- KEYS   1 leases, 2 carried out, 3 position of orders
-- ARGV   none
-- REPLY  epoch of the orders or '', then for each living node: its id, and what it has noted or ''

local reply = {try('HGET', KEYS[3], 'e') or ''}
if type(reply[1]) == 'table' then reply[1] = '' end
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')) do
  local noted = try('HGET', KEYS[2], node)
  reply[#reply + 1] = node
  reply[#reply + 1] = type(noted) == 'string' and noted or ''
end
return reply
