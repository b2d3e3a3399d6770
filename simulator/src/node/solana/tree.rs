//! The blocks that are not final yet, with their branches.
//!
//! The root is the newest final block: all others here build on it. Branches are weighed by the votes for a block and all that builds on
//! it, as in GHOST (Sompolinsky and Zohar, "Secure High-Rate Transaction Processing in Bitcoin", 2015), which Solana's fork choice
//! follows too (agave: `HeaviestSubtreeForkChoice`).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use solana_sdk::hash::Hash;

use super::block::Block;
use super::ledger::{BlockId, Height, Slot};

/// The unfinished part of the chain and its rivals.
#[derive(Debug)]
pub(super) struct Tree {
    root: Hash,
    known: HashMap<Hash, Known>,
    /// Blocks that were given up, known or not, with all that build on them.
    refused: HashMap<Hash, Slot>,
    /// Blocks that break the rules.
    condemned: HashSet<Hash>,
    newest: Slot,
}

#[derive(Debug)]
struct Known {
    id: BlockId,
    height: Height,
    /// None: the root.
    block: Option<Arc<Block>>,
    children: Vec<Hash>,
}

/// How many votes a block and all that build on it have.
pub(super) type Weights = HashMap<Hash, usize>;

impl Tree {
    /// Nothing but the newest final block.
    pub(super) fn new(root: BlockId, height: Height) -> Self {
        let known = Known { id: root, height, block: None, children: Vec::new() };
        Self {
            root: root.hash,
            known: HashMap::from([(root.hash, known)]),
            refused: HashMap::new(),
            condemned: HashSet::new(),
            newest: root.slot,
        }
    }

    /// The newest final block.
    pub(super) fn root(&self) -> BlockId {
        self.known.get(&self.root).map(|known| known.id).expect("the root is always known")
    }

