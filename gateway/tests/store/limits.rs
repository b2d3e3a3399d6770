//! Limits: drawn all or none, never passed, posted or given back by what the chain says alone.

use std::sync::Arc;

use chains::amount::Amount;
use gateway::record::{Exposure, State};
use gateway::store::{Cancelling, Draw, Hold, Sight, StoreError, Usage};

use crate::world::{
    Shop, accept, cancel, draw, for_each_place, for_each_store, freeze, get, judge_with, observe, reason, sight, sign,
};

fn usage(amount: u64, count: u64) -> Usage {
    Usage { amount: Amount::from_sat(amount), count }
}

async fn used(store: &Shop, counter: &str) -> Usage {
    store.usage(counter, 0, u64::MAX).await.unwrap()
}

async fn queued(store: &Shop, key: &str, draws: Vec<Draw>) -> Hold {
    let hold = accept(store, key, 1).await;
    judge_with(store, hold, State::Queued, draws).await.unwrap();
    hold
}

async fn sent(store: &Shop, key: &str, nonce: u64, draws: Vec<Draw>) -> Hold {
    let hold = queued(store, key, draws).await;
    freeze(store, hold, nonce).await.unwrap();
    store.burn(hold, 5).await.unwrap();
    sign(store, hold, 1).await.unwrap();
    store.sending(hold, 1, 7).await.unwrap();
    hold
}

#[test]
fn a_hundred_draws_at_once_never_pass_the_cap_by_one_unit() {
    for_each_place(|place| async move {
        let stores = [place.open().await, place.open().await];
        let mut holds = Vec::new();
        for number in 0..100_usize {
            holds.push((accept(&stores[0], &format!("k{number}"), 1).await, Arc::clone(&stores[number % 2])));
        }
        // 7 units each, 100 are allowed: 14 fit, and 2 units are left over.
        let judged = holds.into_iter().map(|(hold, store)| {
            tokio::spawn(async move {
                loop {
                    // On a busy machine a hundred that wait for one counter may wait too long; then they come again.
                    match judge_with(&store, hold, State::Queued, vec![draw("cap", 7, 100)]).await {
                        Err(error) if error.is_transient() => {}
                        outcome => return outcome,
                    }
                }
            })
        });
        let mut admitted = 0_u64;
        for outcome in futures::future::join_all(judged).await {
            match outcome.unwrap() {
                Ok(()) => admitted += 1,
                Err(StoreError::LimitExceeded { counter, amount, count }) => {
                    assert_eq!(counter, "cap");
                    assert_eq!((amount, count), (Amount::from_sat(98), 14), "only what is full refuses");
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(admitted, 14);
        assert_eq!(used(&stores[0], "cap").await, usage(98, 14));
        // What is left over is still there for one that fits.
        queued(&stores[1], "small", vec![draw("cap", 2, 100)]).await;
        assert_eq!(used(&stores[1], "cap").await, usage(100, 15));
    });
}

#[test]
fn all_draws_or_none() {
    for_each_store(|store| async move {
        queued(&store, "first", vec![draw("day", 90, 100)]).await;
        let hold = accept(&store, "second", 1).await;
        let before = get(&store, hold).await;
        let draws = vec![draw("hour", 20, 100), draw("day", 20, 100)];
        let refused = judge_with(&store, hold, State::Queued, draws.clone()).await;
        let full = StoreError::LimitExceeded { counter: "day".to_owned(), amount: Amount::from_sat(90), count: 1 };
        assert_eq!(refused, Err(full));
        assert_eq!(get(&store, hold).await, before, "nothing of it is left");
        assert_eq!(used(&store, "hour").await, Usage::default());
        // A refusal is written without its draws.
        judge_with(&store, hold, State::Rejected, draws).await.unwrap();
        assert_eq!(used(&store, "day").await, usage(90, 1));
        assert_eq!(used(&store, "hour").await, Usage::default());
    });
}

#[test]
fn one_verdict_may_draw_twice_from_a_counter() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        let twice = |each| vec![draw("c", each, 100), draw("c", each, 100)];
        assert!(judge_with(&store, hold, State::Queued, twice(51)).await.is_err());
        judge_with(&store, hold, State::Queued, twice(50)).await.unwrap();
        assert_eq!(used(&store, "c").await, usage(100, 2));
        store.abandon(hold, State::Queued, State::Rejected, reason("x"), 9).await.unwrap();
        assert_eq!(used(&store, "c").await, Usage::default());
    });
}

#[test]
fn windows_slide_by_buckets_and_counts_are_limits_too() {
    for_each_store(|store| async move {
        let at = |bucket, since| Draw { bucket, since, ..draw("c", 60, 100) };
        queued(&store, "one", vec![at(10, 1)]).await;
        let late = accept(&store, "late", 1).await;
        assert!(judge_with(&store, late, State::Queued, vec![at(19, 10)]).await.is_err(), "still in the window");
        judge_with(&store, late, State::Queued, vec![at(20, 11)]).await.unwrap();
        // A gateway whose clock is behind sees what one that is ahead has drawn.
        let behind = accept(&store, "behind", 1).await;
        assert!(judge_with(&store, behind, State::Queued, vec![at(19, 11)]).await.is_err());
        assert_eq!(store.usage("c", 0, 19).await.unwrap(), usage(60, 1));
        assert_eq!(store.usage("c", 10, 20).await.unwrap(), usage(120, 2));
        assert_eq!(store.usage("c", 21, u64::MAX).await.unwrap(), Usage::default());

        let counted = |key: &'static str| Draw { max_amount: None, max_count: Some(2), ..draw(key, 1, 0) };
        queued(&store, "n1", vec![counted("n")]).await;
        queued(&store, "n2", vec![counted("n")]).await;
        let third = accept(&store, "n3", 1).await;
        let refused = judge_with(&store, third, State::Queued, vec![counted("n")]).await;
        assert!(matches!(refused, Err(StoreError::LimitExceeded { count: 2, .. })));
    });
}

