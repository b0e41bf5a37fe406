#!lua
-- Move the messages that @cryb/mesa 1.x keeps for an id into its outbox.
--
-- KEYS  1 the hash of 1.x, 2 position and 3 outbox of the id
-- ARGV  1 the id, which is the field of the hash, 2 the value that was read from it, 3 for how long
--       a late writer of 1.x may put the same value back (ms), 4 most messages of the outbox,
--       5 most bytes of it, 6 life of the messages (ms), 7 how many of the first messages of the value
--       are not here, because those that are here leave no room for them,
--       then for each of the others: message id, body
--
-- 1.x adds to the value by reading and writing it, so a moved value may come back with more messages after
-- it. Its length and digest identify the beginning, which is not moved twice.
-- Without allow-oom a full Redis refuses the script, and the value stays where it is.
-- Returns {'none'} when there is nothing, {'changed'} when the value is another by now, else
-- {'moved', messages moved, messages known already, sequence, epoch, 1 if corrupt data was set
-- aside, else 0}.

local raw = try('HGET', KEYS[1], ARGV[1])
if type(raw) ~= 'string' then return {'none'} end
if raw ~= ARGV[2] then return {'changed'} end
redis.call('HDEL', KEYS[1], '\0') -- no id: a user without the right to HDEL fails before the value is copied
local host, ttl = read_host(), tonumber(ARGV[6])
local box = open_box(KEYS[2], KEYS[3], ARGV[1], host)

-- How many messages of the value have been moved before. The value is a JSON list: what ended it
-- then, a bracket, is a comma when there is more.
local function known_already()
  local moved = redis.call('HMGET', box.m, 'lh', 'll', 'lt', 'ln')
  if not moved[1] or host.now - tonumber(moved[3]) > tonumber(ARGV[3]) then return 0 end
  local length = tonumber(moved[2])
  local is_same = #raw >= length and redis.sha1hex(string.sub(raw, 1, length - 1)) == moved[1]
  if not is_same or (#raw > length and string.sub(raw, length, length) ~= ',') then return 0 end
  return tonumber(moved[4])
end

-- Number messages that are lost at once, with all that is before them.
local function pass_over(number)
  redis.call('DEL', box.o)
  box.len = 0
  change(box, 's', box.s + number)
  note_dropped(box)
end

local known, over = known_already(), tonumber(ARGV[7])
local count = over + (#ARGV - 7) / 2
if known < over then pass_over(over - known) end
for n = math.max(known, over) + 1, count do
  local at = 6 + 2 * (n - over)
  local message = {id = ARGV[at], body = ARGV[at + 1]}
  if box.len > 0 and not box.head then box.head = entry_at(box, 0) end
  append(box, message, ttl, host.now)
  make_room(box, ttl, tonumber(ARGV[4]), tonumber(ARGV[5]))
  note_dropped(box)
  box.head = nil
end
for field, value in pairs({
  lh = redis.sha1hex(string.sub(raw, 1, #raw - 1)), ll = #raw, lt = host.now, ln = count,
}) do change(box, field, value) end
save(box, ttl + DAY)
redis.call('HDEL', KEYS[1], ARGV[1])
return {'moved', math.max(0, count - known), known, box.s, box.e, box.is_aside}
