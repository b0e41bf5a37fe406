#!lua flags=allow-oom
-- Set the number of connections of a node.
--
-- KEYS   1 leases, 2 counts, 3 connected_clients_count
-- ARGV   1 node, 2 connections
-- REPLY  1, or 0 when the node has no lease: its next heartbeat sets the number

if not lease_reader(KEYS[1], now_ms())(ARGV[1]) then return 0 end
recount(KEYS[2], KEYS[3], ARGV[1], tonumber(ARGV[2]))
return 1
