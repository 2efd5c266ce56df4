-- KEYS: the session. ARGV: the hash that was presented, when.
local before = redis.call('HGET', KEYS[1], 'p' .. ARGV[1])
if not before then
  return 0
end
redis.call('HDEL', KEYS[1], 'p' .. ARGV[1])
if redis.call('HGET', KEYS[1], 'n' .. before) == ARGV[1] then
  redis.call('HSETNX', KEYS[1], 'c' .. before, ARGV[2])
end
return 1
