//! The ledger's file: who may write it, which are refused, what is removed from it, and copies of it.

use crate::store::{
    self, Folder, PATIENCE, consistent, is_settled, key_scope, open, options, record, reservation, settled, today,
    until,
};
use herdgate::decision::plan::limits::Scope;
use herdgate::ledger::journal::Journal;
use herdgate::ledger::reservation::Evidence;
use herdgate::store::{
    By, OpenStoreError, Options, SPENT_DAYS, Selection, Store, StoredLife, UsageRow, backup, report,
};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[test]
fn the_files_are_its_owners_alone() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    store.settled(settled(1, "ann"));
    assert!(store.flush(PATIENCE));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"]);
}

#[test]
fn a_second_herdgate_is_refused_until_the_first_has_ended() {
    let folder = Folder::new();
    let (first, _) = open(&folder.file()).unwrap();
    let fault = open(&folder.file()).unwrap_err();
    assert_eq!(fault, OpenStoreError::InUse(folder.file()));
    let said = format!("the ledger {} is in use by another herdgate; stop it, or", folder.file().display());
    assert!(fault.to_string().starts_with(&said), "{fault}");
    drop(first);
    open(&folder.file()).unwrap();
}

/// What a file must be for the store to refuse it, and how it says so.
fn refused(make: impl FnOnce(&Path), said: &str) {
    let folder = Folder::new();
    make(&folder.file());
    let before = fs::read(folder.file()).unwrap_or_default();
    let fault = open(&folder.file()).unwrap_err().to_string();
    assert!(fault.contains(said) && fault.contains("ledger.db"), "{fault}");
    assert!(fs::read(folder.file()).unwrap_or_default() == before, "a file that is refused is not changed: {fault}");
}

fn statements(sql: &'static str) -> impl FnOnce(&Path) {
    move |path| {
        drop(open(path).unwrap());
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    }
}

#[test]
fn files_that_are_not_ours_or_not_whole_are_refused_and_left_alone() {
    refused(|path| fs::write(path, "not a database, but a text of some length\n".repeat(100)).unwrap(), "is damaged");
    refused(|path| fs::write(path, [0; 4096]).unwrap(), "is damaged");
    refused(|path| Connection::open(path).unwrap().execute_batch("CREATE TABLE t (a)").unwrap(), "but not herdgate's");
    refused(statements("PRAGMA user_version = 2"), "written by a newer herdgate (schema 2)");
    refused(statements("PRAGMA user_version = 0"), "is damaged (its schema has version 0)");
    refused(statements("DROP TABLE spent"), "is damaged (reading it: no such table: spent");
    refused(|path| fs::create_dir(path).unwrap(), "ledger.db");
}

#[test]
fn a_damaged_file_is_moved_aside_where_that_is_wanted() {
    let folder = Folder::new();
    let garbage = "garbage ".repeat(1_000);
    fs::write(folder.file(), &garbage).unwrap();
    let fresh = Options { fresh_on_damage: true, ..options() };
    let (store, restored) = Store::open(&folder.file(), fresh.clone()).unwrap();
    let aside = restored.moved_to.unwrap();
    assert_eq!(fs::read_to_string(&aside).unwrap(), garbage);
    assert!(aside.to_str().unwrap().contains("ledger.db.damaged-20"), "{}", aside.display());
    store.settled(settled(1, "ann"));
    drop(store);
    assert_eq!(consistent(&folder.file()).0, 1);
    // A good one stays, and so does one of a newer version: that is no damage.
    assert_eq!(Store::open(&folder.file(), fresh.clone()).unwrap().1.moved_to, None);
    Connection::open(folder.file()).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    assert_eq!(Store::open(&folder.file(), fresh).unwrap_err(), OpenStoreError::Newer(folder.file(), 9));
}

