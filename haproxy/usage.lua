-- Reads what an answer used while it passes, for the usage line of haproxy.cfg: txn.herdgate_in and txn.herdgate_out
-- (tokens, as the model server reports them), txn.herdgate_units (what a stream has brought so far), txn.herdgate_failed
-- (1 where a stream of status 200 brought an error).
--
-- It never changes, holds back or ends an answer: it looks at a copy, and an error in here only ends the counting. What it
-- keeps is bounded: an unfinished line, of a long one the end. Variables are set as data passes, because nothing more is
-- called where a client leaves. There is no http_end: each callback costs more than what is done in it, and that one would
-- be called for the request too.
--
-- A model cannot forge the counts in text: its quotes are escaped, so a member's name in quotes is never text. Of several
-- usage objects the last counts. In Ollama's own dialect, which shows a tool call's arguments as an object, what stands
-- before `done` does not count (ChatResponse in Ollama's api/types.go).

local byte, find, match, sub = string.byte, string.find, string.match, string.sub

-- An unfinished line is kept whole up to here, and only its last part beyond, which is longer than any usage object.
local LINE_MAX = 16384
local KEPT = 4096

-- The last number that is the member `name` (in quotes) of `text` at or after `from`. It counts once the member has ended:
-- the rest of its digits may still be on their way.
local function number(text, name, from)
    local found
    local _, last = find(text, name, from, true)
    while last do
        local digits = match(text, "^%s*:%s*(%d+)%s*[,}]", last + 1)
        if digits and #digits <= 15 then
            found = tonumber(digits)
        end
        _, last = find(text, name, last + 1, true)
    end
    return found
end

-- Whether a chunk of /v1/chat/completions or /v1/completions brings nothing: it opens or ends a choice, or reports usage.
local function is_empty(chunk)
    local _, last = find(chunk, '"content"', 1, true)
    if not last then
        _, last = find(chunk, '"text"', 1, true)
    end
    if last then
        local value = match(chunk, "^%s*:%s*(..)", last + 1)
        if value ~= '""' and value ~= "nu" then
            return false
        end
    else
        local delta = match(chunk, '"delta"%s*:%s*(%b{})')
        if delta and not match(delta, "^{%s*}$") and not match(delta, '^{%s*"role"%s*:%s*"%a*"%s*}$') then
            return false
        end
        if not delta and not find(chunk, '"choices"%s*:%s*%[%s*%]') then
            return false
        end
    end
    return not (find(chunk, '"tool_calls"%s*:%s*%[%s*{') or find(chunk, '"reasoning[%w_]*"%s*:%s*"[^"]'))
end

local Answer = { id = "herdgate usage", flags = filter.FLT_CFG_FL_HTX }

function Answer:new()
    self.__index = self
    return setmetatable({}, self)
end

-- Usage objects of /v1. Zeros are none: Ollama's /v1/completions writes them on every chunk but the last. The first event of
-- /v1/messages has an estimate of the prompt, and counts no output yet.
function Answer:read_usage(text)
    local _, last = find(text, '"usage"', 1, true)
    while last do
        local object = match(text, "^%s*:%s*(%b{})", last + 1)
        if object then
            local tokens_in = number(object, '"prompt_tokens"', 1) or number(object, '"input_tokens"', 1)
            local tokens_out = number(object, '"completion_tokens"', 1) or number(object, '"output_tokens"', 1)
            if (tokens_in or 0) + (tokens_out or 0) > 0 then
                self.tokens_in = tokens_in or self.tokens_in
                if self.event ~= "message_start" then
                    self.tokens_out = tokens_out
                end
            end
        end
        _, last = find(text, '"usage"', last + 1, true)
    end
end

-- Ollama's own counts, which follow `done`; /api/embed has none.
function Answer:read_counts(text)
    local from = 1
    local _, last = find(text, '"done"', 1, true)
    while last do
        local value = match(text, "^%s*:%s*(%a+)%s*[,}]", last + 1)
        if value then
            self.done = value == "true"
            self.tokens_in, self.tokens_out = nil, nil
            from = last + 1
        end
        _, last = find(text, '"done"', last + 1, true)
    end
    if self.done ~= false then
        self.tokens_in = number(text, '"prompt_eval_count"', from) or self.tokens_in
        self.tokens_out = number(text, '"eval_count"', from) or self.tokens_out
    end
end

-- Zero is absent (`omitempty`), where `text`, the end of the object, is its end. No count of the prompt says nothing: older
-- releases leave it out for a cached prompt.
function Answer:end_counts(text)
    if self.done and find(text, "}%s*$") then
        self.tokens_out = self.tokens_out or 0
    end
end

-- One line of NDJSON. `cut`: it was too long to be kept, and this is its end.
function Answer:line(text, cut)
    self:read_counts(text)
    if self.done == false then
        self.units = self.units + 1
    elseif self.done then
        self:end_counts(text)
    elseif not cut and sub(text, 1, 8) == '{"error"' then
        self.failed = 1
    end
    self.done = nil
end

-- One line of SSE.
function Answer:event_line(text, cut)
    local first = byte(text, 1)
    if not cut then
        if not first or first == 13 then -- the empty line after an event
            self.event = nil
            return
        elseif first == 101 then -- e
            self.event = match(text, "^event: ?([%w_.]+)") or self.event
            if self.event == "error" or self.event == "response.failed" then
                self.failed = 1
            end
            return
        end
        local from = match(text, "^data: ?()")
        if not from then
            return
        end
        text = sub(text, from)
    end

    local event = self.event
    if event then
        -- /v1/messages and /v1/responses name their events.
        if sub(event, -5) == "delta" and event ~= "message_delta" then
            self.units = self.units + 1
        else
            self:read_usage(text)
        end
    elseif not cut and sub(text, 1, 8) == '{"error"' then
        self.failed = 1
    elseif sub(text, 1, 6) ~= "[DONE]" then
        self:read_usage(text)
        if not is_empty(text) then
            self.units = self.units + 1
        end
    end
end

-- The next piece of a stream, cut anywhere.
function Answer:stream(piece)
    local rest = self.rest
    local text = rest == "" and piece or rest .. piece
    local from = 1
    local stop = find(text, "\n", #rest + 1, true)
    while stop do
        local line, cut = sub(text, from, stop - 1), self.cut
        if cut or #line > LINE_MAX then
            self:scan(line)
            line, cut = sub(line, -KEPT), true
            self.cut = false
        end
        self:take(line, cut)
        from = stop + 1
        stop = find(text, "\n", from, true)
    end
    text = sub(text, from)
    if #text > LINE_MAX then
        self:scan(text)
        self.cut = true
        text = sub(text, -KEPT)
    end
    self.rest = text
    -- The last line may have no end.
    if byte(text, -1) == 125 then -- }
        self:scan(text)
    end
end

-- The next piece of an answer that is one document.
function Answer:document(piece)
    local text = self.rest .. piece
    self:scan(text)
    self:end_counts(text)
    self.rest = sub(text, -KEPT)
end

function Answer:show(txn, name, value)
    if value ~= self.shown[name] then
        self.shown[name] = value
        if value then
            txn:set_var(name, value)
        else
            txn:unset_var(name)
        end
    end
end

function Answer:publish(txn)
    self:show(txn, "txn.herdgate_units", self.units)
    self:show(txn, "txn.herdgate_in", self.tokens_in)
    self:show(txn, "txn.herdgate_out", self.tokens_out)
    self:show(txn, "txn.herdgate_failed", self.failed)
end

-- What a model server answers with 2xx, in a form that is known and not compressed; nothing else is looked at.
function Answer:begin(txn, message)
    local status = tonumber(message:get_stline().code) -- a string in 2.6
    if status < 200 or status > 299 or status == 204 or txn:get_var("txn.herdgate.verdict") ~= "allow" then
        return
    end
    local headers = message:get_headers()
    local encoding = headers["content-encoding"]
    if encoding and encoding[0] ~= "identity" then
        return
    end
    local kind = headers["content-type"]
    kind = kind and kind[0]:lower() or ""
    -- Escaped as JSON, where a slash may have a backslash.
    local own = match(txn:get_var("txn.herdgate_path") or "", "^\\?/api\\?/")
    self.scan = own and self.read_counts or self.read_usage
    if find(kind, "ndjson", 1, true) then
        self.read, self.take, self.units = self.stream, self.line, 0
    elseif find(kind, "text/event-stream", 1, true) then
        self.read, self.take, self.units = self.stream, self.event_line, 0
    elseif find(kind, "application/json", 1, true) then
        self.read = self.document
    else
        return
    end
    self.rest, self.shown = "", {}
    filter.register_data_filter(self, message.channel)
end

function Answer:go_on(txn, message)
    local piece = message:body()
    if piece and piece ~= "" then
        self:read(piece)
        self:publish(txn)
    end
end

-- What counts is whole or absent: half a count would be charged as the whole one.
local function forget(txn)
    for _, name in ipairs({ "units", "in", "out" }) do
        txn:unset_var("txn.herdgate_" .. name)
    end
end

local complained = false

-- An error that left this file would end the client's answer.
function Answer:guarded(step, txn, message)
    local well, fault = pcall(step, self, txn, message)
    if not well then
        self.read = nil
        pcall(forget, txn)
        if not complained then
            complained = true
            pcall(core.Warning, "usage.lua: " .. tostring(fault) .. " (said once a thread; such answers are estimated)")
        end
    end
end

function Answer:http_headers(txn, message)
    if message:is_resp() then
        self:guarded(self.begin, txn, message)
    end
end

function Answer:http_payload(txn, message)
    if self.read then
        self:guarded(self.go_on, txn, message)
    end
end

core.register_filter("herdgate_usage", Answer, function(class)
    return class
end)
