//! The configuration: every mistake is named with its place, all at once, and a good file means what it says.
#![allow(clippy::disallowed_methods)] // it reads clock and switch

use herdgate::config::compile::compile;
use herdgate::config::reload::{follow, needs_restart};
use herdgate::config::schema::{SchemaKey, SettingKind};
use herdgate::config::sections::SECTIONS;
use herdgate::config::{Config, document};
use herdgate::decision::plan::allowance::{Allowance, KeepAliveLimit, LeftOpen};
use herdgate::decision::plan::policy::RouteClasses;
use herdgate::decision::plan::priority::{Priority, QueueSettings};
use herdgate::decision::plan::server::ServerKind;
use herdgate::decision::request::name::ModelName;
use herdgate::files::problem::{Position, Problems};
use herdgate::files::watch::FileWatch;
use herdgate::net::listen::Address;
use herdgate::shared_store::address::OnStoreDown;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config");

fn compiled(source: &str) -> Result<Config, Problems> {
    compile(source, "f.toml", Path::new("/etc/herdgate"))
}

fn toml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FOLDER).join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Compares the problems of a file with its `# expect:` lines.
fn check(path: &Path) {
    let source = fs::read_to_string(path).unwrap();
    let expected: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix("# expect: ")).collect();
    assert!(!expected.is_empty(), "{} expects nothing", path.display());
    let problems = compiled(&source).expect_err(&path.display().to_string());
    let found: Vec<String> = problems
        .items
        .iter()
        .map(|problem| {
            let Position { line, column } = problem.position.unwrap();
            format!("{line}:{column} {}", problem.what)
        })
        .collect();
    assert_eq!(found, expected, "{}", path.display());
    assert!(!problems.to_string().contains("hunter2"), "a password is printed");
}

#[test]
fn each_bad_file_has_its_one_problem_at_its_place() {
    let files = toml_files("bad");
    assert!(files.len() >= 30, "{} files", files.len());
    files.iter().for_each(|path| check(path));
}

#[test]
fn a_file_with_many_mistakes_has_them_all_reported_at_once() {
    check(&Path::new(FOLDER).join("many-mistakes.toml"));
}

#[test]
fn good_files_have_no_problem() {
    let files = toml_files("good");
    assert!(files.len() >= 3);
    for path in files {
        if let Err(problems) = herdgate::config::load(&path) {
            panic!("{problems}");
        }
    }
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let source = fs::read_to_string(Path::new(FOLDER).join("good/minimal.toml")).unwrap();
    let Config { settings, policy } = compiled(&source).unwrap();
    let listen: Vec<String> = settings.listen.each().map(|(name, address)| format!("{name} {address}")).collect();
    let expected = [
        "spop 127.0.0.1:9901",
        "http 127.0.0.1:9902",
        "agent_check 127.0.0.1:9903",
        "metrics 127.0.0.1:9905",
        "control unix:/etc/herdgate/herdgate.sock",
    ];
    assert_eq!(listen, expected);
    assert_eq!(settings.keys.file, Path::new("/etc/herdgate/keys.toml"));
    assert_eq!(settings.probe.interval, Duration::from_secs(5));
    assert_eq!(settings.probe.fast_interval, Duration::from_secs(1));
    let deep = (settings.probe.deep_interval, settings.probe.deep_timeout, settings.probe.idle);
    assert_eq!(deep, (Duration::from_secs(60), Duration::from_secs(10), Duration::from_secs(600)));
    assert_eq!((settings.probe.rise, settings.probe.fall, settings.agent_check_proxies), (2, 3, 1));
    let ledger = &settings.ledger;
    assert_eq!(ledger.path.as_deref(), Some(Path::new("/etc/herdgate/herdgate.db")));
    assert_eq!((ledger.keep_days, ledger.fresh_on_damage, ledger.time_zone.iana_name()), (400, false, Some("UTC")));
    assert_eq!((&ledger.store, ledger.replicas.get(), ledger.on_store_down), (&None, 1, OnStoreDown::Local));
    let server = &policy.servers[0];
    assert_eq!((&*server.name, &*server.url), ("ollama1", "http://10.0.1.10:11434"));
    assert_eq!((server.kind, server.maxconn, server.weight), (ServerKind::Ollama, None, 100));
    assert!(server.models.is_empty());
    assert_eq!(policy.patience, QueueSettings { timeout_ns: 60_000_000_000, shed_wait_ns: 30_000_000_000 });
    let plan = &policy.plans[0];
    assert_eq!(plan.routes, RouteClasses { inference: true, catalog: true });
    assert!(plan.terms.is_empty() && plan.models[0].permits_all());
}

