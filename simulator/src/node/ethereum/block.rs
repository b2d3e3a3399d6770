//! A sealed block with its receipts, and how the next one follows from it.

use std::sync::Arc;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, ReceiptEnvelope, Sealable, Sealed, TxEnvelope};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy::primitives::{Address, B64, B256, Bytes, U256, address, keccak256};
use alloy::rlp::{Encodable, Header as RlpHeader};

use crate::topology::NodeIndex;

/// The most gas that a block may use.
pub const BLOCK_GAS_LIMIT: u64 = 30_000_000;
/// The base fee of the genesis block, in wei: 1 gwei, as EIP-1559 proposes.
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// Receives the priority fees.
pub const BENEFICIARY: Address = address!("0x00000000000000000000000000000000c0ffee01");

/// A transaction with the sender that its signature names.
pub(crate) type Transaction = Recovered<TxEnvelope>;

/// The node's own word in the headers of its blocks.
const NAME: &str = "portcullis";

/// What came of one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The receipt that the receipts root commits to.
    pub(crate) receipt: ReceiptEnvelope,
    /// The gas that this transaction used.
    pub(crate) gas_used: u64,
    /// What it paid for a unit of gas, in wei.
    pub(crate) effective_gas_price: u128,
    /// The contract that it created (or would have created).
    pub(crate) contract_address: Option<Address>,
    /// How many logs the block has before its first one.
    pub(crate) first_log: u64,
}

impl Outcome {
    /// How many logs it has left.
    pub(crate) fn logs(&self) -> u64 {
        u64::try_from(self.receipt.logs().len()).unwrap_or(u64::MAX)
    }
}

/// A block of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The header and its hash.
    pub(crate) header: Sealed<Header>,
    /// In the order of execution.
    pub(crate) transactions: Vec<Arc<Transaction>>,
    /// One for each transaction.
    pub(crate) outcomes: Vec<Outcome>,
    /// Balances that were set before the first transaction, in wei: irregular state changes, which a real block doesn't have.
    pub(crate) balances: Vec<(Address, U256)>,
    /// The length of the block's RLP form, in bytes.
    pub(crate) size: usize,
}

impl Block {
    /// Seals a block whose header is complete.
    pub(crate) fn new(
        header: Header,
        transactions: Vec<Arc<Transaction>>,
        outcomes: Vec<Outcome>,
        balances: Vec<(Address, U256)>,
    ) -> Self {
        let list = |payload_length: usize| RlpHeader { list: true, payload_length }.length_with_payload();
        let body = transactions.iter().fold(0_usize, |sum, tx| sum.saturating_add(tx.inner().length()));
        // Neither ommers nor withdrawals: two empty lists of one byte each.
        let size = list(header.length().saturating_add(list(body)).saturating_add(2));
        Self { header: header.seal_slow(), transactions, outcomes, balances, size }
    }

    /// The header's hash.
    pub(crate) fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// The base fee in wei per gas.
    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }
}

/// The header of the first block.
pub(crate) fn genesis_header(timestamp: u64, state_root: B256) -> Header {
    Header { state_root, timestamp, base_fee_per_gas: Some(INITIAL_BASE_FEE), ..template() }
}

/// What the maker of a block decides besides its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Unix seconds. The block's time is later where the parent's says so.
    pub(crate) at: u64,
    /// What the header says of the maker ([`signature`]).
    pub(crate) extra: Bytes,
    /// The least base fee in wei per gas: a fee spike, which a real chain would need full blocks for.
    pub(crate) least_fee: Option<u64>,
}

impl Terms {
    /// The terms of a block as the first node makes it.
    pub(crate) fn plain(at: u64) -> Self {
        Self { at, extra: signature(NodeIndex(0), 0), least_fee: None }
    }
}

