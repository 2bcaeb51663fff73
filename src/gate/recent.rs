//! The last decisions, kept in memory so that `herdgate explain ID` can say why a request was allowed or refused.
//!
//! Each entry has what the log would show: names, the path without its query, reason and servers; no credential, body or
//! header. The ring is allocated once and written in place, so that a decision allocates nothing for it. A name that is longer
//! than its field is cut.

use crate::decision::caller::authenticate::Caller;
use crate::decision::inquiry::Inquiry;
use crate::decision::judge::JudgedInquiry;
use crate::decision::moment::Moment;
use crate::decision::reason::Reason;
use crate::decision::request::body::Text;
use crate::decision::request::endpoint::{Dialect, Endpoint};
use crate::decision::verdict::{LimitStanding, Refusal, Verdict};
use crate::gate::audit::path_of;
use crate::metrics::Port;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most decisions kept: a minute's worth at 68 a second, in 4 MB.
pub const HELD: usize = 4096;

/// A ring of past decisions.
#[derive(Debug)]
pub struct Recent(Mutex<RecentRing>);

#[derive(Debug)]
struct RecentRing {
    /// Entries; those without an id are empty.
    held: Box<[Past]>,
    /// Position of the oldest entry, which the next decision replaces.
    next: usize,
}

/// Outcome of a past decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PastOutcome {
    /// The request was allowed.
    Allow,
    /// herdgate answered it.
    Answer,
    /// The request was refused.
    Refuse,
}

