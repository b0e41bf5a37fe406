#!lua
-- Mark that a process has left this master, because Sentinels name another one.
--
-- KEYS   1 where the mark is
-- ARGV   1 for how long it counts (ms)
-- REPLY  0
--
-- Sentinels leave an old master writable for seconds, and processes learn of the new one one after another. A
-- message stored here after another process has informed clients of the change would be lost silently. So
-- from now on this master stores nothing: dispatch.lua and announce.lua refuse, as a replica would. A
-- replica that gets the mark and takes over has another replication id, for which the mark does not count.

redis.call('SET', KEYS[1], read_host().id, 'PX', ARGV[1])
return 0
