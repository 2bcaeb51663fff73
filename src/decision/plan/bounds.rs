//! The keys of a body that bound the length of an answer, by the software that answers and the endpoint: one table.
//!
//! Every server reads other keys, and treats a key that it does not read as absent. So a request is bounded only if the
//! server to which it goes reads a bound, and by the key which that server prefers. `kind = "openai"` is one of several
//! programs, and herdgate does not know which: there a request counts for the most that any of them would make of it.
//!
//! Sources: Ollama `openai/openai.go` (`FromChatRequest`, `FromCompleteRequest`), `anthropic/anthropic.go`,
//! `api/types.go` (`Options`) and `runner/…/runner.go` (`seq.numPredict > 0`: 0 and less bound nothing); llama.cpp
//! `tools/server/server-task.cpp` (`params_from_json_cmpl`), `server-chat.cpp` (translation of other dialects); vLLM
//! `entrypoints/openai/*/protocol.py`; LocalAI `core/schema/prediction.go`; TGI `router/src/lib.rs`.

use super::server::ServerKind;
use crate::decision::request::body::{Body, Watched};
use crate::decision::request::endpoint::Endpoint;

/// A key that bounds the length of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKey {
    /// The key `options.num_predict`.
    NumPredict,
    /// The key `max_tokens`.
    MaxTokens,
    /// The key `max_completion_tokens`.
    MaxCompletionTokens,
    /// The key `max_output_tokens`.
    MaxOutputTokens,
    /// The key `n_predict`.
    NPredict,
}

impl OutputKey {
    /// Returns the key as it is written in a body.
    pub fn as_str(self) -> &'static str {
        match self {
            OutputKey::NumPredict => "num_predict",
            OutputKey::MaxTokens => "max_tokens",
            OutputKey::MaxCompletionTokens => "max_completion_tokens",
            OutputKey::MaxOutputTokens => "max_output_tokens",
            OutputKey::NPredict => "n_predict",
        }
    }

    /// Returns the value of the key in a body. Every server treats `null` as absent.
    fn of(self, body: &Body) -> Option<i64> {
        let watched: &Option<Watched<i64>> = match self {
            OutputKey::NumPredict => &body.num_predict,
            OutputKey::MaxTokens => &body.max_tokens,
            OutputKey::MaxCompletionTokens => &body.max_completion_tokens,
            OutputKey::MaxOutputTokens => &body.max_output_tokens,
            OutputKey::NPredict => &body.n_predict,
        };
        watched.as_ref()?.value
    }
}

/// How one program reads a request: the keys from which it takes a bound, the preferred one first.
type Reading = &'static [OutputKey];

use OutputKey::{
    MaxCompletionTokens as Mct, MaxOutputTokens as Mot, MaxTokens as Mt, NPredict as Np, NumPredict as NumP,
};

