//! bitcoind's RPC, typed: the few methods that are used, and what they answer when there is nothing to tell.

use std::collections::BTreeSet;
use std::fmt;

use bdk_chain::BlockId;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount as Sats, Block, BlockHash, FeeRate, Transaction, Txid};
use serde::Deserialize;

use crate::address::Address;
use crate::client::{BroadcastError, SendClass};
use crate::network::BitcoinNetwork;
use crate::rpc::{RpcClient, RpcError};
use crate::send;

/// `RPC_INVALID_ADDRESS_OR_KEY`: no such transaction.
const NOT_FOUND: i64 = -5;
/// `RPC_INVALID_PARAMETER`: no block at that height.
const OUT_OF_RANGE: i64 = -8;

/// The incremental rate of a node that doesn't tell it: bitcoind's default until version 29, since when it is a tenth.
const INCREMENTAL_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(1);

/// What became of a transaction that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The mempool has it.
    InMempool,
    /// A block has it.
    InBlock,
}

#[derive(Debug)]
pub(super) struct Node {
    rpc: RpcClient,
    network: BitcoinNetwork,
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    bestblockhash: BlockHash,
}

#[derive(Deserialize)]
struct FeeEstimate {
    /// Always there, so that another object is not taken for an estimate without a rate.
    #[serde(rename = "blocks")]
    _blocks: u32,
    /// Per 1,000 virtual bytes.
    #[serde(default, with = "bitcoin::amount::serde::as_btc::opt")]
    feerate: Option<Sats>,
}

#[derive(Deserialize)]
struct MempoolInfo {
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    mempoolminfee: Sats,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    minrelaytxfee: Sats,
    /// Told since bitcoind 24.
    #[serde(default, with = "bitcoin::amount::serde::as_btc::opt")]
    incrementalrelayfee: Option<Sats>,
}

/// An unconfirmed transaction and those that it stands and falls with, all sizes virtual.
#[derive(Debug, Deserialize)]
pub(super) struct MempoolEntry {
    pub(super) vsize: u64,
    /// The transaction and all that spend its outputs.
    pub(super) descendantcount: u64,
    /// The transaction and all unconfirmed ones whose outputs it spends.
    pub(super) ancestorsize: u64,
    pub(super) fees: EntryFees,
}

#[derive(Debug, Deserialize)]
pub(super) struct EntryFees {
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub(super) base: Sats,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub(super) descendant: Sats,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub(super) ancestor: Sats,
}

impl Node {
    pub(super) fn new(rpc: RpcClient, network: BitcoinNetwork) -> Self {
        Self { rpc, network }
    }

    /// The best block. Every sync starts here, so here the network is checked.
    pub(super) async fn best_block(&self) -> Result<BlockId, RpcError> {
        const METHOD: &str = "getblockchaininfo";
        let info: ChainInfo = self.rpc.call(METHOD, ()).await?;
        let expected = self.network.to_core_arg();
        if info.chain != expected {
            return Err(self.contradiction(METHOD, format!("the node is on {}, not on {expected}", info.chain)));
        }
        Ok(BlockId { height: info.blocks, hash: info.bestblockhash })
    }

