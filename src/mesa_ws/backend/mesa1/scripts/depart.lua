#!lua flags=allow-oom
-- Take ids whose grace is over, so that one node reports them as offline.
--
-- KEYS   1 graces, 2 connected_clients, 3 signs
-- ARGV   1 prefix of user keys
-- REPLY  those that no node holds, and that are not in the set of 1.x

return take_gone(KEYS[1], KEYS[3], function(id)
  return redis.call('EXISTS', ARGV[1] .. id) == 1 or try('SISMEMBER', KEYS[2], id) == 1
end)
