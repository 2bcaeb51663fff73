//! Takes the answer to a deep check apart: what in its bytes is text, what stands around each token, and what stands once.
//!
//! Framing is reckoned as the servers write it: each line or event of a stream is a chunk of its own, which they must do
//! for it to arrive when it is made.

use super::fetch::FetchReply;
use crate::decision::fleet::roster::PoolKey;
use crate::ledger::tokens::estimate::{AnswerShape, Calibration};
use crate::ledger::tokens::form::{AnswerKind, LAST_CHUNK, framing};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A text as ordinary prompts are: code, figures, two languages. What is learned of the tokens of a prompt from checks alone is
/// learned from it, so it must not flatter. It ends within an English sentence, so that what a model goes on with is the most
/// ordinary text there is: the text of a token is learned from that.
pub const SAMPLE: &str = "fn sum(a: &[u32]) -> u32 { 0x2f } Größer als 17 Schafe wird die Herde nie. The old shepherd counts \
    them at the gate every evening, and when";

/// Result of an answer of status 200.
#[derive(Debug, Default, PartialEq)]
pub struct AnswerParts {
    /// Whether it ended with what was asked for.
    pub done: bool,
    /// What the server says went wrong, within the stream.
    pub error: Option<String>,
    /// Nanoseconds that loading the model took, where it says so.
    pub load_ns: Option<u64>,
    /// What was measured, where all of it could be read.
    pub found: Option<Calibration>,
}

/// Returns a raw JSON string's bytes without its quotes; 0 for anything else.
fn text(raw: Option<&RawValue>) -> usize {
    raw.map(RawValue::get).filter(|raw| raw.starts_with('"')).map_or(0, |raw| raw.len().saturating_sub(2))
}

/// What an answer's pieces add up to.
#[derive(Default)]
struct Sums {
    /// Whether each piece is a chunk of its own.
    chunked: bool,
    /// Pieces before the first text, after the last, and each with its framing.
    opening: f64,
    lines: f64,
    closing: f64,
    names: (f64, f64),
    count: u64,
    text: u64,
    name: usize,
    tokens: Option<u64>,
    ids: Option<(u64, u64)>,
    prompt_tokens: Option<u64>,
}

impl Sums {
    /// Adds a line or an event: its length, the bytes of text in it, those of the name, and whether a token made it.
    fn piece(&mut self, length: usize, said: usize, name: Option<usize>, is_line: bool) {
        let chunk = if self.chunked { framing(length as f64) } else { 0.0 };
        let around = length as f64 - said as f64 - name.unwrap_or(0) as f64 + chunk;
        self.name = name.unwrap_or(self.name);
        self.text = self.text.saturating_add(said as u64);
        let named = f64::from(u8::from(name.is_some()));
        if is_line {
            self.count = self.count.saturating_add(1);
            self.lines += around + self.closing;
            // What stood between two texts belongs to the lines.
            self.closing = 0.0;
            self.names.1 = 0.0;
        } else if self.count == 0 {
            self.opening += around;
            self.names.0 += named;
        } else {
            self.closing += around;
            self.names.1 += named;
        }
    }

    fn of(said: &FetchReply, asked: AnswerKind) -> Sums {
        Sums { chunked: said.framing > 0 && asked.stream, ..Sums::default() }
    }

    fn calibration(self, said: &FetchReply, asked: AnswerKind, pool: PoolKey, prompt_bytes: usize) -> Calibration {
        let last = if self.chunked { LAST_CHUNK } else { 0.0 };
        let bytes = said.head.saturating_add(said.body.len()).saturating_add(said.framing);
        let answer = AnswerShape {
            pool: Some(pool),
            asked,
            name: self.name as u64,
            prompt_tokens: self.prompt_tokens.unwrap_or(0),
            bytes: bytes as u64,
            framed: true,
            complete: true,
        };
        Calibration {
            answer,
            opening: self.opening + said.head as f64,
            line: self.lines / (self.count.max(1) as f64),
            closing: self.closing + last,
            names: self.names,
            lines: self.count,
            text: self.text,
            tokens: self.tokens,
            ids: self.ids,
            prompt: self.prompt_tokens.map(|tokens| (prompt_bytes as u64, tokens)),
        }
    }
}

