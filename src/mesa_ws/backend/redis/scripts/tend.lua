#!lua flags=allow-oom
-- Renew a portal's lease; own partitions, or release them.
--
-- KEYS  1 leases of portals, 2 tokens, 3 leases of nodes, 4 observers, 5 signs, then the owner key of each
--       partition
-- ARGV  1 portal, 2 lease (ms), 3 expiry (ms), 4 1 to stay, 0 to leave,
--       then for each partition 1 when it is wanted, else 0
--
-- A partition that is free gets a new owner under a new token; tokens of one partition only grow. The
-- owner's lease counts and not how long the key of the partition lives: that would end while Redis is away, and
-- would grow when its clock steps back.
-- Returns {how many nodes' leases ran out, the living portals, then for each partition its token,
-- or 0 where the portal does not own it}.

local OWNERS = 5
local portal, now = ARGV[1], now_ms()
local known = note_sign(KEYS[5], now, ARGV[2], ARGV[3], KEYS[3], {KEYS[1], KEYS[4]})
if ARGV[4] == '1' then
  redis.call('ZADD', KEYS[1], end_of(now, ARGV[2]), portal)
else
  redis.call('ZREM', KEYS[1], portal)
end
for _, i in ipairs({1, 3}) do shorten(KEYS[i], now, ARGV[2]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local portals, lives = redis.call('ZRANGE', KEYS[1], 0, -1), {}
for _, each in ipairs(portals) do lives[each] = true end
local dead = is_reprieved(known, now) and 0 or redis.call('ZCOUNT', KEYS[3], '-inf', now)
local reply = {dead, portals}
for n = 1, #KEYS - OWNERS do
  local key, wanted, token = KEYS[OWNERS + n], ARGV[4 + n] == '1', 0
  local owner, held = string.match(redis.call('GET', key) or '', '^(.*)|(%d+)$')
  if owner ~= portal and not lives[owner] then owner = nil end
  if wanted and owner == portal then
    token = tonumber(held)
    redis.call('PEXPIRE', key, ARGV[3])
  elseif wanted and not owner then
    token = redis.call('HINCRBY', KEYS[2], n, 1)
    redis.call('SET', key, portal .. '|' .. token, 'PX', ARGV[3])
  elseif owner == portal then
    redis.call('DEL', key)
  end
  reply[2 + n] = token
end
for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return reply
