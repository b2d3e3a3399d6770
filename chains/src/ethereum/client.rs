//! What one Ethereum node knows, over JSON-RPC.

mod answer;
mod fees;
mod node;
mod simulate;
mod taker;

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, keccak256};
use futures::try_join;

use self::node::{Block, Node, Receipt};
use self::taker::Taker;
use super::build::Plan;
use super::{BasisPoints, Ethereum, Gas, GasPrice, Nonce, Replacing, Signed, State, Unsigned, replace};
use crate::account::Account;
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Chain, Replacement, Slot};
use crate::client::{BroadcastError, Client, Inclusion, Nonces, StateError, Status, Tip};
use crate::intent::Intent;
use crate::rpc::{RpcClient, RpcError};
use crate::send;
use crate::simulation::Simulation;

/// What an [`EthereumClient`] can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When a block is final.
    pub finality: Finality,
    /// Which tip to take of those that recent blocks were paid (`eth_feeHistory`), 0 to 100: 50 is the middle one.
    pub priority_fee_percentile: u8,
    /// The least tip that is offered, where recent blocks were empty or paid nothing.
    pub min_priority_fee: GasPrice,
    /// How much of the next block's base fee is offered, in percent. A full block raises the base fee by an eighth
    /// (EIP-1559), so 200 outlasts five full blocks.
    pub base_fee_percent: u32,
    /// How much gas is allowed beyond the node's estimate, in percent of it.
    pub gas_margin_percent: u32,
    /// The most gas that a transaction is given; a call that needs more is refused.
    pub max_gas: Gas,
    /// By how much a replacement raises both prices of gas. geth and reth ask for 10 %, some nodes for 12.5 %.
    pub replacement_bump: BasisPoints,
}

/// When a block is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finality {
    /// When the node's `finalized` block is at or above it: proof of stake.
    Tag {
        /// Where the node answers the tag with an error, because it doesn't know it: a block is final with so many blocks on
        /// top. `None`: then nothing is final.
        else_depth: Option<u64>,
    },
    /// When so many blocks are on top.
    Depth(u64),
}

impl Default for Options {
    /// The `finalized` tag or else 64 blocks, the median tip but at least 0.001 gwei (geth's own least), twice the base
    /// fee, 20 % more gas than estimated, at most 10 million, 12.5 % more for a replacement.
    fn default() -> Self {
        Self {
            finality: Finality::Tag { else_depth: Some(64) },
            priority_fee_percentile: 50,
            min_priority_fee: GasPrice::from_wei(1_000_000),
            base_fee_percent: 200,
            gas_margin_percent: 20,
            max_gas: Gas::from_units(10_000_000),
            replacement_bump: BasisPoints::new(1_250),
        }
    }
}

/// The tag of the best block.
const LATEST: &str = "latest";
/// The tag of the best block with what the mempool adds to it.
const PENDING: &str = "pending";

/// One node of one EVM network.
///
/// What it says is one node's word. That a transaction has [`Status::Expired`] above all should be heard from several.
#[derive(Debug)]
pub struct EthereumClient {
    chain: Ethereum,
    node: Node,
    options: Options,
}

impl EthereumClient {
    /// A client of the node behind `rpc`. The node's chain id is asked for before its first answer is used: every call fails
    /// while it isn't `chain_id`.
    pub fn new(rpc: RpcClient, chain_id: u64, options: Options) -> Self {
        Self { chain: Ethereum::new(chain_id), node: Node::new(rpc, chain_id), options }
    }

    async fn node(&self) -> Result<&Node, RpcError> {
        self.node.check_chain().await?;
        Ok(&self.node)
    }

    /// The lowest nonce that no mined transaction and no reservation has.
    async fn free_nonce(&self, node: &Node, from: Address, busy: &BTreeSet<Slot>) -> Result<Nonce, StateError> {
        let mut nonce = node.nonce(from, LATEST).await?;
        while busy.contains(&self.chain.slot(from, nonce)) {
            nonce = nonce.next().ok_or(BuildError::Unsupported("an account that has used up its nonces (EIP-2681)"))?;
        }
        Ok(nonce)
    }

    /// The token balance that `plan` needs, up to block `at`.
    async fn token_balance(&self, node: &Node, plan: &Plan, at: &str) -> Result<Option<Amount>, StateError> {
        let Some((token, _)) = plan.token else { return Ok(None) };
        match node.token_balance(token, plan.from, at).await.map_err(answer::reverted)? {
            Some(balance) => Ok(Some(balance)),
            None => Err(BuildError::WrongAsset { asset: Asset::Erc20(token), network: self.chain.network() }.into()),
        }
    }

