//! The names of keys in the store. One hash tag, so that in a cluster all are in one place and a script may use several.

use crate::decision::plan::limits::Scope;
use crate::ledger::reservation::ProxyUid;

/// The key of all reservations, by when they expire.
pub const EXPIRY: &str = "{herdgate}:e";

/// What each herdgate has in flight.
pub const IN_FLIGHT: &str = "{herdgate}:l";

/// The key that is written to find out whether the store takes writes.
pub const BEAT: &str = "{herdgate}:b";

/// Returns the key of a decision's reservation.
pub fn reservation(id: u128) -> String {
    format!("{{herdgate}}:q:{id:032x}")
}

/// Returns the key under which a proxy's own identifier leads to its decision.
pub fn uid(uid: ProxyUid) -> String {
    format!("{{herdgate}}:u:{:016x}", uid.get())
}

/// Returns the key of a holder's books.
pub fn books(scope: Scope) -> String {
    format!("{{herdgate}}:a:{:032x}", scope.0)
}

/// Returns the key of a holder's open requests.
pub fn open(scope: Scope) -> String {
    format!("{{herdgate}}:o:{:032x}", scope.0)
}

/// Returns the list of one herdgate's decisions that others have settled.
pub fn notices(replica: u64) -> String {
    format!("{{herdgate}}:n:{replica:016x}")
}

/// Returns the list of usage lines that belong to one herdgate, that others received and that the store does not know.
pub fn lines(replica: u64) -> String {
    format!("{{herdgate}}:f:{replica:016x}")
}

/// Returns an id as it is written in the store.
pub fn id(id: u128) -> String {
    format!("{id:032x}")
}

/// Reads an id as the store has it; `None` where it is none.
pub fn read_id(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}
