//! What is known of the wallets' outputs: the blocks followed, the transactions in them and in the mempool. No I/O.
//!
//! `bdk_chain` decides which of the transactions count where they conflict: one in a block of the best chain before any
//! other, then the one that the mempool had last, never one that the mempool dropped.

mod changes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bdk_chain::local_chain::LocalChain;
use bdk_chain::spk_txout::SpkTxOutIndex;
use bdk_chain::{
    BlockId, CanonicalizationParams, ChainPosition, ConfirmationBlockTime, IndexedTxGraph, Merge, tx_graph,
};
use bitcoin::constants::{COINBASE_MATURITY, genesis_block};
use bitcoin::{Amount as Sats, Block, OutPoint, ScriptBuf, Transaction, Txid};

pub use self::changes::RestoreError;
use self::changes::{Changes, Origin};
use crate::bitcoin::Utxo;
use crate::network::BitcoinNetwork;

type Graph = IndexedTxGraph<ConfirmationBlockTime, SpkTxOutIndex<ScriptBuf>>;

#[derive(Debug)]
pub(super) struct Follower {
    network: BitcoinNetwork,
    origin: Origin,
    chain: LocalChain,
    graph: Graph,
    /// The mempool's ids that have been looked at.
    seen: BTreeSet<Txid>,
    /// The mempool's ids at the last look.
    mempool: BTreeSet<Txid>,
    /// Whether that look told what is gone, and no block came or went since.
    settled: bool,
    /// Orders what was seen in the mempool and what was evicted from it. bdk_chain takes the system's time there, but
    /// only compares.
    clock: u64,
    staged: Changes,
    /// What follows from all that, computed when it is asked for.
    view: Option<Arc<View>>,
}

/// What counts, at the tip.
#[derive(Debug, Default)]
struct View {
    confirmed: HashMap<Txid, BlockId>,
    spendable: BTreeMap<ScriptBuf, Vec<Utxo>>,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    Unknown,
    InMempool,
    Confirmed {
        block: BlockId,
        confirmations: u32,
    },
    /// A confirmed transaction has spent one of its inputs.
    Excluded,
}

impl Follower {
    /// Nothing known yet but the network's first block.
    pub(super) fn new(network: BitcoinNetwork, scripts: BTreeSet<ScriptBuf>, birthday: u32) -> Self {
        let (chain, first) = LocalChain::from_genesis_hash(genesis_block(network).block_hash());
        let mut index = SpkTxOutIndex::default();
        for script in &scripts {
            index.insert_spk(script.clone(), script.clone());
        }
        let origin = Origin { scripts, birthday };
        let staged = Changes::first(origin.clone(), first);
        Self {
            network,
            origin,
            chain,
            graph: Graph::new(index),
            seen: BTreeSet::new(),
            mempool: BTreeSet::new(),
            settled: false,
            clock: 0,
            staged,
            view: None,
        }
    }

    pub(super) fn follows(&self, script: &ScriptBuf) -> bool {
        self.origin.scripts.contains(script)
    }

    pub(super) fn birthday(&self) -> u32 {
        self.origin.birthday
    }

    pub(super) fn tip(&self) -> BlockId {
        self.chain.tip().block_id()
    }

    /// Drops the last block; false where it is the network's first.
    pub(super) fn disconnect_tip(&mut self) -> bool {
        self.chain_moves();
        match self.chain.disconnect_from(self.tip()) {
            Ok(changes) => {
                self.staged.chain.merge(changes);
                true
            }
            Err(_genesis) => false,
        }
    }

    /// Goes on from `block`, which lies above the tip, without the blocks between.
    pub(super) fn skip_to(&mut self, block: BlockId) {
        self.chain_moves();
        if let Ok(changes) = self.chain.insert_block(block) {
            self.staged.chain.merge(changes);
        }
    }

    /// What the mempool means depends on the blocks, so it must be looked at again even where it is the same.
    fn chain_moves(&mut self) {
        self.view = None;
        self.settled = false;
    }

