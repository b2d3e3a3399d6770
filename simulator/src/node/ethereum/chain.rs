//! The block tree with the state after each block, and the branch that the node is on: of those that keep to what is justified the one
//! with the most blocks, of equally long ones that with the lowest hash.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use alloy::primitives::B256;

use super::block::Block;
use super::finality::Checkpoint;
use super::state::{Ancestry, Codes, State, View};

/// How many blocks back the state can be read at least, as in a geth that isn't an archive.
pub const KEPT_STATES: usize = 128;
/// How many steps of the chain are remembered for filters and subscriptions.
const REMEMBERED_STEPS: usize = 16_384;

/// A block that the node has.
#[derive(Debug)]
struct Known {
    block: Arc<Block>,
    /// The state after it, while it is kept.
    state: Option<State>,
}

/// How the node's branch has changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// Blocks that have left it, the newest first.
    pub(crate) disconnected: Vec<Arc<Block>>,
    /// Blocks that have joined it, the oldest first.
    pub(crate) connected: Vec<Arc<Block>>,
}

impl Change {
    /// Whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.disconnected.is_empty() && self.connected.is_empty()
    }
}

/// A block that joined the node's branch or left it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) block: Arc<Block>,
    /// Whether it left.
    pub(crate) removed: bool,
}

/// The block tree.
#[derive(Debug)]
pub(crate) struct Chain {
    known: HashMap<B256, Known>,
    /// The known blocks by number, from the lowest on whose side branches are kept.
    by_number: BTreeMap<u64, Vec<B256>>,
    /// Blocks that nothing builds on.
    tips: HashSet<B256>,
    /// The node's branch, by number.
    active: Vec<Arc<Block>>,
    /// Where each transaction of the node's branch is: the block's number and the place in it.
    mined: HashMap<B256, (u64, usize)>,
    codes: Codes,
    /// The node's branch always contains this block.
    root: Checkpoint,
    /// The newest steps, and how many there have been.
    steps: VecDeque<Step>,
    stepped: u64,
}

impl Chain {
    /// A tree of one block.
    pub(crate) fn new(genesis: Block, state: State, codes: Codes) -> Self {
        let genesis = Arc::new(genesis);
        let hash = genesis.hash();
        Self {
            known: HashMap::from([(hash, Known { block: Arc::clone(&genesis), state: Some(state) })]),
            by_number: BTreeMap::from([(0, vec![hash])]),
            tips: HashSet::from([hash]),
            active: vec![genesis],
            mined: HashMap::new(),
            codes,
            root: Checkpoint { number: 0, hash },
            steps: VecDeque::new(),
            stepped: 0,
        }
    }

    /// The newest block of the node's branch.
    pub(crate) fn head(&self) -> &Arc<Block> {
        self.active.last().expect("the genesis block is there from the start and never leaves")
    }

    /// The node's branch, by number.
    pub(crate) fn active(&self) -> &[Arc<Block>] {
        &self.active
    }

    /// A block of the node's branch.
    pub(crate) fn at(&self, number: u64) -> Option<&Arc<Block>> {
        self.active.get(usize::try_from(number).ok()?)
    }

    /// A block of any branch.
    pub(crate) fn get(&self, hash: &B256) -> Option<&Arc<Block>> {
        self.known.get(hash).map(|known| &known.block)
    }

    /// Whether a block is on the node's branch.
    pub(crate) fn is_active(&self, block: Checkpoint) -> bool {
        self.at(block.number).is_some_and(|known| known.hash() == block.hash)
    }

    /// A transaction of the node's branch: its block's number and its place there.
    pub(crate) fn position(&self, hash: &B256) -> Option<(u64, usize)> {
        self.mined.get(hash).copied()
    }

    /// The state after a block, where it is kept.
    pub(crate) fn state(&self, hash: &B256) -> Option<&State> {
        self.known.get(hash)?.state.as_ref()
    }

