//! Every section and key of the configuration: its kind, default and meaning, in one table that the reader, the defaults
//! and `docs/configuration.md` are made from.

use super::quantity::COUNT_MAX;
use super::schema::Fallback::{Nothing, Required, Value};
use super::schema::{ChoiceWord, Fallback, SchemaKey, Section, SettingKind, Shape};

/// Returns the section called `name`.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

const fn key(name: &'static str, kind: SettingKind, default: Fallback, doc: &'static str) -> SchemaKey {
    SchemaKey { name, kind, default, enforced: true, doc }
}

const fn later(name: &'static str, kind: SettingKind, default: Fallback, doc: &'static str) -> SchemaKey {
    SchemaKey { name, kind, default, enforced: false, doc }
}

/// Largest whole number a limit may be.
const MANY: u32 = COUNT_MAX as u32;

/// The limits of all requests of a kind together.
const HELD_TOGETHER: &[SchemaKey] = &[
    key(
        "requests",
        SettingKind::Rates,
        Nothing,
        "Request rate of all of them together; of a list, all must hold. Absent: no limit.",
    ),
    key(
        "burst",
        SettingKind::Integer(1, MANY),
        Nothing,
        "Requests that may come at once; only beside a single rate. Absent: the rate's count.",
    ),
    key("tokens", SettingKind::Rate, Nothing, "Token rate of all of them together."),
    key("concurrency", SettingKind::Integer(1, MANY), Nothing, "Most requests of all of them together in flight."),
    key("budget", SettingKind::Budgets, Nothing, "Tokens of all of them together by calendar day or month."),
    key("shadow", SettingKind::Bool, Value("false"), "Count and log what is over these limits, and let it pass."),
];

