//! The node's methods, with their answers as checked types.

use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::sol_types::SolCall as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::amount::Amount;
use crate::ethereum::build::Plan;
use crate::ethereum::{Gas, GasPrice, Nonce};
use crate::rpc::{RpcClient, RpcError};

alloy::sol! {
    // ERC-20 (EIP-20)
    function balanceOf(address owner) external view returns (uint256);
}

/// A node of the network with `chain_id`.
#[derive(Debug)]
pub(super) struct Node {
    rpc: RpcClient,
    chain_id: u64,
    checked: OnceCell<()>,
}

/// A block's header, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    number: U64,
    hash: B256,
    base_fee_per_gas: Option<U128>,
}

/// A block with whole transactions.
#[derive(Debug, Deserialize)]
struct Full {
    transactions: Vec<Value>,
}

/// What recent blocks cost.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FeeHistory {
    /// The base fees of the blocks asked for and, last, of the one that follows.
    #[serde(default)]
    base_fee_per_gas: Vec<U128>,
    /// For each block, the tip at each percentile asked for; zeros for an empty block.
    reward: Option<Vec<Vec<U128>>>,
}

/// A transaction's receipt, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    transaction_hash: B256,
    block_hash: Option<B256>,
    block_number: Option<U64>,
    status: U64,
    gas_used: U64,
    effective_gas_price: Option<U128>,
}

/// What `eth_getTransactionByHash` tells, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    hash: B256,
    block_hash: Option<B256>,
}

impl Node {
    pub(super) fn new(rpc: RpcClient, chain_id: u64) -> Self {
        Self { rpc, chain_id, checked: OnceCell::new() }
    }

    /// Makes sure, once, that the node is of the right network.
    pub(super) async fn check_chain(&self) -> Result<(), RpcError> {
        let check = async || {
            let found: U64 = self.rpc.call("eth_chainId", json!([])).await?;
            if found == U64::from(self.chain_id) {
                return Ok(());
            }
            Err(self.unfit(format!("its chain id is {found}, not {}", self.chain_id)))
        };
        self.checked.get_or_try_init(check).await.copied()
    }

    /// An endpoint that is of no use here.
    pub(super) fn unfit(&self, reason: String) -> RpcError {
        RpcError::Endpoint { url: self.rpc.url().to_owned(), reason }
    }

    /// How many transactions of `address` are in the chain up to block `at` (a tag or a `0x` height).
    pub(super) async fn nonce(&self, address: Address, at: &str) -> Result<Nonce, RpcError> {
        let count: U64 = self.rpc.call("eth_getTransactionCount", json!([address, at])).await?;
        Ok(Nonce::new(count.to()))
    }

    /// The same up to the block at `height`; `None` where the node can't tell, as one that has thrown away that state. Codes
    /// differ from node to node, so any error of its own says so.
    pub(super) async fn nonce_after(&self, address: Address, height: u64) -> Result<Option<Nonce>, RpcError> {
        let count = self.rpc.call("eth_getTransactionCount", json!([address, U64::from(height)])).await;
        Ok(told::<U64>(count)?.map(|count| Nonce::new(count.to())))
    }

    /// Wei of `address`, up to block `at`.
    pub(super) async fn balance(&self, address: Address, at: &str) -> Result<Amount, RpcError> {
        let wei: U256 = self.rpc.call("eth_getBalance", json!([address, at])).await?;
        Ok(Amount::from_base_units(wei))
    }

    /// What `owner` has of `token`, up to block `at`; `None` where `token` answers like no ERC-20 contract, as an address
    /// without code does.
    pub(super) async fn token_balance(
        &self,
        token: Address,
        owner: Address,
        at: &str,
    ) -> Result<Option<Amount>, RpcError> {
        let call = json!({ "to": token, "data": Bytes::from(balanceOfCall { owner }.abi_encode()) });
        let word: Bytes = self.rpc.call("eth_call", json!([call, at])).await?;
        Ok(<[u8; 32]>::try_from(word.as_ref()).ok().map(Amount::from_be_bytes))
    }

    /// The gas that `plan` needs on top of block `at`.
    pub(super) async fn estimate_gas(&self, plan: &Plan, at: &str) -> Result<Gas, RpcError> {
        let (value, data) = (plan.value.base_units(), &plan.input);
        let call = json!({ "from": plan.from, "to": plan.to, "value": value, "data": data });
        let gas: U64 = self.rpc.call("eth_estimateGas", json!([call, at])).await?;
        Ok(Gas::from_units(gas.to()))
    }

    /// The code of `contract` at block `at`; empty where it has none.
    pub(super) async fn code(&self, contract: Address, at: &str) -> Result<Bytes, RpcError> {
        self.rpc.call("eth_getCode", json!([contract, at])).await
    }

