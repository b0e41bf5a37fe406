#!lua flags=allow-oom
-- Renew a node's lease, and check its channel with a marker that travels like every frame.
--
-- KEYS  1 leases, 2 counters, 3 the held key of the node, 4 the ids with their graces,
--       5 the connections of the node, 6 tallies, 7 leases of portals, 8 observers, 9 signs
-- ARGV  1 node, 2 lease (ms), 3 join: 1 to take a lease, 0 to renew one, 4 prefix of channels,
--       5 expiry (ms), 6 how many connections the node has, 7 1 to return the living portals,
--       8 the run that the node saw last, 9 the one in which it reported an end
--
-- A lease that ran out cannot be renewed, even if it was not reaped yet: messages have skipped the node, so
-- it has to know. One that ran out while Redis was away is renewed, and the node learns of that, too, but
-- nothing changes for other nodes. Some of the ids whose grace was over a minute ago, and that no node
-- reported, are forgotten. A key of a wrong type is deleted, and the lease with it, so that the node records
-- everything again. The connections of a node live as long as the events of its queues: so they are ended
-- even if a portal comes very late.
-- Returns {0} when the lease is lost, else {1, number of nodes whose leases ran out, number of ids whose grace
-- is over, the living portals if the node watches them, the reply of look_at_runs() in runs.lua, 1 if messages
-- skipped the node}.

local node, now = ARGV[1], now_ms()
local is_whole = true
for i, kind in ipairs({'zset', 'hash', 'set', 'zset', 'hash', 'hash', 'zset', 'zset', 'hash'}) do
  local is = redis.call('TYPE', KEYS[i]).ok
  if is ~= kind and is ~= 'none' then
    redis.call('DEL', KEYS[i])
    is_whole = false
  end
end
local known, info = note_sign(KEYS[9], now, ARGV[2], ARGV[5], KEYS[1], {KEYS[7], KEYS[8]})
local is_live = lease_reader(KEYS[1], now)
if ARGV[3] == '0' and not (is_whole and is_live(node)) then return {0} end
redis.call('ZADD', KEYS[1], end_of(now, ARGV[2]), node)
for _, i in ipairs({1, 4, 7, 8}) do shorten(KEYS[i], now, ARGV[2]) end
local counter = redis.call('HINCRBY', KEYS[2], node, 0)
local is_reprieved_now = is_reprieved(known, now)
postpone(KEYS[4], known, now)
if not is_reprieved_now then
  forget_untold(KEYS[4], now)
  redis.call('ZREMRANGEBYSCORE', KEYS[8], '-inf', now)
end
redis.call('HSET', KEYS[6], node, ARGV[6])
local passed_over = redis.call('HDEL', KEYS[9], '+' .. node)
for _, i in ipairs({2, 3, 4, 6}) do redis.call('PEXPIRE', KEYS[i], ARGV[5]) end
outlive(KEYS[1], redis.call('PEXPIRE', KEYS[5], BACKLOG_LIFE) == 1 and BACKLOG_LIFE or ARGV[5])
local head = cmsgpack.pack({counter, 'marker', '', {}, {}, {}})
redis.call('PUBLISH', ARGV[4] .. node, struct.pack('>I4', #head) .. head)
local function ended(key) return is_reprieved_now and 0 or redis.call('ZCOUNT', key, '-inf', now) end
local portals = ARGV[7] == '1' and redis.call('ZRANGEBYSCORE', KEYS[7], '(' .. now, '+inf') or {}
local runs = look_at_runs(read_host(info), KEYS[1], node, ARGV[8], ARGV[9], is_live)
return {1, ended(KEYS[1]), ended(KEYS[4]), portals, runs, passed_over}
