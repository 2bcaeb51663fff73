//! How a model server builds the bytes of an answer around its tokens, by program and endpoint. Pure.
//!
//! These are the forms known from the programs' sources; deep checks measure those of the endpoints that they ask and
//! replace them (see `estimate`). Where an endpoint must not be asked (`/v1` of Ollama takes neither `num_ctx` nor
//! `keep_alive`, so a check could reload or pin), its form is the length of the very line that Ollama writes, with
//! figures of usual length. Sources: Ollama `api/types.go` (`ChatResponse`, `GenerateResponse`), `openai/openai.go`
//! (`ChatCompletionChunk`, `CompletionChunk`), `openai/responses.go`, `anthropic/anthropic.go`; vLLM
//! `entrypoints/openai/protocol.py`. An answer's name for the model is the one the client wrote: it is counted apart.

use crate::decision::plan::server::ServerKind;
use crate::decision::request::endpoint::Endpoint;

/// The bytes of an answer, as they leave the server: head, framing and body. Names of the model and text are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// The bytes before the first text: the head, and events without text.
    pub opening: f64,
    /// The bytes around each text of a stream, its framing included; 0 in a whole answer.
    pub line: f64,
    /// The bytes after the last text.
    pub closing: f64,
    /// How often the model's name is written before the first text.
    pub names_opening: f64,
    /// How often it is written in each line.
    pub names_line: f64,
    /// How often it is written after the last text.
    pub names_closing: f64,
    /// How often the whole text is written again after the last text.
    pub again: f64,
    /// Whether the end lists the numbers of all tokens, of prompt and answer (`context`).
    pub ids: bool,
}

/// The parts of a request that decide how its answer is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerKind {
    /// The program that answers.
    pub kind: ServerKind,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// `stream_options.include_usage`
    pub usage: bool,
    /// `raw` of `/api/generate`: no template, and no `context` in the answer.
    pub raw: bool,
}

/// The number of forms told apart, see [`AnswerKind::place`].
pub const FORMS: usize = 42;

/// Returns every known form at its place. They are made once: the texts that they are reckoned from are long.
pub fn forms() -> [Option<Form>; FORMS] {
    let mut forms = [None; FORMS];
    for kind in [ServerKind::Ollama, ServerKind::OpenAi] {
        for endpoint in ANSWERING {
            for (stream, usage, raw) in [
                (false, false, false),
                (true, false, false),
                (true, true, false),
                (false, false, true),
                (true, false, true),
                (true, true, true),
            ] {
                let asked = AnswerKind { kind, endpoint, stream, usage, raw };
                if let Some(form) = asked.place().and_then(|place| forms.get_mut(usize::from(place))) {
                    *form = asked.form();
                }
            }
        }
    }
    forms
}

/// The endpoints that answer with tokens.
const ANSWERING: [Endpoint; 6] = [
    Endpoint::Generate,
    Endpoint::Chat,
    Endpoint::V1ChatCompletions,
    Endpoint::V1Completions,
    Endpoint::V1Responses,
    Endpoint::V1Messages,
];

impl AnswerKind {
    /// Returns the place of its form, a number below [`FORMS`]; `None` where the endpoint answers without tokens.
    pub fn place(&self) -> Option<u8> {
        let endpoint = match self.endpoint {
            Endpoint::Generate => u8::from(self.raw),
            Endpoint::Chat => 2,
            Endpoint::V1ChatCompletions => 3,
            Endpoint::V1Completions => 4,
            Endpoint::V1Responses => 5,
            Endpoint::V1Messages => 6,
            _ => return None,
        };
        // Other endpoints take no notice of `include_usage`.
        let tells = matches!(self.endpoint, Endpoint::V1ChatCompletions | Endpoint::V1Completions);
        let way = match (self.stream, self.usage && tells) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let kind = match self.kind {
            ServerKind::Ollama => 0,
            ServerKind::OpenAi => 1,
        };
        Some((endpoint * 3 + way) * 2 + kind)
    }

