#!lua flags=no-writes
-- Read the backlog of portals.
--
-- KEYS   1 leases of portals, 2 dead letters, 3 how many were rejected, then the owner key and the queue of each
--        partition
-- ARGV   none
-- REPLY  the living portals, number of dead letters, number of rejected events, then for each partition {its owner
--        or '', number of events, time of the oldest one (ms) or ''}

local portals, lives = redis.call('ZRANGE', KEYS[1], '(' .. now_ms(), '+inf', 'BYSCORE'), {}
for _, each in ipairs(portals) do lives[each] = true end
local reply = {portals, redis.call('XLEN', KEYS[2]), tonumber(redis.call('GET', KEYS[3])) or 0}

-- The time of an event.
local function time_of(entry)
  for n = 1, entry and #entry[2] or 0, 2 do
    if entry[2][n] == 't' and natural(entry[2][n + 1]) then return entry[2][n + 1] end
  end
  return ''
end

for n = 4, #KEYS, 2 do
  local owner = string.match(redis.call('GET', KEYS[n]) or '', '^(.*)|%d+$') or ''
  if not lives[owner] then owner = '' end
  local queue = KEYS[n + 1]
  local oldest = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1]
  reply[#reply + 1] = {owner, redis.call('XLEN', queue), time_of(oldest)}
end
return reply