#[test]
fn what_is_too_old_is_removed_while_it_runs_and_sums_of_two_months_stay() {
    const KEPT: i32 = SPENT_DAYS as i32;
    let folder = Folder::new();
    let mut id = 0;
    let mut end = |ago: i32| {
        id += 1;
        record(reservation(id, "ann", ""), Evidence::Exact, today() - ago, (1, 0))
    };
    let (store, _) = Store::open(&folder.file(), Options { keep_days: 100, ..options() }).unwrap();
    (0..5_000).for_each(|_| store.settled(end(150)));
    [0, 1, KEPT - 1, KEPT, 100, 101].into_iter().for_each(|ago| store.settled(end(ago)));
    assert!(store.flush(PATIENCE));
    let days = || -> Vec<i32> {
        let lines = report(&folder.file(), By::Day, &Selection::default()).unwrap();
        lines.iter().map(|line| today() - line.of.parse::<i32>().unwrap()).collect()
    };
    until("retention", || days() == [100, KEPT, KEPT - 1, 1, 0]);
    drop(store);
    let (_, restored) = open(&folder.file()).unwrap();
    let mut spent: Vec<i32> =
        restored.spent.iter().filter(|spent| spent.scope == store::GATE).map(|spent| today() - spent.day.0).collect();
    spent.sort_unstable();
    assert_eq!(spent, [0, 1, KEPT - 1]);
    let kept: i64 = Connection::open(folder.file())
        .unwrap()
        .query_row("SELECT count(*) FROM spent WHERE day <= ?1", [today() - KEPT], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0);
}

/// The bytes of a ledger's files.
fn bytes(path: &Path) -> Vec<u8> {
    let read = |addition: &str| fs::read(format!("{}{addition}", path.display())).unwrap_or_default();
    [read(""), read("-wal")].concat()
}

#[test]
fn a_user_is_forgotten_to_the_last_byte_and_sums_stay() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    let name = "zoe.the.user@example.com";
    let other = "yan.the.other@example.com";
    for id in 0..300 {
        let user = [name, other][usize::from(id % 3 == 0)];
        store.opened(reservation(id, "webui", user));
        store.settled(record(reservation(id, "webui", user), Evidence::Exact, today() - (id % 2) as i32, (10, 20)));
    }
    store.opened(reservation(1_000, "webui", name));
    assert!(store.flush(PATIENCE));
    let own = |user: &str| Scope::of_user(key_scope("webui"), user.as_bytes());
    let holds = |what: &[u8]| bytes(&folder.file()).windows(what.len()).any(|window| window == what);
    assert!(holds(name.as_bytes()) && holds(&own(name).0.to_be_bytes()), "the test looks in the right place");
    let sums = |by| -> Vec<UsageRow> { report(&folder.file(), by, &Selection::default()).unwrap() };
    let (keys, days) = (sums(By::Key), sums(By::Day));

    let forgotten = store.forget("Zoe.The.User@example.com").unwrap();
    assert_eq!((forgotten.records, forgotten.open, forgotten.books), (200, 1, 2));
    assert!(!holds(name.as_bytes()), "the name is still there");
    assert!(!holds(&own(name).0.to_be_bytes()), "its books are still there");
    assert!(holds(other.as_bytes()) && holds(&own(other).0.to_be_bytes()), "so much for the wrong user");
    assert_eq!((sums(By::Key), sums(By::Day)), (keys, days));
    let users: Vec<(String, u64)> = sums(By::User).into_iter().map(|line| (line.of, line.requests)).collect();
    assert_eq!(users, [(String::new(), 200), (other.to_owned(), 100)]);
    assert_eq!(store.forget(name).unwrap(), Default::default());
    // Written after it was opened, and while it goes on.
    store.settled(settled(2_000, "ann"));
    assert!(store.flush(PATIENCE) && is_settled(&store, 2_000));
    drop(store);
    let (_, restored) = open(&folder.file()).unwrap();
    let [open] = &restored.open[..] else { panic!("{:?}", restored.open) };
    assert_eq!((open.id, &open.user, open.scopes.iter().count()), (1_000, &None, 2));
    assert!(restored.spent.iter().all(|spent| spent.scope != own(name)));
    assert!(restored.spent.iter().any(|spent| spent.scope == key_scope("webui")));
}