/// Every section, in the order of the documentation.
pub static SECTIONS: &[Section] = &[
    Section {
        name: "listen",
        shape: Shape::Single,
        enforced: true,
        doc: "Where herdgate listens. Changes take effect after a restart.",
        keys: &[
            key("spop", SettingKind::Address, Value("127.0.0.1:9901"), "HAProxy asks here (SPOP)."),
            key(
                "http",
                SettingKind::Address,
                Value("127.0.0.1:9902"),
                "nginx asks here: handoff, auth_request, catalog.",
            ),
            key("agent_check", SettingKind::Address, Value("127.0.0.1:9903"), "HAProxy's agent-check asks here."),
            key(
                "usage",
                SettingKind::Texts,
                Value("[\"udp:127.0.0.1:9904\"]"),
                "Usage lines of the proxies come in here, as datagrams: `udp:IP:PORT`, `unix:/path`. `[]` is off.",
            ),
            key(
                "metrics",
                SettingKind::Address,
                Value("127.0.0.1:9905"),
                "`/metrics`, `/status`, `/livez`, `/readyz`; read-only.",
            ),
            key(
                "control",
                SettingKind::Socket,
                Value("unix:herdgate.sock"),
                "Commands that talk to the running daemon come in here. Mode 0660.",
            ),
            later("relay", SettingKind::Address, Nothing, "Large bodies are judged here."),
        ],
    },
    Section {
        name: "server",
        shape: Shape::Repeated,
        enforced: true,
        doc: "A model server. At least one, at most 1,000.",
        keys: &[
            key(
                "name",
                SettingKind::Text,
                Required,
                "The backend's name in haproxy.cfg, the upstream's in nginx.conf: up to 64 letters, digits, `_`, `.`, `-`.",
            ),
            key("url", SettingKind::Url, Required, "Base URL, which probes use. Link-local addresses are refused."),
            key(
                "kind",
                SettingKind::Choice(&["ollama", "openai"]),
                Value("ollama"),
                "`openai` is vLLM, llama.cpp, LocalAI, TGI.",
            ),
            key(
                "slots",
                SettingKind::Integer(1, 1024),
                Nothing,
                "Parallel requests per loaded model: OLLAMA_NUM_PARALLEL. Guides the choice of a server and never refuses; where \
                 `maxconn` is absent, HAProxy is told one that follows from it. Absent: taken for 1, and nothing follows.",
            ),
            key(
                "maxconn",
                SettingKind::Integer(1, 1_000_000),
                Nothing,
                "Most requests at once on this server, over all models; herdgate sets it in HAProxy through agent-check. Absent: \
                 what `slots` allow: those of each loaded model and of one more (`kind = \"openai\"`: `slots`).",
            ),
            key(
                "weight",
                SettingKind::Integer(0, 256),
                Value("100"),
                "A server with twice the weight gets twice as many requests. 0 gets no new ones.",
            ),
            key(
                "models",
                SettingKind::Texts,
                Nothing,
                "Models it serves, where it cannot be asked. Absent: discovered.",
            ),
            later("preload", SettingKind::Texts, Nothing, "Models kept loaded."),
            later("key_file", SettingKind::Path, Nothing, "The server's own key."),
        ],
    },
    Section {
        name: "aliases",
        shape: Shape::Free,
        enforced: false,
        doc: "Names of your own for models.",
        keys: &[later("NAME", SettingKind::Texts, Nothing, "The first is meant, the rest are fallbacks.")],
    },
    Section {
        name: "models",
        shape: Shape::Named,
        enforced: true,
        doc: "What holds for one model on every server, for all callers together. The name as in a request, in quotes.",
        keys: &[
            later("digest", SettingKind::Text, Nothing, "The content every server must have: `sha256:…`."),
            key(
                "cost",
                SettingKind::Table(&[
                    key("input", SettingKind::Number, Value("1.0"), "Weight of a prompt token."),
                    key("output", SettingKind::Number, Value("1.0"), "Weight of a generated token."),
                ]),
                Nothing,
                "What a token counts for in token rates and budgets, in thousandths at the finest. Absent: 1.",
            ),
            key(
                "requests",
                SettingKind::Rates,
                Nothing,
                "Request rate of all of them together; of a list, all must hold. Absent: no limit.",
            ),
            key(
                "burst",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Requests that may come at once; only beside a single rate. Absent: the rate's count.",
            ),
            key("tokens", SettingKind::Rate, Nothing, "Token rate of all of them together."),
            key(
                "concurrency",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Most requests of all of them together in flight.",
            ),
            key("budget", SettingKind::Budgets, Nothing, "Tokens of all of them together by calendar day or month."),
            key(
                "shadow",
                SettingKind::Bool,
                Value("false"),
                "Count and log what is over these limits, and let it pass.",
            ),
            later(
                "num_ctx",
                SettingKind::IntegerOr("loaded"),
                Nothing,
                "`loaded` keeps callers from forcing a reload.",
            ),
        ],
    },
    Section {
        name: "routes",
        shape: Shape::Named,
        enforced: true,
        doc: "What holds for one endpoint, for all callers together: `[routes.embed]`. Names are those of the log: `generate`, `chat`, `embed`, `embeddings`, `v1_chat_completions`, `v1_completions`, `v1_embeddings`, `v1_responses`, `v1_messages`.",
        keys: HELD_TOGETHER,
    },
    Section {
        name: "gate",
        shape: Shape::Single,
        enforced: true,
        doc: "What holds for all requests together.",
        keys: HELD_TOGETHER,
    },
    Section {
        name: "plans",
        shape: Shape::Named,
        enforced: true,
        doc: "What the callers on a plan may do. At least one, at most 65,535.",
        keys: &[
            key(
                "models",
                SettingKind::Texts,
                Required,
                "Model names, or patterns in which `*` stands for any characters. A pattern does not match cloud models (`:cloud`), which send prompts elsewhere: list them by name.",
            ),
            key(
                "routes",
                SettingKind::Choices(&[
                    ChoiceWord { word: "inference", enforced: true },
                    ChoiceWord { word: "catalog", enforced: true },
                    ChoiceWord { word: "admin", enforced: false },
                ]),
                Value("[\"inference\", \"catalog\"]"),
                "Route classes it may use. `admin` only by name.",
            ),
            key(
                "requests",
                SettingKind::Rates,
                Nothing,
                "Request rate of each caller; of a list, all must hold. Absent: no limit.",
            ),
            key(
                "burst",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Requests that may come at once; only beside a single rate. Absent: the rate's count.",
            ),
            key(
                "tokens",
                SettingKind::Rate,
                Nothing,
                "Token rate of each caller, prompt and output, weighted by the model's `cost`. A request reserves what it may \
                 use until its usage is known. Absent: no limit.",
            ),
            key(
                "concurrency",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Most requests of each caller in flight. Absent: no limit.",
            ),
            key(
                "budget",
                SettingKind::Budgets,
                Nothing,
                "Tokens of each caller by calendar day or month, weighted as for `tokens`: `[\"2M/day\", \"40M/month\"]`.",
            ),
            key(
                "max_output",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Most tokens a request may ask to be generated, over all its answers (`n`, `best_of`, arrays of prompts multiply). \
                 What bounds an answer depends on server and endpoint: `num_predict`, `max_tokens`, … `num_predict` of 0 or less, \
                 which is no bound, is refused.",
            ),
            key(
                "left_open",
                SettingKind::Choice(&["allow", "refuse", "close"]),
                Nothing,
                "What becomes of a request that sets no output limit, as most clients send none. `allow`: it passes, and the \
                 server's own default limits the answer (Ollama: ten contexts). `refuse`: 400, the client must say. Absent: as \
                 `allow`, and `check` warns. `close` (herdgate adds the limit) is not supported yet. Only beside `max_output`.",
            ),
            key("max_context", SettingKind::Integer(1, MANY), Nothing, "Largest `num_ctx` a caller may ask for."),
            key(
                "over",
                SettingKind::Choice(&["refuse", "clamp"]),
                Value("refuse"),
                "What happens to a request that asks for more than a bound: `refuse` is 400 `exceeds_limit`. `clamp` is not \
                 supported yet.",
            ),
            key(
                "keep_alive",
                SettingKind::Text,
                Nothing,
                "Longest a caller may ask a model to stay loaded, from `1s` on; or `deny`, `allow`. 0 (less than a second) and -1 \
                 (for ever) need `allow`. Absent: `allow`.",
            ),
            key(
                "raw",
                SettingKind::Bool,
                Value("true"),
                "Whether a caller may go around the model's prompt template: `raw`, `template`, `chat_template`. `suffix`, which the \
                 template has a place for, always passes.",
            ),
            key("max_images", SettingKind::Integer(0, 10_000), Nothing, "Most images of a request."),
            key(
                "max_image_size",
                SettingKind::Integer(1, MANY),
                Nothing,
                "Largest image, in bytes as it stands in the body: base64 is a third longer than the file. An image by URL counts as \
                 one image of the URL's length; `max_images = 0` forbids them.",
            ),
            key(
                "priority",
                SettingKind::Choice(&["normal", "high", "low"]),
                Value("normal"),
                "Place in the queue of a full server: `high` before all others, `low` after those that come up to 30 s later. Callers of \
                 one priority take turns, however many requests each has waiting.",
            ),
            key(
                "shadow",
                SettingKind::Bool,
                Value("false"),
                "Count and log what is over `requests`, `tokens`, `concurrency` and `budget`, and let it pass.",
            ),
        ],
    },
    Section {
        name: "teams",
        shape: Shape::Named,
        enforced: true,
        doc: "Limits that several callers share, beside each one's own. A key belongs to a team by `herdgate key new --team`.",
        keys: &[key(
            "plan",
            SettingKind::Text,
            Required,
            "The plan whose `requests`, `tokens`, `concurrency` and `budget` the team's callers share. Models and routes are those of each caller's own plan.",
        )],
    },
    Section {
        name: "auth",
        shape: Shape::Single,
        enforced: true,
        doc: "Credentials. Client addresses are those the proxy sees, and `X-Forwarded-For` is ignored; they count by /32 (IPv4) and /64 (IPv6).",
        keys: &[
            key(
                "failures",
                SettingKind::Rate,
                Nothing,
                "Failed credentials per address. Over it, credentials from there are answered 429 and not looked up. Absent: no limit.",
            ),
            later("cors_origins", SettingKind::Texts, Nothing, "Origins whose preflight requests are answered."),
            key(
                "anonymous",
                SettingKind::Text,
                Nothing,
                "The plan of callers without a credential, for each address. Absent: they are refused.",
            ),
            key(
                "anonymous_requests",
                SettingKind::Rate,
                Value("600/min"),
                "Request rate of all callers without a credential together.",
            ),
            key(
                "anonymous_concurrency",
                SettingKind::Integer(1, MANY),
                Value("16"),
                "Most requests of all callers without a credential together in flight.",
            ),
        ],
    },
    Section {
        name: "keys",
        shape: Shape::Single,
        enforced: true,
        doc: "API keys. The file is read again within a second of a change.",
        keys: &[
            key(
                "file",
                SettingKind::Path,
                Value("keys.toml"),
                "Written by `herdgate key`; stores only digests of the secrets. Mode 0600.",
            ),
            key(
                "allow_readable",
                SettingKind::Bool,
                Value("false"),
                "Accept a key file that group or others may read (never one they may write), such as a mounted secret.",
            ),
            key(
                "pepper_file",
                SettingKind::Path,
                Nothing,
                "At least 32 bytes that new digests are keyed with (HMAC-SHA-256), so that an attacker who steals only the key file cannot brute-force secrets from it. Mode 0600. Where it is lost, so are all keys made with it.",
            ),
        ],
    },
    Section {
        name: "issuer",
        shape: Shape::Repeated,
        enforced: true,
        doc: "An OpenID provider whose tokens (JWT) are accepted. At most 64. A credential of three base64url parts with dots between goes to the issuers, and to the keys never.",
        keys: &[
            key(
                "issuer",
                SettingKind::Text,
                Required,
                "Its identifier, exactly the `iss` of its tokens; discovery finds the rest. `https://`, or `http://` on this machine.",
            ),
            key("jwks_uri", SettingKind::Text, Nothing, "Its key set. Absent: discovered."),
            key("audience", SettingKind::Text, Required, "The `aud` a token must carry."),
            key(
                "algorithms",
                SettingKind::Choices(&[
                    ChoiceWord { word: "RS256", enforced: true },
                    ChoiceWord { word: "RS384", enforced: true },
                    ChoiceWord { word: "RS512", enforced: true },
                    ChoiceWord { word: "PS256", enforced: true },
                    ChoiceWord { word: "PS384", enforced: true },
                    ChoiceWord { word: "PS512", enforced: true },
                    ChoiceWord { word: "ES256", enforced: true },
                    ChoiceWord { word: "ES384", enforced: true },
                    ChoiceWord { word: "EdDSA", enforced: true },
                ]),
                Value("[\"RS256\", \"ES256\", \"EdDSA\"]"),
                "Signature algorithms accepted. Each key is used with its own only.",
            ),
            key("user_claim", SettingKind::Text, Value("sub"), "The claim that names the user."),
            key("plan", SettingKind::Text, Nothing, "The plan of users that no rule takes. Absent: they are refused."),
            key(
                "max_users",
                SettingKind::Integer(1, 1_000_000),
                Value("10000"),
                "Most users with limits of their own; further users share one. A place is free again after a day without a request.",
            ),
            key(
                "ca_file",
                SettingKind::Path,
                Nothing,
                "Certificates (PEM) to trust for this issuer, and no others. Absent: the system's.",
            ),
            key(
                "proxy",
                SettingKind::Text,
                Nothing,
                "HTTP proxy to reach it through. Absent: none, whatever the environment says.",
            ),
            key(
                "rule",
                SettingKind::Sections(&ISSUER_RULE),
                Nothing,
                "Plans by claim; the first that fits decides. At most 256.",
            ),
        ],
    },
    Section {
        name: "ledger",
        shape: Shape::Single,
        enforced: true,
        doc: "Where counters and usage are kept.",
        keys: &[
            key(
                "path",
                SettingKind::Path,
                Value("herdgate.db"),
                "What must outlive the process is kept in this SQLite file, mode 0600, on a local disk. `off`: in memory alone.",
            ),
            key(
                "secret_file",
                SettingKind::Path,
                Value("herdgate.secret"),
                "Key of receipts: made at first start, mode 0600, shared by replicas.",
            ),
            key(
                "store",
                SettingKind::Text,
                Value("local"),
                "Where limits are counted. `local`: in this herdgate alone. `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`: by all that name it.",
            ),
            key(
                "replicas",
                SettingKind::Integer(1, 1000),
                Value("1"),
                "herdgates that share the store, for `on_store_down`.",
            ),
            key(
                "on_store_down",
                SettingKind::Choice(&["local", "allow", "deny"]),
                Value("local"),
                "While the store is away. `local`: each grants its part of each limit. `allow`: no limit holds. `deny`: 503.",
            ),
            key("keep", SettingKind::Duration, Value("400d"), "How long records are kept: `1d` to `3650d`."),
            key(
                "on_damage",
                SettingKind::Choice(&["refuse", "fresh"]),
                Value("refuse"),
                "Where the file is damaged: do not start, or move it aside and begin anew.",
            ),
            key(
                "time_zone",
                SettingKind::Text,
                Value("UTC"),
                "Where the days of budgets and reports begin, such as `Europe/Berlin`.",
            ),
            key(
                "max_stream",
                SettingKind::Duration,
                Value("1h"),
                "Longest a request counts as in flight where no usage line ends it: `1s` to `24h`.",
            ),
        ],
    },
    Section {
        name: "probe",
        shape: Shape::Single,
        enforced: true,
        doc: "How servers are probed.",
        keys: &[
            key(
                "interval",
                SettingKind::Duration,
                Value("5s"),
                "Time between two probes of a server: `100ms` to `1h`.",
            ),
            key(
                "fast_interval",
                SettingKind::Duration,
                Value("1s"),
                "Time to the next probe after a failed one: `100ms` to `interval`.",
            ),
            key(
                "deep_interval",
                SettingKind::Duration,
                Value("60s"),
                "Time between two deep checks of a server: two tokens of a model that is loaded. `100ms` to `24h`; none while real requests succeed.",
            ),
            key(
                "deep_timeout",
                SettingKind::Duration,
                Value("10s"),
                "Longest a deep check waits for its token: `100ms` to `5m`. A server takes so long, and `fall` times `fast_interval`, to be found dead.",
            ),
            key(
                "idle",
                SettingKind::Duration,
                Value("10m"),
                "A model that nobody else used for longer than this is not asked: `100ms` to `400d`.",
            ),
            key("rise", SettingKind::Integer(1, 100), Value("2"), "Successes in a row that bring a server up."),
            key("fall", SettingKind::Integer(1, 100), Value("3"), "Failures in a row that take a server down."),
        ],
    },
    Section {
        name: "agent_check",
        shape: Shape::Single,
        enforced: true,
        doc: "What HAProxy is told through agent-check.",
        keys: &[key(
            "proxies",
            SettingKind::Integer(1, 1000),
            Value("1"),
            "HAProxy processes that share a server's `maxconn`.",
        )],
    },
    Section {
        name: "queue",
        shape: Shape::Single,
        enforced: true,
        doc: "Waiting for a server, where all that have the model are full (`maxconn`, `slots`; with neither, one request for each loaded \
              model and one more).",
        keys: &[
            key(
                "timeout",
                SettingKind::Duration,
                Value("60s"),
                "Longest a request that came through nginx waits; then it gets 503: `1s` to `5m`. HAProxy's own is `timeout queue`.",
            ),
            key(
                "shed_wait",
                SettingKind::Duration,
                Value("30s"),
                "Expected wait above which plans of priority `low` get 503 at once: `1s` to `1h`.",
            ),
        ],
    },
];

static ISSUER_RULE: Section = Section {
    name: "issuer.rule",
    shape: Shape::Repeated,
    enforced: true,
    doc: "A plan for the users with one claim.",
    keys: &[
        key(
            "claim",
            SettingKind::Text,
            Required,
            "The claim. Where no claim has this name, its dots lead inwards: `realm_access.roles`.",
        ),
        key("value", SettingKind::Text, Required, "Its value, or one of its values."),
        key("plan", SettingKind::Text, Required, "The plan of users who have it."),
        key("team", SettingKind::Text, Nothing, "Their team, whose limits they share."),
    ],
};
