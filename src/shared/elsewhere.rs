//! What the other herdgates have on its way: told and heard a few times a second, and added to what is counted here when a
//! server is chosen. It guides the choice and limits nothing, so being late by a moment is no fault.

use crate::decision::choose::Load;
use std::collections::HashMap;
use std::fmt::Write;

/// Most servers and models that one herdgate tells of.
const LANES_MAX: usize = 4096;

/// Requests on their way to one server for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// The server: hash of its name.
    pub server: u64,
    /// The pool: hash of the model.
    pub pool: u64,
    /// How many.
    pub count: u32,
}

/// What all others have on its way, summed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    by_pair: HashMap<(u64, u64), u32>,
    by_server: HashMap<u64, u32>,
}

impl Elsewhere {
    /// Sums what others told. What cannot be read is passed over: a newer herdgate may write more.
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

/// The load counted here and what others told of theirs.
#[derive(Debug, Clone, Copy)]
pub struct WithElsewhere<'l, L> {
    /// Counted here.
    pub here: &'l L,
    /// Told by others.
    pub elsewhere: &'l Elsewhere,
}

impl<L: Load> Load for WithElsewhere<'_, L> {
    fn on_their_way(&self, server_key: u64, pool_key: u64) -> u32 {
        let here = self.here.on_their_way(server_key, pool_key);
        here.saturating_add(self.elsewhere.on_their_way(server_key, pool_key))
    }

    fn on_their_way_in_all(&self, server_key: u64) -> u32 {
        self.here.on_their_way_in_all(server_key).saturating_add(self.elsewhere.on_their_way_in_all(server_key))
    }
}

/// What one herdgate tells.
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

    struct Here;

    impl Load for Here {
        fn on_their_way(&self, _: u64, _: u64) -> u32 {
            1
        }
        fn on_their_way_in_all(&self, _: u64) -> u32 {
            5
        }
    }

    #[test]
    fn what_others_tell_is_summed_and_added_to_what_is_here() {
        let lane = |server, pool, count| Lane { server, pool, count };
        let told = [
            write(&[lane(1, 10, 2), lane(1, 11, 3), lane(2, 10, 0)]),
            write(&[lane(1, 10, 4), lane(u64::MAX, u64::MAX, u32::MAX)]),
            write(&[]),
            "x 1,2 1,2,3,4 1,a,-1 7,7,1".to_owned(),
        ];
        let elsewhere = Elsewhere::read(&told);
        let load = WithElsewhere { here: &Here, elsewhere: &elsewhere };
        let cases =
            [(1, 10, 7, 14), (1, 11, 4, 14), (2, 10, 1, 5), (7, 7, 2, 6), (u64::MAX, u64::MAX, u32::MAX, u32::MAX)];
        for (server, pool, pair, all) in cases {
            assert_eq!((load.on_their_way(server, pool), load.on_their_way_in_all(server)), (pair, all), "{server:x}");
        }
    }
}
