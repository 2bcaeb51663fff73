//! The shared books on a real Redis: all or none, once each, by the store's own time, over several clients.

use crate::client::{Client, holder, is_granted, quota, reservation, settlement, today, wait_for};
use crate::harness::redis::Redis;
use crate::harness::scratch::Scratch;
use herdgate::ledger::calendar::Day;
use herdgate::ledger::gcra::{self, Take};
use herdgate::ledger::reservation::Evidence;
use herdgate::shared_store::{
    AdmitRequest, Admitted, HolderTerms, Lane, Settlement, Stand, StoreExcess, StoreSettle, StoreTerms, StoreToday,
    Which,
};
use std::collections::HashMap;
use std::time::Duration;

const MINUTE: u64 = 60_000;

/// Runs `test` on an empty store with two clients, who never ask for more than the documented permissions.
fn with_store(test: impl AsyncFnOnce(&Redis, Client, Client)) {
    let scratch = Scratch::new().unwrap();
    let redis = Redis::start(&scratch).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, b) = (Client::patient(redis.address, 1).await, Client::patient(redis.address, 2).await);
        test(&redis, a, b).await;
        assert_eq!(redis.denials(), Ok(0));
    });
}

/// LiteLLM PR 27001: increments that a refusal did not take back.
#[test]
fn a_claim_takes_all_its_limits_or_none_and_a_refusal_changes_nothing() {
    with_store(async |redis, a, b| {
        let rates: &'static [_] = Box::leak(Box::new([quota(60, MINUTE, 5)]));
        let beside = |limited: HolderTerms<'static>| [HolderTerms { requests: rates, ..holder(1) }, limited];
        let cases = [
            (HolderTerms { requests: rates, ..holder(2) }, Which::Requests(0), true),
            (HolderTerms { concurrency: Some(5), ..holder(3) }, Which::Concurrency, false),
            (HolderTerms { tokens: Some(quota(1, MINUTE, 50)), ..holder(4) }, Which::Tokens, false),
            (HolderTerms { day_most: Some(50_000), ..holder(5) }, Which::Day, false),
            (HolderTerms { month_most: Some(50_000), ..holder(6) }, Which::Month, false),
        ];
        for (round, (limited, which, tells_when)) in cases.into_iter().enumerate() {
            let id = |n: u128| round as u128 * 1000 + n;
            for n in 0..5 {
                let admitted = a.admit(id(n), 10_000, &[limited]).await;
                assert!(is_granted(&admitted), "{which:?} {n}: {admitted:?}");
            }
            let before = redis.dump().unwrap();
            for client in [&a, &b, &a] {
                let Ok(Admitted::Refused { over, stands }) = client.admit(id(9), 10_000, &beside(limited)).await else {
                    panic!("{which:?} was taken");
                };
                let [StoreExcess { entry: 1, which: found, retry_ns }] = over[..] else { panic!("{over:?}") };
                assert_eq!((found, retry_ns.is_some(), stands.len()), (which, tells_when, 2));
            }
            assert_eq!(before, redis.dump().unwrap(), "{which:?}: a refusal changed something");
        }
    });
}

#[test]
fn a_decision_asked_again_gets_its_first_answer_and_takes_nothing_more() {
    with_store(async |redis, a, b| {
        let rates = [quota(60, MINUTE, 5)];
        let entry = [HolderTerms { requests: &rates, concurrency: Some(1), ..holder(1) }];
        let first = a.admit(7, 500, &entry).await;
        assert!(is_granted(&first));
        let before = redis.dump().unwrap();
        for client in [&a, &b] {
            assert_eq!(client.admit(7, 500, &entry).await, first);
        }
        assert_eq!(before, redis.dump().unwrap());
        assert!(!is_granted(&a.admit(8, 500, &entry).await), "the place is taken");
        a.settle(7, 0, Evidence::Exact, &entry).await;
        assert_eq!(b.admit(7, 500, &entry).await, Ok(Admitted::Ended));
    });
}

