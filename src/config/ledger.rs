//! Where the quota books are kept, and when their days begin: `[ledger]`.

use super::compile::{Compiler, integer};
use super::file::Table;
use super::settings::LedgerSettings;
use super::value::Value;
use crate::files::spelling;
use crate::shared_store::address::{OnStoreDown, StoreAddress};
use jiff::tz::TimeZone;
use std::num::NonZeroU32;
use std::time::Duration;

/// Bounds of how long records are kept.
const KEEP_RANGE: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(3_650 * 86_400));

impl Compiler<'_, '_> {
    pub(super) fn ledger(&mut self, table: &Table) -> Option<LedgerSettings> {
        let store = self.store(table);
        let replicas = NonZeroU32::new(integer(table, "replicas")?)?;
        let on_store_down = match table.get("on_store_down")? {
            (Value::Text(word), _) if word == "allow" => OnStoreDown::Allow,
            (Value::Text(word), _) if word == "deny" => OnStoreDown::Deny,
            _ => OnStoreDown::Local,
        };
        let path = match table.get("path")? {
            (Value::Text(path), _) if path == "off" => None,
            (Value::Text(path), at) => {
                if path.ends_with('/') {
                    self.findings.value(at, "\"path\" must be a file name, not a folder".to_owned(), None);
                }
                Some(self.base.join(path))
            }
            _ => return None,
        };
        let keep_days = self.keep(table)?;
        let fresh_on_damage = matches!(table.get("on_damage"), Some((Value::Text(word), _)) if word == "fresh");
        let time_zone = self.time_zone(table)?;
        Some(LedgerSettings { path, keep_days, fresh_on_damage, time_zone, store, replicas, on_store_down })
    }

    fn store(&mut self, table: &Table) -> Option<StoreAddress> {
        let (Value::Text(written), at) = table.get("store")? else { return None };
        if written == "local" {
            return None;
        }
        match StoreAddress::parse(&written) {
            Ok(address) => Some(address),
            Err(fault) => {
                // Not what was written: it may hold a password.
                self.findings.value(at, format!("\"store\" {}", fault.what), fault.hint.map(str::to_owned));
                None
            }
        }
    }

    fn keep(&mut self, table: &Table) -> Option<u32> {
        let (Value::Duration(keep), at) = table.get("keep")? else { return None };
        if !(KEEP_RANGE.0..=KEEP_RANGE.1).contains(&keep) {
            self.findings.value(at, "\"keep\" must be from 1d to 3650d".to_owned(), None);
        }
        u32::try_from(keep.as_secs().div_ceil(86_400)).ok()
    }

    fn time_zone(&mut self, table: &Table) -> Option<TimeZone> {
        let (Value::Text(name), at) = table.get("time_zone")? else { return None };
        let zone = TimeZone::get(&name).ok();
        if zone.is_none() {
            let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let hint = match spelling::nearest(&name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "a name of the IANA database: \"UTC\", \"Europe/Berlin\"".to_owned(),
            };
            let shown: String = name.escape_debug().take(64).collect();
            self.findings.value(at, format!("there is no time zone \"{shown}\""), Some(hint));
        }
        zone
    }
}
