//! The names of keys in the store. One hash tag, so that in a cluster all are in one place and a script may use several.

use crate::decision::plan::limits::Scope;

/// All reservations by when they expire.
pub const EXPIRY: &str = "{herdgate}:e";

/// What each herdgate has on its way.
pub const ON_THEIR_WAY: &str = "{herdgate}:l";

/// Written to find out whether the store takes writes.
pub const BEAT: &str = "{herdgate}:b";

/// The reservation of a decision.
pub fn reservation(id: u128) -> String {
    format!("{{herdgate}}:q:{id:032x}")
}

/// The decision that a proxy knows by its own identifier, hashed.
pub fn uid(uid: u64) -> String {
    format!("{{herdgate}}:u:{uid:016x}")
}

/// The books of a holder.
pub fn books(scope: Scope) -> String {
    format!("{{herdgate}}:a:{:032x}", scope.0)
}

/// The open requests of a holder.
pub fn open(scope: Scope) -> String {
    format!("{{herdgate}}:o:{:032x}", scope.0)
}

/// The decisions of one herdgate that others have settled.
pub fn notices(replica: u64) -> String {
    format!("{{herdgate}}:n:{replica:016x}")
}

/// Usage lines of one herdgate's requests that others got and the store does not know.
pub fn lines(replica: u64) -> String {
    format!("{{herdgate}}:f:{replica:016x}")
}

/// An id as it is written in the store.
pub fn id(id: u128) -> String {
    format!("{id:032x}")
}

/// An id as it was written there.
pub fn read_id(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}
