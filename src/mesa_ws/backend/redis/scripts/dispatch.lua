#!lua flags=allow-oom
-- Hand a message to the nodes that hold one of its recipients, once to each.
--
-- KEYS  1 leases, 2 counters, 3.. the user key of each recipient
-- ARGV  1 prefix of channels, 2 expiry of counters (ms), 3 kind, 4 message id, 5 body,
--       6.. the id of each recipient, in the order of KEYS
--
-- Nodes whose lease ran out are passed over, never removed: only reap.lua removes.
-- Returns the number of nodes, then for each recipient its connections, or -1 for a corrupt key.

local is_live = lease_reader(KEYS[1], now_ms())
local order, ids_of, reply = {}, {}, {0}
for i = 3, #KEYS do
  local nodes, online = holders(KEYS[i], is_live)
  for _, node in ipairs(nodes or {}) do
    if not ids_of[node] then
      ids_of[node] = {}
      order[#order + 1] = node
    end
    table.insert(ids_of[node], ARGV[i + 3])
  end
  reply[#reply + 1] = nodes and online or -1
end
for _, node in ipairs(order) do
  publish(KEYS[2], ARGV[2], ARGV[1], node, ARGV[3], ARGV[4], ids_of[node], {}, ARGV[5])
end
reply[1] = #order
return reply
