//! A sealed block with its receipts, and how the next one follows from it.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{
    BlockBody, EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH, Header, ReceiptEnvelope, Sealable, Sealed, TxEnvelope,
};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy::primitives::{Address, B64, B256, Bytes, U256, address, keccak256};

/// The most gas that a block may use.
pub const BLOCK_GAS_LIMIT: u64 = 30_000_000;
/// The base fee of the genesis block, in wei: 1 gwei, as EIP-1559 proposes.
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// Receives the priority fees.
pub const BENEFICIARY: Address = address!("0x00000000000000000000000000000000c0ffee01");

/// A transaction with the sender that its signature names.
pub(crate) type Transaction = Recovered<TxEnvelope>;

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

/// A block of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The header and its hash.
    pub(crate) header: Sealed<Header>,
    /// In the order of execution.
    pub(crate) transactions: Vec<Transaction>,
    /// One for each transaction.
    pub(crate) outcomes: Vec<Outcome>,
    /// The length of the block's RLP form, in bytes.
    pub(crate) size: usize,
}

impl Block {
    /// Seals a block whose header is complete.
    pub(crate) fn new(header: Header, transactions: Vec<Transaction>, outcomes: Vec<Outcome>) -> Self {
        let body = BlockBody {
            transactions: transactions.iter().map(|tx| tx.inner().clone()).collect(),
            ommers: Vec::new(),
            withdrawals: Some(Vec::new().into()),
        };
        let size = alloy::consensus::Block::rlp_length_for(&header, &body);
        Self { header: header.seal_slow(), transactions, outcomes, size }
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

/// The header of an empty block after `parent`. Its time is `at` (Unix seconds) but always later than the parent's; its base fee follows
/// EIP-1559; its randomness (EIP-4399) is derived from the parent, so that a run can be repeated.
pub(crate) fn next_header(parent: &Sealed<Header>, at: u64) -> Header {
    Header {
        parent_hash: parent.hash(),
        state_root: parent.state_root,
        number: parent.number.saturating_add(1),
        timestamp: next_timestamp(parent, at),
        mix_hash: keccak256(parent.hash()),
        base_fee_per_gas: Some(next_base_fee(parent)),
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
fn template() -> Header {
    Header {
        parent_hash: B256::ZERO,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: BENEFICIARY,
        state_root: EMPTY_ROOT_HASH,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        difficulty: U256::ZERO,
        gas_limit: BLOCK_GAS_LIMIT,
        extra_data: Bytes::from_static(b"portcullis"),
        nonce: B64::ZERO,
        withdrawals_root: Some(EMPTY_ROOT_HASH),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}