    /// The state after a block for reading, where it is kept.
    pub(crate) fn view(&self, hash: &B256) -> Option<View<'_>> {
        self.state(hash).map(|state| View::new(state, &self.codes, *hash, self))
    }

    /// The block that the node's branch is held to.
    pub(crate) fn root(&self) -> Checkpoint {
        self.root
    }

    /// How many steps there have been.
    pub(crate) fn stepped(&self) -> u64 {
        self.stepped
    }

    /// The steps after the first `seen`, as far as they are remembered.
    pub(crate) fn steps_after(&self, seen: u64) -> impl Iterator<Item = &Step> {
        let missed = usize::try_from(self.stepped.saturating_sub(seen)).unwrap_or(usize::MAX);
        self.steps.iter().skip(self.steps.len().saturating_sub(missed))
    }

    /// Adds an executed block whose parent is known, and the code that it deployed.
    pub(crate) fn add(&mut self, block: Arc<Block>, state: State, codes: Codes) -> Change {
        let (hash, number) = (block.hash(), block.header.number);
        self.codes.extend(codes);
        self.tips.remove(&block.header.parent_hash);
        self.tips.insert(hash);
        self.by_number.entry(number).or_default().push(hash);
        self.known.insert(hash, Known { block, state: Some(state) });
        if self.beats_head(&hash) { self.change_to(hash) } else { Change::default() }
    }

    /// Holds the node's branch to `root`, where that block is known and higher than what it was held to before.
    pub(crate) fn hold_to(&mut self, root: Checkpoint) -> Change {
        if root.number <= self.root.number || !self.known.contains_key(&root.hash) {
            return Change::default();
        }
        self.root = root;
        let best = self.tips.iter().copied().filter(|tip| self.keeps_to_root(tip));
        let best = best.max_by_key(|tip| self.rank(tip));
        match best {
            Some(best) if best != self.head().hash() => self.change_to(best),
            _ => Change::default(),
        }
    }

    fn beats_head(&self, hash: &B256) -> bool {
        self.rank(hash) > self.rank(&self.head().hash()) && self.keeps_to_root(hash)
    }

    /// What decides between branches: the greatest is chosen.
    fn rank(&self, hash: &B256) -> (u64, Reverse<B256>) {
        (self.known.get(hash).map_or(0, |known| known.block.header.number), Reverse(*hash))
    }

    fn keeps_to_root(&self, hash: &B256) -> bool {
        self.ancestor(*hash, self.root.number) == Some(self.root.hash)
    }

    /// Goes over to the branch that ends with `tip`.
    fn change_to(&mut self, tip: B256) -> Change {
        let mut connected = Vec::new();
        let mut at = self.get(&tip).cloned();
        while let Some(block) = at.filter(|block| !self.is_active(checkpoint(block))) {
            at = self.get(&block.header.parent_hash).cloned();
            connected.push(block);
        }
        connected.reverse();
        let mut disconnected = Vec::new();
        let first = connected.first().map_or(0, |block| block.header.number);
        while first > 0 && self.head().header.number >= first {
            let Some(block) = self.active.pop() else { break };
            for tx in &block.transactions {
                self.mined.remove(tx.tx_hash());
            }
            self.step(&block, true);
            disconnected.push(block);
        }
        for block in &connected {
            for (index, tx) in block.transactions.iter().enumerate() {
                self.mined.insert(*tx.tx_hash(), (block.header.number, index));
            }
            self.active.push(Arc::clone(block));
            self.step(block, false);
        }
        Change { disconnected, connected }
    }

    fn step(&mut self, block: &Arc<Block>, removed: bool) {
        self.stepped = self.stepped.saturating_add(1);
        self.steps.push_back(Step { block: Arc::clone(block), removed });
        if self.steps.len() > REMEMBERED_STEPS {
            self.steps.pop_front();
        }
    }

    /// Forgets states and side branches that nobody can need: those before block `settled`, which is final, and further back than the
    /// state can be read.
    pub(crate) fn forget(&mut self, settled: u64) {
        let kept = u64::try_from(KEPT_STATES).unwrap_or(u64::MAX);
        let limit = self.head().header.number.saturating_add(1).saturating_sub(kept).min(settled);
        while let Some(entry) = self.by_number.first_entry().filter(|entry| *entry.key() < limit) {
            let (number, hashes) = entry.remove_entry();
            for hash in hashes {
                if self.is_active(Checkpoint { number, hash }) {
                    if let Some(known) = self.known.get_mut(&hash) {
                        known.state = None;
                    }
                } else {
                    self.known.remove(&hash);
                    self.tips.remove(&hash);
                }
            }
        }
    }
}

impl Ancestry for Chain {
    fn ancestor(&self, block: B256, number: u64) -> Option<B256> {
        let mut at = self.get(&block)?;
        while at.header.number > number {
            if self.is_active(checkpoint(at)) {
                return self.at(number).map(|known| known.hash());
            }
            at = self.get(&at.header.parent_hash)?;
        }
        (at.header.number == number).then(|| at.hash())
    }
}

/// A block as votes name it.
pub(crate) fn checkpoint(block: &Block) -> Checkpoint {
    Checkpoint { number: block.header.number, hash: block.hash() }
}
