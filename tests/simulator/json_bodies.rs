//! The simulator's reading of JSON bodies, held against what Go's `encoding/json` makes of the same bytes.

use crate::duration::KeepAlive;
use crate::fields::{Fields, Keys, Kind, Shape};
use crate::json::{self, Json};
use base64::Engine;
use serde_json::{Value, json};

/// The struct that the vectors were decoded into.
const ORACLE: Shape = &[
    ("model", Kind::Text),
    ("name", Kind::Text),
    ("stream", Kind::OptionalBool),
    ("max_tokens", Kind::OptionalInt),
    ("keep_alive", Kind::Any),
    ("options", Kind::Map),
];

/// Returns what the simulator makes of a body, in the form of the vectors' `go` member.
fn read(body: &[u8]) -> Value {
    let Ok((value, _)) = json::first_value(body) else { return json!({ "ok": false }) };
    let Ok(fields) = Fields::of(&value, Keys::Folded, "api.Request", ORACLE) else { return json!({ "ok": false }) };
    let mut read = json!({ "ok": true, "model": fields.text("model"), "name": fields.text("name") });
    if let Some(stream) = fields.flag("stream") {
        read["stream"] = json!(stream);
    }
    if let Some(bound) = fields.int("max_tokens") {
        read["max_tokens"] = json!(bound);
    }
    match fields.any("keep_alive") {
        Some(Json::Text(text)) => read["keep_alive"] = json!(format!("{text:?}")),
        Some(Json::Number(number)) => read["keep_alive"] = json!(number),
        Some(Json::Bool(flag)) => read["keep_alive"] = json!(flag.to_string()),
        _ => {}
    }
    for name in ["num_ctx", "num_predict"] {
        if let Some(Json::Number(number)) = fields.object("options").as_ref().and_then(|options| options.entry(name)) {
            read[name] = json!(number.parse::<f64>().unwrap() as i64);
        }
    }
    read
}

#[test]
fn bodies_mean_what_they_mean_to_go() {
    let model = |model: &str| json!({ "ok": true, "model": model, "name": "" });
    let refused = json!({ "ok": false });
    let merged = json!({ "ok": true, "model": "", "name": "", "num_ctx": 1, "num_predict": 2 });
    let kept = json!({ "ok": true, "model": "", "name": "", "keep_alive": "5" });
    let cases: &[(&[u8], Value)] = &[
        (br#"{"model":"a"}"#, model("a")),
        (br#"{"MODEL":"a"}"#, model("a")),
        (br#"{"model":"a","Model":"b"}"#, model("b")),
        (br#"{"model":"a","model":null}"#, model("a")),
        (br#"{"mod\u0065l":"a"} trailing"#, model("a")),
        (br#"{"model":"\ud800"}"#, model("\u{fffd}")),
        (br#"{"model":"\ud83e\udd99"}"#, model("🦙")),
        (b"{\"model\":\"\xff\xfe\"}", model("\u{fffd}\u{fffd}")),
        ("{\"\u{212a}eep_alive\":5}".as_bytes(), kept),
        (br#"{"stream":false,"stream":null}"#, model("")),
        (br#"{"options":{"num_ctx":1},"options":{"num_predict":2}}"#, merged),
        (br#"{"options":{"num_ctx":1},"options":null}"#, model("")),
        (br#"{"options":{"NUM_CTX":1}}"#, model("")),
        (b"null", model("")),
        (br#"{"model":1}"#, refused.clone()),
        (br#"{"max_tokens":1.5}"#, refused.clone()),
        (br#"[{"model":"a"}]"#, refused.clone()),
        (br#"{"model":"a""#, refused.clone()),
        (br#"{"model":"a",}"#, refused.clone()),
        (b"\xef\xbb\xbf{}", refused.clone()),
        (b"{\"model\":\"a\n\"}", refused.clone()),
        (b"", refused),
    ];
    for (body, expected) in cases {
        assert_eq!(&read(body), expected, "{}", String::from_utf8_lossy(body));
    }
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(read(nested(9_999).as_bytes())["ok"], true);
    assert_eq!(read(nested(10_001).as_bytes())["ok"], false);
}

#[test]
fn three_thousand_bodies_mean_what_a_real_go_made_of_them() {
    #[allow(clippy::disallowed_methods)] // where the vectors lie is the one thing the environment says
    let Ok(vectors) = std::env::var("HERDGATE_VECTORS") else {
        println!("HERDGATE_VECTORS is not set: passed by");
        return;
    };
    let text = std::fs::read_to_string(format!("{vectors}/bodies_go.jsonl")).unwrap();
    let mut differing = Vec::new();
    for line in text.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        let body = base64::engine::general_purpose::STANDARD.decode(vector["body_base64"].as_str().unwrap()).unwrap();
        let found = read(&body);
        if found != vector["go"] {
            let body = String::from_utf8_lossy(&body).chars().take(300).collect::<String>();
            differing.push(format!("{}: {found} but Go {}: {body}", vector["id"], vector["go"]));
        }
    }
    assert!(text.lines().count() >= 3000);
    let some = differing.iter().take(8).cloned().collect::<Vec<_>>().join("\n");
    assert!(differing.is_empty(), "{} differ, among them\n{some}", differing.len());
}

#[test]
fn keep_alive_is_a_number_of_seconds_or_a_go_duration() {
    let cases = [
        ("300", Ok(KeepAlive::For(300_000_000_000))),
        ("0", Ok(KeepAlive::For(0))),
        ("0.5", Ok(KeepAlive::For(500_000_000))),
        ("-1", Ok(KeepAlive::Forever)),
        ("\"5m\"", Ok(KeepAlive::For(300_000_000_000))),
        ("\"1h30m\"", Ok(KeepAlive::For(5_400_000_000_000))),
        ("\"1.5s\"", Ok(KeepAlive::For(1_500_000_000))),
        ("\"250ms\"", Ok(KeepAlive::For(250_000_000))),
        ("\"-1s\"", Ok(KeepAlive::Forever)),
        ("\"0\"", Ok(KeepAlive::For(0))),
        ("\"5\"", Err("time: missing unit in duration \"5\"")),
        ("\"\"", Err("time: invalid duration \"\"")),
        ("\"5 m\"", Err("time: unknown unit \" m\" in duration \"5 m\"")),
        ("true", Err("Unsupported type: 'bool'")),
    ];
    for (text, expected) in cases {
        let (value, _) = json::first_value(text.as_bytes()).unwrap();
        assert_eq!(KeepAlive::of(&value), expected.map_err(str::to_owned), "{text}");
    }
}
