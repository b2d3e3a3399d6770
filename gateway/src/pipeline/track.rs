//! `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized`: what the chain says, reorgs included.
//!
//! All signed attempts of a record are looked up. At most one of them is ever included, because they exclude each other; that
//! one decides. A cancelling attempt leads to `cancelled` once it is final, and not before: until then a reorg may yet let the
//! payment in.

use std::sync::Arc;
use std::time::Duration;

use chains::client::{Inclusion, Status};
use chains::network::Family;
use futures::StreamExt;
use futures::stream;
use tokio::time::{Instant, MissedTickBehavior};

use super::replace::FeePolicy;
use super::{Pipeline, StepError, Turn};
use crate::fail;
use crate::lane::{Lane, LaneError};
use crate::mutation::Mutation;
use crate::nodes::Seen;
use crate::record::{Attempt, Exposure, Purpose, Reason, Record, RecordId, State};
use crate::store::{Hold, Sight, StoreError};

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

/// What the nodes say of one signed attempt.
struct Look<'r> {
    attempt: &'r Attempt,
    seen: Seen,
}

/// What the chain holds of an intent, over all its signed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChain {
    /// None of them is in a block; that proves nothing.
    Nothing,
    /// One that does what the intent asks for is in a block.
    Payment,
    /// A cancelling one is in a block.
    Cancel {
        /// Whether it is final.
        is_final: bool,
    },
    /// None can ever be included: what they would use up is gone at final depth.
    Conflict {
        /// Whether that is the word of every node, or of enough of them about a blockhash that is too old.
        proven: bool,
    },
}

