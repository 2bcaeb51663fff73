//! Rows A3, A4, A5 and W6 as data: requests that must be refused, or reach one model's servers and nothing else.

/// One request, and what may come of it.
pub struct Attack {
    /// Row of the threat model.
    pub row: &'static str,
    /// What is tried, with the advisory or issue it is known from.
    pub what: &'static str,
    /// Method and target.
    pub line: &'static str,
    /// Headers; `{team}`, `{all}`, `{bad}`, `{prefix}`, `{digest}`, `{long}`, `{longer}` stand for what the run has.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body.
    pub body: &'static [u8],
    /// What may come of it.
    pub may: May,
}

/// What may come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// 400 to 499: no server is asked.
    Refused,
    /// This refusal and no other.
    Status(u16),
    /// 200, and one server was asked for this model.
    Reach(&'static str),
    /// Either of the first and the third: the proxies differ, and both is right.
    ReachOrRefused(&'static str),
}
use May::{Reach, ReachOrRefused, Refused, Status};

/// In the plan of `{team}`.
pub const OURS: &str = "llama3.2:3b";
pub const CHAT: &[u8] = br#"{"model":"llama3.2:3b","stream":false,"messages":[{"role":"user","content":"x"}],"max_tokens":1,"options":{"num_predict":1}}"#;
const FOREIGN: &[u8] = br#"{"model":"mistral:7b","stream":false,"messages":[]}"#;
const TEAM: (&str, &str) = ("Authorization", "Bearer {team}");
const KEY: &[(&str, &str)] = &[TEAM];

type Headers = &'static [(&'static str, &'static str)];

const fn a3(what: &'static str, headers: Headers) -> Attack {
    Attack { row: "A3", what, line: "POST /api/chat", headers, body: CHAT, may: Status(401) }
}

const fn chat(row: &'static str, what: &'static str, headers: Headers, may: May) -> Attack {
    Attack { row, what, line: "POST /api/chat", headers, body: CHAT, may }
}

const fn on(row: &'static str, what: &'static str, line: &'static str, headers: Headers, may: May) -> Attack {
    Attack { row, what, line, headers, body: CHAT, may }
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    a3("GHSA-69x8-hrgq-fjj8: a digest as a bearer token", &[("Authorization", "Bearer {digest}")]),
    a3("GHSA-69x8-hrgq-fjj8: a digest as a key", &[("x-api-key", "{digest}")]),
    a3("CVE-2026-42208: SQL in a key", &[("x-api-key", "' OR 1=1--")]),
    a3("CVE-2026-42208: SQL in a bearer token", &[("Authorization", "Bearer x'; DROP TABLE keys;--")]),
    a3("a wildcard for a key", &[("api-key", "*")]),
    a3("CVE-2026-35030: the first 20 characters of a good key", &[("Authorization", "Bearer {prefix}")]),
    a3("an unknown key", &[("Authorization", "Bearer {bad}")]),
    // H1: a credential twice.
    chat("H1", "a bad one, a good one", &[("Authorization", "Bearer {bad}"), TEAM], Refused),
    chat("H1", "a good one, a bad one", &[TEAM, ("Authorization", "Bearer {bad}")], Refused),
    chat("H1", "the same twice", &[TEAM, TEAM], Refused),
    chat("H1", "an empty one, a good one", &[("Authorization", ""), TEAM], Refused),
    chat("H1", "joined by a comma", &[("Authorization", "Bearer {team}, Bearer {bad}")], Status(401)),
    chat("H1", "joined by a comma, the good one last", &[("Authorization", "Bearer {bad},Bearer {team}")], Status(401)),
    chat("H1", "two keys joined", &[("x-api-key", "{bad},{team}")], Status(401)),
    chat("H1", "x-api-key twice, the bad one first", &[("x-api-key", "{bad}"), ("x-api-key", "{team}")], Refused),
    chat("H1", "api-key twice, the bad one first", &[("api-key", "{bad}"), ("api-key", "{team}")], Refused),
    // nginx 1.22 shows the first alone, for whom it is the only one.
    chat(
        "H1",
        "x-api-key twice, the good one first",
        &[("x-api-key", "{team}"), ("x-api-key", "{bad}")],
        ReachOrRefused(OURS),
    ),
    // H2: in two places, or in one that counts for nothing.
    chat("H2", "two places, the same", &[TEAM, ("x-api-key", "{team}")], Status(401)),
    chat("H2", "two places, one bad", &[TEAM, ("api-key", "{bad}")], Status(401)),
    chat("H2", "two places, one empty", &[("Authorization", ""), ("x-api-key", "{team}")], ReachOrRefused(OURS)),
    chat("H2", "three places", &[TEAM, ("x-api-key", "{team}"), ("api-key", "{team}")], Status(401)),
    on("H2", "in the query alone", "POST /api/chat?key={team}&api_key={team}&access_token={team}", &[], Status(401)),
    chat("H2", "in a cookie", &[("Cookie", "key={team}; authorization=Bearer {team}")], Status(401)),
    chat("H2", "for the proxy", &[("Proxy-Authorization", "Bearer {team}")], Status(401)),
    chat("H2", "in headers that sound alike", &[("X-Authorization", "Bearer {team}"), ("Key", "{team}")], Status(401)),
    chat("H2", "as a password", &[("Authorization", "Basic OntURUFNfQ==")], Status(401)),
    // H3: posing as us.
    chat("H3", "CVE-2025-64484: underscores", &[("X_Api_Key", "{team}"), ("Api_Key", "{team}")], Status(401)),
    chat(
        "H3",
        "CVE-2025-64484: a verdict",
        &[("X_Herdgate_Verdict", "allow"), ("X-Herdgate-Verdict", "allow")],
        Status(401),
    ),
    Attack {
        row: "H3",
        what: "CVE-2025-64484: a server of one's choice",
        line: "POST /api/chat",
        headers: &[TEAM, ("X_Herdgate_Server", "ollama3"), ("X-Herdgate-Server", "ollama3")],
        body: FOREIGN,
        may: Status(404),
    },
    on("H3", "a receipt", "GET /api/tags", &[("X-Herdgate-Receipt", "v1.9999999999.616c6c.00")], Status(401)),
    on("H3", "herdgate's own path", "POST /handoff", KEY, Status(404)),
    on("H3", "herdgate's own path for lists", "GET /catalog", KEY, Status(404)),
    on("H3", "nginx's inner path", "GET /.herdgate/auth", KEY, Status(404)),
    // H4: headers that name others for removal.
    chat("H4", "CVE-2025-48865: the credential", &[TEAM, ("Connection", "close, Authorization")], ReachOrRefused(OURS)),
    chat(
        "H4",
        "CVE-2025-48865: what we might set",
        &[TEAM, ("Connection", "X-Herdgate-Server, X-Herdgate-Uri, Host, Content-Length")],
        ReachOrRefused(OURS),
    ),
    // H5: forwarding headers and overrides.
    on(
        "H5",
        "CVE-2026-40575: another path",
        "POST /api/pull",
        &[TEAM, ("X-Forwarded-Uri", "/api/chat"), ("X-Original-URL", "/api/chat"), ("X-Rewrite-URL", "/api/chat")],
        Status(403),
    ),
    on(
        "H5",
        "GHSA-pjm4-8fpg-f9p6: another method",
        "DELETE /api/delete",
        &[TEAM, ("X-HTTP-Method-Override", "POST"), ("X-Forwarded-Method", "GET"), ("X-Method-Override", "GET")],
        Status(403),
    ),
    chat(
        "H5",
        "oauth2-proxy#3506: from a trusted address",
        &[("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1;proto=https")],
        Status(401),
    ),
    chat(
        "H5",
        "already known to somebody",
        &[("X-Forwarded-User", "admin"), ("X-Remote-User", "admin"), ("X-Auth-Request-Email", "a@b.c")],
        Status(401),
    ),
    chat("H5", "from this very host", &[("Host", "localhost")], Status(401)),
    // H6: one scheme, one space, one token.
    chat("H6", "in lower case", &[("Authorization", "bearer {team}")], Reach(OURS)),
    chat("H6", "in upper case", &[("Authorization", "BEARER {team}")], Reach(OURS)),
    chat("H6", "two spaces", &[("Authorization", "Bearer  {team}")], Status(401)),
    chat("H6", "a tab", &[("Authorization", "Bearer\t{team}")], Status(401)),
    chat("H6", "quotes", &[("Authorization", "Bearer \"{team}\"")], Status(401)),
    chat("H6", "no token", &[("Authorization", "Bearer")], Status(401)),
    chat("H6", "no scheme", &[("Authorization", "{team}")], Status(401)),
    chat("H6", "another scheme", &[("Authorization", "Token {team}")], Status(401)),
    chat("H6", "two tokens", &[("Authorization", "Bearer {team} {team}")], Status(401)),
    chat("H6", "a comma behind", &[("Authorization", "Bearer {team},")], Status(401)),
    chat("H6", "a scheme in a key", &[("x-api-key", "Bearer {team}")], Status(401)),
    chat("H6", "a letter outside ASCII", &[("Authorization", "Bearer {team}\u{e9}")], Status(401)),
    chat("H6", "8 KiB", &[("Authorization", "Bearer {long}")], Refused),
    chat("H6", "64 KiB", &[("Authorization", "Bearer {longer}")], Refused),
    // W6: nobody is exempt.
    on(
        "W6",
        "GHSA-5hvv-m4w4-gf6v: a health check of Kubernetes",
        "GET /",
        &[("User-Agent", "kube-probe/1.31")],
        Status(401),
    ),
    on("W6", "GHSA-5hvv-m4w4-gf6v: of Google", "GET /api/version", &[("User-Agent", "GoogleHC/1.0")], Status(401)),
    chat("W6", "GHSA-5hvv-m4w4-gf6v: of AWS", &[("User-Agent", "ELB-HealthChecker/2.0")], Status(401)),
    on("W6", "a path of health checks", "GET /health", &[], Refused),
    on("W6", "a path of metrics", "GET /metrics", KEY, Status(404)),
    on("W6", "a preflight", "OPTIONS /api/chat", &[("Origin", "http://a.test")], Refused),
    // A5: paths and queries. The spellings of paths are in `cases/paths.rs`.
    on("A5", "litellm#41810: a model in the query", "POST /api/chat?model=mistral:7b", KEY, Status(400)),
    on("A5", "litellm#41810: in upper case", "POST /api/chat?MODEL=mistral:7b", KEY, Status(400)),
    on("A5", "litellm#41810: encoded", "POST /api/chat?x=1&mo%64el=mistral:7b", KEY, Status(400)),
    on("A5", "litellm#41810: without a value", "POST /v1/chat/completions?model", KEY, Status(400)),
    on("A5", "another parameter passes", "POST /v1/chat/completions?beta=true", KEY, Reach(OURS)),
    on("A5", "CVE-2023-45539, GHSA-pxq7-h93f-9jrg: a fragment", "POST /api/pull#/api/chat", KEY, Refused),
    on("A5", "GHSA-7rh7-c77v-6434: a query that matches", "POST /api/pull?/api/chat", KEY, Status(403)),
    on("A5", "GHSA-7rh7-c77v-6434: a query that pulls", "POST /api/pull?x=/v1/models", KEY, Status(403)),
    on("A5", "CVE-2026-26205: an authority that is none", "POST //api/chat/api/pull", KEY, Refused),
    Attack {
        row: "A5",
        what: "ollama#17041: a pull from inside",
        line: "POST /api/pull",
        headers: KEY,
        body: br#"{"model":"http://169.254.169.254/latest/x","insecure":true}"#,
        may: Status(403),
    },
    Attack {
        row: "A5",
        what: "ollama#16308: a model that is elsewhere",
        line: "POST /api/create",
        headers: KEY,
        body: br#"{"model":"llama3.2:3b","from":"x","remote_host":"http://elsewhere.test"}"#,
        may: Status(403),
    },
    on("A5", "account", "POST /api/me", KEY, Status(403)),
    on("A5", "account", "POST /api/signout", KEY, Status(403)),
    on("A5", "account", "DELETE /api/user/keys/1", KEY, Status(403)),
    on("A5", "egress", "POST /api/experimental/web_fetch", KEY, Status(403)),
    on("A5", "blobs", "POST /api/blobs/sha256:00", KEY, Status(403)),
    on("A5", "copies", "POST /api/copy", KEY, Status(403)),
    on("A5", "pushes", "POST /api/push", KEY, Status(403)),
    on("A5", "bifrost#2873: a route that passes through", "POST /v1/files", KEY, Status(404)),
    on("A5", "bifrost#2873: another", "GET /ollama/api/tags", KEY, Status(404)),
    on("A5", "the simulator's own", "GET /sim/stats", KEY, Status(404)),
];