#[test]
fn settling_twice_equals_once_and_better_evidence_corrects() {
    with_store(async |redis, a, b| {
        let entry = [HolderTerms { tokens: Some(quota(1, 86_400_000, 1_000)), day_most: Some(9_000_000), ..holder(1) }];
        let stand = async |id| match a.admit(id, 0, &entry).await {
            Ok(Admitted::Granted { stands, .. }) => (stands[0].debt, stands[0].reserved, stands[0].day),
            other => panic!("{other:?}"),
        };
        assert!(is_granted(&a.admit(7, 500_000, &entry).await));
        assert_eq!(stand(100).await, (0, 500_000, 0));
        // used, evidence, what it comes to, then debt and the day's sum
        let steps = [
            (200_000, Evidence::Estimated, "settled", 200_000, 200_000),
            (200_000, Evidence::Estimated, "nothing", 200_000, 200_000),
            (900_000, Evidence::Reserved, "nothing", 200_000, 200_000),
            (250_000, Evidence::Counted, "corrected", 250_000, 250_000),
            (1, Evidence::Estimated, "nothing", 250_000, 250_000),
            // The bucket may have been full since, so it gets nothing back.
            (100_000, Evidence::Exact, "corrected", 250_000, 100_000),
            (900_000, Evidence::Exact, "nothing", 250_000, 100_000),
        ];
        for (position, (used, evidence, expected, debt, day)) in steps.into_iter().enumerate() {
            let client = if position % 2 == 0 { &b } else { &a };
            let before = redis.dump().unwrap();
            let found = match client.settle(7, used, evidence, &entry).await {
                StoreSettle::Settled(Some(found)) => {
                    assert_eq!(*found, reservation(7, 500_000, &entry), "the reservation comes back whole");
                    "settled"
                }
                StoreSettle::Corrected(Some(_)) => "corrected",
                StoreSettle::Nothing => "nothing",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "step {position}");
            if expected == "nothing" {
                assert_eq!(before, redis.dump().unwrap(), "step {position} changed something");
            }
            let (found_debt, held, found_day) = stand(200 + position as u128).await;
            assert!(found_debt <= debt && found_debt + 1_000 >= debt, "{found_debt} of {debt}: it flows back slowly");
            assert_eq!((held, found_day), (0, day), "step {position}");
        }
    });
}

#[test]
fn what_one_grants_another_settles_and_the_first_is_told() {
    with_store(async |redis, a, b| {
        let rates = [quota(60, MINUTE, 5)];
        let entry = [
            HolderTerms {
                requests: &rates,
                concurrency: Some(1),
                tokens: Some(quota(1, 86_400_000, 100)),
                ..holder(1)
            },
            HolderTerms { month_most: Some(100_000), ..holder(2) },
        ];
        assert!(is_granted(&a.admit(7, 60_000, &entry).await));
        assert_eq!(b.ledger.find_uid(reservation(7, 0, &[]).uid.unwrap()).await, Ok(Some(7)));
        let found = b.ledger.find(7).await.unwrap().unwrap();
        assert!(found.open);
        assert_eq!(*found.reservation.unwrap(), reservation(7, 60_000, &entry));
        let scopes = found.terms;
        assert_eq!(scopes.scopes, [entry[0].scope, entry[1].scope]);
        // Whether it names the holders, none, or others: the store knows them.
        let settlement = Settlement {
            terms: StoreTerms::of(&[holder(99)]).unwrap(),
            granted_by: Some(1),
            ..settlement(7, 30_000, Evidence::Exact, &[])
        };
        b.ledger.settle(settlement);
        wait_for("delivered", || !b.told.delivered.lock().unwrap().is_empty()).await;
        assert!(matches!(b.told.delivered.lock().unwrap()[0], (7, StoreSettle::Settled(Some(_)))));
        wait_for("told", || *a.told.ended.lock().unwrap() == [7]).await;
        let Ok(Admitted::Granted { stands, .. }) = a.admit(8, 0, &entry).await else { panic!() };
        assert!((29_000..=30_000).contains(&stands[0].debt), "{stands:?}");
        assert_eq!((stands[0].reserved, stands[0].open, stands[1].month), (0, 1, 30_000));
        assert_eq!(a.ledger.find(7).await.unwrap().unwrap().reservation, None, "nothing better can come");
        assert!(redis.dump().unwrap().iter().all(|(key, _)| !key.contains(&format!("{:032x}", 99))));
    });
}

