-- Charges what a request used, once; better evidence corrects by the difference; less is never given back to a bucket that may
-- have been full since. Works where the reservation is not known: then those named are charged, a request included.
--
-- KEYS: the reservation, all reservations by expiry, the notices of the herdgate that granted; then books and open requests
-- of each holder.
-- ARGV: id, scopes, terms, used, evidence (0 to 3), notify (0 or 1), seconds to remember, then day, its end, month, its end.
-- Answers { what, charged before, scopes, reservation }: "S" settled, "C" corrected, "N" nothing new, "U" not known and nobody
-- named, "A" other holders than those named (nothing was changed).

local id, used, evidence = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local today = today_of(8)
local found = redis.call('HMGET', KEYS[1], 'state', 'scopes', 'terms', 'held', 'evidence', 'charged', 'd', 'm', 'body')
local state, before = found[1], tonumber(found[6] or '') or 0
local body = found[9] or ''
if not state and ARGV[2] == '' then
    return { 'U', '0', '', '' }
elseif state == 'released' or (state == 'settled' and tonumber(found[5]) >= evidence) then
    return { 'N', whole(before), found[2] or '', body }
elseif state and found[2] ~= ARGV[2] then
    return { 'A', whole(before), found[2], body }
end

local day, month = tonumber(found[7] or ''), tonumber(found[8] or '')
local held = tonumber(found[4] or '') or 0
local all = terms_of(found[3] or ARGV[3])
for position = #all + 1, #fields_of(ARGV[2], ' ') do
    all[position] = { rates = {}, keeps = true }
end
for position, terms in ipairs(all) do
    local book, set = read(KEYS[2 * position + 2]), KEYS[2 * position + 3]
    if state == 'settled' then
        if used > before then
            charge(book, terms, used - before, today)
        else
            for _, names in ipairs({ { 'd', 'dc', day }, { 'm', 'mc', month } }) do
                if book[names[1]] and book[names[1]] == names[3] then
                    book[names[2]] = math.max((book[names[2]] or 0) - (before - used), 0)
                end
            end
        end
    else
        if state == 'open' then
            book.h = math.max((book.h or 0) - held, 0)
            redis.call('ZREM', set, id)
        else
            -- Granted while the store was away: it counts in the rates from now on.
            for rate, times in ipairs(terms.rates) do
                local us, ns = pair(book['r' .. (rate - 1)])
                us, ns = minus(us, ns, now, 0)
                us, ns = plus(us, ns, times[1], times[2])
                if less(times[3], times[4], us, ns) then
                    us, ns = times[3], times[4]
                end
                us, ns = plus(now, 0, us, ns)
                book['r' .. (rate - 1)] = unpaired(us, ns)
            end
        end
        day, month = charge(book, terms, used, today)
    end
    write(book, terms.keeps, today.month_ends)
end
redis.call('ZREM', KEYS[2], id)
if evidence >= 3 then
    -- Nothing better can come: no more is kept than that it has ended.
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'state', 'settled', 'evidence', whole(evidence), 'charged', whole(used))
else
    redis.call('HSET', KEYS[1], 'state', 'settled', 'scopes', ARGV[2], 'terms', found[3] or ARGV[3], 'evidence',
        whole(evidence), 'charged', whole(used))
    if day then
        redis.call('HSET', KEYS[1], 'd', whole(day), 'm', whole(month))
    end
    redis.call('HDEL', KEYS[1], 'answer', 'held')
end
redis.call('PEXPIRE', KEYS[1], whole(tonumber(ARGV[7]) * 1000))
if ARGV[6] == '1' and state ~= 'settled' then
    redis.call('RPUSH', KEYS[3], id)
    redis.call('LTRIM', KEYS[3], -10000, -1)
    redis.call('PEXPIRE', KEYS[3], 86400000)
end
return { state == 'settled' and 'C' or 'S', whole(before), ARGV[2], body }
