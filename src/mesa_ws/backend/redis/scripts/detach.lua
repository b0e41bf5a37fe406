#!lua flags=allow-oom
-- Record that a node no longer holds ids.
--
-- KEYS   1 the held key of the node, 2 the ids with their graces, 3.. the user key of each id
-- ARGV   1 node, 2 version, 3 life of the graces (ms), 4 grace (ms), 5.. the ids, in the order of KEYS
-- REPLY  the number of released ids
--
-- An id that was recorded again with a newer version stays. One that no node holds any more is
-- offline when its grace is over, as depart.lua reports.

local forgotten = 0
for i = 3, #KEYS do
  local id, recorded = ARGV[i + 2], try('HGET', KEYS[i], ARGV[1])
  local is_field = type(recorded) == 'string'
  local seat = is_field and read_seat(recorded)
  if not seat or tonumber(ARGV[2]) >= seat.version then
    if is_field then release_id(KEYS[i], ARGV[1], id, KEYS[2], end_of(now_ms(), ARGV[4])) end
    redis.call('SREM', KEYS[1], id)
    forgotten = forgotten + 1
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return forgotten
