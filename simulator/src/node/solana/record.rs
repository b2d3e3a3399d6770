//! What the journal keeps: the inputs from which the chain's state follows.

use serde::{Deserialize, Serialize};

use crate::topology::NodeIndex;

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
    /// A block on top of the newest one, where slots may have been skipped between.
    Linked {
        /// The slot.
        slot: u64,
        /// Who made it, where several nodes make up the chain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<NodeIndex>,
        /// When it is, in milliseconds since the Unix epoch.
        millis: u64,
        /// What is in it, in the order of execution: wire form in base64.
        transactions: Vec<String>,
    },
    /// All blocks after this slot are taken back.
    Back {
        /// The newest slot that stays.
        slot: u64,
    },
    /// What votes have settled.
    Settled {
        /// The newest slot that the node itself never leaves.
        rooted: u64,
        /// The newest slot that nobody leaves.
        finalized: u64,
    },
    /// A block that was given up on command.
    Refused {
        /// Its slot.
        slot: u64,
        /// Its blockhash in base58.
        hash: String,
    },
}
