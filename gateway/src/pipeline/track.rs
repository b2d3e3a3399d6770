//! `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized`: what the chain says, reorgs included.
//!
//! All signed attempts of a record are looked up. At most one of them is ever included, because they exclude each other; that
//! one decides. A cancelling attempt leads to `cancelled` once it is final, and not before: until then a reorg may yet let the
//! payment in.

mod sight;

use std::sync::Arc;
use std::time::Duration;

use chains::client::Status;
use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, MissedTickBehavior};

use self::sight::{Look, sight};
use super::replace::FeePolicy;
use super::{Pipeline, StepError, Turn};
use crate::fail;
use crate::lane::{Lane, LaneError};
use crate::mutation::Mutation;
use crate::nodes::Seen;
use crate::record::{Reason, Record, RecordId, State};
use crate::store::{Hold, StoreError};

/// How many records of a network are looked up side by side.
const WIDTH: usize = 8;

/// The kind of the reason that a record has which is in no block for too long.
pub(super) const STUCK: &str = "stuck";

/// How a network's transactions are followed.
#[derive(Clone, Copy, Debug)]
pub struct Tracking {
    /// So many confirmations make a transaction `confirmed`.
    pub confirmations: u64,
    /// So many make it `finalized` where the chain itself has no finality (Bitcoin); elsewhere the chain decides.
    pub finality_depth: Option<u64>,
    /// How often the nodes are asked.
    pub poll_interval: Duration,
    /// After how long a transaction that no node knows is sent again.
    pub resend_after: Duration,
    /// After how long in no block a payment is raised as stuck.
    pub stuck_after: Duration,
    /// When a payment of a wallet without a policy of its own is hurried on.
    pub fees: FeePolicy,
}

