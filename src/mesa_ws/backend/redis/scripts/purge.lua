#!lua flags=allow-oom
-- Drop the messages of ids. Those that were not acknowledged count as dropped.
--
-- KEYS   for each id: its position, its outbox
-- ARGV   the ids, in the order of KEYS
-- REPLY  for each id the number of dropped messages

local host, reply = read_host(), {}
for i = 1, #KEYS, 2 do
  local purged = 0
  if redis.call('EXISTS', KEYS[i], KEYS[i + 1]) > 0 then
    local box = open_box(KEYS[i], KEYS[i + 1], ARGV[(i + 1) / 2], host)
    purged, box.len = box.len, 0
    redis.call('DEL', box.o)
    note_dropped(box)
    change(box, 'a', box.s)
    save(box, POSITION_LIFE)
  end
  reply[#reply + 1] = purged
end
return reply