#[test]
fn a_settlement_of_what_the_store_does_not_know_charges_those_it_names_and_only_once() {
    with_store(async |_, a, b| {
        let rates = [quota(1, MINUTE, 3)];
        let entry = [HolderTerms { requests: &rates, tokens: Some(quota(1, 86_400_000, 100)), ..holder(1) }];
        let nobody = settlement(7, 40_000, Evidence::Counted, &[]);
        assert_eq!(b.ledger.settle_now(&nobody).await, Ok(StoreSettle::Unknown));
        for _ in 0..2 {
            b.settle(7, 40_000, Evidence::Counted, &entry).await;
        }
        let Ok(Admitted::Granted { stands, .. }) = a.admit(8, 0, &entry).await else { panic!() };
        assert!((39_000..=40_000).contains(&stands[0].debt), "{stands:?}");
        let ahead_s = stands[0].ahead_ns[0].div_ceil(1_000_000_000);
        assert!((110..=120).contains(&ahead_s), "its request and this one: {ahead_s}");
        assert_eq!(a.admit(7, 0, &entry).await, Ok(Admitted::Ended), "a call that comes late takes nothing");
    });
}

#[test]
fn a_release_gives_back_all_that_was_taken_and_is_remembered_where_it_came_first() {
    with_store(async |_, a, b| {
        let rates = [quota(3, MINUTE, 2)];
        let entry =
            [HolderTerms { requests: &rates, concurrency: Some(2), tokens: Some(quota(1, MINUTE, 9)), ..holder(1) }];
        for id in 0..20 {
            assert!(is_granted(&a.admit(id, 9_000, &entry).await), "{id}");
            b.release(id, &entry).await;
            b.release(id, &[]).await;
        }
        b.release(77, &entry).await;
        assert_eq!(a.admit(77, 0, &entry).await, Ok(Admitted::Ended));
        assert_eq!(a.settle(77, 1_000, Evidence::Exact, &entry).await, StoreSettle::Nothing);
        let Ok(Admitted::Granted { stands, .. }) = a.admit(78, 0, &entry).await else { panic!() };
        let expected = Stand { ahead_ns: vec![20_000_000_000], open: 1, ..Stand::default() };
        assert_eq!(stands, [expected]);
    });
}

#[test]
fn two_clients_together_never_have_more_on_their_way_than_allowed() {
    with_store(async |_, a, b| {
        let entry = [HolderTerms { concurrency: Some(5), ..holder(1) }];
        for round in 0..10_u128 {
            let mut asked = tokio::task::JoinSet::new();
            for n in 0..20_u128 {
                let ledger = if n % 2 == 0 { a.ledger.clone() } else { b.ledger.clone() };
                asked.spawn(async move {
                    let id = round * 100 + n;
                    let (entry, lease) = ([HolderTerms { concurrency: Some(5), ..holder(1) }], Duration::from_secs(60));
                    let terms = StoreTerms::of(&entry).unwrap();
                    let reservation = reservation(id, 0, &entry);
                    let ask = AdmitRequest { reservation: &reservation, terms: &terms, lease, today: today() };
                    (id, is_granted(&ledger.admit(ask).await))
                });
            }
            let granted: Vec<u128> =
                asked.join_all().await.into_iter().filter_map(|(id, granted)| granted.then_some(id)).collect();
            assert_eq!(granted.len(), 5, "round {round}");
            for id in granted {
                b.settle(id, 0, Evidence::Exact, &entry).await;
            }
        }
    });
}

