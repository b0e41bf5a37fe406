#!lua flags=no-writes
-- Count the connections of ids over all living nodes.
--
-- KEYS   1 leases, 2.. the user key of each id
-- ARGV   none
-- REPLY  for each id its connections, or -1 for a corrupt key

local mailing, now, reply = {}, now_ms(), {}
for i = 2, #KEYS do
  local nodes, online = holders(KEYS[i], mailing, now, true)
  reply[#reply + 1] = nodes and online or -1
end
return reply
