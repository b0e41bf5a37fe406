#!lua flags=allow-oom
-- Take or renew a node's lease, set its number of connections, and publish to its own channel.
--
-- KEYS   1 leases, 2 counts, 3 connected_clients_count, 4 the held key of the node, 5 graces,
--        6 connected_clients, 7 undelivered_messages, 8 signs, 9 leases of portals
-- ARGV   1 map
-- MAP    node: whose lease it is
--        lease: its length (ms)
--        expiry: life of our keys (ms)
--        connections: how many the node has
--        channel: the node's own
--        cleared: where undelivered_messages is set aside if it is no hash
--        run, reported: the run that the node saw last, and the one in which it reported an end; or ''
-- REPLY  1 if it had a lease, else 0, how many nodes' leases ran out, how many ids' graces are over, 1 if
--        undelivered_messages was set aside, else 0, keys of 1.x that have another type and were left alone: they
--        may belong to another namespace, the reply of look_at_runs() in runs.lua, or {''} for a user without
--        INFO, 1 if the node may have missed messages
--
-- A lease that ran out while Redis was away counts as kept.

local leases, counts, total, held, graces, connected, undelivered, signs, portals = unpack(KEYS)
local args, now = cmsgpack.unpack(ARGV[1]), now_ms()
local node = args.node
for key, kind in pairs({
  [leases] = 'zset', [counts] = 'hash', [held] = 'set', [graces] = 'zset', [signs] = 'hash', [portals] = 'zset',
}) do renew(key, kind) end
local is_cleared, strange = clear_way(undelivered, 'hash', args.cleared), {}
if not is_of(total, 'string') then strange[#strange + 1] = total end
if not is_of(connected, 'set') then strange[#strange + 1] = connected end
local known, info = note_sign(signs, now, args.lease, args.expiry, leases, {portals})
local is_live = lease_reader(leases, now)
local had = is_live(node)
redis.call('ZADD', leases, end_of(now, args.lease), node)
for _, key in ipairs({leases, graces}) do shorten(key, now, args.lease) end
local passed_over = redis.call('HDEL', signs, '+' .. node)
recount(counts, total, node, args.connections)
for _, key in ipairs({leases, counts, held, graces}) do redis.call('PEXPIRE', key, args.expiry) end
redis.call('PUBLISH', args.channel, '')
local may_ask, host = pcall(read_host, info)
local runs = may_ask and look_at_runs(host, leases, node, args.run, args.reported, is_live) or {''}
return {
  had and 1 or 0, count_ended(leases, known, now), count_ended(graces, known, now), is_cleared and 1 or 0, strange,
  runs, passed_over,
}
