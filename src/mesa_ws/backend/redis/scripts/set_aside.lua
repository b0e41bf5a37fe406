#!lua flags=allow-oom
-- Set keys of a wrong type aside.
--
-- KEYS   any number of keys
-- ARGV   the type of each
-- REPLY  the numbers of the keys that were set aside; the first is 1

local found = {}
for i, key in ipairs(KEYS) do
  if not is_of(key, ARGV[i]) then
    put_aside(key)
    found[#found + 1] = i
  end
end
return found
