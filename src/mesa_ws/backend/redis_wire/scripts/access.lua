-- Put in front of every script of both wires: the meaning of error replies.

-- Whether a reply is the error for a missing right; Redis 7.0 sends it without NOPERM.
local function is_forbidden(reply)
  if type(reply) ~= 'table' or not reply.err then return false end
  return string.find(reply.err, 'NOPERM', 1, true) == 1
    or string.find(reply.err, 'ACL failure in script', 1, true) ~= nil
    or string.find(reply.err, "The user executing the script can't", 1, true) ~= nil
end

-- End the script unless an error is about the type or value of a key: any other error, such as a missing right,
-- says nothing about the data.
local function check_data(failed) -- rare
  local is_about_data = string.find(failed.err, '^WRONGTYPE') or string.find(failed.err, '^ERR ')
  if is_forbidden(failed) or not is_about_data then error(failed) end
end

-- Run a command on a key that may be of a wrong type: an error about its data is returned.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then check_data(reply) end
  return reply
end

-- Whether a key can be used as one of this type.
local function is_of(key, kind)
  local is = redis.call('TYPE', key).ok
  return is == kind or is == 'none'
end

-- Delete a key that has another type than Mesa keeps there; returns whether it did.
local function renew(key, kind)
  if is_of(key, kind) then return false end
  redis.call('DEL', key)
  return true
end

-- The text of an error that pcall() caught.
local function problem_of(caught) -- rare
  return type(caught) == 'table' and caught.err or tostring(caught)
end
