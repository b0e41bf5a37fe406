#!lua flags=no-writes
-- Find the commands that the user may not run, without running any.
--
-- KEYS   none: they are named here, so that Redis does not refuse the whole script for one of them
-- ARGV   1 the commands as MessagePack
-- REPLY  of those that are forbidden: number of the command from 1 on, the error
--
-- In a read-only script, Redis checks the rights of the user before it refuses to write or to publish.

local forbidden = {}
for number, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  local reply = redis.pcall(unpack(command))
  if is_forbidden(reply) then
    forbidden[#forbidden + 1] = number
    forbidden[#forbidden + 1] = reply.err
  end
end
return forbidden
