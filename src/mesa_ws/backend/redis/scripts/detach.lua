#!lua flags=allow-oom
-- Record that a node holds ids no more.
--
-- KEYS  1 the held key of the node, 2.. the user key of each id
-- ARGV  1 node, 2 version, 3.. the ids, in the order of KEYS
--
-- An id that was recorded again with a newer version stays.
-- Returns how many ids were forgotten.

local forgotten = 0
for i = 2, #KEYS do
  local recorded = redis.pcall('HGET', KEYS[i], ARGV[1])
  local is_field = type(recorded) == 'string'
  local newest = tonumber(is_field and string.match(recorded, '^%d+ (%d+)$') or '0')
  if tonumber(ARGV[2]) >= newest then
    if is_field then redis.call('HDEL', KEYS[i], ARGV[1]) end
    redis.call('SREM', KEYS[1], ARGV[i + 1])
    forgotten = forgotten + 1
  end
end
return forgotten