/// Can the intent still move money? [`Exposure::None`] only where no signature exists, or where something final stands in the
/// way of every attempt.
pub const fn exposure(state: State, chain: OnChain) -> Exposure {
    match (state, chain) {
        (
            State::Received
            | State::Screening
            | State::Evaluating
            | State::AwaitingApproval
            | State::Queued
            | State::Rejected
            | State::Blocked,
            _,
        ) => Exposure::None,
        (_, OnChain::Payment) => Exposure::Certain,
        (_, OnChain::Cancel { is_final: true } | OnChain::Conflict { proven: true }) => Exposure::None,
        (_, OnChain::Nothing | OnChain::Cancel { is_final: false } | OnChain::Conflict { proven: false }) => {
            Exposure::Possible
        }
    }
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
        let message = format!("{} for {} s: {why}", record.state, waited.as_secs());
        if self.alerts.raise(STUCK, record.id.to_string(), message.clone(), at) {
            tracing::error!(id = %record.id, wallet = %record.intent.wallet, message, "a payment is stuck");
        }
    }

    /// Tells of a record that has been in no block for too long.
    async fn raise_if_stuck(&self, record: &Record, hold: Hold, tracking: &Tracking) -> Result<(), StepError> {
        let at = self.clock.unix_millis();
        let Some(since) = record.attempts.iter().find_map(|attempt| attempt.sent_at) else { return Ok(()) };
        let waited = Duration::from_millis(at.saturating_sub(since));
        if !matches!(record.state, State::Broadcasting | State::InMempool) || waited < tracking.stuck_after {
            return Ok(());
        }
        let message = format!("in no block for {} s; speed it up or cancel it", waited.as_secs());
        if self.alerts.raise(STUCK, record.id.to_string(), message.clone(), at) {
            tracing::error!(id = %record.id, wallet = %record.intent.wallet, message, "a payment is stuck");
        }
        // What a node says against the bytes tells more; it stays.
        if record.reason.is_none() {
            self.store
                .note(hold, Some(reason(STUCK, "in no block for too long; speed it up or cancel it")), at)
                .await?;
        }
        Ok(())
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

/// What the looks at a record's signed attempts, the latest first, make of it; nothing, mostly.
fn sight(record: &Record, looks: &[Look<'_>], tracking: &Tracking, at: u64) -> Option<Sight> {
    let latest = looks.first()?;
    let included = looks.iter().find_map(|look| match &look.seen.status {
        Status::Included(inclusion) => Some((look, inclusion)),
        _ => None,
    });
    let (about, inclusion, (to, reason, chain)) = match included {
        // From one attempt to another the way is a reorg: first the block of the one is gone, then the other's is there.
        Some((look, _)) if moved(record, look) => (latest, None, (State::InMempool, None, OnChain::Nothing)),
        Some((look, inclusion)) => {
            let to = arrival(record, look, inclusion, tracking)?;
            (look, Some(inclusion.clone()), to)
        }
        None => (latest, None, absence(record, looks)?),
    };
    let moves = record.state.may_become(to);
    let stays_elsewhere = record.state == to && is_elsewhere(about.attempt, inclusion.as_ref());
    if !moves && !stays_elsewhere {
        return None;
    }
    let exposure = exposure(to, chain);
    Some(Sight { from: record.state, to, attempt: about.attempt.number, inclusion, exposure, reason, at })
}

type Arrow = (State, Option<Reason>, OnChain);

/// Where a record goes one of whose attempts is in a block.
fn arrival(record: &Record, look: &Look<'_>, inclusion: &Inclusion, tracking: &Tracking) -> Option<Arrow> {
    let deep = tracking.finality_depth.is_some_and(|depth| look.seen.agreed_depth >= depth);
    let is_final = inclusion.finalized || deep || Mutation::IncludedIsFinal.on();
    let confirmed = look.seen.agreed_depth >= tracking.confirmations;
    if look.attempt.purpose == Purpose::Cancel {
        let chain = OnChain::Cancel { is_final };
        // Whatever it says of success: the slot is used up.
        let why = |text| Some(reason("cancelled", text));
        return match (is_final, confirmed) {
            (true, _) => Some((State::Cancelled, why("the cancelling transaction is final"), chain)),
            (false, true) => Some((State::Confirmed, why("the cancelling transaction is in a block"), chain)),
            (false, false) if record.state == State::Confirmed && same_block(look, inclusion) => None,
            (false, false) => Some((State::Included, why("the cancelling transaction is in a block"), chain)),
        };
    }
    let failure = || {
        let why = inclusion.failure.as_deref().unwrap_or("it reverted");
        Some(reason("failed_on_chain", &format!("included, but failed: {why}")))
    };
    let (state, reason) = match (is_final, inclusion.succeeded) {
        (true, true) => (State::Finalized, None),
        (true, false) => (State::Failed, failure()),
        (false, true) if confirmed => (State::Confirmed, None),
        // A node that lags sees the same block less deep; that is no reorg.
        (false, true) if record.state == State::Confirmed && same_block(look, inclusion) => return None,
        (false, true) => (State::Included, None),
        (false, false) => (State::Included, failure()),
    };
    Some((state, reason, OnChain::Payment))
}

/// Where a record goes none of whose attempts is in a block.
fn absence(record: &Record, looks: &[Look<'_>]) -> Option<Arrow> {
    let in_mempool = looks.iter().any(|look| look.seen.status == Status::InMempool);
    let over = |look: &Look<'_>| matches!(look.seen.status, Status::Expired | Status::SlotUsed);
    // A replacement that waits for its signatures is looked up before anything is concluded.
    let expired = looks.iter().all(over) && record.unsigned_replacement().is_none();
    // Of an attempt without a signature here, somebody else may have one.
    let all_known = record.attempts.iter().all(|attempt| attempt.signed.is_some())
        && looks.iter().all(|look| look.seen.status == Status::Expired);
    match (in_mempool, expired) {
        (false, true) => Some(match record.network.family() {
            Family::Solana if all_known => (
                State::Expired,
                Some(reason("expired", "what it was valid for has passed at finalized height")),
                OnChain::Conflict { proven: true },
            ),
            Family::Solana => (
                State::Quarantined,
                Some(reason("outcome_unknown", "it can't be included any more; whether it was, the nodes can't tell")),
                OnChain::Conflict { proven: false },
            ),
            Family::Bitcoin | Family::Ethereum => (
                State::Quarantined,
                Some(reason("conflict_final", "another transaction has used up its slot, at final depth")),
                OnChain::Conflict { proven: all_known && looks.iter().all(|look| look.seen.unanimous) },
            ),
        }),
        // Absence proves nothing; after an inclusion it means that the block is gone, and the bytes go out again.
        (false, false) if record.state == State::Broadcasting => None,
        _ => Some((State::InMempool, None, OnChain::Nothing)),
    }
}

/// Whether the attempt stands in another block than when it was last seen, or came to another end there.
fn is_elsewhere(attempt: &Attempt, inclusion: Option<&Inclusion>) -> bool {
    match (&attempt.inclusion, inclusion) {
        (Some(last), Some(here)) => !is_same_block(last, here) || last.succeeded != here.succeeded,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

/// Whether another attempt than this one was last seen in a block.
fn moved(record: &Record, look: &Look<'_>) -> bool {
    matches!(record.state, State::Included | State::Confirmed)
        && record.attempts.iter().any(|other| other.inclusion.is_some() && other.number != look.attempt.number)
}

/// Whether the attempt was last seen in this very block.
fn same_block(look: &Look<'_>, inclusion: &Inclusion) -> bool {
    look.attempt.inclusion.as_ref().is_some_and(|last| is_same_block(last, inclusion))
}

/// By its hash, and where the node tells none by its height.
fn is_same_block(one: &Inclusion, other: &Inclusion) -> bool {
    one.block == other.block && (one.block.is_some() || one.height == other.height)
}

pub(super) fn reason(kind: &str, message: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: message.to_owned(), rule: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use signer::request::SignedRequest;

    use super::*;
    use crate::record::SignedBytes;

    const TRACKING: Tracking = Tracking {
        confirmations: 2,
        finality_depth: None,
        poll_interval: Duration::from_secs(1),
        resend_after: Duration::from_secs(10),
        stuck_after: Duration::from_secs(600),
        fees: FeePolicy { bump_after: None, bump_limit: 3 },
    };
    const BY_DEPTH: Tracking = Tracking { finality_depth: Some(6), ..TRACKING };

    fn attempt(number: u32, purpose: Purpose) -> Attempt {
        Attempt {
            number,
            purpose,
            unsigned: Vec::new(),
            slots: BTreeSet::new(),
            signed: Some(SignedBytes { bytes: vec![1], id: format!("tx-{number}") }),
            given_up: None,
            sent_at: Some(1),
            inclusion: None,
        }
    }

    /// A record with these attempts, numbered from 1.
    fn record_with(network: &str, state: State, purposes: &[Purpose]) -> Record {
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
            deal: None,
            request: SignedRequest { token: String::new(), body: Vec::new() },
            cancel: None,
            approvals: Vec::new(),
            state,
            reason: None,
            exposure: Exposure::Possible,
            attempts: (1..).zip(purposes).map(|(number, purpose)| attempt(number, *purpose)).collect(),
            history: Vec::new(),
        }
    }

    fn record(network: &str, state: State) -> Record {
        let mut record = record_with(network, state, &[Purpose::Pay]);
        if matches!(state, State::Included | State::Confirmed) {
            let Status::Included(before) = included(1, false, true) else { unreachable!() };
            record.attempts[0].inclusion = Some(before);
        }
        record
    }

    fn included(confirmations: u64, finalized: bool, succeeded: bool) -> Status {
        let failure = (!succeeded).then(|| "out of gas".to_owned());
        Status::Included(Inclusion { height: 7, block: None, confirmations, finalized, succeeded, failure, fee: None })
    }

    /// What every node says the same of.
    fn seen(status: Status) -> Seen {
        let agreed_depth = match &status {
            Status::Included(inclusion) => inclusion.confirmations,
            _ => 0,
        };
        let unanimous = status == Status::Expired;
        Seen { status, agreed_depth, unanimous }
    }

    /// What becomes of the record where its attempts, the latest first, have these statuses.
    fn sighted(record: &Record, latest_first: Vec<Status>, tracking: &Tracking) -> Option<Sight> {
        let attempts = record.attempts.iter().rev();
        let looks: Vec<_> =
            attempts.zip(latest_first).map(|(attempt, status)| Look { attempt, seen: seen(status) }).collect();
        sight(record, &looks, tracking, 5)
    }

    fn next(network: &str, from: State, status: Status, tracking: &Tracking) -> Option<State> {
        sighted(&record(network, from), vec![status], tracking).map(|sight| sight.to)
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
        assert_eq!(next("ethereum:1", State::Confirmed, deep.clone(), &TRACKING), None);
        // One node's depth isn't everybody's.
        let record = record("bitcoin:regtest", State::Confirmed);
        let lonely = Seen { agreed_depth: 0, ..seen(deep) };
        assert_eq!(sight(&record, &[Look { attempt: &record.attempts[0], seen: lonely }], &BY_DEPTH, 5), None);
    }

    #[test]
    fn a_reorg_is_the_only_way_back() {
        for from in [State::Included, State::Confirmed] {
            for status in [Status::Unknown, Status::InMempool] {
                let back = sighted(&record("ethereum:1", from), vec![status], &TRACKING).unwrap();
                assert_eq!((back.to, back.exposure), (State::InMempool, Exposure::Possible));
            }
        }
        // Less deep: in another block, or seen by a node that lags.
        let mut record = record("ethereum:1", State::Confirmed);
        let Status::Included(before) = included(2, false, true) else { unreachable!() };
        let in_block = |block: &str| Inclusion { block: Some(block.to_owned()), confirmations: 1, ..before.clone() };
        record.attempts[0].inclusion = Some(in_block("a"));
        assert_eq!(sighted(&record, vec![Status::Included(in_block("a"))], &TRACKING), None);
        let moved = sighted(&record, vec![Status::Included(in_block("b"))], &TRACKING).unwrap();
        assert_eq!(moved.to, State::Included);
    }

    #[test]
    fn absence_proves_nothing() {
        assert_eq!(next("ethereum:1", State::Broadcasting, Status::Unknown, &TRACKING), None);
        assert_eq!(next("solana:localnet", State::InMempool, Status::Unknown, &TRACKING), None);
    }

    #[test]
    fn a_failure_is_terminal_only_once_it_is_final() {
        let failed = included(3, false, false);
        let sight = sighted(&record("ethereum:1", State::InMempool), vec![failed], &TRACKING).unwrap();
        assert_eq!((sight.to, sight.reason.unwrap().kind.as_str()), (State::Included, "failed_on_chain"));
        assert_eq!(next("ethereum:1", State::Included, included(70, true, false), &TRACKING), Some(State::Failed));
    }

    #[test]
    fn what_can_never_be_included_expires_or_is_looked_at() {
        let expired = |network| {
            let sight = sighted(&record(network, State::Broadcasting), vec![Status::Expired], &TRACKING).unwrap();
            (sight.to, sight.exposure)
        };
        assert_eq!(expired("solana:localnet"), (State::Expired, Exposure::None));
        assert_eq!(expired("ethereum:1"), (State::Quarantined, Exposure::None));
        assert_eq!(expired("bitcoin:regtest"), (State::Quarantined, Exposure::None));
        // A node that didn't answer may have the payment in a block.
        let record = record("ethereum:1", State::Broadcasting);
        let most = Seen { unanimous: false, ..seen(Status::Expired) };
        let sight = sight(&record, &[Look { attempt: &record.attempts[0], seen: most }], &TRACKING, 5).unwrap();
        assert_eq!((sight.to, sight.exposure), (State::Quarantined, Exposure::Possible));
    }

    #[test]
    fn the_attempt_in_the_best_chain_decides() {
        let purposes = [Purpose::Pay, Purpose::SpeedUp, Purpose::SpeedUp];
        let record = record_with("ethereum:1", State::InMempool, &purposes);
        let first = vec![Status::Unknown, Status::Unknown, included(1, false, true)];
        let sight = sighted(&record, first, &TRACKING).unwrap();
        assert_eq!((sight.to, sight.attempt, sight.exposure), (State::Included, 1, Exposure::Certain));
        // One that is expired beside one that may yet come concludes nothing.
        let mixed = vec![Status::Unknown, Status::Expired, Status::Expired];
        assert_eq!(sighted(&record, mixed, &TRACKING), None);
        let all = vec![Status::Expired; 3];
        assert_eq!(sighted(&record, all.clone(), &TRACKING).unwrap().to, State::Quarantined);
        // Nor is anything concluded while a further attempt waits for its signatures.
        let mut waiting = record;
        waiting.attempts.push(Attempt { signed: None, sent_at: None, ..attempt(4, Purpose::SpeedUp) });
        let looks: Vec<_> = waiting.attempts[..3]
            .iter()
            .rev()
            .zip(all)
            .map(|(attempt, status)| Look { attempt, seen: seen(status) })
            .collect();
        assert_eq!(super::sight(&waiting, &looks, &TRACKING, 5), None);
    }

    #[test]
    fn a_cancelling_attempt_ends_the_exposure_only_once_it_is_final() {
        let record = record_with("ethereum:1", State::InMempool, &[Purpose::Pay, Purpose::Cancel]);
        let cancel = |confirmations, finalized| {
            let sight = sighted(&record, vec![included(confirmations, finalized, true), Status::Unknown], &TRACKING);
            sight.map(|sight| (sight.to, sight.attempt, sight.exposure)).unwrap()
        };
        assert_eq!(cancel(1, false), (State::Included, 2, Exposure::Possible));
        assert_eq!(cancel(2, false), (State::Confirmed, 2, Exposure::Possible));
        assert_eq!(cancel(70, true), (State::Cancelled, 2, Exposure::None));
        // The payment was faster.
        let lost = sighted(&record, vec![Status::Unknown, included(70, true, true)], &TRACKING).unwrap();
        assert_eq!((lost.to, lost.attempt, lost.exposure), (State::Finalized, 1, Exposure::Certain));
    }

    #[test]
    fn from_one_attempt_to_another_the_way_is_a_reorg() {
        let mut record = record_with("ethereum:1", State::Confirmed, &[Purpose::Pay, Purpose::Cancel]);
        let Status::Included(block) = included(2, false, true) else { unreachable!() };
        record.attempts[0].inclusion = Some(block);
        let cancelled = vec![included(3, false, true), Status::Unknown];
        let sight = sighted(&record, cancelled.clone(), &TRACKING).unwrap();
        assert_eq!((sight.to, sight.exposure, sight.inclusion), (State::InMempool, Exposure::Possible, None));
        (record.state, record.attempts[0].inclusion) = (State::InMempool, None);
        let sight = sighted(&record, cancelled, &TRACKING).unwrap();
        assert_eq!((sight.to, sight.exposure, sight.attempt), (State::Confirmed, Exposure::Possible, 2));
    }

    /// The whole table: only what is unsigned, or conflicts with something final, can't move money.
    #[test]
    fn exposure_is_none_only_with_no_signature_or_a_final_conflict() {
        let chains = [
            OnChain::Nothing,
            OnChain::Payment,
            OnChain::Cancel { is_final: false },
            OnChain::Cancel { is_final: true },
            OnChain::Conflict { proven: false },
            OnChain::Conflict { proven: true },
        ];
        for state in [State::Signing, State::Signed, State::Broadcasting, State::InMempool, State::Quarantined] {
            let row = chains.map(|chain| exposure(state, chain));
            use Exposure::{Certain, None, Possible};
            assert_eq!(row, [Possible, Certain, Possible, None, Possible, None], "{state}");
        }
        for state in [State::Received, State::AwaitingApproval, State::Queued, State::Rejected, State::Blocked] {
            assert!(chains.into_iter().all(|chain| exposure(state, chain) == Exposure::None), "{state}");
        }
    }
}
