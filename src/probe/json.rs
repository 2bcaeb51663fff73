//! Reads a server's model list leniently: one bad entry costs that entry, and no list costs more memory than its bytes.

use super::Parsed;
use crate::decision::fleet::Failure;
use crate::decision::request::name::NAME_MAX;
use crate::probe::fetch::failure;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Most models taken from one server.
const MODELS_MAX: usize = 10_000;

/// Longest JSON text kept of one entry's `details` or `capabilities`, in bytes.
const TEXT_MAX: usize = 4096;

/// Longest plain string kept (digest, date, owner), in bytes.
const STRING_MAX: usize = 256;

/// An array whose entries are still text; `null` and absent are empty.
#[derive(Debug, Default)]
pub struct Entries<'a> {
    entries: Vec<&'a RawValue>,
    skipped: usize,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries<'a>, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of models")
    }

    /// Go writes an empty slice as `null`.
    fn visit_unit<E>(self) -> Result<Entries<'de>, E> {
        Ok(Entries::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Entries<'de>, A::Error> {
        let mut seen = Entries::default();
        while let Some(entry) = array.next_element()? {
            if seen.entries.len() < MODELS_MAX {
                seen.entries.push(entry);
            } else {
                seen.skipped = seen.skipped.saturating_add(1);
            }
        }
        Ok(seen)
    }
}

impl Entries<'_> {
    /// Reads each entry as `E` and makes a `T` of it; those that cannot be are counted.
    pub fn read<E: DeserializeOwned, T>(self, make: impl Fn(E) -> Option<T>) -> Parsed<T> {
        let mut parsed = Parsed { entries: Vec::with_capacity(self.entries.len()), skipped: self.skipped };
        for entry in self.entries {
            match serde_json::from_str(entry.get()).ok().and_then(&make) {
                Some(made) => parsed.entries.push(made),
                None => parsed.skipped = parsed.skipped.saturating_add(1),
            }
        }
        parsed
    }
}

/// Reads a whole answer as JSON.
///
/// # Errors
/// `body`, with what is wrong and where; never with the answer's own text.
pub fn answer<'a, T: Deserialize<'a>>(bytes: &'a [u8], path: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Eof => "the JSON breaks off",
            serde_json::error::Category::Data => "not the expected JSON",
            _ => "not JSON",
        };
        failure("body", format!("{path}: {what} at line {} column {}", error.line(), error.column()))
    })
}

/// Returns a model's name that can be acted on.
pub fn name(written: &str) -> Option<Box<str>> {
    let usable = !written.trim().is_empty() && written.len() <= NAME_MAX && !written.chars().any(char::is_control);
    usable.then(|| written.into())
}

/// Returns a short string, or empty.
pub fn short(written: Option<String>) -> Box<str> {
    written.filter(|text| text.len() <= STRING_MAX && !text.chars().any(char::is_control)).unwrap_or_default().into()
}

/// Returns a JSON object or array as one line of text, or empty where it is absent, of another type, or too long.
pub fn text(raw: Option<&RawValue>, opening: char) -> Box<str> {
    let Some(raw) = raw.map(RawValue::get).filter(|raw| raw.len() <= TEXT_MAX && raw.starts_with(opening)) else {
        return "".into();
    };
    if !raw.contains(char::is_control) {
        return raw.into();
    }
    // Line breaks between members: written anew without them.
    serde_json::from_str::<serde_json::Value>(raw).map(|value| value.to_string()).unwrap_or_default().into()
}