/// The table: returns how the programs of a kind read a request to an endpoint. Empty if none of them generates there.
fn readings(kind: ServerKind, endpoint: Endpoint) -> &'static [Reading] {
    match (kind, endpoint) {
        // Ollama. `options` belongs to its own API, and `/v1` does not read it. `max_completion_tokens` is ignored.
        (ServerKind::Ollama, Endpoint::Generate | Endpoint::Chat) => &[&[NumP]],
        (ServerKind::Ollama, Endpoint::V1ChatCompletions | Endpoint::V1Completions | Endpoint::V1Messages) => &[&[Mt]],
        (ServerKind::Ollama, Endpoint::V1Responses) => &[&[Mot]],
        // vLLM; llama.cpp of today, and from before it read `max_completion_tokens`; LocalAI and TGI.
        (ServerKind::OpenAi, Endpoint::V1ChatCompletions) => &[&[Mct, Mt], &[Np, Mct, Mt], &[Np, Mt], &[Mt]],
        // vLLM, LocalAI, TGI; llama.cpp.
        (ServerKind::OpenAi, Endpoint::V1Completions) => &[&[Mt], &[Np, Mct, Mt], &[Np, Mt]],
        // vLLM; llama.cpp, which turns `max_output_tokens` into `max_tokens` and treats the rest as a chat, unchanged.
        (ServerKind::OpenAi, Endpoint::V1Responses) => &[&[Mot], &[Np, Mct, Mot, Mt], &[Np, Mot, Mt]],
        // vLLM and llama.cpp, which turns the request into a chat.
        (ServerKind::OpenAi, Endpoint::V1Messages) => &[&[Mt], &[Np, Mt]],
        // llama.cpp answers `/api/chat` like `/v1/chat/completions`. The others do not know `/api`.
        (ServerKind::OpenAi, Endpoint::Chat) => &[&[Np, Mct, Mt], &[Np, Mt]],
        (ServerKind::OpenAi, Endpoint::Generate) => &[],
        // An endpoint that embeds or describes generates nothing.
        (_, Endpoint::Embed | Endpoint::Embeddings | Endpoint::V1Embeddings | Endpoint::Show) => &[],
        (
            _,
            Endpoint::Root
            | Endpoint::Tags
            | Endpoint::Ps
            | Endpoint::Version
            | Endpoint::V1Models
            | Endpoint::V1Model
            | Endpoint::Admin,
        ) => &[],
    }
}

/// The longest answer that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The request generates nothing.
    None,
    /// The request asks, by this key, for at most so many LLM tokens over all its answers.
    Bounded {
        /// The key that gives the bound.
        key: OutputKey,
        /// The value of the key times the number of answers, in LLM tokens.
        tokens: u64,
        /// The number of answers that the request asks for.
        answers: u64,
    },
    /// The request gives no bound that the server reads, so the server's default applies. The key would bound it.
    Open(OutputKey),
    /// The request asks for no bound (`num_predict` of -1 or -2), or for one that counts as none (0).
    Endless(OutputKey),
}

impl Output {
    /// Returns what a request to an endpoint asks of a server of this kind.
    pub fn asked(kind: ServerKind, endpoint: Endpoint, body: &Body) -> Output {
        let answers = answers(kind, endpoint, body);
        let one = |reading: &Reading| {
            let found = reading.iter().find_map(|key| Some((*key, key.of(body)?)));
            match found.map(|(key, value)| (key, u64::try_from(value).unwrap_or(0))) {
                Some((key, 0)) => Output::Endless(key),
                Some((key, tokens)) => Output::Bounded { key, tokens: tokens.saturating_mul(answers), answers },
                // The last key is the one that every version reads.
                None => reading.last().map_or(Output::None, |key| Output::Open(*key)),
            }
        };
        readings(kind, endpoint).iter().map(one).fold(Output::None, Output::most)
    }

