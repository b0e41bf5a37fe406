#!lua
-- Put dead letters at the end of their queues.
--
-- KEYS   1 dead letters
-- ARGV   1 prefix of queues, 2.. offsets
-- REPLY  the number of revived letters
--
-- The queues are named here, in the same slot. Each letter is revived once, however many processes ask.

redis.call('XDEL', KEYS[1], '0-1') -- no entry: a user without the right to XDEL revives none
local BURIED, count = 6, 0 -- bury() in settle.lua adds so many values to those of the entry
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  local partition = entry and natural(entry[2][#entry[2] - BURIED + 2])
  if partition then -- or another program wrote it
    local queue = ARGV[1] .. partition
    redis.call('XADD', queue, '*', unpack(entry[2], 1, #entry[2] - BURIED))
    redis.call('XDEL', KEYS[1], ARGV[i])
    posted[queue], count = true, count + 1
  end
end
prolong()
return count
