#!lua flags=allow-oom
-- Record that a node holds ids no more.
--
-- KEYS  1 the held key of the node, 2 the ids in grace, 3 the ids that are held anywhere,
--       4.. the user key of each id
-- ARGV  1 node, 2 version, 3 expiry (ms), 4 grace (ms), 5.. the ids, in the order of KEYS
--
-- An id that was recorded again with a newer version stays. One that no node holds any more is
-- offline when its grace is over; depart.lua tells.
-- Returns how many ids were forgotten.

local forgotten = 0
for i = 4, #KEYS do
  local id, recorded = ARGV[i + 1], redis.pcall('HGET', KEYS[i], ARGV[1])
  local is_field = type(recorded) == 'string'
  local seat = is_field and read_seat(recorded)
  if not seat or tonumber(ARGV[2]) >= seat.version then
    if is_field then
      leave_seat(KEYS[i], ARGV[1], id, KEYS[2], KEYS[3], now_ms() + ARGV[4], ARGV[3])
    end
    redis.call('SREM', KEYS[1], id)
    forgotten = forgotten + 1
  end
end
return forgotten
