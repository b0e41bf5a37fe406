#!lua flags=allow-oom
-- Read messages to everybody (*) after a position.
--
-- KEYS   1 position and 2 outbox of messages to everybody
-- ARGV   1 epoch, or '' to read only the position of the newest message, 2 sequence
-- REPLY  status, epoch, top, start, lost, 1 if corrupt data was set aside, else 0, where the epoch of the position
--        ended if status is forked, else '', the rollback that ended it or '', entries...; the entries are
--        numbered from start+1 on
--
-- A position that was never given out is answered with the top: the missed messages are unknown.

local host = read_host()
read_run(host, KEYS[1]) -- so that the record exists when the replication id changes
keep_run(host)
local box = open_box(KEYS[1], KEYS[2], '*', host)

-- Whether an entry begins with a list of ids.
local function is_announced(raw)
  local start = ENTRY_SIZE + 1 + string.byte(raw, ENTRY_SIZE)
  if #raw < start + 3 then return false end
  local size = struct.unpack('>I4', raw, start)
  local is_fine, ids = pcall(cmsgpack.unpack, string.sub(raw, start + 4, start + 3 + size))
  return is_fine and type(ids) == 'table'
end

local function read()
  local status, wanted, ended, rollback = 'fresh', box.s, '', ''
  if ARGV[1] ~= '' then status, wanted, ended, rollback = locate(box, ARGV[1], ARGV[2]) end
  if status == 'reset' then wanted = box.s end
  local start = math.max(wanted, box.s - box.len)
  local entries = page(box, start, MAX_ENTRIES, MAX_BYTES)
  for _, raw in ipairs(entries or {}) do
    if not is_announced(raw) then return nil end
  end
  if not entries then return nil end
  return {status, box.e, box.s, start, start - wanted, box.is_aside, ended, rollback, unpack(entries)}
end

local reply = read()
if not reply then
  set_aside(box, host)
  reply = read()
end
save(box, EXPIRY)
return reply
