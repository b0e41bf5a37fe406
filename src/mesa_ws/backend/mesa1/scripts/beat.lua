#!lua flags=allow-oom
-- Take or renew a node's lease, set its number of connections, and publish to its own channel.
--
-- KEYS  1 leases, 2 counts, 3 connected_clients_count, 4 the held key of the node, 5 graces,
--       6 connected_clients, 7 undelivered_messages, 8 signs, 9 leases of portals
-- ARGV  1 node, 2 lease (ms), 3 connections, 4 expiry (ms), 5 the node's own channel, 6 where
--       undelivered_messages is set aside if it is no hash, 7 its life there (ms), 8 the run that the node saw
--       last, 9 the one in which it told of an end
--
-- A lease that ran out while Redis was away counts as kept.
-- Returns {1 if it had a lease, else 0, how many nodes' leases ran out, how many ids' graces are over, 1 if
-- undelivered_messages was set aside, else 0, keys of 1.x that have another type and were left alone: they
-- may belong to another namespace, the result of look_at_runs() in runs.lua, or {''} for a user without
-- INFO, 1 if the node may have missed messages}.

local node, now = ARGV[1], now_ms()
for at, kind in pairs({'zset', 'hash', [4] = 'set', [5] = 'zset', [8] = 'hash', [9] = 'zset'}) do renew(KEYS[at], kind) end
local is_cleared, strange = clear_way(KEYS[7], 'hash', ARGV[6], ARGV[7]), {}
if not is_of(KEYS[3], 'string') then strange[#strange + 1] = KEYS[3] end
if not is_of(KEYS[6], 'set') then strange[#strange + 1] = KEYS[6] end
local known, info = note_sign(KEYS[8], now, ARGV[2], ARGV[4], KEYS[1], {KEYS[9]})
local is_live = lease_reader(KEYS[1], now)
local had = is_live(node)
redis.call('ZADD', KEYS[1], end_of(now, ARGV[2]), node)
for _, i in ipairs({1, 5}) do shorten(KEYS[i], now, ARGV[2]) end
local passed_over = redis.call('HDEL', KEYS[8], '+' .. node)
recount(KEYS[2], KEYS[3], node, tonumber(ARGV[3]))
for _, key in ipairs({KEYS[1], KEYS[2], KEYS[4], KEYS[5]}) do redis.call('PEXPIRE', key, ARGV[4]) end
redis.call('PUBLISH', ARGV[5], '')
local is_reprieved_now = is_reprieved(known, now)
local function ended(key) return is_reprieved_now and 0 or redis.call('ZCOUNT', key, '-inf', now) end
local may_ask, host = pcall(read_host, info)
local runs = may_ask and look_at_runs(host, KEYS[1], node, ARGV[8], ARGV[9], is_live) or {''}
return {had and 1 or 0, ended(KEYS[1]), ended(KEYS[5]), is_cleared and 1 or 0, strange, runs, passed_over}
