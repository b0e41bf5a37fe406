#!lua
-- Publish a message to ids, or store it for those that are away.
--
-- KEYS   1 connected_clients, 2 undelivered_messages, 3 recipients that are remembered for the message id,
--        4 leases, then the user key of each id
-- ARGV   1 channel, 2 the message as JSON, 3 1 to store it for ids that are away, 4 most messages and 5 most bytes
--        of one list, 6 for how long the message id is remembered (ms), or 0, 7 prefix of the keys for values that
--        are set aside, 8 prefix of the channels of nodes, 9 more members of the payload as JSON, or '', 10 where
--        undelivered_messages is set aside if it is no hash, then for each id: id, the same as JSON, 1 if messages
--        may be stored for it
-- REPLY  processes that heard it, 1 if undelivered_messages was set aside, then for each id: messages that its list
--        holds with this one, or 0 if it was not stored; its connections; messages dropped to make room; 1 if a
--        corrupt list was set aside. Or an error, which begins with PARTLY if some were served.
--
-- A message that is to be stored is published only to ids that are online. 1.x does that in several steps, and so
-- loses messages.
-- A message that no process heard is also stored for ids that are marked online: no server has them.
-- The same holds where the nodes that hold an id are not subscribed at this moment, because they were killed
-- or cut off; a server of 1.x may hold the id as well, so as long as any listens, the message is also
-- published. If Redis refuses to publish, nothing is changed, and the error is the reply. A refusal after
-- that undoes nothing: recipients for which the message was published or stored are remembered.

local BIG = 8 * 1024 * 1024
local connected, undelivered, done, leases = unpack(KEYS, 1, 4)
local channel, message, stores, max_messages, max_bytes, remember = unpack(ARGV, 1, 6)
local asides, channels, more, cleared = unpack(ARGV, 7, 10)
stores, max_messages, max_bytes = stores == '1', tonumber(max_messages), tonumber(max_bytes)
local is_live = lease_reader(leases, now_ms())
local has_foreigners = foreign_reader(channel, leases, channels)

-- Whether a node hears messages now. Redis notices at once that a process was killed.
local subscribed = {}
local function hears(node)
  if subscribed[node] == nil then
    subscribed[node] = is_live(node) and redis.call('PUBSUB', 'NUMSUB', channels .. node)[2] > 0
  end
  return subscribed[node]
end

-- Position of the end of the list member that begins at `at`: a comma outside of nested values, or nil.
local function next_comma(raw, at, last)
  local depth = 0
  while true do
    at = string.find(raw, '[%[%]{}",]', at)
    if not at or at > last then return nil end
    local sign = string.sub(raw, at, at)
    if sign == '"' then
      at = string.find(raw, '["\\]', at + 1)
      while at and string.sub(raw, at, at) == '\\' do at = string.find(raw, '["\\]', at + 2) end
      if not at then return nil end
    elseif sign == ',' then
      if depth == 0 then return at end
    else
      depth = depth + ((sign == '[' or sign == '{') and 1 or -1)
    end
    at = at + 1
  end
end

-- Begin of the first member of a list, end of the last one, and their number, unless the list is too long
-- to be counted; nil when it is no list. A list may be long, so it is not copied here.
local function bounds(raw)
  local from, to, count = string.find(raw, '%S'), #raw, nil
  while to > 0 and string.find(string.sub(raw, to, to), '%s') do to = to - 1 end
  if not from or string.sub(raw, from, from) ~= '[' or string.sub(raw, to, to) ~= ']' then return nil end
  if #raw <= BIG then
    local is_json, list = pcall(cjson.decode, raw)
    if not is_json then -- cjson refuses half of a surrogate pair, which JavaScript writes
      is_json, list = pcall(cjson.decode, (string.gsub(raw, '\\u[dD][89a-fA-F]%x%x', '\\u0020')))
    end
    if is_json then
      count = #list
    elseif not string.find(tostring(list), 'nested', 1, true) then
      return nil
    end
  end
  local first, last = string.find(raw, '%S', from + 1), to - 1
  if first > last then return 1, 0, 0 end
  return first, last, count
end

local function store(id)
  local raw, displaced, is_aside = redis.call('HGET', undelivered, id) or '[]', 0, 0
  local from, last, count = bounds(raw)
  if not from then
    set_aside(asides .. id, raw)
    from, last, count, is_aside = 1, 0, 0, 1
  end
  while from <= last
    and ((count and count >= max_messages) or last - from + 1 + #message + 3 > max_bytes) do
    from = (next_comma(raw, from, last) or last) + 1
    count, displaced = count and count - 1, displaced + 1
  end
  local list = '[' .. message .. ']'
  if from <= last then list = '[' .. string.sub(raw, from, last) .. ',' .. message .. ']' end
  redis.call('HSET', undelivered, id, list)
  return (count or 0) + 1, displaced, is_aside
end

local is_cleared = stores and clear_way(undelivered, 'hash', cleared)
local known = {}
local remembered = remember ~= '0' and redis.call('HGETALL', done) or {}
for i = 1, #remembered, 2 do known[remembered[i]] = tonumber(remembered[i + 1]) end

local each, names = {}, {}
for n = 1, #KEYS - 4 do
  local at = 8 + 3 * n
  local one = {id = ARGV[at], name = ARGV[at + 1], is_storable = stores and ARGV[at + 2] == '1'}
  one.online = connections(KEYS[4 + n], connected, one.id, stores and hears or is_live, has_foreigners)
  one.before = known[one.id]
  each[n] = one
  local is_heard = not stores or one.online > 0
    or (try('SISMEMBER', connected, one.id) ~= 0 and has_foreigners())
  if not one.before and is_heard then names[#names + 1] = one.name end
end
local heard = 0
if #names > 0 then
  local payload = '{"message":' .. message .. ',"recipients":[' .. table.concat(names, ',') .. ']' .. more .. '}'
  heard = redis.pcall('PUBLISH', channel, payload)
  if type(heard) == 'table' then return heard end
end

local reply, served = {heard, is_cleared and 1 or 0}, #names > 0

-- Store the message for an id that does not hear it, if allowed, and remember the result.
local function serve(one)
  local stored, displaced, is_aside = one.before or 0, 0, 0
  if not one.before and one.is_storable and (one.online == 0 or heard == 0) then
    stored, displaced, is_aside = store(one.id)
    served = true
  end
  if remember ~= '0' then redis.call('HSET', done, one.id, stored) end
  for _, value in ipairs({stored, one.online, displaced, is_aside}) do reply[#reply + 1] = value end
end

local failure
for _, one in ipairs(each) do
  local is_done, problem = pcall(serve, one)
  if not is_done then failure = problem end
end
if remember ~= '0' and #each > 0 then
  local is_done, problem = pcall(redis.call, 'PEXPIRE', done, remember)
  if not is_done then failure = problem end
end
if failure then return redis.error_reply((served and 'PARTLY ' or '') .. problem_of(failure)) end
return reply