/// Takes apart an answer of Ollama's own API: a stream of lines, or one object. `prompt_bytes` is what was sent of a prompt.
pub fn native(said: &FetchReply, asked: AnswerKind, pool: PoolKey, prompt_bytes: usize) -> AnswerParts {
    #[derive(Deserialize)]
    struct StreamLine<'a> {
        #[serde(borrow)]
        model: Option<&'a RawValue>,
        #[serde(borrow)]
        response: Option<&'a RawValue>,
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
        #[serde(borrow)]
        message: Option<StreamMessage<'a>>,
        #[serde(borrow)]
        context: Option<&'a RawValue>,
        #[serde(borrow)]
        embeddings: Option<Vec<&'a RawValue>>,
        done: Option<bool>,
        error: Option<String>,
        eval_count: Option<u64>,
        prompt_eval_count: Option<u64>,
        load_duration: Option<u64>,
    }
    #[derive(Deserialize)]
    struct StreamMessage<'a> {
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
    }
    let (mut taken, mut sums, mut readable) = (AnswerParts::default(), Sums::of(said, asked), true);
    for piece in said.body.split_inclusive(|byte| *byte == b'\n').filter(|piece| !piece.trim_ascii().is_empty()) {
        let Ok(line) = serde_json::from_slice::<StreamLine<'_>>(piece) else {
            readable = false;
            continue;
        };
        taken.error = taken.error.or(line.error);
        taken.load_ns = line.load_duration.or(taken.load_ns);
        let done = line.done == Some(true) || line.embeddings.is_some_and(|all| !all.is_empty());
        taken.done |= done;
        let message = line.message.as_ref();
        let mut words = text(line.response).saturating_add(text(line.thinking));
        words = words.saturating_add(text(message.and_then(|message| message.content)));
        words = words.saturating_add(text(message.and_then(|message| message.thinking)));
        let mut length = piece.len();
        if let Some(context) = line.context.map(RawValue::get).filter(|context| context.len() > 2) {
            let ids = context.bytes().filter(|byte| *byte == b',').count().saturating_add(1);
            // With a comma each, of which the last is the one behind the array.
            let bytes = context.len().saturating_sub(1);
            length = length.saturating_sub(bytes.saturating_sub(1));
            sums.ids = Some((ids as u64, bytes as u64));
        }
        let is_line = asked.stream && !done && words > 0;
        sums.piece(length, words, line.model.map(|model| text(Some(model))), is_line);
        sums.tokens = line.eval_count.or(sums.tokens);
        sums.prompt_tokens = line.prompt_eval_count.or(sums.prompt_tokens);
    }
    let whole = taken.done && taken.error.is_none() && readable;
    taken.found = whole.then(|| sums.calibration(said, asked, pool, prompt_bytes));
    taken
}

