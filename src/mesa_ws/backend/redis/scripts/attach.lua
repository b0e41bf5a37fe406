#!lua flags=allow-oom
-- Record that a node holds connections of ids, and read their messages.
--
-- KEYS   1 leases, 2 the held key of the node, 3 the ids with their graces, 4 signs,
--        then for each id: its position, its outbox, its user key
-- ARGV   1 node, 2 life of its keys (ms), then for each id: id, sockets, version, announced, mode, epoch,
--        sequence, wire2
-- REPLY  0 when the node has no lease: it has to join first, or no other node would clean up. Else for each id
--        {1 if it came online by this, else 0} or, with a mode, {the same, status, epoch, top, start, lost, 1 if
--        corrupt data was set aside, else 0, where the epoch of the position ended if status is forked, else '',
--        the rollback that ended it or '', entries...}; the entries are numbered from start+1 on, and lost is how
--        many messages are missing before them.
--
-- All in one step, so that every message is either read here or published to the node.
-- Sockets '' records nothing, and only reads on. A version older than the recorded one records
-- nothing. A user key of another type is not Mesa's and is replaced, which repairs the id.
-- Announced is 1 when the node has announced the id as online, so that the reply does not say it again.
-- Mode says what is read:
--   ''            nothing; the outbox is not touched, and its position lives on
--   fresh         the messages after the acknowledged ones
--   resume, read  the messages after the position of epoch and sequence
--   top           nothing: the stored messages are left to other connections
--   acknowledge   nothing: the stored messages are acknowledged; the next ack.lua drops them
-- Wire2 is 1 for a client that may return with a position: from now on messages are kept a while after
-- they were acknowledged.
-- The floor of the node becomes the start of this page if it had none and has one connection, or keeps
-- its value if that is lower, or stays unknown; ack.lua raises it.
-- One call reads up to eight full pages; later ids get empty pages, whose top is above their start.

local PAGES, SHARED, ARGS = 8, 4, 8
local node, expiry = ARGV[1], ARGV[2]
if redis.call('TYPE', KEYS[2]).ok ~= 'set' then redis.call('DEL', KEYS[2]) end
if not lease_reader(KEYS[1], now_ms())(node) then return 0 end
local host, budget = nil, PAGES * MAX_BYTES

-- The seat of an id with its new sockets, or nil when nothing has to be recorded; and whether it
-- is new.
local function take_seat(user, visit)
  if visit.sockets == '' then return nil, false end
  local recorded = try('HGET', user, node)
  if type(recorded) == 'table' then
    redis.call('DEL', user)
    recorded = false
  end
  local seat = read_seat(recorded)
  if seat and tonumber(visit.version) < seat.version then return nil, false end
  local is_new = not seat
  if is_new then
    local others = redis.call('HLEN', user) - (recorded and 1 or 0)
    local due = tonumber(redis.call('ZSCORE', KEYS[3], visit.id) or 'inf')
    local was_away = due == math.huge or is_untold(KEYS[4], due, now_ms())
    redis.call('ZADD', KEYS[3], '+inf', visit.id)
    seat = {floor = '0', epoch = '-', first = others == 0 and was_away and '1' or '0'}
  end
  if visit.announced == '1' then seat.first = '0' end
  seat.sockets, seat.version = visit.sockets, visit.version
  return seat, is_new
end

-- A page of an opened outbox, or nil when it turns out to be corrupt.
local function read(box, visit)
  local status, wanted, ended, rollback, entries = 'fresh', box.a, '', '', {}
  if visit.mode == 'top' or visit.mode == 'acknowledge' then
    wanted = box.s
  elseif visit.mode ~= 'fresh' then
    status, wanted, ended, rollback = locate(box, visit.epoch, visit.sequence, host)
  end
  local start = math.max(wanted, box.s - box.len)
  if budget > 0 then
    entries = page(box, start, MAX_ENTRIES, math.min(MAX_BYTES, budget))
    if not entries then return nil end
  end
  for _, raw in ipairs(entries) do budget = budget - #raw end
  local reply = {status, box.e, box.s, start, start - wanted, box.is_aside, ended, rollback, unpack(entries)}
  return {start = start, reply = reply}
end

-- Read what the visit asks for, and update the outbox and the seat.
local function serve(position, outbox, visit, seat, is_new)
  host = host or read_host()
  local box = open_box(position, outbox, visit.id, host, visit.wire2)
  local found = read(box, visit)
  if not found then
    set_aside(box, host)
    found = read(box, visit)
  end
  note_dropped(box)
  if visit.mode == 'acknowledge' then change(box, 'a', box.s) end
  if visit.wire2 == '1' then change(box, 'w', host.now) end
  save(box, POSITION_LIFE)
  -- The list may be about to expire because every connection had all of it; this one has not.
  if found.start < box.s then redis.call('PEXPIRE', outbox, POSITION_LIFE, 'GT') end
  if seat and is_new then
    -- What other connections of this node have received is unknown here.
    if visit.sockets == '1' then seat.floor, seat.epoch = found.start, box.e end
  elseif seat and seat.epoch == box.e then
    seat.floor = math.min(tonumber(seat.floor), found.start)
  end
  return found.reply
end

local replies = {}
for n = 1, (#KEYS - SHARED) / 3 do
  local key, at = SHARED + 3 * n - 2, 3 + ARGS * (n - 1)
  local position, outbox, user = KEYS[key], KEYS[key + 1], KEYS[key + 2]
  local visit = {
    id = ARGV[at], sockets = ARGV[at + 1], version = ARGV[at + 2], announced = ARGV[at + 3],
    mode = ARGV[at + 4], epoch = ARGV[at + 5], sequence = ARGV[at + 6], wire2 = ARGV[at + 7],
  }
  local seat, is_new = take_seat(user, visit)
  local reply = {}
  if visit.mode == '' then
    redis.call('PEXPIRE', position, POSITION_LIFE, 'GT')
  else
    reply = serve(position, outbox, visit, seat, is_new)
  end
  if seat then
    write_seat(user, node, seat)
    redis.call('SADD', KEYS[2], visit.id)
    redis.call('PEXPIRE', user, expiry)
  end
  table.insert(reply, 1, tonumber(seat and seat.first or '0'))
  replies[n] = reply
end
for i = 2, 3 do redis.call('PEXPIRE', KEYS[i], expiry) end
return replies