#[test]
fn a_full_file_means_what_it_says() {
    let source = fs::read_to_string(Path::new(FOLDER).join("good/everything-enforced.toml")).unwrap();
    let Config { settings, policy } = compiled(&source).unwrap();
    assert_eq!(settings.listen.spop, Some(Address::Unix("/etc/herdgate/run/spop.sock".into())));
    assert_eq!(settings.listen.http, Some(Address::Tcp("[::1]:9902".parse().unwrap())));
    assert_eq!(settings.listen.metrics, None);
    assert_eq!(settings.keys.file, Path::new("/etc/herdgate/../keys.toml"));
    assert_eq!(settings.keys.pepper_file.as_deref(), Some(Path::new("/etc/herdgate/herdgate.pepper")));
    assert!(settings.keys.allow_readable);
    assert_eq!(settings.failures.map(|quota| (quota.count.get(), quota.burst.get())), Some((30, 30)));
    let ledger = &settings.ledger;
    assert_eq!(ledger.path.as_deref(), Some(Path::new("/etc/herdgate/books/ledger.db")));
    let zone = ledger.time_zone.iana_name();
    assert_eq!((ledger.keep_days, ledger.fresh_on_damage, zone), (100, true, Some("Europe/Berlin")));
    let teams: Vec<_> = policy.teams.iter().map(|team| (&*team.name, team.plan.0)).collect();
    assert_eq!(teams, [("research", 1)]);
    let anonymous = policy.anonymous.as_ref().unwrap();
    assert_eq!(
        (anonymous.plan.0, anonymous.terms.requests[0].count.get(), anonymous.terms.concurrency),
        (2, 300, Some(4))
    );
    assert_eq!(settings.probe.fast_interval, Duration::from_millis(250));
    let deep = (settings.probe.deep_interval, settings.probe.deep_timeout, settings.probe.idle);
    assert_eq!(deep, (Duration::from_secs(120), Duration::from_secs(20), Duration::from_secs(3_600)));
    assert_eq!(settings.agent_check_proxies, 2);
    assert_eq!(settings.ledger.store.as_ref().map(ToString::to_string).as_deref(), Some("redis://10.0.1.20:6380/3"));
    assert_eq!((settings.ledger.replicas.get(), settings.ledger.on_store_down), (3, OnStoreDown::Deny));
    assert!(!format!("{settings:?}").contains("hunter2"), "a password is shown");
    let servers: Vec<_> = policy.servers.iter().map(|server| (&*server.name, &*server.url, server.weight)).collect();
    let expected = [("ollama1", "http://10.0.1.10:11434", 256), ("vllm_1.lan", "https://vllm.example.com", 0)];
    assert_eq!(servers, expected);
    assert_eq!(policy.servers[0].maxconn, Some(8));
    assert_eq!(policy.servers[1].kind, ServerKind::OpenAi);
    let quotas = |plan: usize| -> Vec<(u64, u64, u64)> {
        let quotas = policy.plans[plan].terms.requests.iter();
        quotas.map(|quota| (quota.count.get(), quota.period_ns.get() / 1_000_000_000, quota.burst.get())).collect()
    };
    let names: Vec<_> = policy.plans.iter().map(|plan| &*plan.name).collect();
    assert_eq!(names, ["team", "batch", "free.tier"], "in the order of the file");
    assert_eq!(quotas(0), [(60, 60, 20)]);
    assert_eq!(quotas(1), [(5, 1, 5), (1_000, 3_600, 1_000), (10_000, 86_400, 10_000)]);
    assert_eq!(quotas(2), []);
    assert_eq!(policy.plans[1].routes, RouteClasses { inference: true, catalog: false });
    let [company, dev] = &policy.issuers[..] else { panic!("{:?}", policy.issuers) };
    assert_eq!(
        (&*company.name, &*company.audience, &*company.user_claim, company.max_users),
        ("https://id.example.com/", "herdgate", "email", 500)
    );
    let rules: Vec<_> = company.rules.iter().map(|rule| (&*rule.claim, &*rule.value, rule.plan.0)).collect();
    assert_eq!(rules, [("groups", "ml", 1), ("realm_access.roles", "free", 2)]);
    assert_eq!((company.plan.map(|plan| plan.0), company.algorithms.len()), (Some(0), 3));
    assert_eq!((&*dev.user_claim, dev.max_users, dev.algorithms.len()), ("sub", 10_000, 3));
    let source = &settings.issuers[0];
    assert_eq!(source.jwks_uri.as_deref(), Some("https://id.example.com/jwks.json"));
    assert_eq!(source.ca_file.as_deref(), Some(Path::new("/etc/herdgate/id.pem")));
    assert_eq!(source.proxy.as_deref(), Some("http://10.0.0.1:3128"));
    assert_eq!(settings.issuers[1].jwks_uri, None);
    let allowance = Allowance {
        max_output: Some(4_096),
        left_open: Some(LeftOpen::Refuse),
        max_context: Some(16_384),
        keep_alive: KeepAliveLimit::AtMost(1_800),
        template_only: true,
        max_images: Some(4),
        max_image_size: Some(4_000_000),
    };
    assert_eq!(policy.plans[0].allowance, allowance);
    assert_eq!(policy.plans[1].allowance, Allowance::default());
    let priorities: Vec<_> = policy.plans.iter().map(|plan| plan.priority).collect();
    assert_eq!(priorities, [Priority::Normal, Priority::Low, Priority::Normal]);
    assert_eq!(policy.patience, QueueSettings { timeout_ns: 90_000_000_000, shed_wait_ns: 20_000_000_000 });
    let permits =
        |model: &str| policy.plans[0].models.iter().any(|pattern| pattern.permits(&ModelName::canonical(model)));
    assert!(permits("llama3.2:3b") && permits("nomic-embed-text:latest") && !permits("qwen2.5"));
}

