//! Fair order against a queue like HAProxy's: arrivals ordered by their time and the offset they were given.

use herdgate::decision::plan::limits::Scope;
use herdgate::decision::plan::priority::{Priority, QueuePlace};
use herdgate::ledger::fair_queue::FairQueue;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// One server: how many it serves at once, and how long it is at each, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Server {
    room: usize,
    service_ms: u64,
}

const SERVER: u64 = 7;

/// Runs clients that ask again as soon as they are answered, `clients[caller]` of each caller. Answers how many requests of
/// each were served in the second half of `rounds` rounds. `is_fair` is whether the offsets are applied.
fn served(server: Server, clients: &[usize], rounds: u64, is_fair: bool) -> Vec<u64> {
    let Server { room, service_ms } = server;
    let mut shares = FairQueue::default();
    let mut now_ms = 1_000_000_u64;
    let total: usize = clients.iter().sum();
    let end_ms = now_ms + rounds * service_ms;
    let half_ms = now_ms + rounds * service_ms / 2;
    let (mut waiting, mut serving) = (BTreeSet::new(), BinaryHeap::new());
    let mut counts = vec![0; clients.len()];
    let mut open = 0;
    let mut ids = 0_u128;
    // How long a round is taken to be, as `Waits` would guess it.
    let round_ms = service_ms * 4 / room as u64;
    let mut arrive = |caller: usize, now_ms: u64, open: &mut usize, shares: &mut FairQueue| {
        ids += 1;
        let start_ms = if *open <= room / 2 {
            shares.idle(SERVER, now_ms)
        } else {
            shares.join(Scope(caller as u128), SERVER, ids, round_ms, now_ms)
        };
        *open += 1;
        let offset = if is_fair { i64::from(QueuePlace::new(Priority::Normal, start_ms, now_ms).offset_ms) } else { 0 };
        (now_ms as i64 + offset, ids, caller)
    };
    // The flood first: who comes first has the better of it.
    for (caller, count) in clients.iter().enumerate() {
        for _ in 0..*count {
            let request = arrive(caller, now_ms, &mut open, &mut shares);
            waiting.insert(request);
        }
    }
    loop {
        while serving.len() < room
            && let Some((_, id, caller)) = waiting.pop_first()
        {
            // Servers are not in step.
            serving.push(Reverse((now_ms + service_ms + id as u64 % 3, id, caller)));
        }
        let Some(Reverse((at_ms, id, caller))) = serving.pop() else { break };
        now_ms = at_ms;
        if now_ms > end_ms {
            break;
        }
        if now_ms > half_ms {
            counts[caller] += 1;
        }
        shares.served(SERVER, id);
        open -= 1;
        let request = arrive(caller, now_ms, &mut open, &mut shares);
        waiting.insert(request);
        assert_eq!(waiting.len() + serving.len(), total);
    }
    counts
}

/// Whether every caller got at least so many percent of an equal share.
fn is_fair(counts: &[u64], percent: u64) -> bool {
    let share = counts.iter().sum::<u64>() / counts.len() as u64;
    counts.iter().all(|count| count * 100 >= share * percent)
}

#[test]
fn a_flood_gets_its_share_and_no_more_and_without_the_offset_everything() {
    let server = Server { room: 4, service_ms: 1_000 };
    let clients = [200, 4, 4, 4, 4];
    let fair = served(server, &clients, 200, true);
    assert!(is_fair(&fair, 85), "{fair:?}");
    let unfair = served(server, &clients, 200, false);
    assert!(unfair[0] > 10 * unfair[1] && !is_fair(&unfair, 85), "{unfair:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the server, and though the guess of a round's length is wrong by several times.
    #[test]
    fn callers_with_enough_to_do_get_about_equal_shares_beside_a_flood(
        room in 1_usize..9,
        service_ms in 20_u64..5_000,
        others in 1_usize..6,
        flood in 5_usize..60,
    ) {
        let each = 2 * room + 2;
        let mut clients = vec![each * flood / 2];
        clients.extend(std::iter::repeat_n(each, others));
        // HAProxy's `timeout queue` is a minute; what waits for much longer than that is not in the queue any more.
        let total: usize = clients.iter().sum();
        let service_ms = service_ms.min(120_000 * room as u64 / total as u64);
        let counts = served(Server { room, service_ms }, &clients, 400, true);
        // The flood's requests were placed by older guesses of a round than the others', which may cost it some.
        prop_assert!(is_fair(&counts, 50), "{:?} of {:?}", counts, clients);
        let share = counts.iter().sum::<u64>() / counts.len() as u64;
        let others = counts.iter().skip(1).all(|count| count * 100 >= share * 80);
        prop_assert!(others, "{:?} of {:?}", counts, clients);
    }
}
