//! Forgets a user: the name, and the books that are kept under it. Rows stay, and with them all sums.
//!
//! Scheme. A user's books are named by a hash of the user's name, from which the name can be guessed; so they go too. The
//! file overwrites what it deletes, and the log of writes is written back at the end. Copies made before keep the name.

use super::apply::{key, packed, unpacked};
use crate::decision::caller::on_behalf;
use crate::decision::caller::token::issuer::user_scope;
use crate::decision::plan::limits::Scope;
use crate::ledger::reservation::{Reservation, Scopes};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::collections::BTreeSet;
use std::sync::mpsc::Sender;

/// Most rows looked at in one transaction.
const PART: i64 = 20_000;

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Rows that named the user.
    pub records: u64,
    /// Requests of the user in flight: they are written down when they end, with the name.
    pub open: u64,
    /// Days of the user's own books.
    pub books: u64,
}

impl std::fmt::Display for Forgotten {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Forgotten { records, open, books } = self;
        write!(f, "removed the name from {records} rows, and the usage counters of {books} days; sums stay")?;
        match open {
            0 => Ok(()),
            open => write!(f, "; {open} requests are in flight, and are written with the name when they end"),
        }
    }
}

/// Somebody wishes a user forgotten, and waits.
#[derive(Debug)]
pub(super) struct ForgetRequest {
    pub(super) user: String,
    pub(super) told: Sender<Result<Forgotten, String>>,
}

/// How far that has come.
pub(super) struct Forgetting {
    /// The name as it was said, and as keys' users are compared.
    names: [String; 2],
    told: Sender<Result<Forgotten, String>>,
    /// Rows up to here are done.
    upto: i64,
    personal: BTreeSet<Scope>,
    forgotten: Forgotten,
}

impl Forgetting {
    pub(super) fn new(wish: ForgetRequest) -> Forgetting {
        let compared = on_behalf::UserName::new(wish.user.as_bytes());
        let compared = compared.and_then(|name| String::from_utf8(name.as_bytes().to_vec()).ok());
        let names = [wish.user.clone(), compared.filter(|name| !name.is_empty()).unwrap_or(wish.user)];
        Forgetting { names, told: wish.told, upto: 0, personal: BTreeSet::new(), forgotten: Forgotten::default() }
    }

    /// Changes a part of the rows; after the last one, requests in flight and the books. Returns whether that was all.
    pub(super) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<bool> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last: i64 = transaction.query_row("SELECT coalesce(max(rowid), 0) FROM record", [], |row| row.get(0))?;
        if self.upto < last {
            let upto = self.upto.saturating_add(PART);
            let records = self.records(&transaction, upto)?;
            transaction.commit()?;
            self.upto = upto;
            self.forgotten.records = self.forgotten.records.saturating_add(records);
            return Ok(false);
        }
        let open = self.open(&transaction)?;
        let mut books = 0;
        for scope in &self.personal {
            books += transaction.execute("DELETE FROM spent WHERE scope = ?1", [key(scope.0)])?;
        }
        transaction.commit()?;
        self.forgotten.open = open;
        self.forgotten.books = books as u64;
        // A reader that is just there keeps a part of it, until the next time.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(true)
    }

    fn records(&mut self, transaction: &Transaction<'_>, upto: i64) -> rusqlite::Result<u64> {
        let mut named = transaction.prepare_cached(
            "SELECT rowid, caller, user, scopes FROM record
             WHERE rowid > ?1 AND rowid <= ?2 AND user IN (?3, ?4) AND user <> ''",
        )?;
        let mut change = transaction.prepare_cached("UPDATE record SET user = '', scopes = ?2 WHERE rowid = ?1")?;
        let [said, compared] = &self.names;
        let mut rows = named.query(params![self.upto, upto, said, compared])?;
        let mut records = 0;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            let (rowid, caller, user, scopes): (i64, String, String, Vec<u8>) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let scopes = unpacked(&scopes);
            let personal = personal(&caller, &user, &scopes);
            self.personal.extend(personal);
            let kept: Vec<Scope> = scopes.into_iter().filter(|scope| personal != Some(*scope)).collect();
            changes.push((rowid, packed(&kept)));
        }
        for (rowid, scopes) in changes {
            change.execute(params![rowid, scopes])?;
            records += 1;
        }
        Ok(records)
    }

    fn open(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        let mut all = transaction.prepare("SELECT id, body FROM open")?;
        let mut rows = all.query([])?;
        let mut changes = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, body): ([u8; 16], String) = (row.get(0)?, row.get(1)?);
            let Ok(reservation) = serde_json::from_str::<Reservation>(&body) else { continue };
            if reservation.user.as_deref().is_some_and(|user| self.names.iter().any(|name| **name == *user)) {
                changes.push((id, reservation));
            }
        }
        for (id, reservation) in &changes {
            let scopes: Vec<Scope> = reservation.scopes.iter().collect();
            let personal =
                personal(reservation.caller.as_str(), reservation.user.as_deref().unwrap_or_default(), &scopes);
            self.personal.extend(personal);
            let mut kept = Scopes::default();
            // There are fewer than before.
            let _ = scopes.into_iter().filter(|scope| personal != Some(*scope)).all(|scope| kept.push(scope));
            let nameless = Reservation { user: None, scopes: kept, ..reservation.clone() };
            let body = serde_json::to_string(&nameless)
                .map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))?;
            transaction.execute("UPDATE open SET body = ?2 WHERE id = ?1", params![id, body])?;
        }
        Ok(changes.len() as u64)
    }

    /// Tells whoever waits that it is done.
    pub(super) fn end(self) {
        // Whoever left does not need to know.
        let _ = self.told.send(Ok(self.forgotten));
    }

    /// Tells whoever waits that it cannot be done.
    pub(super) fn fail(self, what: Option<String>) {
        let _ = self.told.send(Err(what.unwrap_or_else(|| "the ledger cannot be written".to_owned())));
    }
}

/// Returns the books of the user among those of a row: a key's user has them beside the key's, a token's user in its
/// place.
fn personal(caller: &str, user: &str, scopes: &[Scope]) -> Option<Scope> {
    let of_key = Scope::of("key", caller.as_bytes());
    let candidates = [Scope::of_user(of_key, user.as_bytes()), user_scope(caller, user)];
    let known = scopes.iter().find(|scope| candidates.contains(scope));
    // An issuer's name may have been cut; its users are callers of their own, and stand first.
    known.or_else(|| scopes.first().filter(|first| !scopes.contains(&of_key) && **first != of_key)).copied()
}