#[test]
fn what_no_line_ends_frees_its_place_by_time_and_is_charged_as_it_stood_by_one_of_them() {
    with_store(async |redis, a, b| {
        let entry = [HolderTerms { concurrency: Some(3), day_most: Some(1_000_000), ..holder(1) }];
        for id in 1..=3 {
            assert!(is_granted(&a.admit_for(Duration::from_millis(300), id, 20_000, &entry).await));
        }
        assert!(!is_granted(&a.admit(4, 0, &entry).await));
        let expired = || [&a, &b].iter().map(|client| client.told.expired.lock().unwrap().len()).sum::<usize>();
        wait_for("all are expired", || expired() >= 3).await;
        let Ok(Admitted::Granted { stands, .. }) = a.admit(5, 0, &entry).await else { panic!() };
        assert_eq!((stands[0].open, stands[0].reserved, stands[0].day), (1, 0, 60_000));
        b.settle(2, 5_000, Evidence::Exact, &entry).await;
        let Ok(Admitted::Granted { stands, .. }) = a.admit(6, 0, &entry).await else { panic!() };
        assert_eq!(stands[0].day, 45_000, "a line that comes late corrects it");
        for id in [5, 6] {
            a.settle(id, 0, Evidence::Exact, &entry).await;
        }
        wait_for("nothing is due", || redis.command::<u64>(&["ZCARD", "{herdgate}:e"]) == Ok(0)).await;
        assert_eq!(expired(), 3, "each by one of them");
    });
}

#[test]
fn every_key_ends_by_itself_and_holds_no_name_but_the_reservation() {
    with_store(async |redis, a, b| {
        let rates = [quota(1, MINUTE, 9)];
        let entry = [
            HolderTerms { requests: &rates, concurrency: Some(9), tokens: Some(quota(1, MINUTE, 9)), ..holder(1) },
            HolderTerms { keeps: false, ..holder(2) },
        ];
        for id in 1..=4 {
            assert!(is_granted(&a.admit(id, 1_000, &entry).await));
        }
        let memory =
            |id: u128| redis.command::<u64>(&["MEMORY", "USAGE", &format!("{{herdgate}}:q:{id:032x}")]).unwrap();
        let open = memory(1);
        b.settle(1, 9_000, Evidence::Exact, &entry).await;
        println!("bytes of a reservation: open {open}, ended by exact figures {}", memory(1));
        b.settle(2, 9_000, Evidence::Counted, &entry).await;
        b.release(3, &entry).await;
        b.release(9, &entry).await;
        b.settle(10, 1_000, Evidence::Exact, &entry).await;
        let mut noticed = settlement(4, 0, Evidence::Exact, &entry);
        noticed.granted_by = Some(3);
        b.ledger.settle_now(&noticed).await.unwrap();
        let keys: Vec<String> = redis.command(&["KEYS", "*"]).unwrap();
        assert!(keys.len() >= 10, "{keys:?}");
        for key in keys {
            let left_ms: i64 = redis.command(&["PTTL", &key]).unwrap();
            assert!(left_ms > 0, "{key} has no end");
            assert!(key.starts_with("{herdgate}:"), "{key}");
            if !key.contains(":q:") {
                let shown = redis.content(&key).unwrap().join(" ");
                assert!(!shown.contains("ann") && !shown.contains("llama"), "{key}: {shown}");
            }
        }
    });
}

#[test]
fn windows_turn_by_the_stores_time_and_never_back() {
    with_store(async |_, a, _b| {
        let entry = [HolderTerms { day_most: Some(10_000), ..holder(1) }];
        let terms = StoreTerms::of(&entry).unwrap();
        let now_ms =
            i64::try_from(a.ledger.admit_at(ask(&reservation(1, 0, &entry), &terms, today())).await.unwrap().1 / 1000)
                .unwrap();
        let later = now_ms + 3_600_000;
        // day, when it ends, whether 6 of 10 tokens fit beside what was charged on that day
        let steps = [
            (20_000, later, true),
            (20_000, later, false),
            // This caller has not noticed that the day has ended.
            (20_000, now_ms - 1, true),
            (20_001, later, false),
            // A clock that goes back opens no closed day.
            (20_000, later, false),
            (20_002, later, true),
        ];
        for (position, (day, day_ends_ms, fits)) in steps.into_iter().enumerate() {
            let today = StoreToday { day: Day(day), day_ends_ms, ..today() };
            let id = 10 + position as u128;
            let reservation = reservation(id, 6_000, &entry);
            let admitted = a.ledger.admit(ask(&reservation, &terms, today)).await;
            assert_eq!(is_granted(&admitted), fits, "step {position}: {admitted:?}");
            let used = Settlement { today, ..settlement(id, 6_000, Evidence::Exact, &entry) };
            if fits {
                a.ledger.settle_now(&used).await.unwrap();
            }
        }
    });
}

