-- Put after the prelude of every script that numbers or reads messages.
--
-- An outbox is a HASH and a LIST. The list holds the entries numbered top-length+1 .. top, so a
-- number is never stored with an entry, and entries leave the list only at its head.
--
-- HASH  e  epoch: 16 hex digits, not to be guessed, and different for every id
--       s  top: the newest number; it never falls while the epoch lasts
--       a  acknowledged: the highest number that some connection of the id has acknowledged
--       r  the run of Redis that numbered last; see runs.lua
--       f  forks 'epoch:top,epoch:top', newest first: older epochs, and where each one ended
--       t  bytes of all bodies ever stored
--       d  number of messages ever dropped without having been acknowledged
--       x  the last eight ranges of those, 'low-high,low-high', newest last
--       w  time when a wire-2 client was attached last (ms); messages that it may return for are kept
--       h  hints, by which most messages are appended without a look at the list; see below
-- ENTRY '>dddB' time (ms), time of expiry (ms), t up to and with this entry, length of the message
--       id; the message id; the body
--
-- When a run ends, numbers may have been rolled back. The same number may then belong to another message,
-- so the epoch forks: numbers go on from the state of this Redis, under a new epoch, and the fork tells up
-- to where a position of an older epoch still holds.
--
-- Dropped messages are computed, not recorded: all up to top-length that are above acknowledged and above
-- the last range. So they are also known after the whole list expired.
--
-- Corrupt data is set aside under z: for operators, and the id starts with an empty outbox.
--
-- HINTS 'c16c16>dddd'  r and e; a time before which the head of the list has not expired; bytes of all bodies before
--       some earlier head; a time L, until which the list lives, and the hash a day longer; the number N of the
--       message with which the list got that life. They have 64 bytes, so that Redis keeps the hash compact.
--
-- A message that is appended without hints leaves some. Hints of another run do not count, and neither do hints by
-- which the head may have expired, the message would outlive L, or too many bytes may be stored: then append() looks
-- at the list. Scripts that do not know hints leave them true: entries leave at the head only, nothing shortens the
-- life of the hash, and only ack.lua shortens that of the list, when all of it is acknowledged: not since N, while
-- a < N <= s. What hints pass over is found by readers, which look at all they read: corrupt data, and a head that
-- has expired behind messages with a longer life.
--
-- Nothing is kept of an id before its first message is stored. The position that it is given before that can
-- be computed again: number 0 of an epoch that is made of a secret of the namespace, the run, the day and
-- the id. An outbox begins in that epoch, and is known for longer (BORN) than such a position (DAYS and
-- today): so without a hash, nothing was stored since the position was given out, and an epoch is never
-- begun twice. A Redis that evicts keys would break that: there a hash is kept from the first visit on.
--
-- HASH  g  1 for an outbox that began so: positions of such epochs, which are before its first message, hold.
--       Without it, the outbox began after a loss, and is known for as long: clients with such an earlier
--       position learn of the loss.
-- SECRET, HASH  k  random; r  the last runs, newest first; w  the last day on which a wire-2 client was given
--       such a position: outboxes that begin later keep the messages that it may return for

local ENTRY = '>dddB'
local ENTRY_SIZE = 25
local HINTS = 'c16c16>dddd'
local HINTS_SIZE = 64
local DAY = 86400000
local DAYS = 8
local BORN = 10 * DAY
local MAX_RUNS = 5
local MAX_FORKS = 160
local MAX_RANGES = 8

-- The time and the expiry of an entry, and the bytes of all bodies up to it and before it; nil when it is no entry.
local function read_entry(raw)
  if not raw or #raw < ENTRY_SIZE then return nil end
  local at, expires, total, size = struct.unpack(ENTRY, raw)
  local body = #raw - ENTRY_SIZE - size
  if body < 0 then return nil end
  return at, expires, total, total - body
end

local function entry_at(box, index)
  return read_entry(redis.call('LINDEX', box.o, index))
end

-- Changes are gathered and written by save().
local function change(box, field, value)
  box.changes = box.changes or {}
  box[field], box.changes[field] = value, value
end

-- Whether this Redis evicts keys when it is full.
local function evicts()
  local info = redis.call('INFO', 'memory')
  return not string.find(info, 'maxmemory_policy:noeviction', 1, true)
    and not string.find(info, 'maxmemory:0\r', 1, true)
end

