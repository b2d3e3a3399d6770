//! A Bitcoin node as this crate needs it: bitcoind's RPC without its wallet. The wallet's outputs are followed block by
//! block, so that a reorg is seen as such.

mod follow;
mod node;
mod sync;

use std::collections::BTreeSet;

use bitcoin::absolute::Height;
use bitcoin::{Amount as Sats, FeeRate, OutPoint, ScriptBuf, Transaction};
use tokio::sync::{Mutex, MutexGuard};

pub use self::follow::RestoreError;
use self::follow::{Follower, Position};
use self::node::{Node, Sent};
use super::build::rate_per_kvb;
use super::{Bitcoin, Parent, Replaced, Signed, State, Unsigned, Waiting, accelerate};
use crate::account::Account;
use crate::address::Address;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::{BuildError, Chain, Replacement, Slot, TxId};
use crate::client::{BroadcastError, Client, Inclusion, StateError, Status, Tip};
use crate::intent::{Action, Intent};
use crate::network::BitcoinNetwork;
use crate::rpc::{RpcClient, RpcError};

/// What a [`BitcoinClient`] can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Within how many blocks a transaction should confirm (`estimatesmartfee`), 1 to 1008.
    pub confirmation_target: u16,
    /// The fee rate where the node has no estimate.
    pub fallback_fee_rate: FeeRate,
    /// The highest fee rate that is taken from a node, as its estimate or as what it asks of a replacement.
    pub max_fee_rate: FeeRate,
    /// How many confirmations a conflicting transaction needs before the one that it excludes is called expired.
    pub conflict_depth: u32,
    /// How many transactions of the mempool are fetched at one sync. The rest follows at the next ones.
    pub mempool_fetch: usize,
}

impl Default for Options {
    /// 6 blocks, 5 sat/vB, at most 500 sat/vB, 6 confirmations, 5,000 transactions.
    fn default() -> Self {
        Self {
            confirmation_target: 6,
            fallback_fee_rate: FeeRate::from_sat_per_vb_u32(5),
            max_fee_rate: FeeRate::from_sat_per_vb_u32(500),
            conflict_depth: 6,
            mempool_fetch: 5_000,
        }
    }
}

/// One bitcoind and what is known of the wallets through it.
///
/// Whatever the node says of blocks and transactions is checked as far as it can be: that a block has the hash that was
/// asked for, commits to its transactions (the merkle root) and follows the block before. That it carries the most work
/// is the node's word; several nodes agree or don't.
///
/// ```no_run
/// # use chains::rpc::RpcClient;
/// # type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
/// # async fn example(rpc: RpcClient, script: bitcoin::ScriptBuf, stored: Vec<Vec<u8>>) -> Result<()> {
/// use chains::bitcoin::{BitcoinClient, Options};
/// use chains::client::Client;
/// let network = bitcoin::Network::Regtest;
/// let client = BitcoinClient::new(rpc, network, [script], 0, Options::default()).restored(&stored)?;
/// client.sync().await?;
/// if let Some(changes) = client.take_changes().await {
///     // Append `changes` to `stored`: the next start goes on from here.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BitcoinClient {
    node: Node,
    chain: Bitcoin,
    options: Options,
    follower: Mutex<Follower>,
}

impl BitcoinClient {
    /// A client that follows the outputs of `scripts`, which have none in blocks below height `birthday`.
    pub fn new(
        rpc: RpcClient,
        network: BitcoinNetwork,
        scripts: impl IntoIterator<Item = ScriptBuf>,
        birthday: u32,
        options: Options,
    ) -> Self {
        Self {
            node: Node::new(rpc, network),
            chain: Bitcoin::new(network),
            options,
            follower: Mutex::new(Follower::new(network, scripts.into_iter().collect(), birthday)),
        }
    }

