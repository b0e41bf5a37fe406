#!lua flags=no-writes
-- Read where outboxes stand, and their oldest messages.
--
-- KEYS   for each id: its position, its outbox
-- ARGV   1 most messages of one outbox, or 0
-- REPLY  for each id {epoch, top, acknowledged, forks, dropped ranges, length, entries...}, or {} when it has no
--        outbox that can be read; the entries are numbered from top-length+1 on
--
-- Messages at the head whose life is over count as dropped; they leave with the next script that may write.
-- The reader has to add one range: all messages up to top-length that are above acknowledged and above
-- the last range were dropped, too.

local now, reply = now_ms(), {}

-- How many of the first entries have expired.
local function expired(box)
  for n = 0, box.len - 1 do
    local _, expires = entry_at(box, n)
    if not expires or expires > now then return n end
  end
  return box.len
end

for i = 1, #KEYS, 2 do
  local box = existing_box(KEYS[i], KEYS[i + 1])
  local over = box and expired(box) or 0
  local entries = box and ARGV[1] ~= '0' and redis.call('LRANGE', box.o, over, over + ARGV[1] - 1) or {}
  reply[#reply + 1] = box and {box.e, box.s, box.a, box.f, box.x, box.len - over, unpack(entries)} or {}
end
return reply
