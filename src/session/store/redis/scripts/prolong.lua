-- KEYS: a token or a set. ARGV: expires.
live_until(KEYS[1], ARGV[1])
return 1
