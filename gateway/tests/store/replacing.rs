//! Replacements and cancelling: every attempt conflicts with every other, and only the chain ends what was signed.

use chains::chain::Replacement;
use gateway::record::{Exposure, Purpose, SignedBytes, State};
use gateway::store::{Accepted, Cancelling, Hold, Sight, StoreError};
use serde_json::Value;
use signer::request::SignedRequest;

use crate::world::{
    Shop, accept, ask, cancel, claims, for_each_store, freeze, gateway, get, inclusion, judge, network, observe,
    reason, replace, sight, sign, slot, slots, to_broadcasting, to_signed, to_signing,
};

async fn sent(store: &Shop, key: &str, nonce: u64) -> Hold {
    let hold = accept(store, key, 1).await;
    to_broadcasting(store, hold, nonce).await;
    hold
}

#[test]
fn a_replacement_is_frozen_signed_and_sent_while_the_record_stays() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        observe(&store, hold, State::Broadcasting, State::InMempool).await.unwrap();
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [5]).await, Ok(2));
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::InMempool, Exposure::Possible));
        let second = record.unsigned_replacement().unwrap();
        assert_eq!((second.number, second.purpose), (2, Purpose::SpeedUp));
        assert_eq!((second.unsigned.as_slice(), &second.slots), ([7, 8, 9].as_slice(), &slots([5])));
        assert!(matches!(store.sending(hold, 2, 9).await, Err(StoreError::Stale { .. })), "not signed (I3)");
        assert!(matches!(replace(&store, hold, Replacement::SpeedUp, [5]).await, Err(StoreError::Stale { .. })));

        sign(&store, hold, 2).await.unwrap();
        sign(&store, hold, 2).await.unwrap();
        store.sending(hold, 2, 10).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!(record.state, State::InMempool);
        assert_eq!(record.attempt().unwrap().sent_at, Some(10));
        assert_eq!(record.attempts[0].sent_at, Some(7));
        assert_eq!(replace(&store, hold, Replacement::Cancel, [5]).await, Ok(3));
        assert_eq!(get(&store, hold).await.attempt().unwrap().purpose, Purpose::Cancel);
    });
}

#[test]
fn every_attempt_conflicts_with_every_other() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        judge(&store, hold, State::Queued).await;
        store.freeze(hold, vec![1], slots([1, 2]), 4).await.unwrap();
        store.burn(hold, 5).await.unwrap();
        sign(&store, hold, 1).await.unwrap();
        store.sending(hold, 1, 7).await.unwrap();

        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [2, 3]).await, Ok(2));
        sign(&store, hold, 2).await.unwrap();
        // In conflict with the last attempt, but the first could be included beside it.
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [3]).await, Err(StoreError::NoConflict(1)));
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [1]).await, Err(StoreError::NoConflict(2)));
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, []).await, Err(StoreError::NoConflict(1)));
        assert_eq!(get(&store, hold).await.attempts.len(), 2);
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [2]).await, Ok(3));
        // A given-up attempt may have been signed by some signer all the same.
        store.give_up(hold, 3, reason("signers_refused"), 9).await.unwrap();
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [1, 3]).await, Err(StoreError::NoConflict(3)));
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [1, 2, 4]).await, Ok(4));
        assert_eq!(store.busy(network()).await.unwrap(), slots([1, 2, 3, 4]));
    });
}

#[test]
fn the_slots_of_a_replacement_are_burned_at_once_and_for_good() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        let other = accept(&store, "other", 1).await;
        judge(&store, other, State::Queued).await;
        freeze(&store, other, 6).await.unwrap();
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [5, 6]).await, Err(StoreError::SlotTaken(slot(6))));
        assert_eq!(get(&store, hold).await.attempts.len(), 1, "a refused replacement leaves nothing");
        replace(&store, hold, Replacement::SpeedUp, [5, 7]).await.unwrap();
        store.give_up(hold, 2, reason("signers_refused"), 9).await.unwrap();
        store.thaw(other, 9).await.unwrap();
        assert_eq!(freeze(&store, other, 7).await, Err(StoreError::SlotTaken(slot(7))));
        assert!(store.slots(network(), "").await.unwrap().iter().all(|row| row.burned));
    });
}

#[test]
fn a_replacement_that_is_given_up_leaves_the_others_standing() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        let first = store.give_up(hold, 1, reason("x"), 9).await;
        assert!(matches!(first, Err(StoreError::Stale { .. })), "the payment itself is not given up so");
        replace(&store, hold, Replacement::SpeedUp, [5]).await.unwrap();
        store.give_up(hold, 2, reason("signers_refused"), 9).await.unwrap();
        store.give_up(hold, 2, reason("again"), 9).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!(record.attempts[1].given_up, Some(reason("signers_refused")));
        assert_eq!((record.unsigned_replacement(), record.state), (None, State::Broadcasting));
        assert!(matches!(sign(&store, hold, 2).await, Err(StoreError::Stale { .. })));
        assert_eq!(replace(&store, hold, Replacement::SpeedUp, [5]).await, Ok(3));
        sign(&store, hold, 3).await.unwrap();
        assert!(matches!(store.give_up(hold, 3, reason("x"), 9).await, Err(StoreError::Stale { .. })), "signed");
    });
}

