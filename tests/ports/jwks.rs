//! Issuers that fail, flood and rotate: real HTTP and HTTPS on loopback, the fetcher as the daemon runs it, and a memory of
//! tokens asking it for keys. Rows J8 to J10 of the threat model.

use crate::harness::issuer::{Issuer, Manner};
use crate::harness::port;
use crate::harness::scratch::Scratch;
use crate::harness::signer::{Signer, jwks};
use herdgate::decision::caller::token::{self, MissingKey, Ring, TokenFault, TokenProver};
use herdgate::decision::moment::Moment;
use herdgate::decision::plan::policy::{Plan, PlanIndex, Policy};
use herdgate::gate::proven_tokens::ProvenTokens;
use herdgate::gate::state::State;
use herdgate::jwks::{FetchPace, Fetching, KeySource, run};
use herdgate::mailbox::wanted::{ABSENT_NS, MissingKeyBoard};
use herdgate::metrics::{FetchFault, Metrics, TextFormat};
use herdgate::time::clock::Clock;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Quick, so that many windows pass while a test waits for what it waits for.
const PACE: FetchPace = FetchPace {
    refresh: Duration::from_millis(60),
    cooldown: Duration::from_millis(20),
    timeout: Duration::from_millis(400),
};

/// Nothing is fetched again but for a reason.
const ON_DEMAND: FetchPace = FetchPace { refresh: Duration::from_secs(3600), ..PACE };

/// A fetcher at work for one issuer, and what decides on its keys.
struct Gatehouse {
    state: Arc<State>,
    memory: ProvenTokens,
    metrics: Arc<Metrics>,
    clock: Clock,
    sources: watch::Sender<Vec<KeySource>>,
    _stop: DropGuard,
}

impl Gatehouse {
    fn open(issuer: &Issuer, pace: FetchPace, change: impl FnOnce(&mut KeySource)) -> Gatehouse {
        let (state, metrics, clock) = (Arc::new(State::new()), Arc::new(Metrics::new()), Clock::new());
        let policy = token::Issuer {
            name: issuer.url().into(),
            audience: "herdgate".into(),
            algorithms: vec![jsonwebtoken::Algorithm::ES256],
            user_claim: "sub".into(),
            plan: Some(PlanIndex(0)),
            rules: Vec::new(),
            max_users: 1000,
        };
        let plans = vec![Plan { name: "team".into(), ..Plan::default() }];
        state.publish_policy(Arc::new(Policy { plans, issuers: vec![policy], ..Policy::default() }));
        let memory = ProvenTokens::new(metrics.clone());
        let fetching = Fetching {
            state: state.clone(),
            wanted: memory.wanted.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            pace,
        };
        let mut source = KeySource { issuer: issuer.url().into(), jwks_uri: None, ca_file: None, proxy: None };
        change(&mut source);
        let (sources, sourced) = watch::channel(vec![source]);
        let stop = CancellationToken::new();
        tokio::spawn(run(fetching, sourced, stop.clone()));
        Gatehouse { state, memory, metrics, clock, sources, _stop: stop.drop_guard() }
    }

    fn prove(&self, token: &str) -> Result<Box<str>, TokenFault> {
        let now = self.clock.now();
        self.memory.prove(&self.state.view(), token.as_bytes(), now).map(|user| (*user.token.user).into())
    }

    fn holds(&self, token: &str) -> bool {
        self.prove(token).is_ok()
    }

    fn failure(&self, issuer: &Issuer) -> Option<&'static str> {
        self.state.view().rings.fetched(issuer.url())?.failure
    }

    fn token(&self, issuer: &Issuer, signer: &Signer, user: &str) -> String {
        let seconds = self.clock.now().unix_ms / 1000;
        signer.token(&json!({"iss": issuer.url(), "aud": "herdgate", "sub": user, "exp": seconds + 600}))
    }
}

/// Waits until `condition` holds, at most ten seconds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

