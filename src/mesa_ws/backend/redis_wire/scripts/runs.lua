-- Put in front of every script of both wires, before its prelude: the current run of Redis.
--
-- A *run* lasts until Redis may have lost data that it confirmed: until it restarts, or a replica takes over.
-- The name of a run is its first replication id (16 digits). The replication id changes with every run, but
-- also when a master gets its first replica, and when it has had none for repl-backlog-ttl; then nothing is
-- lost, and the run goes on. The process, by its run_id, and whether it was a replica tell the cases apart: a
-- promotion leaves the former id as master_replid2, which changes without loss clear.
--
-- HASH  n  name of the run
--       i  the replication id by now
--       p  the process: its run_id, or '' where the user may not ask for it
--       h  the run at the last heartbeat
--       t  time of that heartbeat (ms): data confirmed before it exists wherever this field does
--       o  earlier runs whose end was reported to servers, or is being reported, newest first
--       u  t at the end of a run, until a server has reported it; 0 if all data was lost
--       c  the node that reports it
--
-- The record is replicated and rolled back with all other data. So a process that was a replica in between
-- finds the fields that its master wrote. Otherwise a promotion would go unnoticed if the id changed again
-- before any script ran, which takes repl-backlog-ttl at least.

-- How many replicas are online, by INFO replication. A plain search first: patterns cost more than all the rest.
local function count_replicas(info)
  if string.find(info, 'connected_slaves:0', 1, true) then return 0 end
  local _, count = string.gsub(info, 'state=online', '')
  return count
end

-- The facts about this Redis and this moment that numbering needs; info is the reply to INFO replication, if
-- there is one already. Plain searches: patterns would cost more than all the rest.
local function read_host(info)
  local time = redis.call('TIME')
  info = info or redis.call('INFO', 'replication')
  local _, before = string.find(info, 'master_replid:', 1, true)
  assert(before, 'INFO replication of this Redis has no master_replid')
  return {
    info = info,
    id = string.sub(info, before + 1, before + 16),
    replicas = count_replicas(info),
    time = time,
    now = time[1] * 1000 + math.floor(time[2] / 1000),
  }
end

-- Extend the life of the record that read_run() has read.
local function keep_run(host)
  redis.call('PEXPIRE', host.record, 2592000000) -- 30 days
end

-- Record another replication id, which may have begun another run.
local function note_id(host, last_process) -- rare
  local info = redis.pcall('INFO', 'server') -- a table if that is forbidden
  local process = string.match(tostring(info), 'run_id:(%x+)') or ''
  local was_replica = not string.find(host.info, 'master_replid2:' .. string.rep('0', 40), 1, true)
  if process == '' or process ~= last_process or was_replica then host.run = host.id end
  redis.call('HSET', host.record, 'n', host.run, 'i', host.id, 'p', process)
  keep_run(host)
end

-- The name of the run, in the partition of a key. Where the user has no right to read the process, a run
-- ends with every change of the id.
local function read_run(host, key)
  if host.run then return host.run end
  local record = string.match(key, '^mesa:%b{}:') .. 'i'
  local known = try('HMGET', record, 'n', 'i', 'p')
  if known.err then -- of a wrong type, so not Mesa's
    redis.call('DEL', record)
    known = {}
  end
  host.run, host.record = known[1] or host.id, record
  if known[2] ~= host.id then note_id(host, known[3]) end
  return host.run
end

-- The reply to a heartbeat about runs: {the run}, followed by u for the node that has to report that a run
-- ended. A node passes the run that it saw last, '' for none, and the one in which it reported an end. If the
-- former is neither the last run nor an earlier one, all of the data was lost.
local function look_at_runs(host, key, node, last, told, is_live)
  local run, record = read_run(host, key), host.record
  local known, at, before, since, teller = unpack(redis.call('HMGET', record, 'h', 't', 'o', 'u', 'c'))
  before = before or ''
  local ended = known and known ~= run and known
  if not ended and last ~= '' and last ~= run and not string.find(before, last, 1, true) then
    ended, at = last, '0'
  end
  redis.call('HSET', record, 'h', run, 't', host.now)
  keep_run(host)
  if ended then
    since, teller = string.format('%.0f', math.min(tonumber(since or at), tonumber(at))), false
    redis.call('HSET', record, 'o', string.sub(ended .. ',' .. before, 1, 8 * (#run + 1)), 'u', since) -- eight
  end
  if not since then return {run} end
  if told == run then
    redis.call('HDEL', record, 'u', 'c')
    return {run}
  end
  if teller and teller ~= node and is_live(teller) then return {run} end
  redis.call('HSET', record, 'c', node)
  return {run, since}
end
