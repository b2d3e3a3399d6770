//! T2: what do the bytes do, whom do they touch, and does the policy allow it?

use std::collections::BTreeSet;
use std::sync::Arc;

use chains::account::Account;
use chains::address::Address;
use chains::chain::BuildError;
use chains::client::StateError;
use serde_json::json;
use signer::policy::document::PolicyDigest;

use super::allocate::fully_approved;
use super::stage::{Permitted, Screened, Standing};
use super::{Next, Pipeline, StepError};
use crate::fail;
use crate::lane::{Draft, LaneError};
use crate::mutation::Mutation;
use crate::nodes::NodeFault;
use crate::record::{Event, Purpose, Reason, Record, State};
use crate::store::{Hold, Judgement, StoreError};

impl Pipeline {
    /// `received` -> `queued`, `rejected` or `blocked`. The transaction is built on the chain's present state to see what it
    /// would do; the one that is signed is built, screened and evaluated again once its slot is reserved.
    pub(super) async fn evaluate(&self, record: &Record, hold: Hold) -> Result<Next, StepError> {
        let (wallet, lane) = self.place(record)?;
        let busy = self.store.busy(record.network).await?;
        let mut steps = vec![Event { at: self.clock.unix_millis(), state: State::Screening, detail: None }];
        let draft = lane.build(&record.intent, &wallet.account, &busy).await;
        let mut effects = None;
        let verdict = match draft {
            Err(error) => Err(refusal(error)?),
            Ok(draft) => {
                effects = Some(json!(draft.effects()));
                let verdict = self.judge(draft, record, &wallet.account, Purpose::Pay).await?;
                steps.push(Event { at: self.clock.unix_millis(), state: State::Evaluating, detail: None });
                // What was queued doesn't go back to waiting for people.
                if record.state == State::Queued {
                    verdict.and_then(fully_approved).map(Permitted::Allowed)
                } else {
                    verdict
                }
            }
        };
        let at = self.clock.unix_millis();
        let mut judgement = match verdict {
            Ok(Permitted::Allowed(allowed)) => Judgement {
                state: State::Queued,
                reason: None,
                detail: Some(json!({
                    "rule": allowed.rule(),
                    "policy": allowed.policy(),
                    "effects": allowed.draft().effects(),
                    "parties": parties(allowed.draft()),
                    "clearance": allowed.clearance(),
                })),
                draws: [allowed.reservations(at), fail::draws(record)].concat(),
                at,
            },
            Ok(Permitted::Waiting(waiting)) => Judgement {
                state: State::AwaitingApproval,
                reason: waiting.travel().map(Reason::from),
                detail: Some(json!({
                    "rule": waiting.rule(),
                    "policy": waiting.policy(),
                    "quorums": waiting.quorums(),
                    "travel": waiting.travel(),
                    "effects": waiting.draft().effects(),
                    "parties": parties(waiting.draft()),
                    "clearance": waiting.clearance(),
                })),
                draws: waiting.reservations(at),
                at,
            },
            Err(end) => {
                let ended = ended(end, at);
                let detail = effects.map(|effects| json!({ "reason": ended.reason, "effects": effects }));
                Judgement { detail, ..ended }
            }
        };
        if Mutation::LimitOutsideTransaction.on() {
            self.admit_early(&mut judgement).await?;
        }
        fail::point("judge.before");
        match self.conclude(record, hold, steps.clone(), judgement).await {
            Err(error @ StoreError::LimitExceeded { .. }) => {
                let reason = Reason { kind: "above_velocity".to_owned(), message: error.to_string(), rule: None };
                self.conclude(record, hold, steps, ended((State::Rejected, reason), at)).await?;
            }
            other => other?,
        }
        fail::point("judge.after");
        Ok(Next::Go)
    }

    /// Writes the first verdict on a record, or one under another policy.
    async fn conclude(
        &self,
        record: &Record,
        hold: Hold,
        steps: Vec<Event>,
        judgement: Judgement,
    ) -> Result<(), StoreError> {
        if record.state == State::Received {
            self.store.judge(hold, steps, judgement).await
        } else {
            self.store.judge_again(hold, judgement).await
        }
    }

    /// Whether a parked record that has no attempt was judged under another policy than the one in force.
    pub(super) fn is_judged_by_another(&self, record: &Record) -> bool {
        let judged = record.history.iter().rev().find_map(|event| event.detail.as_ref()?.get("policy").cloned());
        let judged = judged.and_then(|digest| serde_json::from_value::<PolicyDigest>(digest).ok());
        record.attempts.is_empty()
            && record.cancel.is_none()
            && judged.is_some_and(|judged| judged != self.governance.policy().digest())
    }