/// A past decision.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its id, whose 32 hex digits are `x-request-id`.
    pub id: u128,
    /// When it was decided.
    pub at: Moment,
    /// The port that it came in on.
    pub ingress: Port,
    /// The client's address.
    pub source: Option<IpAddr>,
    /// The method.
    pub method: Text<16>,
    /// The path, without query.
    pub path: Text<128>,
    /// The endpoint, where it was found.
    pub endpoint: Option<Endpoint>,
    /// The dialect that a refusal was written in.
    pub dialect: Dialect,
    /// The caller's or the key's name; empty where neither is known.
    pub caller: Text<64>,
    /// The plan's name; empty where the caller is not known.
    pub plan: Text<64>,
    /// The temporary plan, whose limits applied instead; empty where there was none.
    pub raised: Text<64>,
    /// The team's name; empty without one.
    pub team: Text<64>,
    /// Its outcome.
    pub end: PastOutcome,
    /// The reason of a refusal.
    pub reason: Option<Reason>,
    /// Seconds after which a retry may succeed.
    pub retry_after_s: Option<u64>,
    /// Where the caller stood with the limit that refused it, or with its tightest.
    pub standing: Option<LimitStanding>,
    /// The canonical model; where the request was refused for its model, the name as the client wrote it.
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
    /// Returns a ring of `count` decisions.
    pub fn holding(count: usize) -> Recent {
        Recent(Mutex::new(RecentRing { held: vec![Past::default(); count].into_boxed_slice(), next: 0 }))
    }

    /// Replaces the oldest decision by the one that `write` writes.
    pub fn note(&self, write: impl FnOnce(&mut Past)) {
        let mut ring = self.lock();
        let at = ring.next;
        if let Some(slot) = ring.held.get_mut(at) {
            write(slot);
            ring.next = if at + 1 == ring.held.len() { 0 } else { at + 1 };
        }
    }

    /// Changes a decision, if it is still remembered.
    pub fn amend(&self, id: u128, change: impl FnOnce(&mut Past)) {
        if let Some(past) = self.lock().held.iter_mut().find(|past| past.id == id) {
            change(past);
        }
    }

    /// Returns the decision with this id (32 hex digits), if it is still remembered.
    pub fn find(&self, id: &str) -> Option<Past> {
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
        self.lock().held.iter().find(|past| past.id == id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, RecentRing> {
        // Writing a slot cannot panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Past {
    /// Replaces this entry by a decision.
    pub fn write(
        &mut self,
        id: u128,
        inquiry: &Inquiry<'_>,
        ingress: Port,
        judged: &JudgedInquiry<'_>,
        verdict: &Verdict<'_>,
        now: Moment,
    ) {
        self.clear(id, ingress, now);
        let caller = judged.caller.map(|caller| caller.name).or(judged.key.map(|key| &*key.name));
        let team = judged.caller.as_ref().and_then(Caller::team).map(|team| &*team.name);
        self.source = inquiry.source;
        self.method.set(text::<16>(inquiry.method));
        self.path.set(text::<128>(path_of(inquiry.target)));
        self.endpoint = judged.endpoint;
        self.dialect = judged.dialect;
        self.caller.set(caller.unwrap_or_default());
        self.plan.set(judged.caller.map_or("", |caller| &caller.plan.name));
        let raised = judged.caller.as_ref().and_then(Caller::raised).map(|plan| &*plan.name);
        self.raised.set(raised.unwrap_or_default());
        self.team.set(team.unwrap_or_default());
        match verdict {
            Verdict::Allow(grant) => {
                self.end = PastOutcome::Allow;
                self.standing = grant.requests;
                self.model.set(grant.pool.map_or("", |pool| pool.name.as_str()));
                self.server.set(&grant.server.name);
                self.server2.set(grant.server2.map_or("", |server| &server.name));
            }
            Verdict::Answer(answer) => {
                self.end = PastOutcome::Answer;
                self.model.set(answer.pool.map_or("", |pool| pool.name.as_str()));
            }
            Verdict::Refuse(refusal) => self.refuse(refusal),
        }
    }

    /// Replaces this entry by the refusal of a question that lacked what every inquiry must carry.
    pub fn write_malformed(&mut self, id: u128, ingress: Port, refusal: &Refusal, now: Moment) {
        self.clear(id, ingress, now);
        self.refuse(refusal);
    }

    /// Records that the request was allowed after waiting, and its servers.
    pub fn served_by(&mut self, server: &str, server2: Option<&str>) {
        (self.end, self.reason, self.retry_after_s) = (PastOutcome::Allow, None, None);
        self.server.set(server);
        self.server2.set(server2.unwrap_or_default());
    }

    /// Records that the request was refused.
    pub fn refuse(&mut self, refusal: &Refusal) {
        self.end = PastOutcome::Refuse;
        self.reason = Some(refusal.reason.clone());
        self.retry_after_s = refusal.retry_after_s;
        self.standing = refusal.standing;
        self.model.set(refusal.model.as_deref().unwrap_or_default());
    }

    /// Erases the decision that this entry had, so that nothing of it shows in the next.
    fn clear(&mut self, id: u128, ingress: Port, at: Moment) {
        (self.id, self.ingress, self.at) = (id, ingress, at);
        (self.source, self.endpoint, self.dialect) = (None, None, Dialect::OpenAi);
        (self.end, self.reason, self.retry_after_s, self.standing) = (PastOutcome::Refuse, None, None, None);
        self.method.set("");
        self.path.set("");
        for name in [&mut self.caller, &mut self.plan, &mut self.raised, &mut self.team] {
            name.set("");
        }
        self.server.set("");
        self.server2.set("");
        self.model.set("");
    }
}

impl Default for Past {
    fn default() -> Past {
        Past {
            id: 0,
            at: Moment::default(),
            ingress: Port::Spop,
            source: None,
            method: Text::default(),
            path: Text::default(),
            endpoint: None,
            dialect: Dialect::OpenAi,
            caller: Text::default(),
            plan: Text::default(),
            raised: Text::default(),
            team: Text::default(),
            end: PastOutcome::Refuse,
            reason: None,
            retry_after_s: None,
            standing: None,
            model: Text::default(),
            server: Text::default(),
            server2: Text::default(),
        }
    }
}

/// Returns a client's bytes up to the first that is not UTF-8, and hardly more of them than `N`.
fn text<const N: usize>(bytes: &[u8]) -> &str {
    // A character has at most four bytes: past N and three more nothing of the rest is kept.
    let bytes = bytes.get(..N + 3).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(whole) => whole,
        Err(fault) => bytes.get(..fault.valid_up_to()).and_then(|good| std::str::from_utf8(good).ok()).unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(recent: &Recent, id: u128) {
        let refusal = Refusal::new(Reason::MalformedInquiry);
        recent.note(|past| past.write_malformed(id, Port::Spop, &refusal, Moment::default()));
    }

    #[test]
    fn the_last_are_found_and_those_before_are_not() {
        let recent = Recent::holding(4);
        (1..=6).for_each(|id| note(&recent, id));
        let found = |id: u128| recent.find(&format!("{id:032x}")).map(|past| past.id);
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(found), [None, None, Some(3), Some(4), Some(5), Some(6), None]);
        for id in ["", "6", "00000000000000000000000000000000", "+0000000000000000000000000000006", "zz"] {
            assert!(recent.find(id).is_none(), "{id}");
        }
        let none = Recent::holding(0);
        note(&none, 1);
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
            assert_eq!(Text::<16>::of(text::<16>(bytes)).as_str(), expected);
        }
    }

    #[test]
    fn nothing_of_the_one_before_is_left() {
        let mut past = Past { reason: Some(Reason::Blocked), retry_after_s: Some(1), ..Past::default() };
        past.method.set("POST");
        past.path.set("/api/chat");
        for name in [&mut past.caller, &mut past.plan, &mut past.raised, &mut past.team] {
            name.set("name");
        }
        past.server.set("name");
        past.server2.set("name");
        past.model.set("m:1");
        past.clear(7, Port::Http, Moment::default());
        let expected = Past { id: 7, ingress: Port::Http, ..Past::default() };
        assert_eq!(format!("{past:?}"), format!("{expected:?}"));
    }
}