    async fn gas_limit(&self, node: &Node, plan: &Plan, at: &str) -> Result<Gas, StateError> {
        let estimate = node.estimate_gas(plan, at).await.map_err(answer::reverted)?;
        if estimate > self.options.max_gas {
            return Err(BuildError::Unsupported("a call that needs more gas than the configured most").into());
        }
        Ok(estimate.with_margin(self.options.gas_margin_percent).min(self.options.max_gas))
    }

    /// The height of the last final block, given the best one.
    async fn finalized(&self, node: &Node, best: &Block) -> Result<Option<u64>, RpcError> {
        let at_depth = |depth: u64| best.height().checked_sub(depth);
        match self.options.finality {
            Finality::Depth(depth) => Ok(at_depth(depth)),
            Finality::Tag { else_depth } => match node.block("finalized").await {
                Ok(block) => Ok(block.map(|block| block.height())),
                // Codes differ from node to node for a tag that isn't known; any error of the node's own will do, since
                // the depth was configured for this.
                Err(RpcError::Node { .. }) => Ok(else_depth.and_then(at_depth)),
                Err(error) => Err(error),
            },
        }
    }

    async fn heights(&self, node: &Node) -> Result<Tip, RpcError> {
        let best = node.best_block().await?;
        let finalized = self.finalized(node, &best).await?;
        Ok(Tip { height: best.height(), finalized })
    }

    /// Where the block of `receipt` stands; `None` where it is not in the best chain.
    async fn inclusion(&self, node: &Node, receipt: &Receipt) -> Result<Option<Inclusion>, RpcError> {
        let Some((height, hash)) = receipt.block() else { return Ok(None) };
        let tip = self.heights(node).await?;
        // Asked for after the tip: were the block replaced before, its place in the chain would tell.
        let canonical = node.block(&format!("{height:#x}")).await?;
        if canonical.is_none_or(|block| block.hash() != hash) {
            return Ok(None);
        }
        let succeeded = receipt.succeeded();
        Ok(Some(Inclusion {
            height,
            block: Some(hash.to_string()),
            confirmations: tip.height.saturating_sub(height).saturating_add(1),
            finalized: tip.finalized.is_some_and(|finalized| height <= finalized),
            succeeded,
            failure: (!succeeded).then(|| "the EVM execution failed (receipt status 0)".to_owned()),
            fee: receipt.fee(),
        }))
    }

    /// Where the transaction `hash` stands, by its receipt; `None` where there is none.
    async fn by_receipt(&self, node: &Node, hash: B256) -> Result<Option<Status>, RpcError> {
        let Some(receipt) = node.receipt(hash).await? else { return Ok(None) };
        Ok(Some(self.inclusion(node, &receipt).await?.map_or(Status::Unknown, Status::Included)))
    }

    /// The height of the last final block, where the sender's nonce is used up by then, so that no other can use it.
    async fn used_up_by(&self, node: &Node, from: Address, nonce: Nonce) -> Result<Option<u64>, RpcError> {
        let Some(height) = self.heights(node).await?.finalized else { return Ok(None) };
        Ok((node.nonce(from, &format!("{height:#x}")).await? > nonce).then_some(height))
    }

    async fn knows(&self, node: &Node, hash: B256) -> Result<bool, RpcError> {
        Ok(node.receipt(hash).await?.is_some() || node.transaction(hash).await?.is_some())
    }

    fn ethereum_address(&self, account: &Account) -> Result<Address, RpcError> {
        self.chain.address_of(account).ok_or_else(|| {
            self.node.unfit(format!("it serves {}, the account is of {}", self.chain.network(), account.network()))
        })
    }
}

impl Client for EthereumClient {
    type Chain = Ethereum;

