//! `[ledger]`: where counters and usage are kept, and when their days begin.

use super::compile::Compiler;
use super::file::Table;
use super::key_of::{ChoiceOf, key};
use super::settings::LedgerSettings;
use crate::files::spelling;
use crate::shared_store::address::{OnStoreDown, StoreAddress};
use jiff::tz::TimeZone;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

/// Bounds of how long records are kept.
const KEEP_RANGE: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(3_650 * 86_400));

const ON_STORE_DOWN: ChoiceOf<OnStoreDown> = ChoiceOf::named(
    "on_store_down",
    &[("local", OnStoreDown::Local), ("allow", OnStoreDown::Allow), ("deny", OnStoreDown::Deny)],
);

/// Whether a damaged file is moved aside.
const IS_FRESH_ON_DAMAGE: ChoiceOf<bool> = ChoiceOf::named("on_damage", &[("refuse", false), ("fresh", true)]);

impl Compiler<'_, '_> {
    pub(super) fn ledger(&mut self, table: &Table) -> Option<LedgerSettings> {
        let store = self.store(table);
        let replicas = NonZeroU32::new(table.count(key!("replicas"))?)?;
        let on_store_down = table.choice(&ON_STORE_DOWN)?;
        let is_off = table.path(key!("path"))? == Path::new("off");
        let path = if is_off { None } else { Some(self.file(table, key!("path"))?) };
        let keep = self.span(table, key!("keep"), KEEP_RANGE, "1d to 3650d")?;
        let keep_days = u32::try_from(keep.as_secs().div_ceil(86_400)).ok()?;
        let fresh_on_damage = table.choice(&IS_FRESH_ON_DAMAGE)?;
        let time_zone = self.time_zone(table)?;
        Some(LedgerSettings { path, keep_days, fresh_on_damage, time_zone, store, replicas, on_store_down })
    }

    fn store(&mut self, table: &Table) -> Option<StoreAddress> {
        let written = table.text(key!("store"))?;
        if written == "local" {
            return None;
        }
        match StoreAddress::parse(&written) {
            Ok(address) => Some(address),
            Err(fault) => {
                // Not what was written: it may hold a password.
                self.findings.value(
                    table.at("store"),
                    format!("\"store\" {}", fault.what),
                    fault.hint.map(str::to_owned),
                );
                None
            }
        }
    }

    fn time_zone(&mut self, table: &Table) -> Option<TimeZone> {
        let name = table.text(key!("time_zone"))?;
        let zone = TimeZone::get(&name).ok();
        if zone.is_none() {
            let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let hint = match spelling::nearest(&name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "a name of the IANA database: \"UTC\", \"Europe/Berlin\"".to_owned(),
            };
            let shown: String = name.escape_debug().take(64).collect();
            self.findings.value(table.at("time_zone"), format!("there is no time zone \"{shown}\""), Some(hint));
        }
        zone
    }
}
