-- KEYS: the session. ARGV: old hash, next hash, next row, predecessor of next or '', what the holder of old is told,
-- expires as it was when the name of next was claimed.
local stored = redis.call('HMGET', KEYS[1], 'expires', 't' .. ARGV[1], 'x' .. ARGV[1], 'c' .. ARGV[1], 't' .. ARGV[2])
if not stored[1] or not stored[2] then
  return {0}
end
if stored[3] then
  return {1, stored[3], stored[4]}
end
if stored[1] ~= ARGV[6] then
  return {2}
end
if stored[5] then
  return {3}
end
redis.call('HSET', KEYS[1], 't' .. ARGV[2], ARGV[3], 'x' .. ARGV[1], ARGV[5], 'n' .. ARGV[1], ARGV[2])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'p' .. ARGV[2], ARGV[4])
end
redis.call('HINCRBY', KEYS[1], 'tokens', 1)
return {4}
