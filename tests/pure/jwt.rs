//! Tokens, attack by attack: rows J1 to J7 and J11 of the threat model, with real signatures, against `verify` alone and
//! through the memory that a gate keeps.

use crate::signer::{Signer, encoded, jwks};
use futures_util::FutureExt as _;
use herdgate::decision::caller::token::claims::{LEEWAY_S, LIFETIME_S};
use herdgate::decision::caller::token::issuer::shared_scope;
use herdgate::decision::caller::token::ring::RingFault;
use herdgate::decision::caller::token::verify::verify;
use herdgate::decision::caller::token::{
    FetchStatus, Issuer, LoadedRing, Ring, Rings, Rule, STALE_NS, TokenFault, TokenProver, jws,
};
use herdgate::decision::inquiry::{BodyShown, HeaderField, Inquiry, OnBehalf};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::policy::{Plan, PlanIndex, Policy, RouteClasses};
use herdgate::decision::verdict::Verdict;
use herdgate::decision::view::View;
use herdgate::gate::proven_tokens::{HALF_MAX, ProvenTokens, REMEMBER_NS};
use herdgate::gate::receipt::Receipts;
use herdgate::gate::state::State;
use herdgate::gate::{Gate, GateParts, Question};
use herdgate::metrics::{Metrics, Port};
use herdgate::time::clock::Clock;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::{Arc, LazyLock};

const A: &str = "https://a.example.com/";
const B: &str = "https://b.example.com/";

/// Seconds since 1970 at which everything here happens.
const NOW: i64 = 1_800_000_000;

/// Keys of both issuers; `a_ec` and `b_ec` have the same `kid`.
struct Keys {
    a_ec: Signer,
    a_rsa: Signer,
    a_ed: Signer,
    b_ec: Signer,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    a_ec: Signer::es256("ec"),
    a_rsa: Signer::rs256("rsa"),
    a_ed: Signer::eddsa("ed"),
    b_ec: Signer::es256("ec"),
});

fn at(seconds: i64) -> Moment {
    Moment { mono_ns: 1_000_000_000, unix_ms: seconds * 1000 }
}

fn issuer(name: &str, algorithms: &[&str]) -> Issuer {
    let rule =
        |value: &str, plan| Rule { claim: "groups".into(), value: value.into(), plan: PlanIndex(plan), team: None };
    Issuer {
        name: name.into(),
        audience: "herdgate".into(),
        algorithms: algorithms.iter().map(|name| jws::algorithm(name).unwrap()).collect(),
        user_claim: "sub".into(),
        plan: Some(PlanIndex(0)),
        rules: vec![Rule { team: Some("research".into()), ..rule("ml", 1) }, rule("ops", 2)],
        max_users: 2,
    }
}

fn loaded(set: &str) -> FetchStatus {
    let (ring, _) = Ring::read(set.as_bytes()).unwrap();
    FetchStatus { loaded: Some(LoadedRing { ring: Arc::new(ring), confirmed_ns: 0 }), ..FetchStatus::default() }
}

fn policy() -> Policy {
    let routes = RouteClasses { inference: true, catalog: true };
    let plans = ["team", "ml", "ops"].map(|name| Plan { name: name.into(), routes, ..Plan::default() }).into();
    Policy { plans, issuers: vec![issuer(A, &["ES256", "RS256", "EdDSA"]), issuer(B, &["ES256"])], ..Policy::default() }
}

fn rings() -> Rings {
    let a = loaded(&jwks(&[&KEYS.a_ec, &KEYS.a_rsa, &KEYS.a_ed]));
    Rings::default().with(&A.into(), a).with(&B.into(), loaded(&jwks(&[&KEYS.b_ec])))
}

static STATE: LazyLock<State> = LazyLock::new(state);

fn state() -> State {
    let state = State::new();
    state.publish_policy(Arc::new(policy()));
    state.publish_rings(|_| rings());
    state
}

