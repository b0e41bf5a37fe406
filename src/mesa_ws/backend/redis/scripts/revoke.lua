#!lua
-- Revoke the logins of ids that were issued until a time.
--
-- KEYS   1 the record of the order's id, 2.. their revocations
-- ARGV   1 how long they are kept (ms), 2 the time, in seconds since 1970
-- REPLY  1
--
-- Of two revocations of one id the later time counts. An order whose id is remembered revokes nothing: with a
-- later time, its repetition would refuse who has logged in since.

if type(try('HGET', KEYS[1], '*')) == 'string' then return 1 end
for _, key in ipairs({unpack(KEYS, 2)}) do
  local known = try('GET', key)
  local until_then = type(known) == 'string' and tonumber(known)
  local later = until_then and until_then > tonumber(ARGV[2]) and known or ARGV[2]
  redis.call('SET', key, later, 'PX', ARGV[1])
end
return 1
