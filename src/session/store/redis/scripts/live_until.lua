-- Every key outlives what it leads to by a day, by the server's clock; it never ends earlier than it was going to.
local function live_until(key, moment)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local wanted = math.min(math.max(now, tonumber(moment)), 9007199254740992 - 86400000) + 86400000
  local left = redis.call('PTTL', key)
  if left == -1 or (left >= 0 and now + left < wanted) then
    redis.call('PEXPIREAT', key, string.format('%.0f', wanted))
  end
end