/// Takes apart an answer of OpenAI's API: a stream of events, or one object, whichever it is.
pub fn openai(said: &FetchReply, asked: AnswerKind, pool: PoolKey, prompt_bytes: usize) -> AnswerParts {
    #[derive(Deserialize, Default)]
    struct StreamEvent<'a> {
        #[serde(borrow)]
        model: Option<&'a RawValue>,
        #[serde(borrow)]
        choices: Option<Vec<StreamChoice<'a>>>,
        #[serde(borrow)]
        data: Option<Vec<&'a RawValue>>,
        usage: Option<StreamUsage>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct StreamChoice<'a> {
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        #[serde(borrow)]
        delta: Option<Part<'a>>,
        #[serde(borrow)]
        message: Option<Part<'a>>,
    }
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        #[serde(borrow)]
        reasoning: Option<&'a RawValue>,
        #[serde(borrow)]
        reasoning_content: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct StreamUsage {
        prompt_tokens: Option<u64>,
        completion_tokens: Option<u64>,
    }
    let is_whole = said.body.trim_ascii_start().starts_with(b"{");
    let asked = AnswerKind { stream: asked.stream && !is_whole, ..asked };
    let (mut taken, mut sums, mut readable) = (AnswerParts::default(), Sums::of(said, asked), true);
    let mut rest = &said.body[..];
    while !rest.trim_ascii().is_empty() {
        let end = if is_whole {
            rest.len()
        } else {
            rest.windows(2).position(|two| two == b"\n\n").map_or(rest.len(), |at| at.saturating_add(2))
        };
        let (piece, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after;
        let json = piece.strip_prefix(b"data:").unwrap_or(piece).trim_ascii();
        if json == b"[DONE]" {
            sums.piece(piece.len(), 0, None, false);
            continue;
        }
        let Ok(event) = serde_json::from_slice::<StreamEvent<'_>>(json) else {
            readable = false;
            continue;
        };
        if let Some(error) = event.error.map(RawValue::get).filter(|error| *error != "null") {
            taken.error = Some(error.chars().take(200).collect());
        }
        taken.done |= event.data.is_some_and(|all| !all.is_empty());
        let mut words = 0_usize;
        for choice in event.choices.iter().flatten() {
            taken.done = true;
            words = words.saturating_add(text(choice.text));
            for part in [&choice.delta, &choice.message].into_iter().flatten() {
                for raw in [part.content, part.reasoning, part.reasoning_content] {
                    words = words.saturating_add(text(raw));
                }
            }
        }
        let name = event.model.map(|model| text(Some(model)));
        sums.piece(piece.len(), words, name, asked.stream && words > 0);
        if let Some(usage) = event.usage {
            // Ollama puts zeros on each chunk before it knows.
            sums.tokens = usage.completion_tokens.filter(|tokens| *tokens > 0).or(sums.tokens);
            sums.prompt_tokens = usage.prompt_tokens.filter(|tokens| *tokens > 0).or(sums.prompt_tokens);
        }
    }
    let whole = taken.done && taken.error.is_none() && readable && sums.name > 0;
    taken.found = whole.then(|| sums.calibration(said, asked, pool, prompt_bytes));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::plan::server::ServerKind;
    use crate::decision::request::endpoint::Endpoint;
    use crate::decision::request::name::ModelName;

    const CHAT: AnswerKind =
        AnswerKind { kind: ServerKind::Ollama, endpoint: Endpoint::Chat, stream: true, usage: false, raw: false };

    fn said(pieces: &[&str]) -> FetchReply {
        let framing = 5 + pieces.iter().map(|piece| format!("{:x}", piece.len()).len() + 4).sum::<usize>();
        FetchReply { status: 200, date: None, head: 100, framing, body: pieces.concat().into_bytes() }
    }

    fn whole(body: &str) -> FetchReply {
        FetchReply { status: 200, date: None, head: 100, framing: 0, body: body.into() }
    }

    /// The parts add up to the bytes of the answer, whatever it is.
    fn check(what: &str, found: Option<Calibration>, lines: u64, text: u64, tokens: Option<u64>) -> Calibration {
        let found = found.unwrap();
        assert_eq!((found.lines, found.text, found.tokens), (lines, text, tokens), "{what}");
        let names = found.names.0 + found.names.1 + if lines > 0 && found.line > 30.0 { lines as f64 } else { 0.0 };
        let ids = found.ids.map_or(0, |(_, bytes)| bytes - 1);
        let parts = found.opening + found.closing + found.line * lines as f64;
        let sum = parts + names * found.answer.name as f64 + (text + ids) as f64;
        assert_eq!(sum, found.answer.bytes as f64, "{what}: {found:?}");
        found
    }

    fn pool() -> PoolKey {
        PoolKey::of(&ModelName::canonical("m"))
    }

    #[test]
    fn native_answers_are_taken_apart_to_the_byte() {
        let line = |text: &str| {
            format!(r#"{{"model":"m:1","created_at":"2026","message":{{"content":"{text}"}},"done":false}}"#) + "\n"
        };
        let end = r#"{"model":"m:1","done":true,"context":[1,22,333],"load_duration":7,"prompt_eval_count":9,"eval_count":2}"#;
        let stream = said(&[&line("a\\n"), &line("größe"), end]);
        let taken = native(&stream, CHAT, pool(), 30);
        assert_eq!((taken.done, taken.error, taken.load_ns), (true, None, Some(7)));
        let found = check("a stream", taken.found, 2, 3 + 7, Some(2));
        assert_eq!((found.ids, found.prompt, found.answer.name), (Some((3, 9)), Some((30, 9)), 3));
        // 3 bytes of text fewer, 4 more: the mean line.
        let chunk = line("größe").len() as f64 + framing(80.0) - 7.0 - 3.0;
        assert_eq!(found.line, chunk);

        let body = r#"{"model":"m:1","response":"a tale","done":true,"prompt_eval_count":9,"eval_count":3}"#;
        let asked = AnswerKind { endpoint: Endpoint::Generate, stream: false, ..CHAT };
        let found = check("a whole one", native(&whole(body), asked, pool(), 30).found, 0, 6, Some(3));
        assert_eq!((found.closing, found.ids), (0.0, None));
        let thinking = line("").replace(r#""content":"""#, r#""content":"","thinking":"hm""#);
        check("a thought", native(&said(&[&thinking, end]), CHAT, pool(), 30).found, 1, 2, Some(2));
    }

    #[test]
    fn events_are_taken_apart_to_the_byte() {
        let asked = AnswerKind { kind: ServerKind::OpenAi, endpoint: Endpoint::V1ChatCompletions, usage: true, ..CHAT };
        let event = |choice: &str| format!("data: {{\"id\":\"1\",\"model\":\"m\",\"choices\":[{choice}]}}\n\n");
        let first = event(r#"{"delta":{"role":"assistant","content":""}}"#);
        let (one, two) = (event(r#"{"delta":{"content":"a b"}}"#), event(r#"{"delta":{"content":"\"c\""}}"#));
        let last = event(r#"{"delta":{},"finish_reason":"stop"}"#);
        let usage =
            "data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n";
        let stream = said(&[&first, &one, &two, &last, usage, "data: [DONE]\n\n"]);
        let found = check("chat", openai(&stream, asked, pool(), 30).found, 2, 3 + 5, Some(2));
        assert_eq!((found.names, found.prompt), ((1.0, 2.0), Some((30, 4))));
        // One that answers whole though a stream was asked for.
        let body = r#"{"model":"m","choices":[{"text":"abc"}],"usage":{"prompt_tokens":4,"completion_tokens":1}}"#;
        let found = check("whole", openai(&whole(body), asked, pool(), 30).found, 0, 3, Some(1));
        assert!(!found.answer.asked.stream);
        let bare = openai(&whole(r#"{"choices":[{"text":"a"}]}"#), asked, pool(), 30);
        assert_eq!((bare.done, bare.found), (true, None), "a token, and nothing to learn");
    }

    #[test]
    fn what_is_no_answer_teaches_nothing() {
        for (body, done, error) in [
            ("", false, None),
            ("<html>", false, None),
            ("{\"done\":false,\"response\":\"a\"}\n", false, None),
            ("{\"response\":\"a\"}\n{\"error\":\"boom\"}\n", false, Some("boom")),
            ("{\"error\":\"boom\"}\n{\"done\":true}\n", true, Some("boom")),
            ("nonsense\n{\"done\":true}\n", true, None),
        ] {
            let taken = native(&whole(body), CHAT, pool(), 30);
            assert_eq!((taken.done, taken.error.as_deref()), (done, error), "{body}");
            assert_eq!(taken.found, None, "{body}");
        }
        for (body, done, fails) in [
            ("", false, false),
            ("data: {}\n\n", false, false),
            ("data: {\"error\":{\"message\":\"boom\"}}\n\n", false, true),
            ("data: {\"choices\":[{\"text\":\"a\"}],\"error\":null}\n\ndata: {", true, false),
        ] {
            let taken = openai(&said(&[body]), CHAT, pool(), 30);
            assert_eq!((taken.done, taken.error.is_some(), taken.found), (done, fails, None), "{body}");
        }
    }
}
