-- KEYS: a sorted set. ARGV: score, member, expires.
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
live_until(KEYS[1], ARGV[3])
return 1
