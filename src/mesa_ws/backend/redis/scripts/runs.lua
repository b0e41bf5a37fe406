-- Put in front of every script that numbers messages: in which run of Redis that is.
--
-- A *run* lasts until Redis may have forgotten what it said: until it starts again, or a replica takes over. Its
-- name is the replication id (16 digits of it) with which it began. The replication id changes then, but it
-- changes too when a master gets its first replica, and when it has had none for repl-backlog-ttl; then nothing
-- is forgotten, and the run goes on. What tells them apart is the process, by its run_id, and whether it was a
-- replica: a promotion leaves the former id as master_replid2, which changes without loss clear.
--
-- HASH  n  name of the run
--       i  the replication id by now
--       p  the process: 16 digits of its run_id, or none where the user may not ask for it
--
-- It is replicated and rolled back with all other data. So a process that was a replica in between finds what
-- its master wrote there; without that, a promotion that another change of the id has covered before any script
-- ran would not be seen, which takes repl-backlog-ttl at least.

local RUN_LIFE = 30 * 86400000

-- What numbering needs to know of this Redis and of this moment. Plain searches: patterns would
-- cost more than all the rest.
local function read_host()
  local info, time = redis.call('INFO', 'replication'), redis.call('TIME')
  local _, before = string.find(info, 'master_replid:', 1, true)
  assert(before, 'INFO replication of this Redis has no master_replid')
  return {
    info = info,
    id = string.sub(info, before + 1, before + 16),
    replicas = count_replicas(info),
    seed = time[1] .. ':' .. time[2],
    now = time[1] * 1000 + math.floor(time[2] / 1000),
  }
end

-- Nothing is known where the user may not ask: then a run ends with every change of the id.
local function read_process()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x)') or ''
end

-- Whether the replication id that is recorded has become that of this host, and nothing was forgotten.
local function is_same_run(host, recorded, process)
  local never_replica = string.find(host.info, 'master_replid2:' .. string.rep('0', 40), 1, true)
  return recorded ~= '' and recorded == process and never_replica ~= nil
end

-- The name of the run, for the partition that a key is of.
local function read_run(host, key)
  if host.run then return host.run end
  local record = string.match(key, '^mesa:%b{}:') .. 'i'
  local known = try('HMGET', record, 'n', 'i', 'p')
  if known.err then -- of another type, so not Mesa's
    redis.call('DEL', record)
    known = {}
  end
  host.run = known[1] or host.id
  if not known[1] or known[2] ~= host.id then
    local process = read_process()
    if not known[1] or not is_same_run(host, known[3], process) then host.run = host.id end
    redis.call('HSET', record, 'n', host.run, 'i', host.id, 'p', process)
  end
  redis.call('PEXPIRE', record, RUN_LIFE)
  return host.run
end
