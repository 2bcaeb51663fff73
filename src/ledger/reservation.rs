//! What one request has reserved, and what is known of it until it ends. Pure data.

use super::calendar::Day;
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use crate::decision::plan::limits::Scope;
pub use crate::decision::plan::limits::{Cost, RequestShape, Scopes, Tokens};
use crate::decision::request::endpoint::Endpoint;
use crate::decision::request::name::ModelName;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::sync::Arc;

/// The identifier that a proxy gave a request, hashed. Never 0, which stands for none where a reservation is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyUid(NonZeroU64);

impl ProxyUid {
    /// Returns the identifier of this hash; `None` for 0.
    pub fn new(hash: u64) -> Option<ProxyUid> {
        NonZeroU64::new(hash).map(ProxyUid)
    }

    /// Returns the hash.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// The tokens and the slot that are reserved for one request from its grant until it is settled, released or expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The decision's id.
    pub id: u128,
    /// The proxy's own identifier of the request; absent where it sent none.
    #[serde(with = "stored_uid")]
    pub uid: Option<ProxyUid>,
    /// The scopes it is counted in.
    pub scopes: Scopes,
    /// The key's name, the issuer, or `anonymous`.
    pub caller: CallerName,
    /// The user behind the caller, by name; absent where there is none.
    pub user: Option<Arc<str>>,
    /// The team, by name.
    pub team: Option<Arc<str>>,
    /// The model; absent where the body is hidden.
    pub model: Option<ModelName>,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the answer streams.
    pub stream: bool,
    /// The server it was sent to; absent while it waits for one.
    #[serde(with = "stored_server")]
    pub server: Option<ServerKey>,
    /// Its pool; absent where the body is hidden.
    #[serde(with = "stored_pool")]
    pub pool: Option<PoolKey>,
    /// When it was granted, in nanoseconds (monotonic, of the process that granted it).
    pub opened_ns: u64,
    /// When it was granted, in milliseconds since 1970.
    pub opened_unix_ms: i64,
    /// Tokens reserved.
    #[serde(flatten)]
    pub tokens: Tokens,
    /// The weights of its tokens.
    pub cost: Cost,
    /// The form in which it was asked, as far as that decides what is in the bytes of its answer.
    #[serde(default)]
    pub written: RequestShape,
}

impl Reservation {
    /// Returns the amount reserved, in thousandths of a token.
    pub fn reserved(&self) -> u64 {
        self.cost.of(self.tokens)
    }

    /// Returns the scope whose turn it takes in queues: the caller's own.
    pub fn holder(&self) -> Scope {
        self.scopes.iter().next().unwrap_or(Scope(0))
    }
}

closed_enum! {
    /// How the tokens that a request used are known, the better the later. The positions are stored: a word is added at
    /// the end, or not at all.
    #[derive(PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Evidence {
        /// They are not known, because no line came. The reservation is charged.
        Reserved = "reserved",
        /// They are estimated from bytes, or from the time that the request took.
        Estimated = "estimated",
        /// The stream's units were counted.
        Counted = "counted",
        /// The server reported them, or the request never reached one.
        Exact = "exact",
    }
}

/// What a request used and is charged: one row of the ledger. A second one with the same id replaces the first where
/// its evidence is better, and changes nothing otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The reservation it had.
    pub reservation: Reservation,
    /// When it was settled, in milliseconds since 1970: the moment that decides in which day's budget it counts.
    pub settled_unix_ms: i64,
    /// The day of that moment.
    pub day: Day,
    /// The server that was really used, by name; empty where none was.
    pub server: Box<str>,
    /// The answer's status; absent where the client left before.
    pub status: Option<u16>,
    /// Milliseconds that the request took; absent where no line said so.
    pub ms: Option<u64>,
    /// How the tokens are known.
    pub evidence: Evidence,
    /// Tokens charged.
    #[serde(flatten)]
    pub tokens: Tokens,
}

impl Record {
    /// Returns the charge, in thousandths of a token.
    pub fn charge(&self) -> u64 {
        self.reservation.cost.of(self.tokens)
    }
}

