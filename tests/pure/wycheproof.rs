//! Wycheproof's JOSE vectors: at the signature layer as they say, at the claims layer all refused.

#![allow(clippy::disallowed_methods)] // it reads a switch

use herdgate::decision::caller::token::verify::verify;
use herdgate::decision::caller::token::{FetchStatus, Issuer, LoadedRing, Ring, Rings, jws};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::policy::{PlanIndex, Policy};
use herdgate::decision::view::View;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// The signature layer alone: shape, header, key set, signature.
fn is_signed(ring: &Ring, token: &str) -> bool {
    let Ok(jws) = jws::Jws::read(token.as_bytes()) else { return false };
    ring.find(jws.header.kid.as_deref(), jws.header.algorithm).is_some_and(|key| key.verifies(&jws))
}

/// A view in which this is the key set of the only issuer.
fn view(ring: Ring) -> View {
    let name: Arc<str> = "https://id.example.com/".into();
    let algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];
    let issuer = Issuer {
        name: name.clone(),
        audience: "herdgate".into(),
        algorithms: algorithms.iter().filter_map(|name| jws::algorithm(name)).collect(),
        user_claim: "sub".into(),
        plan: Some(PlanIndex(0)),
        rules: Vec::new(),
        max_users: 1,
    };
    let loaded = Some(LoadedRing { ring: Arc::new(ring), confirmed_ns: 0 });
    let rings = Rings::default().with(&name, FetchStatus { loaded, ..FetchStatus::default() });
    let policy = Policy { issuers: vec![issuer], ..Policy::default() };
    View::compose(Arc::new(policy), Arc::default(), Arc::default()).after(&View::default(), Arc::new(rings))
}

/// Two vectors of the signature file call a token valid whose `alg` (PS384) is not that of its key (PS256), where vector
/// 340 calls just that invalid (PS384 by a key for PS512). The key is RFC 7520's (section 3.3), which has no `alg`: with it
/// as the RFC prints it, the token must be accepted; with the `alg` that was added, refused (RFC 8725 section 3.1).
const KEYS_OF_RFC_7520: [u64; 2] = [346, 350];

#[derive(Debug, Default)]
struct Count {
    accepted: usize,
    refused: usize,
    unsupported: usize,
    without_alg: usize,
}

/// Every vector of one file. A valid one whose key is symmetric, for encryption, or on a curve that is not supported must
/// be refused as well.
fn check(name: &str, file: &Path) -> Count {
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut count = Count::default();
    for group in vectors["testGroups"].as_array().unwrap() {
        let key = if group["public"].is_null() { &group["private"] } else { &group["public"] };
        let set = if key["keys"].is_array() { key.clone() } else { json!({ "keys": [key] }) };
        let ring = Ring::read(set.to_string().as_bytes()).map(|(ring, _)| ring);
        let supported = |key: &Value| {
            let alg = key["alg"].as_str().unwrap_or_default();
            jws::algorithm(alg).is_some() && key["kty"] != "oct" && key["use"] != "enc"
        };
        let supported = set["keys"].as_array().unwrap().iter().all(supported);
        for vector in group["tests"].as_array().unwrap() {
            let token = ["jws", "jwe"].iter().find_map(|name| vector[name].as_str());
            // Some are tokens in JSON's form, which are no credential at all.
            let written = token.map_or_else(|| vector["jws"].to_string(), str::to_owned);
            let what = format!("{} {} ({})", file.display(), vector["tcId"], vector["comment"]);
            let accepted = ring.as_ref().is_ok_and(|ring| is_signed(ring, &written));
            let odd = name == "signature" && KEYS_OF_RFC_7520.contains(&vector["tcId"].as_u64().unwrap());
            if odd {
                let mut key = key.clone();
                key.as_object_mut().unwrap().remove("alg");
                let (ring, _) = Ring::read(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
                assert!(is_signed(&ring, &written), "{what}: {written}");
                count.without_alg += 1;
            }
            let expected = vector["result"] == "valid" && supported && !odd;
            assert_eq!(accepted, expected, "{what}: {written}");
            match (accepted, vector["result"] == "valid") {
                (true, _) => count.accepted += 1,
                (false, true) => count.unsupported += usize::from(!odd),
                (false, false) => count.refused += 1,
            }
            if let Ok((ring, _)) = Ring::read(set.to_string().as_bytes()) {
                let now = Moment { mono_ns: 1, unix_ms: 1_800_000_000_000 };
                assert!(verify(&view(ring), written.as_bytes(), now).is_err(), "{what}: it has no claims");
            }
        }
    }
    count
}

#[test]
fn every_vector_is_accepted_or_refused_as_it_says() {
    let Some(folder) = std::env::var_os("HERDGATE_VECTORS") else {
        eprintln!("HERDGATE_VECTORS is not set: wycheproof is passed by");
        return;
    };
    let mut accepted = 0;
    for (name, vectors) in [("signature", 401), ("key", 26), ("crypto", 83)] {
        let file = Path::new(&folder).join(format!("wycheproof/json_web_{name}_test.json"));
        let count = check(name, &file);
        println!("{name}: {count:?}");
        let Count { accepted: well, refused, unsupported, without_alg } = count;
        assert_eq!(well + refused + unsupported + without_alg, vectors, "{name}");
        accepted += well;
    }
    println!("accepted: {accepted}");
    assert!(accepted > 0);
}