#[test]
fn amounts_are_exact_in_256_bits() {
    for_each_store(|store| async move {
        let half = Amount::from_base_units(Amount::MAX.base_units() >> 1);
        let big = |key: &str, amount| Draw { amount, max_amount: Some(Amount::MAX), ..draw(key, 0, 0) };
        queued(&store, "one", vec![big("c", half)]).await;
        queued(&store, "two", vec![big("c", half)]).await;
        queued(&store, "three", vec![big("c", Amount::from_sat(1))]).await;
        assert_eq!(used(&store, "c").await, Usage { amount: Amount::MAX, count: 3 });
        let more = accept(&store, "four", 1).await;
        let refused = judge_with(&store, more, State::Queued, vec![big("c", Amount::from_sat(1))]).await;
        assert!(matches!(refused, Err(StoreError::LimitExceeded { count: 3, .. })));
    });
}

/// How a record may end, and what becomes of the ten units that it drew.
#[test]
fn draws_end_as_the_record_ends() {
    for_each_store(|store| async move {
        let (back, kept) = (Usage::default(), usage(10, 1));
        let ends = [
            (State::Finalized, Exposure::Certain, kept),
            (State::Failed, Exposure::Certain, kept),
            (State::Expired, Exposure::None, back),
            (State::Cancelled, Exposure::None, back),
            (State::Replaced, Exposure::None, back),
            (State::Quarantined, Exposure::Possible, kept),
            (State::Quarantined, Exposure::None, kept),
            (State::Expired, Exposure::Possible, kept),
        ];
        for (nonce, (end, exposure, left)) in (0..).zip(ends) {
            let counter = format!("c{nonce}");
            let hold = sent(&store, &format!("k{nonce}"), nonce, vec![draw(&counter, 10, 10)]).await;
            assert_eq!(used(&store, &counter).await, usage(10, 1), "pending");
            observe(&store, hold, State::Broadcasting, State::Included).await.unwrap();
            assert_eq!(used(&store, &counter).await, usage(10, 1), "no end yet");
            store.observed(hold, Sight { exposure, ..sight(State::Included, end) }).await.unwrap();
            assert_eq!(used(&store, &counter).await, left, "{end} {exposure:?}");
        }
    });
}

#[test]
fn what_was_never_signed_gives_its_draws_back() {
    for_each_store(|store| async move {
        let hold = queued(&store, "abandoned", vec![draw("c", 10, 10)]).await;
        freeze(&store, hold, 1).await.unwrap();
        store.abandon(hold, State::Queued, State::Rejected, reason("x"), 9).await.unwrap();
        assert_eq!(used(&store, "c").await, Usage::default());
        let hold = queued(&store, "cancelled", vec![draw("c", 10, 10)]).await;
        assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Done));
        assert_eq!(used(&store, "c").await, Usage::default());
        // And is there for others, once.
        queued(&store, "next", vec![draw("c", 10, 10)]).await;
        let last = accept(&store, "last", 1).await;
        assert!(judge_with(&store, last, State::Queued, vec![draw("c", 1, 10)]).await.is_err());
    });
}

#[test]
fn a_quarantined_records_draws_end_with_it_later() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 1, vec![draw("c", 10, 10)]).await;
        store
            .observed(hold, Sight { exposure: Exposure::None, ..sight(State::Broadcasting, State::Quarantined) })
            .await
            .unwrap();
        assert_eq!(used(&store, "c").await, usage(10, 1));
        assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Done));
        assert_eq!(used(&store, "c").await, Usage::default());
    });
}

#[test]
fn draws_and_ends_at_once_leave_the_counters_exact() {
    for_each_place(|place| async move {
        let stores = [place.open().await, place.open().await];
        let work = (0..40_u64).map(|number| {
            let store = Arc::clone(&stores[usize::try_from(number % 2).unwrap()]);
            tokio::spawn(async move {
                // In both orders, so that locks taken as they come would wait in a circle.
                let mut draws = vec![draw("a", 3, 1_000), draw("b", 5, 1_000)];
                if number % 2 == 0 {
                    draws.reverse();
                }
                let hold = sent(&store, &format!("k{number}"), number, draws).await;
                let end = if number % 4 < 2 { State::Finalized } else { State::Cancelled };
                observe(&store, hold, State::Broadcasting, end).await.unwrap();
            })
        });
        for done in futures::future::join_all(work).await {
            done.unwrap();
        }
        assert_eq!(used(&stores[0], "a").await, usage(60, 20));
        assert_eq!(used(&stores[0], "b").await, usage(100, 20));
    });
}