#[test]
fn nothing_in_a_block_or_at_its_end_is_replaced() {
    for_each_store(|store| async move {
        for (number, state) in
            [State::Included, State::Confirmed, State::Finalized, State::Expired].into_iter().enumerate()
        {
            let nonce = u64::try_from(number).unwrap();
            let hold = sent(&store, &format!("k{number}"), nonce).await;
            observe(&store, hold, State::Broadcasting, state).await.unwrap();
            let refused = replace(&store, hold, Replacement::Cancel, [nonce]).await;
            assert!(matches!(refused, Err(StoreError::Stale { found, .. }) if found == state), "{state}");
        }
        let unsent = accept(&store, "unsent", 1).await;
        to_signed(&store, unsent, 50).await;
        assert!(matches!(replace(&store, unsent, Replacement::SpeedUp, [50]).await, Err(StoreError::Stale { .. })));
    });
}

#[test]
fn signatures_that_come_late_are_kept() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        replace(&store, hold, Replacement::SpeedUp, [5]).await.unwrap();
        // The first attempt is in a block by the time the signers answer; a reorg may bring the second one's turn.
        observe(&store, hold, State::Broadcasting, State::Included).await.unwrap();
        sign(&store, hold, 2).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!(record.state, State::Included);
        assert!(record.attempts[1].signed.is_some());
        observe(&store, hold, State::Included, State::Finalized).await.unwrap();
        let signed = SignedBytes { bytes: vec![9], id: "late".to_owned() };
        assert!(matches!(store.signed(hold, 2, signed, Value::Null, 9).await, Err(StoreError::Stale { .. })));
    });
}

#[test]
fn the_attempt_in_the_best_chain_is_the_only_one_there() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        replace(&store, hold, Replacement::Cancel, [5]).await.unwrap();
        sign(&store, hold, 2).await.unwrap();
        let seen = |from, to, attempt, height| Sight { attempt, inclusion: Some(inclusion(height)), ..sight(from, to) };
        store.observed(hold, seen(State::Broadcasting, State::Included, 1, 10)).await.unwrap();
        assert_eq!(get(&store, hold).await.exposure, Exposure::Certain);
        // A reorg: the cancelling transaction is in the block that took the place of the other.
        let cancelled = Sight { exposure: Exposure::Possible, ..seen(State::Included, State::Included, 2, 10) };
        store.observed(hold, cancelled).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!(record.exposure, Exposure::Possible, "until it is final");
        let inclusions: Vec<_> = record.attempts.iter().map(|attempt| attempt.inclusion.clone()).collect();
        assert_eq!(inclusions, [None, Some(inclusion(10))]);
        let missing = seen(State::Included, State::Included, 7, 11);
        assert!(store.observed(hold, missing).await.is_err(), "there is no such attempt");
        store.observed(hold, seen(State::Included, State::Cancelled, 2, 10)).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::Cancelled, Exposure::None));
        assert_eq!(store.busy(network()).await.unwrap(), slots([5]));
    });
}

#[test]
fn what_has_no_slot_is_cancelled_at_once_and_its_driver_is_fenced() {
    for_each_store(|store| async move {
        for (number, state) in [State::Received, State::AwaitingApproval, State::Queued].into_iter().enumerate() {
            let hold = accept(&store, &format!("k{number}"), 1).await;
            if state != State::Received {
                judge(&store, hold, state).await;
            }
            assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Done), "{state}");
            let record = get(&store, hold).await;
            assert_eq!((record.state, record.exposure), (State::Cancelled, Exposure::None));
            assert!(record.cancel.is_some());
            assert_eq!(freeze(&store, hold, 1).await, Err(StoreError::Fenced(hold.id)));
            // A client that hasn't heard of it and asks again is told, and pays nobody.
            let again = store.accept(ask(&format!("k{number}"), 1)).await;
            assert!(matches!(again, Ok(Accepted::Known(known)) if known == hold.id), "{again:?}");
            assert!(matches!(cancel(&store, hold).await, Err(StoreError::Stale { found: State::Cancelled, .. })));
        }
        assert!(store.active(network()).await.unwrap().is_empty());
        assert!(store.busy(network()).await.unwrap().is_empty());
    });
}

