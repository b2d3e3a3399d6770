//! The block tree, the active branch and its unspent coins.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bitcoin::blockdata::constants::genesis_block;
use bitcoin::{Block, BlockHash, Network, OutPoint, Transaction, Txid, Wtxid};

use super::reject::Reject;
use super::rules::{Coin, MAX_BLOCK_SIGOPS_COST, check_inputs, is_final, relative_locks_passed, subsidy};
use super::{block, script};

/// A block that the node has.
#[derive(Clone, Debug)]
pub struct Known {
    /// The block.
    pub block: Arc<Block>,
    /// Its hash.
    pub hash: BlockHash,
    /// Its distance from the genesis block.
    pub height: u32,
    /// Its transactions' ids, in order.
    pub txids: Vec<Txid>,
    /// The coins that each of its transactions but the coinbase spent. `None` until it was first connected.
    pub spent: Option<Vec<Vec<Coin>>>,
    /// Which block came first: breaks ties between branches of equal work.
    sequence: u64,
}

/// How the active branch has changed. Blocks are listed from the lower to the higher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Blocks that have left the active branch.
    pub disconnected: Vec<Arc<Block>>,
    /// Blocks that have joined it.
    pub connected: Vec<Arc<Block>>,
}

/// The end of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its last block.
    pub hash: BlockHash,
    /// That block's height.
    pub height: u32,
    /// Blocks since the active branch was left.
    pub branch_length: u32,
    /// bitcoind's word for it.
    pub status: &'static str,
}

/// A block that the node does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Block not found")]
pub struct UnknownBlock;

/// The block tree with its active branch, the one with the most work of the valid ones.
#[derive(Clone, Debug)]
pub struct Chain {
    blocks: HashMap<BlockHash, Known>,
    active: Vec<BlockHash>,
    coins: HashMap<OutPoint, Coin>,
    positions: HashMap<Txid, (BlockHash, usize)>,
    /// Blocks refused by command or found invalid; all that build on them are out with them.
    refused: BTreeSet<BlockHash>,
    genesis: BlockHash,
    /// The size of all blocks, in bytes.
    bytes: u64,
}

/// What connecting a block spends.
struct Spending {
    spent: Vec<Vec<Coin>>,
    created: HashMap<OutPoint, Coin>,
}

impl Default for Chain {
    /// Regtest's genesis block, whose coinbase can't be spent.
    fn default() -> Self {
        let block = genesis_block(Network::Regtest);
        let hash = block.block_hash();
        let txids = block.txdata.iter().map(Transaction::compute_txid).collect();
        let known = Known { block: Arc::new(block), hash, height: 0, txids, spent: Some(Vec::new()), sequence: 0 };
        Self {
            blocks: HashMap::from([(hash, known)]),
            active: vec![hash],
            coins: HashMap::new(),
            positions: HashMap::new(),
            refused: BTreeSet::new(),
            genesis: hash,
            bytes: 0,
        }
    }
}

impl Chain {
    /// The highest block of the active branch.
    pub fn tip(&self) -> &Known {
        let hash = self.active.last().unwrap_or(&self.genesis);
        self.blocks.get(hash).expect("blocks of the active branch are kept")
    }

    /// The height that the next block has.
    pub fn next_height(&self) -> u32 {
        self.tip().height.saturating_add(1)
    }

    /// Any block by its hash, on the active branch or not.
    pub fn get(&self, hash: &BlockHash) -> Option<&Known> {
        self.blocks.get(hash)
    }

    /// The block of the active branch at `height`.
    pub fn at(&self, height: u32) -> Option<&Known> {
        self.blocks.get(self.active.get(usize::try_from(height).ok()?)?)
    }

    /// Whether the block is on the active branch.
    pub fn is_active(&self, known: &Known) -> bool {
        self.at(known.height).is_some_and(|active| active.hash == known.hash)
    }

    /// The number of blocks known, on all branches.
    pub fn count(&self) -> u64 {
        u64::try_from(self.blocks.len()).unwrap_or(u64::MAX)
    }