    async fn state(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<State, StateError> {
        let plan = Plan::new(&self.chain, intent, account)?;
        let node = self.node().await?;
        let (nonce, balance, token_balance, fees) = try_join!(
            self.free_nonce(node, plan.from, busy),
            async { Ok(node.balance(plan.from, PENDING).await?) },
            self.token_balance(node, &plan, PENDING),
            async { Ok(fees::fees(node, &self.options).await?) },
        )?;
        // Before the estimate: what a node says of a call that can't be paid is only words.
        plan.check_funds(balance, token_balance, Amount::ZERO)?;
        let gas_limit = self.gas_limit(node, &plan, PENDING).await?;
        Ok(State { nonce, balance, token_balance, fees, gas_limit, replacing: None })
    }

    async fn replacement_state(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        purpose: Replacement,
        _busy: &BTreeSet<Slot>,
    ) -> Result<State, StateError> {
        let plan = replace::plan(&self.chain, intent, account, purpose)?;
        let nonce = replace::nonce_of(&self.chain, &plan, previous)?;
        let node = self.node().await?;
        let (mined, balance, token_balance, fees) = try_join!(
            async { Ok(node.nonce(plan.from, LATEST).await?) },
            async { Ok(node.balance(plan.from, LATEST).await?) },
            self.token_balance(node, &plan, LATEST),
            async { Ok(fees::fees(node, &self.options).await?) },
        )?;
        if mined > nonce {
            return Err(BuildError::NotReplaceable("a transaction with its nonce is mined already").into());
        }
        plan.check_funds(balance, token_balance, Amount::ZERO)?;
        let gas_limit = match replace::highest_gas_limit(previous).filter(|_| purpose == Replacement::SpeedUp) {
            // What waits before it may be what it needs, so a try on the best chain alone says too little.
            Some(earlier) if mined < nonce => earlier,
            _ => self.gas_limit(node, &plan, LATEST).await?,
        };
        let replacing = Some(Replacing { bump: self.options.replacement_bump });
        Ok(State { nonce, balance, token_balance, fees, gas_limit, replacing })
    }

    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, RpcError> {
        let owner = self.ethereum_address(account)?;
        let node = self.node().await?;
        match asset {
            Asset::Native => node.balance(owner, PENDING).await,
            Asset::Erc20(token) => {
                let balance = node.token_balance(token, owner, PENDING).await?;
                balance.ok_or_else(|| node::malformed("eth_call", format!("{token} answers like no ERC-20 token")))
            }
            // No account of an EVM network can hold one.
            Asset::Spl(_) => Ok(Amount::ZERO),
        }
    }

    async fn broadcast(&self, signed: &Signed) -> Result<(), BroadcastError> {
        let node = self.node().await?;
        match node.send(signed.raw()).await {
            Ok(hash) if hash == signed.hash() => Ok(()),
            Ok(hash) => {
                let reason = format!("it names the transaction {hash} instead of {}", signed.hash());
                Err(node::malformed("eth_sendRawTransaction", reason).into())
            }
            Err(RpcError::Node { code, message, .. }) => {
                let class = send::ethereum::class(code, &message);
                // Whatever the reason, "nonce too low" above all: a node that has the transaction has taken it.
                if class.is_taken() || self.knows(node, signed.hash()).await? {
                    Ok(())
                } else {
                    Err(BroadcastError::Rejected { class, code, message })
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn status(&self, signed: &Signed) -> Result<Status, RpcError> {
        let node = self.node().await?;
        let (hash, unsigned) = (signed.hash(), signed.unsigned());
        if let Some(status) = self.by_receipt(node, hash).await? {
            return Ok(status);
        }
        match node.transaction(hash).await? {
            Some(known) if known.is_pending() => return Ok(Status::InMempool),
            Some(_) => return Ok(Status::Unknown),
            None => {}
        }
        let Some(last) = self.used_up_by(node, unsigned.from(), unsigned.nonce()).await? else {
            return Ok(Status::Unknown);
        };
        // Asked once more: the nonce may be used up by this very transaction, included and final since the first question.
        if let Some(status) = self.by_receipt(node, hash).await? {
            return Ok(status);
        }
        match taker::taker(node, unsigned, last).await? {
            // A node that knows the transaction from its block alone doesn't know what came of it.
            Taker::Same(hash) => Ok(self.by_receipt(node, hash).await?.unwrap_or(Status::Unknown)),
            Taker::Other => Ok(Status::Expired),
            Taker::Untold => Ok(Status::SlotUsed),
        }
    }

    async fn nonces(&self, account: &Account) -> Result<Option<Nonces>, RpcError> {
        let owner = self.ethereum_address(account)?;
        let node = self.node().await?;
        let (latest, pending, tip) =
            try_join!(node.nonce(owner, LATEST), node.nonce(owner, PENDING), self.heights(node))?;
        let finalized = match tip.finalized {
            // A node that has thrown away old states answers with an error; then it can't be told.
            Some(height) => match node.nonce(owner, &format!("{height:#x}")).await {
                Ok(nonce) => Some(nonce.get()),
                Err(RpcError::Node { .. }) => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        Ok(Some(Nonces { latest: latest.get(), pending: pending.max(latest).get(), finalized }))
    }

    async fn code_hash(&self, contract: &ChainAddress) -> Result<Option<[u8; 32]>, RpcError> {
        let ChainAddress::Ethereum(contract) = contract else { return Ok(None) };
        let code = self.node().await?.code(*contract, LATEST).await?;
        Ok((!code.is_empty()).then(|| keccak256(&code).0))
    }

    async fn simulate(&self, unsigned: &Unsigned) -> Result<Simulation, RpcError> {
        simulate::simulate(self.node().await?, unsigned, PENDING).await
    }

    async fn tip(&self) -> Result<Tip, RpcError> {
        self.heights(self.node().await?).await
    }
}
