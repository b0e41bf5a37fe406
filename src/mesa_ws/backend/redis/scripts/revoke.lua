#!lua
-- Revoke the logins of ids that were issued until a time.
--
-- KEYS   their revocations
-- ARGV   1 how long they are kept (ms), 2 the time, in seconds since 1970
-- REPLY  1
--
-- Of two revocations of one id the later time counts.

for _, key in ipairs(KEYS) do
  local known = try('GET', key)
  local until_then = type(known) == 'string' and tonumber(known)
  local later = until_then and until_then > tonumber(ARGV[2]) and known or ARGV[2]
  redis.call('SET', key, later, 'PX', ARGV[1])
end
return 1