    /// Returns its form as the programs' sources have it; `None` where the endpoint answers without tokens.
    fn form(&self) -> Option<Form> {
        let openai = self.kind == ServerKind::OpenAi;
        let form = match (self.endpoint, self.stream) {
            (Endpoint::Generate, stream) => native(GENERATE_LINE, GENERATE_END, stream, !self.raw),
            (Endpoint::Chat, stream) => native(CHAT_LINE, CHAT_END, stream, false),
            (Endpoint::V1ChatCompletions, true) if openai => {
                events([VLLM_CHAT_FIRST, VLLM_CHAT, VLLM_CHAT_LAST], VLLM_CHAT_USAGE, self.usage)
            }
            (Endpoint::V1ChatCompletions, true) => events(["", CHAT, CHAT_LAST], CHAT_USAGE, self.usage),
            (Endpoint::V1ChatCompletions, false) if openai => whole(VLLM_CHAT_WHOLE),
            (Endpoint::V1ChatCompletions, false) => whole(CHAT_WHOLE),
            (Endpoint::V1Completions, true) if openai => {
                events(["", VLLM_TEXT, VLLM_TEXT_LAST], VLLM_TEXT_USAGE, self.usage)
            }
            (Endpoint::V1Completions, true) => {
                let mut form = events(["", TEXT, TEXT_LAST], TEXT_USAGE, self.usage);
                if self.usage {
                    // Ollama puts a usage of zeros on each (`middleware/openai.go`, `CompleteWriter`).
                    form.line += length(USAGE_OF_ZEROS);
                    form.closing += length(USAGE_OF_ZEROS);
                }
                form
            }
            (Endpoint::V1Completions, false) if openai => whole(VLLM_TEXT_WHOLE),
            (Endpoint::V1Completions, false) => whole(TEXT_WHOLE),
            (Endpoint::V1Responses, true) => {
                Form { again: 4.0, ..events([RESPONSES_FIRST, RESPONSES_DELTA, RESPONSES_LAST], "", false) }
            }
            (Endpoint::V1Responses, false) => whole(RESPONSES_WHOLE),
            (Endpoint::V1Messages, true) => events([MESSAGES_FIRST, MESSAGES_DELTA, MESSAGES_LAST], "", false),
            (Endpoint::V1Messages, false) => whole(MESSAGES_WHOLE),
            _ => return None,
        };
        Some(form)
    }
}

/// Returns the bytes of framing around one chunk (RFC 9112 section 7.1): its size in hexadecimal digits and two line
/// ends.
pub fn framing(chunk: f64) -> f64 {
    let digits = match chunk {
        size if size < 16.0 => 1.0,
        size if size < 256.0 => 2.0,
        size if size < 4096.0 => 3.0,
        _ => 4.0,
    };
    digits + 4.0
}

/// The bytes of framing of the last chunk, which is empty.
pub const LAST_CHUNK: f64 = 5.0;

/// The bytes of a name and a text of usual length, where the size of a chunk is wanted.
const USUAL: f64 = 20.0;

fn length(text: &str) -> f64 {
    text.len() as f64
}

fn chunk(text: &str) -> f64 {
    if text.is_empty() { 0.0 } else { length(text) + framing(length(text) + USUAL) }
}

/// Returns a form of Ollama's own API: lines, of which the last is the whole answer's object without its text.
fn native(line: &str, end: &str, stream: bool, ids: bool) -> Form {
    // `"context":[…],`
    let context = if ids { 13.0 } else { 0.0 };
    let once = Form {
        opening: length(HEAD_WHOLE) + length(end) - 1.0 + context,
        line: 0.0,
        closing: 0.0,
        names_opening: 1.0,
        names_line: 0.0,
        names_closing: 0.0,
        again: 0.0,
        ids,
    };
    if !stream {
        return once;
    }
    Form {
        opening: length(HEAD_STREAM),
        line: chunk(line),
        closing: chunk(end) + context + LAST_CHUNK,
        names_opening: 0.0,
        names_line: 1.0,
        names_closing: 1.0,
        ..once
    }
}

