#!lua flags=no-writes
-- Count the connections of all living nodes.
--
-- KEYS   1 leases, 2 tallies
-- ARGV   none
-- REPLY  their number, as of the nodes' last heartbeats

local total = 0
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now_ms(), '+inf')) do
  total = total + (natural(redis.call('HGET', KEYS[2], node)) or 0)
end
return total
