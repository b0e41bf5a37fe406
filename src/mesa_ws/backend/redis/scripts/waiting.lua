#!lua flags=no-writes
-- Find the ids that have messages.
--
-- KEYS   the outbox of each id
-- ARGV   none
-- REPLY  the numbers of the existing keys among KEYS, starting at 1

local found = {}
for i, outbox in ipairs(KEYS) do
  if redis.call('EXISTS', outbox) == 1 then found[#found + 1] = i end
end
return found
