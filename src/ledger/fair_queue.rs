//! Fair shares: how far each caller is ahead of what it may have of a busy server, so that one that floods waits behind
//! its own requests and nobody else's.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queuing", SIGCOMM 1996). Each request of a caller
//! starts where its last one ended, or at the server's virtual time if that is later, and ends one round later; the
//! server's virtual time is the latest start among what it has served. So a caller that has had little is always near
//! the front, and one that was idle has saved nothing up.
//!
//! HAProxy orders its queue by arrival and an offset in milliseconds, so virtual time is kept in milliseconds near real
//! time: how long a round counts is steered by how far the two are apart, slowly, because requests that wait are
//! ordered by the rounds of their arrival. The order is the same for any length of a round that all share. Pure:
//! integers and the moment handed in.

use crate::decision::fleet::roster::ServerKey;
use crate::decision::plan::limits::Scope;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Most callers remembered, over all servers. One more counts as having had nothing.
pub const MARKS_MAX: usize = 65_536;

/// Most servers remembered; past that all are forgotten, which a fleet of at most a thousand never meets.
const LINES_MAX: usize = 4096;

/// Entries past which those that say nothing any more are looked for; the number doubles while they all say something.
const SWEEP_FROM: usize = 1024;

/// The distance between virtual and real time that halves or doubles a round, in milliseconds.
const OCTAVE_MS: i64 = 32_768;

/// Most doublings or halvings. Virtual time thus stays within 262 s of real time, well inside HAProxy's 524 s.
const OCTAVES_MAX: i64 = 8;

/// The shortest and the longest round, in milliseconds.
const ROUND_MS: (u64, u64) = (1, 120_000);

/// How much of each server each caller has had.
#[derive(Debug)]
pub struct FairQueue {
    lines: HashMap<ServerKey, ServerQueue, RandomState>,
    marks: HashMap<(Scope, ServerKey), Mark, RandomState>,
    /// The virtual times at which requests in flight to busy servers start.
    starts: HashMap<u128, u64, RandomState>,
    sweep_at: usize,
}

/// The queue of one server.
#[derive(Debug, Clone, Copy, Default)]
struct ServerQueue {
    virtual_ms: u64,
    /// A number that changes whenever the server was found idle: marks of an earlier spell no longer count.
    spell: u32,
}

/// One caller at one server.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The earliest virtual time at which its next request starts.
    next_ms: u64,
    spell: u32,
}

/// Nobody has had anything.
impl Default for FairQueue {
    fn default() -> FairQueue {
        let (lines, marks) = (HashMap::default(), HashMap::default());
        FairQueue { lines, marks, starts: HashMap::default(), sweep_at: SWEEP_FROM }
    }
}

impl FairQueue {
    /// Takes note that a server is idle, or nearly: nobody waits there, and nobody has had too much. Returns where its
    /// requests start.
    pub fn idle(&mut self, server: ServerKey, now_ms: u64) -> u64 {
        let line = self.line(server, now_ms);
        *line = ServerQueue { virtual_ms: now_ms, spell: line.spell.wrapping_add(1) };
        now_ms
    }

    /// Queues a caller's request of this id at a busy server, where a round takes about `round_ms`. Returns where it
    /// starts, in virtual milliseconds.
    pub fn join(&mut self, caller: Scope, server: ServerKey, id: u128, round_ms: u64, now_ms: u64) -> u64 {
        let line = self.line(server, now_ms);
        // Where nothing was served for long, everybody begins nearer to the present.
        line.virtual_ms = line.virtual_ms.max(now_ms.saturating_sub((OCTAVES_MAX * OCTAVE_MS).unsigned_abs()));
        let line = *line;
        let start_ms = self.next_ms(caller, server).max(line.virtual_ms);
        let mark =
            Mark { next_ms: start_ms.saturating_add(steered(round_ms, line.virtual_ms, now_ms)), spell: line.spell };
        if self.starts.len() < MARKS_MAX {
            self.starts.insert(id, start_ms);
        }
        if let Some(known) = self.marks.get_mut(&(caller, server)) {
            *known = mark;
            return start_ms;
        }
        if self.marks.len() >= self.sweep_at {
            self.sweep();
        }
        if self.marks.len() < MARKS_MAX {
            self.marks.insert((caller, server), mark);
        }
        start_ms
    }

    /// Takes note that a server is serving or has served a request.
    pub fn served(&mut self, server: ServerKey, id: u128) {
        if let Some(start_ms) = self.left(id)
            && let Some(line) = self.lines.get_mut(&server)
        {
            line.virtual_ms = line.virtual_ms.max(start_ms);
        }
    }

    /// Forgets a request that has ended. One that leaves the queue unserved does not move virtual time. Returns where
    /// it started.
    pub fn left(&mut self, id: u128) -> Option<u64> {
        self.starts.remove(&id)
    }

    /// Returns how far a caller is ahead of its share of a server, in virtual milliseconds; 0 if it is not.
    pub fn ahead_ms(&self, caller: Scope, server: ServerKey) -> u64 {
        let virtual_ms = self.lines.get(&server).map_or(0, |line| line.virtual_ms);
        self.next_ms(caller, server).saturating_sub(virtual_ms)
    }