#[test]
fn shadow_terms_tell_and_do_not_refuse() {
    with_store(async |_, a, _b| {
        let rates = [quota(1, MINUTE, 1)];
        let entry = [HolderTerms { requests: &rates, concurrency: Some(1), shadow: true, ..holder(1) }];
        let mut told = Vec::new();
        for id in 1..=3 {
            let Ok(Admitted::Granted { over, stands }) = a.admit(id, 0, &entry).await else { panic!() };
            told.push(over.iter().map(|over| over.which).collect::<Vec<_>>());
            assert_eq!(stands[0].open as u128, id);
        }
        let both = vec![Which::Requests(0), Which::Concurrency];
        assert_eq!(told, [vec![], both.clone(), both]);
    });
}

#[test]
fn another_rate_of_the_bucket_keeps_the_debt() {
    with_store(async |_, a, _b| {
        let at = |per_day: u64| [HolderTerms { tokens: Some(quota(per_day, 86_400_000, 1_000)), ..holder(1) }];
        assert!(is_granted(&a.admit(1, 0, &at(10)).await));
        a.settle(1, 800_000, Evidence::Exact, &at(10)).await;
        for (id, per_day) in [(2, 10), (3, 1), (4, 1_000), (5, 10)] {
            let Ok(Admitted::Granted { stands, .. }) = a.admit(id, 0, &at(per_day)).await else { panic!() };
            assert!((799_000..=800_001).contains(&stands[0].debt), "{per_day} a day: {stands:?}");
        }
    });
}

#[test]
fn the_stores_rates_agree_with_the_memory_books_to_the_nanosecond() {
    with_store(async |_, a, b| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for stream in 0..12_u128 {
            let period_ms = [5, 7, 50, 300][stream as usize % 4];
            let rates =
                [quota(random.up_to(20) + 1, period_ms, random.up_to(8) + 1), quota(random.up_to(90) + 1, 200, 30)];
            let entry = [HolderTerms { requests: &rates, ..holder(1000 + stream) }];
            let terms = StoreTerms::of(&entry).unwrap();
            let (mut whole_at_ns, mut granted) = ([0_u64; 2], 0);
            for n in 0..120_u128 {
                if random.up_to(3) == 0 {
                    tokio::time::sleep(Duration::from_micros(random.up_to(4_000))).await;
                }
                let client = if n % 2 == 0 { &a } else { &b };
                let reservation = reservation(stream << 32 | n, 0, &entry);
                let (admitted, now_us) = client.ledger.admit_at(ask(&reservation, &terms, today())).await.unwrap();
                let now_ns = now_us * 1000;
                let takes = [0, 1].map(|rate| gcra::take(rates[rate], whole_at_ns[rate], now_ns));
                let fits = takes.iter().all(|take| matches!(take, Take::Allow { .. }));
                match admitted {
                    Admitted::Granted { stands, .. } => {
                        assert!(fits, "stream {stream}, request {n}");
                        granted += 1;
                        for (rate, take) in takes.into_iter().enumerate() {
                            let Take::Allow { tat_ns, standing } = take else { panic!() };
                            whole_at_ns[rate] = tat_ns;
                            assert_eq!(stands[0].ahead_ns[rate], standing.reset_ns, "stream {stream}, request {n}");
                        }
                    }
                    Admitted::Refused { over, .. } => {
                        assert!(!fits, "stream {stream}, request {n}");
                        for StoreExcess { which, retry_ns, .. } in over {
                            let Which::Requests(rate) = which else { panic!() };
                            let Take::Deny { retry_ns: expected, .. } = takes[usize::from(rate)] else { panic!() };
                            assert_eq!(retry_ns, Some(expected.div_ceil(1000) * 1000));
                        }
                    }
                    Admitted::Ended => panic!(),
                }
            }
            assert!(granted > 0 && granted < 120, "stream {stream} tests nothing: {granted} granted");
        }
    });
}

