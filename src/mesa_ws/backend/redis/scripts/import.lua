#!lua
-- Move the messages that @cryb/mesa 1.x keeps for an id into its outbox.
--
-- KEYS   1 the hash of 1.x, 2 position and 3 outbox of the id
-- ARGV   1 map, 2 the value that was read from the hash, then for each message: its id, its body
-- MAP    id: the id, which is the field of the hash
--        late: for how long a writer of 1.x may put the same value back (ms)
--        max_messages, max_bytes: limits of the outbox
--        ttl: life of the messages (ms)
--        over: how many of the first messages of the value are not here, because there is no room for them
-- REPLY  'none' when there is nothing, 'changed' when the value is another by now, else 'moved', messages moved,
--        messages known already, sequence, epoch, 1 if corrupt data was set aside, else 0
--
-- 1.x adds to the value by reading and writing it, so a moved value may come back with more messages after
-- it. Its length and digest identify the beginning, which is not moved twice.
-- Without allow-oom a full Redis refuses the script, and the value stays where it is.

local args = cmsgpack.unpack(ARGV[1])
local raw = try('HGET', KEYS[1], args.id)
if type(raw) ~= 'string' then return {'none'} end
if raw ~= ARGV[2] then return {'changed'} end
redis.call('HDEL', KEYS[1], '\0') -- no id: a user without the right to HDEL fails before the value is copied
local host = read_host()
local box = open_box(KEYS[2], KEYS[3], args.id, host)

-- How many messages of the value have been moved before. The value is a JSON list: what ended it
-- then, a bracket, is a comma when there is more.
local function known_already()
  local moved = redis.call('HMGET', box.m, 'lh', 'll', 'lt', 'ln')
  if not moved[1] or host.now - tonumber(moved[3]) > args.late then return 0 end
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

local known, count = known_already(), args.over + (#ARGV - 2) / 2
if known < args.over then pass_over(args.over - known) end
for n = math.max(known, args.over) + 1, count do
  local at = 1 + 2 * (n - args.over)
  if box.len > 0 then box.before = select(4, entry_at(box, 0)) end
  local entry = new_entry(ARGV[at], ARGV[at + 1], args.max_messages, args.max_bytes, args.ttl, host.now)
  append(box, entry)
  make_room(box, entry)
  note_dropped(box)
end
for field, value in pairs({
  lh = redis.sha1hex(string.sub(raw, 1, #raw - 1)), ll = #raw, lt = host.now, ln = count,
}) do change(box, field, value) end
save(box, string.format('%.0f', args.ttl + DAY))
redis.call('HDEL', KEYS[1], args.id)
return {'moved', math.max(0, count - known), known, box.s, box.e, box.is_aside}