/// Returns a form of server-sent events: those before the text, around each text, and after it; and the one that
/// `include_usage` adds.
fn events([first, each, last]: [&str; 3], with_usage: &str, usage: bool) -> Form {
    let usage = if usage { with_usage } else { "" };
    let names = |text: &str| text.matches("\"model\":\"\"").count() as f64;
    Form {
        opening: length(HEAD_EVENTS) + chunk(first),
        line: chunk(each),
        closing: chunk(last) + chunk(usage) + LAST_CHUNK,
        names_opening: names(first),
        names_line: names(each),
        names_closing: names(last) + names(usage),
        again: 0.0,
        ids: false,
    }
}

fn whole(body: &str) -> Form {
    Form {
        opening: length(HEAD_WHOLE) + length(body),
        line: 0.0,
        closing: 0.0,
        names_opening: 1.0,
        names_line: 0.0,
        names_closing: 0.0,
        again: 0.0,
        ids: false,
    }
}

const HEAD_STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const HEAD_EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
const HEAD_WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n\
    Date: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Length: 1234\r\n\r\n";

const CHAT_LINE: &str = "{\"model\":\"\",\"created_at\":\"2026-11-21T12:00:00.123456789Z\",\
    \"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n";
const CHAT_END: &str = "{\"model\":\"\",\"created_at\":\"2026-11-21T12:00:00.123456789Z\",\
    \"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\
    \"total_duration\":1234567890,\"load_duration\":12345678,\"prompt_eval_count\":123,\
    \"prompt_eval_duration\":123456789,\"eval_count\":123,\"eval_duration\":1234567890}\n";
const GENERATE_LINE: &str =
    "{\"model\":\"\",\"created_at\":\"2026-11-21T12:00:00.123456789Z\",\"response\":\"\",\"done\":false}\n";
const GENERATE_END: &str = "{\"model\":\"\",\"created_at\":\"2026-11-21T12:00:00.123456789Z\",\"response\":\"\",\
    \"done\":true,\"done_reason\":\"stop\",\"total_duration\":1234567890,\"load_duration\":12345678,\
    \"prompt_eval_count\":123,\"prompt_eval_duration\":123456789,\"eval_count\":123,\"eval_duration\":1234567890}\n";

const CHAT: &str = "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1795262400,\
    \"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\
    \"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
const CHAT_LAST: &str = "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1795262400,\
    \"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\
    \"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const CHAT_USAGE: &str = "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1795262400,\
    \"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":123,\"completion_tokens\":123,\"total_tokens\":123}}\n\n";
const CHAT_WHOLE: &str = "{\"id\":\"chatcmpl-123\",\"object\":\"chat.completion\",\"created\":1795262400,\
    \"model\":\"\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"index\":0,\
    \"message\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}],\
    \"usage\":{\"prompt_tokens\":123,\"completion_tokens\":123,\"total_tokens\":123}}\n";

const TEXT: &str = "data: {\"id\":\"cmpl-123\",\"object\":\"text_completion\",\"created\":1795262400,\"model\":\"\",\
    \"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":null}]}\n\n";
const TEXT_LAST: &str = "data: {\"id\":\"cmpl-123\",\"object\":\"text_completion\",\"created\":1795262400,\"model\":\"\",\
    \"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\n\n";
const TEXT_USAGE: &str = "data: {\"id\":\"cmpl-123\",\"object\":\"text_completion\",\"created\":1795262400,\"model\":\"\",\
    \"system_fingerprint\":\"fp_ollama\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":123,\"completion_tokens\":123,\"total_tokens\":123}}\n\n";
const USAGE_OF_ZEROS: &str = ",\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0,\"total_tokens\":0}";
const TEXT_WHOLE: &str = "{\"id\":\"cmpl-123\",\"object\":\"text_completion\",\"created\":1795262400,\"model\":\"\",\
    \"system_fingerprint\":\"fp_ollama\",\"choices\":[{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}],\
    \"usage\":{\"prompt_tokens\":123,\"completion_tokens\":123,\"total_tokens\":123}}\n";