fn claims() -> Value {
    json!({"iss": A, "aud": "herdgate", "sub": "alice", "iat": NOW - 10, "exp": NOW + 600})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// `user plan` of a token that holds, or the name of the fault.
fn check(row: &str, what: &str, token: &str, expected: &str) {
    let found = match verify(&STATE.view(), token.as_bytes(), at(NOW)) {
        Ok(verified) => format!("{} {}", verified.user, STATE.view().policy.plans[usize::from(verified.plan.0)].name),
        Err(rejected) => rejected.fault.as_str().to_owned(),
    };
    assert_eq!(found, expected, "{row}: {what}");
}

#[test]
fn good_tokens_of_every_family_hold() {
    for signer in [&KEYS.a_ec, &KEYS.a_rsa, &KEYS.a_ed] {
        check("J0", signer.alg(), &signer.token(&claims()), "alice team");
    }
    check("J0", "aud in a list", &KEYS.a_ec.token(&with("aud", json!(["other", "herdgate"]))), "alice team");
    check("J0", "a rule takes its user", &KEYS.a_ec.token(&with("groups", json!(["x", "ml", "ops"]))), "alice ml");
    check("J0", "a later rule", &KEYS.a_ec.token(&with("groups", json!("ops"))), "alice ops");
    check(
        "J0",
        "a user of odd letters",
        &KEYS.a_ec.token(&with("sub", json!("a\n\u{1b}[31m"))),
        "a\\n\\u{1b}[31m team",
    );
    let verified = verify(&STATE.view(), KEYS.a_ec.token(&with("groups", json!("ml"))).as_bytes(), at(NOW)).unwrap();
    assert_eq!(verified.team.as_deref(), Some("research"));
}

#[test]
fn j1_no_algorithm_but_the_keys_own_is_used() {
    let Keys { a_ec, a_rsa, b_ec, .. } = &*KEYS;
    let good = a_ec.token(&claims());
    let (payload, signature) = good.split_once('.').unwrap().1.split_once('.').unwrap();
    for alg in ["none", "None", "NONE", "nOnE", "HS256", "HS512", "es256", "ES256 ", "", "RSA1_5", "ES512"] {
        let header = encoded(json!({"alg": alg, "kid": "ec"}).to_string());
        let faults: [(&str, &str); 2] = [("", "without a signature"), (signature, "with one")];
        for (signature, what) in faults {
            check("J1", &format!("{alg:?} {what}"), &format!("{header}.{payload}.{signature}"), "token_algorithm");
        }
    }
    // The public key taken for a shared secret (CVE-2015-9235): every spelling of it an attacker could sign with.
    let jwk = a_rsa.jwk();
    for secret in [jwk["n"].as_str().unwrap(), &jwk.to_string()] {
        let message = format!("{}.{payload}", encoded(r#"{"alg":"HS256","kid":"rsa"}"#));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        let token = format!("{message}.{}", encoded(aws_lc_rs::hmac::sign(&key, message.as_bytes())));
        check("J1", "HS256 by the public key", &token, "token_algorithm");
    }
    let claims = claims().to_string();
    check(
        "J1",
        "RS256 named, signed as ES256",
        &a_ec.sign(r#"{"alg":"RS256","kid":"ec"}"#, &claims),
        "token_unknown_kid",
    );
    check(
        "J1",
        "ES256 named, signed as RS256",
        &a_rsa.sign(r#"{"alg":"ES256","kid":"rsa"}"#, &claims),
        "token_unknown_kid",
    );
    check("J1", "PS256 is not in the list", &a_rsa.sign(r#"{"alg":"PS256","kid":"rsa"}"#, &claims), "token_algorithm");
    check("J1", "an alg that is a list", &a_ec.sign(r#"{"alg":["ES256"],"kid":"ec"}"#, &claims), "token_header");
    check("J1", "no alg", &a_ec.sign(r#"{"kid":"ec"}"#, &claims), "token_header");
    let of_b = json!({"iss": B, "aud": "herdgate", "sub": "bob", "exp": NOW + 600}).to_string();
    check(
        "J1",
        "an algorithm of the other issuer",
        &b_ec.sign(r#"{"alg":"EdDSA","kid":"ec"}"#, &of_b),
        "token_algorithm",
    );
}

/// What a set with these entries comes to: usable keys and left out, or the fault.
fn check_set(what: &str, entries: &[Value], expected: Result<(usize, usize), RingFault>) {
    let set = json!({ "keys": entries }).to_string();
    let found = Ring::read(set.as_bytes()).map(|(ring, left_out)| (ring.len(), left_out));
    assert_eq!(found, expected, "J2: {what}");
}

#[test]
fn j2_only_public_keys_for_signatures_are_taken_from_a_set() {
    let good = KEYS.a_ec.jwk();
    let but = |name: &str, value: Value| {
        let mut jwk = KEYS.a_rsa.jwk();
        jwk[name] = value;
        jwk
    };
    let short = but("n", json!(encoded([0xc3; 128])));
    let odd = [
        ("a symmetric key", json!({"kty": "oct", "k": encoded([7; 32]), "kid": "oct", "alg": "HS256"})),
        ("a private key", but("d", json!("AQAB"))),
        ("a key for encryption", but("use", json!("enc"))),
        ("a use that is no string", but("use", json!(["sig"]))),
        ("operations without verify", but("key_ops", json!(["sign"]))),
        ("operations that are no list", but("key_ops", json!("verify"))),
        ("an algorithm of another type", but("alg", json!("ES256"))),
        ("a symmetric algorithm", but("alg", json!("HS256"))),
        ("an RSA key of 1024 bits", short),
        ("an exponent of 1", but("e", json!("AQ"))),
        ("an even exponent", but("e", json!("Ag"))),
        ("a kid that is a number", but("kid", json!(7))),
        ("a kid of 257 bytes", but("kid", json!("k".repeat(257)))),
        ("a curve that is not used", json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"})),
        ("a point of the wrong length", json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "p"})),
        ("slack bits in a number", but("e", json!("AQABB"))),
    ];
    for (what, entry) in odd {
        check_set(what, &[good.clone(), entry], Ok((1, 1)));
    }
    check_set("sound ones", &[good.clone(), KEYS.a_rsa.jwk(), KEYS.a_ed.jwk()], Ok((3, 0)));
    check_set("a key that may verify", &[but("key_ops", json!(["verify"]))], Ok((1, 0)));
    check_set("no algorithm given", &[but("alg", json!("RS512"))], Ok((1, 0)));
    check_set("the same kid twice", &[good.clone(), KEYS.b_ec.jwk()], Err(RingFault::DuplicateKid));
    let twin = json!({"kty": "oct", "k": "AA", "kid": "ec"});
    check_set("the same kid on a key that is left out", &[good.clone(), twin], Err(RingFault::DuplicateKid));
    check_set("nothing", &[], Err(RingFault::Empty));
    let many = |count: usize| -> Vec<Value> {
        let numbered = |number: usize| {
            let mut jwk = good.clone();
            jwk["kid"] = json!(number.to_string());
            jwk
        };
        (0..count).map(numbered).collect()
    };
    check_set("64 keys (J10)", &many(64), Ok((64, 0)));
    check_set("65 keys (J10)", &many(65), Err(RingFault::TooMany));
    for text in ["", "[]", "{}", "null", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[{"kty":"RSA","kty":"EC"}]}"#]
    {
        assert_eq!(Ring::read(text.as_bytes()).unwrap_err(), RingFault::Malformed, "J2: {text}");
    }
    check_set("4096 bits (J10)", &[but("n", json!(encoded([0xc3; 512])))], Ok((1, 0)));
    check_set("more are slow to verify with (J10)", &[but("n", json!(encoded([0xc3; 513])))], Err(RingFault::Empty));
}

#[test]
fn j3_a_token_never_brings_its_own_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let mallory = Signer::es256("ec");
    let mut carried = mallory.jwk();
    carried["kid"] = json!("ec");
    let extras = [("jku", json!(url)), ("x5u", json!(url)), ("jwk", carried), ("x5c", json!(["MIIB"]))];
    for (name, value) in extras {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": "ec"});
        header[name] = value;
        let (header, claims) = (header.to_string(), claims().to_string());
        check("J3", name, &mallory.sign(&header, &claims), "token_signature");
        check(
            "J3",
            &format!("{name} on a good token is not looked at"),
            &KEYS.a_ec.sign(&header, &claims),
            "alice team",
        );
    }
    assert!(listener.accept().is_err(), "J3: somebody fetched a key that a token named");
}

/// fast-jwt GHSA-hm7r-c7qw-ghp6, Authlib CVE-2025-59420: `crit` was not looked at.
#[test]
fn j4_a_header_that_changes_the_meaning_is_refused() {
    let cases = [
        (r#"{"alg":"ES256","kid":"ec","crit":["exp"],"exp":1}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","crit":[]}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","crit":null}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","b64":true}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","zip":"DEF"}"#, "token_critical"),
        (r#"{"alg":"ES256","kid":"ec","cty":"JWT"}"#, "token_critical"),
        (r#"{"alg":"none","alg":"ES256","kid":"ec"}"#, "token_header"),
        (r#"{"alg":"ES256","kid":"ec","kid":"rsa"}"#, "token_header"),
        (r#"{"alg":"ES256","\u0061lg":"none","kid":"ec"}"#, "token_header"),
        (r#"{"alg":"ES256","kid":"ec"} "#, "alice team"),
        (r#"{"alg":"ES256","kid":"ec"}{}"#, "token_header"),
        (r#"["ES256"]"#, "token_header"),
        ("", "token_header"),
        (r#"{"alg":"ES256","kid":"ec","typ":"at+jwt"}"#, "alice team"),
        (r#"{"alg":"ES256","kid":"ec","typ":"application/AT+JWT"}"#, "alice team"),
        (r#"{"alg":"ES256","kid":"ec","typ":"jwt"}"#, "alice team"),
        (r#"{"alg":"ES256","kid":"ec","typ":"logout+jwt"}"#, "token_type"),
        (r#"{"alg":"ES256","kid":"ec","typ":"dpop+jwt"}"#, "token_type"),
        (r#"{"alg":"ES256","kid":"ec","typ":7}"#, "token_type"),
        (r#"{"alg":"ES256","kid":"ec","typ":null}"#, "token_type"),
    ];
    for (header, expected) in cases {
        check("J4", header, &KEYS.a_ec.sign(header, &claims().to_string()), expected);
    }
    let rfc_7797 =
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY";
    check("J4", "RFC 7797 section 4.2", rfc_7797, "token_critical");
}

/// CVE-2026-25537: a claim of a wrong type was taken for an absent one.
#[test]
fn j5_a_claim_of_a_wrong_type_is_refused() {
    let kinds = [
        ("null", json!(null)),
        ("a string", json!("1800000600")),
        ("a fraction", json!(1_800_000_000.5)),
        ("negative", json!(-1)),
        ("2^63", json!(9_223_372_036_854_775_808_u64)),
        ("a list", json!([1_800_000_000])),
        ("an object", json!({"a": 1})),
        ("true", json!(true)),
    ];
    let mut cases = 0;
    for claim in ["exp", "nbf", "iat"] {
        for (kind, value) in &kinds {
            let fault = format!("token_claim_{claim}");
            check("J5", &format!("{claim} is {kind}"), &KEYS.a_ec.token(&with(claim, value.clone())), &fault);
            cases += 1;
        }
    }
    for claim in ["iss", "aud", "sub"] {
        for value in [json!(null), json!(7), json!(1.5), json!(-1), json!({}), json!([7]), json!([A, 7]), json!(false)]
        {
            let what = format!("{claim} is {value}");
            check("J5", &what, &KEYS.a_ec.token(&with(claim, value)), &format!("token_claim_{claim}"));
            cases += 1;
        }
    }
    for claim in ["exp", "iss", "aud", "sub"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        check("J5", &format!("no {claim}"), &KEYS.a_ec.token(&claims), &format!("token_claim_{claim}"));
        cases += 1;
    }
    assert_eq!(cases, 52);
    let header = r#"{"alg":"ES256","kid":"ec"}"#;
    let twice = claims().to_string().replace(r#""sub":"alice""#, r#""sub":"alice","sub":"root""#);
    check("J5", "a claim twice", &KEYS.a_ec.sign(header, &twice), "token_malformed");
    for payload in ["", "[]", "\"x\"", "{", "{}{}", "\u{feff}{}"] {
        check("J5", payload, &KEYS.a_ec.sign(header, payload), "token_malformed");
    }
    check("J5", "aud is somebody else", &KEYS.a_ec.token(&with("aud", json!("other"))), "token_audience");
    check("J5", "aud is a prefix", &KEYS.a_ec.token(&with("aud", json!("herdgate2"))), "token_audience");
    check("J5", "aud is empty", &KEYS.a_ec.token(&with("aud", json!([]))), "token_audience");
    check("J5", "an empty user", &KEYS.a_ec.token(&with("sub", json!(""))), "token_claim_sub");
    check("J5", "a user of 257 bytes", &KEYS.a_ec.token(&with("sub", json!("u".repeat(257)))), "token_claim_user");
}

#[test]
fn j5_times_hold_within_the_leeway_and_not_past_it() {
    let cases = [
        ("exp", NOW - LEEWAY_S + 1, "alice team"),
        ("exp", NOW - LEEWAY_S, "token_expired"),
        ("nbf", NOW + LEEWAY_S, "alice team"),
        ("nbf", NOW + LEEWAY_S + 1, "token_early"),
        ("iat", NOW + LEEWAY_S, "alice team"),
        ("iat", NOW + LEEWAY_S + 1, "token_early"),
        ("exp", NOW - 10 + LIFETIME_S, "alice team"),
        ("exp", NOW - 10 + LIFETIME_S + 1, "token_lifetime"),
        ("exp", i64::MAX, "token_lifetime"),
        ("iat", 0, "token_lifetime"),
    ];
    for (claim, value, expected) in cases {
        check("J5", &format!("{claim} = {value}"), &KEYS.a_ec.token(&with(claim, json!(value))), expected);
    }
    let mut claims = with("exp", json!(NOW + LIFETIME_S + 1));
    claims.as_object_mut().unwrap().remove("iat");
    check("J5", "no iat: its life counts from now", &KEYS.a_ec.token(&claims), "token_lifetime");
}

#[test]
fn j6_a_key_of_one_issuer_never_speaks_for_another() {
    let Keys { a_ec, b_ec, .. } = &*KEYS;
    check("J6", "B's key (of the same kid) for A", &b_ec.token(&claims()), "token_signature");
    check("J6", "A's key for B", &a_ec.token(&with("iss", json!(B))), "token_signature");
    check("J6", "B's own", &b_ec.token(&with("iss", json!(B))), "alice team");
    check("J6", "both", &a_ec.token(&with("iss", json!([A, B]))), "token_claim_iss");
    let unknown =
        ["https://a.example.com", "https://A.example.com/", "http://a.example.com/", "", " https://a.example.com/"];
    for name in unknown {
        check("J6", name, &a_ec.token(&with("iss", json!(name))), "token_unknown_issuer");
    }
}

/// LiteLLM CVE-2026-35030: the memory was looked up by the first 20 characters.
#[test]
fn j7_cve_2026_35030_tokens_of_equal_prefix_are_two_tokens() {
    let memory = ProvenTokens::new(Arc::new(Metrics::new()));
    let good = KEYS.a_ec.token(&claims());
    let prove =
        |token: &str| memory.prove(&STATE.view(), token.as_bytes(), at(NOW)).map(|user| user.token.user.clone());
    assert_eq!(prove(&good).as_deref(), Ok("alice"));
    let cut = good.len() - 1;
    for last in ["A", "Q", "g", "w"].iter().filter(|last| !good.ends_with(*last)) {
        assert_eq!(prove(&format!("{}{last}", &good[..cut])), Err(TokenFault::Signature), "J7");
    }
    let other = KEYS.a_ec.token(&with("sub", json!("alicf")));
    assert_eq!(prove(&other).as_deref(), Ok("alicf"), "the first 150 characters are alike");
    assert_eq!(memory.len(), 2, "nothing that failed is remembered");
}

#[test]
fn what_was_proven_is_forgotten_with_what_it_rests_on() {
    let state = state();
    let memory = ProvenTokens::new(Arc::new(Metrics::new()));
    let token = KEYS.a_ec.token(&claims());
    let prove =
        |now: Moment| memory.prove(&state.view(), token.as_bytes(), now).map(|_| ()).map_err(TokenFault::as_str);
    assert_eq!(prove(at(NOW)), Ok(()));
    assert_eq!(prove(at(NOW + 600 + LEEWAY_S)), Err("token_expired"), "the same token, past its exp");
    assert_eq!(prove(at(NOW)), Ok(()));
    let later = Moment { mono_ns: at(NOW).mono_ns + REMEMBER_NS, ..at(NOW) };
    assert_eq!(prove(later), Ok(()), "proven again");
    let stale = Moment { mono_ns: STALE_NS, ..at(NOW) };
    assert_eq!(prove(stale), Err("token_no_keys"), "J9: a set that nobody confirmed for a day");
    assert_eq!(prove(at(NOW)), Ok(()));

    let epoch = state.view().token_epoch;
    state.publish_keys(Arc::default());
    assert_eq!((state.view().token_epoch, prove(at(NOW)), memory.len()), (epoch, Ok(()), 1), "API keys do not matter");
    state.publish_rings(|rings| rings.with(&A.into(), loaded(&jwks(&[&KEYS.a_rsa, &KEYS.a_ed]))));
    assert_eq!(prove(at(NOW)), Err("token_unknown_kid"), "its key is gone");
    assert_eq!(memory.len(), 0);
    state.publish_rings(|_| rings());
    assert_eq!(prove(at(NOW)), Ok(()));
    state.publish_policy(Arc::new(Policy { issuers: vec![issuer(B, &["ES256"])], ..policy() }));
    assert_eq!(prove(at(NOW)), Err("token_unknown_issuer"), "its issuer is gone");
}

#[test]
fn the_memory_is_bounded_and_keeps_what_is_used() {
    let memory = ProvenTokens::new(Arc::new(Metrics::new()));
    let used = KEYS.a_ed.token(&claims());
    for number in 0..HALF_MAX * 2 + 100 {
        let token = KEYS.a_ed.token(&with("jti", json!(number)));
        memory.prove(&STATE.view(), token.as_bytes(), at(NOW)).unwrap();
        memory.prove(&STATE.view(), used.as_bytes(), at(NOW)).unwrap();
        assert!(memory.len() <= 2 * HALF_MAX, "{number}");
    }
    assert!(memory.len() > HALF_MAX);
}

#[test]
fn users_past_max_users_share_their_books() {
    let memory = ProvenTokens::new(Arc::new(Metrics::new()));
    let scope = |user: &str, now: Moment| {
        let token = KEYS.a_ec.token(&with("sub", json!(user)));
        memory.prove(&STATE.view(), token.as_bytes(), now).unwrap().scope
    };
    let [first, second, third, fourth] = ["u1", "u2", "u3", "u4"].map(|user| scope(user, at(NOW)));
    assert!(first != second && first != shared_scope(A) && second != shared_scope(A));
    assert_eq!([third, fourth], [shared_scope(A); 2]);
    assert_eq!(scope("u1", at(NOW)), first, "who has a place keeps it");
    let token = KEYS.b_ec.token(&with("iss", json!(B)));
    let of_b = memory.prove(&STATE.view(), token.as_bytes(), at(NOW)).unwrap().scope;
    assert!(of_b != shared_scope(B), "the other issuer has places of its own");
}

#[test]
fn j11_a_kid_is_a_name_and_nothing_else() {
    let claims = claims().to_string();
    for kid in ["../../../dev/null", "' OR 1=1 --", "ec\0", "ec\n", "EC", " ec", "\u{2028}", &"k".repeat(256)] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        check("J11", kid, &KEYS.a_ec.sign(&header, &claims), "token_unknown_kid");
    }
    for kid in [json!("k".repeat(257)), json!(""), json!(7), json!(null), json!(["ec"])] {
        let header = json!({"alg": "ES256", "kid": kid}).to_string();
        check("J11", &kid.to_string(), &KEYS.a_ec.sign(&header, &claims), "token_header");
    }
    check("J11", "no kid, and several keys", &KEYS.a_ec.sign(r#"{"alg":"ES256"}"#, &claims), "token_unknown_kid");
    let of_b = with("iss", json!(B)).to_string();
    check("J11", "no kid, and one key", &KEYS.b_ec.sign(r#"{"alg":"ES256"}"#, &of_b), "alice team");
}

#[test]
fn shapes_that_are_no_token_are_refused() {
    let good = KEYS.a_ec.token(&claims());
    let padded = format!("{good}=");
    let mut parts: Vec<&str> = good.split('.').collect();
    parts.swap(0, 1);
    let long = format!("{good}{}", "A".repeat(8192));
    for token in ["", ".", "..", "a.b", "a.b.c.d", &padded, &parts.join("."), &long, &good.replace('.', "..")] {
        let fault = verify(&STATE.view(), token.as_bytes(), at(NOW)).unwrap_err().fault;
        assert!(matches!(fault, TokenFault::Malformed | TokenFault::Header), "{token}: {fault:?}");
    }
}

/// Whatever is wrong with a credential, the client is told the same.
#[test]
fn every_bad_token_gets_the_answer_of_a_bad_key() {
    let (metrics, clock) = (Arc::new(Metrics::new()), Clock::new());
    let gate = Gate::new(GateParts::new(Arc::new(state()), metrics, clock.clone(), Receipts::new([7; 32], 1)));
    let now = clock.now();
    let seconds = now.unix_ms / 1000;
    let current = json!({"iss": A, "aud": "herdgate", "sub": "alice", "exp": seconds + 60});
    let answer = |credential: &str| {
        let view = gate.state.view();
        let authorization = format!("Bearer {credential}");
        let inquiry = Inquiry {
            uid: b"",
            method: b"GET",
            target: b"/v1/models",
            source: None,
            authorization: HeaderField::once(authorization.as_bytes()),
            x_api_key: HeaderField::default(),
            api_key: HeaderField::default(),
            on_behalf: OnBehalf::default(),
            encoding: None,
            body: BodyShown::Hidden,
        };
        match gate.decide(&view, Question::new(&inquiry, Port::Http, clock.now())).now_or_never().unwrap().verdict {
            Verdict::Refuse(refusal) => format!("{} {}", refusal.status(), refusal.code().as_str()),
            Verdict::Answer(_) => "answered".to_owned(),
            Verdict::Allow(_) => "allowed".to_owned(),
        }
    };
    assert_eq!(answer(&KEYS.a_ec.token(&current)), "answered");
    let mut bad = vec!["hg_unknown".to_owned(), "a.b.c".to_owned()];
    bad.push(Signer::es256("ec").token(&current));
    bad.push(Signer::es256("unknown").token(&current));
    for (name, value) in [("exp", json!(1)), ("iss", json!("https://x/")), ("aud", json!("x")), ("sub", json!(null))] {
        let mut claims = current.clone();
        claims[name] = value;
        bad.push(KEYS.a_ec.token(&claims));
    }
    for token in bad {
        assert_eq!(answer(&token), "401 invalid_api_key", "{token}");
    }
    let seen = format!(
        "{:?} {:?}",
        View::default().policy,
        verify(&STATE.view(), KEYS.a_ec.token(&claims()).as_bytes(), at(NOW))
    );
    assert!(!seen.contains("eyJ"), "no part of a token in what may be logged");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No change of a good token leaves a good token, and no bytes at all make anything panic.
    #[test]
    fn no_mutation_of_a_token_holds(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let good = GOOD.as_bytes();
        let mut bytes = good.to_vec();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        let view = STATE.view();
        prop_assert_eq!(verify(&view, &bytes, at(NOW)).is_ok(), bytes == good);
        prop_assert!(verify(&view, &noise, at(NOW)).is_err());
        let header_of_noise = format!("{}.{}.{}", encoded(&noise), encoded(&noise), encoded(&noise));
        prop_assert!(verify(&view, header_of_noise.as_bytes(), at(NOW)).is_err());
        let _ = Ring::read(&noise);
    }
}

static GOOD: LazyLock<String> = LazyLock::new(|| KEYS.a_ed.token(&claims()));
