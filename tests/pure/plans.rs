//! What a plan permits of a request's options, as data: one plan, one request, what `judge` makes of it.

use herdgate::config::compile::compile;
use herdgate::decision::answer::dialect::refusal_body;
use herdgate::decision::caller::keyset::{Digest, Key, KeySet};
use herdgate::decision::fleet::track::ServerTrack;
use herdgate::decision::fleet::{FleetView, Inventory, Model};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::decision::judge::{Judgement, judge};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::limits::Scope;
use herdgate::decision::request::name::ModelName;
use herdgate::decision::view::View;
use std::path::Path;
use std::sync::Arc;

const GENERATE: &str = "/api/generate";
const CHAT: &str = "/api/chat";
const V1_CHAT: &str = "/v1/chat/completions";

/// A View of one plan with these lines. `o` has the model `ollama` and `both`, `v` (kind openai) has `vllm` and `both`.
fn view(plan: &str) -> View {
    let source = format!(
        "[[server]]\nname = \"o\"\nurl = \"http://10.0.0.1:1\"\n[[server]]\nname = \"v\"\nurl = \"http://10.0.0.2:1\"\n\
         kind = \"openai\"\n[plans.p]\nmodels = [\"*\"]\n{plan}\n"
    );
    let policy = compile(&source, "f.toml", Path::new("")).unwrap().policy;
    let mut keys = KeySet::default();
    let key = Key {
        name: "k".into(),
        plan: keys.intern_plan("p").unwrap(),
        team: None,
        not_before_unix_ms: None,
        expires_unix_ms: None,
        revoked: false,
        scope: Scope::of("key", b"k"),
        on_behalf: None,
    };
    assert!(keys.insert(Digest::of(b"secret"), key));
    let mut fleet = FleetView::default();
    for (server, models) in [("o", ["ollama", "both"]), ("v", ["vllm", "both"])] {
        let mut track = ServerTrack::default();
        let models = models.map(model).into();
        track.report(Ok(Inventory { models, ..Inventory::default() }), 1, 1);
        fleet.servers.insert(server.into(), track.view());
    }
    View::compose(Arc::new(policy), Arc::new(keys), Arc::new(fleet))
}

fn model(name: &str) -> Model {
    Model {
        name: ModelName::canonical(name),
        listed: name.into(),
        digest: "d".repeat(64).into(),
        size: 9,
        modified_at: "2026-01-01T00:00:00Z".into(),
        created: 7,
        owned_by: "library".into(),
        details: "".into(),
        capabilities: "".into(),
        remote: false,
    }
}

/// `pass`, or status, code, reason and option of the refusal; then its body.
fn judged(view: &View, target: &str, body: BodyShown<'_>) -> (String, String) {
    let inquiry = Inquiry {
        uid: b"",
        method: b"POST",
        target: target.as_bytes(),
        source: None,
        authorization: HeaderField::once(b"Bearer secret"),
        x_api_key: HeaderField::default(),
        api_key: HeaderField::default(),
        on_behalf: OnBehalf::default(),
        encoding: None,
        body,
    };
    let judged = judge(view, &inquiry, Moment { mono_ns: 1, unix_ms: 1 });
    match judged.judgement {
        Judgement::Claim(_) => ("pass".to_owned(), String::new()),
        Judgement::Answer(_) => ("answer".to_owned(), String::new()),
        Judgement::Refuse(refusal) => {
            let (code, reason) = (refusal.code().as_str(), refusal.reason.as_str());
            let option = refusal.reason.option().unwrap_or("-");
            (format!("{} {code} {reason} {option}", refusal.status()), refusal_body(&refusal, judged.dialect))
        }
    }
}

