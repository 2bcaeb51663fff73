//! Step 6: chooses a server of the pool, and a second one. Pure: the caller supplies the turn and the requests in
//! flight.

use crate::decision::fleet::Preference;
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use crate::decision::judge::Claim;
use crate::decision::plan::priority::QueuePlace;
use crate::decision::plan::server::{Server, ServerIndex};
use crate::decision::reason::Reason;
use crate::decision::verdict::{Grant, Refusal};
use crate::decision::view::View;

/// The load of the servers, as the ledger counts it. herdgate's own dispatches count at once, so a burst spreads.
pub trait Load {
    /// Returns the requests in flight at a server for one pool (both given by their keys).
    fn in_flight(&self, server: ServerKey, pool: Option<PoolKey>) -> u32;

    /// Returns the requests in flight at a server, whatever their model.
    fn in_flight_in_all(&self, server: ServerKey) -> u32;
}

/// A grant, and the key of its server's slots.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'v> {
    /// The grant.
    pub grant: Grant<'v>,
    /// The key of the server.
    pub server_key: ServerKey,
    /// Most requests in flight that the server takes at once.
    pub capacity: u32,
}

/// Chooses the server with the fewest requests in flight for each of its slots; of equals, the one whose turn it is in
/// the pool's rotation. The runner-up is the second choice.
///
/// A server on which real requests failed comes after all others, except for one request at a time once its cooldown is
/// over (`breaker`). So a server that fails at once, and therefore has nothing in flight, attracts nothing.
///
/// Slots guide the choice and never refuse: a full pool is a matter for the proxy's queue.
///
/// # Errors
/// [`Reason::NoServer`] if no live server has the model; the reservation must then be released.
pub fn choose<'v>(view: &'v View, claim: &Claim<'v>, turn: u64, load: &impl Load) -> Result<Choice<'v>, Refusal> {
    let rotation: &'v [ServerIndex] = match claim.pool {
        Some(pool) => &pool.rotation,
        None => &view.roster.everywhere,
    };
    let none = || Refusal {
        retry_after_s: Some(view.policy.recheck_s),
        model: claim.pool.map(|pool| pool.name.as_str().into()),
        ..Refusal::new(Reason::NoServer)
    };
    let pool_key = claim.pool.map(|pool| pool.key);
    let length = u64::try_from(rotation.len()).ok().filter(|length| *length > 0).ok_or_else(none)?;
    let start = usize::try_from(turn % length).unwrap_or(0);
    let (before, from) = rotation.split_at(start);

    let mut seen = SeenServers::default();
    let mut best: [Option<Candidate<'v>>; 2] = [None, None];
    for index in from.iter().chain(before).copied().filter(|index| seen.is_first(*index)) {
        let (Some(server), Some(&key)) = (view.server(index), view.roster.server_keys.get(usize::from(index.0))) else {
            continue;
        };
        let last = match view.roster.preferences.get(usize::from(index.0)).copied().unwrap_or_default() {
            Preference::Sound => false,
            Preference::OneAtATime => load.in_flight_in_all(key) > 0,
            Preference::Last => true,
        };
        let capacity = view.roster.capacities.get(usize::from(index.0)).copied().unwrap_or(1);
        let candidate = Candidate { server, key, capacity, last, busy: u64::from(load.in_flight(key, pool_key)) };
        match best {
            [None, _] => best[0] = Some(candidate),
            [Some(first), _] if candidate.is_freer_than(&first) => best = [Some(candidate), Some(first)],
            [_, None] => best[1] = Some(candidate),
            [_, Some(second)] if candidate.is_freer_than(&second) => best[1] = Some(candidate),
            _ => {}
        }
    }
    let [first, second] = best;
    let first = first.ok_or_else(none)?;
    let server2 = second.map(|candidate| candidate.server);
    let place = QueuePlace::default();
    // Where the caller stands with its limits, and in the queue, is the ledger's to say.
    let grant = Grant { server: first.server, server2, pool: claim.pool, requests: None, tokens: None, place };
    Ok(Choice { grant, server_key: first.key, capacity: first.capacity })
}

#[derive(Clone, Copy)]
struct Candidate<'v> {
    server: &'v Server,
    key: ServerKey,
    capacity: u32,
    last: bool,
    busy: u64,
}

impl Candidate<'_> {
    /// Returns whether this candidate comes before the other: it is not among the last, and has fewer requests in
    /// flight for each slot, where a slot of a heavier server counts for more. In whole numbers: a/b < c/d as ad < cb.
    fn is_freer_than(&self, other: &Candidate<'_>) -> bool {
        let capacity = |server: &Server| u64::from(server.parallel()) * u64::from(server.weight.max(1));
        if self.last != other.last {
            return other.last;
        }
        self.busy * capacity(other.server) < other.busy * capacity(self.server)
    }
}

/// The servers met in a rotation, which lists heavy ones more than once. Sized for the 1,000 servers that a
/// configuration may have; a server past that is met again, which costs time and changes nothing.
#[derive(Default)]
struct SeenServers([u64; 16]);

impl SeenServers {
    fn is_first(&mut self, index: ServerIndex) -> bool {
        let Some(word) = self.0.get_mut(usize::from(index.0) / 64) else { return true };
        let bit = 1_u64 << (index.0 % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}
