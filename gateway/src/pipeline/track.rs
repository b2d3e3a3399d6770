//! `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized`: what the chain says, reorgs included.

use std::sync::Arc;
use std::time::Duration;

use chains::client::Status;
use chains::network::Family;
use futures::StreamExt;
use futures::stream;
use tokio::time::MissedTickBehavior;

use super::{Pipeline, StepError};
use crate::lane::{Lane, LaneError};
use crate::record::{Reason, Record, RecordId, State};
use crate::store::StoreError;

/// How many records of a network are looked up side by side.
const WIDTH: usize = 8;

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
}

impl Pipeline {
    /// Follows every record of one network, for as long as the process lives.
    pub(super) async fn track_network(self: Arc<Self>, lane: Arc<dyn Lane>) {
        let network = lane.network();
        let Some(tracking) = self.tracking(network).copied() else { return };
        let mut ticks = tokio::time::interval(tracking.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let active = match self.store.active(network).await {
                Ok(active) => active,
                Err(error) => {
                    tracing::warn!(%network, %error, "the store can't be read");
                    continue;
                }
            };
            let looks = active.into_iter().map(|id| {
                let (pipeline, lane) = (&self, lane.as_ref());
                async move { (id, pipeline.track(id, lane, &tracking).await) }
            });
            let looks: Vec<_> = looks.collect();
            let results: Vec<_> = stream::iter(looks).buffer_unordered(WIDTH).collect().await;
            for (id, result) in results {
                match result {
                    Ok(()) | Err(StepError::Store(StoreError::Stale { .. })) => {}
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

    /// Looks one record up and moves it where the chain says. Bytes that no node knows go out again: at once where this
    /// process hasn't sent them, which is so after a crash, else after a while.
    async fn track(&self, id: RecordId, lane: &dyn Lane, tracking: &Tracking) -> Result<(), StepError> {
        let record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
        if !record.state.is_on_its_way() {
            return Ok(());
        }
        let Some(signed) = record.attempt().and_then(|attempt| attempt.signed.as_ref()) else { return Ok(()) };
        let status = lane.status(&signed.bytes).await.map_err(unanswered)?;
        let unseen = status == Status::Unknown;
        let mut state = record.state;
        if let Some((next, reason)) = arrow(&record, &status, tracking) {
            let inclusion = match status {
                Status::Included(inclusion) => Some(inclusion),
                _ => None,
            };
            tracing::info!(%id, from = %record.state, to = %next, tx_id = signed.id, "the chain says");
            self.store.observed(id, record.state, next, inclusion, reason, self.clock.unix_millis()).await?;
            state = next;
        }
        if state.is_terminal() {
            self.sent().remove(&id);
        } else if unseen && self.sent().get(&id).is_none_or(|last| last.elapsed() >= tracking.resend_after) {
            self.send(id, state, &signed.bytes, lane).await?;
        }
        Ok(())
    }
}

fn unanswered(error: LaneError) -> StepError {
    StepError::Retry(Reason { kind: "node_unreachable".to_owned(), message: error.to_string(), rule: None })
}

/// Where a status takes a record; nowhere, mostly.
fn arrow(record: &Record, status: &Status, tracking: &Tracking) -> Option<(State, Option<Reason>)> {
    let (next, reason) = match status {
        // Absence proves nothing; after an inclusion it means that the block is gone, and the bytes go out again.
        Status::Unknown if record.state == State::Broadcasting => return None,
        Status::Unknown | Status::InMempool => (State::InMempool, None),
        Status::Expired => match record.network.family() {
            Family::Solana => (State::Expired, Some(reason("expired", "its blockhash is too old at finalized height"))),
            Family::Bitcoin | Family::Ethereum => (
                State::Quarantined,
                Some(reason("conflict_final", "another transaction has used up its slot, at final depth")),
            ),
        },
        Status::Included(inclusion) => {
            let deep = tracking.finality_depth.is_some_and(|depth| inclusion.confirmations >= depth);
            let is_final = inclusion.finalized || deep;
            let failure = || {
                let why = inclusion.failure.as_deref().unwrap_or("it reverted");
                reason("failed_on_chain", &format!("included, but failed: {why}"))
            };
            match (is_final, inclusion.succeeded) {
                (true, true) => (State::Finalized, None),
                (true, false) => (State::Failed, Some(failure())),
                (false, true) if inclusion.confirmations >= tracking.confirmations => (State::Confirmed, None),
                (false, true) => (State::Included, None),
                (false, false) => (State::Included, Some(failure())),
            }
        }
    };
    record.state.may_become(next).then_some((next, reason))
}

fn reason(kind: &str, message: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: message.to_owned(), rule: None }
}