    /// The same client, knowing what another one knew: `changes` are all that [`Client::take_changes`] returned,
    /// in order. Where they have a gap, or are of fewer scripts or a later birthday than this client's, they don't help
    /// and it starts from its birthday.
    ///
    /// # Errors
    /// Where they can't be read, or are of another network.
    pub fn restored(mut self, changes: &[Vec<u8>]) -> Result<Self, RestoreError> {
        self.follower.get_mut().restore(changes)?;
        Ok(self)
    }

    /// Catches up with the node: blocks, reorgs, mempool. Cheap where nothing has changed. A call that is dropped
    /// half-way loses nothing.
    ///
    /// # Errors
    /// Where the node fails, is of another network, or contradicts itself.
    pub async fn sync(&self) -> Result<(), RpcError> {
        self.synced().await.map(drop)
    }

    async fn synced(&self) -> Result<MutexGuard<'_, Follower>, RpcError> {
        let mut follower = self.follower.lock().await;
        sync::sync(&self.node, &mut follower, self.options.mempool_fetch).await?;
        Ok(follower)
    }

    /// The script of an account that is followed.
    async fn script(&self, account: &Account) -> Option<ScriptBuf> {
        let Address::Bitcoin(address) = account.address() else {
            return None;
        };
        let script = address.script_pubkey();
        let followed = account.network() == self.chain.network() && self.follower.lock().await.follows(&script);
        followed.then_some(script)
    }

    /// The node's estimate, within what it relays and what is believed.
    async fn fee_rate(&self) -> Result<FeeRate, RpcError> {
        let estimate = self.node.fee_estimate(self.options.confirmation_target).await?;
        let floor = self.node.relay_floor().await?;
        Ok(estimate.unwrap_or(self.options.fallback_fee_rate).max(floor).min(self.options.max_fee_rate))
    }

    /// What `script`'s wallet may spend, without what is `busy`, and what a transaction costs.
    async fn gather(&self, script: &ScriptBuf, busy: &BTreeSet<Slot>, waiting: Waiting) -> Result<State, StateError> {
        let network = self.chain.network();
        let mut follower = self.synced().await?;
        let mut utxos = follower.spendable(script);
        let height = follower.tip().height;
        drop(follower);

        utxos.retain(|utxo| !busy.contains(&Slot::new(network, utxo.outpoint())));
        let tip = Height::from_consensus(height).map_err(|e| self.node.contradiction("getblockchaininfo", e))?;
        let (fee_rate, max_fee_rate) = (self.fee_rate().await?, self.options.max_fee_rate);
        Ok(State { utxos, fee_rate, max_fee_rate, tip, waiting })
    }

    /// The transaction `id` in the node's mempool, with its ancestors.
    async fn parent(&self, id: &TxId) -> Result<Parent, StateError> {
        let txid =
            accelerate::txid(id).ok_or(BuildError::NotAcceleratable("that is no txid: 64 lower-case hex digits"))?;
        let entry = self.node.mempool_entry(txid).await?;
        let entry = entry.ok_or(BuildError::NotAcceleratable("it isn't in the node's mempool"))?;
        Ok(Parent { fees: entry.fees.ancestor, vsize: entry.ancestorsize })
    }

    /// Whether an output of `tx` is reserved for another payment, which may be on its way already.
    fn is_spent_by(&self, tx: &Transaction, busy: &BTreeSet<Slot>) -> bool {
        let txid = tx.compute_txid();
        let outpoints = (0..).zip(&tx.output).map(|(vout, _)| OutPoint::new(txid, vout));
        outpoints.into_iter().any(|outpoint| busy.contains(&Slot::new(self.chain.network(), outpoint)))
    }

    /// What leaves the mempool with `attempts`. They exclude each other, so it holds one of them at most.
    async fn replaced(&self, attempts: &[&Transaction], own_descendants: bool) -> Result<Replaced, RpcError> {
        let incremental = self.node.incremental_rate().await?;
        let mut replaced = Replaced { incremental, fees: Sats::ZERO, rate: 0, count: 0, own_descendants };
        for tx in attempts {
            let Some(entry) = self.node.mempool_entry(tx.compute_txid()).await? else { continue };
            replaced.fees = replaced.fees.max(entry.fees.descendant);
            replaced.rate = replaced.rate.max(rate_per_kvb(entry.fees.base.to_sat(), entry.vsize));
            replaced.count = replaced.count.max(entry.descendantcount);
        }
        Ok(replaced)
    }
}

