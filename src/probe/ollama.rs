//! What an Ollama server has: `/api/tags`, `/api/ps`, `/api/version` (Ollama `api/types.go`).

use super::Parsed;
use super::check::{CheckFinding, TOKENS};
use super::fetch::{Client, FetchReply, failure};
use super::json::{self, Entries};
use super::measure::{self, AnswerParts, SAMPLE};
use super::rotation::CheckRequest;
use crate::decision::fleet::roster::PoolKey;
use crate::decision::fleet::{Failure, Inventory, LoadedModel, Model};
use crate::decision::plan::server::ServerKind;
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use crate::ledger::tokens::estimate::Calibration;
use crate::ledger::tokens::form::AnswerKind;
use crate::time::date;
use serde::Deserialize;
use serde_json::value::{RawValue, Value};
use std::time::UNIX_EPOCH;

/// Lists the models on disk; what the others are not enough for.
pub const TAGS: &str = "/api/tags";
/// Lists the models in memory.
pub const PS: &str = "/api/ps";
const VERSION: &str = "/api/version";
const GENERATE: &str = "/api/generate";
const CHAT: &str = "/api/chat";
const EMBED: &str = "/api/embed";

/// `load_duration` from which a model was loaded for the request; one that is loaded takes milliseconds.
const LOAD_NS: u64 = 1_000_000_000;

/// Asks all three. A server without the last two (404) is an old one, and still serves.
///
/// # Errors
/// As [`Client::body`], and `body` where an answer is not what it should be.
pub async fn ask(client: &Client, base: &str) -> Result<(Inventory, usize), Failure> {
    let models = parse_tags(&client.body(base, TAGS).await?)?;
    let loaded = match client.optional_body(base, PS).await? {
        Some(body) => parse_ps(&body)?,
        None => Parsed { entries: Vec::new(), skipped: 0 },
    };
    let version = match client.optional_body(base, VERSION).await? {
        Some(body) => parse_version(&body)?,
        None => None,
    };
    let skipped = models.skipped.saturating_add(loaded.skipped);
    Ok((Inventory { models: models.entries, loaded: loaded.entries, version, full: false }, skipped))
}

/// Returns the models in memory, and the server's clock in milliseconds since 1970 where it tells it. None on a server
/// too old to say.
///
/// # Errors
/// As [`Client::get`], `status`, and `body`.
pub async fn loaded(client: &Client, base: &str) -> Result<(Vec<LoadedModel>, Option<i64>), Failure> {
    let said = client.get(base, PS).await?;
    let entries = match said.status {
        200 => parse_ps(&said.body)?.entries,
        404 => Vec::new(),
        other => return Err(failure("status", format!("{PS}: {other}"))),
    };
    Ok((entries, said.date.as_deref().and_then(date_ms)))
}

/// How many ways there are to ask a model, see [`OllamaEndpoint`].
pub const WAYS: u32 = 3;

/// How a model is asked. Each endpoint builds its answers in its own way, so successive checks take turns: what they measure is
/// how many bytes a token costs there. `/v1` takes neither `num_ctx` nor `keep_alive`: a check there could reload or pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OllamaEndpoint {
    /// `/api/generate` without a template: the model and nothing else. The first, and the only one after a failure.
    Raw,
    /// `/api/chat`
    Chat,
    /// `/api/generate` with the model's template, whose answers list the numbers of all tokens.
    Generate,
    /// `/api/embed`
    Embed,
}

impl OllamaEndpoint {
    fn of(ask: &CheckRequest) -> OllamaEndpoint {
        match ask.turn % WAYS {
            _ if ask.embeds => OllamaEndpoint::Embed,
            0 => OllamaEndpoint::Raw,
            1 => OllamaEndpoint::Chat,
            _ => OllamaEndpoint::Generate,
        }
    }

