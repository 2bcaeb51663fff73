//! The last decisions, kept in memory so that `herdgate explain ID` can say why one came out as it did.
//!
//! What is kept is what the log would show: names, the path without its query, reasons and servers. No credential, no
//! body, no header. The ring is made once and written in place, so that a decision allocates nothing for it; a name that
//! is longer than its room is cut.

use crate::audit::path_of;
use crate::decision::authenticate::Identity;
use crate::decision::body::Text;
use crate::decision::inquiry::Inquiry;
use crate::decision::judge::Judged;
use crate::decision::moment::Moment;
use crate::decision::route::{Dialect, Endpoint};
use crate::decision::verdict::{Reason, Refusal, Standing, Verdict};
use crate::metrics::Port;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Decisions kept: a minute's worth at 68 a second, in 4 MB.
pub const HELD: usize = 4096;

/// The ring.
#[derive(Debug)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    held: Box<[Option<Past>]>,
    /// Where the next one goes, which is where the oldest stands.
    next: usize,
}

/// What a past decision came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Let through.
    Allow,
    /// Answered by herdgate.
    Answer,
    /// Refused.
    Refuse,
}

/// One decision, as it is remembered.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its id, whose 32 hex digits are `x-request-id`.
    pub id: u128,
    /// When it was taken.
    pub at: Moment,
    /// What asked.
    pub ingress: Port,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The method.
    pub method: Text<16>,
    /// The path, without query.
    pub path: Text<128>,
    /// The endpoint, once known.
    pub endpoint: Option<Endpoint>,
    /// How a refusal was written.
    pub dialect: Dialect,
    /// The caller's or the key's name; empty where neither was known.
    pub caller: Text<64>,
    /// The plan's name; empty where the caller was not known.
    pub plan: Text<64>,
    /// The team's name; empty without one.
    pub team: Text<64>,
    /// What it came to.
    pub end: End,
    /// Why, of a refusal.
    pub reason: Option<Reason>,
    /// Seconds after which a retry may succeed.
    pub retry_after_s: Option<u64>,
    /// Where the caller stood with the limit that refused it, or with its tightest.
    pub standing: Option<Standing>,
    /// The canonical model; where it was refused for its model, the name as the client wrote it.
    pub model: Text<256>,
    /// The chosen server; empty without one.
    pub server: Text<64>,
    /// The second choice; empty without one.
    pub server2: Text<64>,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::holding(HELD)
    }
}

impl Recent {
    /// A ring with room for so many decisions.
    pub fn holding(count: usize) -> Recent {
        Recent(Mutex::new(Ring { held: vec![None; count].into_boxed_slice(), next: 0 }))
    }

    /// Remembers a decision in place of the oldest.
    pub fn note(&self, past: Past) {
        let mut ring = self.lock();
        let at = ring.next;
        if let Some(slot) = ring.held.get_mut(at) {
            *slot = Some(past);
            ring.next = if at + 1 == ring.held.len() { 0 } else { at + 1 };
        }
    }

    /// The decision of this id (32 hex digits), if it is still remembered.
    pub fn find(&self, id: &str) -> Option<Past> {
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok()?;
        self.lock().held.iter().flatten().find(|past| past.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Writing a slot cannot panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// What is worth remembering of a decision.
    pub fn new(
        id: u128,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        judged: &Judged<'_>,
        verdict: &Verdict<'_>,
        now: Moment,
    ) -> Past {
        let caller = judged.caller.map(|caller| caller.name).or(judged.key.map(|key| &*key.name));
        let team = judged.caller.and_then(|caller| match caller.identity {
            Identity::Key { team, .. } => team.map(|(team, _)| &*team.name),
            _ => None,
        });
        let mut past = Past {
            source: inquiry.source,
            method: text(inquiry.method),
            path: text(path_of(inquiry.target)),
            endpoint: judged.endpoint,
            dialect: judged.dialect,
            caller: Text::of(caller.unwrap_or_default()),
            plan: Text::of(judged.caller.map_or("", |caller| &caller.plan.name)),
            team: Text::of(team.unwrap_or_default()),
            ..Past::empty(id, ingress, now)
        };
        match verdict {
            Verdict::Allow(grant) => {
                past.end = End::Allow;
                past.standing = grant.requests;
                past.model = Text::of(grant.pool.map_or("", |pool| pool.name.as_str()));
                past.server = Text::of(&grant.server.name);
                past.server2 = Text::of(grant.server2.map_or("", |server| &server.name));
            }
            Verdict::Answer(answer) => {
                past.end = End::Answer;
                past.model = Text::of(answer.pool.map_or("", |pool| pool.name.as_str()));
            }
            Verdict::Refuse(refusal) => past.refuse(refusal),
        }
        past
    }

    /// A question that could not be put.
    pub fn malformed(id: u128, ingress: Port, refusal: &Refusal, now: Moment) -> Past {
        let mut past = Past::empty(id, ingress, now);
        past.refuse(refusal);
        past
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.end = End::Refuse;
        self.reason = Some(refusal.reason.clone());
        self.retry_after_s = refusal.retry_after_s;
        self.standing = refusal.standing;
        self.model = Text::of(refusal.model.as_deref().unwrap_or_default());
    }

    fn empty(id: u128, ingress: Port, at: Moment) -> Past {
        Past {
            id,
            at,
            ingress,
            source: None,
            method: Text::default(),
            path: Text::default(),
            endpoint: None,
            dialect: Dialect::OpenAi,
            caller: Text::default(),
            plan: Text::default(),
            team: Text::default(),
            end: End::Refuse,
            reason: None,
            retry_after_s: None,
            standing: None,
            model: Text::default(),
            server: Text::default(),
            server2: Text::default(),
        }
    }
}

/// A client's bytes, up to the first that is no text.
fn text<const N: usize>(bytes: &[u8]) -> Text<N> {
    // A character has at most four bytes: past N and three more nothing of the rest is kept.
    let bytes = bytes.get(..N + 3).unwrap_or(bytes);
    let whole = match std::str::from_utf8(bytes) {
        Ok(whole) => whole,
        Err(fault) => bytes.get(..fault.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok()).unwrap_or(""),
    };
    Text::of(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(id: u128) -> Past {
        Past::malformed(id, Port::Spop, &Refusal::new(Reason::MalformedInquiry), Moment::default())
    }

    #[test]
    fn the_last_are_found_and_those_before_are_not() {
        let recent = Recent::holding(4);
        (1..=6).for_each(|id| recent.note(past(id)));
        let found = |id: u128| recent.find(&format!("{id:032x}")).map(|past| past.id);
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(found), [None, None, Some(3), Some(4), Some(5), Some(6), None]);
        for id in ["", "6", "+0000000000000000000000000000006", "zz"] {
            assert!(recent.find(id).is_none(), "{id}");
        }
        let none = Recent::holding(0);
        none.note(past(1));
        assert!(none.find(&format!("{:032x}", 1)).is_none());
    }

    #[test]
    fn a_clients_bytes_are_kept_as_far_as_they_are_text() {
        for (bytes, expected) in [
            (&b"/api/chat"[..], "/api/chat"),
            (b"/a\xffb", "/a"),
            ("/0123456789abcd\u{e9}x".as_bytes(), "/0123456789abcd"),
            (b"", ""),
        ] {
            assert_eq!(text::<16>(bytes).as_str(), expected);
        }
    }
}
