//! Pure code: no async, I/O, clocks, locks, logging, randomness, environment.

use crate::sources::{code_lines, imports, room_of, sources};
use std::path::{Path, PathBuf};

/// What pure code must not name.
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

/// Folders that are pure as a whole.
const PURE_FOLDERS: [&str; 2] = ["src/decision", "src/ledger"];

/// Files of those folders that are not: the one lock around the books.
const NOT_PURE: [&str; 1] = ["src/ledger/memory.rs"];

/// Pure files of other folders.
const PURE_FILES: [&str; 6] = [
    "src/gate/wait/order.rs",
    "src/shared_store/breaker.rs",
    "src/shared_store/claim.rs",
    "src/shared_store/fraction.rs",
    "src/shared_store/reply.rs",
    "src/shared_store/terms.rs",
];

#[test]
fn the_decision_and_the_ledgers_arithmetic_are_pure() {
    let mut files: Vec<PathBuf> = PURE_FOLDERS.iter().flat_map(|folder| sources(folder)).collect();
    for exception in NOT_PURE {
        let before = files.len();
        files.retain(|file| file != Path::new(exception));
        assert_eq!(files.len() + 1, before, "{exception} is not there");
    }
    files.extend(PURE_FILES.map(PathBuf::from));
    assert!(files.len() > 60, "found only {files:?}");
    let mut broken = Vec::new();
    for file in &files {
        for (number, line) in code_lines(file) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{number}: {word}", file.display()));
            }
        }
        let own = room_of(file, Path::new("src"));
        for (number, path) in imports(file) {
            let room = path.split("::").next().unwrap();
            let may = room == "decision" || own != "decision" && (room == "ledger" || room == own);
            if !may {
                broken.push(format!("{}:{number}: crate::{path}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "pure code reaches out:\n{}", broken.join("\n"));
}

#[test]
fn time_and_environment_are_read_in_one_place_each() {
    let mut broken = Vec::new();
    for file in sources("src") {
        for (number, line) in code_lines(&file) {
            let clock = line.contains("Instant::now") || line.contains("SystemTime::now");
            let environment = line.contains("env::var");
            if (clock && !file.ends_with("time/clock.rs")) || (environment && room_of(&file, Path::new("src")) != "cli")
            {
                broken.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