#[test]
fn the_user_of_a_token_is_forgotten_also_where_its_issuers_name_is_too_long_to_keep() {
    use herdgate::decision::caller::token::issuer::user_scope;
    for issuer in ["https://id.example.com/".to_owned(), format!("https://id.example.com/{}", "realm/".repeat(20))] {
        let folder = Folder::new();
        let (store, _) = open(&folder.file()).unwrap();
        let own = user_scope(&issuer, "zoe");
        let mut taken = reservation(1, &issuer, "");
        taken.user = Some("zoe".into());
        taken.scopes = herdgate::ledger::reservation::Scopes::one(own);
        assert!(taken.scopes.push(store::GATE));
        store.settled(record(taken, Evidence::Exact, today(), (10, 20)));
        let forgotten = store.forget("zoe").unwrap();
        assert_eq!((forgotten.records, forgotten.books), (1, 1), "{issuer}");
        drop(store);
        let spent: Vec<Scope> = open(&folder.file()).unwrap().1.spent.iter().map(|spent| spent.scope).collect();
        assert_eq!(spent, [store::GATE], "{issuer}");
    }
}

#[test]
fn a_backup_of_a_file_that_is_written_is_whole_and_can_be_opened() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    for id in 0..2_000 {
        store.settled(settled(id, "ann"));
    }
    assert!(store.flush(PATIENCE));
    let copy = folder.path().join("copy.db");
    let size = std::thread::scope(|scope| {
        let writing = scope.spawn(|| (2_000..6_000).for_each(|id| store.settled(settled(id, "ann"))));
        let size = backup(&folder.file(), &copy).unwrap();
        writing.join().unwrap();
        size
    });
    let copied = fs::metadata(&copy).unwrap();
    assert_eq!((copied.len(), copied.permissions().mode() & 0o777), (size, 0o600));
    let files = || -> Vec<String> {
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("copy")).collect()
    };
    assert_eq!(files(), ["copy.db"], "one file, and no part of one");
    let fault = backup(&folder.file(), &copy).unwrap_err().to_string();
    assert!(fault.ends_with("the file is there already"), "{fault}");
    assert!(matches!(backup(&folder.path().join("no.db"), &copy), Err(OpenStoreError::Absent(_))));
    assert!(backup(&folder.file(), &folder.path().join("no/copy.db")).is_err());
    let (rows, spent) = consistent(&copy);
    assert!((2_000..=6_000).contains(&rows) && spent == rows * 30_000, "{rows} {spent}");
}

#[test]
fn a_file_that_is_removed_or_replaced_while_it_is_written_is_noticed() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    store.settled(settled(1, "ann"));
    assert!(store.flush(PATIENCE));
    fs::rename(folder.file(), folder.path().join("gone.db")).unwrap();
    let mut id = 1;
    until("the new file", || {
        id += 1;
        store.settled(settled(id, "ann"));
        // At first the new file is not there, or has nothing in it.
        store.flush(PATIENCE) && matches!(store.find(id), Ok(Some(_)))
    });
}

/// What a request's life is told from.
#[test]
fn one_request_can_be_looked_up() {
    let folder = Folder::new();
    let (store, _) = open(&folder.file()).unwrap();
    store.opened(reservation(1, "ann", "zoe"));
    store.opened(reservation(2, "ann", "zoe"));
    store.settled(record(reservation(2, "ann", "zoe"), Evidence::Counted, today(), (10, 20)));
    assert!(store.flush(PATIENCE));
    assert!(
        matches!(store.find(1).unwrap(), Some(StoredLife::Open(open)) if open.id == 1 && open.user.as_deref() == Some("zoe"))
    );
    let Some(StoredLife::Settled(row)) = store.find(2).unwrap() else { panic!() };
    let json = serde_json::to_value(&row).unwrap();
    let expected = [
        ("caller", "ann"),
        ("user", "zoe"),
        ("team", "research"),
        ("model", "llama3.1:8b"),
        ("endpoint", "chat"),
        ("server", "gpu1"),
        ("evidence", "counted"),
    ];
    expected.iter().for_each(|(field, value)| assert_eq!(json[*field], *value));
    assert_eq!((row.charge, row.reserved, row.status, row.ms), (30_000, 600_000, Some(200), Some(1_234)));
    assert_eq!(store.find(3).unwrap(), None);
}
