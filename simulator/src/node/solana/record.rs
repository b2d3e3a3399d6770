//! What the journal keeps: the inputs from which the chain's state follows.

use serde::{Deserialize, Serialize};

/// One line of the journal.
///
/// Blockhashes follow from the slots and the transactions, so a run of empty slots needs one record whatever its
/// length. A run is recorded before its first slot is shown; a [`Record::Block`] or another run may then cut it short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    /// The first record: which chain this is and when slot 0 was.
    Genesis {
        /// The genesis hash in base58.
        hash: String,
        /// Milliseconds since the Unix epoch.
        millis: u64,
    },
    /// Slots without transactions.
    Empty {
        /// The first of them.
        slot: u64,
        /// How many at most.
        slots: u64,
        /// When the first one is, in milliseconds since the Unix epoch.
        millis: u64,
        /// Milliseconds from one to the next.
        interval: u64,
    },
    /// One slot with transactions.
    Block {
        /// The slot.
        slot: u64,
        /// When it is, in milliseconds since the Unix epoch.
        millis: u64,
        /// What was sent, in the order of execution: wire form in base64. What can't be included (expired, unfunded,
        /// duplicate) is left out again by every replay.
        transactions: Vec<String>,
    },
}
