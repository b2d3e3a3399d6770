//! `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized`: what the chain says, reorgs included.

use std::sync::Arc;
use std::time::Duration;

use chains::client::{Inclusion, Status};
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
                // A node that lags sees the same block less deep; that is no reorg.
                (false, true) if record.state == State::Confirmed && same_block(record, inclusion) => return None,
                (false, true) => (State::Included, None),
                (false, false) => (State::Included, Some(failure())),
            }
        }
    };
    record.state.may_become(next).then_some((next, reason))
}

/// Whether the record was last seen in this very block.
fn same_block(record: &Record, inclusion: &Inclusion) -> bool {
    let last = record.attempt().and_then(|attempt| attempt.inclusion.as_ref());
    last.is_some_and(|last| last.block.is_some() && last.block == inclusion.block)
}

fn reason(kind: &str, message: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: message.to_owned(), rule: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use signer::request::SignedRequest;

    use super::*;
    use crate::record::{Attempt, Exposure};

    const TRACKING: Tracking = Tracking {
        confirmations: 2,
        finality_depth: None,
        poll_interval: Duration::from_secs(1),
        resend_after: Duration::from_secs(10),
    };
    const BY_DEPTH: Tracking = Tracking { finality_depth: Some(6), ..TRACKING };

    fn record(network: &str, state: State) -> Record {
        Record {
            id: RecordId::new(uuid::Uuid::nil()),
            client: "trader".parse().unwrap(),
            idempotency_key: "key".parse().unwrap(),
            network: network.parse().unwrap(),
            intent: serde_json::from_value(json!({
                "wallet": "w",
                "action": { "kind": "transfer", "asset": "native", "to": "x", "amount": "1" },
            }))
            .unwrap(),
            request: SignedRequest { token: String::new(), body: Vec::new() },
            state,
            reason: None,
            exposure: Exposure::Possible,
            attempts: Vec::new(),
            history: Vec::new(),
        }
    }

    fn included(confirmations: u64, finalized: bool, succeeded: bool) -> Status {
        let failure = (!succeeded).then(|| "out of gas".to_owned());
        Status::Included(Inclusion { height: 7, block: None, confirmations, finalized, succeeded, failure, fee: None })
    }

    fn next(network: &str, from: State, status: Status, tracking: &Tracking) -> Option<State> {
        arrow(&record(network, from), &status, tracking).map(|(state, _)| state)
    }

    #[test]
    fn a_payment_walks_to_its_end() {
        let eth = |from, status| next("ethereum:1", from, status, &TRACKING);
        assert_eq!(eth(State::Broadcasting, Status::InMempool), Some(State::InMempool));
        assert_eq!(eth(State::InMempool, Status::InMempool), None);
        assert_eq!(eth(State::InMempool, included(1, false, true)), Some(State::Included));
        assert_eq!(eth(State::Included, included(1, false, true)), None);
        assert_eq!(eth(State::Included, included(2, false, true)), Some(State::Confirmed));
        assert_eq!(eth(State::Confirmed, included(70, true, true)), Some(State::Finalized));
        assert_eq!(eth(State::Broadcasting, included(70, true, true)), Some(State::Finalized));
    }

    #[test]
    fn depth_decides_only_where_the_chain_has_no_finality() {
        let deep = included(6, false, true);
        assert_eq!(next("bitcoin:regtest", State::Confirmed, deep.clone(), &BY_DEPTH), Some(State::Finalized));
        assert_eq!(next("bitcoin:regtest", State::Confirmed, included(5, false, true), &BY_DEPTH), None);
        assert_eq!(next("ethereum:1", State::Confirmed, deep, &TRACKING), None);
    }

    #[test]
    fn a_reorg_is_the_only_way_back() {
        for from in [State::Included, State::Confirmed] {
            for status in [Status::Unknown, Status::InMempool] {
                assert_eq!(next("ethereum:1", from, status, &TRACKING), Some(State::InMempool));
            }
        }
        // Less deep: in another block, or seen by a node that lags.
        let mut record = record("ethereum:1", State::Confirmed);
        let Status::Included(before) = included(2, false, true) else { unreachable!() };
        let in_block = |block: &str| Inclusion { block: Some(block.to_owned()), confirmations: 1, ..before.clone() };
        record.attempts.push(Attempt {
            number: 1,
            unsigned: Vec::new(),
            slots: BTreeSet::new(),
            signed: None,
            inclusion: Some(in_block("a")),
        });
        assert_eq!(arrow(&record, &Status::Included(in_block("a")), &TRACKING), None);
        let (state, _) = arrow(&record, &Status::Included(in_block("b")), &TRACKING).unwrap();
        assert_eq!(state, State::Included);
    }

    #[test]
    fn absence_proves_nothing() {
        assert_eq!(next("ethereum:1", State::Broadcasting, Status::Unknown, &TRACKING), None);
        assert_eq!(next("solana:localnet", State::InMempool, Status::Unknown, &TRACKING), None);
    }

    #[test]
    fn a_failure_is_terminal_only_once_it_is_final() {
        let (state, reason) =
            arrow(&record("ethereum:1", State::InMempool), &included(3, false, false), &TRACKING).unwrap();
        assert_eq!((state, reason.unwrap().kind.as_str()), (State::Included, "failed_on_chain"));
        assert_eq!(next("ethereum:1", State::Included, included(70, true, false), &TRACKING), Some(State::Failed));
    }

    #[test]
    fn what_can_never_be_included_expires_or_is_looked_at() {
        let expired = |network| next(network, State::Broadcasting, Status::Expired, &TRACKING);
        assert_eq!(expired("solana:localnet"), Some(State::Expired));
        assert_eq!(expired("ethereum:1"), Some(State::Quarantined));
        assert_eq!(expired("bitcoin:regtest"), Some(State::Quarantined));
    }
}
