//! The rules of the house that a compiler does not check.

#![allow(clippy::unwrap_used)] // a test may fail

use std::path::{Path, PathBuf};

/// What pure code must not name: async, I/O, clocks, locks, logging, randomness, environment.
const IMPURE: [&str; 21] = [
    "tokio",
    "hyper",
    "reqwest",
    "tracing",
    "rand::",
    "rustix",
    "arc_swap",
    "async ",
    ".await",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "std::sync::atomic",
    "TcpStream",
    "UnixStream",
    "println!",
];

/// Adapters translate; they never import each other.
const ADAPTERS: [&str; 10] =
    ["spop", "nginx", "agent_check", "probe", "config", "keys", "admin", "settle", "jwks", "store"];

#[test]
fn decision_and_the_ledgers_arithmetic_are_pure() {
    let mut files = sources("src/decision");
    files.extend(
        [
            "books",
            "charge",
            "durations",
            "estimate",
            "fit",
            "form",
            "gcra",
            "histogram",
            "shares",
            "silence",
            "slots",
            "waits",
        ]
        .map(|name| PathBuf::from(format!("src/ledger/{name}.rs"))),
    );
    files.push(PathBuf::from("src/queue/room.rs"));
    files.extend(
        ["breaker", "claim", "reply", "share", "terms"].map(|name| PathBuf::from(format!("src/shared/{name}.rs"))),
    );
    assert!(files.len() > 15, "found only {files:?}");
    let mut broken = Vec::new();
    for file in files {
        for (number, line) in code_lines(&file) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{number}: {word}", file.display()));
            }
            if let Some(module) = crate_module(&line)
                && !matches!(module.as_str(), "decision" | "ledger")
            {
                broken.push(format!("{}:{number}: crate::{module}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "pure code reaches out:\n{}", broken.join("\n"));
}

#[test]
fn adapters_never_import_each_other() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for adapter in ADAPTERS {
        for file in sources("src").into_iter().filter(|file| module_of(file) == adapter) {
            checked += 1;
            for (number, line) in code_lines(&file) {
                if let Some(other) = crate_module(&line)
                    && other != adapter
                    && (ADAPTERS.contains(&other.as_str()) || matches!(other.as_str(), "serve" | "cli"))
                {
                    broken.push(format!("{}:{number}: crate::{other}", file.display()));
                }
            }
        }
    }
    assert!(checked > 10, "only {checked} adapter files found");
    assert!(broken.is_empty(), "adapters know each other:\n{}", broken.join("\n"));
}

#[test]
fn time_and_environment_are_read_in_one_place_each() {
    let mut broken = Vec::new();
    for file in sources("src") {
        for (number, line) in code_lines(&file) {
            let clock = line.contains("Instant::now") || line.contains("SystemTime::now");
            let environment = line.contains("env::var");
            if (clock && !file.ends_with("clock.rs")) || (environment && module_of(&file) != "cli") {
                broken.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is_for_and_stays_readable() {
    let mut broken = Vec::new();
    for folder in ["src", "examples", "tests"] {
        for file in sources(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            if !text.starts_with("//!") {
                broken.push(format!("{}: no purpose in its first line", file.display()));
            }
            if text.lines().count() > 700 {
                broken.push(format!("{}: {} lines", file.display(), text.lines().count()));
            }
            if ["util", "utils", "common", "helper", "helpers", "types", "misc"].contains(&name) {
                broken.push(format!("{}: a name that says nothing", file.display()));
            }
            for word in ["todo!(", "unimplemented!(", "#[ignore"] {
                if text.contains(word) && !file.ends_with("tidy.rs") {
                    broken.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in files_below(Path::new("."), "md") {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            followed += 1;
            if !document.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(followed > 0);
    assert!(broken.is_empty(), "dead links:\n{}", broken.join("\n"));
}

/// Lines of a file that are code: comments and test modules left out.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or_default().to_owned()))
        .collect()
}

/// The module named first after `crate::` in a line.
fn crate_module(line: &str) -> Option<String> {
    let rest = line.split("crate::").nth(1)?;
    Some(rest.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect())
}

/// The module directly below `src` that a file belongs to.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap();
    below.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn sources(folder: &str) -> Vec<PathBuf> {
    files_below(Path::new(folder), "rs")
}

fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_str().unwrap().starts_with('.') {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