#[test]
fn held_and_charged_agree_with_a_naive_model_and_are_zero_and_exact_in_the_end() {
    with_store(async |_, a, b| {
        let mut random = Random(77);
        let most = 90_000;
        let tokens = quota(1, 86_400_000, 60); // does not flow back within the test: one token a day
        let entry = [HolderTerms { tokens: Some(tokens), day_most: Some(most), concurrency: Some(4), ..holder(1) }];
        let (mut open, mut charged): (HashMap<u128, u64>, u64) = (HashMap::new(), 0);
        let (mut granted, mut refused) = (0, 0);
        for step in 0..600_u128 {
            let client = if random.up_to(2) == 0 { &a } else { &b };
            let held: u64 = open.values().sum();
            match random.up_to(5) {
                0..=2 => {
                    let need = random.up_to(30) * 1000;
                    let fits = open.len() < 4 && charged + held + need <= 60_000;
                    match client.admit(step, need, &entry).await.unwrap() {
                        Admitted::Granted { stands, .. } => {
                            assert!(fits, "step {step}");
                            assert_eq!(
                                (stands[0].reserved, stands[0].day, stands[0].open),
                                (held + need, charged, open.len() as u64 + 1)
                            );
                            open.insert(step, need);
                            granted += 1;
                        }
                        Admitted::Refused { over, .. } => {
                            assert!(!fits, "step {step}: {over:?}");
                            refused += 1;
                        }
                        Admitted::Ended => panic!(),
                    }
                }
                3 => {
                    if let Some(id) = open.keys().min().copied() {
                        open.remove(&id);
                        let used = random.up_to(3) * 400;
                        charged += used;
                        for _ in 0..=random.up_to(2) {
                            client.settle(id, used, Evidence::Exact, &entry).await;
                        }
                    }
                }
                _ => {
                    if let Some(id) = open.keys().max().copied() {
                        open.remove(&id);
                        client.release(id, &entry).await;
                    }
                }
            }
        }
        assert!(granted > 50 && refused > 50, "{granted} granted, {refused} refused");
        for id in open.into_keys() {
            b.release(id, &entry).await;
        }
        let Ok(Admitted::Granted { stands, .. }) = a.admit(9_999, 0, &entry).await else { panic!() };
        assert_eq!((stands[0].reserved, stands[0].day, stands[0].open), (0, charged, 1));
        println!("{granted} granted, {refused} refused, {charged} thousandths charged");
    });
}

#[test]
fn the_scripts_arithmetic_is_exact() {
    with_store(async |redis, _a, _b| {
        let books = include_str!("../../src/shared_store/lua/books.lua");
        let script = format!(
            "{books}\nlocal out = {{}}\nfor i = 1, #ARGV, 3 do out[#out + 1] = whole(scaled(tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]))) end\nreturn out"
        );
        let mut random = Random(5);
        let mut cases = vec![
            (0, 1, 1),
            ((1 << 53) - 1, 1, 1),
            ((1 << 53) - 1, (1 << 38) - 1, (1 << 38) - 1),
            (1, 1, (1 << 38) - 1),
        ];
        for _ in 0..2_000 {
            let mut number = |bits: u64| {
                let bits = 1 + random.up_to(bits);
                random.up_to(1 << bits)
            };
            cases.push((number(52), number(37).max(1), number(37).max(1)));
        }
        let words: Vec<String> = cases.iter().flat_map(|(a, b, c)| [a, b, c].map(u64::to_string)).collect();
        let mut command = vec!["EVAL", &script, "0"];
        command.extend(words.iter().map(String::as_str));
        let found: Vec<String> = redis.command(&command).unwrap();
        for ((amount, by, per), found) in cases.into_iter().zip(found) {
            let exact = (u128::from(amount) * u128::from(by)).div_ceil(u128::from(per)).min(315_360_000_000_000);
            assert_eq!(found, exact.to_string(), "{amount} * {by} / {per}");
        }
    });
}

