#!lua flags=allow-oom
-- Record acknowledgements of a node's connections, and drop the messages that no connection needs.
--
-- KEYS   1 leases, then for each id: its position, its outbox, its user key
-- ARGV   1 node, 2 window: for how long messages are kept for wire-2 clients that come back (ms), then for each id:
--        epoch, highest sequence acknowledged by one connection, floor: lowest sequence that all of them have
--        acknowledged, version
-- REPLY  for each id the acknowledged sequence, or -1 if this acknowledgement was not accepted
--
-- A position of an older epoch counts up to where that epoch ended. A position that was never given out
-- is not trusted: neither another epoch nor a sequence above the top. The floor is recorded unless a
-- newer version exists, which came with a floor of its own.
-- A message is dropped when it is acknowledged, and all connections on all living nodes have it; a node
-- whose floor is of another epoch counts as having nothing. If a wire-2 client was there, the message
-- must also be older than the window.

local node, window, now = ARGV[1], tonumber(ARGV[2]), now_ms()
local is_live = lease_reader(KEYS[1], now)

-- The lowest floor of all living nodes, this one included.
local function lowest(user, epoch)
  local fields, low = redis.call('HGETALL', user), math.huge
  for i = 1, #fields, 2 do
    if is_live(fields[i]) then
      local seat = read_seat(fields[i + 1])
      low = math.min(low, seat and seat.epoch == epoch and tonumber(seat.floor) or 0)
    end
  end
  return low
end

-- How many of the first entries are older than the window.
local function aged(box, count)
  local function is_old(n)
    local at = entry_at(box, n - 1)
    return not at or at <= now - window
  end
  if count == 0 or is_old(count) then return count end
  local low, high = 0, count
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if is_old(middle) then low = middle else high = middle end
  end
  return low
end

local function drop_unneeded(box, user)
  local unneeded = math.min(box.a, lowest(user, box.e)) - (box.s - box.len)
  if unneeded <= 0 then return end
  local count = box.w and aged(box, unneeded) or unneeded
  if count > 0 then redis.call('LTRIM', box.o, count, -1) end
  -- Every connection has received all remaining messages.
  if unneeded == box.len and count < unneeded then redis.call('PEXPIRE', box.o, window) end
end

-- The sequences as numbers of the present epoch, or nil. The floor may be above the highest:
-- connections that left older messages to others report what they have, and acknowledge nothing.
local function translate(box, epoch, sequence, floor)
  local high, low, top = natural(sequence), natural(floor), box.s
  if not high or not low then return nil end
  if epoch ~= box.e then
    top = fork_point(box, epoch)
    if not top then return nil end
    high = math.min(high, top)
  end
  if high > box.s then return nil end
  return high, math.min(low, top, box.s)
end

local function acknowledge(position, outbox, user, epoch, sequence, floor, version)
  local box = existing_box(position, outbox)
  if not box then return -1 end
  local high, low = translate(box, epoch, sequence, floor)
  if not high then return -1 end
  local recorded = try('HGET', user, node)
  if type(recorded) == 'table' then return -1 end
  local seat = read_seat(recorded)
  if seat and tonumber(version) >= seat.version then
    seat.floor, seat.epoch = low, box.e
    write_seat(user, node, seat)
  end
  if high > box.a then
    note_dropped(box)
    change(box, 'a', high)
  end
  save(box, DAY)
  drop_unneeded(box, user)
  return box.a
end

local reply = {}
for n = 1, (#KEYS - 1) / 3 do
  local key, at = 3 * n - 1, 4 * n - 1
  reply[n] = acknowledge(KEYS[key], KEYS[key + 1], KEYS[key + 2], unpack(ARGV, at, at + 3))
end
return reply
