//! What clients see of a record.

use chains::chain::Slot;

use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::{Attempt, Exposure, Purpose, Reason, Record, RecordId, State};

/// A record, as `tx_submit`, `tx_get` and `tx_list` answer it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TxView {
    /// The gateway's name for it, a UUID.
    pub tx_id: RecordId,
    /// The client's name for it.
    pub idempotency_key: String,
    /// The credential that asked.
    pub client: String,
    /// The network.
    pub network: Network,
    /// What was asked for.
    pub intent: Intent,
    /// Where it stands.
    pub state: State,
    /// Why.
    pub reason: Option<Reason>,
    /// Can it still move money?
    pub exposure: Exposure,
    /// Whether it is to be cancelled.
    #[serde(default)]
    pub cancelling: bool,
    /// Tries at bringing it on chain.
    pub attempts: Vec<AttemptView>,
    /// Every step so far.
    pub history: Vec<StepView>,
}

/// One try.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttemptView {
    /// 1 and up.
    pub number: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// What it uses up on chain.
    pub slots: Vec<Slot>,
    /// The transaction's id on chain, once it is signed.
    pub chain_tx_id: Option<String>,
    /// When it was about to be sent for the first time, in milliseconds since the Unix epoch.
    pub sent_at: Option<u64>,
    /// Why it will never be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_up: Option<Reason>,
    /// Where it stands in the best chain.
    pub inclusion: Option<Inclusion>,
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepView {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What was reached.
    pub state: State,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

impl From<Record> for TxView {
    fn from(record: Record) -> Self {
        Self {
            tx_id: record.id,
            idempotency_key: record.idempotency_key.as_str().to_owned(),
            client: record.client.to_string(),
            network: record.network,
            intent: record.intent,
            state: record.state,
            reason: record.reason,
            exposure: record.exposure,
            cancelling: record.cancel.is_some() && record.state != State::Cancelled,
            attempts: record.attempts.into_iter().map(AttemptView::from).collect(),
            history: record
                .history
                .into_iter()
                .map(|event| StepView { at: event.at, state: event.state, detail: event.detail })
                .collect(),
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            purpose: attempt.purpose,
            slots: attempt.slots.into_iter().collect(),
            chain_tx_id: attempt.signed.map(|signed| signed.id),
            sent_at: attempt.sent_at,
            given_up: attempt.given_up,
            inclusion: attempt.inclusion,
        }
    }
}
