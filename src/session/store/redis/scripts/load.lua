-- Everything that a load looks at, in one round trip. It makes up keys, as `keys.rs` does, so no Cluster gets it.
-- KEYS: a token. ARGV: the prefix of all keys, the fields of a session's hash.
-- Nothing, or the session it leads to with its subject, the subject's epoch, the fields.
local name = redis.call('GET', KEYS[1])
if not name then
  return false
end

local function hex(bytes)
  return (bytes:gsub('.', function(byte)
    return string.format('%02x', byte:byte())
  end))
end

local sid = hex(name:sub(1, 16)):gsub('^(%x%x%x%x%x%x%x%x)(%x%x%x%x)(%x%x%x%x)(%x%x%x%x)', '%1-%2-%3-%4-')
local fields = redis.call('HMGET', ARGV[1] .. 's:{' .. sid .. '}', unpack(ARGV, 2))
local epoch = #name > 16 and redis.call('GET', ARGV[1] .. 'e:' .. hex(name:sub(17)))
return { name, epoch, fields }
