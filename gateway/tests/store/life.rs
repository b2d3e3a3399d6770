//! One gateway, one record after the other: keys, tokens, slots, states.

use std::collections::BTreeSet;
use std::sync::Arc;

use chains::network::Network;
use gateway::record::{Exposure, RecordId, State};
use gateway::store::{Accepted, Filter, Sight, SlotRow, StoreError};
use signer::request::Claims;

use crate::world::{
    accept, ask, claims, for_each_place, for_each_store, freeze, get, inclusion, judge, network, observe, reason,
    sight, sign, slot, to_broadcasting, to_signed,
};

#[test]
fn one_key_one_intent() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        assert!(matches!(store.accept(ask("k", 1)).await, Ok(Accepted::Known(known)) if known == hold.id));
        assert_eq!(store.accept(ask("k", 2)).await.unwrap_err(), StoreError::IdempotencyConflict(hold.id));
        assert_ne!(accept(&store, "other", 1).await.id, hold.id);
        let found = store.by_key(&"trader".parse().unwrap(), &"k".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(found, get(&store, hold).await);
        assert_eq!(store.by_key(&"trader".parse().unwrap(), &"none".parse().unwrap()).await.unwrap(), None);
    });
}

#[test]
fn a_token_is_used_once() {
    for_each_store(|store| async move {
        let first = ask("k", 1);
        let mut replay = ask("k2", 1);
        replay.claims.jti.clone_from(&first.claims.jti);
        store.accept(first.clone()).await.unwrap();
        assert_eq!(store.accept(replay.clone()).await.unwrap_err(), StoreError::TokenReplayed);
        assert_eq!(store.use_token(first.claims, 1_000_000).await.unwrap_err(), StoreError::TokenReplayed);
        // Nothing of the replay is left: the key is free.
        replay.claims.jti = "fresh".to_owned();
        assert!(matches!(store.accept(replay.clone()).await, Ok(Accepted::New(_))));

        let other = claims();
        store.use_token(other.clone(), 1_000_000).await.unwrap();
        assert_eq!(store.use_token(other.clone(), 1_000_000).await.unwrap_err(), StoreError::TokenReplayed);
        replay.claims = other;
        assert_eq!(store.accept(replay).await.unwrap_err(), StoreError::TokenReplayed);
    });
}

#[test]
fn a_used_token_is_kept_as_long_as_it_could_be_used() {
    for_each_store(|store| async move {
        let used = claims();
        store.use_token(used.clone(), 1_000_000).await.unwrap();
        let expiry = used.exp * 1000;
        for at in [expiry, expiry + 30_000, expiry + 59_000] {
            assert_eq!(store.use_token(used.clone(), at).await.unwrap_err(), StoreError::TokenReplayed, "{at}");
        }
        // Each such use may be what the earlier ones are forgotten by, before it or after it.
        for _ in 0..2 {
            let later = Claims { exp: used.exp + 3_600, ..claims() };
            store.use_token(later, expiry + 3_600_000).await.unwrap();
        }
        store.use_token(used, expiry + 3_600_000).await.unwrap();
    });
}

#[test]
fn a_conflict_uses_up_no_token() {
    for_each_store(|store| async move {
        accept(&store, "k", 1).await;
        let mut ask = ask("k", 2);
        assert!(store.accept(ask.clone()).await.is_err());
        ask.idempotency_key = "k2".parse().unwrap();
        assert!(matches!(store.accept(ask).await, Ok(Accepted::New(_))));
    });
}

#[test]
fn a_refusal_burns_no_key() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        judge(&store, hold, State::Rejected).await;
        let again = accept(&store, "k", 1).await;
        assert_ne!(again.id, hold.id);
        assert_eq!(store.accept(ask("k", 2)).await.unwrap_err(), StoreError::IdempotencyConflict(again.id));
        assert_eq!(get(&store, hold).await.state, State::Rejected, "the refused record stays");
    });
}