    /// The newest slot that any known block is of.
    pub(super) const fn newest_slot(&self) -> Slot {
        self.newest
    }

    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.known.contains_key(hash)
    }

    /// A block that is neither final nor unknown.
    pub(super) fn block(&self, hash: &Hash) -> Option<&Arc<Block>> {
        self.known.get(hash)?.block.as_ref()
    }

    pub(super) fn id(&self, hash: &Hash) -> Option<BlockId> {
        Some(self.known.get(hash)?.id)
    }

    pub(super) fn height(&self, hash: &Hash) -> Option<Height> {
        Some(self.known.get(hash)?.height)
    }

    /// Adds a block. `false` where it is known already, or what it builds on is not.
    pub(super) fn add(&mut self, block: Arc<Block>) -> bool {
        let id = block.id;
        if self.has(&id.hash) {
            return false;
        }
        let Some(parent) = self.known.get_mut(&block.parent.hash).filter(|parent| parent.id.slot < id.slot) else {
            return false;
        };
        parent.children.push(id.hash);
        let height = parent.height.saturating_add(1);
        self.known.insert(id.hash, Known { id, height, block: Some(block), children: Vec::new() });
        self.newest = self.newest.max(id.slot);
        true
    }

    /// Gives a block up, with all that build on it.
    pub(super) fn refuse(&mut self, id: BlockId) {
        self.refused.insert(id.hash, id.slot);
    }

    /// Gives a block up for good, with all that build on it.
    pub(super) fn condemn(&mut self, hash: Hash) {
        self.condemned.insert(hash);
    }

    /// Takes a refusal back.
    pub(super) fn accept(&mut self, hash: &Hash) -> bool {
        self.refused.remove(hash).is_some()
    }

    /// Whether a block was given up, on command or because it breaks the rules.
    pub(super) fn is_refused(&self, hash: &Hash) -> bool {
        self.refused.contains_key(hash) || self.condemned.contains(hash)
    }

    /// All blocks that were given up and are not final history.
    pub(super) fn refused(&self) -> Vec<BlockId> {
        let mut refused: Vec<_> =
            self.refused.iter().map(|(hash, slot)| BlockId { slot: *slot, hash: *hash }).collect();
        refused.sort_unstable_by_key(|id| (id.slot, id.hash));
        refused
    }

    /// A block and those below it, down to the root.
    pub(super) fn down<'a>(&'a self, from: &Hash) -> impl Iterator<Item = Hash> + 'a {
        let mut at = self.known.get(from);
        std::iter::from_fn(move || {
            let known = at?;
            at = known.block.as_ref().and_then(|block| self.known.get(&block.parent.hash));
            Some(known.id.hash)
        })
    }

    /// Whether `below` is `block` or one that it builds on.
    pub(super) fn is_on(&self, block: &Hash, below: &Hash) -> bool {
        let Some(height) = self.height(below) else { return false };
        self.down(block).take_while(|at| self.height(at) >= Some(height)).any(|at| at == *below)
    }

    /// The newest block that both are, or build on.
    pub(super) fn fork(&self, one: &Hash, other: &Hash) -> Hash {
        let below: HashSet<Hash> = self.down(one).collect();
        self.down(other).find(|at| below.contains(at)).unwrap_or(self.root)
    }

    /// Whether two blocks are of different branches, and the branch of the first goes before the other: where they part, its block has the
    /// lower hash. All branches are in one order by this.
    pub(super) fn goes_before(&self, one: &Hash, other: &Hash) -> bool {
        let fork = self.fork(one, other);
        let after = |block: &Hash| self.down(block).take_while(|at| *at != fork).last();
        match (after(one), after(other)) {
            (Some(one), Some(other)) => one < other,
            _ => false,
        }
    }

    /// The blocks above `below` up to `to`, oldest first.
    pub(super) fn path(&self, below: &Hash, to: &Hash) -> Vec<Arc<Block>> {
        let mut path: Vec<_> =
            self.down(to).take_while(|at| at != below).filter_map(|at| self.block(&at).cloned()).collect();
        path.reverse();
        path
    }

    /// What the votes for these blocks make each known block weigh.
    pub(super) fn weigh(&self, votes: impl Iterator<Item = Hash>) -> Weights {
        let mut weights = Weights::new();
        for vote in votes {
            for at in self.down(&vote) {
                let weight = weights.entry(at).or_default();
                *weight = weight.saturating_add(1);
            }
        }
        weights
    }

    /// The block to follow: from `start` on always the child that most nodes have rooted; of equal ones the one with most votes, the one
    /// that more is built on, and the one with the lowest hash, in this order.
    pub(super) fn best(&self, start: &Hash, roots: &Weights, votes: &Weights) -> Hash {
        let mut at = if self.has(start) { *start } else { self.root };
        loop {
            let children = self.known.get(&at).map(|known| known.children.as_slice()).unwrap_or_default();
            let mut eligible = children.iter().filter(|child| !self.is_refused(child));
            let next = match (eligible.next(), eligible.next()) {
                (None, _) => return at,
                (Some(only), None) => Some(only),
                _ => children.iter().filter(|child| !self.is_refused(child)).max_by_key(|child| {
                    let weight = |weights: &Weights| weights.get(*child).copied().unwrap_or(0);
                    (weight(roots), weight(votes), self.tallest(child), Reverse(**child))
                }),
            };
            match next {
                Some(child) => at = *child,
                None => return at,
            }
        }
    }

    /// The height of the highest block that builds on `from`.
    fn tallest(&self, from: &Hash) -> Height {
        let mut tallest = 0;
        let mut open = vec![*from];
        while let Some(known) = open.pop().and_then(|hash| self.known.get(&hash)) {
            tallest = tallest.max(known.height);
            open.extend(known.children.iter().filter(|child| !self.is_refused(child)));
        }
        tallest
    }

    /// Makes a known block the root. What doesn't build on it is forgotten.
    pub(super) fn finalize(&mut self, root: &Hash) {
        if *root == self.root || !self.has(root) {
            return;
        }
        let mut kept = HashMap::new();
        let mut open = vec![*root];
        while let Some(known) = open.pop().and_then(|hash| self.known.remove(&hash)) {
            open.extend(&known.children);
            kept.insert(known.id.hash, known);
        }
        self.known = kept;
        self.condemned.retain(|hash| self.known.contains_key(hash));
        self.root = *root;
        let mut slot = 0;
        if let Some(known) = self.known.get_mut(root) {
            known.block = None;
            slot = known.id.slot;
        }
        self.refused.retain(|hash, refused| *refused > slot && hash != root);
    }
}
