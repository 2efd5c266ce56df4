-- KEYS: the session. ARGV: channel, message, and the version and the activity that it must still have, or '' twice.
-- Whatever lies there is told of and taken away, a session or not.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return false
end
if ARGV[3] ~= '' then
  local stored = redis.call('HMGET', KEYS[1], 'version', 'seen')
  if stored[1] ~= ARGV[3] or stored[2] ~= ARGV[4] then
    return false
  end
end
local subject = redis.pcall('HGET', KEYS[1], 'subject')
local fields = redis.pcall('HKEYS', KEYS[1])
local found = {''}
if type(subject) == 'string' then
  found[1] = subject
end
if not fields.err then
  for _, field in ipairs(fields) do
    if #field == 33 and string.sub(field, 1, 1) == 't' then
      found[#found + 1] = string.sub(field, 2)
    end
  end
end
-- First what may be refused, so that nothing is half done.
redis.call('PUBLISH', ARGV[1], ARGV[2])
redis.call('DEL', KEYS[1])
return found