/// What a node writes into the headers of its blocks, so that no two nodes make the same block. `branch` tells apart what one
/// node makes twice on one parent; 0 is its first.
pub(crate) fn signature(node: NodeIndex, branch: u64) -> Bytes {
    match (node.0, branch) {
        (0, 0) => NAME.into(),
        (node, 0) => format!("{NAME}/{node}").into_bytes().into(),
        (node, branch) => format!("{NAME}/{node}/{branch}").into_bytes().into(),
    }
}

/// The header of an empty block after `parent`. Its base fee follows EIP-1559 or is higher; its randomness (EIP-4399) is derived from
/// the parent, so that a run can be repeated.
pub(crate) fn next_header(parent: &Sealed<Header>, terms: Terms) -> Header {
    let Terms { at, extra, least_fee } = terms;
    let base_fee = next_base_fee(parent);
    Header {
        parent_hash: parent.hash(),
        state_root: parent.state_root,
        number: parent.number.saturating_add(1),
        timestamp: next_timestamp(parent, at),
        mix_hash: keccak256(parent.hash()),
        base_fee_per_gas: Some(least_fee.map_or(base_fee, |least| least.max(base_fee))),
        extra_data: extra,
        ..template()
    }
}

/// The time of a block after `parent` that is sealed at Unix time `at`: no two blocks share a second.
pub(crate) fn next_timestamp(parent: &Header, at: u64) -> u64 {
    at.max(parent.timestamp.saturating_add(1))
}

/// The base fee of the block after `parent`, in wei per gas (EIP-1559).
pub(crate) fn next_base_fee(parent: &Header) -> u64 {
    parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or(INITIAL_BASE_FEE)
}

/// What all headers have in common: the form of a Prague block without withdrawals, blobs and requests.
pub(crate) fn template() -> Header {
    Header {
        parent_hash: B256::ZERO,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: BENEFICIARY,
        state_root: EMPTY_ROOT_HASH,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        difficulty: U256::ZERO,
        gas_limit: BLOCK_GAS_LIMIT,
        extra_data: signature(NodeIndex(0), 0),
        nonce: B64::ZERO,
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::consensus::BlockBody;
    use alloy::eips::eip2718::Decodable2718;

    #[test]
    fn the_size_is_the_length_of_the_encoding() {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/vectors/eip-155.json")).unwrap();
        let raw: Bytes = serde_json::from_value(vector["signed"].clone()).unwrap();
        let tx = TxEnvelope::decode_2718_exact(&raw).unwrap();
        for count in [0, 1, 2, 40] {
            let header = genesis_header(5, B256::repeat_byte(3));
            let body = BlockBody {
                transactions: vec![tx.clone(); count],
                ommers: Vec::new(),
                withdrawals: Some(Vec::new().into()),
            };
            let expected = alloy::consensus::Block::rlp_length_for(&header, &body);
            let shared = Arc::new(Transaction::new_unchecked(tx.clone(), Address::ZERO));
            assert_eq!(Block::new(header, vec![shared; count], Vec::new(), Vec::new()).size, expected);
        }
    }

    #[test]
    fn no_two_makers_make_the_same_block() {
        let parent = genesis_header(5, B256::ZERO).seal_slow();
        let hash = |node, branch| {
            let terms = Terms { extra: signature(NodeIndex(node), branch), ..Terms::plain(9) };
            next_header(&parent, terms).hash_slow()
        };
        let hashes: std::collections::HashSet<_> =
            [(0, 0), (1, 0), (11, 0), (0, 1), (1, 1), (1, 11)].map(|(node, branch)| hash(node, branch)).into();
        assert_eq!(hashes.len(), 6);
        // A base fee may be higher than EIP-1559 has it, never lower.
        let fee = |least_fee| next_header(&parent, Terms { least_fee, ..Terms::plain(9) }).base_fee_per_gas;
        assert_eq!((fee(Some(5)), fee(Some(u64::MAX))), (fee(None), Some(u64::MAX)));
    }
}
