#!lua flags=no-writes
-- Read the oldest messages of an outbox, without changing it.
--
-- KEYS  1 its position, 2 its outbox
-- ARGV  1 most entries
--
-- Returns {the number of the entry before the first, entries...}, or {} when there is no outbox
-- that can be read.

local box = {m = KEYS[1]}
local len = try('LLEN', KEYS[2])
if not load_hash(box) or not box.e or type(len) ~= 'number' or len > box.s then return {} end
return {box.s - len, unpack(redis.call('LRANGE', KEYS[2], 0, ARGV[1] - 1))}
