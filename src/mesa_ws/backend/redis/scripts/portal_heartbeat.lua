#!lua flags=allow-oom
-- Renew a portal's lease; own partitions, or release them.
--
-- KEYS   1 leases of portals, 2 tokens, 3 leases of nodes, 4 observers, 5 signs, then the owner key of each
--        partition
-- ARGV   1 portal, 2 lease (ms), 3 1 to stay, 0 to leave, then for each partition 1 when it is wanted, else 0
-- REPLY  how many nodes' leases ran out, the living portals, then for each partition its token, or 0 where the
--        portal does not own it
--
-- A partition that is free gets a new owner under a new token; tokens of one partition only grow. The
-- owner's lease counts and not how long the key of the partition lives: that would end while Redis is away, and
-- would grow when its clock steps back.

local OWNERS, WISHES = 5, 3
local portals, tokens, leases, observers, signs = unpack(KEYS)
local portal, lease, stays = unpack(ARGV)
local now = now_ms()
local known = note_sign(signs, now, lease, EXPIRY, leases, {portals, observers})
if stays == '1' then
  redis.call('ZADD', portals, end_of(now, lease), portal)
else
  redis.call('ZREM', portals, portal)
end
for _, key in ipairs({portals, leases}) do shorten(key, now, lease) end
redis.call('ZREMRANGEBYSCORE', portals, '-inf', now)
local living, lives = redis.call('ZRANGE', portals, 0, -1), {}
for _, each in ipairs(living) do lives[each] = true end
local reply = {count_ended(leases, known, now), living}
for n = 1, #KEYS - OWNERS do
  local key, wanted, token = KEYS[OWNERS + n], ARGV[WISHES + n] == '1', 0
  local owner, held = string.match(redis.call('GET', key) or '', '^(.*)|(%d+)$')
  if owner ~= portal and not lives[owner] then owner = nil end
  if wanted and owner == portal then
    token = tonumber(held)
    redis.call('PEXPIRE', key, EXPIRY)
  elseif wanted and not owner then
    token = redis.call('HINCRBY', tokens, n, 1)
    redis.call('SET', key, portal .. '|' .. token, 'PX', EXPIRY)
  elseif owner == portal then
    redis.call('DEL', key)
  end
  reply[2 + n] = token
end
for _, key in ipairs({portals, tokens}) do redis.call('PEXPIRE', key, EXPIRY) end
return reply
