-- What all scripts share: time, exact arithmetic, and how the books of one holder are kept.
--
-- Every number is a whole one below 2^53, which a double holds exactly: microseconds since 1970 (1.8e15 today) and
-- thousandths of a token. Numbers are written with %.0f, because Lua's own notation keeps 14 digits only.
--
-- Books of a holder, a hash: r0 to r4: when each request rate is whole again ("microseconds.nanoseconds"); t: when the token
-- bucket is full again, tc and tp: its rate (tokens, milliseconds); h: held for open requests; d, dc and m, mc: the
-- newest day and month charged, and how much. Beside it a sorted set of the open requests by when they expire.

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

-- Ten years: no time lies farther ahead, so that sums stay exact.
local FAR = 315360000000000
local DAY = 86400000000
local FIELDS = { 'r0', 'r1', 'r2', 'r3', 'r4', 't', 'tc', 'tp', 'h', 'd', 'dc', 'm', 'mc' }

local function whole(number)
    return string.format('%.0f', number)
end

-- amount * by / per, rounded up, exact: long division in digits of 14 bits. by and per are below 2^38.
local function scaled(amount, by, per)
    local quotient, rest = 0, 0
    for place = 3, 0, -1 do
        local unit = 16384 ^ place
        local digit = math.floor(amount / unit)
        amount = amount - digit * unit
        local value = rest * 16384 + digit * by
        rest = value % per
        quotient = quotient * 16384 + (value - rest) / per
    end
    if rest > 0 then
        quotient = quotient + 1
    end
    return math.min(quotient, FAR)
end

-- Times with nanoseconds are pairs: microseconds, and nanoseconds below one.
local function pair(text)
    local us, ns = string.match(text or '', '^(%d+)%.(%d+)$')
    return tonumber(us) or 0, tonumber(ns) or 0
end

local function unpaired(us, ns)
    return string.format('%.0f.%03.0f', us, ns)
end

local function less(us, ns, other_us, other_ns)
    return us < other_us or (us == other_us and ns < other_ns)
end

local function plus(us, ns, more_us, more_ns)
    us, ns = us + more_us, ns + more_ns
    if ns >= 1000 then
        us, ns = us + 1, ns - 1000
    end
    return us, ns
end

-- Never below zero.
local function minus(us, ns, less_us, less_ns)
    if less(us, ns, less_us, less_ns) then
        return 0, 0
    end
    us, ns = us - less_us, ns - less_ns
    if ns < 0 then
        us, ns = us - 1, ns + 1000
    end
    return us, ns
end

local function fields_of(text, separator)
    local found = {}
    for field in string.gmatch(text, '[^' .. separator .. ']+') do
        found[#found + 1] = field
    end
    return found
end

-- "FLAGS CONCURRENCY TOKENS RATES DAY MONTH", absent ones as "-", holders apart by ";". See `terms.rs`.
local function terms_of(text)
    local list = {}
    for _, entry in ipairs(fields_of(text, ';')) do
        local field = fields_of(entry, ' ')
        local terms = {
            shadow = string.find(field[1], 's', 1, true) ~= nil,
            keeps = string.find(field[1], 'k', 1, true) ~= nil,
            concurrency = tonumber(field[2]),
            rates = {},
            day = tonumber(field[5]),
            month = tonumber(field[6]),
        }
        if field[3] ~= '-' then
            local rate = fields_of(field[3], ',')
            terms.tokens = { count = tonumber(rate[1]), period = tonumber(rate[2]), capacity = tonumber(rate[3]) }
        end
        if field[4] ~= '-' then
            for position, rate in ipairs(fields_of(field[4], '/')) do
                local interval, horizon = string.match(rate, '^([^,]+),([^,]+)$')
                local interval_us, interval_ns = pair(interval)
                local horizon_us, horizon_ns = pair(horizon)
                terms.rates[position] = { interval_us, interval_ns, horizon_us, horizon_ns }
            end
        end
        list[#list + 1] = terms
    end
    return list
end

local function read(key)
    local found = redis.call('HMGET', key, unpack(FIELDS))
    local book = { key = key }
    for position, field in ipairs(FIELDS) do
        book[field] = found[position]
    end
    for _, field in ipairs({ 't', 'tc', 'tp', 'h', 'd', 'dc', 'm', 'mc' }) do
        book[field] = tonumber(book[field] or '')
    end
    return book
end

-- What is missing from the token bucket, in thousandths of a token.
local function debt(book)
    if not book.tc or not book.t or book.t <= now then
        return 0
    end
    return scaled(book.t - now, book.tc, book.tp)
end

-- The bucket at the rate of these terms: another rate makes the same debt last for another time.
local function at_rate(book, tokens)
    if tokens and (book.tc ~= tokens.count or book.tp ~= tokens.period) then
        local missing = debt(book)
        book.t = missing > 0 and now + scaled(missing, tokens.period, tokens.count) or 0
        book.tc, book.tp = tokens.count, tokens.period
    end
end

-- The calendar window of this moment: the caller's, or the one after where that has ended here; never one that is closed.
local function window(number, ends, newest)
    if now >= ends then
        number = number + 1
    end
    if newest and newest > number then
        return newest
    end
    return number
end

-- Writes books back. They live as long as anything in them means something, and two days, in which requests end. Without
-- `month_ends` they live as long as they did.
local function write(book, keeps, month_ends)
    local values, last = {}, now + 2 * DAY
    for _, field in ipairs(FIELDS) do
        local value = book[field]
        if value then
            values[#values + 1] = field
            values[#values + 1] = type(value) == 'number' and whole(value) or value
        end
    end
    for position = 0, 4 do
        local us = pair(book['r' .. position])
        last = math.max(last, us)
    end
    last = math.max(last, book.t or 0)
    if keeps and month_ends then
        last = math.max(last, month_ends + DAY)
    end
    redis.call('HSET', book.key, unpack(values))
    if month_ends or redis.call('PTTL', book.key) < 0 then
        redis.call('PEXPIRE', book.key, whole(math.ceil((math.min(last, now + FAR) - now) / 1000)))
    end
end

-- Charges what was used, into debt where need be. Answers the windows it was charged in.
local function charge(book, terms, amount, today)
    at_rate(book, not book.tc and terms.tokens or nil)
    if book.tc and amount > 0 then
        local refill = scaled(amount, book.tp, book.tc)
        book.t = math.min(math.max(book.t or 0, now) + refill, now + FAR)
    end
    local day = window(today.day, today.day_ends, book.d)
    local month = window(today.month, today.month_ends, book.m)
    if terms.keeps then
        if book.d ~= day then
            book.d, book.dc = day, 0
        end
        if book.m ~= month then
            book.m, book.mc = month, 0
        end
        book.dc, book.mc = (book.dc or 0) + amount, (book.mc or 0) + amount
    end
    return day, month
end

local function today_of(first)
    return {
        day = tonumber(ARGV[first]),
        day_ends = tonumber(ARGV[first + 1]),
        month = tonumber(ARGV[first + 2]),
        month_ends = tonumber(ARGV[first + 3]),
    }
end