    /// Returns the number of marks kept, for tests.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Returns whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    fn next_ms(&self, caller: Scope, server: ServerKey) -> u64 {
        let spell = self.lines.get(&server).map_or(0, |line| line.spell);
        self.marks.get(&(caller, server)).filter(|mark| mark.spell == spell).map_or(0, |mark| mark.next_ms)
    }

    fn line(&mut self, server: ServerKey, now_ms: u64) -> &mut ServerQueue {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&server) {
            self.lines.clear();
            self.marks.clear();
        }
        self.lines.entry(server).or_insert(ServerQueue { virtual_ms: now_ms, spell: 0 })
    }

    /// Forgets callers that are not ahead.
    fn sweep(&mut self) {
        let lines = &self.lines;
        self.marks.retain(|(_, server), mark| {
            lines.get(server).is_some_and(|line| line.spell == mark.spell && line.virtual_ms < mark.next_ms)
        });
        self.sweep_at = (self.marks.len() * 2).clamp(SWEEP_FROM, MARKS_MAX);
    }
}

/// Returns the length of a round: shorter the further virtual time is ahead of real time, and longer the further it is
/// behind, by 2 to the power of the distance in octaves, between whole powers in a straight line.
fn steered(round_ms: u64, virtual_ms: u64, now_ms: u64) -> u64 {
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let behind = signed(now_ms).saturating_sub(signed(virtual_ms));
    let behind = behind.clamp(-OCTAVES_MAX * OCTAVE_MS, OCTAVES_MAX * OCTAVE_MS);
    let (octaves, rest) = (behind.div_euclid(OCTAVE_MS), behind.rem_euclid(OCTAVE_MS));
    let round = round_ms.clamp(ROUND_MS.0, ROUND_MS.1);
    let part = round.saturating_mul(u64::try_from(rest).unwrap_or(0)) / OCTAVE_MS.unsigned_abs();
    let round = round.saturating_add(part);
    let by = u32::try_from(octaves.unsigned_abs()).unwrap_or(0);
    if octaves < 0 { round >> by } else { round << by }.clamp(ROUND_MS.0, ROUND_MS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_steered_towards_real_time() {
        const O: u64 = OCTAVE_MS as u64;
        let at = 100 * O;
        let cases = [
            (100, at, at, 100),
            (100, at, at + O, 200),
            (100, at + O, at, 50),
            (100, at, at + O / 2, 150),
            (100, at + O / 2, at, 75),
            (100, at, at + 90 * O, 25_600),
            (100, at + 90 * O, at, 1),
            (0, at, at, 1),
            (u64::MAX, at, at + 9 * O, 120_000),
        ];
        for (round, virtual_ms, now_ms, expected) in cases {
            assert_eq!(steered(round, virtual_ms, now_ms), expected, "{round} of {virtual_ms} at {now_ms}");
        }
    }

    #[test]
    fn whoever_has_had_more_starts_later_and_idleness_saves_nothing_up() {
        let (ann, bob) = (Scope(1), Scope(2));
        let (gpu1, gpu2) = (ServerKey::of("gpu1"), ServerKey::of("gpu2"));
        let mut shares = FairQueue::default();
        assert_eq!(shares.idle(gpu1, 1_000), 1_000);
        let flood: Vec<u64> = (0..4).map(|id| shares.join(ann, gpu1, id, 100, 1_000)).collect();
        assert_eq!(flood, [1_000, 1_100, 1_200, 1_300]);
        assert_eq!(shares.join(bob, gpu1, 4, 100, 1_000), 1_000, "bob has had nothing");
        assert_eq!((shares.ahead_ms(ann, gpu1), shares.ahead_ms(bob, gpu1), shares.ahead_ms(bob, gpu2)), (400, 100, 0));
        shares.left(3);
        shares.served(gpu1, 3);
        assert_eq!(shares.ahead_ms(ann, gpu1), 400, "whoever leaves the queue moves nobody");
        shares.served(gpu1, 2);
        assert_eq!(shares.join(bob, gpu1, 5, 100, 1_000), 1_200, "from the present on, not from where he was");
        assert_eq!(shares.idle(gpu1, 1_500), 1_500);
        assert_eq!((shares.ahead_ms(ann, gpu1), shares.join(ann, gpu1, 6, 100, 1_500)), (0, 1_500), "all is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgets_whoever_is_not_ahead() {
        let mut shares = FairQueue::default();
        let gpu1 = ServerKey::of("gpu1");
        shares.idle(gpu1, 1_000);
        let most = u128::try_from(MARKS_MAX).unwrap();
        for caller in 0..most + 500 {
            shares.join(Scope(caller), gpu1, caller, 100, 1_000);
        }
        assert_eq!((shares.len(), shares.starts.len()), (MARKS_MAX, MARKS_MAX));
        assert_eq!(
            shares.join(Scope(u128::MAX), gpu1, 9, 100, 1_000),
            1_000,
            "one too many counts as having had nothing"
        );
        (0..most).for_each(|id| shares.served(gpu1, id));
        shares.join(Scope(0), gpu1, 1, 100, 1_000);
        shares.served(gpu1, 1);
        shares.join(Scope(u128::MAX), gpu1, 2, 100, 1_000);
        assert!(shares.len() <= 2, "{}", shares.len());
    }
}