/// `more` stands in the body beside the model.
fn check(plan: &str, target: &str, model: &str, more: &str, expected: &str) {
    let comma = if more.is_empty() { "" } else { "," };
    let body = format!(r#"{{"model":"{model}"{comma}{more}}}"#);
    let shown = BodyShown::Bytes { seen: body.as_bytes(), size: body.len() as u64 };
    assert_eq!(judged(&view(plan), target, shown).0, expected, "{plan}: {target} {body}");
}

fn over(option: &str) -> String {
    format!("400 exceeds_limit over_bound {option}")
}

fn forbidden(option: &str) -> String {
    format!("403 not_permitted option_not_in_plan {option}")
}

#[test]
fn a_plan_without_bounds_lets_every_option_pass() {
    for more in [
        "",
        r#""options":{"num_predict":-1,"num_ctx":10000000}"#,
        r#""keep_alive":-1"#,
        r#""keep_alive":0"#,
        r#""keep_alive":"nonsense""#,
        r#""raw":true,"template":"x""#,
        r#""images":["a","b","c"]"#,
    ] {
        check("", GENERATE, "ollama", more, "pass");
    }
    check("", V1_CHAT, "vllm", r#""max_tokens":999999,"n":128"#, "pass");
}

#[test]
fn an_answer_is_bounded_by_the_key_that_the_server_reads() {
    let plan = "max_output = 100";
    let cases: &[(&str, &str, &str, &str)] = &[
        (GENERATE, "ollama", r#""options":{"num_predict":100}"#, ""),
        (GENERATE, "ollama", r#""options":{"num_predict":101}"#, "num_predict"),
        (CHAT, "ollama", r#""options":{"num_predict":1e3}"#, "num_predict"),
        (CHAT, "ollama", r#""options":{"num_predict":-1}"#, "num_predict"),
        (CHAT, "ollama", r#""options":{"num_predict":-2}"#, "num_predict"),
        (CHAT, "ollama", r#""options":{"num_predict":0}"#, "num_predict"),
        (CHAT, "ollama", r#""max_tokens":5000"#, ""),
        (V1_CHAT, "ollama", r#""max_tokens":100,"n":50"#, ""),
        (V1_CHAT, "ollama", r#""max_tokens":101"#, "max_tokens"),
        (V1_CHAT, "ollama", r#""options":{"num_predict":5000},"max_tokens":5"#, ""),
        ("/v1/responses", "ollama", r#""max_output_tokens":101"#, "max_output_tokens"),
        ("/v1/messages", "ollama", r#""max_tokens":101"#, "max_tokens"),
        ("/v1/completions", "ollama", r#""max_tokens":101"#, "max_tokens"),
        (V1_CHAT, "vllm", r#""max_tokens":100"#, ""),
        (V1_CHAT, "vllm", r#""max_tokens":50,"n":3"#, "max_tokens"),
        (V1_CHAT, "vllm", r#""max_tokens":50,"n_cmpl":3"#, "max_tokens"),
        (V1_CHAT, "vllm", r#""max_completion_tokens":101"#, "max_completion_tokens"),
        (V1_CHAT, "vllm", r#""max_tokens":5,"n_predict":-1"#, "n_predict"),
        ("/v1/completions", "vllm", r#""max_tokens":50,"prompt":["a","b"]"#, ""),
        ("/v1/completions", "vllm", r#""max_tokens":50,"prompt":["a","b","c"]"#, "max_tokens"),
        ("/v1/completions", "vllm", r#""max_tokens":50,"best_of":3"#, "max_tokens"),
        // A pool of both kinds: either may get it.
        (V1_CHAT, "both", r#""max_tokens":100"#, ""),
        (V1_CHAT, "both", r#""max_tokens":50,"n":3"#, "max_tokens"),
        (V1_CHAT, "both", r#""max_tokens":5,"n_predict":500"#, "n_predict"),
        // What embeds generates nothing.
        ("/v1/embeddings", "both", r#""input":"a","max_tokens":5000"#, ""),
        ("/api/embed", "ollama", r#""input":"a","options":{"num_predict":-1}"#, ""),
        ("/api/show", "ollama", r#""options":{"num_predict":-1}"#, ""),
    ];
    for (target, model, more, option) in cases {
        let expected = if option.is_empty() { "pass".to_owned() } else { over(option) };
        check(plan, target, model, more, &expected);
    }
}

#[test]
fn a_request_that_names_no_bound_is_the_plans_choice() {
    let cases = [
        (GENERATE, "ollama", "", "num_predict"),
        (CHAT, "ollama", r#""options":{"num_predict":null}"#, "num_predict"),
        (V1_CHAT, "ollama", r#""max_completion_tokens":50"#, "max_tokens"),
        (V1_CHAT, "vllm", r#""max_completion_tokens":50"#, "max_tokens"),
        (V1_CHAT, "both", "", "max_tokens"),
        ("/v1/responses", "ollama", r#""max_tokens":50"#, "max_output_tokens"),
        ("/v1/messages", "vllm", "", "max_tokens"),
    ];
    for (target, model, more, option) in cases {
        check("max_output = 100", target, model, more, "pass");
        check("max_output = 100\nleft_open = \"allow\"", target, model, more, "pass");
        check("max_output = 100\nleft_open = \"refuse\"", target, model, more, &over(option));
    }
    let strict = "max_output = 100\nleft_open = \"refuse\"";
    check(strict, GENERATE, "ollama", r#""options":{"num_predict":100}"#, "pass");
    check(strict, V1_CHAT, "both", r#""max_tokens":100"#, "pass");
    check(strict, "/api/embed", "ollama", r#""input":"a""#, "pass");
    check(strict, "/v1/embeddings", "vllm", r#""input":"a""#, "pass");
}

#[test]
fn a_context_is_bounded_wherever_num_ctx_stands() {
    for target in [GENERATE, CHAT, "/api/embed", "/api/embeddings", V1_CHAT] {
        check("max_context = 8192", target, "ollama", r#""options":{"num_ctx":8192}"#, "pass");
        check("max_context = 8192", target, "ollama", r#""options":{"num_ctx":8193}"#, &over("num_ctx"));
        check("max_context = 8192", target, "ollama", r#""options":{"num_ctx":null}"#, "pass");
        check("max_context = 8192", target, "ollama", r#""options":{"num_ctx":-1}"#, "pass");
    }
}

#[test]
fn keep_alive_is_at_most_the_plans_and_neither_unloads_nor_pins() {
    let cases = [
        ("1800", "pass"),
        ("\"30m\"", "pass"),
        ("\"0.5h\"", "pass"),
        ("1", "pass"),
        ("null", "pass"),
        ("1801", "over"),
        ("1800.001", "over"),
        ("1e300", "over"),
        ("\"30m1ms\"", "over"),
        ("\"24h\"", "over"),
        ("0", "forbidden"),
        ("-0", "forbidden"),
        ("0.0", "forbidden"),
        ("\"0\"", "forbidden"),
        ("\"0s\"", "forbidden"),
        ("1e-10", "forbidden"),
        ("\"1ns\"", "forbidden"),
        ("\"999ms\"", "forbidden"),
        ("-1", "forbidden"),
        ("\"-1m\"", "forbidden"),
        ("\"-1\"", "invalid"),
        ("\"forever\"", "invalid"),
        ("\"\"", "invalid"),
        ("\"000000000000000000000000000000000000000000001m\"", "invalid"),
    ];
    for (value, expected) in cases {
        let more = format!(r#""keep_alive":{value}"#);
        let expected = match expected {
            "over" => over("keep_alive"),
            "forbidden" => forbidden("keep_alive"),
            "invalid" => "400 invalid_body body_wrong_type -".to_owned(),
            pass => pass.to_owned(),
        };
        for target in [GENERATE, "/api/embed", V1_CHAT] {
            check("keep_alive = \"30m\"", target, "ollama", &more, &expected);
        }
        let denied = if value == "null" { "pass".to_owned() } else { forbidden("keep_alive") };
        check("keep_alive = \"deny\"", CHAT, "ollama", &more, &denied);
        check("keep_alive = \"allow\"", CHAT, "ollama", &more, "pass");
    }
}

#[test]
fn a_plan_may_hold_callers_to_the_models_own_template() {
    let cases = [
        (r#""raw":true"#, "raw"),
        (r#""raw":false"#, ""),
        (r#""raw":null"#, ""),
        (r#""template":"{{ .Prompt }}""#, "template"),
        // Go's client writes it so where it brings none.
        (r#""template":"","suffix":"","raw":false"#, ""),
        (r#""template":null"#, ""),
        (r#""chat_template":"x""#, "template"),
        (r#""suffix":"}""#, ""),
    ];
    for (more, option) in cases {
        let expected = if option.is_empty() { "pass".to_owned() } else { forbidden(option) };
        check("raw = false", GENERATE, "both", more, &expected);
        check("raw = true", GENERATE, "both", more, "pass");
    }
}

#[test]
fn images_are_bounded_by_number_and_size_however_they_are_sent() {
    let part = |image: &str| format!(r#""messages":[{{"role":"user","content":[{image}]}}]"#);
    let url = part(r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,aaaa"}}"#);
    let remote = part(r#"{"type":"image_url","image_url":{"url":"http://10.0.0.9/"}}"#);
    let source = part(r#"{"type":"image","source":{"type":"base64","data":"aaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}"#);
    let images = r#""prompt":"p","images":["aaaaaaaaaaaaaaaaaaaaaaaaaaaa"]"#;
    for (target, more) in [(V1_CHAT, &*url), (V1_CHAT, &*remote), ("/v1/messages", &*source), (GENERATE, images)] {
        check("max_images = 1", target, "both", more, "pass");
        check("max_images = 0", target, "both", more, &over("images"));
        check("max_image_size = 28", target, "both", more, "pass");
        check("max_image_size = 15", target, "both", more, &over("images"));
    }
    check("max_images = 1", GENERATE, "ollama", r#""images":["a","b"]"#, &over("images"));
    check("max_images = 0", GENERATE, "ollama", r#""prompt":"p","images":[]"#, "pass");
}

#[test]
fn what_is_not_seen_is_not_permitted_where_the_plan_bounds_it() {
    let shown = |plan: &str, target: &str| judged(&view(plan), target, BodyShown::Hidden).0;
    assert_eq!(shown("", CHAT), "pass");
    assert_eq!(shown("keep_alive = \"allow\"\nraw = true", CHAT), "pass");
    for plan in ["max_output = 1", "max_context = 1", "keep_alive = \"1s\"", "raw = false", "max_images = 9"] {
        assert_eq!(shown(plan, CHAT), "403 not_permitted body_hidden -", "{plan}");
        assert_eq!(shown(plan, "/api/show"), "pass", "{plan}");
    }
}

/// A model outside the plan is told as ever, so that options tell nobody which models there are.
#[test]
fn an_unknown_model_is_told_before_its_options() {
    check("max_output = 1", V1_CHAT, "nothing", r#""max_tokens":9"#, "404 model_not_found unknown_model -");
}

#[test]
fn admin_routes_are_refused_on_every_plan() {
    check("", "/api/pull", "ollama", "", "403 not_permitted route_not_in_plan -");
}

#[test]
fn a_refusal_names_option_and_bound_in_every_dialect() {
    let told = |plan: &str, target: &str, more: &str| {
        let body = format!(r#"{{"model":"both",{more}}}"#);
        judged(&view(plan), target, BodyShown::Bytes { seen: body.as_bytes(), size: body.len() as u64 }).1
    };
    let cases = [
        (
            "max_output = 100",
            CHAT,
            r#""options":{"num_predict":500}"#,
            r#"{"error":"`num_predict` asks for 500, and your plan permits at most 100 tokens of output"}"#,
        ),
        (
            "max_output = 100",
            CHAT,
            r#""options":{"num_predict":-1}"#,
            r#"{"error":"`num_predict` sets no bound, and your plan permits at most 100 tokens of output"}"#,
        ),
        (
            "max_output = 100",
            V1_CHAT,
            r#""max_tokens":50,"n":3"#,
            r#"{"error":{"message":"`max_tokens` for 3 answers asks for 150, and your plan permits at most 100 tokens of output","type":"invalid_request_error","param":"max_tokens","code":"exceeds_limit"}}"#,
        ),
        (
            "max_output = 100\nleft_open = \"refuse\"",
            "/v1/messages",
            r#""messages":[]"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"`max_tokens` must be given: your plan permits at most 100 tokens of output"}}"#,
        ),
        (
            "max_context = 8192",
            CHAT,
            r#""options":{"num_ctx":16384}"#,
            r#"{"error":"`num_ctx` asks for 16384, and your plan permits at most 8192 tokens of context"}"#,
        ),
        (
            "keep_alive = \"30m\"",
            CHAT,
            r#""keep_alive":"1h""#,
            r#"{"error":"`keep_alive` asks for 3600, and your plan permits at most 1800 s"}"#,
        ),
        (
            "keep_alive = \"30m\"",
            CHAT,
            r#""keep_alive":-1"#,
            r#"{"error":"your plan does not permit this `keep_alive`"}"#,
        ),
        (
            "raw = false",
            "/v1/completions",
            r#""raw":true"#,
            r#"{"error":{"message":"your plan does not permit `raw`","type":"permission_error","param":"raw","code":"not_permitted"}}"#,
        ),
        (
            "max_images = 0",
            "/v1/messages",
            r#""messages":[{"content":[{"source":{"data":"a"}}]}]"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"`images` asks for 1, and your plan permits at most 0 images"}}"#,
        ),
    ];
    for (plan, target, more, expected) in cases {
        assert_eq!(told(plan, target, more), expected, "{plan} {target} {more}");
    }
}
