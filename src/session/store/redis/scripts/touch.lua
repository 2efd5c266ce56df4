-- KEYS: sessions. ARGV: a moment for each. What is no session is passed over.
for place, key in ipairs(KEYS) do
  local seen = redis.pcall('HGET', key, 'seen')
  if type(seen) == 'string' and seen < ARGV[place] then
    redis.call('HSET', key, 'seen', ARGV[place])
  end
end
return 1
