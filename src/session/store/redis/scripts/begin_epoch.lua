-- KEYS: the epoch of a subject. ARGV: now in milliseconds, until when it is remembered, channel, and what is published
-- before its number. Numbers are about the time of day: up to 53 bits.
local before = tonumber(redis.call('GET', KEYS[1]) or '0') or 0
local epoch = string.format('%.0f', math.max(before + 1, tonumber(ARGV[1])))
redis.call('PUBLISH', ARGV[3], ARGV[4] .. epoch)
redis.call('SET', KEYS[1], epoch, 'KEEPTTL')
live_until(KEYS[1], ARGV[2])
return epoch
