#!lua flags=allow-oom
-- Put portals of 1.x back that were removed as dead.
--
-- KEYS   1 available_portals_pool, 2 portals that are gone
-- ARGV   1 channel, then for each portal: its name, its announcement
-- REPLY  how many were put back
--
-- That is done when there is no other portal, and a process listens.

renew(KEYS[2], 'hash')
local count = 0
for n = 2, #ARGV, 2 do
  if redis.call('HDEL', KEYS[2], ARGV[n]) == 1 then
    try('SADD', KEYS[1], ARGV[n])
    redis.call('PUBLISH', ARGV[1], ARGV[n + 1])
    count = count + 1
  end
end
return count