/// The issuer was well, then behaves like this: the fetch fails in this way, known keys keep working, and a key that it
/// publishes once it is well again is taken up.
async fn check_fault(issuer: &Issuer, gatehouse: &Gatehouse, manner: Manner, expected: &[FetchFault]) {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    issuer.behave(Manner::Well);
    issuer.serve(jwks(&[&old]));
    let known = gatehouse.token(issuer, &old, "alice");
    until("the first key", || gatehouse.holds(&known)).await;

    issuer.serve(jwks(&[&old, &new]));
    issuer.behave(manner.clone());
    let asked = issuer.connections();
    let failed = || gatehouse.failure(issuer).is_some_and(|found| expected.iter().any(|fault| fault.as_str() == found));
    until(&format!("{expected:?}"), failed).await;
    until("two more attempts", || issuer.connections() >= asked + 2).await;
    assert!(gatehouse.holds(&known), "{manner:?}: a known key stopped working");
    // Not remembered: proven by the key itself.
    assert!(gatehouse.holds(&gatehouse.token(issuer, &old, "bob")), "{manner:?}");

    issuer.behave(Manner::Well);
    let fresh = gatehouse.token(issuer, &new, "carol");
    until("the return", || gatehouse.holds(&fresh)).await;
    assert_eq!(gatehouse.failure(issuer), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j9_whatever_an_issuer_answers_known_keys_keep_working() {
    let issuer = Issuer::start(jwks(&[])).unwrap();
    let gatehouse = Gatehouse::open(&issuer, PACE, |_| {});
    let json = |body: &str| Manner::Instead(200, "application/json", body.as_bytes().to_vec());
    let twin = Signer::es256("old");
    let twins = jwks(&[&Signer::es256("old"), &twin]);
    let big = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(10 << 20));
    let many: Vec<Signer> = (0..65).map(|number| Signer::es256(&number.to_string())).collect();
    let many = jwks(&many.iter().collect::<Vec<_>>());
    let cases = [
        (Manner::Instead(500, "application/json", b"{}".to_vec()), FetchFault::Status),
        (Manner::Instead(404, "application/json", jwks(&[&twin]).into_bytes()), FetchFault::Status),
        (Manner::Hang, FetchFault::Timeout),
        (Manner::Untrusted, FetchFault::Body),
        (json(r#"{"keys":[]}"#), FetchFault::Empty),
        (json(""), FetchFault::Malformed),
        (json("{\"keys\":"), FetchFault::Malformed),
        (json(&big), FetchFault::TooLarge),
        (Manner::Redirect(format!("{}/elsewhere", issuer.url())), FetchFault::Redirect),
        (Manner::Instead(200, "text/html", b"<html>sign in</html>".to_vec()), FetchFault::ContentType),
        (json("<html>sign in</html>"), FetchFault::Malformed),
        (json(&twins), FetchFault::DuplicateKid),
        (json(&many), FetchFault::TooMany),
        (json(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"old","alg":"HS256"}]}"#), FetchFault::Empty),
    ];
    for (manner, fault) in cases {
        // A connection that breaks off before an answer is told apart by nobody's HTTP library in one way.
        let either = [fault, FetchFault::Connect];
        let expected = if matches!(manner, Manner::Untrusted) { &either[..] } else { &either[..1] };
        check_fault(&issuer, &gatehouse, manner, expected).await;
    }
    let text = gatehouse.metrics.render(&gatehouse.state.view(), TextFormat::Classic).unwrap();
    for result in ["ok", "status", "timeout", "empty", "too_large", "redirect", "content_type", "duplicate_kid"] {
        let line = text.lines().find(|line| line.contains(&format!("jwks_fetches_total{{result=\"{result}\"}}")));
        assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{result}: {line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j9_an_issuer_is_asked_over_tls_with_its_own_authority_only() {
    let signer = Signer::es256("tls");
    let issuer = Issuer::start_tls(jwks(&[&signer])).unwrap();
    let scratch = Scratch::new().unwrap();
    let ca_file = scratch.write("ca.pem", issuer.certificate.as_deref().unwrap()).unwrap();

    let trusting = Gatehouse::open(&issuer, PACE, |source| source.ca_file = Some(ca_file));
    let token = trusting.token(&issuer, &signer, "alice");
    until("its keys", || trusting.holds(&token)).await;
    check_fault(&issuer, &trusting, Manner::Untrusted, &[FetchFault::Connect]).await;
    drop(trusting);

    let cases: [(Option<&str>, &str); 3] =
        [(None, "connect"), (Some("absent.pem"), "settings"), (Some("no.pem"), "settings")];
    scratch.write("no.pem", "no certificate").unwrap();
    for (file, expected) in cases {
        let file: Option<PathBuf> = file.map(|file| scratch.join(file));
        let distrusting = Gatehouse::open(&issuer, PACE, |source| source.ca_file = file.clone());
        until(expected, || distrusting.failure(&issuer) == Some(expected)).await;
        assert_eq!(distrusting.prove(&token), Err(TokenFault::NoKeys), "{file:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j10_discovery_leads_to_the_issuers_own_host_or_nowhere_near() {
    let signer = Signer::es256("k");
    let issuer = Issuer::start(jwks(&[&signer])).unwrap();
    let victim = Issuer::start(jwks(&[&signer])).unwrap();
    let port = victim.address.port();
    let paths =
        ["http://127.0.0.2", "http://localhost", "http://10.0.0.1", "https://10.0.0.1", "https://169.254.169.254"];
    for leads in paths.map(|host| format!("{host}:{port}/keys")).iter().chain([&"file:///etc/passwd".to_owned()]) {
        issuer.lead_to(leads);
        let gatehouse = Gatehouse::open(&issuer, PACE, |_| {});
        let failed = || gatehouse.failure(&issuer).is_some_and(|found| ["discovery", "connect"].contains(&found));
        until(leads, failed).await;
    }
    assert_eq!(victim.connections(), 0, "somebody else's service was asked");

    // Another issuer's document (mix-up): its `issuer` is not this one.
    let gatehouse = Gatehouse::open(&issuer, PACE, |source| source.issuer = format!("{}/", issuer.url()).into());
    let fetched =
        || gatehouse.state.view().rings.fetched(&format!("{}/", issuer.url())).and_then(|found| found.failure);
    until("the mix-up is seen", || fetched() == Some("discovery")).await;

    // Given by the operator, it needs no discovery.
    let given = format!("{}/given", issuer.url());
    let gatehouse = Gatehouse::open(&issuer, PACE, |source| source.jwks_uri = Some(given));
    let token = gatehouse.token(&issuer, &signer, "alice");
    until("its keys", || gatehouse.holds(&token)).await;
}

/// Nothing listens where the issuer is said to be: what came, came through the proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_is_reached_through_its_proxy() {
    let proxy = Issuer::start(jwks(&[&Signer::es256("k")])).unwrap();
    let nobody = port::free().unwrap();
    let name: Arc<str> = format!("http://{nobody}").into();
    let gatehouse = Gatehouse::open(&proxy, PACE, |source| {
        source.issuer = name.clone();
        source.jwks_uri = Some(format!("{name}/keys"));
        source.proxy = Some(format!("http://{}", proxy.address));
    });
    until("its keys", || gatehouse.state.view().rings.get(&name).is_some_and(|loaded| loaded.ring.has("k"))).await;
}

/// fastapi-zitadel-auth PR 156, mobula#28: invented `kid`s made the issuer be asked for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn j8_ten_thousand_invented_kids_cost_one_fetch_a_window() {
    let signer = Signer::es256("good");
    let issuer = Issuer::start(jwks(&[&signer])).unwrap();
    // One window is longer than the test.
    let pace = FetchPace { cooldown: Duration::from_secs(3600), ..ON_DEMAND };
    let gatehouse = Gatehouse::open(&issuer, pace, |_| {});
    let good = gatehouse.token(&issuer, &signer, "alice");
    until("its keys", || gatehouse.holds(&good)).await;
    let flood = |from: usize| {
        for number in from..from + 10_000 {
            let stranger = Signer::es256(&format!("invented-{number}"));
            let token = gatehouse.token(&issuer, &stranger, "mallory");
            assert_eq!(gatehouse.prove(&token), Err(TokenFault::UnknownKid));
        }
    };
    flood(0);
    assert!(gatehouse.holds(&gatehouse.token(&issuer, &signer, "bob")));
    assert_eq!(issuer.fetches(), 1, "within the window of the first fetch there is no other");
    drop(gatehouse);

    // Windows of a tenth of a second: at most one fetch in each, also where the issuer fails.
    for manner in [Manner::Well, Manner::Instead(500, "application/json", Vec::new())] {
        issuer.behave(Manner::Well);
        let window = Duration::from_millis(100);
        let gatehouse = Gatehouse::open(&issuer, FetchPace { cooldown: window, ..ON_DEMAND }, |_| {});
        let good = gatehouse.token(&issuer, &signer, "alice");
        until("its keys", || gatehouse.holds(&good)).await;
        issuer.behave(manner.clone());
        let (before, started) = (issuer.fetches(), gatehouse.clock.now());
        for number in 0..10_000 {
            let stranger = Signer::es256(&format!("{manner:?}-{number}"));
            let token = gatehouse.token(&issuer, &stranger, "mallory");
            assert_eq!(gatehouse.prove(&token), Err(TokenFault::UnknownKid));
        }
        until("a fetch", || issuer.fetches() > before).await;
        let fetched = issuer.fetches() - before;
        let windows = gatehouse.clock.now().since(started) as u128 / window.as_nanos() + 1;
        println!("{fetched} fetches in {windows} windows");
        assert!(fetched as u128 <= windows, "{fetched} fetches in {windows} windows");
        assert!(gatehouse.holds(&good));
    }
}

#[tokio::test]
async fn j8_a_kid_that_a_fresh_set_lacks_asks_for_no_other_fetch() {
    let wanted = MissingKeyBoard::default();
    let missing_keys = wanted.open(&"i".into());
    let (ring, _) = Ring::read(jwks(&[&Signer::es256("good")]).as_bytes()).unwrap();
    let at = |mono_ns| Moment { mono_ns, unix_ms: 0 };
    let ask = |kid: &str, mono_ns| wanted.ask(&MissingKey { issuer: "i".into(), kid: kid.into() }, at(mono_ns));
    let rings = || async {
        tokio::select! {
            biased;
            () = missing_keys.asked() => true,
            () = std::future::ready(()) => false,
        }
    };
    assert!(!rings().await);
    ask("retired", 1);
    ask("retired", 2);
    assert!(rings().await && !rings().await, "many askings are one");
    missing_keys.answered(&ring, at(3));
    ask("retired", 4);
    assert!(!rings().await, "known to be absent");
    ask("other", 4);
    assert!(rings().await);
    ask("retired", 3 + ABSENT_NS);
    assert!(rings().await, "it may have come by now");
    for number in 0..10_000 {
        ask(&number.to_string(), 5);
    }
    assert!(rings().await && !rings().await);
    missing_keys.answered(&ring, at(6));
    ask("0", 7);
    assert!(!rings().await);
    ask("9999", 7);
    assert!(rings().await, "past the bound nothing is noted, and asking still counts");
    wanted.close("i");
    ask("new", 8);
    assert!(!rings().await, "nobody fetches for this issuer any more");
}

/// Eight rotations while two threads prove tokens as fast as they can. The issuer publishes a key before it signs with it
/// and removes one only after its tokens have expired, as OpenID Connect Core 10.1.1 asks: then no answer may be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_gives_no_wrong_answer() {
    let first = Arc::new(Signer::es256("k0"));
    let issuer = Issuer::start(jwks(&[&first])).unwrap();
    let gatehouse = Arc::new(Gatehouse::open(&issuer, PACE, |_| {}));
    let current = Arc::new(std::sync::Mutex::new(gatehouse.token(&issuer, &first, "u0")));
    let forged = gatehouse.token(&issuer, &Signer::es256("k0"), "mallory");
    until("the first key", || gatehouse.holds(&current.lock().unwrap().clone())).await;
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (gatehouse, current, forged) = (gatehouse.clone(), current.clone(), forged.clone());
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let token = current.lock().unwrap();
                    assert!(gatehouse.holds(&token), "a good token was refused");
                    drop(token);
                    assert!(!gatehouse.holds(&forged), "a forged token passed");
                    answers.fetch_add(2, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut old = first;
    for number in 1..=8 {
        let new = Arc::new(Signer::es256(&format!("k{number}")));
        issuer.serve(jwks(&[&old, &new]));
        let has = |kid: &str| gatehouse.state.view().rings.get(issuer.url()).is_some_and(|loaded| loaded.ring.has(kid));
        until("the new key", || has(&new.kid)).await;
        let retired =
            std::mem::replace(&mut *current.lock().unwrap(), gatehouse.token(&issuer, &new, &format!("u{number}")));
        assert!(gatehouse.holds(&retired), "until its key goes");
        issuer.serve(jwks(&[&new]));
        until("the old key goes", || !has(&old.kid)).await;
        assert_eq!(gatehouse.prove(&retired), Err(TokenFault::UnknownKid), "and with it what was remembered");
        old = new;
    }
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().expect("no wrong answer");
    }
    let answers = answers.load(Ordering::Relaxed);
    println!("{answers} answers over 8 rotations, none wrong");
    assert!(answers > 1000, "{answers}");
}

/// Without an announcement the first tokens of a new key are refused, never waited for; the fetch they ask for brings it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unannounced_key_is_taken_up_without_a_reload() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let issuer = Issuer::start(jwks(&[&old])).unwrap();
    let gatehouse = Gatehouse::open(&issuer, ON_DEMAND, |_| {});
    let known = gatehouse.token(&issuer, &old, "alice");
    until("the first key", || gatehouse.holds(&known)).await;
    issuer.serve(jwks(&[&old, &new]));
    let fresh = gatehouse.token(&issuer, &new, "bob");
    let started = gatehouse.clock.now();
    assert_eq!(gatehouse.prove(&fresh), Err(TokenFault::UnknownKid));
    let took: u64 = gatehouse.clock.now().since(started);
    assert!(took < 20_000_000, "a decision waited {took} ns");
    until("the new key", || gatehouse.holds(&fresh)).await;
    assert!(gatehouse.holds(&known));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_drops_the_keys_of_a_source_that_changed_and_keeps_the_others() {
    let signer = Signer::es256("k");
    let (issuer, other) = (Issuer::start(jwks(&[&signer])).unwrap(), Issuer::start(jwks(&[&signer])).unwrap());
    let gatehouse = Gatehouse::open(&issuer, ON_DEMAND, |_| {});
    let token = gatehouse.token(&issuer, &signer, "alice");
    until("its keys", || gatehouse.holds(&token)).await;
    let source = gatehouse.sources.borrow()[0].clone();
    let second = KeySource { issuer: other.url().into(), ..source.clone() };
    gatehouse.sources.send(vec![source.clone(), second.clone()]).unwrap();
    let known = |issuer: &Issuer| gatehouse.state.view().rings.get(issuer.url()).is_some();
    until("the second issuer", || known(&other)).await;
    assert!(gatehouse.holds(&token));
    assert_eq!(issuer.fetches(), 1, "an issuer whose source stayed is not asked again");

    issuer.behave(Manner::Hang);
    let moved = KeySource { jwks_uri: Some(format!("{}/moved", issuer.url())), ..source };
    gatehouse.sources.send(vec![moved, second]).unwrap();
    until("its keys are gone", || !known(&issuer)).await;
    assert_eq!(gatehouse.prove(&token), Err(TokenFault::NoKeys));
    issuer.behave(Manner::Well);
    until("its keys from the new place", || gatehouse.holds(&token)).await;
    gatehouse.sources.send(Vec::new()).unwrap();
    until("nothing is left", || !known(&issuer) && !known(&other)).await;
    let later = Moment { mono_ns: u64::MAX, ..gatehouse.clock.now() };
    assert!(gatehouse.memory.prove(&gatehouse.state.view(), token.as_bytes(), later).is_err());
}
