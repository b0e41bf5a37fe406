#!lua flags=no-writes
-- Read where outboxes stand.
--
-- KEYS  for each id: its position, its outbox
--
-- The reader has to add one range: all messages up to top-length that are above acknowledged and above
-- the last range were dropped, too.
-- Returns for each id {epoch, top, acknowledged, forks, dropped ranges, length}, or {} when it has
-- no outbox that can be read.

local reply = {}
for i = 1, #KEYS, 2 do
  local box = {m = KEYS[i]}
  local len = try('LLEN', KEYS[i + 1])
  local is_sound = load_hash(box) and box.e and type(len) == 'number' and len <= box.s
  reply[#reply + 1] = is_sound and {box.e, box.s, box.a, box.f, box.x, len} or {}
end
return reply
