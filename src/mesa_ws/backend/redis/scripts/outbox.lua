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
  redis.call('DEL', box.o)
  box.a, box.t, box.f, box.x, box.len, box.is_new = 0, 0, '', '', 0, true
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
local function found(box, host, visits, user, is_wire2) -- rare
  local is_ours = box.id ~= '*'
  box.is_behind_loss = is_ours and redis.call('EXISTS', box.o) == 1
  local origin = is_ours and not box.is_behind_loss and read_origin(box, host, visits, is_wire2) or nil
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

-- Whether the list is intact, as far as its head shows. Expired entries at the head are dropped. A caller that
-- appends learns the length then.
local function load_list(box, now, appends)
  local raw = try('LINDEX', box.o, '0')
  if type(raw) == 'table' then return false end
  if not raw or not box.e then return true end
  local _, expires, _, before = read_entry(raw)
  box.before = before
  if appends and expires and expires > now then return true end
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
  box.len = len - over
  return true
end

-- Set a corrupt outbox aside, so that operators can look at it, and start with an empty one.
local function set_aside(box, host) -- rare
  for _, key in ipairs({box.m, box.o}) do put_aside(key) end
  box.is_aside, box.changes, box.g, box.is_behind_loss = 1, nil, nil, true
  begin(box, host)
end

-- Open the outbox of an id, to 'visit' it, to 'append' to it, or for something else; save() has to follow. A visit
-- does not create it; a caller that creates it may pass the user key, which holds the epochs of the id's
-- connections. After 'append', its length is not known before append().
local function open_box(m, o, id, host, purpose, user, is_wire2)
  local box, is_intact = load_hash(m, o, id)
  if not is_intact or not load_list(box, host.now, purpose == 'append') then
    set_aside(box, host)
  elseif not box.e then
    found(box, host, purpose == 'visit', user, is_wire2)
  elseif box.r ~= host.id and box.r ~= read_run(host, box.m) then -- the run usually still has its first id
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
local function surplus(box, max_messages, max_bytes) -- rare
  local low = math.max(0, box.len - max_messages)
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

-- The limits of an outbox, and the life of a message; as texts, how long its list and its hash live after it.
local function new_limits(max_messages, max_bytes, ttl)
  local hash = string.format('%.0f', ttl + DAY)
  return {
    max_messages = tonumber(max_messages), max_bytes = tonumber(max_bytes), ttl = tonumber(ttl),
    list = ttl, hash = hash,
  }
end

-- Why no message may be stored here now, as an error reply; nil where one may: clients of a master that was left
-- would lose it, as leave.lua says.
local function refusal(host, position, replicas)
  if try('GET', string.match(position, '^mesa:%b{}:') .. 'L') == host.id then
    return redis.error_reply('READONLY another master counts')
  end
  if replicas == '0' or host.replicas > 0 then return nil end
  return redis.error_reply('NOREPLICAS no replica is online')
end

-- Write the changes, and the next number.
local function save_with_number(box, ttl) -- rare
  change(box, 's', box.s)
  change(box, 't', box.t)
  save(box, ttl)
end

-- Take a number back whose message was not appended, and end the script; or one whose message made the list longer
-- than there are numbers, which shows that it is corrupt.
local function take_back(box, top, total, length) -- rare
  redis.call('HSET', box.m, 's', top, 't', total)
  if type(length) == 'table' then error(length) end
  redis.call('LTRIM', box.o, 0, -2)
end

-- Append a message under the next number: both are written, or neither is, and then the script ends. The
-- number comes first, since it can be taken back by the command that has just been allowed. Returns false where the
-- list is corrupt, which set_aside() cures.
local function append(box, id, body, limits, now)
  local top, total = box.s, box.t
  box.s, box.t = top + 1, total + #body
  if box.is_new or box.changes then
    save_with_number(box, limits.hash)
  else
    redis.call('PEXPIRE', box.m, limits.hash, 'GT')
    redis.call('HSET', box.m, 's', box.s, 't', box.t)
  end
  local header = struct.pack(ENTRY, now, now + limits.ttl, box.t, #id)
  local length = redis.pcall('RPUSH', box.o, header .. id .. body)
  if type(length) == 'table' or length > box.s then
    take_back(box, top, total, length)
    return false
  end
  box.len = length
  return true
end

-- After append(): drop the oldest messages if there are too many. Returns how many of those had not been
-- acknowledged.
local function make_room(box, limits)
  if box.len == 1 then
    redis.call('PEXPIRE', box.o, limits.list)
    return 0
  end
  redis.call('PEXPIRE', box.o, limits.list, 'GT')
  if box.len <= limits.max_messages and box.t - box.before <= limits.max_bytes then return 0 end
  local over, gone = surplus(box, limits.max_messages, limits.max_bytes), box.s - box.len
  if over == 0 then return 0 end
  redis.call('LTRIM', box.o, over, -1)
  box.len = box.len - over
  return math.max(0, gone + over - math.max(gone, box.a))
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