#[test]
fn what_has_a_slot_keeps_the_request() {
    for_each_store(|store| async move {
        let frozen = accept(&store, "frozen", 1).await;
        judge(&store, frozen, State::Queued).await;
        freeze(&store, frozen, 1).await.unwrap();
        let signing = accept(&store, "signing", 1).await;
        to_signing(&store, signing, 2).await;
        let on_its_way = sent(&store, "sent", 3).await;
        for (hold, state) in [(frozen, State::Queued), (signing, State::Signing), (on_its_way, State::Broadcasting)] {
            assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Asked), "{state}");
            let record = get(&store, hold).await;
            let kept = SignedRequest { token: "cancel-token".to_owned(), body: b"cancel".to_vec() };
            assert_eq!((record.state, record.cancel), (state, Some(kept)));
            assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Asked), "it may be asked again");
        }
        // No signer may be asked any more; the driver that finds the request ends the record.
        assert!(matches!(store.burn(frozen, 9).await, Err(StoreError::Stale { found: State::Queued, .. })));
        store.thaw(frozen, 9).await.unwrap();
        store.abandon(frozen, State::Queued, State::Cancelled, reason("asked"), 9).await.unwrap();
        assert_eq!(get(&store, frozen).await.exposure, Exposure::None);
        // The others go on under the same hold.
        sign(&store, signing, 1).await.unwrap();
    });
}

#[test]
fn what_has_ended_is_not_cancelled_and_no_token_is_used_up() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        observe(&store, hold, State::Broadcasting, State::Finalized).await.unwrap();
        let request = SignedRequest { token: "t".to_owned(), body: Vec::new() };
        let token = claims();
        let refused = store.cancel(hold.id, token.clone(), request.clone(), 11).await;
        assert!(matches!(refused, Err(StoreError::Stale { found: State::Finalized, .. })));
        assert_eq!(get(&store, hold).await.cancel, None);
        store.use_token(token.clone(), 11).await.unwrap();
        let other = accept(&store, "other", 1).await;
        assert_eq!(store.cancel(other.id, token, request, 11).await, Err(StoreError::TokenReplayed));
        assert_eq!(get(&store, other).await.state, State::Received);
    });
}

#[test]
fn a_quarantined_record_that_is_to_be_cancelled_is_claimed_and_goes_on() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        to_signing(&store, hold, 5).await;
        observe(&store, hold, State::Signing, State::Quarantined).await.unwrap();
        assert!(store.active(network()).await.unwrap().is_empty());
        assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Asked));
        let taken = store.claim(&gateway("b"), network(), 20, 30, 10).await.unwrap();
        assert_eq!(taken, [Hold { fence: hold.fence + 1, ..hold }]);
        let hold = taken[0];
        store.note(hold, Some(reason("node_unreachable")), 12).await.unwrap();
        assert_eq!(replace(&store, hold, Replacement::Cancel, [6]).await, Err(StoreError::NoConflict(1)));
        assert_eq!(replace(&store, hold, Replacement::Cancel, [5]).await, Ok(2));
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::Broadcasting, Exposure::Possible));
        assert!(matches!(sign(&store, hold, 1).await, Err(StoreError::Stale { .. })), "the first one's time is over");
        sign(&store, hold, 2).await.unwrap();
        store.sending(hold, 2, 13).await.unwrap();
        let won = Sight { attempt: 2, inclusion: Some(inclusion(9)), ..sight(State::Broadcasting, State::Cancelled) };
        store.observed(hold, won).await.unwrap();
        assert_eq!(get(&store, hold).await.exposure, Exposure::None);
    });
}

#[test]
fn a_quarantined_record_whose_slot_is_gone_for_good_is_cancelled_at_once() {
    for_each_store(|store| async move {
        let hold = sent(&store, "k", 5).await;
        let gone = Sight { exposure: Exposure::None, ..sight(State::Broadcasting, State::Quarantined) };
        store.observed(hold, gone).await.unwrap();
        assert_eq!(cancel(&store, hold).await, Ok(Cancelling::Done));
        assert_eq!(get(&store, hold).await.state, State::Cancelled);
        assert!(store.active(network()).await.unwrap().is_empty());
    });
}

#[test]
fn cancelling_races_the_driver_and_one_of_them_wins() {
    for_each_store(|store| async move {
        for round in 0..20 {
            let hold = accept(&store, &format!("k{round}"), 1).await;
            judge(&store, hold, State::Queued).await;
            let driver = async {
                freeze(&store, hold, round).await?;
                store.burn(hold, 5).await
            };
            let (driven, cancelled) = futures::join!(driver, cancel(&store, hold));
            let record = get(&store, hold).await;
            match cancelled.unwrap() {
                Cancelling::Done => {
                    assert_eq!(driven, Err(StoreError::Fenced(hold.id)));
                    assert_eq!((record.state, record.attempts.len()), (State::Cancelled, 0));
                }
                Cancelling::Asked => {
                    match driven {
                        Ok(()) => assert_eq!(record.state, State::Signing),
                        // It came between the two steps.
                        Err(StoreError::Stale { .. }) => assert_eq!(record.state, State::Queued),
                        Err(other) => panic!("{other}"),
                    }
                    assert!(record.cancel.is_some());
                }
            }
        }
    });
}
