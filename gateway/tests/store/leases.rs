//! Several gateways on one store: who holds what, and what a hold that was lost can still do.

use std::collections::BTreeSet;
use std::sync::Arc;

use chains::chain::Replacement;
use gateway::record::{RecordId, SignedBytes, State};
use gateway::store::{Hold, StoreError};
use serde_json::Value;

use crate::world::{
    Shop, accept, ask, for_each_place, for_each_store, freeze, gateway, get, judge, judge_with, network, observe,
    reason, replace, to_broadcasting,
};

const NOW: u64 = 1_000_000;
const UNTIL: u64 = 1_010_000;

async fn claim(store: &Shop, name: &str, at: u64) -> Vec<Hold> {
    store.claim(&gateway(name), network(), at, at + 10_000, 100).await.unwrap()
}

#[test]
fn a_record_is_its_gateways_until_the_lease_runs_out() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        assert!(claim(&store, "b", NOW).await.is_empty());
        assert!(claim(&store, "a", NOW).await.is_empty(), "in the same life it has it already");
        assert!(claim(&store, "b", UNTIL).await.is_empty(), "the last millisecond counts");
        let taken = claim(&store, "b", UNTIL + 1).await;
        assert_eq!(taken, [Hold { fence: hold.fence + 1, ..hold }]);
        assert!(claim(&store, "a", UNTIL + 1).await.is_empty());
    });
}

#[test]
fn a_gateway_that_comes_back_has_its_own_at_once() {
    for_each_place(|place| async move {
        let first = place.open().await;
        let hold = accept(&first, "k", 1).await;
        let second = place.open().await;
        assert!(claim(&second, "b", NOW).await.is_empty());
        let again = claim(&second, "a", NOW).await;
        assert_eq!(again, [Hold { fence: hold.fence + 1, ..hold }]);
        // Its earlier life, should it not be over, can't take it back.
        assert!(claim(&first, "a", NOW).await.is_empty());
        assert_eq!(first.thaw(hold, 1).await, Err(StoreError::Fenced(hold.id)));
    });
}

#[test]
fn claims_take_the_oldest_first_of_one_network_only() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(accept(&store, &format!("k{number}"), 1).await.id);
        }
        let mut elsewhere = ask("elsewhere", 1);
        elsewhere.network = "ethereum:1".parse().unwrap();
        store.accept(elsewhere).await.unwrap();
        let done = accept(&store, "done", 1).await;
        judge(&store, done, State::Rejected).await;

        let store = place.open().await;
        let a = gateway("a");
        let take = |limit| store.claim(&a, network(), NOW, UNTIL, limit);
        let ids_of = |holds: Vec<Hold>| holds.iter().map(|hold| hold.id).collect::<Vec<_>>();
        assert_eq!(ids_of(take(2).await.unwrap()), ids[..2]);
        assert_eq!(ids_of(take(100).await.unwrap()), ids[2..]);
        assert!(take(100).await.unwrap().is_empty());
    });
}

/// Every write that there is under a hold.
async fn every_write(store: &Shop, hold: Hold) -> Vec<Result<(), StoreError>> {
    let signed = SignedBytes { bytes: vec![1], id: "x".to_owned() };
    vec![
        judge_with(store, hold, State::Queued, Vec::new()).await,
        freeze(store, hold, 77).await.map(drop),
        store.thaw(hold, 1).await,
        store.burn(hold, 1).await,
        replace(store, hold, Replacement::SpeedUp, [5]).await.map(drop),
        store.signed(hold, 1, signed, Value::Null, 1).await,
        store.give_up(hold, 2, reason("x"), 1).await,
        store.sending(hold, 1, 1).await,
        observe(store, hold, State::Broadcasting, State::InMempool).await,
        store.abandon(hold, State::Received, State::Cancelled, reason("x"), 1).await,
        store.note(hold, Some(reason("x")), 1).await,
    ]
}

#[test]
fn a_lost_hold_writes_nothing() {
    for_each_store(|store| async move {
        let fresh = accept(&store, "fresh", 1).await;
        let sent = accept(&store, "sent", 1).await;
        to_broadcasting(&store, sent, 5).await;
        let taken = claim(&store, "b", UNTIL + 1).await;
        assert_eq!(taken.len(), 2);
        for lost in [fresh, sent] {
            let before = get(&store, lost).await;
            for (number, outcome) in every_write(&store, lost).await.into_iter().enumerate() {
                assert_eq!(outcome, Err(StoreError::Fenced(lost.id)), "write {number}");
            }
            assert!(store.renew(vec![lost], UNTIL).await.unwrap().is_empty());
            store.release(vec![lost]).await.unwrap();
            assert_eq!(get(&store, lost).await, before);
        }
        assert_eq!(store.renew(taken.clone(), UNTIL + 20_000).await.unwrap(), taken, "a lost release frees nothing");
        // The one that has it goes on.
        observe(&store, *taken.iter().find(|hold| hold.id == sent.id).unwrap(), State::Broadcasting, State::InMempool)
            .await
            .unwrap();
    });
}

