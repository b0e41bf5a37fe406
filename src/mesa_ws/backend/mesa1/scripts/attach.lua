#!lua flags=allow-oom
-- Record that a node holds connections of ids, and read their lists.
--
-- KEYS   1 leases, 2 the held key of the node, 3 graces, 4 connected_clients, 5 undelivered_messages,
--        then the user key of each id
-- ARGV   1 node, 2 expiry (ms), 3 mode, then for each id: id, connections
-- REPLY  0 when the node has no lease: no other node would clean up. Else for each id {1 if it came online by this,
--        1 if it was not in the set of 1.x, its list or ''}
--
-- All in one step, so that every message that is stored atomically is either read here or published to the node.
-- Mode 'read' returns the list of each id, 'drop' deletes it, '' leaves it alone.

local node, mode = ARGV[1], ARGV[3]
if not lease_reader(KEYS[1], now_ms())(node) then return 0 end
local replies = {}
for n = 1, #KEYS - 5 do
  local id, sockets, user = ARGV[2 + 2 * n], ARGV[3 + 2 * n], KEYS[5 + n]
  renew(user, 'hash')
  local others = redis.call('HLEN', user)
  local is_new = try('SADD', KEYS[4], id) == 1
  local was_away = not redis.call('ZSCORE', KEYS[3], id)
  redis.call('HSET', user, node, sockets)
  redis.call('PEXPIRE', user, ARGV[2])
  redis.call('SADD', KEYS[2], id)
  redis.call('ZADD', KEYS[3], '+inf', id)
  local kept = ''
  if mode == 'read' then
    kept = try('HGET', KEYS[5], id)
    if type(kept) ~= 'string' then kept = '' end
  elseif mode == 'drop' then
    try('HDEL', KEYS[5], id)
  end
  local came = others == 0 and was_away and is_new
  replies[n] = {came and 1 or 0, is_new and 1 or 0, kept}
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return replies