#[test]
fn forgotten_scripts_are_loaded_again() {
    with_store(async |redis, a, b| {
        let rates = [quota(1, MINUTE, 40)];
        let entry = [HolderTerms { requests: &rates, ..holder(1) }];
        for id in 0..20 {
            let _: String = redis.command(&["SCRIPT", "FLUSH"]).unwrap();
            assert!(is_granted(&a.admit(id, 0, &entry).await));
            let _: String = redis.command(&["SCRIPT", "FLUSH"]).unwrap();
            b.settle(id, 0, Evidence::Exact, &entry).await;
        }
        let Ok(Admitted::Granted { stands, .. }) = a.admit(99, 0, &entry).await else { panic!() };
        let ahead_s = stands[0].ahead_ns[0].div_ceil(60_000_000_000);
        assert_eq!(ahead_s, 21, "each counted once");
    });
}

#[test]
fn a_store_that_lost_everything_charges_what_is_settled_later_and_holds_nothing_for_ever() {
    with_store(async |redis, a, b| {
        let entry = [HolderTerms { tokens: Some(quota(1, 86_400_000, 100)), concurrency: Some(2), ..holder(1) }];
        for id in 1..=2 {
            assert!(is_granted(&a.admit(id, 40_000, &entry).await));
        }
        let _: String = redis.command(&["FLUSHALL"]).unwrap();
        for id in 3..=4 {
            assert!(is_granted(&a.admit(id, 40_000, &entry).await), "limits are whole again: once more as much");
        }
        for id in 1..=4 {
            b.settle(id, 30_000, Evidence::Exact, &entry).await;
        }
        let Ok(Admitted::Refused { stands, .. }) = a.admit(5, 0, &entry).await else { panic!("debt blocks") };
        assert!((119_000..=120_000).contains(&stands[0].debt), "{stands:?}");
        assert_eq!((stands[0].reserved, stands[0].open), (0, 0));
        // The books alone are lost, the requests are open still: what is held is not counted twice below zero.
        let books = format!("{{herdgate}}:a:{:032x}", 7);
        let other = [HolderTerms { tokens: Some(quota(1, 86_400_000, 100)), ..holder(7) }];
        assert!(is_granted(&a.admit(6, 40_000, &other).await));
        let _: u64 = redis.command(&["DEL", &books]).unwrap();
        b.release(6, &other).await;
        let Ok(Admitted::Granted { stands, .. }) = a.admit(7, 1_000, &other).await else { panic!() };
        assert_eq!(stands[0].reserved, 1_000);
    });
}

#[test]
fn a_line_left_for_another_reaches_it_once() {
    with_store(async |redis, a, b| {
        b.ledger.forward(1, "one").await.unwrap();
        b.ledger.forward(1, "two").await.unwrap();
        b.ledger.forward(3, "for nobody").await.unwrap();
        assert!(redis.command::<i64>(&["PTTL", "{herdgate}:f:0000000000000003"]).unwrap() > 0);
        wait_for("a has both", || *a.told.lines.lock().unwrap() == ["one", "two"]).await;
        assert!(b.told.lines.lock().unwrap().is_empty());
    });
}

#[test]
fn what_is_on_its_way_from_one_is_seen_by_the_other() {
    use herdgate::decision::fleet::choose::Load;
    use herdgate::decision::fleet::roster::{PoolKey, ServerKey};
    let (first, second, pool) = (ServerKey::of("gpu1"), ServerKey::of("gpu2"), PoolKey::new(10));
    with_store(async |_, a, b| {
        *a.told.lanes.lock().unwrap() =
            vec![Lane { server: first, pool, count: 3 }, Lane { server: second, pool, count: 1 }];
        wait_for("b sees it", || b.ledger.elsewhere().in_flight(first, pool) == 3).await;
        assert_eq!(b.ledger.elsewhere().in_flight_in_all(second), 1);
        assert_eq!(a.ledger.elsewhere().in_flight_in_all(first), 0, "its own are not among the others'");
        drop(a);
        wait_for("a that is gone is forgotten", || b.ledger.elsewhere().in_flight(first, pool) == 0).await;
    });
}

fn ask<'a>(
    reservation: &'a herdgate::ledger::reservation::Reservation,
    terms: &'a StoreTerms,
    today: StoreToday,
) -> AdmitRequest<'a> {
    AdmitRequest { reservation, terms, lease: Duration::from_secs(60), today }
}

/// A small generator of one's own: the same stream in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn up_to(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end.max(1)
    }
}
