#!lua
-- Put dead letters at the end of their queues.
--
-- KEYS  1 dead letters
-- ARGV  1 prefix of queues, 2 life of a queue (ms), 3.. places
--
-- The queues are named here, in the same slot. Each letter is revived once, whoever asks.
-- Returns how many were revived.

redis.call('XDEL', KEYS[1], '0-1') -- no place: a user who may not take letters away revives none
local count = 0
for i = 3, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local letter = {}
    for at = 1, #entry[2], 2 do letter[entry[2][at]] = entry[2][at + 1] end
    post_letter(ARGV[1] .. letter.p, nil, 0, letter)
    redis.call('XDEL', KEYS[1], ARGV[i])
    count = count + 1
  end
end
prolong(ARGV[2])
return count