#[test]
fn too_many_servers_are_refused_at_the_first_one_too_many() {
    let server = |i: usize| format!("[[server]]\nname = \"s{i}\"\nurl = \"http://10.0.0.1:{}\"\n", i + 1);
    let plan = "[plans.team]\nmodels = [\"*\"]\n";
    let servers = |count: usize| (0..count).map(server).collect::<String>() + plan;
    assert_eq!(compiled(&servers(1_000)).unwrap().policy.servers.len(), 1_000);
    let problems = compiled(&servers(1_001)).unwrap_err();
    assert_eq!(problems.items.len(), 1);
    assert_eq!(problems.items[0].position, Some(Position { line: 3_001, column: 1 }));
}

#[test]
fn a_file_of_garbage_has_a_bounded_list_of_problems() {
    let source = "x = = 1\n".repeat(100_000);
    let problems = compiled(&source).unwrap_err();
    assert!(problems.items.len() <= 201, "{}", problems.items.len());
    let source: String = (0..5_000).map(|i| format!("key{i} = 1\n")).collect();
    let problems = compiled(&source).unwrap_err();
    assert_eq!((problems.items.len(), problems.count()), (200, 5_002), "the keys, and no server, and no plan");
    for nested in
        ["a=".to_owned() + &"[".repeat(100_000), "[".repeat(100_000), "a=".to_owned() + &"{a=".repeat(100_000)]
    {
        assert!(compiled(&nested).is_err());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let folder = scratch("unreadable");
    let check = |name: &str, bytes: Option<&[u8]>, expected: &str| {
        let path = folder.join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let problems = herdgate::config::load(&path).unwrap_err();
        assert_eq!(problems.items.len(), 1);
        assert!(problems.items[0].what.starts_with(expected), "{problems}");
    };
    check("absent.toml", None, "cannot be read");
    check("latin1.toml", Some(b"# gr\n# gr\xf6\xdfe\n"), "is not UTF-8 (line 2)");
    check("large.toml", Some(&vec![b'#'; 8 * 1024 * 1024 + 1]), "is larger than 8 MiB");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn listeners_and_the_key_file_need_a_restart_and_nothing_else_does() {
    let source = fs::read_to_string(Path::new(FOLDER).join("good/minimal.toml")).unwrap();
    let running = compiled(&source).unwrap().settings;
    let check = |addition: &str, expected: &[&str]| {
        let new = compiled(&format!("{source}\n{addition}")).unwrap().settings;
        assert_eq!(needs_restart(&running, &new), expected, "{addition}");
    };
    check("", &[]);
    check("[probe]\ninterval = \"7s\"\n[agent_check]\nproxies = 3\n", &[]);
    check("[listen]\nspop = \"127.0.0.1:9911\"\nmetrics = \"off\"\n", &["listen.spop", "listen.metrics"]);
    check("[keys]\nfile = \"other.toml\"\n", &["keys.file"]);
    check("[ledger]\npath = \"off\"\nkeep = \"9d\"\n", &["ledger.path", "ledger.keep"]);
    check("[ledger]\ntime_zone = \"Europe/Berlin\"\n", &["ledger.time_zone"]);
    check("[ledger]\non_damage = \"fresh\"\n", &["ledger.on_damage"]);
    check(
        "[ledger]\nstore = \"redis://10.0.1.20\"\nreplicas = 2\non_store_down = \"allow\"\n",
        &["ledger.store", "ledger.replicas", "ledger.on_store_down"],
    );
    check(
        "[keys]\nallow_readable = true\npepper_file = \"p\"\n[auth]\nfailures = \"9/s\"\n",
        &["keys.allow_readable", "keys.pepper_file"],
    );
}

#[test]
fn a_changed_file_is_noticed_once_and_only_when_it_has_settled() {
    let folder = scratch("watch");
    let path = folder.join("f.toml");
    fs::write(&path, "a").unwrap();
    let mut watch = FileWatch::new(&path);
    assert!(!watch.look(), "nothing changed");
    fs::write(&path, "in pla").unwrap();
    assert!(!watch.look(), "it may still be written");
    fs::write(&path, "in place").unwrap();
    assert!(!watch.look(), "it was still written");
    assert!(watch.look(), "it stayed as it is");
    assert!(!watch.look(), "noticed already");
    let new = folder.join("new");
    fs::write(&new, "renamed!").unwrap();
    fs::rename(&new, &path).unwrap();
    assert!(!watch.look());
    assert!(watch.look(), "same size, another file");
    fs::remove_file(&path).unwrap();
    assert!(!watch.look());
    assert!(watch.look(), "gone");
    fs::remove_dir_all(folder).unwrap();
}

/// Waits until `condition` holds, at most ten seconds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

#[tokio::test]
async fn a_changed_configuration_is_taken_up_and_so_it_is_on_sighup() {
    let folder = scratch("follow");
    let path = folder.join("herdgate.toml");
    let good = fs::read_to_string(Path::new(FOLDER).join("good/minimal.toml")).unwrap();
    fs::write(&path, &good).unwrap();
    let watch = FileWatch::new(&path);
    let running = herdgate::config::load(&path).unwrap().settings;
    let published = Arc::new(Mutex::new(Vec::new()));
    let sink = published.clone();
    let follower = tokio::spawn(follow(watch, running, move |config| {
        sink.lock().unwrap().extend(config.map(|config: Config| config.policy.plans.len()));
    }));
    let seen = || published.lock().unwrap().clone();
    fs::write(&path, format!("{good}\n[plans.second]\nmodels = [\"*\"]\n")).unwrap();
    until("the change", || seen() == [2]).await;

    // The handler is there by now. Nothing changed on disk, and yet the file is read again.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    until("the reload on SIGHUP", || seen() == [2, 2]).await;

    fs::write(&path, format!("{good}\n[plans.second]\n")).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
    fs::write(folder.join("new"), &good).unwrap();
    fs::rename(folder.join("new"), &path).unwrap();
    until("the return of the good file", || seen().last() == Some(&1)).await;
    assert!(seen().iter().all(|plans| [1, 2].contains(plans)));
    follower.abort();
    fs::remove_dir_all(folder).unwrap();
}

/// A key that nobody asks for would be checked, documented as enforced, and ignored.
#[test]
fn every_enforced_key_of_the_schema_is_asked_for_and_no_other() {
    fn walk(keys: &[SchemaKey], enforced: bool, names: &mut BTreeSet<&'static str>) {
        for key in keys.iter().filter(|key| key.enforced == enforced) {
            match key.kind {
                SettingKind::Table(inner) => walk(inner, enforced, names),
                SettingKind::Sections(section) => walk(section.keys, enforced, names),
                _ => drop(names.insert(key.name)),
            }
        }
    }
    let mut names = BTreeSet::new();
    SECTIONS.iter().filter(|section| section.enforced).for_each(|section| walk(section.keys, true, &mut names));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let mut asked = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let source: String = fs::read_to_string(entry.unwrap().path()).unwrap().split_whitespace().collect();
        for call in ["key!(\"", "ChoiceOf::named(\""] {
            asked.extend(source.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    let asked: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(asked, names);
}

/// `docs/configuration.md` is written by this test where HERDGATE_BLESS is set.
#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let page = document::markdown() + &herdgate::keys::schema::markdown();
    if std::env::var_os("HERDGATE_BLESS").is_some() {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, &page).unwrap();
    }
    let checked_in = fs::read_to_string(path).unwrap_or_default();
    assert!(checked_in == page, "docs/configuration.md is stale: run HERDGATE_BLESS=1 cargo test --test files");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes a good file is changed to, there is an answer, and every problem has a place inside the file.
    #[test]
    fn no_mutation_of_a_good_file_panics(
        file in 0_usize..3,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..12),
    ) {
        let mut bytes = fs::read(&toml_files("good")[file]).unwrap();
        for (at, byte, how) in edits {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        let source = String::from_utf8_lossy(&bytes);
        let lines = source.split('\n').count();
        if let Err(problems) = compiled(&source) {
            prop_assert!(!problems.items.is_empty());
            prop_assert!(!problems.to_string().is_empty());
            for problem in problems.items {
                prop_assert!(problem.position.is_none_or(|place| (1..=lines).contains(&place.line)));
            }
        }
    }
}

/// A folder of this test's own.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}
