//! What the other herdgates have on its way: told and heard a few times a second, and added to what is counted here when a
//! server is chosen. It guides the choice and limits nothing, so being late by a moment is no fault.

use crate::decision::fleet::choose::Load;
use std::collections::HashMap;
use std::fmt::Write;

/// Most pairs of server and model that one herdgate tells of.
const LANES_MAX: usize = 4096;

/// Requests in flight to one server for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// The server: hash of its name.
    pub server: u64,
    /// The pool: hash of the model.
    pub pool: u64,
    /// How many.
    pub count: u32,
}

/// What all other herdgates together have in flight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    by_pair: HashMap<(u64, u64), u32>,
    by_server: HashMap<u64, u32>,
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
    fn on_their_way(&self, server_key: u64, pool_key: u64) -> u32 {
        self.by_pair.get(&(server_key, pool_key)).copied().unwrap_or(0)
    }

    fn on_their_way_in_all(&self, server_key: u64) -> u32 {
        self.by_server.get(&server_key).copied().unwrap_or(0)
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
        let _ = write!(text, "{:x},{:x},{}", lane.server, lane.pool, lane.count);
    }
    text
}

fn read_lane(text: &str) -> Option<Lane> {
    let mut parts = text.split(',');
    let mut hex = || u64::from_str_radix(parts.next()?, 16).ok();
    let (server, pool) = (hex()?, hex()?);
    let count = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Lane { server, pool, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_tell_is_summed() {
        let lane = |server, pool, count| Lane { server, pool, count };
        let told = [
            write(&[lane(1, 10, 2), lane(1, 11, 3), lane(2, 10, 0)]),
            write(&[lane(1, 10, 4), lane(u64::MAX, u64::MAX, u32::MAX)]),
            write(&[]),
            "x 1,2 1,2,3,4 1,a,-1 7,7,1".to_owned(),
        ];
        let elsewhere = Elsewhere::read(&told);
        let cases =
            [(1, 10, 6, 9), (1, 11, 3, 9), (2, 10, 0, 0), (7, 7, 1, 1), (u64::MAX, u64::MAX, u32::MAX, u32::MAX)];
        for (server, pool, pair, all) in cases {
            let found = (elsewhere.on_their_way(server, pool), elsewhere.on_their_way_in_all(server));
            assert_eq!(found, (pair, all), "{server:x}");
        }
    }
}
