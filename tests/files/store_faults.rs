//! The store on a disk that fails: decisions go on, nothing is corrupt, and it is written again by itself. Each test counts
//! the faults that really happened.

use crate::faulty::{self, Kind};
use crate::store::{self, Folder, PATIENCE, consistent, options, reservation, settled, until};
use herdgate::ledger::journal::Journal;
use herdgate::store::{LedgerFileError, Options, Store};
use herdgate::time::clock::Clock;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Messages of a request that was granted and settled.
fn say(store: &Store, id: u128) {
    store.opened(reservation(id, "ann", ""));
    store.settled(settled(id, "ann"));
}

/// Far more than any of it takes where nothing waits for a disk, and far less than a disk that fails for seconds.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Says this of so many requests, which must not wait for anything.
fn say_at_once(store: &Store, ids: std::ops::Range<u128>) {
    let clock = Clock::new();
    let started = clock.mono_ns();
    ids.for_each(|id| say(store, id));
    let took = Duration::from_nanos(clock.mono_ns() - started);
    assert!(took < AT_ONCE, "who decides waited {took:?}");
}

/// One kind of fault after the other, all calls failing for a while; then everything that was said is there, once.
#[test]
fn input_and_output_errors_stop_no_decision_and_lose_nothing() {
    let folder = Folder::new();
    let faults = faulty::register("faulty-each");
    let (store, _) = Store::open(&folder.file(), Options { vfs: Some("faulty-each"), ..options() }).unwrap();
    let mut said = 0;
    // Most kinds are met by every write. A connection that is open and whole reads, truncates and opens nothing, so
    // these fail together with what makes the store open its file anew.
    let rounds: [&[Kind]; 6] = [
        &[Kind::Full],
        &[Kind::Write],
        &[Kind::Sync],
        &[Kind::Sync, Kind::Open],
        &[Kind::Write, Kind::Read],
        &[Kind::Write, Kind::Truncate],
    ];
    for (round, kinds) in rounds.into_iter().enumerate() {
        say(&store, said);
        assert!(store.flush(PATIENCE), "it is well");
        kinds.iter().for_each(|kind| faults.set(*kind, 1));
        say_at_once(&store, said + 1..said + 300);
        said += 300;
        let met = |kind: &Kind| *kind == Kind::Truncate || faults.injected(*kind) > 0;
        until("the fault", || store.health().failing().is_some() && kinds.iter().all(met));
        assert!(!store.flush(Duration::from_millis(20)), "round {round}: nothing can be written");
        assert!(store.health().pending() > 0);
        faults.heal();
        assert!(store.flush(PATIENCE), "round {round}: it is written again by itself");
        assert_eq!(store.health().failing(), None);
    }
    let health = store.health();
    assert!(health.faults(LedgerFileError::Full) > 0 && health.faults(LedgerFileError::Io) > 0, "{health:?}");
    assert_eq!((health.dropped_grants(), health.dropped_ends(), health.pending()), (0, 0, 0));
    drop(store);
    assert_eq!(consistent(&folder.file()), (said as u64, said as u64 * 30_000));
    let injected = Kind::ALL.map(|kind| (kind, faults.injected(kind)));
    println!("{said} requests, all there; injected: {injected:?}");
    assert!([Kind::Full, Kind::Write, Kind::Sync, Kind::Open].iter().all(|kind| faults.injected(*kind) > 0));
}

/// Now and then a call fails, of whatever kind, while it is written all the time.
#[test]
fn scattered_errors_lose_nothing_and_write_nothing_twice() {
    let folder = Folder::new();
    let faults = faulty::register("faulty-scattered");
    let (store, _) = Store::open(&folder.file(), Options { vfs: Some("faulty-scattered"), ..options() }).unwrap();
    let mut said = 0;
    for (round, one_in) in [600, 200, 60, 600].into_iter().enumerate() {
        Kind::ALL.into_iter().for_each(|kind| faults.set(kind, one_in));
        for _ in 0..40 {
            say_at_once(&store, said..said + 25);
            said += 25;
            // Mostly that works; where it does not, the next one goes on meanwhile.
            store.flush(Duration::from_millis(150));
        }
        faults.heal();
        assert!(store.flush(PATIENCE), "round {round}");
    }
    let injected = Kind::ALL.map(|kind| (kind, faults.injected(kind)));
    let health = store.health();
    println!("{said} requests in {} transactions; injected: {injected:?}", health.commits());
    assert_eq!(health.dropped_ends(), 0);
    drop(store);
    assert_eq!(consistent(&folder.file()), (said as u64, said as u64 * 30_000));
    assert!(injected.iter().map(|(_, count)| count).sum::<u64>() > 20 && health.commits() > 40, "{injected:?}");
    let kinds_met = injected.iter().filter(|(_, count)| *count > 0).count();
    assert!(kinds_met >= 3, "{injected:?}");
}

