#!lua
-- Put dead letters at the end of their queues.
--
-- KEYS   1 dead letters
-- ARGV   1 prefix of queues, 2.. offsets
-- REPLY  the number of revived letters
--
-- The queues are named here, in the same slot. Each letter is revived once, however many processes ask.

redis.call('XDEL', KEYS[1], '0-1') -- no entry: a user without the right to XDEL revives none
local EVENT, count = 14, 0 -- bury() in settle.lua adds more fields to those of the event
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local queue = ARGV[1] .. entry[2][EVENT + 2]
    redis.call('XADD', queue, '*', unpack(entry[2], 1, EVENT))
    redis.call('XDEL', KEYS[1], ARGV[i])
    posted[queue], count = true, count + 1
  end
end
prolong()
return count
