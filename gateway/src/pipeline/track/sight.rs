//! Where a record goes by what the nodes say of its attempts, and whether it can still move money.

use chains::client::{Inclusion, Status};
use chains::network::Family;

use super::{Tracking, reason};
use crate::mutation::Mutation;
use crate::nodes::Seen;
use crate::record::{Attempt, Exposure, Purpose, Reason, Record, State};
use crate::store::Sight;

/// What the nodes say of one signed attempt.
pub(super) struct Look<'r> {
    pub(super) attempt: &'r Attempt,
    pub(super) seen: Seen,
}

/// What the chain holds of an intent, over all its signed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChain {
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
const fn exposure(state: State, chain: OnChain) -> Exposure {
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

/// What the looks at a record's signed attempts, the latest first, make of it; nothing, mostly.
pub(super) fn sight(record: &Record, looks: &[Look<'_>], tracking: &Tracking, at: u64) -> Option<Sight> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::json;
    use signer::request::SignedRequest;

    use super::*;
    use crate::pipeline::replace::FeePolicy;
    use crate::record::{RecordId, SignedBytes};

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
