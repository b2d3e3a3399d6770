//! What nodes tell each other: blocks, the transactions in them, and votes.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use solana_sdk::hash::Hash;
use solana_sdk::signature::Signature;
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

use super::ledger::{BlockId, Slot};
use super::votes::Vote;
use crate::network::Gossip;
use crate::topology::NodeIndex;

/// A transaction on its way, with its wire form.
#[derive(Clone, Debug, PartialEq)]
pub struct Wired {
    /// The transaction.
    pub transaction: VersionedTransaction,
    /// In base64, as the journal keeps it.
    pub wire: String,
    /// What [`Self::check`] found, which follows from the bytes alone: nodes of one process share it.
    checked: OnceLock<Result<Hash, TransactionError>>,
}

impl Wired {
    pub(super) fn new(transaction: VersionedTransaction) -> Self {
        let bytes = bincode::serialize(&transaction).expect("a transaction that was decoded can be encoded");
        Self { transaction, wire: BASE64_STANDARD.encode(bytes), checked: OnceLock::new() }
    }

    /// Reads the wire form. `None` where it is none.
    pub(super) fn read(wire: &str) -> Option<Self> {
        let transaction = bincode::deserialize(&BASE64_STANDARD.decode(wire).ok()?).ok()?;
        Some(Self { transaction, wire: wire.to_owned(), checked: OnceLock::new() })
    }

    /// Checks its form and its signatures, and hashes its message.
    pub(super) fn check(&self) -> Result<Hash, TransactionError> {
        let check = || {
            self.transaction.sanitize().map_err(|_| TransactionError::SanitizeFailure)?;
            self.transaction.verify_and_hash_message()
        };
        self.checked.get_or_init(check).clone()
    }

    /// The signature that names it.
    pub(super) fn signature(&self) -> Signature {
        self.transaction.signatures.first().copied().unwrap_or_default()
    }
}

/// A block. Its name follows from all the rest.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its name.
    pub id: BlockId,
    /// What it builds on.
    pub parent: BlockId,
    /// Who made it, where several nodes make up the chain.
    pub leader: Option<NodeIndex>,
    /// Milliseconds since the Unix epoch.
    pub millis: u64,
    /// What is in it, in the order of execution.
    pub transactions: Vec<Arc<Wired>>,
}

impl Block {
    pub(super) fn new(
        parent: BlockId,
        slot: Slot,
        leader: Option<NodeIndex>,
        millis: u64,
        transactions: Vec<Arc<Wired>>,
    ) -> Self {
        let signatures = transactions.iter().map(|wired| wired.signature());
        let id = BlockId { slot, hash: blockhash(&parent.hash, slot, signatures, leader, millis) };
        Self { id, parent, leader, millis, transactions }
    }
}

/// The blockhash of the block in `slot` on top of the one with the hash `previous`. A node that is alone makes no two blocks in one
/// slot; of several nodes each makes its own.
pub(super) fn blockhash(
    previous: &Hash,
    slot: Slot,
    signatures: impl Iterator<Item = Signature>,
    leader: Option<NodeIndex>,
    millis: u64,
) -> Hash {
    let mut digest = Sha256::new().chain_update(previous).chain_update(slot.to_le_bytes());
    for signature in signatures {
        digest.update(signature.as_array());
    }
    if let Some(NodeIndex(leader)) = leader {
        digest.update(leader.to_le_bytes());
        digest.update(millis.to_le_bytes());
    }
    Hash::new_from_array(digest.finalize().into())
}

/// What nodes say to each other: transactions are forwarded to whoever leads next, which may be anyone.
pub(super) type Message = Gossip<Arc<Wired>, Arc<Block>, BlockId, Said>;

/// What a node knows of everyone's votes, and the blocks that were given up on command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The latest vote of each node.
    pub votes: Vec<Vote>,
    /// Blocks that were given up.
    pub refused: Vec<BlockId>,
}