    /// Takes on the block after the tip.
    pub(super) fn connect(&mut self, block: &Block, height: u32) {
        let changes = self.graph.apply_block_relevant(block, height);
        self.stage(changes.tx_graph);
        self.skip_to(BlockId { height, hash: block.block_hash() });
    }

    /// Whether `ids` is the mempool as it was at the last look, with nothing left to fetch.
    pub(super) fn has_seen(&self, ids: &BTreeSet<Txid>) -> bool {
        self.settled && *ids == self.mempool && ids.is_subset(&self.seen)
    }

    /// The first `limit` of `ids` that aren't known and haven't been looked at.
    pub(super) fn unseen(&self, ids: &BTreeSet<Txid>, limit: usize) -> Vec<Txid> {
        ids.difference(&self.seen).filter(|txid| !self.knows(txid)).copied().take(limit).collect()
    }

    fn knows(&self, txid: &Txid) -> bool {
        self.graph.graph().get_tx(*txid).is_some()
    }

    /// Takes on the mempool: its `ids`, and the transactions that were `fetched` of them. Where the blocks were
    /// `settled` when it was looked at, an unconfirmed transaction that isn't in it is gone.
    pub(super) fn apply_mempool(&mut self, ids: BTreeSet<Txid>, fetched: Vec<Transaction>, settled: bool) {
        self.clock = self.clock.saturating_add(1);
        let now = self.clock;
        self.seen.retain(|txid| ids.contains(txid));
        self.seen.extend(fetched.iter().map(Transaction::compute_txid));
        let known: Vec<Txid> = ids.iter().filter(|txid| self.knows(txid)).copied().collect();
        self.seen.extend(known);
        let changes = self.graph.batch_insert_relevant_unconfirmed(fetched.into_iter().map(|tx| (tx, now)));
        self.stage(changes.tx_graph);

        let view = self.view();
        let (mut back, mut gone) = (Vec::new(), Vec::new());
        let graph = self.graph.graph();
        for node in graph.full_txs().filter(|node| !node.tx.is_coinbase() && !view.confirmed.contains_key(&node.txid)) {
            let evicted =
                graph.get_last_evicted(node.txid).is_some_and(|at| node.last_seen.is_none_or(|seen| at >= seen));
            match (ids.contains(&node.txid), evicted) {
                (true, true) => back.push(node.txid),
                (true, false) if node.last_seen.is_none() => back.push(node.txid),
                (false, false) if settled => gone.push(node.txid),
                _ => {}
            }
        }
        for txid in back {
            let changes = self.graph.insert_seen_at(txid, now);
            self.stage(changes.tx_graph);
        }
        for txid in gone {
            let changes = self.graph.insert_evicted_at(txid, now);
            self.stage(changes.tx_graph);
        }
        self.mempool = ids;
        self.settled = settled;
    }

    /// Takes on a transaction that the node has put into its mempool just now.
    pub(super) fn sent(&mut self, tx: &Transaction) {
        self.clock = self.clock.saturating_add(1);
        let changes = self.graph.batch_insert_relevant_unconfirmed([(tx.clone(), self.clock)]);
        self.stage(changes.tx_graph);
        self.mempool.insert(tx.compute_txid());
        self.seen.insert(tx.compute_txid());
    }

    fn stage(&mut self, changes: tx_graph::ChangeSet<ConfirmationBlockTime>) {
        if !changes.is_empty() {
            self.view = None;
            self.staged.graph.merge(changes);
        }
    }

    /// What `script`'s wallet may spend: its confirmed outputs and its own unconfirmed change.
    pub(super) fn spendable(&mut self, script: &ScriptBuf) -> Vec<Utxo> {
        self.view().spendable.get(script).cloned().unwrap_or_default()
    }