#[test]
fn a_fence_that_was_never_given_writes_nothing() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        for fence in [0, hold.fence + 1, u64::MAX] {
            let forged = Hold { fence, ..hold };
            assert_eq!(store.note(forged, Some(reason("x")), 1).await, Err(StoreError::Fenced(hold.id)));
        }
    });
}

#[test]
fn renewed_leases_stand_longer_and_released_ones_end() {
    for_each_store(|store| async move {
        let (one, two) = (accept(&store, "one", 1).await, accept(&store, "two", 1).await);
        assert_eq!(store.renew(vec![one, two], UNTIL + 5_000).await.unwrap(), [one, two]);
        assert!(claim(&store, "b", UNTIL + 1).await.is_empty());
        store.release(vec![two]).await.unwrap();
        assert_eq!(store.note(two, Some(reason("x")), 1).await, Err(StoreError::Fenced(two.id)));
        assert_eq!(store.renew(vec![one, two], UNTIL + 5_000).await.unwrap(), [one]);
        let taken = claim(&store, "b", UNTIL + 1).await;
        assert_eq!(taken.iter().map(|hold| hold.id).collect::<Vec<_>>(), [two.id]);
        assert!(taken[0].fence > two.fence);

        judge(&store, one, State::Rejected).await;
        assert!(store.renew(vec![one], UNTIL + 9_000).await.unwrap().is_empty(), "what has ended is nobody's");
        assert!(store.renew(Vec::new(), UNTIL).await.unwrap().is_empty());
        store.release(Vec::new()).await.unwrap();
    });
}

#[test]
fn a_lease_that_ran_out_stands_until_somebody_takes_the_record() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        // The holder's clock says that it is too late, yet nobody came.
        judge(&store, hold, State::Queued).await;
        assert_eq!(store.renew(vec![hold], UNTIL * 2).await.unwrap(), [hold]);
    });
}

#[test]
fn three_gateways_that_claim_at_once_never_share_a_record() {
    const RECORDS: usize = 60;
    for_each_place(|place| async move {
        let store = place.open().await;
        for number in 0..RECORDS {
            accept(&store, &format!("k{number}"), 1).await;
        }
        let mut gateways = Vec::new();
        for name in ["x", "y", "z"] {
            gateways.push((name, place.open().await));
        }
        let claims = gateways.into_iter().map(|(name, store)| {
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let taken = store.claim(&gateway(name), network(), UNTIL + 1, UNTIL * 2, 7).await.unwrap();
                    if taken.is_empty() {
                        return mine;
                    }
                    mine.extend(taken);
                }
            })
        });
        let mut all = Vec::new();
        for taken in futures::future::join_all(claims).await {
            all.extend(taken.unwrap());
        }
        let ids: BTreeSet<RecordId> = all.iter().map(|hold| hold.id).collect();
        // One that skips what another is just taking may find nothing and stop, so some may be left; never one twice.
        assert_eq!(ids.len(), all.len());
        let rest = store.claim(&gateway("w"), network(), UNTIL + 1, UNTIL * 2, 100).await.unwrap();
        assert!(rest.iter().all(|hold| !ids.contains(&hold.id)));
        assert_eq!(all.len() + rest.len(), RECORDS);
    });
}

#[test]
fn of_two_that_take_a_step_at_once_one_does() {
    for_each_place(|place| async move {
        let (one, two) = (place.open().await, place.open().await);
        let hold = accept(&one, "k", 1).await;
        judge(&one, hold, State::Queued).await;
        let steps = (0..20).map(|number| {
            let store = Arc::clone(if number % 2 == 0 { &one } else { &two });
            tokio::spawn(async move {
                freeze(&store, hold, 5).await?;
                store.burn(hold, 5).await
            })
        });
        let mut burned = 0;
        for outcome in futures::future::join_all(steps).await {
            burned += usize::from(outcome.unwrap().is_ok());
        }
        assert_eq!(burned, 1);
        let record = get(&one, hold).await;
        assert_eq!(record.state, State::Signing);
        assert_eq!(record.history.iter().filter(|event| event.state == State::Signing).count(), 1);
    });
}

#[test]
fn names_of_gateways_are_short_and_plain() {
    for bad in ["", "a b", "ä", "a\n", &"x".repeat(65)] {
        assert!(bad.parse::<gateway::store::GatewayId>().is_err(), "{bad:?}");
    }
    assert_eq!(gateway("eu-1/a").to_string(), "eu-1/a");
}