/// What waits is bounded: grants go first, then ends; both are counted, and what was kept is written.
#[test]
fn a_disk_that_fails_for_long_costs_bounded_memory_and_drops_are_counted() {
    let folder = Folder::new();
    let faults = faulty::register("faulty-long");
    let (store, _) = Store::open(&folder.file(), Options { vfs: Some("faulty-long"), ..options() }).unwrap();
    faults.set(Kind::Full, 1);
    let grant = reservation(1 << 100, "ann", "");
    for id in 0..40_000_u128 {
        store.opened(herdgate::ledger::reservation::Reservation { id, ..grant.clone() });
    }
    let end = settled(0, "ann");
    for id in 0..40_000_u128 {
        let reservation = herdgate::ledger::reservation::Reservation { id, ..grant.clone() };
        store.settled(herdgate::ledger::reservation::Record { reservation, ..end.clone() });
    }
    let health = store.health();
    assert_eq!((health.pending(), health.dropped_grants(), health.dropped_ends()), (65_536, 7_232, 7_232));
    until("the fault", || health.failing().is_some() && faults.injected(Kind::Full) > 0);
    let failing = health.failing().unwrap();
    assert_eq!(failing.fault, LedgerFileError::Full, "{failing:?}");
    faults.heal();
    assert!(store.flush(PATIENCE));
    assert_eq!((health.pending(), health.failing()), (0, None));
    drop(store);
    assert_eq!(consistent(&folder.file()).0, 32_768);
    println!("injected: {}", faults.injected(Kind::Full));
}

/// A small file system in memory, unmounted when dropped; or none where mounting is not permitted.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Small> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|said| said.status.success()).then(|| Small(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// On a tmpfs of 1 MB. Where none can be mounted, on an ordinary disk whose files may not grow past 512 KiB
/// (`RLIMIT_FSIZE`), in a process of its own.
#[test]
fn a_full_disk_stops_no_decision_and_is_written_again_when_there_is_room() {
    let folder = Folder::new();
    let at = folder.path().join("small");
    if let Some(small) = Small::mount(&at) {
        let ballast = at.join("ballast");
        fs::write(&ballast, vec![0; 300_000]).unwrap();
        let free = || fs::remove_file(&ballast).unwrap();
        fill(&at.join("ledger.db"), 300, free);
        println!("on a tmpfs of 1 MB");
        drop(small);
        return;
    }
    let me = std::env::current_exe().unwrap();
    // A signal that is ignored stays so over exec.
    let script = "trap '' XFSZ; exec \"$0\" --exact store_faults::in_a_process_whose_files_may_not_grow --nocapture";
    let mut child = Command::new("sh");
    child.args(["-c", script]).arg(me).env("HERDGATE_SMALL", folder.file());
    let said = child.output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.contains("it was written again"), "{text}");
    println!("no tmpfs can be mounted here; files were bounded by RLIMIT_FSIZE instead\n{text}");
}

/// Run by the test above where it has to be; does nothing by itself.
#[test]
fn in_a_process_whose_files_may_not_grow() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    #[allow(clippy::disallowed_methods)] // how a test tells its other process what to do
    let Some(path) = std::env::var_os("HERDGATE_SMALL") else { return };
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(512 << 10), maximum: limit.maximum }).unwrap();
    fill(Path::new(&path), 300, || setrlimit(Resource::Fsize, limit).unwrap());
    println!("it was written again");
}

/// Writes until there is no room, goes on, makes room, and finds everything.
fn fill(path: &Path, step: u128, make_room: impl FnOnce()) {
    let (store, _) = store::open(path).unwrap();
    let health = store.health();
    let mut said = 0;
    until("no room", || {
        say_at_once(&store, said..said + step);
        said += step;
        store.flush(Duration::from_millis(200));
        health.failing().is_some()
    });
    let failing = health.failing().unwrap();
    say_at_once(&store, said..said + step);
    said += step;
    assert!(!store.flush(Duration::from_millis(50)));
    let met: u64 = LedgerFileError::ALL.into_iter().map(|fault| health.faults(fault)).sum();
    assert!(met > 0);
    make_room();
    assert!(store.flush(PATIENCE), "{:?}", health.failing());
    println!("{failing:?}, {met} tries failed; all {said} requests are there");
    drop(store);
    assert_eq!(consistent(path), (said as u64, said as u64 * 30_000));
}