    /// The size of all blocks but the genesis block, on all branches, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// An unspent coin.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    /// All unspent coins, in no particular order.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// The active block that holds a transaction, and its place there.
    pub fn position(&self, txid: &Txid) -> Option<(&Known, usize)> {
        let (hash, index) = self.positions.get(txid)?;
        Some((self.blocks.get(hash)?, *index))
    }

    /// The median time past of a block: of its own time and its ten ancestors' (BIP-113).
    pub fn median_time(&self, hash: &BlockHash) -> u32 {
        let mut times = Vec::with_capacity(11);
        let mut at = self.blocks.get(hash);
        while let Some(known) = at.filter(|_| times.len() < 11) {
            times.push(known.block.header.time);
            at = self.blocks.get(&known.block.header.prev_blockhash);
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }

    /// The median time past of the active block at `height`, 0 beyond the tip.
    pub fn median_time_at(&self, height: u32) -> u32 {
        self.at(height).map_or(0, |known| self.median_time(&known.hash))
    }

    /// Whether `tx`, which spends `coins`, may be in the next block as far as time is concerned.
    ///
    /// # Errors
    /// `non-final` or `non-BIP68-final`.
    pub fn check_locks(&self, tx: &Transaction, coins: &[Coin]) -> Result<(), Reject> {
        let (height, median) = (self.next_height(), self.median_time(&self.tip().hash));
        if !is_final(tx, height, median) {
            return Err(Reject::new("non-final"));
        }
        if !relative_locks_passed(tx, coins, height, median, |at| self.median_time_at(at)) {
            return Err(Reject::new("non-BIP68-final"));
        }
        Ok(())
    }

    /// Checks a block that builds on the tip, without adding it. Scripts of transactions that are `verified` are not run again.
    ///
    /// # Errors
    /// Core's reason.
    pub fn test(&self, block: &Block, verified: &dyn Fn(&Wtxid) -> bool) -> Result<(), Reject> {
        let tip = self.tip();
        if block.header.prev_blockhash != tip.hash {
            return Err(Reject::new("inconclusive-not-best-prevblk"));
        }
        block::check(block, self.next_height(), self.median_time(&tip.hash))?;
        let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.spend(block, &txids, self.next_height(), verified).map(|_| ())
    }

    /// Checks whether a block may be added, as far as its transactions' coins and scripts don't matter, and tells its height.
    ///
    /// # Errors
    /// `duplicate`, `duplicate-invalid`, `prev-blk-not-found`, `bad-prevblk`, or what is wrong with the block by itself.
    pub fn admit(&self, block: &Block) -> Result<u32, Reject> {
        let hash = block.block_hash();
        if self.blocks.contains_key(&hash) {
            return Err(Reject::new(if self.is_refused(&hash) { "duplicate-invalid" } else { "duplicate" }));
        }
        let parent = block.header.prev_blockhash;
        let height =
            self.blocks.get(&parent).ok_or_else(|| Reject::new("prev-blk-not-found"))?.height.saturating_add(1);
        if self.is_refused(&parent) {
            return Err(Reject::new("bad-prevblk"));
        }
        block::check(block, height, self.median_time(&parent))?;
        Ok(height)
    }

    /// Adds a block and makes its branch the active one where it has the most work.
    ///
    /// # Errors
    /// Core's reason. A block that [`Self::admit`] passes is kept even so, as one that is refused.
    pub fn accept(&mut self, block: Block, verified: &dyn Fn(&Wtxid) -> bool) -> Result<Change, Reject> {
        let height = self.admit(&block)?;
        let on_tip = block.header.prev_blockhash == self.tip().hash;
        let hash = self.keep(block, height);
        if on_tip {
            return self.connect_or_refuse(&hash, verified);
        }
        let (change, failure) = self.activate_best(verified);
        match failure {
            Some((failed, reject)) if failed == hash => Err(reject),
            _ => Ok(change),
        }
    }

    /// Adds a block that was mined on this very tip and passed [`Self::test`] then: neither it nor its scripts are checked again.
    ///
    /// # Errors
    /// `inconclusive-not-best-prevblk` on another tip, or what is wrong with the coins.
    pub fn extend(&mut self, block: Block) -> Result<Change, Reject> {
        if block.header.prev_blockhash != self.tip().hash {
            return Err(Reject::new("inconclusive-not-best-prevblk"));
        }
        let hash = self.keep(block, self.next_height());
        self.connect_or_refuse(&hash, &|_| true)
    }

    fn keep(&mut self, block: Block, height: u32) -> BlockHash {
        let hash = block.block_hash();
        let txids = block.txdata.iter().map(Transaction::compute_txid).collect();
        self.bytes = self.bytes.saturating_add(u64::try_from(block.total_size()).unwrap_or(u64::MAX));
        let known = Known { block: Arc::new(block), hash, height, txids, spent: None, sequence: self.count() };
        self.blocks.insert(hash, known);
        hash
    }

    fn connect_or_refuse(&mut self, hash: &BlockHash, verified: &dyn Fn(&Wtxid) -> bool) -> Result<Change, Reject> {
        match self.connect(hash, verified) {
            Ok(block) => Ok(Change { disconnected: Vec::new(), connected: vec![block] }),
            Err(reject) => {
                self.refused.insert(*hash);
                Err(reject)
            }
        }
    }

    /// Refuses a block and all that build on it, and makes the best other branch the active one.
    ///
    /// # Errors
    /// Where the node has no such block. The genesis block can't be refused.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Result<Change, UnknownBlock> {
        let known = self.blocks.get(hash).ok_or(UnknownBlock)?;
        if known.height == 0 {
            return Err(UnknownBlock);
        }
        let keep = known.height;
        let mut disconnected = Vec::new();
        if self.is_active(known) {
            while self.tip().height >= keep {
                disconnected.push(self.disconnect());
            }
        }
        self.refused.insert(*hash);
        disconnected.reverse();
        let (change, _) = self.activate_best(&|_| false);
        // What leaves for a branch that forks further down is lower than what has left already.
        disconnected.splice(0..0, change.disconnected);
        Ok(Change { disconnected, connected: change.connected })
    }

