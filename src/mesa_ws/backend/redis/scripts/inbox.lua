-- Put in front of the scripts that write events, after the prelude.
--
-- An entry of a queue: c connection, s sequence, k kind, i id or '', n node, t time (ms), d data, and perhaps a,
-- the network that its place counts for.
-- The stream of observers has p, the partition, as well; that of dead letters also r, the reason, and y,
-- the number of deliveries.

-- Drop the oldest entries of a stream that takes more memory than it may, by a sample of it.
local function keep_within(stream, bytes)
  local size = redis.call('MEMORY', 'USAGE', stream)
  if size <= bytes then return end
  local most = math.floor(redis.call('XLEN', stream) * bytes / size)
  redis.call('XTRIM', stream, 'MAXLEN', math.max(1, most))
end

-- Input of prolong(): written queues, and the stream of observers with its expiry if it was written.
local posted, told = {}, nil

local NO_FIELD = {}

-- Append an event to its queue, and to the stream of observers; prolong() has to be called afterwards.
local function post_event(queue, observed, expiry, event)
  local network = event.network and event.network ~= '' and {'a', event.network} or NO_FIELD
  redis.call('XADD', queue, '*', 'c', event.connection, 's', event.sequence, 'k', event.kind, 'i', event.id,
    'n', event.node, 't', event.time, 'd', event.data, unpack(network))
  posted[queue] = true
  if not observed then return end
  redis.call('XADD', observed, 'MAXLEN', '~', MAX_OBSERVED, '*', 'c', event.connection, 's', event.sequence,
    'k', event.kind, 'i', event.id, 'n', event.node, 't', event.time, 'd', event.data, 'p', event.partition)
  told = {stream = observed, expiry = expiry}
end

-- The record of a connection is written before its event, or the event could come twice; this restores it
-- where the event could not be appended.
local function restore(connections, connection, known)
  if known then
    redis.call('HSET', connections, connection, known)
  else
    redis.call('HDEL', connections, connection)
  end
end

-- Extend the life of the written queues, and of the keys that belong to them.
local function prolong()
  for key in pairs(posted) do redis.call('PEXPIRE', key, BACKLOG_LIFE) end
  if not told then return end
  keep_within(told.stream, MAX_KEPT)
  redis.call('PEXPIRE', told.stream, told.expiry)
end

-- The stream of observers, or nil when there are none: they count until a heartbeat forgets them, so that one
-- that was cut off along with all others misses nothing. A stream of a wrong type is an error now, before
-- an event is in its queue, so that the script can be run again when the key was set aside.
local function observed_by(observers, observed)
  if redis.call('ZCOUNT', observers, '-inf', '+inf') == 0 then return nil end
  redis.call('XLEN', observed)
  return observed
end
