//! Tokens of an identity provider: its users get through with the plan of their rule, a forged one does not.

use super::short_chat;
use crate::harness::deadline::wait_until;
use crate::harness::fleet::{FOREIGN_MODEL, SHARED_MODEL};
use crate::harness::herdgate::SLOW_BURST;
use crate::harness::issuer::Issuer;
use crate::harness::signer::{Signer, jwks};
use crate::harness::stack::{Front, Stack};
use herdgate::time::clock::Clock;
use serde_json::{Value, json};
use std::time::Duration;

/// Seconds since 1970.
fn now() -> i64 {
    Clock::new().now().unix_ms / 1000
}

fn claims(issuer: &Issuer, user: &str, group: &str) -> Value {
    json!({"iss": issuer.url(), "aud": ["herdgate"], "sub": user, "groups": [group], "iat": now(), "exp": now() + 300})
}

/// Through discovery, a real key set, and the plans of two rules and of the issuer; then an issuer that is gone.
pub fn users_of_an_issuer_get_the_plan_of_their_rule(front: Front) {
    let (ec, rsa) = (Signer::es256("ec"), Signer::rs256("rsa"));
    let issuer = Issuer::start(jwks(&[&ec, &rsa])).unwrap();
    let more = format!(
        r#"
[[issuer]]
issuer = "{}"
audience = "herdgate"
plan = "slow"
[[issuer.rule]]
claim = "groups"
value = "ml"
plan = "all"
[[issuer.rule]]
claim = "groups"
value = "staff"
plan = "team"
"#,
        issuer.url()
    );
    let stack = Stack::start_with(&more, &[], front).unwrap();
    let send = |token: &str, model: &str| stack.send(&short_chat(model).key(token)).unwrap();

    let ml = ec.token(&claims(&issuer, "alice", "ml"));
    let staff = rsa.token(&claims(&issuer, "bob", "staff"));
    for (what, token, model, status) in [
        ("a rule's plan", &ml, SHARED_MODEL, 200),
        ("and its other models", &ml, FOREIGN_MODEL, 200),
        ("the second rule's plan", &staff, SHARED_MODEL, 200),
        ("and no more than that", &staff, FOREIGN_MODEL, 404),
    ] {
        let answer = send(token, model);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
    }

    // Every user has books of its own, and the issuer's plan where no rule takes it.
    for user in ["carol", "dave"] {
        let token = ec.token(&claims(&issuer, user, "none"));
        for _ in 0..SLOW_BURST {
            assert_eq!(send(&token, SHARED_MODEL).status, 200, "{user}");
        }
        let again = ec.token(&claims(&issuer, user, "nothing"));
        assert_eq!(send(&again, SHARED_MODEL).status, 429, "{user}: another token is the same user");
    }

    let asked = stack.fleet.asked().unwrap();
    let mallory = Signer::es256("ec");
    let change = |name: &str, value: Value| {
        let mut claims = claims(&issuer, "alice", "ml");
        claims[name] = value;
        claims
    };
    let [header, payload, signature] = ml.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let unsigned = crate::harness::signer::encoded(r#"{"alg":"none","kid":"ec"}"#);
    let forged = [
        ("another key of this name", mallory.token(&claims(&issuer, "alice", "ml"))),
        ("a key nobody published", Signer::es256("x").token(&claims(&issuer, "alice", "ml"))),
        ("no signature", format!("{unsigned}.{payload}.")),
        ("another payload", format!("{header}.{}.{signature}", staff.split('.').nth(1).unwrap())),
        ("expired", ec.token(&change("exp", json!(now() - 60)))),
        ("for somebody else", ec.token(&change("aud", json!("other")))),
        ("of another issuer", ec.token(&change("iss", json!("https://elsewhere.test/")))),
        (
            "a critical header",
            ec.sign(r#"{"alg":"ES256","kid":"ec","crit":["x"],"x":1}"#, &claims(&issuer, "a", "ml").to_string()),
        ),
    ];
    let unknown = stack.send(&short_chat(SHARED_MODEL).key("hg_unknown")).unwrap();
    for (what, token) in &forged {
        let answer = send(token, SHARED_MODEL);
        assert_eq!((answer.status, answer.text()), (401, unknown.text()), "{what}");
    }
    assert_eq!(stack.fleet.asked().unwrap(), asked, "none of them reached a server");

    // The issuer goes: who was known stays known, and so does a new token of a known key.
    let status = crate::harness::client::Request::get("/status").header("Connection", "close");
    let shown = crate::harness::client::send(stack.herdgate.ports.metrics, &status).unwrap().json();
    assert_eq!(
        (&shown["issuers"][0]["issuer"], &shown["issuers"][0]["keys"]),
        (&json!(issuer.url()), &json!(2)),
        "{shown}"
    );
    assert!(shown["issuers"][0]["age_s"].is_u64(), "{shown}");
    drop(issuer);
    assert_eq!(send(&staff, SHARED_MODEL).status, 200);

    // The log says who and why, and never with what.
    wait_until("the log", Duration::from_secs(5), || stack.herdgate.output().contains("token_critical")).unwrap();
    let log = stack.herdgate.output();
    for reason in ["token_signature", "token_unknown_kid", "token_algorithm", "token_expired", "token_audience"] {
        assert!(log.contains(reason), "{reason} is not in the log");
    }
    assert!(log.contains("bob") && !log.contains("eyJ"), "a part of a token is in the log");
}