#[test]
fn what_was_signed_burns_its_key_for_good() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        to_broadcasting(&store, hold, 7).await;
        observe(&store, hold, State::Broadcasting, State::Expired).await.unwrap();
        assert!(matches!(store.accept(ask("k", 1)).await, Ok(Accepted::Known(known)) if known == hold.id));
    });
}

#[test]
fn a_slot_serves_one_payment() {
    for_each_store(|store| async move {
        let (one, two) = (accept(&store, "one", 1).await, accept(&store, "two", 1).await);
        judge(&store, one, State::Queued).await;
        judge(&store, two, State::Queued).await;
        freeze(&store, one, 0).await.unwrap();
        assert_eq!(freeze(&store, two, 0).await.unwrap_err(), StoreError::SlotTaken(slot(0)));
        assert!(get(&store, two).await.attempts.is_empty(), "a refused freeze leaves nothing");
        assert_eq!(store.busy(network()).await.unwrap(), BTreeSet::from([slot(0)]));

        store.thaw(one, 5).await.unwrap();
        assert!(get(&store, one).await.attempts.is_empty());
        freeze(&store, two, 0).await.unwrap();
    });
}

#[test]
fn a_burned_slot_is_never_given_back() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        judge(&store, hold, State::Queued).await;
        freeze(&store, hold, 0).await.unwrap();
        store.burn(hold, 5).await.unwrap();
        assert!(matches!(store.thaw(hold, 6).await, Err(StoreError::Stale { .. })));
        let end = store.abandon(hold, State::Signing, State::Cancelled, reason("x"), 6).await;
        assert!(matches!(end, Err(StoreError::NoSuchArrow { .. })));
        let two = accept(&store, "two", 1).await;
        judge(&store, two, State::Queued).await;
        assert_eq!(freeze(&store, two, 0).await.unwrap_err(), StoreError::SlotTaken(slot(0)));
    });
}

#[test]
fn slots_are_listed_by_prefix_with_whose_they_are() {
    for_each_store(|store| async move {
        let (one, two) = (accept(&store, "one", 1).await, accept(&store, "two", 1).await);
        to_broadcasting(&store, one, 10).await;
        observe(&store, one, State::Broadcasting, State::Finalized).await.unwrap();
        judge(&store, two, State::Queued).await;
        freeze(&store, two, 9).await.unwrap();
        let row = |nonce, hold: gateway::store::Hold, state, burned| SlotRow {
            slot: slot(nonce),
            record: hold.id,
            state,
            burned,
        };
        let expected = [row(10, one, State::Finalized, true), row(9, two, State::Queued, false)];
        assert_eq!(store.slots(network(), "ethereum:31337/0xabc/").await.unwrap(), expected);
        assert_eq!(store.slots(network(), "ethereum:31337/0xabc/1").await.unwrap(), expected[..1]);
        assert!(store.slots(network(), "ethereum:31337/0xABC/").await.unwrap().is_empty());
        assert!(store.slots(network(), "ethereum:31337/%").await.unwrap().is_empty());
        assert!(store.slots("ethereum:1".parse().unwrap(), "").await.unwrap().is_empty());
    });
}

#[test]
fn nothing_is_signed_without_a_slot_and_nothing_sent_unsigned() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        assert!(freeze(&store, hold, 0).await.is_err(), "not judged");
        judge(&store, hold, State::Queued).await;
        assert!(store.burn(hold, 5).await.is_err(), "not frozen");
        assert!(store.sending(hold, 1, 5).await.is_err(), "not frozen");
        freeze(&store, hold, 0).await.unwrap();
        assert!(matches!(sign(&store, hold, 1).await, Err(StoreError::Stale { .. })), "not burned");
        store.burn(hold, 5).await.unwrap();
        assert!(matches!(store.sending(hold, 1, 5).await, Err(StoreError::Stale { .. })), "not signed");
        assert!(matches!(sign(&store, hold, 2).await, Err(StoreError::Stale { .. })), "there is no second");
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::Signing, Exposure::Possible));
    });
}