impl Pipeline {
    /// Follows every record of one network that this gateway holds, for as long as the process lives.
    pub(super) async fn track_network(self: Arc<Self>, lane: Arc<dyn Lane>) {
        let network = lane.network();
        let (Some(tracking), Some(look)) = (self.tracking(network).copied(), self.look.get(&network)) else { return };
        let mut ticks = tokio::time::interval(tracking.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = look.notified() => {}
            }
            let looks = self.held(network).into_iter().map(|id| {
                let (pipeline, lane) = (&self, lane.as_ref());
                async move { (id, pipeline.track(id, lane, &tracking).await) }
            });
            let looks: Vec<_> = looks.collect();
            let results: Vec<_> = stream::iter(looks).buffer_unordered(WIDTH).collect().await;
            for (id, result) in results {
                match result {
                    Ok(()) | Err(StepError::Store(StoreError::Stale { .. } | StoreError::Fenced(_))) => {}
                    Err(error) => tracing::warn!(%id, %error, "can't be followed just now"),
                }
            }
            for (node, changes) in lane.take_changes().await {
                if let Err(error) = self.store.save_chain_changes(network, node, changes).await {
                    tracing::warn!(%network, %error, "the chain's changes can't be stored; a restart will ask for them again");
                }
            }
        }
    }

    /// Looks one record up and moves it where the chain says; a record that isn't on its way gets a driver.
    async fn track(self: &Arc<Self>, id: RecordId, lane: &dyn Lane, tracking: &Tracking) -> Result<(), StepError> {
        let Ok(hold) = self.hold(id) else { return Ok(()) };
        let Some(turn) = self.begin(id) else { return Ok(()) };
        let outcome = self.track_in(turn, hold, lane, tracking).await;
        if let Err(StepError::Store(StoreError::Fenced(_))) = &outcome {
            self.let_go(hold);
        }
        outcome
    }

    async fn track_in(
        self: &Arc<Self>,
        turn: Turn,
        hold: Hold,
        lane: &dyn Lane,
        tracking: &Tracking,
    ) -> Result<(), StepError> {
        let id = hold.id;
        let mut record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
        if matches!(record.state, State::Received | State::Queued | State::Signing | State::Signed) {
            if self.holds().get(&id).is_some_and(|held| !held.halted) {
                self.drive_in(turn, None);
            }
            return Ok(());
        }
        if record.state.is_on_its_way() {
            self.follow(&mut record, hold, lane, tracking).await?;
        }
        if let Some(wanted) = self.wanted(&record, tracking) {
            self.replace_in(turn, wanted);
        } else if record.state.is_terminal() {
            self.let_go(hold);
        }
        Ok(())
    }

    /// Looks up every signed attempt of a record and moves the record where the one in the best chain is. Bytes that no node
    /// knows go out again: at once where this process hasn't sent them, which is so after a crash, else after a while.
    async fn follow(
        &self,
        record: &mut Record,
        hold: Hold,
        lane: &dyn Lane,
        tracking: &Tracking,
    ) -> Result<(), StepError> {
        let mut looks = Vec::new();
        for attempt in record.attempts.iter().rev() {
            let Some(signed) = &attempt.signed else { continue };
            let seen = match mutated(lane.status(&signed.bytes).await) {
                Ok(seen) => seen,
                Err(error) => {
                    self.raise_if_stuck(record, hold, tracking).await?;
                    return Err(unanswered(error));
                }
            };
            let included = matches!(seen.status, Status::Included(_));
            looks.push(Look { attempt, seen });
            if included {
                break;
            }
        }
        let unseen = looks.first().is_some_and(|latest| latest.seen.status == Status::Unknown)
            && !looks.iter().any(|look| matches!(look.seen.status, Status::Included(_)));
        let sight = sight(record, &looks, tracking, self.clock.unix_millis());
        if let Some(sight) = sight {
            let (state, exposure) = (sight.to, sight.exposure);
            tracing::info!(id = %record.id, from = %record.state, to = %state, attempt = sight.attempt, "the chain says");
            fail::point("observe.before");
            if state.is_terminal() {
                fail::point("final.before");
            }
            let reason = sight.reason.clone();
            self.alerts.settle(&record.id.to_string());
            self.store.observed(hold, sight).await?;
            fail::point("observe.after");
            (record.state, record.exposure, record.reason) = (state, exposure, reason);
        }
        if record.state.is_terminal() {
            return Ok(());
        }
        self.raise_if_stuck(record, hold, tracking).await?;
        let due = self.due().get(&record.id).is_none_or(|due| *due <= Instant::now());
        if unseen && due && !self.waits_for_its_cancel(record) {
            let latest = record.attempts.iter().rev().find(|attempt| attempt.signed.is_some());
            // One that was never sent is the replacement's to send: that is recorded first.
            if let Some(latest) = latest.filter(|attempt| attempt.sent_at.is_some()) {
                self.send(record, hold, record.state, latest, lane).await?;
            }
        }
        Ok(())
    }

    /// Tells of a record that waits before its bytes are sent for too long: for a node, for signers, for a frozen wallet.
    pub(super) fn raise_if_waiting(&self, record: &Record, why: &str) {
        let Some(tracking) = self.tracking(record.network) else { return };
        let at = self.clock.unix_millis();
        let Some(since) = record.history.iter().rev().take_while(|event| event.state == record.state).last() else {
            return;
        };
        let waited = Duration::from_millis(at.saturating_sub(since.at));
        if waited < tracking.stuck_after {
            return;
        }
        self.raise_stuck(record, format!("{} for {} s: {why}", record.state, waited.as_secs()), at);
    }

    /// Tells of a record that has been in no block for too long.
    async fn raise_if_stuck(&self, record: &Record, hold: Hold, tracking: &Tracking) -> Result<(), StepError> {
        let at = self.clock.unix_millis();
        let Some(since) = record.attempts.iter().find_map(|attempt| attempt.sent_at) else { return Ok(()) };
        let waited = Duration::from_millis(at.saturating_sub(since));
        if !matches!(record.state, State::Broadcasting | State::InMempool) || waited < tracking.stuck_after {
            return Ok(());
        }
        self.raise_stuck(record, format!("in no block for {} s; speed it up or cancel it", waited.as_secs()), at);
        // What a node says against the bytes tells more; it stays.
        if record.reason.is_none() {
            self.store
                .note(hold, Some(reason(STUCK, "in no block for too long; speed it up or cancel it")), at)
                .await?;
        }
        Ok(())
    }

    fn raise_stuck(&self, record: &Record, message: String, at: u64) {
        if self.alerts.raise(STUCK, record.id.to_string(), message.clone(), at) {
            tracing::error!(id = %record.id, wallet = %record.intent.wallet, message, "a payment is stuck");
        }
    }
}

/// What the nodes say, unless a known bug is on.
fn mutated(seen: Result<Seen, LaneError>) -> Result<Seen, LaneError> {
    let expired = || Seen { status: Status::Expired, agreed_depth: 0, unanimous: true };
    match seen {
        Err(_) if Mutation::ErrorIsAbsence.on() => Ok(expired()),
        Ok(Seen { status: Status::Unknown, .. }) if Mutation::UnknownIsExpired.on() => Ok(expired()),
        seen => seen,
    }
}

fn unanswered(error: LaneError) -> StepError {
    StepError::Retry(Reason { kind: "node_unreachable".to_owned(), message: error.to_string(), rule: None })
}

pub(super) fn reason(kind: &str, message: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: message.to_owned(), rule: None }
}
