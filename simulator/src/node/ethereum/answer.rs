//! Blocks, transactions, receipts and logs in the JSON shapes of the Ethereum execution API.

use alloy::consensus::Transaction as _;
use alloy::consensus::transaction::TransactionInfo;
use alloy::network::primitives::BlockTransactions;
use alloy::primitives::U256;
use alloy::rpc::types::{
    Block as RpcBlock, Header as RpcHeader, Log, Transaction as RpcTransaction, TransactionReceipt,
};
use serde::Serialize;
use serde_json::Value;

use super::block::{Block, Transaction};

/// Any of alloy's RPC types as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("the RPC types have string keys and no failing serializer")
}

/// A block, with whole transactions or their hashes.
pub(crate) fn block(block: &Block, full: bool) -> Value {
    let transactions = if full {
        BlockTransactions::Full((0..block.transactions.len()).filter_map(|index| mined(block, index)).collect())
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|tx| *tx.tx_hash()).collect())
    };
    json(&RpcBlock {
        header: rpc_header(block),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Vec::new().into()),
    })
}

/// A block's header alone.
pub(crate) fn header(block: &Block) -> Value {
    json(&RpcHeader { size: None, ..rpc_header(block) })
}

fn rpc_header(block: &Block) -> RpcHeader {
    RpcHeader::from_consensus(block.header.clone(), None, Some(U256::from(block.size)))
}

/// A block that isn't sealed: as geth, without what only sealing gives.
pub(crate) fn pending_block(pending: &Block, full: bool) -> Value {
    let mut value = block(pending, full);
    if let Value::Object(fields) = &mut value {
        for field in ["hash", "nonce", "miner"] {
            fields.insert(field.to_owned(), Value::Null);
        }
    }
    value
}

/// The transaction at `index` of a block.
pub(crate) fn mined(block: &Block, index: usize) -> Option<RpcTransaction> {
    let tx = block.transactions.get(index)?;
    let info = TransactionInfo {
        hash: Some(*tx.tx_hash()),
        index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        base_fee: block.header.base_fee_per_gas,
        block_timestamp: Some(block.header.timestamp),
    };
    Some(RpcTransaction::from_transaction(Transaction::clone(tx), info))
}

/// A transaction that waits.
pub(crate) fn waiting(tx: &Transaction) -> RpcTransaction {
    RpcTransaction::from_transaction(tx.clone(), TransactionInfo::default())
}

/// The receipt of the transaction at `index` of a block.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let (tx, outcome) = (block.transactions.get(index)?, block.outcomes.get(index)?);
    let mut logs = logs(block, index).into_iter();
    Some(TransactionReceipt {
        inner: outcome.receipt.clone().map_logs(|_| logs.next().unwrap_or_default()),
        transaction_hash: *tx.tx_hash(),
        transaction_index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        gas_used: outcome.gas_used,
        effective_gas_price: outcome.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.signer(),
        to: tx.to(),
        contract_address: outcome.contract_address,
    })
}

/// All logs of a block, in order.
pub(crate) fn block_logs(block: &Block) -> impl Iterator<Item = Log> {
    (0..block.transactions.len()).flat_map(|index| logs(block, index))
}

fn logs(block: &Block, index: usize) -> Vec<Log> {
    let (Some(tx), Some(outcome)) = (block.transactions.get(index), block.outcomes.get(index)) else {
        return Vec::new();
    };
    let numbers = outcome.first_log..;
    let log = |(log, number): (&alloy::primitives::Log, u64)| Log {
        inner: log.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(*tx.tx_hash()),
        transaction_index: u64::try_from(index).ok(),
        log_index: Some(number),
        removed: false,
    };
    outcome.receipt.logs().iter().zip(numbers).map(log).collect()
}
