//! The scripts, in Lua as the store runs it.

use redis::Script;

/// All scripts. Each is known to the store by its hash, and loaded where the store has forgotten it.
pub struct Scripts {
    /// Takes a claim.
    pub admit: Script,
    /// Charges what was used.
    pub settle: Script,
    /// Gives a claim back.
    pub release: Script,
    /// Finds what has expired.
    pub due: Script,
    /// Leaves a usage line for another.
    pub forward: Script,
    /// Tells and hears what is in flight.
    pub exchange: Script,
    /// Finds out whether the store takes writes.
    pub beat: Script,
}

impl Default for Scripts {
    fn default() -> Scripts {
        Scripts {
            admit: Script::new(concat!(include_str!("lua/books.lua"), include_str!("lua/admit.lua"))),
            settle: Script::new(concat!(include_str!("lua/books.lua"), include_str!("lua/settle.lua"))),
            release: Script::new(concat!(include_str!("lua/books.lua"), include_str!("lua/release.lua"))),
            due: Script::new(include_str!("lua/due.lua")),
            forward: Script::new(include_str!("lua/forward.lua")),
            exchange: Script::new(include_str!("lua/exchange.lua")),
            beat: Script::new(include_str!("lua/beat.lua")),
        }
    }
}