const RESPONSES_DELTA: &str = "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\"\",\
    \"item_id\":\"msg_resp_123\",\"output_index\":0,\"sequence_number\":123,\"type\":\"response.output_text.delta\"}\n\n";
/// `response.created`, `response.in_progress`, `response.output_item.added`, `response.content_part.added`.
const RESPONSES_FIRST: &str = "event: response.created\ndata: {\"response\":{\"completed_at\":null,\
    \"created_at\":1795262400,\"error\":null,\"id\":\"resp_123\",\"incomplete_details\":null,\"model\":\"\",\
    \"object\":\"response\",\"output\":[],\"parallel_tool_calls\":true,\"status\":\"in_progress\",\
    \"tool_choice\":\"auto\",\"tools\":[],\"usage\":null},\"sequence_number\":0,\"type\":\"response.created\"}\n\n\
    event: response.in_progress\ndata: {\"response\":{\"completed_at\":null,\"created_at\":1795262400,\"error\":null,\
    \"id\":\"resp_123\",\"incomplete_details\":null,\"model\":\"\",\"object\":\"response\",\"output\":[],\
    \"parallel_tool_calls\":true,\"status\":\"in_progress\",\"tool_choice\":\"auto\",\"tools\":[],\"usage\":null},\
    \"sequence_number\":1,\"type\":\"response.in_progress\"}\n\nevent: response.output_item.added\ndata: {\"item\":\
    {\"content\":[],\"id\":\"msg_resp_123\",\"role\":\"assistant\",\"status\":\"in_progress\",\"type\":\"message\"},\
    \"output_index\":0,\"sequence_number\":2,\"type\":\"response.output_item.added\"}\n\n\
    event: response.content_part.added\ndata: {\"content_index\":0,\"item_id\":\"msg_resp_123\",\"output_index\":0,\
    \"part\":{\"annotations\":[],\"logprobs\":[],\"text\":\"\",\"type\":\"output_text\"},\"sequence_number\":3,\
    \"type\":\"response.content_part.added\"}\n\n";
/// `response.output_text.done`, `response.content_part.done`, `response.output_item.done`, `response.completed`.
const RESPONSES_LAST: &str = "event: response.output_text.done\ndata: {\"content_index\":0,\"item_id\":\"msg_resp_123\",\
    \"output_index\":0,\"sequence_number\":123,\"text\":\"\",\"type\":\"response.output_text.done\"}\n\n\
    event: response.content_part.done\ndata: {\"content_index\":0,\"item_id\":\"msg_resp_123\",\"output_index\":0,\
    \"part\":{\"annotations\":[],\"logprobs\":[],\"text\":\"\",\"type\":\"output_text\"},\"sequence_number\":123,\
    \"type\":\"response.content_part.done\"}\n\nevent: response.output_item.done\ndata: {\"item\":{\"content\":\
    [{\"annotations\":[],\"logprobs\":[],\"text\":\"\",\"type\":\"output_text\"}],\"id\":\"msg_resp_123\",\
    \"role\":\"assistant\",\"status\":\"completed\",\"type\":\"message\"},\"output_index\":0,\"sequence_number\":123,\
    \"type\":\"response.output_item.done\"}\n\nevent: response.completed\ndata: {\"response\":{\"completed_at\":\
    1795262400,\"created_at\":1795262400,\"error\":null,\"id\":\"resp_123\",\"incomplete_details\":null,\"model\":\"\",\
    \"object\":\"response\",\"output\":[{\"content\":[{\"annotations\":[],\"logprobs\":[],\"text\":\"\",\
    \"type\":\"output_text\"}],\"id\":\"msg_resp_123\",\"role\":\"assistant\",\"status\":\"completed\",\
    \"type\":\"message\"}],\"parallel_tool_calls\":true,\"status\":\"completed\",\"tool_choice\":\"auto\",\"tools\":[],\
    \"usage\":{\"input_tokens\":123,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":123,\
    \"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":123}},\"sequence_number\":123,\
    \"type\":\"response.completed\"}\n\n";
