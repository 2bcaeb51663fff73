//! The store and sudden death: kill -9 again and again, and logs of writes that end in the middle or in garbage.

use crate::store::{self, Folder, PATIENCE, consistent, is_settled, open, reservation, settled};
use herdgate::ledger::journal::Journal;
use herdgate::store::{OpenStoreError, Store};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Kills. The longer run of the whole daemon is elsewhere; this one is of the store alone.
const KILLS: usize = 12;

/// Requests between two acknowledgements.
const STEP: u128 = 40;

/// Writes as fast as it can from a number on, and says what it knows to be on disk. Ended by force.
#[test]
fn in_a_process_that_is_killed() {
    #[allow(clippy::disallowed_methods)] // how a test tells its other process what to do
    let Some(told) = std::env::var("HERDGATE_CRASH").ok() else { return };
    let (first, path) = told.split_once(' ').unwrap();
    let (store, _) = open(Path::new(path)).unwrap();
    let first: u128 = first.parse().unwrap();
    // What was said before the last end comes again, as lines do.
    for id in first.saturating_sub(STEP)..u128::MAX {
        store.opened(reservation(id, "ann", ""));
        store.settled(settled(id, "ann"));
        if id % STEP == 0 {
            assert!(store.flush(PATIENCE));
            println!("on disk: {id}");
            std::io::stdout().flush().unwrap();
        }
    }
}

fn start(path: &Path, first: u128) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "store_crash::in_a_process_that_is_killed", "--nocapture", "--test-threads=1"]);
    child.env("HERDGATE_CRASH", format!("{first} {}", path.display()));
    child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill_and_nothing_twice() {
    let folder = Folder::new();
    let path = folder.file();
    let (mut acknowledged, mut rows_before) = (0_u128, 0);
    for kill in 0..KILLS {
        let mut child = start(&path, acknowledged + 1);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while heard <= 3 + kill % 5 {
            let line = lines.next().unwrap_or_else(|| panic!("it ended by itself: {:?}", child.wait())).unwrap();
            // The test runner's own words stand before the first.
            if let Some((_, id)) = line.split_once("on disk: ") {
                acknowledged = id.parse().unwrap();
                heard += 1;
            }
        }
        // In the middle of whatever comes next: gathering, writing, syncing.
        std::thread::sleep(Duration::from_micros(700 * kill as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = line.split_once("on disk: ").map_or(acknowledged, |(_, id)| id.parse().unwrap());
        }
        let (store, restored) = open(&path).unwrap();
        let lost: Vec<u128> = (1..=acknowledged).filter(|id| !is_settled(&store, *id)).collect();
        assert!(lost.is_empty(), "lost after kill {kill}: {lost:?}");
        let open: Vec<u128> = restored.open.iter().map(|reservation| reservation.id).collect();
        assert!(open.iter().all(|id| *id > acknowledged), "ended, and on its way: {open:?}");
        drop(store);
        let (rows, spent) = consistent(&path);
        assert!(rows >= acknowledged as u64 && rows > rows_before, "{rows} rows, {acknowledged} acknowledged");
        assert_eq!(spent, rows * 30_000, "something was charged twice, or not");
        rows_before = rows;
    }
    println!("{KILLS} kills, {acknowledged} requests acknowledged, {rows_before} rows, none lost, none twice");
}

/// Requests whose rows make some dozen transactions, in a file that was never closed; a copy of its two parts.
fn unclosed() -> (Vec<u8>, Vec<u8>, u64) {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    for id in 0..300 {
        store.opened(reservation(id, "ann", ""));
        store.settled(settled(id, "ann"));
        if id % 10 == 0 {
            assert!(store.flush(PATIENCE));
        }
    }
    assert!(store.flush(PATIENCE));
    let read = |addition: &str| fs::read(format!("{}{addition}", folder.file().display())).unwrap();
    (read(""), read("-wal"), 300)
}

fn lay(database: &[u8], log: &[u8]) -> Folder {
    let folder = Folder::new();
    fs::write(folder.file(), database).unwrap();
    fs::write(format!("{}-wal", folder.file().display()), log).unwrap();
    folder
}

/// Power is lost while the log is written: its end is missing, or other bytes than were meant.
#[test]
fn a_log_that_ends_anywhere_or_in_garbage_opens_as_it_was_at_some_moment() {
    let (database, log, all) = unclosed();
    let mut states = Vec::new();
    let mut check = |what: &str, log: &[u8]| {
        let folder = lay(&database, log);
        let (rows, spent) = consistent(&folder.file());
        assert_eq!(spent, rows * 30_000, "{what}");
        assert!(rows <= all, "{what}");
        states.push(rows);
        rows
    };
    assert_eq!(check("whole", &log), all);
    assert_eq!(check("absent", &[]), 0);
    for part in 1..40 {
        let end = log.len() * part / 40 + part * 7;
        check(&format!("cut at {end}"), &log[..end.min(log.len())]);
    }
    for part in 0..40 {
        let mut garbled = log.clone();
        let from = garbled.len() * part / 40 + part * 5;
        garbled
            .iter_mut()
            .skip(from)
            .take(100 * (part + 1))
            .for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
        check(&format!("garbled at {from}"), &garbled);
        let mut zeroed = log.clone();
        zeroed[from..].fill(0);
        check(&format!("zeros from {from}"), &zeroed);
    }
    states.sort_unstable();
    states.dedup();
    println!("{} bytes of log, opened in {} different states: {states:?}", log.len(), states.len());
    assert!(states.len() > 10, "the ends fell on few transactions: {states:?}");
}

/// Every page of the file itself, damaged one after the other: noticed at the start, or harmless.
#[test]
fn a_damaged_file_is_refused_at_the_start_or_holds_together() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    (0..400).for_each(|id| store.settled(settled(id, "ann")));
    drop(store);
    let good = fs::read(folder.file()).unwrap();
    let (mut refused, mut opened) = (0, 0);
    for page in 0..good.len() / 4096 {
        for offset in [0, 5, 40, 100, 2_000, 4_000] {
            let mut bad = good.clone();
            bad[page * 4096 + offset..].iter_mut().take(60).for_each(|byte| *byte ^= 0xa5);
            fs::write(folder.file(), &bad).unwrap();
            match open(&folder.file()) {
                Ok((store, _)) => {
                    opened += 1;
                    store.settled(settled(9_999, "ann"));
                    assert!(store.flush(PATIENCE), "page {page}, {offset}: {:?}", store.health().failing());
                }
                Err(OpenStoreError::Damaged(_, what)) => {
                    refused += 1;
                    assert!(!what.is_empty());
                }
                Err(OpenStoreError::Foreign(_) | OpenStoreError::Newer(..)) if page == 0 => refused += 1,
                Err(fault) => panic!("page {page}, {offset}: {fault}"),
            }
        }
    }
    println!("{refused} refused, {opened} opened (the damage met no structure)");
    assert!(refused > opened, "{refused} {opened}");
    assert!(Store::open(&folder.path().join("absent/ledger.db"), store::options()).is_err());
}
