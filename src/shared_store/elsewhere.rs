//! The requests that the other herdgates have in flight: told and heard a few times a second, and added to what is
//! counted here when a server is chosen. They guide the choice and limit nothing, so being late by a moment is no
//! fault.

use crate::decision::fleet::choose::Load;
use crate::decision::fleet::roster::{PoolKey, ServerKey};
use std::collections::HashMap;
use std::fmt::Write;

/// Most pairs of server and model that one herdgate tells of.
const LANES_MAX: usize = 4096;

/// Requests in flight to one server for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// The server.
    pub server: ServerKey,
    /// The pool; absent where bodies are hidden. It is sent as 0.
    pub pool: Option<PoolKey>,
    /// How many.
    pub count: u32,
}

/// What all other herdgates together have in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    by_pair: HashMap<(ServerKey, Option<PoolKey>), u32>,
    by_server: HashMap<ServerKey, u32>,
}

impl Elsewhere {
    /// Sums what the others told. Entries that cannot be read are skipped, because a newer herdgate may write more.
    pub(super) fn read(told: &[String]) -> Elsewhere {
        let mut all = Elsewhere::default();
        for lane in told.iter().flat_map(|text| text.split(' ').take(LANES_MAX)).filter_map(read_lane) {
            let pair = all.by_pair.entry((lane.server, lane.pool)).or_default();
            *pair = pair.saturating_add(lane.count);
            let server = all.by_server.entry(lane.server).or_default();
            *server = server.saturating_add(lane.count);
        }
        all
    }
}

impl Load for Elsewhere {
    fn in_flight(&self, server: ServerKey, pool: Option<PoolKey>) -> u32 {
        self.by_pair.get(&(server, pool)).copied().unwrap_or(0)
    }

    fn in_flight_in_all(&self, server: ServerKey) -> u32 {
        self.by_server.get(&server).copied().unwrap_or(0)
    }
}

/// Writes what one herdgate tells the others.
pub(super) fn write(lanes: &[Lane]) -> String {
    let mut text = String::new();
    for lane in lanes.iter().filter(|lane| lane.count > 0).take(LANES_MAX) {
        if !text.is_empty() {
            text.push(' ');
        }
        // Writing to a String does not fail.
        let _ = write!(text, "{:x},{:x},{}", lane.server.get(), lane.pool.map_or(0, PoolKey::get), lane.count);
    }
    text
}

fn read_lane(text: &str) -> Option<Lane> {
    let mut parts = text.split(',');
    let mut hex = || u64::from_str_radix(parts.next()?, 16).ok();
    // An earlier version tells of what waits as well, at no server.
    let (server, pool) = (ServerKey::new(hex()?)?, PoolKey::new(hex()?));
    let count = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Lane { server, pool, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_tell_is_summed() {
        let server = |number| ServerKey::new(number).unwrap();
        let lane = |number, pool, count| Lane { server: server(number), pool: PoolKey::new(pool), count };
        let told = [
            write(&[lane(1, 10, 2), lane(1, 11, 3), lane(2, 10, 0)]),
            write(&[lane(1, 10, 4), lane(u64::MAX - 1, u64::MAX, u32::MAX)]),
            write(&[]),
            "x 1,2 1,2,3,4 1,a,-1 7,7,1 7,0,2 ffffffffffffffff,a,1".to_owned(),
        ];
        let elsewhere = Elsewhere::read(&told);
        let cases = [
            (1, 10, 6, 9),
            (1, 11, 3, 9),
            (2, 10, 0, 0),
            (7, 7, 1, 3),
            (7, 0, 2, 3),
            (u64::MAX - 1, u64::MAX, u32::MAX, u32::MAX),
        ];
        for (number, pool, pair, all) in cases {
            let key = server(number);
            let found = (elsewhere.in_flight(key, PoolKey::new(pool)), elsewhere.in_flight_in_all(key));
            assert_eq!(found, (pair, all), "{number:x}");
        }
    }
}
