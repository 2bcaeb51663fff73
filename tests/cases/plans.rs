//! Options that a plan forbids or bounds: told in the dialect of the endpoint, and no server is asked.

use crate::harness::client::Request;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::SHARED_MODEL;
use crate::harness::stack::{Front, Stack};
use std::time::Duration;

const PLAN: &str = r#"
[plans.bounded]
models = ["*"]
max_output = 100
left_open = "refuse"
max_context = 8192
keep_alive = "30m"
raw = false
max_images = 1
max_image_size = 1000
"#;

/// Endpoint, what stands beside the model, the status, and what the answer must name: option, and bound where there is one.
const FORBIDDEN: &[(&str, &str, u16, &[&str])] = &[
    ("/api/generate", r#""options":{"num_predict":101}"#, 400, &["num_predict", "100"]),
    ("/api/generate", r#""options":{"num_predict":-1}"#, 400, &["num_predict", "100"]),
    ("/api/chat", r#""options":{"num_predict":-2}"#, 400, &["num_predict", "100"]),
    ("/api/chat", r#""options":{"num_predict":0}"#, 400, &["num_predict", "100"]),
    ("/api/chat", r#""max_tokens":50"#, 400, &["num_predict", "100"]),
    ("/v1/chat/completions", r#""max_tokens":101"#, 400, &["max_tokens", "100"]),
    ("/v1/chat/completions", r#""max_completion_tokens":50"#, 400, &["max_tokens", "100"]),
    ("/v1/completions", r#""max_tokens":101,"prompt":"p""#, 400, &["max_tokens", "100"]),
    ("/v1/responses", r#""max_output_tokens":101,"input":"p""#, 400, &["max_output_tokens", "100"]),
    ("/v1/messages", r#""max_tokens":101"#, 400, &["max_tokens", "100"]),
    ("/api/generate", r#""options":{"num_predict":1,"num_ctx":8193}"#, 400, &["num_ctx", "8192"]),
    ("/api/embed", r#""input":"p","options":{"num_ctx":8193}"#, 400, &["num_ctx", "8192"]),
    ("/api/generate", r#""options":{"num_predict":1},"keep_alive":"31m""#, 400, &["keep_alive", "1800"]),
    ("/api/generate", r#""options":{"num_predict":1},"keep_alive":0"#, 403, &["keep_alive"]),
    ("/api/embed", r#""input":"p","keep_alive":0"#, 403, &["keep_alive"]),
    ("/api/generate", r#""options":{"num_predict":1},"keep_alive":-1"#, 403, &["keep_alive"]),
    ("/api/generate", r#""options":{"num_predict":1},"raw":true"#, 403, &["raw"]),
    ("/api/generate", r#""options":{"num_predict":1},"template":"x""#, 403, &["template"]),
    ("/api/generate", r#""options":{"num_predict":1},"images":["aaaa","aaaa"]"#, 400, &["images", "1"]),
    // An escape in a key, and a second spelling: the same option, or none that is believed.
    ("/api/generate", r#""options":{"num_predict":1},"r\u0061w":true"#, 403, &["raw"]),
    ("/api/generate", r#""options":{"num_predict":1},"Raw":true"#, 400, &["raw"]),
    ("/api/generate", r#""options":{"num_predict":1},"options":{"num_predict":-1}"#, 400, &["options"]),
    ("/api/generate", r#""options":{"num_predict":1,"NUM_CTX":99999}"#, 400, &["num_ctx"]),
    ("/api/generate?model=x", r#""options":{"num_predict":1}"#, 400, &["model"]),
];

const PERMITTED: &[(&str, &str)] = &[
    (
        "/api/generate",
        r#""prompt":"p","options":{"num_predict":1,"num_ctx":4096},"keep_alive":"30m","template":"","raw":false"#,
    ),
    ("/api/chat", r#""messages":[{"role":"user","content":"p"}],"options":{"num_predict":1},"stream":false"#),
    ("/v1/chat/completions", r#""messages":[{"role":"user","content":"p"}],"max_tokens":1"#),
    ("/api/embed", r#""input":"p","keep_alive":60"#),
];

/// What the plan forbids is told, and reaches no server; what it permits passes.
pub fn what_a_plan_forbids_reaches_no_server(front: Front) {
    let stack = Stack::start_with(PLAN, &[], front).unwrap();
    let key = stack.herdgate.new_key("bounded", "bounded").unwrap();
    let list = Request::get("/v1/models").key(&key);
    wait_until("the key", Duration::from_secs(5), || stack.send(&list).is_ok_and(|answer| answer.status == 200))
        .unwrap();
    let send = |target: &str, more: &str| {
        let body = format!(r#"{{{more},"model":"{SHARED_MODEL}"}}"#);
        stack.send(&Request::post(target, body).key(&key)).unwrap()
    };
    let image = format!(r#""options":{{"num_predict":1}},"images":["{}"]"#, "a".repeat(1_001));
    let too_large: (&str, &str, u16, &[&str]) = ("/api/generate", &image, 400, &["images", "1000"]);
    for (target, more, status, names) in FORBIDDEN.iter().chain([&too_large]) {
        let answer = send(target, more);
        let text = answer.text();
        assert_eq!(answer.status, *status, "{target} {more}: {text}");
        assert!(names.iter().all(|name| text.contains(name)), "{target} {more}: {text}");
        let error = &answer.json()["error"];
        let in_its_dialect = if target.starts_with("/v1/") { error.is_object() } else { error.is_string() };
        assert!(in_its_dialect, "{target} {more}: {text}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), 0);
    for (target, more) in PERMITTED {
        let answer = send(target, more);
        assert_eq!(answer.status, 200, "{target} {more}: {}", answer.text());
    }
    assert_eq!(stack.fleet.asked().unwrap(), u64::try_from(PERMITTED.len()).unwrap());
}
