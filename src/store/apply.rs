//! Messages become rows: the rules of what is written, all of a batch in one transaction.

use super::queue::JournalMessage;
use crate::decision::plan::limits::Scope;
use crate::ledger::calendar::Day;
use crate::ledger::reservation::{Record, Reservation, Scopes};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, VecDeque};

/// Most tokens written of one request, a million millions: more is a fault of who reported it, and sums of a million
/// such rows still fit.
pub(super) const TOKENS_MAX: u64 = 1 << 40;

/// Most that one request is charged, in thousandths of a token.
pub(super) const CHARGE_MAX: u64 = 1 << 43;

/// What budgets change by, in thousandths of a token.
type BudgetChanges = BTreeMap<(Scope, Day), i64>;

/// Writes a batch, all of it or nothing.
pub(super) fn apply(connection: &mut Connection, batch: &VecDeque<JournalMessage>) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut changes = BudgetChanges::new();
    for message in batch {
        match message {
            JournalMessage::Opened(reservation) => open(&transaction, reservation)?,
            JournalMessage::Settled(record) => settle(&transaction, record, &mut changes)?,
            JournalMessage::Released(id) => close(&transaction, *id)?,
        }
    }
    for ((scope, day), change) in changes {
        spend(&transaction, scope, day, change)?;
    }
    transaction.commit()
}

/// Writes down a request in flight. One that has a row already was settled before this message came: it is not in
/// flight any more.
fn open(transaction: &Transaction<'_>, reservation: &Reservation) -> rusqlite::Result<()> {
    let body =
        serde_json::to_string(reservation).map_err(|fault| rusqlite::Error::ToSqlConversionFailure(fault.into()))?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO open (id, opened, body) SELECT ?1, ?2, ?3
         WHERE NOT EXISTS (SELECT 1 FROM record WHERE id = ?1) ON CONFLICT (id) DO NOTHING",
    )?;
    insert.execute(params![key(reservation.id), reservation.opened_unix_ms, body])?;
    Ok(())
}

fn close(transaction: &Transaction<'_>, id: u128) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM open WHERE id = ?1")?.execute([key(id)])?;
    Ok(())
}

/// Writes a record. The first row of an id says who, when and in which books; a later one with better evidence says how
/// much.
fn settle(transaction: &Transaction<'_>, record: &Record, changes: &mut BudgetChanges) -> rusqlite::Result<()> {
    let id = record.reservation.id;
    let charge = whole(record.charge(), CHARGE_MAX);
    close(transaction, id)?;
    let before = transaction
        .prepare_cached("SELECT evidence, charge, day, scopes FROM record WHERE id = ?1")?
        .query_row([key(id)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let before: Option<(i64, i64, i32, Vec<u8>)> = before;
    match before {
        None => {
            let scopes = deduplicated(&record.reservation.scopes);
            insert(transaction, record, charge, &scopes)?;
            charge_to(&scopes, record.day, charge, changes);
        }
        Some((evidence, charged, day, scopes)) if (record.evidence as i64) > evidence => {
            correct(transaction, record, charge)?;
            charge_to(&unpacked(&scopes), Day(day), charge.saturating_sub(charged), changes);
        }
        Some(_) => {}
    }
    Ok(())
}

fn insert(transaction: &Transaction<'_>, record: &Record, charge: i64, scopes: &[Scope]) -> rusqlite::Result<()> {
    let reservation = &record.reservation;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO record (id, at, day, opened, caller, user, team, model, endpoint, stream, server, evidence,
         tokens_in, tokens_out, charge, reserved, status, ms, scopes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)",
    )?;
    insert.execute(params![
        key(reservation.id),
        record.settled_unix_ms,
        record.day.0,
        reservation.opened_unix_ms,
        reservation.caller.as_str(),
        reservation.user.as_deref().unwrap_or_default(),
        reservation.team.as_deref().unwrap_or_default(),
        reservation.model.as_ref().map_or("", |model| model.as_str()),
        reservation.endpoint.as_str(),
        reservation.stream,
        &*record.server,
        record.evidence as i64,
        whole(record.tokens.prompt, TOKENS_MAX),
        whole(record.tokens.output, TOKENS_MAX),
        charge,
        whole(reservation.reserved(), CHARGE_MAX),
        record.status,
        record.ms.map(|ms| whole(ms, TOKENS_MAX)),
        packed(scopes),
    ])?;
    Ok(())
}

/// Replaces the figures of a row. What the better evidence does not know stays as it was.
fn correct(transaction: &Transaction<'_>, record: &Record, charge: i64) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE record SET server = CASE ?2 WHEN '' THEN server ELSE ?2 END, evidence = ?3, tokens_in = ?4,
         tokens_out = ?5, charge = ?6, status = coalesce(?7, status), ms = coalesce(?8, ms) WHERE id = ?1",
    )?;
    update.execute(params![
        key(record.reservation.id),
        &*record.server,
        record.evidence as i64,
        whole(record.tokens.prompt, TOKENS_MAX),
        whole(record.tokens.output, TOKENS_MAX),
        charge,
        record.status,
        record.ms.map(|ms| whole(ms, TOKENS_MAX)),
    ])?;
    Ok(())
}

fn charge_to(scopes: &[Scope], day: Day, change: i64, changes: &mut BudgetChanges) {
    for scope in scopes {
        let sum = changes.entry((*scope, day)).or_default();
        *sum = sum.saturating_add(change);
    }
}

/// Adds `change` to what a scope spent on a day. The sum is made here and not in SQL, where a sum that is too large
/// becomes a floating-point number.
fn spend(transaction: &Transaction<'_>, scope: Scope, day: Day, change: i64) -> rusqlite::Result<()> {
    if change == 0 {
        return Ok(());
    }
    let before: Option<i64> = transaction
        .prepare_cached("SELECT charge FROM spent WHERE scope = ?1 AND day = ?2")?
        .query_row(params![key(scope.0), day.0], |row| row.get(0))
        .optional()?;
    let charge = before.unwrap_or(0).saturating_add(change).max(0);
    transaction
        .prepare_cached(
            "INSERT INTO spent (scope, day, charge) VALUES (?1, ?2, ?3)
             ON CONFLICT (scope, day) DO UPDATE SET charge = excluded.charge",
        )?
        .execute(params![key(scope.0), day.0, charge])?;
    Ok(())
}

/// Returns an id or a scope as it is stored.
pub(super) fn key(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}

/// Returns a number as SQLite has them.
pub(super) fn whole(number: u64, most: u64) -> i64 {
    i64::try_from(number.min(most)).unwrap_or(i64::MAX)
}

/// Returns each identity once, so that whoever is named twice is charged once.
fn deduplicated(scopes: &Scopes) -> Vec<Scope> {
    let mut each: Vec<Scope> = Vec::new();
    for scope in scopes.iter() {
        if !each.contains(&scope) {
            each.push(scope);
        }
    }
    each
}

/// Writes scopes side by side, 16 bytes each.
pub(super) fn packed(scopes: &[Scope]) -> Vec<u8> {
    scopes.iter().flat_map(|scope| key(scope.0)).collect()
}

/// Reads what [`packed`] wrote.
pub(super) fn unpacked(bytes: &[u8]) -> Vec<Scope> {
    bytes.as_chunks().0.iter().map(|scope| Scope(u128::from_be_bytes(*scope))).collect()
}
