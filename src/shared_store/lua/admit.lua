-- Takes every limit of a claim or none, once for each decision.
--
-- KEYS: the reservation, all reservations by expiry, the proxy's identifier; then books and open requests of each holder.
-- ARGV: id, reservation (opaque), scopes, terms, need, lease in microseconds, then day, its end, month, its end.
-- Answers "G" (granted), "R" (refused, nothing was changed) or "E" (this decision has ended before), the time, how each
-- holder stands, and which limits are over.

local earlier = redis.call('HMGET', KEYS[1], 'state', 'answer')
if earlier[1] == 'open' then
    return earlier[2]
elseif earlier[1] then
    return 'E ' .. whole(now) .. ' 0 0'
end

local id, need, lease = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[6])
local today = today_of(7)
local books, over, refused = {}, {}, false
local all = terms_of(ARGV[4])

for position, terms in ipairs(all) do
    local book = read(KEYS[2 * position + 2])
    local set = KEYS[2 * position + 3]
    books[position] = book
    local function found(kind, which, retry)
        over[#over + 1] = string.format('%d %s %d %s', position - 1, kind, which, retry and whole(retry) or '-')
        refused = refused or not terms.shadow
    end
    book.open = redis.call('ZCOUNT', set, '(' .. whole(now), '+inf')
    -- Nothing is held once nothing is open: what was lost with its reservation does not stay.
    if book.open == 0 and redis.call('ZCOUNT', set, whole(now - DAY), '+inf') == 0 then
        book.h = 0
    end
    book.h = book.h or 0

    book.after = {}
    for rate, times in ipairs(terms.rates) do
        local interval_us, interval_ns, horizon_us, horizon_ns = unpack(times)
        local us, ns = pair(book['r' .. (rate - 1)])
        us, ns = minus(us, ns, now, 0)
        if less(horizon_us, horizon_ns, us, ns) then
            us, ns = horizon_us, horizon_ns
        end
        local next_us, next_ns = plus(us, ns, interval_us, interval_ns)
        if less(horizon_us, horizon_ns, next_us, next_ns) then
            local retry_us, retry_ns = minus(next_us, next_ns, horizon_us, horizon_ns)
            found('r', rate - 1, retry_ns > 0 and retry_us + 1 or retry_us)
            book.after[rate] = { us, ns, us, ns }
        else
            book.after[rate] = { us, ns, next_us, next_ns }
        end
    end
    if terms.concurrency and book.open >= terms.concurrency then
        found('c', 0, nil)
    end
    at_rate(book, terms.tokens)
    if terms.tokens then
        local missing = debt(book)
        local lacking = missing + book.h + need - terms.tokens.capacity
        if lacking > 0 then
            found('t', 0, lacking <= missing and scaled(lacking, terms.tokens.period, terms.tokens.count) or nil)
        end
    end
    local day = window(today.day, today.day_ends, book.d)
    local month = window(today.month, today.month_ends, book.m)
    book.day_charged = book.d == day and book.dc or 0
    book.month_charged = book.m == month and book.mc or 0
    local function budget(kind, most, charged, ends)
        if most and charged + book.h + need > most then
            found(kind, 0, charged + need > most and math.max(ends - now, 1) or nil)
        end
    end
    budget('d', terms.day, book.day_charged, today.day_ends)
    budget('m', terms.month, book.month_charged, today.month_ends)
end

local answer = { refused and 'R' or 'G', whole(now), whole(#books) }
for position, book in ipairs(books) do
    local taken = refused and 0 or 1
    answer[#answer + 1] = whole(#book.after)
    for _, times in ipairs(book.after) do
        answer[#answer + 1] = refused and unpaired(times[1], times[2]) or unpaired(times[3], times[4])
    end
    local ahead = math.max((book.t or 0) - now, 0)
    for _, number in ipairs({ debt(book), ahead, book.h + taken * need, book.day_charged, book.month_charged, book.open + taken }) do
        answer[#answer + 1] = whole(number)
    end
end
answer[#answer + 1] = whole(#over)
answer = table.concat(answer, ' ')
if #over > 0 then
    answer = answer .. ' ' .. table.concat(over, ' ')
end
if refused then
    return answer
end

local expires = now + lease
for position, terms in ipairs(all) do
    local book, set = books[position], KEYS[2 * position + 3]
    for rate, times in ipairs(book.after) do
        local us, ns = plus(now, 0, times[3], times[4])
        book['r' .. (rate - 1)] = unpaired(us, ns)
    end
    book.h = book.h + need
    write(book, terms.keeps, today.month_ends)
    redis.call('ZREMRANGEBYSCORE', set, '-inf', '(' .. whole(now - DAY))
    redis.call('ZADD', set, whole(expires), id)
    redis.call('PEXPIRE', set, whole(math.ceil((lease + 2 * DAY) / 1000)))
end
redis.call('HSET', KEYS[1], 'state', 'open', 'answer', answer, 'body', ARGV[2], 'scopes', ARGV[3], 'terms', ARGV[4],
    'held', whole(need))
redis.call('PEXPIRE', KEYS[1], whole(math.ceil((lease + DAY) / 1000)))
redis.call('ZADD', KEYS[2], whole(expires), id)
redis.call('PEXPIRE', KEYS[2], whole(math.ceil((lease + 2 * DAY) / 1000)))
if KEYS[3] ~= KEYS[1] then
    redis.call('SET', KEYS[3], id, 'PX', '600000')
end
return answer