    /// Has parked records judged again whenever another policy comes into force, for as long as the pipeline runs.
    pub(super) async fn follow_policy(self: Arc<Self>) {
        let mut changes = self.governance.changes();
        while changes.changed().await.is_ok() {
            if let Err(error) = self.look_at_waiting().await {
                tracing::warn!(%error, "payments that wait for approval can't be looked at");
            }
            self.again.notify_waiters();
        }
    }

    /// The known bug of a limit that is checked before the transaction that reserves.
    async fn admit_early(&self, judgement: &mut Judgement) -> Result<(), StoreError> {
        for draw in &mut judgement.draws {
            let used = self.store.usage(&draw.counter, draw.since, u64::MAX).await?;
            let sum = used.amount.checked_add(draw.amount);
            if let Some(limit) = draw.max_amount.take()
                && sum.is_none_or(|sum| sum > limit)
            {
                draw.max_amount = Some(limit); // the store says no
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        Ok(())
    }

    /// Screens a draft and asks the policy, with the approvals that the record has.
    ///
    /// # Errors
    /// Inside, the state that the record ends in, and why; outside, where it can't be screened at present.
    pub(super) async fn judge(
        &self,
        draft: Draft,
        record: &Record,
        account: &Account,
        purpose: Purpose,
    ) -> Result<Result<Permitted, (State, Reason)>, StepError> {
        let travel = self.travel_missing(record, draft.effects());
        let screened = match Screened::new(draft, &self.screening).await {
            Ok(screened) => screened,
            // Nothing is known against it: it is held.
            Err(refusal) if refusal.is_transient() => return Err(StepError::Retry(refusal.into())),
            Err(refusal) => return Ok(Err((State::Blocked, refusal.into()))),
        };
        let policy = self.governance.policy();
        let judged = match purpose {
            Purpose::Cancel => screened.evaluate_cancel(&policy, record, account),
            Purpose::Pay | Purpose::SpeedUp => {
                let standing = Standing { travel, ..self.standing(record) };
                screened.evaluate(&policy, record, account, &standing)
            }
        };
        Ok(judged.map_err(|denied| (State::Rejected, denied.into())))
    }
}

/// Whom the bytes touch: what is looked up again when a list changes.
fn parties(draft: &Draft) -> BTreeSet<Address> {
    draft.effects().parties().collect()
}

/// The end of a record that goes no further than this.
fn ended((state, reason): (State, Reason), at: u64) -> Judgement {
    Judgement { state, reason: Some(reason), detail: None, draws: Vec::new(), at }
}

/// What a lane's error means for a record that was never signed: its end, or another try.
pub(crate) fn refusal(error: LaneError) -> Result<(State, Reason), StepError> {
    let reason = |kind: &str| Reason { kind: kind.to_owned(), message: error.to_string(), rule: None };
    Ok(match &error {
        // One is free again as soon as a payment under it is final.
        LaneError::State(StateError::Build(BuildError::NoNonce)) => return Err(StepError::Retry(reason("no_nonce"))),
        LaneError::State(StateError::Build(build)) => (State::Rejected, reason(build_kind(build))),
        LaneError::State(StateError::Reverted(_)) => (State::Rejected, reason("would_revert")),
        LaneError::Decode(_) => (State::Rejected, reason("undecodable")),
        LaneError::State(fault) if !fault.is_transient() => {
            // The node answers, but not what was asked. It may be repaired; the intent is not at fault.
            return Err(StepError::Retry(reason("node_failed")));
        }
        _ => return Err(StepError::Retry(reason("node_unreachable"))),
    })
}

/// The stable word for a build error.
pub fn build_kind(error: &BuildError) -> &'static str {
    match error {
        BuildError::ZeroAmount => "zero_amount",
        BuildError::Overflow(_) => "overflow",
        BuildError::Dust { .. } => "dust",
        BuildError::InsufficientFunds { .. } => "insufficient_funds",
        BuildError::FeeAboveCap { .. } => "fee_above_cap",
        BuildError::LookupTable(_) => "lookup_table",
        BuildError::Address(_) => "invalid_address",
        BuildError::WrongAsset { .. } => "wrong_asset",
        BuildError::WrongAccount(_) => "wrong_account",
        BuildError::NotReplaceable(_) => "not_replaceable",
        BuildError::NotAcceleratable(_) => "not_acceleratable",
        BuildError::NoNonce => "no_nonce",
        _ => "unsupported",
    }
}