-- The values from which the epochs of empty outboxes are made, or nil without them. A visit creates them.
local function read_origin(box, host, visits, is_wire2)
  local key, run = string.match(box.m, '^mesa:%b{}:') .. 's', read_run(host, box.m)
  if evicts() then
    redis.call('DEL', key)
    return nil
  end
  local found, today = try('HMGET', key, 'k', 'r', 'w'), math.floor(host.now / DAY)
  if found.err then
    put_aside(key)
    found = {false, false, false}
  end
  local secret, runs = found[1], found[2] or ''
  if not secret and not visits then return nil end
  if not secret or string.sub(runs, 1, #run) ~= run then
    secret = secret or redis.sha1hex(table.concat({host.id, host.time[1], host.time[2], key}, ':'))
    runs = string.sub(run .. ',' .. runs, 1, MAX_RUNS * (#run + 1))
    redis.call('HSET', key, 'k', secret, 'r', runs)
  end
  if is_wire2 and tonumber(found[3]) ~= today then redis.call('HSET', key, 'w', today) end
  if visits then redis.call('PEXPIRE', key, BORN) end
  local has_wire2 = found[3] and today - tonumber(found[3]) <= DAYS + 1
  return {secret = secret, run = run, runs = runs, today = today, has_wire2 = has_wire2}
end

-- The epoch of an id on a day and in a run.
local function derived(origin, run, day, id)
  return string.sub(redis.sha1hex(origin.secret .. ':' .. run .. ':' .. day .. ':' .. id), 1, 16)
end

-- Whether an epoch was given out for an empty outbox of this id, in this run or also in others. The
-- clock may have stepped back over midnight.
local function is_derived(origin, epoch, id, runs)
  for run in string.gmatch(runs, '%x+') do
    for day = origin.today + 1, origin.today - DAYS, -1 do
      if derived(origin, run, day, id) == epoch then return true end
    end
  end
  return false
end

local function new_epoch(box, host)
  return string.sub(redis.sha1hex(table.concat({host.id, host.time[1], host.time[2], box.id}, ':')), 1, 16)
end

-- Start with an empty outbox, under the given epoch, or a new one.
local function begin(box, host, epoch)
  if box.is_listed then redis.call('DEL', box.o) end
  box.a, box.t, box.f, box.x, box.len, box.is_new, box.before, box.expires = 0, 0, '', '', 0, true, 0, nil
  change(box, 'e', epoch or new_epoch(box, host))
  change(box, 'r', read_run(host, box.m))
  change(box, 's', 0)
end

-- The epochs that the id's connections were given, before there was an outbox or in it.
local function epochs_of(user)
  local fields, epochs = user and try('HGETALL', user) or {}, {}
  for i = 2, fields.err and 0 or #fields, 2 do
    local seat = read_seat(fields[i])
    epochs[#epochs + 1] = seat and seat.epoch
  end
  return epochs
end

-- An outbox that does not exist. A visit leaves nothing behind, unless a list without a hash shows that
-- messages were lost. The first message creates it, in the epoch of a connection if that is of this run.
local function found(box, host, wire2, user) -- rare
  local visits = wire2 ~= nil
  local is_ours = box.id ~= '*'
  box.is_behind_loss = is_ours and box.is_listed
  local origin = is_ours and not box.is_behind_loss and read_origin(box, host, visits, wire2 == '1') or nil
  if not origin then return begin(box, host) end
  local epoch = derived(origin, origin.run, origin.today, box.id)
  if visits then
    box.e, box.r, box.s, box.a, box.t, box.f, box.x, box.len = epoch, origin.run, 0, 0, 0, '', '', 0
    box.is_unborn, box.g = true, '1'
    return
  end
  for _, known in ipairs(epochs_of(user)) do
    if known == epoch then break end
    if is_derived(origin, known, box.id, origin.run) then
      epoch = known
      break
    end
  end
  begin(box, host, epoch)
  change(box, 'g', '1')
  if origin.has_wire2 then change(box, 'w', host.now) end
end

local function fork(box, host) -- rare
  local forks = box.e .. ':' .. box.s .. (box.f ~= '' and ',' .. box.f or '')
  if #forks > MAX_FORKS then forks = string.match(string.sub(forks, 1, MAX_FORKS + 1), '^(.*),') end
  change(box, 'f', forks)
  change(box, 'e', new_epoch(box, host))
  change(box, 'r', read_run(host, box.m))
end

-- An outbox with what its hash holds, and whether the hash is intact. Without a hash there is no epoch.
local function load_hash(position, outbox, id)
  local found = try('HMGET', position, 'e', 's', 'a', 'r', 'f', 't', 'x', 'w', 'g')
  local epoch, top, acknowledged, run, forks, total, ranges, wire2, given = unpack(found, 1, 9)
  local box = {
    m = position, o = outbox, id = id, e = epoch, s = natural(top), a = natural(acknowledged or '0'), r = run,
    f = forks or '', t = natural(total or '0'), x = ranges or '', w = wire2, g = given,
    len = 0, is_aside = 0, before = false,
  }
  if not epoch then return box, not (found.err or top or run) end
  local is_intact = #epoch == 16 and not string.find(epoch, '%X') and run
    and box.s and box.a and box.a <= box.s and box.t
    and (box.f == '' or not string.find(box.f, '[^%x:,]')) and (box.x == '' or not string.find(box.x, '[^%d,-]'))
  return box, is_intact
end

-- An outbox as it is, which nothing is to be stored in; nil when it does not exist or cannot be read.
local function existing_box(position, outbox)
  local box, is_intact = load_hash(position, outbox)
  if not is_intact or not box.e then return nil end
  box.len = try('LLEN', outbox)
  return type(box.len) == 'number' and box.len <= box.s and box or nil
end

-- Whether the list is intact, as far as its head shows. Expired entries at the head are dropped.
local function load_list(box, now)
  local raw = try('LINDEX', box.o, '0')
  if type(raw) == 'table' then return false end
  if not box.e then box.is_listed = raw ~= false end
  if not raw or not box.e then return true end
  local _, expires, _, before = read_entry(raw)
  box.before = before
  local len, over = redis.call('LLEN', box.o), 0
  if len > box.s then return false end
  while expires and expires <= now and over < len do
    over = over + 1
    if over < len then
      _, expires, _, box.before = read_entry(redis.call('LINDEX', box.o, over))
    end
  end
  if not expires then return false end
  if over > 0 then redis.call('LTRIM', box.o, over, -1) end
  box.len, box.expires = len - over, over < len and expires or nil
  return true
end

-- Set a corrupt outbox aside, so that operators can look at it, and start with an empty one.
local function set_aside(box, host) -- rare
  for _, key in ipairs({box.m, box.o}) do put_aside(key) end
  box.is_aside, box.changes, box.g, box.is_listed, box.is_behind_loss = 1, nil, nil, false, true
  begin(box, host)
end

-- Whether numbers were given last in another run; the run usually still has its first id.
local function is_of_other_run(run, host, key)
  return run ~= host.id and run ~= read_run(host, key)
end

-- Open the outbox of an id; save() has to follow. A visit does not create it: that of a wire-2 client passes '1', any
-- other one '0'. A caller that creates it may pass the user key, which holds the epochs of the id's connections.
local function open_box(m, o, id, host, wire2, user)
  local box, is_intact = load_hash(m, o, id)
  if not is_intact or not load_list(box, host.now) then
    set_aside(box, host)
  elseif not box.e then
    found(box, host, wire2, user)
  elseif is_of_other_run(box.r, host, box.m) then
    fork(box, host)
  end
  return box
end

-- Record the messages that left the list without having been acknowledged.
local function note_dropped(box)
  local gone = box.s - box.len
  if gone <= box.a then return end
  local last = natural(string.match(box.x, '(%d+)$')) or 0
  local from = math.max(box.a, last)
  if gone <= from then return end
  local ranges = box.x
  if ranges ~= '' and last == from then
    ranges = string.gsub(ranges, '%d+$', string.format('%.0f', gone))
  else
    ranges = ranges .. (ranges ~= '' and ',' or '') .. string.format('%.0f-%.0f', from + 1, gone)
    if select(2, string.gsub(ranges, ',', '')) >= MAX_RANGES then
      ranges = string.gsub(ranges, '^[^,]*,', '')
    end
  end
  redis.call('HINCRBY', box.m, 'd', gone - from)
  change(box, 'x', ranges)
end

-- Write the changes.
local function write(box)
  local changes = {}
  for field, value in pairs(box.changes or {}) do
    changes[#changes + 1] = field
    changes[#changes + 1] = value
  end
  if #changes > 0 then redis.call('HSET', box.m, unpack(changes)) end
  box.changes = nil
end

-- Record what was dropped, and write it.
local function write_dropped(box) -- rare
  box.x = box.x or redis.call('HMGET', box.m, 'x')[1] or ''
  note_dropped(box)
  if box.changes then write(box) end
end

-- Create the hash of an outbox, and write the changes.
local function create(box, ttl) -- rare
  if box.g or box.is_behind_loss then ttl = math.max(tonumber(ttl), BORN) end
  redis.call('PEXPIRE', box.m, ttl)
  write(box)
  redis.call('PEXPIRE', box.m, ttl)
  box.is_new = false
end

-- Write the changes. The position of an id outlives its messages, but not forever. The expiry comes first:
-- if it is refused, nothing has been written.
local function save(box, ttl)
  if box.is_unborn then return end
  if box.is_new then return create(box, ttl) end
  redis.call('PEXPIRE', box.m, ttl, 'GT')
  if box.changes then write(box) end
end

-- The number of entries that have to leave the head to make room for the newest one, which always stays.
local function surplus(box, max_messages, max_bytes)
  local low = math.max(0, box.len - max_messages)
  if box.t - box.before <= max_bytes then return low end
  local function fits(over)
    if over >= box.len - 1 then return true end
    local _, _, _, before = entry_at(box, over)
    return box.t - before <= max_bytes
  end
  if fits(low) then return low end
  local high = box.len - 1
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if fits(middle) then high = middle else low = middle end
  end
  return high
end

-- An entry that is to be appended to outboxes, in the pieces before and after the bytes of all bodies. With the
-- limits of these outboxes, and the time until which a list lives that is extended for it, which is longer than its
-- own, so that most later messages need not extend it.
local function new_entry(id, body, max_messages, max_bytes, ttl, now)
  local expires = now + ttl
  return {
    times = struct.pack('>dd', now, expires), rest = struct.pack('>B', #id) .. id .. body, size = #body,
    now = now, expires = expires, lasts = expires + math.floor(ttl / 16),
    max_messages = tonumber(max_messages), max_bytes = tonumber(max_bytes),
  }
end

-- Why no message may be stored here now, as an error reply; nil where one may: clients of a master that was left
-- would lose it, as leave.lua says. A user that may let no key expire fails before anything is written.
local function refusal(host, position, replicas)
  if try('GET', string.match(position, '^mesa:%b{}:') .. 'L') == host.id then
    return redis.error_reply('READONLY another master counts')
  end
  if not redis.acl_check_cmd('PEXPIRE', position, '1') then redis.call('PEXPIRE', position, '1') end
  if replicas == '0' or host.replicas > 0 then return nil end
  return redis.error_reply('NOREPLICAS no replica is online')
end

-- Take a number back whose message was not appended, and end the script unless that is due to the data; or a number
-- whose message made the list longer than there are numbers.
local function take_back(box, top, total, length) -- rare
  redis.call('HSET', box.m, 's', top, 't', total)
  if type(length) == 'table' then return check_data(length) end
  redis.call('LTRIM', box.o, 0, -2)
end

-- The outbox to which a message was appended by hints last. One table for all of them, with room for its fields, as
-- Redis takes long to collect many.
local HINTED = {m = '', o = '', id = '', e = '', s = 0, digits = '', a = 0, t = 0, before = 0, is_aside = 0}

-- Append an entry to an outbox by its hints: number and message are written, or neither is, and then the script ends.
-- The number comes first, since it can be taken back by the command that has just been allowed. Returns HINTED; nil
-- where hints do not count, or where the list turns out to be corrupt.
local function append_by_hints(m, o, id, host, entry)
  local found = redis.pcall('HMGET', m, 'h', 's', 'a', 't')
  local hints, top, acknowledged, total = found[1], tonumber(found[2]), tonumber(found[3] or '0'), tonumber(found[4])
  local is_read = hints and #hints == HINTS_SIZE and top and total and acknowledged and acknowledged <= top
  if not is_read then return nil end
  local run, epoch, ends, before, lasts, since = struct.unpack(HINTS, hints)
  local expires, sum, number = entry.expires, total + entry.size, top + 1
  local is_true = ends > entry.now and ends <= expires and lasts >= expires and sum - before <= entry.max_bytes
  if not is_true or is_of_other_run(run, host, m) then return nil end
  local digits, is_lasting = string.format('%d', number), acknowledged < since and since <= top
  if is_lasting or acknowledged == top then -- then the next acknowledgement would end what a new hint says
    redis.call('HSET', m, 's', digits, 't', string.format('%d', sum))
  else
    hints = string.sub(hints, 1, -9) .. struct.pack('>d', number)
    redis.call('HSET', m, 's', digits, 't', string.format('%d', sum), 'h', hints)
  end
  local length = redis.pcall('RPUSH', o, entry.times .. struct.pack('>d', sum) .. entry.rest)
  local box = HINTED
  box.m, box.o, box.id, box.e, box.s, box.digits, box.a, box.x = m, o, id, epoch, number, digits, acknowledged, nil
  box.t, box.before, box.len, box.lasts, box.is_lasting = sum, before, length, lasts, is_lasting
  if type(length) == 'table' or length > number then return take_back(box, top, total, length) end
  return box
end

-- Append an entry to an opened outbox in the same way, and leave hints.
local function append(box, entry)
  local top, total, expires = box.s, box.t, entry.expires
  local ends, before, lasts = math.min(box.expires or expires, expires), box.before or total, entry.lasts
  change(box, 's', top + 1)
  change(box, 't', total + entry.size)
  change(box, 'h', struct.pack(HINTS, box.r, box.e, ends, before, lasts, top + 1))
  save(box, string.format('%d', lasts - entry.now + DAY))
  local length = redis.pcall('RPUSH', box.o, entry.times .. struct.pack('>d', box.t) .. entry.rest)
  if type(length) == 'table' then
    take_back(box, top, total, length)
    error(length)
  end
  box.expires, box.before, box.lasts, box.len, box.digits = ends, before, lasts, length, string.format('%d', box.s)
end

-- Append an entry to the outbox of an id, which need not exist, and is set aside if it is corrupt.
local function append_without_hints(m, o, id, host, entry, user) -- rare
  local box = open_box(m, o, id, host, nil, user)
  append(box, entry)
  return box
end

-- Drop the oldest messages. Returns how many of them had not been acknowledged.
local function displace(box, entry) -- rare
  local over, gone = surplus(box, entry.max_messages, entry.max_bytes), box.s - box.len
  if over == 0 then return 0 end
  redis.call('LTRIM', box.o, over, -1)
  box.len = box.len - over
  return math.max(0, gone + over - math.max(gone, box.a))
end

-- After a message was appended: extend the life of the list, and drop the oldest messages if there are too many.
-- Returns how many of those had not been acknowledged.
local function make_room(box, entry)
  if box.len == 1 then
    redis.call('PEXPIRE', box.o, string.format('%d', box.lasts - entry.now))
    return 0
  end
  if not box.is_lasting then redis.call('PEXPIRE', box.o, string.format('%d', box.lasts - entry.now), 'GT') end
  if box.len <= entry.max_messages and box.t - box.before <= entry.max_bytes then return 0 end
  return displace(box, entry)
end

-- Where an older epoch ended, or nil if there was no such epoch.
local function fork_point(box, epoch) -- rare
  for known, top in string.gmatch(box.f, '(%x+):(%d+)') do
    if known == epoch then return natural(top) end
  end
end

-- The public name of a rollback: all forks of one rollback have the same name. The run itself stays secret,
-- since epochs are made of it.
local function rollback_name(run)
  return string.sub(redis.sha1hex('rollback:' .. run), 1, 16)
end

-- The status of a position; the number after which messages follow for a client at that position; where its
-- epoch ended if it is an older one, else ''; and the rollback that ended it, or '' if none did. A position
-- that this outbox never gave out is not trusted.
local function locate(box, epoch, sequence, host)
  local wanted = natural(sequence)
  if wanted and epoch == box.e and wanted <= box.s then return 'resumed', wanted, '', '' end
  local ended = wanted and fork_point(box, epoch)
  if ended then return 'forked', math.min(wanted, ended), ended, rollback_name(box.r) end
  local origin = wanted == 0 and box.g and host and read_origin(box, host)
  if not origin or not is_derived(origin, epoch, box.id, origin.runs) then return 'reset', box.a, '', '' end
  local is_of_this_run = is_derived(origin, epoch, box.id, origin.run)
  return 'forked', 0, 0, is_of_this_run and '' or rollback_name(box.r)
end

-- The entries after a number, as many as fit; the first one always does. nil when one of them is corrupt.
local function page(box, start, max_entries, max_bytes)
  local skipped, count = start - (box.s - box.len), math.min(box.s - start, max_entries)
  if count <= 0 then return {} end
  local _, _, _, before = entry_at(box, skipped)
  if not before then return nil end
  local function fits(n)
    local _, _, total = entry_at(box, skipped + n - 1)
    return total and total - before <= max_bytes
  end
  if not fits(count) then
    local low, high = 1, count
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if fits(middle) then low = middle else high = middle end
    end
    count = low
  end
  local entries = redis.call('LRANGE', box.o, skipped, skipped + count - 1)
  for _, raw in ipairs(entries) do
    if not read_entry(raw) then return nil end
  end
  return entries
end
