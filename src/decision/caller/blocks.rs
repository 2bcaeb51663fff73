//! Callers whom an operator blocks for a time (`herdgate block`). Blocks are kept in memory, are bounded in number, and
//! end by themselves.

use crate::decision::moment::Moment;
use crate::decision::plan::limits::Scope;
use std::collections::HashMap;

/// Most blocks at once.
pub const BLOCKS_MAX: usize = 10_000;

/// Longest block, in seconds: 30 days. A longer exclusion belongs in the key file.
pub const BLOCK_MAX_S: u64 = 30 * 86_400;

closed_enum! {
    /// The kind of caller that is blocked.
    #[derive(PartialOrd, Ord)]
    pub enum BlockKind {
        /// A key, with every secret under its name.
        Key = "key",
        /// A user on whose behalf keys ask, whatever the key.
        User = "user",
    }
}

impl BlockKind {
    /// What `name` is looked up by. Of users, the name is as [`super::on_behalf::UserName`] writes it.
    fn scope(self, name: &[u8]) -> Scope {
        match self {
            BlockKind::Key => Scope::of("key", name),
            BlockKind::User => Scope::of("blocked user", name),
        }
    }
}

/// A block of one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Whether a key or a user is blocked.
    pub kind: BlockKind,
    /// The name of the key or user.
    pub name: Box<str>,
    /// The end of the block. Decisions use its monotonic clock, people read its wall clock.
    pub until: Moment,
}

/// All blocks. Immutable: a change makes a new value.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    held: HashMap<Scope, Block>,
    users: usize,
}

impl Blocks {
    /// Returns whether the key with this scope is blocked.
    pub fn holds_key(&self, scope: Scope, now: Moment) -> bool {
        !self.held.is_empty() && self.holds(scope, now)
    }

    /// Returns whether the user of this name is blocked.
    pub fn holds_user(&self, name: &[u8], now: Moment) -> bool {
        self.users > 0 && self.holds(BlockKind::User.scope(name), now)
    }

    fn holds(&self, scope: Scope, now: Moment) -> bool {
        self.held.get(&scope).is_some_and(|block| now.mono_ns < block.until.mono_ns)
    }

    /// Returns these blocks with one more, or with another end for a block that exists. `None` if there would be more
    /// than [`BLOCKS_MAX`].
    pub fn with(&self, block: Block, now: Moment) -> Option<Blocks> {
        let mut next = self.live(now);
        let scope = block.kind.scope(block.name.as_bytes());
        if next.held.len() >= BLOCKS_MAX && !next.held.contains_key(&scope) {
            return None;
        }
        next.held.insert(scope, block);
        Some(next.counted())
    }

    /// Returns these blocks without one. `None` if there is no such block.
    pub fn without(&self, kind: BlockKind, name: &str, now: Moment) -> Option<Blocks> {
        let mut next = self.live(now);
        next.held.remove(&kind.scope(name.as_bytes()))?;
        Some(next.counted())
    }

    /// Returns the blocks that have not ended, the next to end first.
    pub fn list(&self, now: Moment) -> Vec<&Block> {
        let mut live: Vec<&Block> = self.held.values().filter(|block| now.mono_ns < block.until.mono_ns).collect();
        live.sort_by_key(|block| (block.until.mono_ns, block.kind, block.name.clone()));
        live
    }

    fn live(&self, now: Moment) -> Blocks {
        let held = self.held.iter().filter(|(_, block)| now.mono_ns < block.until.mono_ns);
        Blocks { held: held.map(|(scope, block)| (*scope, block.clone())).collect(), users: 0 }
    }

    fn counted(mut self) -> Blocks {
        self.users = self.held.values().filter(|block| block.kind == BlockKind::User).count();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn at(s: u64) -> Moment {
        Moment { mono_ns: s * S, unix_ms: 0 }
    }

    fn block(kind: BlockKind, name: &str, until_s: u64) -> Block {
        Block { kind, name: name.into(), until: at(until_s) }
    }

    #[test]
    fn a_block_holds_until_its_end_and_no_other_of_its_name() {
        let blocks = Blocks::default().with(block(BlockKind::Key, "ann", 10), at(0)).unwrap();
        let blocks = blocks.with(block(BlockKind::User, "ann@x", 20), at(0)).unwrap();
        let cases =
            [("ann", "ann@x", 9, true, true), ("ann", "ann@x", 10, false, true), ("ann@x", "ann", 0, false, false)];
        for (key, user, s, key_held, user_held) in cases {
            assert_eq!(blocks.holds_key(Scope::of("key", key.as_bytes()), at(s)), key_held, "{key} {s}");
            assert_eq!(blocks.holds_user(user.as_bytes(), at(s)), user_held, "{user} {s}");
        }
        assert!(!blocks.holds_user(b"ann@x", at(20)));
        assert_eq!(blocks.list(at(0)).len(), 2);
        assert_eq!(blocks.list(at(10)).len(), 1);
        assert!(blocks.without(BlockKind::Key, "ann", at(10)).is_none(), "over by itself");
        assert!(!blocks.without(BlockKind::User, "ann@x", at(10)).unwrap().holds_user(b"ann@x", at(10)));
        assert!(blocks.without(BlockKind::Key, "bob", at(0)).is_none());
    }

    #[test]
    fn blocks_are_bounded_and_those_that_are_over_make_room() {
        let held = (0..BLOCKS_MAX).map(|i| (Scope(i as u128), block(BlockKind::Key, "k", 10))).collect();
        let full = Blocks { held, users: 0 };
        assert!(full.with(block(BlockKind::Key, "ann", 10), at(9)).is_none());
        assert_eq!(full.with(block(BlockKind::Key, "ann", 99), at(10)).unwrap().list(at(10)).len(), 1);
    }
}