    fn path(self) -> &'static str {
        match self {
            OllamaEndpoint::Raw | OllamaEndpoint::Generate => GENERATE,
            OllamaEndpoint::Chat => CHAT,
            OllamaEndpoint::Embed => EMBED,
        }
    }

    fn body(self, ask: &CheckRequest) -> String {
        let keep_alive = format!("{}s", ask.keep_alive_s);
        let model = &ask.listed;
        let options = serde_json::json!({ "num_ctx": ask.num_ctx, "num_predict": TOKENS });
        let body = match self {
            OllamaEndpoint::Raw | OllamaEndpoint::Generate => {
                let raw = self == OllamaEndpoint::Raw;
                serde_json::json!({ "model": model, "prompt": SAMPLE, "raw": raw, "keep_alive": keep_alive, "options": options })
            }
            OllamaEndpoint::Chat => {
                let messages = [serde_json::json!({ "role": "user", "content": SAMPLE })];
                serde_json::json!({ "model": model, "messages": messages, "keep_alive": keep_alive, "options": options })
            }
            OllamaEndpoint::Embed => {
                let options = serde_json::json!({ "num_ctx": ask.num_ctx });
                serde_json::json!({ "model": model, "input": SAMPLE, "keep_alive": keep_alive, "options": options })
            }
        };
        body.to_string()
    }

    fn asked(self) -> AnswerKind {
        let endpoint = match self {
            OllamaEndpoint::Raw | OllamaEndpoint::Generate => Endpoint::Generate,
            OllamaEndpoint::Chat => Endpoint::Chat,
            OllamaEndpoint::Embed => Endpoint::Embed,
        };
        let stream = self != OllamaEndpoint::Embed;
        AnswerKind { kind: ServerKind::Ollama, endpoint, stream, usage: false, raw: self == OllamaEndpoint::Raw }
    }
}

/// Result of one check of a model.
#[derive(Debug)]
pub struct Checked {
    /// Whether it generates.
    pub found: CheckFinding,
    /// Whether the model can only embed.
    pub embeds: bool,
    /// Whether the server says that it loaded the model for this.
    pub loaded: bool,
    /// Bytes per token that the answer shows.
    pub measured: Option<Calibration>,
}

/// Asks for a few tokens, as a stream, or for an embedding of a model that can only embed. No prompt of a client is sent.
pub async fn few_tokens(client: &Client, base: &str, ask: &CheckRequest) -> Checked {
    let mut way = OllamaEndpoint::of(ask);
    let mut said = client.post(base, way.path(), way.body(ask)).await;
    let status = |said: &Result<FetchReply, Failure>| said.as_ref().map_or(0, |said| said.status);
    // What stands in front may let through one endpoint and not the other.
    if matches!(way, OllamaEndpoint::Chat | OllamaEndpoint::Generate) && matches!(status(&said), 401..=428) {
        way = OllamaEndpoint::Raw;
        said = client.post(base, way.path(), way.body(ask)).await;
    }
    if way != OllamaEndpoint::Embed
        && said.as_ref().is_ok_and(|said| said.status == 400 && says(&said.body, "does not support"))
    {
        way = OllamaEndpoint::Embed;
        said = client.post(base, way.path(), way.body(ask)).await;
    }
    conclude(said, way, ask)
}

fn conclude(said: Result<FetchReply, Failure>, way: OllamaEndpoint, ask: &CheckRequest) -> Checked {
    let embeds = way == OllamaEndpoint::Embed;
    let plain = |found| Checked { found, embeds, loaded: false, measured: None };
    let said = match said {
        Ok(said) => said,
        Err(failure) => return plain(CheckFinding::Failed(failure.detail.into())),
    };
    let is_busy = || says(&said.body, "server busy") || says(&said.body, "maximum pending requests");
    let found = match said.status {
        200 => {
            let AnswerParts { done, error, load_ns, found } =
                measure::native(&said, way.asked(), PoolKey::of(&ask.model), SAMPLE.len());
            let loaded = load_ns.is_some_and(|ns| ns >= LOAD_NS);
            let (found, measured) = match error {
                None if done => (CheckFinding::Token, found),
                None => (CheckFinding::Failed("an answer without a token".into()), None),
                Some(_) if is_busy() => (CheckFinding::Busy, None),
                Some(_) => (CheckFinding::Failed("an error in the stream".into()), None),
            };
            return Checked { found, embeds, loaded, measured };
        }
        503 if is_busy() => CheckFinding::Busy,
        429 => CheckFinding::Busy,
        refused @ 400..=499 => CheckFinding::Refused(refused),
        other => CheckFinding::Failed(format!("status {other}")),
    };
    plain(found)
}

