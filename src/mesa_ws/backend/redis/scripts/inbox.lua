-- Put in front of the scripts that write letters, behind the prelude.
--
-- An entry of a queue: c connection, s sequence, k kind, i id or '', n node, t time (ms), d data.
-- The stream of observers has p, the partition, as well; that of dead letters also r, the reason,
-- and y, the number of deliveries.

local MAX_OBSERVED = 10000
local MAX_OBSERVED_BYTES = 64 * 1024 * 1024

-- Drop the oldest entries of a stream that takes more memory than it may, by a sample of it.
local function keep_within(stream, bytes)
  local size = redis.call('MEMORY', 'USAGE', stream)
  if size <= tonumber(bytes) then return end
  local most = math.floor(redis.call('XLEN', stream) * bytes / size)
  redis.call('XTRIM', stream, 'MAXLEN', math.max(1, most))
end

-- What prolong() is for: keys, and the stream of observers with its expiry where they were told anything.
local posted, told = {}, nil

-- Append a letter to its queue, and let observers see it; prolong() has to be called afterwards.
local function post_letter(queue, observed, expiry, letter)
  redis.call('XADD', queue, '*', 'c', letter.c, 's', letter.s, 'k', letter.k, 'i', letter.i,
    'n', letter.n, 't', letter.t, 'd', letter.d)
  posted[queue] = true
  if not observed then return end
  redis.call('XADD', observed, 'MAXLEN', '~', MAX_OBSERVED, '*', 'c', letter.c, 's', letter.s,
    'k', letter.k, 'i', letter.i, 'n', letter.n, 't', letter.t, 'd', letter.d, 'p', letter.p)
  told = {stream = observed, expiry = expiry}
end

-- What is known of a connection is written before its letter, which comes again otherwise; this puts it back
-- where the letter could not be posted.
local function restore(connections, connection, known)
  if known then
    redis.call('HSET', connections, connection, known)
  else
    redis.call('HDEL', connections, connection)
  end
end

-- Let the queues of letters that were posted live on, and what belongs to them.
local function prolong(life)
  for key in pairs(posted) do redis.call('PEXPIRE', key, life) end
  if not told then return end
  keep_within(told.stream, MAX_OBSERVED_BYTES)
  redis.call('PEXPIRE', told.stream, told.expiry)
end

-- The stream of observers, or nil when there are none: they count until a heartbeat forgets them, so that one
-- that was cut off with everybody else misses nothing. One of another type is an error now, before a
-- letter stands in its queue, so that the script can be run again when the key was set aside.
local function observed_by(observers, observed)
  if redis.call('ZCOUNT', observers, '-inf', '+inf') == 0 then return nil end
  redis.call('XLEN', observed)
  return observed
end
