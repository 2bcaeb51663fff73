-- Gives back all that a claim took, its requests included: it reached nobody. Where the decision is not known yet, it is
-- remembered as ended, so that one still on its way takes nothing.
--
-- KEYS and scopes as in settle; ARGV: id, scopes, seconds to remember.
-- Answers { what, "0", scopes, reservation }: "S" released, "N" nothing was open, "A" other holders than those named.

local id = ARGV[1]
local found = redis.call('HMGET', KEYS[1], 'state', 'scopes', 'terms', 'held', 'body')
local state = found[1]
if state and state ~= 'open' then
    return { 'N', '0', '', '' }
elseif state and found[2] ~= ARGV[2] then
    return { 'A', '0', found[2], found[5] or '' }
end
if state then
    local held = tonumber(found[4]) or 0
    for position, terms in ipairs(terms_of(found[3])) do
        local book, set = read(KEYS[2 * position + 2]), KEYS[2 * position + 3]
        book.h = math.max((book.h or 0) - held, 0)
        for rate, times in ipairs(terms.rates) do
            local us, ns = pair(book['r' .. (rate - 1)])
            us, ns = minus(us, ns, times[1], times[2])
            book['r' .. (rate - 1)] = unpaired(us, ns)
        end
        write(book, terms.keeps, nil)
        redis.call('ZREM', set, id)
    end
    redis.call('ZREM', KEYS[2], id)
    redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'state', 'released')
redis.call('PEXPIRE', KEYS[1], whole(tonumber(ARGV[3]) * 1000))
return { state and 'S' or 'N', '0', '', found[5] or '' }
