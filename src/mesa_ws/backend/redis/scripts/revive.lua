#!lua
-- Put dead letters at the end of their queues.
--
-- KEYS  1 dead letters
-- ARGV  1 prefix of queues, 2 life of a queue (ms), 3.. offsets
--
-- The queues are named here, in the same slot. Each letter is revived once, however many processes ask.
-- Returns the number of revived letters.

redis.call('XDEL', KEYS[1], '0-1') -- no entry: a user without the right to XDEL revives none
local count = 0
for i = 3, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local letter = {}
    for at = 1, #entry[2], 2 do letter[entry[2][at]] = entry[2][at + 1] end
    post_event(ARGV[1] .. letter.p, nil, 0, letter)
    redis.call('XDEL', KEYS[1], ARGV[i])
    count = count + 1
  end
end
prolong(ARGV[2])
return count