#[test]
fn the_whole_walk_with_a_reorg() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        to_broadcasting(&store, hold, 3).await;
        let walk = [
            (State::Broadcasting, State::InMempool, None),
            (State::InMempool, State::Included, Some(inclusion(10))),
            (State::Included, State::Included, Some(inclusion(11))),
            (State::Included, State::InMempool, None),
            (State::InMempool, State::Confirmed, Some(inclusion(12))),
            (State::Confirmed, State::Finalized, Some(inclusion(12))),
        ];
        for (from, to, inclusion) in walk {
            store.observed(hold, Sight { inclusion: inclusion.clone(), ..sight(from, to) }).await.unwrap();
            assert_eq!(get(&store, hold).await.attempt().unwrap().inclusion, inclusion);
        }
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::Finalized, Exposure::Certain));
        let attempt = record.attempt().unwrap();
        assert_eq!(attempt.signed.as_ref().unwrap().bytes, [4, 5, 6]);
        assert_eq!(attempt.slots, BTreeSet::from([slot(3)]));
        assert_eq!(attempt.sent_at, Some(7));
        let states: Vec<_> = record.history.iter().map(|event| event.state).collect();
        let expected = [
            State::Received,
            State::Screening,
            State::Queued,
            State::Queued,
            State::Signing,
            State::Signed,
            State::Broadcasting,
            State::InMempool,
            State::Included,
            State::Included,
            State::InMempool,
            State::Confirmed,
            State::Finalized,
        ];
        assert_eq!(states, expected);
        assert!(store.active(network()).await.unwrap().is_empty());
        assert!(store.busy(network()).await.unwrap().is_empty(), "the chain itself has used the slot up");
        assert!(observe(&store, hold, State::Finalized, State::InMempool).await.is_err());
    });
}

#[test]
fn steps_whose_answer_was_lost_can_be_repeated() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        to_signed(&store, hold, 3).await;
        sign(&store, hold, 1).await.unwrap();
        store.sending(hold, 1, 7).await.unwrap();
        store.sending(hold, 1, 99).await.unwrap();
        sign(&store, hold, 1).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.attempts.len()), (State::Broadcasting, 1));
        assert_eq!(record.attempt().unwrap().sent_at, Some(7), "the first time counts");
        let events = record.history.len();
        assert!(matches!(store.burn(hold, 9).await, Err(StoreError::Stale { found: State::Broadcasting, .. })));
        let other = gateway::record::SignedBytes { bytes: vec![0], id: "other".to_owned() };
        let signed_twice = store.signed(hold, 1, other, serde_json::Value::Null, 9).await;
        assert!(matches!(signed_twice, Err(StoreError::Stale { .. })));
        assert_eq!(get(&store, hold).await.history.len(), events);
    });
}

#[test]
fn a_stale_step_writes_nothing() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        to_signed(&store, hold, 3).await;
        let before = get(&store, hold).await;
        let sight = Sight { inclusion: Some(inclusion(1)), ..sight(State::Broadcasting, State::Included) };
        let stale = store.observed(hold, sight).await;
        assert!(matches!(stale, Err(StoreError::Stale { found: State::Signed, .. })));
        assert_eq!(get(&store, hold).await, before);
        let unknown = gateway::store::Hold { id: RecordId::new(uuid::Uuid::now_v7()), fence: 1 };
        assert_eq!(store.burn(unknown, 1).await, Err(StoreError::NoRecord(unknown.id)));
        assert_eq!(store.get(unknown.id).await, Ok(None));
    });
}

#[test]
fn nothing_is_abandoned_to_a_state_that_goes_on() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        let on = store.abandon(hold, State::Received, State::Queued, reason("x"), 2).await;
        assert!(matches!(on, Err(StoreError::NoSuchArrow { .. })));
        assert_eq!(get(&store, hold).await.state, State::Received);
    });
}