fn says(body: &[u8], words: &str) -> bool {
    body.windows(words.len()).any(|window| window == words.as_bytes())
}

#[derive(Deserialize)]
struct TagList<'a> {
    #[serde(borrow)]
    models: Entries<'a>,
}

#[derive(Deserialize)]
struct Tag {
    /// Old servers have only this one.
    name: Option<String>,
    model: Option<String>,
    digest: Option<String>,
    size: Option<u64>,
    modified_at: Option<String>,
    details: Option<Box<RawValue>>,
    capabilities: Option<Box<RawValue>>,
    /// Present on a model that is a name for one of another host; a type Ollama never writes counts as present.
    remote_host: Option<Value>,
    remote_model: Option<Value>,
}

/// Returns the models of an answer to `/api/tags`.
///
/// # Errors
/// `body`.
pub fn parse_tags(bytes: &[u8]) -> Result<Parsed<Model>, Failure> {
    let list: TagList<'_> = json::answer(bytes, TAGS)?;
    Ok(list.models.read(|tag: Tag| {
        let listed = json::name(&tag.name.or(tag.model)?)?;
        let name = ModelName::canonical(&listed);
        let modified_at = json::short(tag.modified_at);
        Some(Model {
            owned_by: namespace(&name).into(),
            created: unix_seconds(&modified_at).unwrap_or(0),
            digest: digest(tag.digest),
            size: tag.size.unwrap_or(0),
            details: json::text(tag.details.as_deref(), '{'),
            capabilities: json::text(tag.capabilities.as_deref(), '['),
            remote: [tag.remote_host, tag.remote_model].iter().flatten().any(|value| value != ""),
            name,
            listed,
            modified_at,
        })
    }))
}

#[derive(Deserialize)]
struct Running {
    name: Option<String>,
    model: Option<String>,
    digest: Option<String>,
    size: Option<u64>,
    size_vram: Option<u64>,
    details: Option<Box<RawValue>>,
    expires_at: Option<String>,
    context_length: Option<u64>,
}

/// Returns the loaded models of an answer to `/api/ps`.
///
/// # Errors
/// `body`.
pub fn parse_ps(bytes: &[u8]) -> Result<Parsed<LoadedModel>, Failure> {
    let list: TagList<'_> = json::answer(bytes, PS)?;
    Ok(list.models.read(|running: Running| {
        let listed = json::name(&running.name.or(running.model)?)?;
        Some(LoadedModel {
            name: ModelName::canonical(&listed),
            listed,
            digest: digest(running.digest),
            size: running.size.unwrap_or(0),
            size_vram: running.size_vram.unwrap_or(0),
            details: json::text(running.details.as_deref(), '{'),
            expires_at: json::short(running.expires_at),
            context_length: running.context_length.unwrap_or(0),
        })
    }))
}

/// Returns the version of an answer to `/api/version`; `None` where it is empty or unfit to show.
///
/// # Errors
/// `body`.
pub fn parse_version(bytes: &[u8]) -> Result<Option<Box<str>>, Failure> {
    #[derive(Deserialize)]
    struct Version {
        version: Option<String>,
    }
    let answer: Version = json::answer(bytes, VERSION)?;
    Ok(Some(json::short(answer.version)).filter(|version| !version.is_empty()))
}

fn digest(written: Option<String>) -> Box<str> {
    let digest = json::short(written);
    digest.strip_prefix("sha256:").map(Into::into).unwrap_or(digest)
}

