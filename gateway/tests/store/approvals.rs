//! What approvers say of records that wait for them.

use gateway::record::{Exposure, State};
use gateway::store::StoreError;
use signer::approval::{Approval, Decision, Proof};

use crate::world::{accept, claims, draw, for_each_place, for_each_store, freeze, get, judge, judge_with, reason};

fn approval(approver: &str, payload: &str) -> Approval {
    let signature = Proof::Ed25519(vec![7; 64]);
    Approval { approver: approver.parse().unwrap(), payload: payload.as_bytes().to_vec(), signature }
}

#[test]
fn approvals_are_kept_with_the_record_the_latest_of_each() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let hold = accept(&store, "k", 1).await;
        judge(&store, hold, State::AwaitingApproval).await;
        for (approver, payload) in [("finn", "1"), ("carla", "2"), ("finn", "3")] {
            let approval = approval(approver, payload);
            store.approve(hold.id, approval, Decision::Approve, claims(), 5).await.unwrap();
        }
        drop(store);
        let store = place.open().await;
        let record = get(&store, hold).await;
        assert_eq!(record.approvals, [approval("carla", "2"), approval("finn", "3")]);
        assert_eq!(record.state, State::AwaitingApproval);
        let by = |number: usize| record.history[number].detail.as_ref().unwrap()["approved_by"].clone();
        let last = record.history.len() - 1;
        assert_eq!((by(last - 2), by(last - 1), by(last)), ("finn".into(), "carla".into(), "finn".into()));

        store.approved(hold, 6).await.unwrap();
        assert_eq!(get(&store, hold).await.state, State::Queued);
        freeze(&store, hold, 0).await.unwrap();
        assert_eq!(get(&store, hold).await.approvals.len(), 2);
    });
}

#[test]
fn a_rejection_ends_the_record_gives_its_draws_back_and_fences_its_driver() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        judge_with(&store, hold, State::AwaitingApproval, vec![draw("c", 60, 100)]).await.unwrap();
        let other = accept(&store, "other", 1).await;
        let refused = judge_with(&store, other, State::Queued, vec![draw("c", 60, 100)]).await.unwrap_err();
        assert!(matches!(refused, StoreError::LimitExceeded { .. }), "what waits has reserved: {refused}");

        store.approve(hold.id, approval("ed", "no"), Decision::Reject, claims(), 5).await.unwrap();
        let record = get(&store, hold).await;
        assert_eq!((record.state, record.exposure), (State::Rejected, Exposure::None));
        assert_eq!(record.reason.unwrap().kind, "rejected_by_approver");
        assert_eq!(record.approvals, [approval("ed", "no")]);
        assert_eq!(store.approved(hold, 6).await.unwrap_err(), StoreError::Fenced(hold.id));
        judge_with(&store, other, State::Queued, vec![draw("c", 60, 100)]).await.unwrap();
    });
}

#[test]
fn only_what_waits_is_approved_and_a_refused_word_uses_up_no_token() {
    for_each_store(|store| async move {
        let hold = accept(&store, "k", 1).await;
        let said = claims();
        for state in [State::Received, State::Queued] {
            if state == State::Queued {
                judge(&store, hold, state).await;
            }
            let late = store.approve(hold.id, approval("ed", "yes"), Decision::Approve, said.clone(), 5).await;
            let stale = StoreError::Stale { id: hold.id, expected: State::AwaitingApproval, found: state };
            assert_eq!(late.unwrap_err(), stale);
            assert!(matches!(store.approved(hold, 6).await, Err(StoreError::Stale { .. })));
        }
        assert!(get(&store, hold).await.approvals.is_empty());

        let other = accept(&store, "other", 1).await;
        judge(&store, other, State::AwaitingApproval).await;
        store.approve(other.id, approval("ed", "yes"), Decision::Approve, said.clone(), 5).await.unwrap();
        let replay = store.approve(other.id, approval("ed", "yes"), Decision::Approve, said, 5).await;
        assert_eq!(replay.unwrap_err(), StoreError::TokenReplayed);
        store.abandon(other, State::AwaitingApproval, State::Expired, reason("late"), 9).await.unwrap();
        assert_eq!(get(&store, other).await.state, State::Expired);
    });
}
