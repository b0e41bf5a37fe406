#!lua
-- Note that a process has left this master, because Sentinels name another one.
--
-- Sentinels leave an old master writable for seconds, and processes learn of a new one after each other. What
-- one of them stores here after another has told clients of the change would be lost without a word. So from
-- now on nothing is stored here any more: dispatch.lua and announce.lua refuse it as a replica would. A
-- replica that gets the mark and takes over has another replication id, for which the mark does not count.
--
-- KEYS  1 where the mark is
-- ARGV  1 for how long it counts (ms)

redis.call('SET', KEYS[1], read_host().id, 'PX', ARGV[1])
return 0