impl Client for BitcoinClient {
    type Chain = Bitcoin;

    async fn state(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<State, StateError> {
        let script = self.script(account).await.ok_or(BuildError::WrongAccount(self.chain.network()))?;
        let waiting = match &intent.action {
            Action::Accelerate { parent } => Waiting::Accelerated(self.parent(parent).await?),
            _ => Waiting::Untouched,
        };
        self.gather(&script, busy, waiting).await
    }

    async fn replacement_state(
        &self,
        _intent: &Intent,
        account: &Account,
        previous: &[Unsigned],
        _purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> Result<State, StateError> {
        let script = self.script(account).await.ok_or(BuildError::WrongAccount(self.chain.network()))?;
        let attempts: Vec<&Transaction> = previous.iter().map(Unsigned::transaction).collect();
        let mut follower = self.synced().await?;
        for tx in &attempts {
            match follower.position(tx, 1) {
                Position::Unknown | Position::InMempool => {}
                Position::Confirmed { .. } => {
                    return Err(BuildError::NotReplaceable("an attempt is in a block already").into());
                }
                Position::Excluded => {
                    return Err(BuildError::NotReplaceable("what it spends is spent in a block already").into());
                }
            }
        }
        let spent_on = attempts.iter().any(|tx| follower.spends_change(tx, &script) || self.is_spent_by(tx, busy));
        drop(follower);
        let waiting = Waiting::Replaced(self.replaced(&attempts, spent_on).await?);
        self.gather(&script, busy, waiting).await
    }

    /// Confirmed outputs and the wallet's own unconfirmed change. Others' unconfirmed payments don't count.
    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, RpcError> {
        if asset != Asset::Native {
            return Ok(Amount::ZERO);
        }
        let script = self.script(account).await.ok_or_else(|| self.node.unfollowed(account.address()))?;
        let utxos = self.synced().await?.spendable(&script);
        let mut values = utxos.iter().map(|utxo| Amount::from_sat(utxo.txout().value.to_sat()));
        let sum = values.try_fold(Amount::ZERO, Amount::checked_add);
        sum.ok_or_else(|| self.node.contradiction("getblock", "more coins than amounts can tell"))
    }

    async fn broadcast(&self, signed: &Signed) -> Result<(), BroadcastError> {
        let sent = self.node.send(signed.transaction()).await?;
        if sent == Sent::InMempool {
            self.follower.lock().await.sent(signed.transaction());
        }
        Ok(())
    }

    async fn status(&self, signed: &Signed) -> Result<Status, RpcError> {
        let tx = signed.transaction();
        let mut follower = self.synced().await?;
        Ok(match follower.position(tx, self.options.conflict_depth) {
            Position::Unknown => Status::Unknown,
            Position::InMempool => Status::InMempool,
            Position::Excluded => Status::Expired,
            Position::Confirmed { block, confirmations } => Status::Included(Inclusion {
                height: u64::from(block.height),
                block: Some(block.hash.to_string()),
                confirmations: u64::from(confirmations),
                finalized: false,
                succeeded: true,
                failure: None,
                fee: follower.fee(tx).map(|fee| Amount::from_sat(fee.to_sat())),
            }),
        })
    }

    async fn tip(&self) -> Result<Tip, RpcError> {
        let best = self.node.best_block().await?;
        Ok(Tip { height: u64::from(best.height), finalized: None })
    }

    async fn take_changes(&self) -> Option<Vec<u8>> {
        self.follower.lock().await.take_changes()
    }
}
