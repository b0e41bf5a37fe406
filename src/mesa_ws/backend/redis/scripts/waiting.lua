#!lua flags=no-writes
-- Tell which ids have messages.
--
-- KEYS  the outbox of each id
--
-- Returns the places among KEYS of those that are there, from 1 on.

local found = {}
for i, outbox in ipairs(KEYS) do
  if redis.call('EXISTS', outbox) == 1 then found[#found + 1] = i end
end
return found
