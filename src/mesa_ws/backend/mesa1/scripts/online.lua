#!lua flags=no-writes
-- Count the connections of ids.
--
-- KEYS  1 leases, 2 connected_clients, then the user key of each id
-- ARGV  the ids
-- Returns a number for each.

local is_live, counts = lease_reader(KEYS[1], now_ms()), {}
for n, id in ipairs(ARGV) do counts[n] = connections(KEYS[2 + n], KEYS[2], id, is_live) end
return counts
