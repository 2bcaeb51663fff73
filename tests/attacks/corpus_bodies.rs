//! Row A6 as data: bodies that two parsers read in two ways, sent with the key of a plan that has one of the two models.

use super::corpus::May::{self, Reach, ReachOrRefused, Refused, Status};
use super::corpus::OURS;

/// A body, and what may come of it.
pub struct Body {
    /// What is tried.
    pub what: &'static str,
    /// Where.
    pub line: &'static str,
    /// `Content-Type`, and where it matters `Content-Encoding`.
    pub headers: &'static [(&'static str, &'static str)],
    /// The bytes; `…` stands for 200 levels.
    pub bytes: &'static [u8],
    /// What may come of it.
    pub may: May,
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

const fn generate(what: &'static str, bytes: &'static [u8], may: May) -> Body {
    Body { what, line: "POST /api/generate", headers: JSON, bytes, may }
}

const fn sent_as(what: &'static str, headers: &'static [(&'static str, &'static str)], bytes: &'static [u8]) -> Body {
    Body { what, line: "POST /api/generate", headers, bytes, may: Refused }
}

const FOREIGN: &[u8] = br#"{"model":"mistral:7b","stream":false}"#;

/// All of them.
pub const BODIES: &[Body] = &[
    generate("a model twice", br#"{"model":"llama3.2:3b","model":"mistral:7b","stream":false}"#, Status(400)),
    generate("the other first", br#"{"model":"mistral:7b","model":"llama3.2:3b","stream":false}"#, Status(400)),
    generate("docker/mcp-gateway#418: case", br#"{"model":"llama3.2:3b","Model":"mistral:7b"}"#, Status(400)),
    generate("docker/mcp-gateway#418: case alone", br#"{"MODEL":"mistral:7b","stream":false}"#, Status(400)),
    generate("a letter that folds: long s", "{\"model\":\"llama3.2:3b\",\"\u{17f}tream\":false}".as_bytes(), Status(400)),
    generate("null after a value", br#"{"model":"llama3.2:3b","model":null}"#, Status(400)),
    generate("null", br#"{"model":null,"stream":false}"#, Status(400)),
    generate("an escaped key, alone", br#"{"mod\u0065l":"llama3.2:3b","stream":false}"#, Reach(OURS)),
    generate("an escaped key, alone, foreign", br#"{"mod\u0065l":"mistral:7b","stream":false}"#, Status(404)),
    generate("an escaped key behind", br#"{"model":"llama3.2:3b","mod\u0065l":"mistral:7b"}"#, Status(400)),
    generate("an escaped value", br#"{"model":"\u006distral:7b","stream":false}"#, Status(404)),
    generate("a second document", br#"{"model":"llama3.2:3b","stream":false}{"model":"mistral:7b"}"#, Status(400)),
    generate("a word behind", br#"{"model":"llama3.2:3b","stream":false} x"#, Status(400)),
    generate("white space behind", b"{\"model\":\"llama3.2:3b\",\"stream\":false} \r\n\t ", Reach(OURS)),
    generate("a byte order mark", b"\xef\xbb\xbf{\"model\":\"llama3.2:3b\"}", Status(400)),
    generate("UTF-16", b"\xff\xfe{\0\"\0m\0o\0d\0e\0l\0\"\0:\0\"\0x\0\"\0}\0", Status(400)),
    generate("invalid UTF-8 in the model", b"{\"model\":\"llama3.2:3b\xff\"}", Refused),
    generate("invalid UTF-8 in a key", b"{\"model\":\"llama3.2:3b\",\"mod\xffel\":1}", Refused),
    generate("a lone surrogate in the model", br#"{"model":"llama3.2:3b\ud800"}"#, Refused),
    generate("a NUL in the model", br#"{"model":"llama3.2:3b\u0000"}"#, Refused),
    generate("vllm production-stack PR 1017: 200 levels", "{\"model\":\"llama3.2:3b\",\"x\":…}".as_bytes(), Status(400)),
    generate("a number", br#"{"model":7}"#, Status(400)),
    generate("a list", br#"{"model":["llama3.2:3b","mistral:7b"]}"#, Status(400)),
    generate("an object", br#"{"model":{"name":"llama3.2:3b"}}"#, Status(400)),
    generate(
        "one level down",
        br#"{"options":{"model":"mistral:7b","num_predict":1},"model":"llama3.2:3b","stream":false}"#,
        Reach(OURS),
    ),
    generate("only one level down", br#"{"options":{"model":"llama3.2:3b"}}"#, Status(400)),
    generate(
        "CVE-2025-11230: a number without end",
        br#"{"x":1e999999999999999999999999999999,"y":-0.00000000000000000000000000000001e-99999,"model":"llama3.2:3b","stream":false}"#,
        ReachOrRefused(OURS),
    ),
    generate("CVE-2025-11230: a number that is none", br#"{"x":1e,"model":"llama3.2:3b"}"#, Status(400)),
    generate("nothing", b"", Status(400)),
    generate("a list of bodies", br#"[{"model":"llama3.2:3b"}]"#, Status(400)),
    generate("an end too early", br#"{"model":"llama3.2:3b""#, Status(400)),
    generate("a comment", br#"{"model":"llama3.2:3b"/*,"model":"mistral:7b"*/}"#, Status(400)),
    generate("single quotes", b"{'model':'llama3.2:3b'}", Status(400)),
    generate("a raw line feed in a string", b"{\"model\":\"llama3.2:3b\",\"prompt\":\"a\nb\"}", Status(400)),
    generate("options twice", br#"{"model":"llama3.2:3b","options":{},"options":{"num_predict":9}}"#, Status(400)),
    sent_as("as text", &[("Content-Type", "text/plain")], FOREIGN),
    sent_as("as nothing", &[], FOREIGN),
    sent_as("as several parts", &[("Content-Type", "multipart/form-data; boundary=b")], FOREIGN),
    sent_as("as a form", &[("Content-Type", "application/x-www-form-urlencoded")], b"model=llama3.2:3b"),
    sent_as("packed", &[("Content-Encoding", "gzip")], br#"{"model":"llama3.2:3b","stream":false}"#),
    sent_as("packed by zstd", &[("Content-Encoding", "zstd")], br#"{"model":"llama3.2:3b","stream":false}"#),
    sent_as("packed twice", &[("Content-Encoding", "identity, gzip")], br#"{"model":"llama3.2:3b"}"#),
    // Names: one model has one form, and a name that only looks like an allowed one is another model.
    generate("the name in full", br#"{"model":"registry.ollama.ai/library/llama3.2:3b","stream":false}"#, Reach(OURS)),
    generate("the name in upper case", br#"{"model":" LLAMA3.2:3B ","stream":false}"#, Reach(OURS)),
    generate("a foreign name in upper case", br#"{"model":" MISTRAL:7B "}"#, Status(404)),
    generate("a foreign name in full", br#"{"model":"library/mistral:7b"}"#, Status(404)),
    generate("another registry", br#"{"model":"elsewhere.test/library/llama3.2:3b"}"#, Status(404)),
    generate("a scheme", br#"{"model":"http://registry.ollama.ai/library/llama3.2:3b"}"#, ReachOrRefused(OURS)),
    generate("another company", br#"{"model":"llama3.2:3b-cloud"}"#, Status(404)),
    generate("another company's tag", br#"{"model":"llama3.2:cloud"}"#, Status(404)),
    generate("a digest behind", br#"{"model":"llama3.2:3b@sha256:00"}"#, Refused),
    generate("a way out of the folder", br#"{"model":"llama3.2:3b/../../mistral:7b"}"#, Refused),
    generate("a line feed in the name", br#"{"model":"llama3.2:3b\nmistral:7b"}"#, Refused),
    Body {
        what: "the other field for a name",
        line: "POST /api/show",
        headers: JSON,
        bytes: br#"{"name":"mistral:7b"}"#,
        may: Status(404),
    },
    Body {
        what: "an empty model before a name",
        line: "POST /api/show",
        headers: JSON,
        bytes: br#"{"model":"","name":"mistral:7b"}"#,
        may: Status(404),
    },
    Body {
        what: "both fields",
        line: "POST /api/show",
        headers: JSON,
        bytes: br#"{"model":"llama3.2:3b","name":"mistral:7b"}"#,
        may: ReachOrRefused(OURS),
    },
    Body {
        what: "a route of several parts",
        line: "POST /v1/audio/transcriptions",
        headers: &[("Content-Type", "multipart/form-data; boundary=b")],
        bytes: b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nllama3.2:3b\r\n--b--\r\n",
        may: Refused,
    },
];
