//! What stands in `examples/` works as it stands: configurations, the commands of each README, files of proxies and Prometheus.

use crate::harness::nginx::Version as NginxVersion;
use crate::harness::process::built;
use crate::harness::scratch::{Scratch, edit};
use crate::harness::{haproxy, port, root};
use herdgate::config::compile::compile;
use herdgate::gate::state::State;
use herdgate::metrics::{Metrics, TextFormat};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Most lines of a README: an example is read standing up.
const LINES_MAX: usize = 40;

/// The folders of `examples/`.
const FOLDERS: [&str; 7] =
    ["monitoring", "ollama-behind-haproxy", "openwebui", "sso", "team-quotas", "two-replicas", "vllm-behind-nginx"];

fn examples() -> PathBuf {
    root().join("examples")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// Runs a line in a folder, as a shell does that finds herdgate; answers what it printed.
fn run(line: &str, folder: &Path) -> String {
    let ours = built("herdgate").unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", ours.parent().unwrap().display());
    let ran = Command::new("sh").args(["-c", line]).current_dir(folder).env("PATH", path).output().unwrap();
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{}: {line}: {said}", folder.display());
    said
}

/// Returns the lines of a README's blocks that run a program without a daemon or a proxy.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(str::trim);
    let here = ["herdgate check", "herdgate key ", "promtool "];
    lines.filter(|line| here.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
}

/// Returns the names of the `[[server]]` tables.
fn servers(config: &Path) -> Vec<String> {
    let folder = config.parent().unwrap();
    let compiled = compile(&read(config), &config.display().to_string(), folder).unwrap();
    compiled.policy.servers.iter().map(|server| server.name.to_string()).collect()
}

#[test]
fn every_folder_is_listed_here() {
    let found: BTreeSet<String> = fs::read_dir(examples())
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, FOLDERS.map(str::to_owned).into());
}

/// A warning of `check` would have to be explained in the README, and none is.
#[test]
fn every_configuration_is_right_without_a_warning_and_its_readmes_commands_work() {
    for name in FOLDERS {
        let scratch = Scratch::new().unwrap();
        let folder = scratch.copy(&examples().join(name), name).unwrap();
        let readme = read(&folder.join("README.md"));
        assert!(readme.lines().count() <= LINES_MAX, "{name}: {} lines", readme.lines().count());
        let commands = commands(&readme);
        assert!(commands.iter().any(|line| line == "herdgate check"), "{name} does not check: {commands:?}");
        commands.iter().for_each(|line| drop(run(line, &folder)));
        let said = run("herdgate check", &folder);
        let keys = commands.iter().filter(|line| line.starts_with("herdgate key new")).count();
        let counted = format!(" {keys} key{}\n", if keys == 1 { "" } else { "s" });
        assert!(said.ends_with(&counted) && !said.contains("warning"), "{name}: {said}");
    }
    let scratch = Scratch::new().unwrap();
    scratch.write("herdgate.toml", &read(&examples().join("herdgate.toml"))).unwrap();
    let said = run("herdgate check", scratch.path());
    assert!(said.contains("ok: ") && !said.contains("warning"), "{said}");
}

/// What is commented out in the sample is said to be the default: with it in force, nothing changes.
#[test]
fn the_samples_commented_lines_are_the_defaults() {
    let sample = read(&examples().join("herdgate.toml"));
    let mut in_force = 0;
    let told: String = sample
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // The one that has no default, and says so.
            Some(rest) if !rest.starts_with(' ') && !rest.starts_with("anonymous") => {
                in_force += 1;
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(in_force >= 11, "{told}");
    let settings = |text: &str| {
        let compiled = compile(text, "herdgate.toml", Path::new("")).unwrap();
        format!("{:#?}", compiled.settings)
    };
    assert_eq!(settings(&told), settings(&sample));
}

#[test]
fn haproxy_reads_the_shipped_file_with_an_examples_backends() {
    let folder = examples().join("ollama-behind-haproxy");
    let scratch = Scratch::new().unwrap();
    let copy = scratch.copy(&root().join("haproxy"), "haproxy").unwrap();
    let backends = read(&folder.join("backends.cfg"));
    let shipped = read(&copy.join("haproxy.cfg"));
    let (before, replaced) = shipped.split_once("# Each backend has the name of its [[server]]").unwrap();
    assert_eq!(replaced.matches("\nbackend ").count(), 3, "the README speaks of three backends:\n{replaced}");
    let file = scratch.write("haproxy/haproxy.cfg", &format!("{before}{backends}")).unwrap();
    for server in servers(&folder.join("herdgate.toml")) {
        let (backend, line) =
            (format!("backend {server} from model_server\n"), format!(" agent-send \"{server}\\n\"\n"));
        assert!(backends.contains(&backend) && backends.contains(&line), "{server}: {backends}");
    }
    for version in [haproxy::Version::Debian, haproxy::Version::Newer] {
        let (read, said) = version.check_file(&file).unwrap();
        assert!(read && said.is_empty(), "{version:?}: {said}");
    }
}

#[test]
fn nginx_reads_the_shipped_files_with_an_examples_site() {
    let folder = examples().join("vllm-behind-nginx");
    let scratch = Scratch::new().unwrap();
    let copy = scratch.copy(&root().join("nginx"), "nginx").unwrap();
    let site = read(&folder.join("herdgate.conf"));
    for server in servers(&folder.join("herdgate.toml")) {
        let (upstream, line) = (format!("upstream {server} {{\n"), format!("\n    {server} "));
        assert!(site.contains(&upstream) && site.contains(&line), "{server}: {site}");
    }
    // nginx opens what it would listen on and write to.
    let site = edit(&site, "listen 8080;", &format!("listen {};", port::free().unwrap())).unwrap();
    let log = scratch.join("access.log").display().to_string();
    let site = edit(&site, "/var/log/nginx/herdgate.log", &log).unwrap();
    scratch.write("nginx/herdgate.conf", &site).unwrap();
    let (read, said) = NginxVersion::Debian.check_file(&copy.join("nginx.conf"), &scratch).unwrap();
    assert!(read && !said.contains("[warn]") && !said.contains("[emerg]"), "{said}");
}

#[test]
fn prometheus_reads_its_files_and_herdgate_serves_what_they_ask_for() {
    let folder = examples().join("monitoring");
    assert!(Path::new("/usr/bin/promtool").exists(), "promtool is missing: run `make tools`");
    let said = run("promtool check config prometheus.yml", &folder);
    assert!(said.contains("SUCCESS") && said.contains(" 4 rules found"), "{said}");

    let config = compile(&read(&folder.join("herdgate.toml")), "herdgate.toml", Path::new("")).unwrap();
    let state = State::new();
    state.publish_policy(Arc::new(config.policy));
    let served = Metrics::new().render(&state.view(), TextFormat::Classic).unwrap();
    let served: BTreeSet<&str> = words(&served).collect();
    let (alerts, readme) = (read(&folder.join("alerts.yml")), read(&folder.join("README.md")));
    let asked: BTreeSet<&str> =
        words(&alerts).chain(words(&readme)).filter(|word| word.starts_with("herdgate_")).collect();
    assert!(asked.len() >= 5, "{asked:?}");
    let unknown: Vec<&&str> = asked.iter().filter(|name| !served.contains(**name)).collect();
    assert!(unknown.is_empty(), "herdgate serves no {unknown:?}");
    // As the alert on refusals has it.
    assert!(alerts.contains("outcome=\"refuse\"") && served.contains("refuse"), "{alerts}");
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
}
