//! The users behind keys who are counted by themselves. Bounded for each key, because whoever has a key names its
//! users. Pure; time is handed in.

use crate::decision::moment::Moment;
use crate::decision::plan::limits::{Scope, UserScopes};
use std::collections::HashMap;
use std::sync::Arc;

/// Most users of one key that are counted by themselves; all others of that key share one scope.
pub const USERS_MAX: usize = 10_000;

/// How long a user must not have been served to make room for another, in nanoseconds. A day, so that a limit of so
/// much a day is whole by then.
pub const IDLE_NS: u64 = 86_400_000_000_000;

/// Nanoseconds between two searches for idle users of one key.
const SEARCH_EVERY_NS: u64 = 60_000_000_000;

/// The users of every key that has some.
#[derive(Debug, Default)]
pub struct Users {
    by_key: HashMap<Scope, OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    /// When each was last served, in nanoseconds (monotonic), and the user's name.
    served: HashMap<Scope, (u64, Arc<str>)>,
    searched_ns: u64,
}

impl Users {
    /// Returns the scope that a user is counted in: the user's own, if there is one or room for one.
    pub fn scope_of(&self, user: &UserScopes) -> Scope {
        match self.by_key.get(&user.key) {
            Some(of_key) if of_key.served.len() >= USERS_MAX && !of_key.served.contains_key(&user.scope) => user.shared,
            _ => user.scope,
        }
    }

    /// Returns the name of a user who is counted alone, as it would be kept with a request.
    pub fn name_of(&self, user: &UserScopes, name: &[u8]) -> Option<Arc<str>> {
        let known = || Some(self.by_key.get(&user.key)?.served.get(&user.scope)?.1.clone());
        let written = || String::from_utf8_lossy(name).into();
        (user.scope != user.shared).then(|| known().unwrap_or_else(written))
    }

    /// Takes note that a user's request was granted. Returns the user's name, to be kept with the request. Where there
    /// is no room, idle users are forgotten, and the next request gets a place.
    pub fn note(&mut self, user: &UserScopes, name: &[u8], now: Moment) -> Option<Arc<str>> {
        let written = || -> Arc<str> { String::from_utf8_lossy(name).into() };
        if user.scope == user.shared {
            return None;
        }
        let of_key = self.by_key.entry(user.key).or_default();
        if let Some((served_ns, name)) = of_key.served.get_mut(&user.scope) {
            *served_ns = now.mono_ns;
            return Some(name.clone());
        }
        let name = written();
        if of_key.served.len() < USERS_MAX {
            of_key.served.insert(user.scope, (now.mono_ns, name.clone()));
        } else if now.mono_ns >= of_key.searched_ns.saturating_add(SEARCH_EVERY_NS) {
            of_key.searched_ns = now.mono_ns;
            of_key.served.retain(|_, (served_ns, _)| now.mono_ns < served_ns.saturating_add(IDLE_NS));
        }
        Some(name)
    }

    /// Returns the number of a key's users that are counted by themselves.
    pub fn of_key(&self, key: Scope) -> usize {
        self.by_key.get(&key).map_or(0, |of_key| of_key.served.len())
    }

    /// Forgets the users of keys that are gone.
    pub fn retain_keys(&mut self, exists: impl Fn(Scope) -> bool) {
        self.by_key.retain(|key, _| exists(*key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(key: u128, number: u128) -> UserScopes {
        UserScopes { key: Scope(key), scope: Scope(1_000_000 + number), shared: Scope(key + 1) }
    }

    fn at(ns: u64) -> Moment {
        Moment { mono_ns: ns, unix_ms: 0 }
    }

    #[test]
    fn one_user_too_many_shares_until_another_was_idle_for_a_day() {
        let mut users = Users::default();
        for number in 0..USERS_MAX as u128 {
            users.note(&user(7, number), b"ann", at(IDLE_NS + number as u64));
        }
        let late = user(7, u128::MAX >> 1);
        let cases = [
            (user(7, 0), Scope(1_000_000), "the first keeps its own"),
            (late, Scope(8), "the next shares"),
            (user(9, 5), Scope(1_000_005), "another key has room"),
        ];
        for (user, scope, why) in cases {
            assert_eq!(users.scope_of(&user), scope, "{why}");
        }
        users.note(&late, b"ann", at(2 * IDLE_NS - 1));
        assert_eq!((users.of_key(Scope(7)), users.scope_of(&late)), (USERS_MAX, Scope(8)), "nobody was idle for a day");
        users.note(&late, b"ann", at(2 * IDLE_NS + 9 + SEARCH_EVERY_NS));
        assert_eq!(users.of_key(Scope(7)), 0);
        assert_eq!(users.scope_of(&late), late.scope);
        users.note(&late, b"ann", at(3 * IDLE_NS));
        assert_eq!(users.of_key(Scope(7)), 1);
        users.retain_keys(|key| key == Scope(9));
        assert_eq!(users.of_key(Scope(7)), 0);
    }

    #[test]
    fn those_without_a_name_take_no_place() {
        let mut users = Users::default();
        let nameless = UserScopes { scope: Scope(8), ..user(7, 0) };
        users.note(&nameless, b"", at(1));
        assert_eq!((users.of_key(Scope(7)), users.scope_of(&nameless)), (0, Scope(8)));
    }
}
