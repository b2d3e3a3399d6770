//! The record of one intent: its state, its attempts, its history.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chains::chain::Slot;

use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use signer::approval::Approval;
use signer::request::{Deal, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;
use uuid::Uuid;

/// The gateway's own name for an accepted intent: a UUID version 7, so that names sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(Uuid);

impl RecordId {
    /// The name that this UUID is.
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RecordId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Where an intent stands. The only ways back are a reorg (`included`, `confirmed` -> `in_mempool`) and a replacement that
/// brings a quarantined record on its way again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Durable; nothing decided.
    Received,
    /// The parties that the bytes touch are looked up.
    Screening,
    /// The policy is asked.
    Evaluating,
    /// A quorum of approvers is needed.
    AwaitingApproval,
    /// Allowed; waits for its slot.
    Queued,
    /// The slot is burned, the signers are asked.
    Signing,
    /// The signed bytes are durable.
    Signed,
    /// The signed bytes may have left the house.
    Broadcasting,
    /// A node has it in its mempool.
    InMempool,
    /// In a block of the best chain.
    Included,
    /// Deep enough for the network's configured `confirmations`.
    Confirmed,
    /// Final. Terminal.
    Finalized,
    /// Refused by policy, by an approver, or because it can't be built. Terminal.
    Rejected,
    /// A party is on a denylist. Terminal.
    Blocked,
    /// On chain and final, but it did not do what it was for; the fee is spent. Terminal.
    Failed,
    /// Can never be included any more. Terminal.
    Expired,
    /// A conflicting transaction is final, or no signature ever existed. Terminal.
    Cancelled,
    /// Another record took its place. Terminal.
    Replaced,
    /// A person must look. Terminal until one does.
    Quarantined,
}

impl State {
    const ALL: [Self; 19] = [
        Self::Received,
        Self::Screening,
        Self::Evaluating,
        Self::AwaitingApproval,
        Self::Queued,
        Self::Signing,
        Self::Signed,
        Self::Broadcasting,
        Self::InMempool,
        Self::Included,
        Self::Confirmed,
        Self::Finalized,
        Self::Rejected,
        Self::Blocked,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Replaced,
        Self::Quarantined,
    ];

    /// The state's name, as the API and the store write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Screening => "screening",
            Self::Evaluating => "evaluating",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Queued => "queued",
            Self::Signing => "signing",
            Self::Signed => "signed",
            Self::Broadcasting => "broadcasting",
            Self::InMempool => "in_mempool",
            Self::Included => "included",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
            Self::Rejected => "rejected",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Replaced => "replaced",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Finalized
                | Self::Rejected
                | Self::Blocked
                | Self::Failed
                | Self::Expired
                | Self::Cancelled
                | Self::Replaced
                | Self::Quarantined
        )
    }

    /// Whether signed bytes are out and the chain decides: the states that tracking moves between.
    pub const fn is_on_its_way(self) -> bool {
        matches!(self, Self::Broadcasting | Self::InMempool | Self::Included | Self::Confirmed)
    }

    /// Whether `self -> next` is an arrow of the life of a transaction.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Received => {
                matches!(next, Self::Queued | Self::AwaitingApproval | Self::Rejected | Self::Blocked | Self::Cancelled)
            }
            Self::Screening | Self::Evaluating => false, // passed within one database transaction, never rested in
            Self::AwaitingApproval => {
                matches!(next, Self::Queued | Self::Rejected | Self::Blocked | Self::Expired | Self::Cancelled)
            }
            Self::Queued => {
                matches!(next, Self::Signing | Self::Rejected | Self::Blocked | Self::Expired | Self::Cancelled)
            }
            Self::Signing => matches!(next, Self::Signed | Self::Quarantined),
            Self::Signed => matches!(next, Self::Broadcasting),
            Self::Broadcasting | Self::InMempool | Self::Included | Self::Confirmed => {
                matches!(
                    next,
                    Self::InMempool
                        | Self::Included
                        | Self::Confirmed
                        | Self::Finalized
                        | Self::Failed
                        | Self::Expired
                        | Self::Cancelled
                        | Self::Replaced
                        | Self::Quarantined
                ) && self != next
            }
            // By a replacement, or where nothing is left that could be included.
            Self::Quarantined => matches!(next, Self::Broadcasting | Self::Cancelled),
            _ => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string that names no state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a transaction")]
pub struct StateError(String);

impl FromStr for State {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| StateError(text.to_owned()))
    }
}

/// Can the intent still move money?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// No: no signature ever existed, or what it would have spent is gone for good.
    None,
    /// It may: a signature exists or may exist.
    Possible,
    /// It has: the transaction is in the best chain.
    Certain,
}

