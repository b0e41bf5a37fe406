#!lua flags=allow-oom
-- Take the ids whose grace is over, so that one node reports them offline.
--
-- KEYS   1 the ids with their graces, 2 signs
-- ARGV   1 prefix of user keys, which are named here, in the same slot
-- REPLY  the ids that no node holds

return take_gone(KEYS[1], KEYS[2], function(id) return redis.call('EXISTS', ARGV[1] .. id) == 1 end)
