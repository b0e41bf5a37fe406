#!lua flags=allow-oom
-- Record that a node holds connections of ids.
--
-- KEYS  1 leases, 2 the held key of the node, 3.. the user key of each id
-- ARGV  1 node, 2 expiry (ms), then for each id: id, sockets, version
--
-- A version older than the recorded one is ignored. A key of another type cannot be Mesa's and is
-- replaced: that heals the id.
-- Returns 1, or 0 when the node has no lease: it has to join first, or nobody would clean up.

local node, expiry = ARGV[1], ARGV[2]
if redis.call('TYPE', KEYS[2]).ok ~= 'set' then redis.call('DEL', KEYS[2]) end
if not lease_reader(KEYS[1], now_ms())(node) then return 0 end
for i = 3, #KEYS do
  local at = 3 * (i - 2)
  local recorded = redis.pcall('HGET', KEYS[i], node)
  if type(recorded) == 'table' then
    redis.call('DEL', KEYS[i])
    recorded = false
  end
  local newest = tonumber(string.match(recorded or '', '^%d+ (%d+)$') or '0')
  if tonumber(ARGV[at + 2]) >= newest then
    redis.call('HSET', KEYS[i], node, ARGV[at + 1] .. ' ' .. ARGV[at + 2])
    redis.call('SADD', KEYS[2], ARGV[at])
  end
  redis.call('PEXPIRE', KEYS[i], expiry)
end
redis.call('PEXPIRE', KEYS[2], expiry)
return 1