#[test]
fn notes_are_written_once() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        let events = get(&store, hold).await.history.len();
        for _ in 0..3 {
            store.note(hold, Some(reason("node_unreachable")), 2).await.unwrap();
        }
        let record = get(&store, hold).await;
        assert_eq!(record.reason, Some(reason("node_unreachable")));
        assert_eq!(record.history.len(), events + 1);
        store.note(hold, None, 3).await.unwrap();
        assert_eq!(get(&store, hold).await.reason, None);
        judge(&store, hold, State::Rejected).await;
        store.note(hold, None, 4).await.unwrap();
        assert_eq!(get(&store, hold).await.reason, Some(reason("because")), "the end keeps its reason");
    });
}

#[test]
fn lists_are_filtered_and_newest_first() {
    for_each_store(|store| async move {
        let mut ids = Vec::new();
        for number in 0..5 {
            let hold = accept(&store, &format!("k{number}"), 1).await;
            if number == 1 {
                judge(&store, hold, State::Rejected).await;
            }
            ids.push(hold.id);
        }
        let all = Filter { client: None, wallet: None, state: None, deals: false, before: None, limit: 10 };
        let list = |filter: Filter| {
            let store = Arc::clone(&store);
            async move { store.list(filter).await.unwrap().into_iter().map(|r| r.id).collect::<Vec<_>>() }
        };
        let newest_first: Vec<_> = ids.iter().rev().copied().collect();
        assert_eq!(list(all.clone()).await, newest_first);
        assert_eq!(list(Filter { before: Some(ids[2]), ..all.clone() }).await, [ids[1], ids[0]]);
        assert_eq!(list(Filter { state: Some(State::Rejected), ..all.clone() }).await, [ids[1]]);
        assert_eq!(list(Filter { limit: 2, ..all.clone() }).await, [ids[4], ids[3]]);
        assert!(list(Filter { client: Some("nobody".parse().unwrap()), ..all.clone() }).await.is_empty());
        assert!(list(Filter { wallet: Some("nothing".to_owned()), ..all.clone() }).await.is_empty());
        let whole = store.list(all).await.unwrap();
        for record in whole {
            assert_eq!(store.get(record.id).await.unwrap().unwrap(), record);
        }
    });
}

#[test]
fn a_hundred_at_once_with_one_key_are_one() {
    for_each_store(|store| async move {
        let asks = (0..100).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.accept(ask("same", 1)).await.unwrap() })
        });
        let mut new = 0;
        for answer in futures::future::join_all(asks).await {
            new += usize::from(matches!(answer.unwrap(), Accepted::New(_)));
        }
        assert_eq!(new, 1);
    });
}

#[test]
fn chain_changes_come_back_in_order() {
    for_each_store(|store| async move {
        let other: Network = "bitcoin:regtest".parse().unwrap();
        for byte in 0..3 {
            store.save_chain_changes(other, 0, vec![byte]).await.unwrap();
        }
        store.save_chain_changes(other, 1, vec![9]).await.unwrap();
        assert_eq!(store.chain_changes(other, 0).await.unwrap(), [[0], [1], [2]]);
        let appends = (10..30).map(|byte| store.save_chain_changes(other, 2, vec![byte]));
        futures::future::try_join_all(appends).await.unwrap();
        let mut all = store.chain_changes(other, 2).await.unwrap().concat();
        all.sort_unstable();
        assert_eq!(all, (10..30).collect::<Vec<u8>>(), "none is lost where they come at once");
    });
}

#[test]
fn a_store_opens_again_with_everything_in_it() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let hold = accept(&store, "k", 1).await;
        to_signed(&store, hold, 3).await;
        let before = get(&store, hold).await;
        drop(store);
        let store = place.open().await;
        assert_eq!(get(&store, hold).await, before);
        assert_eq!(store.active(network()).await.unwrap(), [hold.id]);
    });
}
