#!lua flags=allow-oom
-- Record that a node holds connections of ids, and read their messages: in one step, so that every
-- message is either read here or published to the node.
--
-- KEYS  1 leases, 2 the held key of the node, 3 the ids with their graces, 4 signs,
--       then for each id: its position, its outbox, its user key
-- ARGV  1 node, 2 expiry (ms), 3 most entries of one page, 4 most bytes of it,
--       5 life of a position (ms), then for each id:
--       id, sockets, version, announced, mode, epoch, sequence, wire2
--
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
--
-- One call reads up to eight full pages; later ids get empty pages, whose top is above their start.
-- Returns 0 when the node has no lease: it has to join first, or no other node would clean up. Else for
-- each id {1 if it came online by this, else 0} or, unless mode is '', {the same, status, epoch,
-- top, start, lost, 1 if corrupt data was set aside, else 0, where the epoch of the position ended
-- if status is forked, else '', the rollback that ended it or '', entries...}; the entries are numbered
-- from start+1 on, and lost is how many messages are missing before them.

local PAGES, SHARED, ARGS = 8, 4, 8
local node, expiry, max_entries, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('TYPE', KEYS[2]).ok ~= 'set' then redis.call('DEL', KEYS[2]) end
if not lease_reader(KEYS[1], now_ms())(node) then return 0 end
local host, budget = nil, PAGES * max_bytes

-- The seat of an id with its new sockets, or nil when nothing has to be recorded; and whether it
-- is new.
local function take_seat(user, wish)
  if wish.sockets == '' then return nil, false end
  local recorded = try('HGET', user, node)
  if type(recorded) == 'table' then
    redis.call('DEL', user)
    recorded = false
  end
  local seat = read_seat(recorded)
  if seat and tonumber(wish.version) < seat.version then return nil, false end
  local is_new = not seat
  if is_new then
    local others = redis.call('HLEN', user) - (recorded and 1 or 0)
    local due = tonumber(redis.call('ZSCORE', KEYS[3], wish.id) or 'inf')
    local was_away = due == math.huge or is_untold(KEYS[4], due, now_ms())
    redis.call('ZADD', KEYS[3], '+inf', wish.id)
    seat = {floor = '0', epoch = '-', first = others == 0 and was_away and '1' or '0'}
  end
  if wish.announced == '1' then seat.first = '0' end
  seat.sockets, seat.version = wish.sockets, wish.version
  return seat, is_new
end

-- A page of an opened outbox, or nil when it turns out to be corrupt.
local function read(box, wish)
  local status, wanted, ended, rollback, entries = 'fresh', box.a, '', '', {}
  if wish.mode == 'top' or wish.mode == 'acknowledge' then
    wanted = box.s
  elseif wish.mode ~= 'fresh' then
    status, wanted, ended, rollback = locate(box, wish.epoch, wish.sequence, host)
  end
  local start = math.max(wanted, box.s - box.len)
  if budget > 0 then
    entries = page(box, start, max_entries, math.min(max_bytes, budget))
    if not entries then return nil end
  end
  for _, raw in ipairs(entries) do budget = budget - #raw end
  local reply = {status, box.e, box.s, start, start - wanted, box.is_aside, ended, rollback, unpack(entries)}
  return {start = start, reply = reply}
end

-- Read what the wish asks for, and update the outbox and the seat.
local function serve(position, outbox, wish, seat, is_new)
  host = host or read_host()
  local box = open_box(position, outbox, wish.id, host, true, nil, wish.wire2 == '1')
  local found = read(box, wish)
  if not found then
    set_aside(box, host)
    found = read(box, wish)
  end
  note_dropped(box)
  if wish.mode == 'acknowledge' then change(box, 'a', box.s) end
  if wish.wire2 == '1' then change(box, 'w', host.now) end
  save(box, ARGV[5])
  -- The list may be about to expire because every connection had all of it; this one has not.
  if found.start < box.s then redis.call('PEXPIRE', outbox, ARGV[5], 'GT') end
  if seat and is_new then
    -- What other connections of this node have received is unknown here.
    if wish.sockets == '1' then seat.floor, seat.epoch = found.start, box.e end
  elseif seat and seat.epoch == box.e then
    seat.floor = math.min(tonumber(seat.floor), found.start)
  end
  return found.reply
end

local replies = {}
for n = 1, (#KEYS - SHARED) / 3 do
  local at, key = 6 + ARGS * (n - 1), SHARED + 3 * n - 2
  local wish = {
    id = ARGV[at], sockets = ARGV[at + 1], version = ARGV[at + 2], announced = ARGV[at + 3],
    mode = ARGV[at + 4], epoch = ARGV[at + 5], sequence = ARGV[at + 6], wire2 = ARGV[at + 7],
  }
  local seat, is_new = take_seat(KEYS[key + 2], wish)
  local reply = {}
  if wish.mode == '' then
    redis.call('PEXPIRE', KEYS[key], ARGV[5], 'GT')
  else
    reply = serve(KEYS[key], KEYS[key + 1], wish, seat, is_new)
  end
  if seat then
    write_seat(KEYS[key + 2], node, seat)
    redis.call('SADD', KEYS[2], wish.id)
    redis.call('PEXPIRE', KEYS[key + 2], expiry)
  end
  table.insert(reply, 1, tonumber(seat and seat.first or '0'))
  replies[n] = reply
end
for i = 2, 3 do redis.call('PEXPIRE', KEYS[i], expiry) end
return replies
