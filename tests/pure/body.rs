//! The body reader against the JSON test suite, what Go makes of 3,000 bodies, and every way two parsers may disagree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use herdgate::decision::request::body::{Body, BodyFault, BodyReader, FaultKind, KeepAlive};
use proptest::prelude::*;
use serde_json::Value;

fn read(body: &[u8]) -> Result<Body, BodyFault> {
    BodyReader::read(body)
}

fn read_in_slices(body: &[u8], size: usize) -> Result<Body, BodyFault> {
    let mut reader = BodyReader::new();
    body.chunks(size).for_each(|slice| reader.push(slice));
    reader.finish()
}

fn shown(body: &[u8]) -> String {
    let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
    format!("{start:?} ({} bytes)", body.len())
}

/// The text of `model`, where the body is accepted and has one.
fn model(body: &Body) -> Option<&str> {
    body.model.as_ref()?.value.as_ref().map(|text| text.as_str())
}

/// Reads the body cut at every byte, and byte by byte; each must give what reading it whole gives.
fn check_every_split(body: &[u8]) {
    let whole = read(body);
    for cut in 0..=body.len() {
        let mut reader = BodyReader::new();
        reader.push(&body[..cut]);
        reader.push(&body[cut..]);
        assert_eq!(reader.finish(), whole, "{} cut at {cut}", shown(body));
    }
    for size in [1, 2, 3, 63, 64, 65] {
        assert_eq!(read_in_slices(body, size), whole, "{} in slices of {size}", shown(body));
    }
}

#[allow(clippy::disallowed_methods)]
fn vectors(part: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HERDGATE_VECTORS");
    if folder.is_none() {
        eprintln!("HERDGATE_VECTORS is not set: {part} is passed by");
    }
    folder.map(|folder| PathBuf::from(folder).join(part))
}

// ---- faults -------------------------------------------------------------------------------------------------------