    /// Where `tx` stands. It is excluded where a conflicting one has at least `conflict_depth` confirmations.
    pub(super) fn position(&mut self, tx: &Transaction, conflict_depth: u32) -> Position {
        let txid = tx.compute_txid();
        let view = self.view();
        if let Some(block) = view.confirmed.get(&txid) {
            return Position::Confirmed { block: *block, confirmations: self.confirmations(block.height) };
        }
        if self.mempool.contains(&txid) {
            return Position::InMempool;
        }
        match self.excluded(tx, &view, conflict_depth) {
            true => Position::Excluded,
            false => Position::Unknown,
        }
    }

    /// Whether what `tx` spends is spent by another transaction with at least `conflict_depth` confirmations, or was made by
    /// one of which that is true: a payment falls with the attempt whose change it spends.
    fn excluded(&self, tx: &Transaction, view: &View, conflict_depth: u32) -> bool {
        let graph = self.graph.graph();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
        while let Some(outpoint) = waiting.pop() {
            let depths = graph.outspends(outpoint).iter().filter_map(|spender| view.confirmed.get(spender));
            if depths.map(|block| self.confirmations(block.height)).any(|depth| depth >= conflict_depth) {
                return true;
            }
            let made_by = outpoint.txid;
            if !view.confirmed.contains_key(&made_by) && seen.insert(made_by) {
                let parent = graph.get_tx(made_by);
                waiting.extend(parent.iter().flat_map(|tx| &tx.input).map(|input| input.previous_output));
            }
        }
        false
    }

    /// Whether a transaction of the mempool spends what `tx` pays to `script`.
    pub(super) fn spends_change(&self, tx: &Transaction, script: &ScriptBuf) -> bool {
        let txid = tx.compute_txid();
        let change = (0..).zip(&tx.output).filter(|(_, output)| output.script_pubkey == *script);
        change.into_iter().any(|(vout, _)| {
            let mut spenders = self.graph.graph().outspends(OutPoint::new(txid, vout)).iter();
            spenders.any(|spender| self.mempool.contains(spender))
        })
    }

    /// What `tx` pays to miners, where all that it spends is known.
    pub(super) fn fee(&self, tx: &Transaction) -> Option<Sats> {
        self.graph.graph().calculate_fee(tx).ok()
    }

    fn confirmations(&self, height: u32) -> u32 {
        self.tip().height.saturating_sub(height).saturating_add(1)
    }

    fn view(&mut self) -> Arc<View> {
        if let Some(view) = &self.view {
            return Arc::clone(view);
        }
        let view = Arc::new(self.compute_view());
        self.view = Some(Arc::clone(&view));
        view
    }

    fn compute_view(&self) -> View {
        let tip = self.tip();
        let graph = self.graph.graph();
        let mut view = View::default();
        for canonical in graph.list_canonical_txs(&self.chain, tip, CanonicalizationParams::default()) {
            if let ChainPosition::Confirmed { anchor, transitively: None } = canonical.chain_position {
                view.confirmed.insert(canonical.tx_node.txid, anchor.block_id);
            }
        }
        let outpoints = self.graph.index.outpoints().iter().cloned();
        let unspent = graph.filter_chain_unspents(&self.chain, tip, CanonicalizationParams::default(), outpoints);
        for (script, output) in unspent {
            let Some(tx) = graph.get_tx(output.outpoint.txid) else { continue };
            let height = output.chain_position.confirmation_height_upper_bound();
            let confirmations = height.map_or(0, |height| self.confirmations(height));
            let spendable = match confirmations {
                0 => self.pays_itself(&tx, &script),
                depth => !output.is_on_coinbase || depth >= COINBASE_MATURITY,
            };
            if let Some(utxo) = Utxo::new(tx, output.outpoint.vout, confirmations).filter(|_| spendable) {
                view.spendable.entry(script).or_default().push(utxo);
            }
        }
        view
    }

    /// Whether every input of `tx` spends an output of `script`, so that nobody else can replace it.
    fn pays_itself(&self, tx: &Transaction, script: &ScriptBuf) -> bool {
        let spent = |input: &bitcoin::TxIn| self.graph.index.txout(input.previous_output).map(|(owner, _)| owner);
        tx.input.iter().all(|input| spent(input) == Some(script))
    }
}
