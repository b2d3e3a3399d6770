//! What the journal holds: each change of a node, in the order in which it was made.

use alloy::consensus::{Header, Sealed};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use super::block::{Block, next_base_fee, signature};
use super::faucet::Faucet;
use super::finality::Vote;
use crate::topology::NodeIndex;

/// Where in an origin the number of faucets is.
const FAUCETS: u32 = 48;

/// One change of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first record: what the genesis block depends on.
    Genesis(Genesis),
    /// A transaction came into the mempool, in its EIP-2718 form.
    Transaction(Bytes),
    /// A block of the first node without transactions, on the head, by its Unix time.
    Empty(u64),
    /// Any other block.
    Block(Body),
    /// A vote, the node's own or one that it has heard.
    Vote(Vote),
    /// The mempool was emptied.
    Evicted,
}

/// What the genesis block depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Genesis {
    /// EIP-155.
    pub(crate) chain_id: u64,
    /// Unix seconds.
    pub(crate) timestamp: u64,
    /// How many nodes have a faucet.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) faucets: u16,
}

const fn one() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one(number: &u16) -> bool {
    *number == 1
}

impl Genesis {
    /// A node's faucet: its own where the chain began with one, otherwise the first node's.
    pub(crate) fn faucet(self, node: NodeIndex) -> Faucet {
        if node.0 < self.faucets { Faucet::of(node) } else { Faucet::new() }
    }

    /// Time and faucets in one number, for nodes that join the chain.
    pub(crate) fn origin(self) -> u64 {
        self.timestamp | u64::from(self.faucets).wrapping_shl(FAUCETS)
    }

    /// The genesis of the chain that began with `origin`.
    pub(crate) fn join(chain_id: u64, origin: u64) -> Self {
        let faucets = u16::try_from(origin.wrapping_shr(FAUCETS)).unwrap_or(u16::MAX);
        let timestamp = origin & 1_u64.wrapping_shl(FAUCETS).wrapping_sub(1);
        Self { chain_id, timestamp, faucets }
    }
}

/// A block to be executed again. The root spares the replay to compute it for each block, the hash proves that it came out the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) timestamp: u64,
    pub(crate) hash: B256,
    pub(crate) state_root: B256,
    /// The block that it builds on, where that isn't the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<B256>,
    /// What the header says of its maker, where that isn't the first node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) extra: Option<Bytes>,
    /// In wei per gas, where it is higher than EIP-1559 has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_fee: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) balances: Vec<(Address, U256)>,
    pub(crate) transactions: Vec<Bytes>,
}

impl Record {
    /// The record of a block after `parent`, which is the head or not.
    pub(crate) fn of(block: &Block, parent: &Sealed<Header>, on_head: bool) -> Self {
        let header = &block.header;
        let extra = (header.extra_data != signature(NodeIndex(0), 0)).then(|| header.extra_data.clone());
        let base_fee = header.base_fee_per_gas.filter(|fee| *fee != next_base_fee(parent));
        let is_empty = block.transactions.is_empty() && block.balances.is_empty();
        if on_head && extra.is_none() && base_fee.is_none() && is_empty {
            return Self::Empty(header.timestamp);
        }
        Self::Block(Body {
            timestamp: header.timestamp,
            hash: block.hash(),
            state_root: header.state_root,
            parent: (!on_head).then_some(header.parent_hash),
            extra,
            base_fee,
            balances: block.balances.clone(),
            transactions: block.transactions.iter().map(|tx| tx.encoded_2718().into()).collect(),
        })
    }

    /// The hash of the block that it is of, where it says so.
    pub(crate) fn block_hash(&self) -> Option<B256> {
        match self {
            Self::Block(body) => Some(body.hash),
            _ => None,
        }
    }
}

/// Why a journal can't be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The journal's chain didn't begin as that of the first node.
    #[error(
        "the journal belongs to a chain that began otherwise than the first node's; move the file away to join that one"
    )]
    Origin,
    /// The journal doesn't start with a genesis record, or has a second one.
    #[error("the journal's records are out of order; move the file away to start a fresh chain")]
    Order,
    /// The journal is another chain's.
    #[error("the journal belongs to chain {journal}, the configuration says {config}; use another folder")]
    ChainId {
        /// The journal's chain.
        journal: u64,
        /// The configured one.
        config: u64,
    },
    /// A transaction of a block can't be executed.
    #[error("block {number} of the journal can't be executed: {reason}; move the file away to start a fresh chain")]
    Block {
        /// The block's number.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Execution gave another block: the journal was made by another version of the engine.
    #[error(
        "block {number} of the journal came out as {computed} instead of {recorded}; move the file away to start a fresh chain"
    )]
    Hash {
        /// The block's number.
        number: u64,
        /// The hash as computed.
        computed: B256,
        /// The hash as recorded.
        recorded: B256,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_join_begin_with_the_same_block() {
        for faucets in [1, 3, u16::MAX] {
            let genesis = Genesis { chain_id: 5, timestamp: 1_700_000_000, faucets };
            assert_eq!(Genesis::join(5, genesis.origin()), genesis);
        }
        // A journal of a chain with one node says nothing of faucets.
        let old: Record = serde_json::from_str(r#"{"genesis":{"chain_id":5,"timestamp":6}}"#).unwrap();
        assert_eq!(old, Record::Genesis(Genesis { chain_id: 5, timestamp: 6, faucets: 1 }));
        assert_eq!(serde_json::to_string(&old).unwrap(), r#"{"genesis":{"chain_id":5,"timestamp":6}}"#);
    }
}