#[test]
fn a_body_that_two_parsers_read_in_two_ways_is_refused_by_name() {
    use FaultKind::*;
    let deep = |levels: usize| format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let too_deep = deep(128);
    let cases: &[(&str, &[u8], FaultKind)] = &[
        ("duplicate model", br#"{"model":"a","model":"b"}"#, DuplicateKey("model")),
        ("duplicate model, same value", br#"{"model":"a","model":"a"}"#, DuplicateKey("model")),
        ("null after a value", br#"{"model":"a","model":null}"#, DuplicateKey("model")),
        ("a value after null", br#"{"model":null,"model":"a"}"#, WrongType("model")),
        ("duplicate by an escape", br#"{"model":"a","mod\u0065l":"b"}"#, DuplicateKey("model")),
        ("upper case", br#"{"MODEL":"a"}"#, CaseVariant("model")),
        ("title case", br#"{"Model":"a","model":"b"}"#, CaseVariant("model")),
        ("title case by an escape", br#"{"\u004dodel":"a","model":"b"}"#, CaseVariant("model")),
        ("name in another case", br#"{"model":"a","NAME":"b"}"#, CaseVariant("name")),
        ("duplicate name", br#"{"name":"a","name":"b"}"#, DuplicateKey("name")),
        ("long s, raw", "{\"model\":\"a\",\"\u{17f}tream\":true}".as_bytes(), CaseVariant("stream")),
        ("long s, escaped", br#"{"model":"a","\u017ftream":true}"#, CaseVariant("stream")),
        ("long s, inside a word", "{\"option\u{17f}\":{}}".as_bytes(), CaseVariant("options")),
        ("Kelvin sign, raw", "{\"\u{212a}eep_alive\":0}".as_bytes(), CaseVariant("keep_alive")),
        ("Kelvin sign, escaped", br#"{"max_to\u212Aens":1}"#, CaseVariant("max_tokens")),
        ("duplicate options", br#"{"options":{},"options":{}}"#, DuplicateKey("options")),
        ("options and null", br#"{"options":null,"options":{}}"#, DuplicateKey("options")),
        ("options in another case", br#"{"options":{},"OPTIONS":{}}"#, CaseVariant("options")),
        ("duplicate num_ctx", br#"{"options":{"num_ctx":1,"num_ctx":2}}"#, DuplicateKey("num_ctx")),
        ("num_ctx in another case", br#"{"options":{"num_ctx":1,"Num_Ctx":2}}"#, CaseVariant("num_ctx")),
        ("duplicate num_predict", br#"{"options":{"num_predict":1,"num_predict":2}}"#, DuplicateKey("num_predict")),
        ("num_predict in another case", br#"{"options":{"NUM_PREDICT":2}}"#, CaseVariant("num_predict")),
        ("duplicate stream_options", br#"{"stream_options":{},"stream_options":{}}"#, DuplicateKey("stream_options")),
        ("stream_options in another case", br#"{"Stream_Options":{}}"#, CaseVariant("stream_options")),
        (
            "duplicate include_usage",
            br#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
            DuplicateKey("include_usage"),
        ),
        (
            "include_usage in another case",
            "{\"stream_options\":{\"include_u\u{17f}age\":true}}".as_bytes(),
            CaseVariant("include_usage"),
        ),
        (
            "duplicate max_completion_tokens",
            br#"{"max_completion_tokens":1,"max_completion_tokens":2}"#,
            DuplicateKey("max_completion_tokens"),
        ),
        (
            "max_completion_tokens in another case",
            "{\"max_completion_to\u{212a}en\u{17f}\":1}".as_bytes(),
            CaseVariant("max_completion_tokens"),
        ),
        ("max_output_tokens in another case", br#"{"Max_Output_Tokens":1}"#, CaseVariant("max_output_tokens")),
        ("duplicate keep_alive", br#"{"keep_alive":0,"keep_alive":"5m"}"#, DuplicateKey("keep_alive")),
        ("duplicate n", br#"{"n":1,"n":100}"#, DuplicateKey("n")),
        ("N", br#"{"N":100}"#, CaseVariant("n")),
        ("best_of in another case", br#"{"Best_of":100}"#, CaseVariant("best_of")),
        ("n_cmpl twice", br#"{"n_cmpl":1,"n_cmpl":2}"#, DuplicateKey("n_cmpl")),
        ("n_cmpl in another case", br#"{"N_CMPL":2}"#, CaseVariant("n_cmpl")),
        ("chat_template twice", br#"{"chat_template":"","chat_template":"x"}"#, DuplicateKey("chat_template")),
        ("n_predict in another case", br#"{"N_PREDICT":100}"#, CaseVariant("n_predict")),
        ("raw twice", br#"{"raw":false,"raw":true}"#, DuplicateKey("raw")),
        ("template in another case", br#"{"TEMPLATE":"x"}"#, CaseVariant("template")),
        ("trailing data", br#"{"model":"a"}x"#, Syntax),
        ("a second document", br#"{"model":"a"} {"model":"b"}"#, Syntax),
        ("a NUL after the document", b"{\"model\":\"a\"}\0", Syntax),
        ("byte order mark", b"\xEF\xBB\xBF{\"model\":\"a\"}", Syntax),
        ("UTF-16, little end first", b"\xFF\xFE{\0}\0", Syntax),
        ("UTF-16 without a mark", b"{\0\"\0m\0", Syntax),
        ("UTF-32, big end first", b"\0\0\0{", Syntax),
        ("invalid UTF-8 in a key", b"{\"mod\xFFel\":1}", KeyNotUtf8),
        ("a cut character at the end of a key", b"{\"model\xC3\":1}", KeyNotUtf8),
        ("an overlong form in a key", b"{\"\xC1\xADodel\":1}", KeyNotUtf8),
        ("a surrogate in UTF-8 in a key", b"{\"\xED\xA0\x80\":1}", KeyNotUtf8),
        ("beyond Unicode in a key", b"{\"\xF4\x90\x80\x80\":1}", KeyNotUtf8),
        ("invalid UTF-8 in a member's key", b"{\"options\":{\"num\xFF\":1}}", KeyNotUtf8),
        ("a lone surrogate in a key", br#"{"mod\ud800el":1}"#, KeyNotUtf8),
        ("a lone low surrogate in a key", br#"{"\udc00":1}"#, KeyNotUtf8),
        ("two high surrogates in a key", br#"{"\ud83e\ud83e\udd99":1}"#, KeyNotUtf8),
        ("a lone surrogate in a member's key", br#"{"stream_options":{"\ud800":1}}"#, KeyNotUtf8),
        ("invalid UTF-8 in the model", b"{\"model\":\"\xFFm\"}", NotUtf8("model")),
        ("a lone surrogate in the model", br#"{"model":"m\ud800"}"#, NotUtf8("model")),
        ("a lone surrogate in the name", br#"{"name":"\ud800m"}"#, NotUtf8("name")),
        ("invalid UTF-8 in keep_alive", b"{\"keep_alive\":\"5\xB5s\"}", NotUtf8("keep_alive")),
        ("129 levels", too_deep.as_bytes(), TooDeep),
        ("number as model", br#"{"model":1}"#, WrongType("model")),
        ("array as model", br#"{"model":["a"]}"#, WrongType("model")),
        ("object as model", br#"{"model":{"a":"b"}}"#, WrongType("model")),
        ("flag as model", br#"{"model":true}"#, WrongType("model")),
        ("null as model", br#"{"model":null}"#, WrongType("model")),
        ("number as name", br#"{"name":1}"#, WrongType("name")),
        ("text as stream", br#"{"stream":"true"}"#, WrongType("stream")),
        ("number as stream", br#"{"stream":1}"#, WrongType("stream")),
        ("number as raw", br#"{"raw":1}"#, WrongType("raw")),
        ("array as stream", br#"{"stream":[true]}"#, WrongType("stream")),
        ("text as include_usage", br#"{"stream_options":{"include_usage":"y"}}"#, WrongType("include_usage")),
        ("text as max_tokens", br#"{"max_tokens":"1"}"#, WrongType("max_tokens")),
        ("fraction as max_tokens", br#"{"max_tokens":1.0}"#, WrongType("max_tokens")),
        ("exponent as max_tokens", br#"{"max_tokens":1e2}"#, WrongType("max_tokens")),
        ("too large max_tokens", br#"{"max_tokens":9223372036854775808}"#, WrongType("max_tokens")),
        ("object as n", br#"{"n":{}}"#, WrongType("n")),
        ("flag as n", br#"{"n":true}"#, WrongType("n")),
        ("text as num_ctx", br#"{"options":{"num_ctx":"1"}}"#, WrongType("num_ctx")),
        ("broken num_ctx", br#"{"options":{"num_ctx":1.5}}"#, WrongType("num_ctx")),
        ("inexact num_ctx", br#"{"options":{"num_ctx":9007199254740993000}}"#, WrongType("num_ctx")),
        ("endless num_predict", br#"{"options":{"num_predict":1e999}}"#, WrongType("num_predict")),
        ("array as options", br#"{"options":[]}"#, WrongType("options")),
        ("text as options", br#"{"options":"x"}"#, WrongType("options")),
        ("flag as stream_options", br#"{"stream_options":true}"#, WrongType("stream_options")),
        ("flag as keep_alive", br#"{"keep_alive":true}"#, WrongType("keep_alive")),
        ("endless keep_alive", br#"{"keep_alive":-1e999}"#, WrongType("keep_alive")),
        ("object as keep_alive", br#"{"keep_alive":{}}"#, WrongType("keep_alive")),
        ("array at the top", br#"[{"model":"a"}]"#, Syntax),
        ("text at the top", br#""model""#, Syntax),
        ("nothing", b"", Incomplete),
        ("white space", b" \r\n\t", Incomplete),
        ("cut in the model", br#"{"model":"a"#, Incomplete),
        ("cut after the model", br#"{"model":"a","#, Incomplete),
        ("cut in a number", br#"{"max_tokens":1"#, Incomplete),
        ("cut in a word", br#"{"stream":tru"#, Incomplete),
        ("cut in an escape", br#"{"x":"\u00"#, Incomplete),
        ("a comma too many", br#"{"model":"a",}"#, Syntax),
        ("a control character in a string", b"{\"x\":\"a\x01\"}", Syntax),
        ("a control character in a key", b"{\"mo\ndel\":\"a\"}", Syntax),
        ("a control character in the model", b"{\"model\":\"a\n\"}", Syntax),
        ("an unknown escape", br#"{"x":"\x41"}"#, Syntax),
        ("an unknown escape in a key", br#"{"mode\l":"a"}"#, Syntax),
        ("a brace for a bracket", br#"{"x":[1}}"#, Syntax),
    ];
    for (what, body, kind) in cases {
        let fault = read(body).expect_err(what);
        assert_eq!(fault.kind, *kind, "{what}");
        assert_eq!(fault.is_ambiguous(), matches!(kind, DuplicateKey(_) | CaseVariant(_)), "{what}");
        assert!(fault.at <= body.len() as u64, "{what}");
        check_every_split(body);
    }
    assert!(read(deep(127).as_bytes()).is_ok(), "128 levels");
}

#[test]
fn a_client_is_told_what_is_wrong_in_words_of_ours() {
    let cases: [(&[u8], &str); 8] = [
        (b"{\"model\":\"m\",<script>}", "the request body is not a valid JSON object (at byte 13)"),
        (b"{\"model\":\"m\"", "the request body ends before its JSON does (after 12 bytes)"),
        (b"{\"model\":\"m\",\"model\":\"secret\"}", "the key `model` occurs twice (at byte 13)"),
        (b"{\"MODEL\":\"m\"}", "a key differs from `model` only in case (at byte 1)"),
        (b"{\"model\":7}", "the value of `model` is of the wrong type or range (at byte 9)"),
        (b"{\"model\":\"m\\ud800\"}", "the value of `model` is not valid UTF-8 text (at byte 17)"),
        (b"{\"\xFF\":1}", "a key of the request body is not valid UTF-8 text (at byte 2)"),
        (&[b'{', b'"', b'"', b':'].repeat(129), "the request body is nested deeper than 128 levels (at byte 512)"),
    ];
    for (body, message) in cases {
        assert_eq!(read(body).unwrap_err().public_message().to_string(), message, "{}", shown(body));
    }
}

// ---- what is read -------------------------------------------------------------------------------------------------

#[test]
fn a_watched_key_counts_in_any_escape_and_only_where_it_stands() {
    let cases: &[(&[u8], Option<&str>)] = &[
        (br#"{"model":"a"}"#, Some("a")),
        (br#"{"\u006dodel":"a"}"#, Some("a")),
        (br#"{"\u006d\u006f\u0064\u0065\u006c":"\u0061\/b"}"#, Some("a/b")),
        (b" \t\r\n{ \"model\" \n:\t\"a\"\r\n}\n ", Some("a")),
        (br#"{"options":{"model":"b"},"model":"a"}"#, Some("a")),
        (br#"{"model":"a","messages":[{"model":"b"}]}"#, Some("a")),
        (br#"{"model":"a","x":{"model":"b","model":"c"}}"#, Some("a")),
        (br#"{"options":{"model":"b"}}"#, None),
        (br#"{"model ":"b"}"#, None),
        (br#"{"model\u0000":"b","model":"a"}"#, Some("a")),
        (br#"{"model":"a\u0000"}"#, Some("a\0")),
        (br#"{"model":" a "}"#, Some(" a ")),
        (br#"{"model":""}"#, Some("")),
        (br#"{"model":"\ud83e\udd99"}"#, Some("🦙")),
        ("{\"model\":\"größe 🦙\"}".as_bytes(), Some("größe 🦙")),
        (b"{\"model\":\"a\",\"x\":\"\xFF\xC3\",\"y\":{\"\xFF\":1}}", Some("a")),
        (b"{\"model\":\"a\",\"messages\":[{\"\xFF\":\"\xE2\x82\"}]}", Some("a")),
        (br#"{"model":"a","prompt":"half a llama \ud83e"}"#, Some("a")),
        (br#"{"model":"a","messages":[{"\ud83e":"d\ud83e"}]}"#, Some("a")),
        (b"{\"model\":\"a\",\"template\":\"\xFF\"}", Some("a")),
        (br#"{"model":"a","PROMPT":"x","Prompt":"y"}"#, Some("a")),
        (b"{}", None),
    ];
    for (body, want) in cases {
        let read = read(body).unwrap_or_else(|fault| panic!("{}: {fault:?}", shown(body)));
        assert_eq!(model(&read), *want, "{}", shown(body));
        assert_eq!(read.len, body.len() as u64);
        check_every_split(body);
    }
}

/// A watched value as its JSON text, its value in words, or `null`.
fn noted(source: &[u8], body: &Body) -> BTreeMap<&'static str, (String, String)> {
    let mut noted = BTreeMap::new();
    macro_rules! note {
        ($($field:ident: $show:expr),*) => {$(
            if let Some(watched) = &body.$field {
                let start = watched.start as usize;
                let span = String::from_utf8(source[start..start + watched.len as usize].to_vec()).unwrap();
                let value = watched.value.as_ref().map_or("null".to_owned(), $show);
                noted.insert(stringify!($field), (span, value));
            }
        )*};
    }
    note!(
        model: |text| text.as_str().to_owned(), name: |text| text.as_str().to_owned(), stream: bool::to_string,
        raw: bool::to_string, include_usage: bool::to_string, max_tokens: i64::to_string,
        max_completion_tokens: i64::to_string, max_output_tokens: i64::to_string, n_predict: i64::to_string,
        n: i64::to_string, best_of: i64::to_string, num_ctx: i64::to_string, num_predict: i64::to_string,
        options: |()| "object".to_owned(), stream_options: |()| "object".to_owned(),
        keep_alive: |keep_alive| match keep_alive {
            KeepAlive::Number(text) => format!("number {}", text.as_str()),
            KeepAlive::Text(text) => format!("text {}", text.as_str()),
        }
    );
    noted
}

/// A body, and of each watched field its name, its JSON text and its value in words.
type Reading<'a> = (&'a str, &'a [(&'a str, &'a str, &'a str)]);

#[test]
fn every_watched_value_is_read_with_its_exact_span() {
    let cases: &[Reading] = &[
        (r#"{"model" : "a\u0062" }"#, &[("model", r#""a\u0062""#, "ab")]),
        (r#"{"name":null}"#, &[("name", "null", "null")]),
        (r#"{"name":"x","model":"y"}"#, &[("name", "\"x\"", "x"), ("model", "\"y\"", "y")]),
        (r#"{"stream":true,"raw": false}"#, &[("stream", "true", "true"), ("raw", "false", "false")]),
        (r#"{"stream":null,"raw":null}"#, &[("stream", "null", "null"), ("raw", "null", "null")]),
        (r#"{"max_tokens":128}"#, &[("max_tokens", "128", "128")]),
        (r#"{"max_tokens": -1 ,"n":0}"#, &[("max_tokens", "-1", "-1"), ("n", "0", "0")]),
        (r#"{"max_tokens":null}"#, &[("max_tokens", "null", "null")]),
        (r#"{"max_tokens":-0}"#, &[("max_tokens", "-0", "0")]),
        (
            r#"{"max_tokens":9223372036854775807,"n":-9223372036854775808}"#,
            &[
                ("max_tokens", "9223372036854775807", "9223372036854775807"),
                ("n", "-9223372036854775808", "-9223372036854775808"),
            ],
        ),
        (
            r#"{"max_completion_tokens":1,"max_output_tokens":2,"n_predict":3,"n":4,"best_of":5}"#,
            &[
                ("max_completion_tokens", "1", "1"),
                ("max_output_tokens", "2", "2"),
                ("n_predict", "3", "3"),
                ("n", "4", "4"),
                ("best_of", "5", "5"),
            ],
        ),
        (
            r#"{"options": {"num_ctx":4096,"num_predict":-2} ,"x":1}"#,
            &[
                ("options", r#"{"num_ctx":4096,"num_predict":-2}"#, "object"),
                ("num_ctx", "4096", "4096"),
                ("num_predict", "-2", "-2"),
            ],
        ),
        (
            r#"{"options":{"num_ctx":4096.0,"num_predict":1.28e2,"stop":[{"num_ctx":1}]}}"#,
            &[
                ("options", r#"{"num_ctx":4096.0,"num_predict":1.28e2,"stop":[{"num_ctx":1}]}"#, "object"),
                ("num_ctx", "4096.0", "4096"),
                ("num_predict", "1.28e2", "128"),
            ],
        ),
        (
            r#"{"options":{"num_ctx":null}}"#,
            &[("options", r#"{"num_ctx":null}"#, "object"), ("num_ctx", "null", "null")],
        ),
        (
            r#"{"options":null,"stream_options":null}"#,
            &[("options", "null", "null"), ("stream_options", "null", "null")],
        ),
        (
            r#"{"stream_options":{"include_usage":true}}"#,
            &[("stream_options", r#"{"include_usage":true}"#, "object"), ("include_usage", "true", "true")],
        ),
        (
            r#"{"stream_options":{"num_ctx":true,"options":1}}"#,
            &[("stream_options", r#"{"num_ctx":true,"options":1}"#, "object")],
        ),
        (r#"{"num_ctx":"x","include_usage":1}"#, &[]),
        (r#"{"keep_alive":-1}"#, &[("keep_alive", "-1", "number -1")]),
        (r#"{"keep_alive":300.5e0}"#, &[("keep_alive", "300.5e0", "number 300.5e0")]),
        (r#"{"keep_alive":"5\u006d"}"#, &[("keep_alive", r#""5\u006d""#, "text 5m")]),
        (r#"{"keep_alive":null}"#, &[("keep_alive", "null", "null")]),
    ];
    for (source, want) in cases {
        let body = read(source.as_bytes()).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
        let want = want.iter().map(|(field, span, value)| (*field, (span.to_string(), value.to_string()))).collect();
        assert_eq!(noted(source.as_bytes(), &body), want, "{source}");
        check_every_split(source.as_bytes());
    }
}

#[test]
fn text_longer_than_its_room_is_marked_as_cut() {
    for (length, model_cut, keep_alive_cut) in
        [(32, false, false), (33, false, true), (256, false, true), (257, true, true)]
    {
        let long = "m".repeat(length);
        let source = format!(r#"{{"model":"{long}","keep_alive":"{long}"}}"#);
        let body = read(source.as_bytes()).unwrap();
        let model = body.model.unwrap();
        let text = model.value.unwrap();
        assert_eq!((text.cut, text.as_str().len()), (model_cut, length.min(256)));
        assert_eq!(model.len as usize, length + 2);
        let Some(KeepAlive::Text(text)) = body.keep_alive.unwrap().value else { panic!("a text") };
        assert_eq!((text.cut, text.as_str().len()), (keep_alive_cut, length.min(32)));
    }
    // A character that does not fit ends the text; nothing after it is taken.
    let source = format!(r#"{{"model":"{}éa"}}"#, "m".repeat(255));
    let text = read(source.as_bytes()).unwrap().model.unwrap().value.unwrap();
    assert_eq!((text.cut, text.as_str().len()), (true, 255));
}

#[test]
fn the_prompt_and_its_images_are_counted() {
    let cases: &[(&str, u64, u32)] = &[
        (r#"{"prompt":"four"}"#, 4, 0),
        (r#"{"prompt":"\u00e9\n"}"#, 8, 0),
        (r#"{"prompt":["one","three",[1,2]]}"#, 8, 0),
        (r#"{"input":"a","system":"b","suffix":"c","instructions":"d","template":"e"}"#, 5, 0),
        (r#"{"other":"aaaa","format":{"prompt":"bbbb"}}"#, 0, 0),
        (r#"{"messages":[{"role":"user","content":"hello"}]}"#, 9, 0),
        (r#"{"messages":[{"role":"user","content":"hello"}],"user":"x"}"#, 9, 0),
        (r#"{"tools":[{"function":{"name":"f","parameters":{"type":"object"}}}]}"#, 7, 0),
        (r#"{"prompt":"p","images":["aaaa","bbbb"]}"#, 1, 2),
        (r#"{"images":["data:image/png;base64,aa"]}"#, 0, 1),
        (r#"{"messages":[{"content":"p","images":["aaaa","bbbb"],"name":"q"}]}"#, 2, 2),
        (r#"{"messages":[{"content":"p","im\u0061ges":["aaaa"]}]}"#, 1, 1),
        (r#"{"messages":[{"content":"p","images":"aaaa"}]}"#, 5, 0),
        (r#"{"messages":[{"content":"p","images":[["aaaa"],{"a":"b"}]}]}"#, 6, 0),
        (r#"{"messages":[{"x":{"images":["aaaa"]}}]}"#, 4, 0),
        (r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aa"}}]}]}"#, 9, 1),
        (r#"{"messages":[{"content":[{"image_url":"d\u0061ta:image\/png;base64,aa"}]}]}"#, 0, 1),
        (r#"{"messages":[{"content":"data:image"},{"content":"data:imagine/"},{"content":"xdata:image/"}]}"#, 35, 0),
        (r#"{"PROMPT":"four","Images":["a"]}"#, 4, 1),
        (r#"{"prompt":"a","prompt":"bb"}"#, 3, 0),
        (r#"{"prompt":""}"#, 0, 0),
    ];
    for (source, bytes, images) in cases {
        let body = read(source.as_bytes()).unwrap_or_else(|fault| panic!("{source}: {fault:?}"));
        assert_eq!((body.prompt_bytes, body.images), (*bytes, *images), "{source}");
        check_every_split(source.as_bytes());
    }
}

#[test]
fn a_string_ends_where_it_ends_however_its_last_escape_lies() {
    for length in 0..700 {
        for (ending, ends) in
            [(r"\\", true), (r"\\\\", true), (r"\n", true), (r"\u005c", true), (r#"\""#, true), (r"\", false)]
        {
            let filler = "a b".repeat(length).chars().take(length).collect::<String>();
            // White space after it, so that a quote taken for an escaped one would be followed by nothing suspicious.
            let source = format!(r#"{{"x":"{filler}{ending}"{:200},"model":"m","n":"{filler}"}}"#, "");
            // Where the string ends, the text after it is keys, and a text is no count; else the quotes are out of step.
            let want = if ends { FaultKind::WrongType("n") } else { FaultKind::Syntax };
            assert_eq!(read(source.as_bytes()).unwrap_err().kind, want, "{source}");
        }
    }
}

#[test]
fn the_reader_knows_when_the_document_has_ended() {
    let source = br#" {"model":"m","x":[1]} "#;
    let mut reader = BodyReader::new();
    for (at, byte) in source.iter().enumerate() {
        assert_eq!(reader.is_complete(), at >= source.len() - 1, "before byte {at}");
        assert_eq!(reader.fault(), None);
        reader.push(&[*byte]);
    }
    assert!(reader.is_complete());
    reader.push(b"x");
    assert!(!reader.is_complete());
    let fault = BodyFault { at: source.len() as u64, kind: FaultKind::Syntax };
    assert_eq!(reader.fault(), Some(fault));
    reader.push(b"{}");
    assert_eq!(reader.finish(), Err(fault));
}

#[test]
fn bodies_of_many_megabytes_are_read() {
    for megabytes in [1, 10, 50] {
        let size = megabytes << 20;
        let text = r#"say \"hello\" to the llama\n and its 7 friends; "#;
        let bodies = [
            format!(r#"{{"prompt":"{}","model":"m"}}"#, text.repeat(size / text.len())),
            format!(r#"{{"images":["{}"],"model":"m"}}"#, "QUJD".repeat(size / 4)),
            format!(r#"{{"input":[0{}],"model":"m"}}"#, ",[1234,\"a\",{\"b\":null}]".repeat(size / 23)),
        ];
        for body in bodies {
            let whole = read(body.as_bytes()).unwrap();
            assert_eq!(model(&whole), Some("m"));
            assert_eq!(whole.len, body.len() as u64);
            for slice in [1 << 20, 16_384, 1_447] {
                assert_eq!(read_in_slices(body.as_bytes(), slice).as_ref(), Ok(&whole), "slices of {slice}");
            }
        }
    }
}

// ---- vectors ------------------------------------------------------------------------------------------------------

#[test]
fn the_json_test_suite_is_accepted_and_refused_as_it_says() {
    let Some(folder) = vectors("jsontestsuite/test_parsing") else { return };
    let mut counts = BTreeMap::<&str, u32>::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let file = std::fs::read(&path).unwrap();
        let wrapped = [br#"{"model":"m","x":"#.as_slice(), &file, b"}"].concat();
        let (bare, inside) = (read(&file), read(&wrapped));
        match name.as_bytes()[0] {
            b'y' => {
                assert_eq!(model(inside.as_ref().expect(&name)), Some("m"), "{name}");
                let object = file.trim_ascii_start().starts_with(b"{");
                assert_eq!(bare.is_ok(), object, "{name}: an object is a body, nothing else is");
                *counts.entry("y_ accepted as a value").or_default() += 1;
                *counts.entry("y_ accepted bare, being objects").or_default() += u32::from(object);
            }
            b'n' => {
                // No file becomes valid by being a member's value: one that closes the object leaves our brace over.
                assert!(bare.is_err(), "{name}");
                assert!(inside.is_err(), "{name} as a value");
                *counts.entry("n_ refused in both forms").or_default() += 1;
            }
            _ => {
                // Either is right; counted only.
                let key = if inside.is_ok() { "i_ accepted as a value" } else { "i_ refused as a value" };
                *counts.entry(key).or_default() += 1;
            }
        }
        if file.len() < 2048 {
            check_every_split(&wrapped);
            check_every_split(&file);
        }
    }
    println!("JSON test suite: {counts:?}");
    assert_eq!(counts["y_ accepted as a value"], 95);
    assert_eq!(counts["n_ refused in both forms"], 188);
}

#[test]
fn nothing_is_accepted_that_go_reads_differently() {
    let Some(file) = vectors("bodies_go.jsonl") else { return };
    let mut counts = BTreeMap::<&str, u32>::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(case["body_base64"].as_str().unwrap()).unwrap();
        let (id, go, plain) = (&case["id"], &case["go"], case["kind"] == "plain");
        let result = read(&bytes);
        if bytes.len() < 2048 {
            check_every_split(&bytes);
        }
        let Ok(body) = result else {
            assert!(!plain, "{id} is plain: {result:?}");
            *counts.entry("hostile refused").or_default() += 1;
            *counts.entry("hostile refused, Go reads it").or_default() += u32::from(go["ok"] == true);
            continue;
        };
        *counts.entry(if plain { "plain accepted" } else { "hostile accepted" }).or_default() += 1;
        assert_eq!(go["ok"], true, "{id}: Go rejects {}", shown(&bytes));
        // What stands as null is as good as absent to Go.
        let text = |value: Option<&str>| Value::from(value.unwrap_or(""));
        assert_eq!(text(model(&body)), go["model"], "{id}");
        assert_eq!(text(body.name.as_ref().and_then(|name| name.value.as_ref()).map(|name| name.as_str())), go["name"]);
        assert_eq!(Value::from(body.stream.and_then(|stream| stream.value)), go["stream"], "{id}");
        assert_eq!(Value::from(body.max_tokens.and_then(|max| max.value)), go["max_tokens"], "{id}");
        assert_eq!(Value::from(body.num_ctx.and_then(|max| max.value)), go["num_ctx"], "{id}");
        assert_eq!(Value::from(body.num_predict.and_then(|max| max.value)), go["num_predict"], "{id}");
        let keep_alive = body.keep_alive.map(|kept| match kept.value {
            None => "null".to_owned(),
            Some(KeepAlive::Number(number)) => number.as_str().to_owned(),
            Some(KeepAlive::Text(text)) => Value::from(text.as_str()).to_string(),
        });
        assert_eq!(Value::from(keep_alive), go["keep_alive"], "{id}");
    }
    println!("bodies Go was asked about: {counts:?}");
    assert_eq!(counts["plain accepted"], 1000);
    assert_eq!(counts["hostile accepted"] + counts["hostile refused"], 2000);
}

// ---- properties ---------------------------------------------------------------------------------------------------

/// Keys that are watched, nearly watched, and others.
const KEYS: &[&str] =
    &["x", "role", "content", "images", "messages", "prompt", "model2", "mode", "größe", "a\"b\\c", "", "🦙", "data"];

fn json(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|float| serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number)),
        any::<String>().prop_map(Value::from),
        "[ -~\\n\\t\"\\\\]{0,200}".prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..8).prop_map(|members| {
                Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// A valid body as somebody may write it, with its model.
fn valid_body() -> impl Strategy<Value = (Vec<u8>, String)> {
    let others = prop::collection::vec((prop::sample::select(KEYS), json(6)), 0..6);
    (others, "[a-zé:/\"\\\\]{0,40}", any::<bool>(), any::<i64>(), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(others, model, stream, tokens, place, pretty)| {
            let mut members: Vec<(String, Value)> =
                others.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            members.insert(place.index(members.len() + 1), ("model".to_owned(), Value::from(model.clone())));
            members.push(("stream".to_owned(), Value::from(stream)));
            members.push(("max_tokens".to_owned(), Value::from(tokens)));
            let write = |value: &Value| if pretty { format!("{value:#}") } else { value.to_string() };
            // Written here, because a serde_json object would sort its keys and drop duplicates.
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), write(value))).collect();
            (format!("{{{}}}", members.join(",")).into_bytes(), model)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_body_is_accepted_with_the_values_that_serde_json_sees((source, wanted) in valid_body()) {
        let body = read(&source).map_err(|fault| TestCaseError::fail(format!("{fault:?} in {}", shown(&source))))?;
        let serde: Value = serde_json::from_slice(&source).unwrap();
        prop_assert_eq!(model(&body), Some(wanted.as_str()));
        prop_assert_eq!(model(&body), serde["model"].as_str());
        prop_assert_eq!(body.stream.and_then(|stream| stream.value), serde["stream"].as_bool());
        prop_assert_eq!(body.max_tokens.and_then(|max| max.value), serde["max_tokens"].as_i64());
        for size in [1, 7, 64] {
            prop_assert_eq!(read_in_slices(&source, size), Ok(body.clone()));
        }
    }

    #[test]
    fn a_mutated_body_is_never_accepted_where_serde_json_rejects_it(
        (mut source, _) in valid_body(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>(), any::<bool>()), 1..5),
    ) {
        for (place, change, byte, likely) in changes {
            let byte = if likely { b"{}[]\",:\\u0e-tn "[usize::from(byte) % 15] } else { byte };
            let at = place.index(source.len());
            match change {
                0 => source[at] = byte,
                1 => source.insert(at, byte),
                _ => drop(source.remove(at)),
            }
            if source.is_empty() {
                source.push(byte);
            }
        }
        let ours = read(&source);
        prop_assert_eq!(&read_in_slices(&source, 1), &ours);
        if let Ok(body) = ours {
            // Text that is not UTF-8 passes here where it cannot change the decision.
            let text = String::from_utf8_lossy(&source);
            match serde_json::from_str::<Value>(&text) {
                Ok(serde) => prop_assert_eq!(model(&body), serde["model"].as_str()),
                // A lone surrogate passes too, and serde_json refuses it, as it does numbers out of range.
                Err(error) => {
                    let error = error.to_string();
                    let passes = ["surrogate", "unexpected end of hex escape", "number out of range"];
                    prop_assert!(passes.iter().any(|why| error.contains(why)), "{error}: {}", shown(&source));
                }
            }
        }
    }
}
