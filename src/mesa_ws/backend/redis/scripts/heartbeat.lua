#!lua flags=allow-oom
-- Renew a node's lease, and check its channel with a marker that travels like every frame.
--
-- KEYS   1 leases, 2 counters, 3 the held key of the node, 4 the ids with their graces, 5 the connections of the
--        node, 6 tallies, 7 leases of portals, 8 observers, 9 signs
-- ARGV   1 map
-- MAP    node: whose lease it is
--        lease: its length (ms)
--        expiry: life of the keys of a cluster (ms)
--        join: whether to take a lease where there is none
--        channels: prefix of the channels of nodes
--        connections: how many the node has
--        watches_portals: whether to return the living portals
--        run, reported: the run that the node saw last, and the one in which it reported an end; or ''
-- REPLY  0 when the lease is lost; else 1, number of nodes whose leases ran out, number of ids whose grace is over,
--        the living portals if the node watches them, the reply of look_at_runs() in runs.lua, 1 if messages
--        skipped the node
--
-- A lease that ran out cannot be renewed, even if it was not reaped yet: messages have skipped the node, so
-- it has to know. One that ran out while Redis was away is renewed, and the node learns of that, too, but
-- nothing changes for other nodes. Some of the ids whose grace was over a minute ago, and that no node
-- reported, are forgotten. A key of a wrong type is deleted, and the lease with it, so that the node records
-- everything again. The marker says so, too, before any later frame. The connections of a node live as long as
-- the events of its queues: so they are ended even if a portal comes very late.

local leases, counters, held, graces, open, tallies, portals, observers, signs = unpack(KEYS)
local args, now, is_whole = cmsgpack.unpack(ARGV[1]), now_ms(), true
local node = args.node
for i, kind in ipairs({'zset', 'hash', 'set', 'zset', 'hash', 'hash', 'zset', 'zset', 'hash'}) do
  if renew(KEYS[i], kind) then is_whole = false end
end
local known, info = note_sign(signs, now, args.lease, args.expiry, leases, {portals, observers})
local missed = not lease_reader(leases, now)(node)
local is_live = lease_reader(leases, now)
if not args.join and not (is_whole and is_live(node)) then return {0} end
redis.call('ZADD', leases, end_of(now, args.lease), node)
for _, key in ipairs({leases, graces, portals, observers}) do shorten(key, now, args.lease) end
local counter = redis.call('HINCRBY', counters, node, 0)
postpone(graces, known, now)
if not is_reprieved(known, now) then
  forget_untold(graces, now)
  redis.call('ZREMRANGEBYSCORE', observers, '-inf', now)
end
redis.call('HSET', tallies, node, args.connections)
local passed_over = redis.call('HDEL', signs, '+' .. node)
missed = missed or passed_over == 1
for _, key in ipairs({counters, held, graces, tallies}) do redis.call('PEXPIRE', key, args.expiry) end
outlive(leases, redis.call('PEXPIRE', open, BACKLOG_LIFE) == 1 and BACKLOG_LIFE or args.expiry)
local head = cmsgpack.pack({counter, 'marker', missed and 'missed' or '', {}, {}, {}})
redis.call('PUBLISH', args.channels .. node, struct.pack('>I4', #head) .. head)
local living = args.watches_portals and redis.call('ZRANGEBYSCORE', portals, '(' .. now, '+inf') or {}
local runs = look_at_runs(read_host(info), leases, node, args.run, args.reported, is_live)
return {1, count_ended(leases, known, now), count_ended(graces, known, now), living, runs, passed_over}
