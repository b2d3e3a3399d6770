//! Changes of the policy at rest, and payments that are judged again.

use gateway::record::State;
use gateway::store::policies::{PolicyRecord, PolicyState, PolicyStep};
use gateway::store::{Judgement, StoreError};
use signer::approval::{Approval, Decision, Proof};
use signer::policy::change::{Change, Version};
use signer::policy::document::Document;
use signer::request::SignedRequest;

use crate::world::{accept, claims, draw, for_each_place, for_each_store, freeze, get, judge_with, reason};

fn record(version: u64, document: &str) -> PolicyRecord {
    let change = Change {
        version: Version::new(version),
        previous: Document::default().digest(),
        document: document.as_bytes().to_vec(),
        request: SignedRequest { token: "token".to_owned(), body: b"body".to_vec() },
        approvals: Vec::new(),
    };
    PolicyRecord {
        digest: change.document().digest(),
        change,
        proposer: "ada".parse().unwrap(),
        note: "because".to_owned(),
        state: PolicyState::Proposed,
        proposed_at: 1,
        approved_at: None,
        active_at: None,
        rejected_by: None,
    }
}

fn word(approver: &str, payload: &str) -> Approval {
    let signature = Proof::Ed25519(vec![7; 64]);
    Approval { approver: approver.parse().unwrap(), payload: payload.as_bytes().to_vec(), signature }
}

fn says(approver: &str, payload: &str, decision: Decision) -> PolicyStep {
    PolicyStep::Word { approval: word(approver, payload), decision }
}

#[test]
fn a_change_is_kept_with_the_latest_word_of_each() {
    for_each_place(|place| async move {
        let store = place.open().await;
        let (one, first) = (Version::new(1), record(1, "one"));
        store.propose_policy(first.clone(), Some(claims()), 2).await.unwrap();
        for (approver, payload) in [("pat", "1"), ("cis", "2"), ("pat", "3")] {
            let step = says(approver, payload, Decision::Approve);
            store.step_policy(one, first.digest, step, Some(claims()), 3).await.unwrap();
        }
        drop(store);
        let store = place.open().await;
        let kept = store.policies(one).await.unwrap();
        assert_eq!(kept[0].change.approvals, [word("cis", "2"), word("pat", "3")]);
        for (step, state) in [(PolicyStep::Approved, PolicyState::Approved), (PolicyStep::Active, PolicyState::Active)]
        {
            // Two gateways may find out at once.
            for _ in 0..2 {
                let stepped = store.step_policy(one, first.digest, step.clone(), None, 5).await.unwrap();
                assert_eq!((stepped.state, stepped.approved_at), (state, Some(5)));
            }
        }
        assert_eq!(store.policies(Version::new(2)).await.unwrap(), []);
        let late = store.step_policy(one, first.digest, says("pat", "4", Decision::Reject), Some(claims()), 6).await;
        assert_eq!(late.unwrap_err(), StoreError::PolicyEnded(one));
    });
}

#[test]
fn one_change_is_open_at_a_time_and_makes_the_next_version() {
    for_each_store(|store| async move {
        let (one, first) = (Version::new(1), record(1, "one"));
        let next = StoreError::PolicyVersion { version: Version::new(2), next: one };
        assert_eq!(store.propose_policy(record(2, "two"), Some(claims()), 2).await.unwrap_err(), next);
        let used = claims();
        store.propose_policy(first.clone(), Some(used.clone()), 2).await.unwrap();
        let replayed = store.propose_policy(record(1, "other"), Some(used), 2).await;
        assert_eq!(replayed.unwrap_err(), StoreError::TokenReplayed);
        let fresh = claims();
        let open = store.propose_policy(record(1, "other"), Some(fresh.clone()), 2).await;
        assert_eq!(open.unwrap_err(), StoreError::PolicyOpen(one));
        let unknown = store.step_policy(one, record(1, "x").digest, PolicyStep::Approved, None, 3).await;
        assert_eq!(unknown.unwrap_err(), StoreError::NoPolicyChange(one));

        let rejected = says("cis", "no", Decision::Reject);
        let rejected = store.step_policy(one, first.digest, rejected, Some(claims()), 4).await.unwrap();
        assert_eq!(rejected.rejected_by, Some("cis".parse().unwrap()));
        // A proposal that wasn't kept used up no token.
        store.propose_policy(record(1, "other"), Some(fresh), 5).await.unwrap();
        let states: Vec<_> = store.policies(one).await.unwrap().into_iter().map(|record| record.state).collect();
        assert_eq!(states, [PolicyState::Rejected, PolicyState::Proposed]);
        // What the signers have in force is, whatever was said here.
        store.step_policy(one, first.digest, PolicyStep::Active, None, 6).await.unwrap();
        store.propose_policy(record(2, "two"), Some(claims()), 7).await.unwrap();
    });
}

#[test]
fn a_parked_payment_is_judged_again_with_other_draws() {
    for_each_store(|store| async move {
        let verdict = |state: State, draws| Judgement { state, reason: None, detail: None, draws, at: 9 };
        let hold = accept(&store, "k", 1).await;
        judge_with(&store, hold, State::AwaitingApproval, vec![draw("c", 60, 100)]).await.unwrap();
        // Its own reservation doesn't stand in its way.
        let again = verdict(State::AwaitingApproval, vec![draw("c", 90, 100), draw("d", 5, 10)]);
        store.judge_again(hold, again).await.unwrap();
        let used = |counter: &'static str| {
            let store = store.clone();
            async move { store.usage(counter, 0, u64::MAX).await.unwrap().amount.to_string() }
        };
        assert_eq!((used("c").await, used("d").await), ("90".to_owned(), "5".to_owned()));
        assert_eq!(get(&store, hold).await.state, State::AwaitingApproval);
        let beyond = store.judge_again(hold, verdict(State::Queued, vec![draw("c", 101, 100)])).await;
        assert!(matches!(beyond, Err(StoreError::LimitExceeded { .. })));
        assert_eq!((used("c").await, get(&store, hold).await.state), ("90".to_owned(), State::AwaitingApproval));

        store.judge_again(hold, verdict(State::Queued, vec![draw("d", 7, 10)])).await.unwrap();
        assert_eq!((used("c").await, used("d").await), ("0".to_owned(), "7".to_owned()));
        assert_eq!(store.counters().await.unwrap(), ["c", "d"]);
        let back = store.judge_again(hold, verdict(State::AwaitingApproval, Vec::new())).await;
        assert!(matches!(back, Err(StoreError::NoSuchArrow { .. })), "no state goes backwards");
        freeze(&store, hold, 0).await.unwrap();
        let late = store.judge_again(hold, verdict(State::Queued, Vec::new())).await;
        assert!(matches!(late, Err(StoreError::Stale { .. })), "what is frozen is judged when it is signed");

        let other = accept(&store, "other", 1).await;
        judge_with(&store, other, State::Queued, vec![draw("c", 60, 100)]).await.unwrap();
        let denied = Judgement { reason: Some(reason("denied")), ..verdict(State::Rejected, Vec::new()) };
        store.judge_again(other, denied).await.unwrap();
        assert_eq!((used("c").await, get(&store, other).await.state), ("0".to_owned(), State::Rejected));
        let stale = store.judge_again(other, verdict(State::Queued, Vec::new())).await;
        assert!(matches!(stale, Err(StoreError::Stale { .. } | StoreError::Fenced(_))));
    });
}