    /// The hash of the best chain's block at `height`; `None` above its tip.
    pub(super) async fn block_hash(&self, height: u32) -> Result<Option<BlockHash>, RpcError> {
        match self.rpc.call("getblockhash", [height]).await {
            Ok(hash) => Ok(Some(hash)),
            Err(RpcError::Node { code: OUT_OF_RANGE, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The block of that hash: it has the hash, and its header commits to its transactions.
    pub(super) async fn block(&self, hash: BlockHash) -> Result<Block, RpcError> {
        const METHOD: &str = "getblock";
        let hex: String = self.rpc.call(METHOD, (hash, 0)).await?;
        let block: Block = deserialize_hex(&hex).map_err(|e| self.contradiction(METHOD, e))?;
        if block.block_hash() != hash {
            let found = block.block_hash();
            return Err(self.contradiction(METHOD, format!("block {found} was sent for {hash}")));
        }
        if !block.check_merkle_root() {
            return Err(self.contradiction(METHOD, format!("block {hash} doesn't commit to its transactions")));
        }
        Ok(block)
    }

    /// The ids of all unconfirmed transactions.
    pub(super) async fn mempool(&self) -> Result<BTreeSet<Txid>, RpcError> {
        self.rpc.call("getrawmempool", [false]).await
    }

    /// An unconfirmed transaction; `None` where it has left the mempool.
    pub(super) async fn mempool_transaction(&self, txid: Txid) -> Result<Option<Transaction>, RpcError> {
        const METHOD: &str = "getrawtransaction";
        let hex: String = match self.rpc.call(METHOD, (txid, 0)).await {
            Ok(hex) => hex,
            Err(RpcError::Node { code: NOT_FOUND, .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let tx: Transaction = deserialize_hex(&hex).map_err(|e| self.contradiction(METHOD, e))?;
        let found = tx.compute_txid();
        if found != txid {
            return Err(self.contradiction(METHOD, format!("transaction {found} was sent for {txid}")));
        }
        Ok(Some(tx))
    }

    /// The rate at which a transaction confirms within `target` blocks; `None` where the node has seen too little.
    pub(super) async fn fee_estimate(&self, target: u16) -> Result<Option<FeeRate>, RpcError> {
        let estimate: FeeEstimate = self.rpc.call("estimatesmartfee", [target]).await?;
        Ok(estimate.feerate.map(per_kvb))
    }

    /// The least rate that the node takes.
    pub(super) async fn relay_floor(&self) -> Result<FeeRate, RpcError> {
        let info: MempoolInfo = self.rpc.call("getmempoolinfo", ()).await?;
        Ok(per_kvb(info.mempoolminfee.max(info.minrelaytxfee)))
    }

    /// What a replacement pays for its own relay.
    pub(super) async fn incremental_rate(&self) -> Result<FeeRate, RpcError> {
        let info: MempoolInfo = self.rpc.call("getmempoolinfo", ()).await?;
        Ok(info.incrementalrelayfee.map_or(INCREMENTAL_RATE, per_kvb))
    }

    /// What the mempool knows of the transaction; `None` where it isn't there.
    pub(super) async fn mempool_entry(&self, txid: Txid) -> Result<Option<MempoolEntry>, RpcError> {
        match self.rpc.call("getmempoolentry", [txid]).await {
            Ok(entry) => Ok(Some(entry)),
            Err(RpcError::Node { code: NOT_FOUND, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sends the transaction.
    pub(super) async fn send(&self, tx: &Transaction) -> Result<Sent, BroadcastError> {
        const METHOD: &str = "sendrawtransaction";
        match self.rpc.call::<Txid>(METHOD, [serialize_hex(tx)]).await {
            Ok(txid) if txid == tx.compute_txid() => Ok(Sent::InMempool),
            Ok(txid) => Err(self.contradiction(METHOD, format!("another transaction was accepted: {txid}")).into()),
            Err(RpcError::Node { code, message, .. }) => match send::bitcoin::class(code, &message) {
                SendClass::AlreadyKnown => Ok(Sent::InMempool),
                SendClass::AlreadyIncluded => Ok(Sent::InBlock),
                class => Err(BroadcastError::Rejected { class, code, message }),
            },
            Err(e) => Err(e.into()),
        }
    }

    /// An answer that is well-formed and can't be true.
    pub(super) fn contradiction(&self, method: &str, reason: impl fmt::Display) -> RpcError {
        RpcError::Malformed { method: method.to_owned(), status: 200, reason: reason.to_string() }
    }

    /// A question about an address whose outputs aren't followed.
    pub(super) fn unfollowed(&self, address: &Address) -> RpcError {
        RpcError::Endpoint { url: self.rpc.url().to_owned(), reason: format!("{address} isn't followed") }
    }
}

/// bitcoind tells rates in bitcoin per 1,000 virtual bytes; rounded up to a satoshi per 1,000 weight units.
fn per_kvb(rate: Sats) -> FeeRate {
    FeeRate::from_sat_per_kwu(rate.to_sat().div_ceil(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_round_up() {
        assert_eq!(per_kvb(Sats::from_sat(1_000)), FeeRate::from_sat_per_vb_u32(1));
        assert_eq!(per_kvb(Sats::from_sat(1_001)).to_sat_per_kwu(), 251);
        assert_eq!(per_kvb(Sats::from_sat(100)).to_sat_per_kwu(), 25);
    }

    #[test]
    fn fees_are_read_from_json_numbers_exactly() {
        let read = |json: &str| serde_json::from_str::<FeeEstimate>(json).map(|e| e.feerate.map(Sats::to_sat)).ok();
        assert_eq!(read(r#"{"feerate": 0.00001234, "blocks": 6}"#), Some(Some(1_234)));
        assert_eq!(read(r#"{"feerate": 1e-8, "blocks": 2}"#), Some(Some(1)));
        assert_eq!(read(r#"{"errors": ["Insufficient data"], "blocks": 0}"#), Some(None));
        assert_eq!(read(r#"{"feerate": -1, "blocks": 2}"#), None);
        assert_eq!(read("{}"), None);
    }
}
