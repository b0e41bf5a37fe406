#!lua flags=no-writes
-- Count the connections of ids.
--
-- KEYS   1 leases, 2 connected_clients, then the user key of each id
-- ARGV   1 channel of messages, 2 prefix of the channels of nodes, then the ids
-- REPLY  a number for each

local is_live, counts = lease_reader(KEYS[1], now_ms(), true), {}
local has_foreigners = foreign_reader(ARGV[1], KEYS[1], ARGV[2])
for n = 1, #ARGV - 2 do
  counts[n] = connections(KEYS[2 + n], KEYS[2], ARGV[2 + n], is_live, has_foreigners)
end
return counts
