-- KEYS: the session. ARGV: row, version, seen, expires, subject, field of the first token, its row.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('HSET', KEYS[1], 'row', ARGV[1], 'version', ARGV[2], 'seen', ARGV[3], 'expires', ARGV[4],
  'subject', ARGV[5], 'tokens', 1, ARGV[6], ARGV[7])
live_until(KEYS[1], ARGV[4])
return 1