    /// Asks by a method that not every node has.
    pub(super) async fn ask<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        self.rpc.call(method, params).await
    }

    /// The one price of gas on networks without a base fee.
    pub(super) async fn gas_price(&self) -> Result<GasPrice, RpcError> {
        let wei: U128 = self.rpc.call("eth_gasPrice", json!([])).await?;
        Ok(GasPrice::from_wei(wei.to()))
    }

    /// What the last `blocks` blocks cost, with their tips at `percentile`.
    pub(super) async fn fee_history(&self, blocks: u64, percentile: u8) -> Result<FeeHistory, RpcError> {
        self.rpc.call("eth_feeHistory", json!([U64::from(blocks), "latest", [percentile]])).await
    }

    /// The block at `at` (a tag or a `0x` height).
    pub(super) async fn block(&self, at: &str) -> Result<Option<Block>, RpcError> {
        self.rpc.call("eth_getBlockByNumber", json!([at, false])).await
    }

    /// The best block.
    pub(super) async fn best_block(&self) -> Result<Block, RpcError> {
        let best = self.block("latest").await?;
        best.ok_or_else(|| malformed("eth_getBlockByNumber", "a chain without a latest block"))
    }

    /// The transactions of the block at `height`, each as the node writes it; `None` where the node can't tell.
    pub(super) async fn transactions(&self, height: u64) -> Result<Option<Vec<Value>>, RpcError> {
        let block = self.rpc.call("eth_getBlockByNumber", json!([U64::from(height), true])).await;
        Ok(told::<Full>(block)?.map(|block| block.transactions))
    }

    /// The receipt of the transaction `hash`.
    pub(super) async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.by_hash("eth_getTransactionReceipt", hash, |receipt: &Receipt| receipt.transaction_hash).await
    }

    /// The transaction `hash`, in the chain or in the mempool.
    pub(super) async fn transaction(&self, hash: B256) -> Result<Option<Known>, RpcError> {
        self.by_hash("eth_getTransactionByHash", hash, |known: &Known| known.hash).await
    }

    /// Sends a signed transaction; the node answers with its hash.
    pub(super) async fn send(&self, raw: &Bytes) -> Result<B256, RpcError> {
        self.rpc.call("eth_sendRawTransaction", json!([raw])).await
    }

    async fn by_hash<T: DeserializeOwned>(
        &self,
        method: &str,
        hash: B256,
        hash_of: impl Fn(&T) -> B256,
    ) -> Result<Option<T>, RpcError> {
        match self.rpc.call::<Option<T>>(method, json!([hash])).await? {
            Some(answer) if hash_of(&answer) != hash => {
                Err(malformed(method, format!("asked for {hash}, it answers about {}", hash_of(&answer))))
            }
            answer => Ok(answer),
        }
    }
}

impl Block {
    pub(super) fn height(&self) -> u64 {
        self.number.to()
    }

    pub(super) fn hash(&self) -> B256 {
        self.hash
    }

    /// Whether the network has a base fee (EIP-1559).
    pub(super) fn has_base_fee(&self) -> bool {
        self.base_fee_per_gas.is_some()
    }
}

impl FeeHistory {
    /// The base fee of the block that follows.
    pub(super) fn next_base_fee(&self) -> Option<GasPrice> {
        self.base_fee_per_gas.last().map(|wei| GasPrice::from_wei(wei.to()))
    }

    /// The tips of the blocks that were paid any, at the one percentile asked for.
    pub(super) fn tips(&self) -> impl Iterator<Item = GasPrice> + '_ {
        let rewards = self.reward.iter().flatten().filter_map(|block| block.first());
        rewards.filter(|wei| !wei.is_zero()).map(|wei| GasPrice::from_wei(wei.to()))
    }
}

impl Receipt {
    /// The block that it names. Some nodes give receipts of pending transactions, which name none.
    pub(super) fn block(&self) -> Option<(u64, B256)> {
        self.block_number.map(|height| height.to()).zip(self.block_hash)
    }

    pub(super) fn succeeded(&self) -> bool {
        self.status == U64::from(1)
    }

    /// What the transaction paid for gas.
    pub(super) fn fee(&self) -> Option<Amount> {
        self.effective_gas_price.map(|wei| Gas::from_units(self.gas_used.to()).cost(GasPrice::from_wei(wei.to())))
    }
}

impl Known {
    /// Whether it is in no block yet.
    pub(super) fn is_pending(&self) -> bool {
        self.block_hash.is_none()
    }
}

/// What a node has of the past; `None` where it says null or answers with an error of its own.
fn told<T>(answer: Result<Option<T>, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Err(RpcError::Node { .. }) => Ok(None),
        answer => answer,
    }
}

/// An answer that is well-formed JSON-RPC and can't be true.
pub(super) fn malformed(method: &str, reason: impl Into<String>) -> RpcError {
    RpcError::Malformed { method: method.to_owned(), status: 200, reason: reason.into() }
}