    /// Takes back the refusal of a block, its ancestors and its descendants.
    ///
    /// # Errors
    /// Where the node has no such block.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<Change, UnknownBlock> {
        if !self.blocks.contains_key(hash) {
            return Err(UnknownBlock);
        }
        let related = |chain: &Self, other: &BlockHash| chain.descends(other, hash) || chain.descends(hash, other);
        let pardoned: Vec<_> = self.refused.iter().filter(|other| related(self, other)).copied().collect();
        for other in pardoned {
            self.refused.remove(&other);
        }
        Ok(self.activate_best(&|_| false).0)
    }

    /// Forgets the newest `depth` blocks of the active branch, and all others above what is left. The genesis block stays.
    pub fn rewind(&mut self, depth: u32) -> Change {
        let mut disconnected = Vec::new();
        for _ in 0..depth.min(self.tip().height) {
            disconnected.push(self.disconnect());
        }
        disconnected.reverse();
        let height = self.tip().height;
        self.blocks.retain(|_, known| known.height <= height);
        let sizes = self.blocks.values().filter(|known| known.height > 0).map(|known| known.block.total_size());
        self.bytes = sizes.fold(0, |sum, size| sum.saturating_add(u64::try_from(size).unwrap_or(u64::MAX)));
        let blocks = &self.blocks;
        self.refused.retain(|hash| blocks.contains_key(hash));
        Change { disconnected, connected: Vec::new() }
    }

    /// The ends of all branches, highest first.
    pub fn tips(&self) -> Vec<Tip> {
        let parents: HashSet<_> = self.blocks.values().map(|known| known.block.header.prev_blockhash).collect();
        let active = self.tip().hash;
        let ends = self.blocks.values().filter(|known| !parents.contains(&known.hash) || known.hash == active);
        let mut tips: Vec<_> = ends
            .map(|known| Tip {
                hash: known.hash,
                height: known.height,
                branch_length: known.height.saturating_sub(self.fork_height(&known.hash)),
                status: match () {
                    () if known.hash == active => "active",
                    () if self.is_refused(&known.hash) => "invalid",
                    () if known.spent.is_some() => "valid-fork",
                    () => "valid-headers",
                },
            })
            .collect();
        tips.sort_unstable_by_key(|tip| (Reverse(tip.height), tip.hash));
        tips
    }

    /// A block and its ancestors down to the genesis block.
    fn branch(&self, hash: &BlockHash) -> impl Iterator<Item = &Known> {
        std::iter::successors(self.blocks.get(hash), |known| self.blocks.get(&known.block.header.prev_blockhash))
    }

    fn fork_height(&self, hash: &BlockHash) -> u32 {
        self.branch(hash).find(|known| self.is_active(known)).map_or(0, |known| known.height)
    }

    /// Whether `hash` is `ancestor` or builds on it.
    fn descends(&self, hash: &BlockHash, ancestor: &BlockHash) -> bool {
        let Some(floor) = self.blocks.get(ancestor).map(|known| known.height) else { return false };
        self.branch(hash).take_while(|known| known.height >= floor).any(|known| known.hash == *ancestor)
    }

    /// Whether the block or one below it, down to the active branch, is refused.
    fn is_refused(&self, hash: &BlockHash) -> bool {
        self.branch(hash).take_while(|known| !self.is_active(known)).any(|known| self.refused.contains(&known.hash))
    }

    /// The end of the branch with the most work. On regtest all blocks have the same work, so that is the highest one.
    fn best(&self) -> BlockHash {
        let rank = |known: &Known| (known.height, Reverse(known.sequence));
        let mut best = self.tip();
        for known in self.blocks.values() {
            if rank(known) > rank(best) && !self.is_refused(&known.hash) {
                best = known;
            }
        }
        best.hash
    }

    fn activate_best(&mut self, verified: &dyn Fn(&Wtxid) -> bool) -> (Change, Option<(BlockHash, Reject)>) {
        let mut change = Change::default();
        let mut failure = None;
        loop {
            let best = self.best();
            if best == self.tip().hash {
                break;
            }
            let fork = self.fork_height(&best);
            while self.tip().height > fork {
                let block = self.disconnect();
                // A block connected by an earlier round of this loop has not been seen by anyone yet.
                if change.connected.last().is_some_and(|last| Arc::ptr_eq(last, &block)) {
                    change.connected.pop();
                } else {
                    change.disconnected.push(block);
                }
            }
            let mut path: Vec<_> =
                self.branch(&best).take_while(|known| known.height > fork).map(|known| known.hash).collect();
            path.reverse();
            for hash in path {
                match self.connect(&hash, verified) {
                    Ok(block) => change.connected.push(block),
                    Err(reject) => {
                        self.refused.insert(hash);
                        failure = Some((hash, reject));
                        break;
                    }
                }
            }
        }
        change.disconnected.reverse();
        (change, failure)
    }

    /// Works out what a block that builds on the tip spends and creates (Core: `ConnectBlock`).
    fn spend(
        &self,
        block: &Block,
        txids: &[Txid],
        height: u32,
        verified: &dyn Fn(&Wtxid) -> bool,
    ) -> Result<Spending, Reject> {
        let parent = block.header.prev_blockhash;
        let median = self.median_time(&parent);
        let mut gone: HashSet<OutPoint> = HashSet::new();
        let mut created: HashMap<OutPoint, Coin> = HashMap::new();
        let mut spent = Vec::new();
        let mut fees: u64 = 0;
        let mut sigops: u64 = 0;

        for (tx, txid) in block.txdata.iter().zip(txids) {
            let mut coins = Vec::new();
            if !tx.is_coinbase() {
                for input in &tx.input {
                    let outpoint = &input.previous_output;
                    let coin = created.get(outpoint).or_else(|| self.coins.get(outpoint));
                    let coin = coin.filter(|_| !gone.contains(outpoint)).ok_or_else(Reject::missing_inputs)?;
                    coins.push(coin.clone());
                }
                fees = fees.saturating_add(check_inputs(tx, &coins, height)?);
                let locks_passed = relative_locks_passed(tx, &coins, height, median, |at| self.median_time_at(at));
                if !is_final(tx, height, median) || !locks_passed {
                    return Err(Reject::with("bad-txns-nonfinal", "contains a non-BIP68-final transaction"));
                }
                if !verified(&tx.compute_wtxid()) {
                    script::verify(tx, &coins)?;
                }
                gone.extend(tx.input.iter().map(|input| input.previous_output));
            }
            sigops = sigops.saturating_add(sigops_cost(tx, &coins));
            if sigops > MAX_BLOCK_SIGOPS_COST {
                return Err(Reject::with("bad-blk-sigops", "too many sigops"));
            }
            for (vout, output) in (0_u32..).zip(&tx.output) {
                if !is_unspendable(output) {
                    let coin = Coin { output: output.clone(), height, coinbase: tx.is_coinbase() };
                    created.insert(OutPoint::new(*txid, vout), coin);
                }
            }
            if !tx.is_coinbase() {
                spent.push(coins);
            }
        }

        let paid = block
            .coinbase()
            .map_or(0, |tx| tx.output.iter().fold(0, |sum: u64, o| sum.saturating_add(o.value.to_sat())));
        let allowed = fees.saturating_add(subsidy(height));
        if paid > allowed {
            return Err(Reject::with(
                "bad-cb-amount",
                format!("coinbase pays too much (actual={paid} vs limit={allowed})"),
            ));
        }
        created.retain(|outpoint, _| !gone.contains(outpoint));
        Ok(Spending { spent, created })
    }

    /// Makes a block that builds on the tip the tip.
    fn connect(&mut self, hash: &BlockHash, verified: &dyn Fn(&Wtxid) -> bool) -> Result<Arc<Block>, Reject> {
        let known = self.blocks.get(hash).ok_or_else(|| Reject::new("prev-blk-not-found"))?;
        let block = Arc::clone(&known.block);
        let once_valid = known.spent.is_some();
        // Whether a block's scripts are valid doesn't depend on when it is connected.
        let spending = self.spend(&block, &known.txids, known.height, &|id| once_valid || verified(id))?;

        for (index, txid) in known.txids.iter().enumerate() {
            self.positions.insert(*txid, (*hash, index));
        }
        for input in block.txdata.iter().flat_map(|tx| &tx.input) {
            self.coins.remove(&input.previous_output);
        }
        self.coins.extend(spending.created);
        self.active.push(*hash);
        if let Some(known) = self.blocks.get_mut(hash) {
            known.spent = Some(spending.spent);
        }
        Ok(block)
    }

    /// Takes the tip off the active branch. Never called for the genesis block.
    fn disconnect(&mut self) -> Arc<Block> {
        let known = self.blocks.get(&self.tip().hash).expect("blocks of the active branch are kept");
        let block = Arc::clone(&known.block);
        let spent = known.spent.as_deref().unwrap_or(&[]);
        for (tx, txid) in block.txdata.iter().zip(&known.txids) {
            self.positions.remove(txid);
            for (vout, _) in (0_u32..).zip(&tx.output) {
                self.coins.remove(&OutPoint::new(*txid, vout));
            }
        }
        let own: HashSet<&Txid> = known.txids.iter().collect();
        for (tx, coins) in block.txdata.iter().skip(1).zip(spent) {
            for (input, coin) in tx.input.iter().zip(coins) {
                // A coin made in the same block is gone with it.
                if !own.contains(&input.previous_output.txid) {
                    self.coins.insert(input.previous_output, coin.clone());
                }
            }
        }
        self.active.pop();
        block
    }
}

/// The cost of a transaction's signature operations (BIP-141), given the coins of its inputs.
pub fn sigops_cost(tx: &Transaction, coins: &[Coin]) -> u64 {
    let spent: HashMap<_, _> =
        tx.input.iter().zip(coins).map(|(input, coin)| (input.previous_output, &coin.output)).collect();
    let cost = tx.total_sigop_cost(|outpoint| spent.get(outpoint).map(|output| (*output).clone()));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

/// Whether an output never enters the set of coins (Core: `CScript::IsUnspendable`).
fn is_unspendable(output: &bitcoin::TxOut) -> bool {
    const MAX_SCRIPT: usize = 10_000;
    output.script_pubkey.is_op_return() || output.script_pubkey.len() > MAX_SCRIPT
}
