-- KEYS: a token. ARGV: the session it leads to, expires. 0 where the name is taken.
if redis.call('SETNX', KEYS[1], ARGV[1]) == 0 then
  return 0
end
live_until(KEYS[1], ARGV[2])
return 1