    /// Returns the one that asks for more. An open one counts for less than a bounded one, because it asks for nothing
    /// more.
    #[must_use]
    pub fn most(self, other: Output) -> Output {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(self) -> (u8, u64) {
        match self {
            Output::None => (0, 0),
            Output::Open(_) => (1, 0),
            Output::Bounded { tokens, .. } => (2, tokens),
            Output::Endless(_) => (3, 0),
        }
    }

    /// Returns the key that the request should give, if some program of this kind would find no bound in it.
    pub fn left_open(kind: ServerKind, endpoint: Endpoint, body: &Body) -> Option<OutputKey> {
        let open = |reading: &&Reading| reading.iter().all(|key| key.of(body).is_none());
        readings(kind, endpoint).iter().find(open).and_then(|reading| reading.last().copied())
    }
}

/// Returns how many answers are generated: for each prompt of an array (`/v1/completions`) as many as `n` says
/// (llama.cpp: `n_cmpl` before `n`), or as many candidates as `best_of` says. Ollama reads neither, and accepts no
/// array.
fn answers(kind: ServerKind, endpoint: Endpoint, body: &Body) -> u64 {
    if kind == ServerKind::Ollama {
        return 1;
    }
    let counts = [&body.n, &body.n_cmpl, &body.best_of];
    let each = counts.iter().filter_map(|count| count.as_ref()?.value).max().unwrap_or(1);
    let prompts = if endpoint == Endpoint::V1Completions { body.prompts } else { 1 };
    u64::try_from(each).unwrap_or(1).max(1).saturating_mul(u64::from(prompts.max(1)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may fail
mod tests {
    use super::*;
    use crate::decision::request::body::BodyReader;
    use crate::decision::request::route::route;

    /// Checks against `bounded KEY TOKENS`, `open KEY`, `endless KEY` or `none`, followed by ` +open KEY` if some
    /// program would find no bound.
    fn check(kind: ServerKind, path: &str, body: &str, expected: &str) {
        let endpoint = route(b"POST", path.as_bytes()).unwrap().endpoint;
        let body = BodyReader::read(body.as_bytes()).unwrap();
        let open = Output::left_open(kind, endpoint, &body);
        let found = match Output::asked(kind, endpoint, &body) {
            Output::None => "none".to_owned(),
            Output::Bounded { key, tokens, .. } => format!("bounded {} {tokens}", key.as_str()),
            Output::Open(key) => format!("open {}", key.as_str()),
            Output::Endless(key) => format!("endless {}", key.as_str()),
        };
        let open = match (found.starts_with("open"), open) {
            (false, Some(key)) => format!(" +open {}", key.as_str()),
            _ => String::new(),
        };
        assert_eq!(format!("{found}{open}"), expected, "{kind:?} {path} {body:?}");
    }

    #[test]
    fn ollama_reads_one_key_on_each_endpoint() {
        let ollama = |path, body, expected| check(ServerKind::Ollama, path, body, expected);
        for path in ["/api/generate", "/api/chat"] {
            ollama(path, r#"{"options":{"num_predict":100}}"#, "bounded num_predict 100");
            ollama(path, r#"{"options":{"num_predict":-1}}"#, "endless num_predict");
            ollama(path, r#"{"options":{"num_predict":-2}}"#, "endless num_predict");
            ollama(path, r#"{"options":{"num_predict":0}}"#, "endless num_predict");
            ollama(path, r#"{"options":{"num_predict":null}}"#, "open num_predict");
            ollama(path, r#"{"num_predict":1,"max_tokens":1,"n_predict":1}"#, "open num_predict");
        }
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/messages"] {
            ollama(path, r#"{"max_tokens":100,"options":{"num_predict":9}}"#, "bounded max_tokens 100");
            ollama(path, r#"{"max_completion_tokens":100,"n_predict":1}"#, "open max_tokens");
            ollama(path, r#"{"max_tokens":0}"#, "endless max_tokens");
        }
        ollama("/v1/chat/completions", r#"{"max_tokens":7,"max_completion_tokens":9000}"#, "bounded max_tokens 7");
        ollama("/v1/responses", r#"{"max_output_tokens":100,"max_tokens":9}"#, "bounded max_output_tokens 100");
        ollama("/v1/responses", r#"{"max_tokens":9}"#, "open max_output_tokens");
    }

    #[test]
    fn ollama_gives_one_answer_whatever_is_asked() {
        let body = r#"{"max_tokens":100,"n":8,"best_of":9,"n_cmpl":3,"prompt":["a","b"]}"#;
        check(ServerKind::Ollama, "/v1/completions", body, "bounded max_tokens 100");
    }

    #[test]
    fn of_the_programs_of_kind_openai_the_one_that_would_answer_longest_counts() {
        let openai = |path, body, expected| check(ServerKind::OpenAi, path, body, expected);
        let chat = "/v1/chat/completions";
        openai(chat, r#"{"max_tokens":100}"#, "bounded max_tokens 100");
        openai(chat, r#"{"max_completion_tokens":100}"#, "bounded max_completion_tokens 100 +open max_tokens");
        openai(chat, r#"{"max_tokens":100,"max_completion_tokens":7}"#, "bounded max_tokens 100");
        openai(chat, r#"{"max_tokens":7,"max_completion_tokens":100}"#, "bounded max_completion_tokens 100");
        openai(chat, r#"{"max_tokens":7,"n_predict":100}"#, "bounded n_predict 100");
        openai(chat, r#"{"max_tokens":7,"n_predict":-1}"#, "endless n_predict");
        openai(chat, r#"{"max_tokens":100,"n_predict":7}"#, "bounded max_tokens 100");
        openai(chat, r#"{"n_predict":7}"#, "bounded n_predict 7 +open max_tokens");
        openai(chat, r#"{"options":{"num_predict":7}}"#, "open max_tokens");
        openai(chat, r#"{"max_tokens":-1}"#, "endless max_tokens");
        openai("/v1/completions", r#"{"max_tokens":100}"#, "bounded max_tokens 100");
        openai("/v1/completions", r#"{"n_predict":100}"#, "bounded n_predict 100 +open max_tokens");
        openai("/v1/responses", r#"{"max_output_tokens":100,"max_tokens":9}"#, "bounded max_output_tokens 100");
        openai(
            "/v1/responses",
            r#"{"max_output_tokens":9,"max_completion_tokens":100}"#,
            "bounded max_completion_tokens 100",
        );
        openai("/v1/responses", r#"{"max_tokens":100}"#, "bounded max_tokens 100 +open max_output_tokens");
        openai("/v1/messages", r#"{"max_tokens":100}"#, "bounded max_tokens 100");
        openai("/v1/messages", r#"{"max_output_tokens":100}"#, "open max_tokens");
        openai("/api/chat", r#"{"options":{"num_predict":7},"max_tokens":9}"#, "bounded max_tokens 9");
        openai("/api/generate", r#"{"n_predict":-1}"#, "none");
    }

    #[test]
    fn several_answers_multiply_the_bound() {
        let openai = |path, body, expected| check(ServerKind::OpenAi, path, body, expected);
        let chat = "/v1/chat/completions";
        openai(chat, r#"{"max_tokens":100,"n":3}"#, "bounded max_tokens 300");
        openai(chat, r#"{"max_tokens":100,"n":3,"best_of":5}"#, "bounded max_tokens 500");
        openai(chat, r#"{"max_tokens":100,"n":1,"n_cmpl":4}"#, "bounded max_tokens 400");
        openai(chat, r#"{"max_tokens":100,"n":0}"#, "bounded max_tokens 100");
        openai(chat, r#"{"max_tokens":100,"n":-4}"#, "bounded max_tokens 100");
        openai(chat, r#"{"max_tokens":100,"prompt":["a","b"]}"#, "bounded max_tokens 100");
        let path = "/v1/completions";
        openai(path, r#"{"max_tokens":100,"prompt":"a"}"#, "bounded max_tokens 100");
        openai(path, r#"{"max_tokens":100,"prompt":["a","b","c"]}"#, "bounded max_tokens 300");
        openai(path, r#"{"max_tokens":100,"prompt":[1,2,3]}"#, "bounded max_tokens 100");
        openai(path, r#"{"max_tokens":100,"prompt":[[1,2],[3]],"n":2}"#, "bounded max_tokens 400");
        openai(
            path,
            r#"{"max_tokens":9223372036854775807,"prompt":["a","b"],"n":9223372036854775807}"#,
            "bounded max_tokens 18446744073709551615",
        );
    }

    #[test]
    fn what_embeds_asks_for_no_answer() {
        for kind in [ServerKind::Ollama, ServerKind::OpenAi] {
            for path in ["/api/embed", "/api/embeddings", "/v1/embeddings", "/api/show"] {
                check(kind, path, r#"{"max_tokens":-1,"options":{"num_predict":-1}}"#, "none");
            }
        }
    }
}
