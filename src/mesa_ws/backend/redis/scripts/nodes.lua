#!lua flags=no-writes
-- List the living nodes.
--
-- KEYS  1 leases
-- ARGV  1 prefix of held keys
--
-- Returns for each node its name and how many ids it holds, flat.

local reply = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')) do
  local held = redis.pcall('SCARD', ARGV[1] .. node)
  reply[#reply + 1] = node
  reply[#reply + 1] = type(held) == 'number' and held or 0
end
return reply
