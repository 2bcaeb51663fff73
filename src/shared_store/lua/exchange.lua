-- Publishes what one herdgate has on its way, and answers what the others have, as far as they said so within two seconds.
--
-- KEYS: a hash of all of them. ARGV: this one's name, what it has (opaque).
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %s', now, ARGV[2]))
redis.call('PEXPIRE', KEYS[1], 10000)
local found, others = redis.call('HGETALL', KEYS[1]), {}
for position = 1, #found, 2 do
    local at, text = string.match(found[position + 1], '^(%d+) (.*)$')
    local age = now - (tonumber(at) or 0)
    if age > 10000000 then
        redis.call('HDEL', KEYS[1], found[position])
    elseif age <= 2000000 and found[position] ~= ARGV[1] then
        others[#others + 1] = text
    end
end
return others