/// How an identifier of a proxy is stored: 0 for none.
mod stored_uid {
    use super::ProxyUid;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(uid: &Option<ProxyUid>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(uid.map_or(0, ProxyUid::get))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ProxyUid>, D::Error> {
        u64::deserialize(from).map(ProxyUid::new)
    }
}

/// How a server is stored: `u64::MAX` for none.
mod stored_server {
    use crate::decision::fleet::roster::ServerKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(server: &Option<ServerKey>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(server.map_or(u64::MAX, ServerKey::get))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ServerKey>, D::Error> {
        u64::deserialize(from).map(ServerKey::new)
    }
}

/// How a pool is stored: 0 for none.
mod stored_pool {
    use crate::decision::fleet::roster::PoolKey;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(pool: &Option<PoolKey>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(pool.map_or(0, PoolKey::get))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PoolKey>, D::Error> {
        u64::deserialize(from).map(PoolKey::new)
    }
}

/// Longest name of a caller that is kept, in bytes: a key's name is at most 64 characters of ASCII.
const NAME_MAX: usize = 64;

/// A caller's name, kept in place because each grant has one: cut to `NAME_MAX` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CallerName {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl CallerName {
    /// Returns this name, cut at a character's boundary.
    pub fn new(name: &str) -> CallerName {
        let len = (0..=name.len().min(NAME_MAX)).rev().find(|len| name.is_char_boundary(*len)).unwrap_or(0);
        let mut bytes = [0; NAME_MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        CallerName { bytes, len: len as u8 }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl std::fmt::Debug for CallerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Serialize for CallerName {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CallerName {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<CallerName, D::Error> {
        Ok(CallerName::new(&std::borrow::Cow::<'de, str>::deserialize(from)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may fail
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_between_characters() {
        for (name, kept) in
            [("", 0), ("ann", 3), (&"a".repeat(70), 64), (&"é".repeat(40), 64), (&format!("a{}", "é".repeat(40)), 63)]
        {
            assert_eq!(CallerName::new(name).as_str(), &name[..kept]);
        }
    }

    #[test]
    fn costs_are_thousandths_and_saturate() {
        let dear = Cost { input_milli: 500, output_milli: 3000 };
        let (few, most) = (Tokens { prompt: 7, output: 5 }, Tokens { prompt: u64::MAX, output: u64::MAX });
        assert_eq!((Cost::default().of(few), dear.of(few), dear.of(most)), (12_000, 18_500, u64::MAX));
    }

    /// A reservation of a request that gave no identifier, hid its body and waits: all that may be absent is.
    fn bare() -> Reservation {
        Reservation {
            id: u128::MAX,
            uid: None,
            scopes: Scopes::one(Scope(7)),
            caller: CallerName::new("ann"),
            user: None,
            team: None,
            model: None,
            endpoint: Endpoint::Chat,
            stream: true,
            server: None,
            pool: None,
            opened_ns: 5,
            opened_unix_ms: -6,
            tokens: Tokens { prompt: 8, output: 9 },
            cost: Cost::default(),
            written: RequestShape::default(),
        }
    }

    #[test]
    fn a_reservation_is_stored_as_earlier_versions_stored_it() {
        let full = Reservation {
            uid: ProxyUid::new(11),
            user: Some("zoe".into()),
            team: Some("red".into()),
            model: Some(ModelName::canonical("m")),
            server: ServerKey::new(12),
            pool: PoolKey::new(13),
            ..bare()
        };
        let full_text = r#"{"id":340282366920938463463374607431768211455,"uid":11,"scopes":[7,null,null,null,null,null],"caller":"ann","user":"zoe","team":"red","model":"m:latest","endpoint":"chat","stream":true,"server":12,"pool":13,"opened_ns":5,"opened_unix_ms":-6,"tokens_in":8,"tokens_out":9,"cost":{"input_milli":1000,"output_milli":1000},"written":{"prompt_bytes":0,"images":0,"name":0,"usage":false,"raw":false,"openai":false}}"#;
        let bare_text = r#"{"id":340282366920938463463374607431768211455,"uid":0,"scopes":[7,null,null,null,null,null],"caller":"ann","user":null,"team":null,"model":null,"endpoint":"chat","stream":true,"server":18446744073709551615,"pool":0,"opened_ns":5,"opened_unix_ms":-6,"tokens_in":8,"tokens_out":9,"cost":{"input_milli":1000,"output_milli":1000},"written":{"prompt_bytes":0,"images":0,"name":0,"usage":false,"raw":false,"openai":false}}"#;
        for (reservation, text) in [(full, full_text), (bare(), bare_text)] {
            assert_eq!(serde_json::to_string(&reservation).unwrap(), text);
            assert_eq!(serde_json::from_str::<Reservation>(text).unwrap(), reservation);
            // The oldest rows say nothing of how a request was written.
            let (oldest, _) = text.split_once(",\"written\"").unwrap();
            assert_eq!(serde_json::from_str::<Reservation>(&format!("{oldest}}}")).unwrap(), reservation);
        }
    }

    #[test]
    fn a_record_is_written_as_earlier_versions_wrote_it() {
        let record = Record {
            reservation: bare(),
            settled_unix_ms: 1,
            day: Day(2),
            server: "gpu1".into(),
            status: Some(200),
            ms: None,
            evidence: Evidence::Counted,
            tokens: Tokens { prompt: 3, output: 4 },
        };
        let text = serde_json::to_string(&record).unwrap();
        let end = r#""settled_unix_ms":1,"day":2,"server":"gpu1","status":200,"ms":null,"evidence":"counted","tokens_in":3,"tokens_out":4}"#;
        assert!(text.ends_with(end), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