const RESPONSES_WHOLE: &str = "{\"completed_at\":1795262400,\"created_at\":1795262400,\"error\":null,\
    \"id\":\"resp_123\",\"incomplete_details\":null,\"model\":\"\",\"object\":\"response\",\"output\":[{\"content\":\
    [{\"annotations\":[],\"logprobs\":[],\"text\":\"\",\"type\":\"output_text\"}],\"id\":\"msg_resp_123\",\
    \"role\":\"assistant\",\"status\":\"completed\",\"type\":\"message\"}],\"parallel_tool_calls\":true,\
    \"status\":\"completed\",\"tool_choice\":\"auto\",\"tools\":[],\"usage\":{\"input_tokens\":123,\
    \"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":123,\"output_tokens_details\":\
    {\"reasoning_tokens\":0},\"total_tokens\":123}}\n";

const MESSAGES_DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
    \"delta\":{\"type\":\"text_delta\",\"text\":\"\"}}\n\n";
/// `message_start`, `content_block_start`.
const MESSAGES_FIRST: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\
    \"msg_000000000000000000000123\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"\",\"content\":[],\
    \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":12,\"output_tokens\":0}}}\n\n\
    event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":\
    {\"type\":\"text\",\"text\":\"\"}}\n\n";
/// `content_block_stop`, `message_delta`, `message_stop`.
const MESSAGES_LAST: &str = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
    event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\
    \"stop_sequence\":null},\"usage\":{\"input_tokens\":123,\"output_tokens\":123}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const MESSAGES_WHOLE: &str = "{\"id\":\"msg_000000000000000000000123\",\"type\":\"message\",\"role\":\"assistant\",\
    \"model\":\"\",\"content\":[{\"type\":\"text\",\"text\":\"\"}],\"stop_reason\":\"end_turn\",\
    \"stop_sequence\":null,\"usage\":{\"input_tokens\":123,\"output_tokens\":123}}\n";

const VLLM_CHAT_FIRST: &str = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
    \"object\":\"chat.completion.chunk\",\"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\
    \"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const VLLM_CHAT: &str = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
    \"object\":\"chat.completion.chunk\",\"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\
    \"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const VLLM_CHAT_LAST: &str = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
    \"object\":\"chat.completion.chunk\",\"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\
    \"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}]}\n\n\
    data: [DONE]\n\n";
const VLLM_CHAT_USAGE: &str = "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\
    \"object\":\"chat.completion.chunk\",\"created\":1795262400,\"model\":\"\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":123,\"total_tokens\":123,\"completion_tokens\":123}}\n\n";
const VLLM_CHAT_WHOLE: &str = "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\
    \"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\
    \"content\":\"\",\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\
    \"usage\":{\"prompt_tokens\":123,\"total_tokens\":123,\"completion_tokens\":123}}";
const VLLM_TEXT: &str = "data: {\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\",\
    \"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\
    \"finish_reason\":null,\"stop_reason\":null}]}\n\n";
const VLLM_TEXT_LAST: &str = "data: [DONE]\n\n";
const VLLM_TEXT_USAGE: &str = "data: {\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\",\
    \"created\":1795262400,\"model\":\"\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":123,\"total_tokens\":123,\"completion_tokens\":123}}\n\n";
const VLLM_TEXT_WHOLE: &str = "{\"id\":\"cmpl-0123456789abcdef0123456789abcdef\",\"object\":\"text_completion\",\
    \"created\":1795262400,\"model\":\"\",\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\
    \"finish_reason\":\"stop\",\"stop_reason\":null,\"prompt_logprobs\":null}],\
    \"usage\":{\"prompt_tokens\":123,\"total_tokens\":123,\"completion_tokens\":123}}";
