#!lua flags=allow-oom
-- Renew the lease of an observer, so that appended events are copied for it.
--
-- KEYS   1 observers, 2 their stream
-- ARGV   1 portal, 2 lease (ms)
-- REPLY  the offset of the last event on the observers' stream
--
-- Observers whose lease ran out are forgotten by heartbeats of nodes.

local now = now_ms()
redis.call('ZADD', KEYS[1], end_of(now, ARGV[2]), ARGV[1])
shorten(KEYS[1], now, ARGV[2])
redis.call('PEXPIRE', KEYS[1], EXPIRY)
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return last and last[1] or '0-0'
