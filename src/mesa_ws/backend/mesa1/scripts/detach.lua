#!lua flags=allow-oom
-- Remove the connections of ids on a node.
--
-- KEYS   1 the held key of the node, 2 graces, 3 connected_clients, then the user key of each id
-- ARGV   1 node, 2 expiry (ms), 3 grace (ms), then the ids
-- REPLY  1

local due = end_of(now_ms(), ARGV[3])
for n = 1, #KEYS - 3 do
  local id = ARGV[3 + n]
  release_id(KEYS[3 + n], ARGV[1], id, KEYS[2], due, KEYS[3])
  try('SREM', KEYS[1], id)
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1