impl Exposure {
    /// The name, as the API and the store write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Possible => "possible",
            Self::Certain => "certain",
        }
    }

    /// What follows from reaching `state`, where the transaction in the best chain, if one is, does what the intent asks for. A
    /// cancelling transaction that is included but not final leaves it [`Exposure::Possible`].
    pub const fn of(state: State) -> Self {
        match state {
            State::Received
            | State::Screening
            | State::Evaluating
            | State::AwaitingApproval
            | State::Queued
            | State::Rejected
            | State::Blocked
            | State::Expired
            | State::Cancelled
            | State::Replaced => Self::None,
            State::Signing | State::Signed | State::Broadcasting | State::InMempool | State::Quarantined => {
                Self::Possible
            }
            State::Included | State::Confirmed | State::Finalized | State::Failed => Self::Certain,
        }
    }
}

/// Why a record is in its state, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable snake_case word: `insufficient_funds`, `unlisted_address`, `node_refused`.
    pub kind: String,
    /// The same in a sentence.
    pub message: String,
    /// The policy rule that decided, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// What the intent asks for.
    Pay,
    /// The same for a higher fee.
    SpeedUp,
    /// Nothing but to use up the slot, so that no other attempt can be included.
    Cancel,
}

/// One try at bringing the intent on chain, or at keeping it off. Every two attempts of an intent have a slot in common, so
/// at most one of them is ever included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 and up.
    pub number: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// The frozen unsigned bytes, in the chain's own encoding.
    pub unsigned: Vec<u8>,
    /// What it uses up on chain.
    pub slots: BTreeSet<Slot>,
    /// The signed bytes, once there are any.
    pub signed: Option<SignedBytes>,
    /// Why it will never be signed; the attempts before it stand.
    pub given_up: Option<Reason>,
    /// When it was about to be sent for the first time, in milliseconds since the Unix epoch.
    pub sent_at: Option<u64>,
    /// Where it stands in the best chain.
    pub inclusion: Option<Inclusion>,
}

/// A signed transaction at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBytes {
    /// The bytes, in the chain's own encoding.
    pub bytes: Vec<u8>,
    /// The id that explorers know it by.
    pub id: String,
}

/// One step in the life of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The state that was reached.
    pub state: State,
    /// What there is to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

/// Everything about one accepted intent.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The gateway's name for it.
    pub id: RecordId,
    /// Who asked.
    pub client: CredentialId,
    /// The client's own name for it.
    pub idempotency_key: IdempotencyKey,
    /// The network of the wallet.
    pub network: Network,
    /// What was asked for.
    pub intent: Intent,
    /// The terms under which it is paid, where it is a deal's crypto leg.
    pub deal: Option<Deal>,
    /// The signed request that it came in, as evidence for the signers.
    pub request: SignedRequest,
    /// The signed request to cancel it, once there is one.
    pub cancel: Option<SignedRequest>,
    /// What approvers say of it, the latest word of each, in the order of their names.
    pub approvals: Vec<Approval>,
    /// Where it stands.
    pub state: State,
    /// Why.
    pub reason: Option<Reason>,
    /// Can it still move money?
    pub exposure: Exposure,
    /// Every try at bringing it on chain, the latest last.
    pub attempts: Vec<Attempt>,
    /// Every step so far.
    pub history: Vec<Event>,
}

impl Record {
    /// The latest attempt.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The replacement that waits for its signatures, if one does.
    pub fn unsigned_replacement(&self) -> Option<&Attempt> {
        self.attempt().filter(|last| last.number > 1 && last.signed.is_none() && last.given_up.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn a_terminal_state_has_no_way_out() {
        for from in State::ALL.into_iter().filter(|s| s.is_terminal() && *s != State::Quarantined) {
            assert!(State::ALL.into_iter().all(|to| !from.may_become(to)), "{from}");
        }
    }

    #[test]
    fn a_quarantined_record_is_replaced_or_cancelled() {
        let ways: Vec<_> = State::ALL.into_iter().filter(|to| State::Quarantined.may_become(*to)).collect();
        assert_eq!(ways, [State::Broadcasting, State::Cancelled]);
    }

    #[test]
    fn whatever_is_on_its_way_may_end_cancelled_and_nothing_signed_is_cancelled_before() {
        for from in State::ALL.into_iter().filter(|s| s.is_on_its_way()) {
            assert!(from.may_become(State::Cancelled), "{from}");
        }
        assert!(!State::Signing.may_become(State::Cancelled) && !State::Signed.may_become(State::Cancelled));
    }

    #[test]
    fn once_signing_the_exposure_is_never_none_before_the_end() {
        for state in State::ALL.into_iter().filter(|s| *s >= State::Signing && !s.is_terminal()) {
            assert_ne!(Exposure::of(state), Exposure::None, "{state}");
        }
    }

    #[test]
    fn signed_bytes_come_before_the_first_send() {
        assert!(!State::Signing.may_become(State::Broadcasting));
        assert!(State::Signed.may_become(State::Broadcasting));
    }
}
