-- KEYS: the session. ARGV: version before and after, row, seen, expires, how many tokens it must have or ''.
local stored = redis.call('HMGET', KEYS[1], 'version', 'seen', 'tokens')
if not stored[1] then
  return 0
end
if stored[1] ~= ARGV[1] then
  return 1
end
if ARGV[6] ~= '' and ARGV[6] ~= stored[3] then
  return 2
end
local seen = ARGV[4]
if stored[2] and stored[2] > seen then
  seen = stored[2]
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'row', ARGV[3], 'seen', seen, 'expires', ARGV[5])
live_until(KEYS[1], ARGV[5])
return 3