/// Returns whose a model is, as Ollama's `/v1/models` says it (`openai/openai.go`): the namespace, or `library` where
/// there is none.
fn namespace(name: &ModelName) -> &str {
    let mut parts = name.as_str().rsplit('/');
    parts.next();
    parts.next().unwrap_or("library")
}

/// Returns the seconds since 1970 of an RFC 3339 date with an offset.
fn unix_seconds(written: &str) -> Option<i64> {
    unix_ms(written).map(|ms| ms.div_euclid(1_000))
}

/// Returns the milliseconds since 1970 of an RFC 3339 date with an offset.
pub fn unix_ms(written: &str) -> Option<i64> {
    date::signed_unix_ms(&written.parse().ok()?)
}

/// Returns the milliseconds since 1970 of a `Date` header (RFC 9110, 5.6.7, the form every server sends:
/// `Sun, 06 Nov 1994 08:49:37 GMT`). Its obsolete forms are not read.
pub fn date_ms(written: &str) -> Option<i64> {
    // Those have more or less than three letters before a comma.
    written.as_bytes().get(3).filter(|byte| **byte == b',')?;
    let since = httpdate::parse_http_date(written).ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_dates_become_milliseconds() {
        let cases = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Sat, 21 Nov 2026 12:00:00 GMT", Some(1_795_262_400_000)),
            ("Sat, 21 Nov 2026 12:00:00", None),
            ("Sat, 21 Nov 2026 25:00:00 GMT", None),
            ("Sat, 21 Nov 2026 12:00:00:00 GMT", None),
            ("Sat, 21 Nov 99999999999999999999 12:00:00 GMT", None),
            ("Sat, +1 Nov 2026 12:00:00 GMT", None),
            ("Sun, 21 Nov 2026 12:00:00 GMT", None), // it is a Saturday
            ("Sat Nov 21 12:00:00 2026", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(date_ms(written), expected, "{written}");
        }
        assert_eq!(unix_ms("1970-01-01T00:00:01.250Z"), Some(1_250));
        assert_eq!(unix_ms("2318-03-01T12:00:00.123456789Z"), Some(10_986_926_400_123));
    }

    #[test]
    fn dates_become_seconds() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-11-21T12:00:00.123456789+02:00", Some(1_795_255_200)),
            ("2026-11-21T12:00:00-00:30", Some(1_795_264_200)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("0000-01-01T00:00:00Z", Some(-62_167_219_200)),
            ("2026-11-21", None),
            ("2026-11-21T12:00:00", None),
            ("gestern", None),
            ("", None),
        ];
        for (written, expected) in cases {
            assert_eq!(unix_seconds(written), expected, "{written}");
        }
    }

    #[test]
    fn owners_are_the_namespace() {
        let cases = [("llama3", "library"), ("me/llama3:8b", "me"), ("hf.co/a/b:q4", "a"), ("localhost:5000/x/y", "x")];
        for (name, owner) in cases {
            assert_eq!(namespace(&ModelName::canonical(name)), owner, "{name}");
        }
    }

    /// Ollama `api/types.go`, `ListModelResponse`: both members are `omitempty`.
    #[test]
    fn a_model_of_another_host_is_known_as_one() {
        for (members, remote) in [
            ("", false),
            (r#","remote_host":"","remote_model":"""#, false),
            (r#","remote_host":null"#, false),
            (r#","remote_host":"https://ollama.com:443""#, true),
            (r#","remote_model":"gpt-oss:120b""#, true),
            (r#","remote_host":1"#, true),
        ] {
            let body = format!(r#"{{"models":[{{"name":"m"{members}}}]}}"#);
            let Parsed { entries, .. } = parse_tags(body.as_bytes()).unwrap();
            assert_eq!(entries.first().map(|model| model.remote), Some(remote), "{members}");
        }
    }

    #[test]
    fn a_list_gives_what_can_be_read_and_counts_the_rest() {
        let long = format!("{{\"name\":\"{}\"}}", "m".repeat(257));
        let body = format!(
            r#"{{"models":[
            {{"name":"Llama3:8B","model":"llama3:8b","modified_at":"2026-11-21T12:00:00Z","size":7,"digest":"sha256:ab",
              "details":{{"family":"llama",
              "families":["llama"]}},"capabilities":["completion"]}},
            {{"model":"only-model"}}, {{"size":1}}, {{"name":""}}, {{"name":" "}}, {{"name":"a\nb"}}, {{"name":3}}, 4, null,
            "x", [], {{"name":"neg","size":-1}}, {long}, {{"name":"odd","details":"text","capabilities":{{}},"extra":1}}
        ]}}"#
        );
        let Parsed { entries, skipped } = parse_tags(body.as_bytes()).unwrap();
        let names: Vec<_> = entries.iter().map(|model| (&*model.listed, model.name.as_str())).collect();
        let expected = [("Llama3:8B", "llama3:8b"), ("only-model", "only-model:latest"), ("odd", "odd:latest")];
        assert_eq!(names, expected);
        assert_eq!(skipped, 11);
        let first = &entries[0];
        assert_eq!((&*first.digest, first.size, first.created), ("ab", 7, 1_795_262_400));
        assert_eq!(&*first.details, r#"{"families":["llama"],"family":"llama"}"#);
        assert_eq!(&*first.capabilities, r#"["completion"]"#);
        assert_eq!((&*entries[2].details, &*entries[2].capabilities), ("", ""));
    }

    #[test]
    fn a_list_that_is_none_fails_and_an_empty_one_does_not() {
        let cases: [(&[u8], Option<&str>); 10] = [
            (br#"{"models":[]}"#, None),
            (br#"{"models":null}"#, None),
            (b"", Some("breaks off")),
            (br#"{"models":[{"name":"a"}"#, Some("breaks off")),
            (br#"{"error":"x"}"#, Some("expected")),
            (br#"{"models":{}}"#, Some("expected")),
            (br#"[]"#, Some("expected")),
            (b"<html>hello</html>", Some("not JSON")),
            (b"{\"models\":[{\"name\":\"\xff\"}]}", Some("not JSON")),
            (br#"{"models":[]} x"#, Some("not JSON")),
        ];
        for (body, fault) in cases {
            match (parse_tags(body), fault) {
                (Ok(parsed), None) => assert!(parsed.entries.is_empty() && parsed.skipped == 0),
                (Err(failure), Some(fault)) => {
                    assert_eq!(failure.kind, "body");
                    assert!(failure.detail.contains(fault), "{} for {}", failure.detail, body.escape_ascii());
                    assert!(!failure.detail.contains("hello"), "quotes the answer: {}", failure.detail);
                }
                (got, _) => panic!("{got:?} for {}", body.escape_ascii()),
            }
        }
    }

    #[test]
    fn a_list_is_cut_at_its_bound() {
        let body = format!("{{\"models\":[{}]}}", vec![r#"{"name":"m"}"#; 10_003].join(","));
        let parsed = parse_tags(body.as_bytes()).unwrap();
        assert_eq!((parsed.entries.len(), parsed.skipped), (10_000, 3));
    }

    #[test]
    fn loaded_models_and_the_version_are_read() {
        let body = br#"{"models":[{"name":"a","size":9,"size_vram":8,"context_length":4096,"expires_at":"2026-11-21T12:00:00Z",
            "digest":"cd","details":{}},{"size":3}]}"#;
        let Parsed { entries, skipped } = parse_ps(body).unwrap();
        let [loaded] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!((loaded.name.as_str(), loaded.size, loaded.size_vram), ("a:latest", 9, 8));
        assert_eq!((loaded.context_length, &*loaded.expires_at, &*loaded.digest), (4096, "2026-11-21T12:00:00Z", "cd"));
        assert_eq!(skipped, 1);
        assert_eq!(parse_version(br#"{"version":"0.30.1"}"#).unwrap().as_deref(), Some("0.30.1"));
        assert_eq!(parse_version(br#"{}"#).unwrap(), None);
        assert_eq!(parse_version(br#"{"version":"a\nb"}"#).unwrap(), None);
        assert!(parse_version(b"0.30.1").is_err());
    }
}
