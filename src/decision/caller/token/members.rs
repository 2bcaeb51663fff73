//! A JSON object in which no member occurs twice: parsers differ on which of two counts, so such an object is refused.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Most members of one object.
const MEMBERS_MAX: usize = 256;

/// The members of an object, in order.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, Value)>);

impl Members {
    /// Returns the value of the member called exactly `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns whether there is a member called `name`, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(Unique)
    }
}

struct Unique;

impl<'de> Visitor<'de> for Unique {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key::<String>()? {
            if members.has(&name) || members.0.len() == MEMBERS_MAX {
                return Err(A::Error::custom("a member twice, or too many"));
            }
            let value = map.next_value()?;
            members.0.push((name, value));
        }
        Ok(members)
    }
}
