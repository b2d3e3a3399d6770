//! What several nodes agree on: which branch is followed, what is confirmed and what is final.
//!
//! - A node follows the branch that most nodes have rooted, and of these the one that most votes are for ([`Tree::best`]). It votes for
//!   its newest block.
//! - A block is confirmed where two thirds of all nodes vote for it or for what builds on it.
//! - A node *roots* a block that is confirmed and deep enough, and never leaves it.
//! - A block is final where two thirds of all nodes have rooted it or what builds on it. Two final blocks are always of one branch: any
//!   two sets of two thirds of the nodes share one, and its roots are all of one branch.
//!
//! When messages cross, nodes may root blocks of different branches. A node lets go of what it has rooted where that can't become final
//! any more:
//!
//! - where two thirds of the nodes have rooted another branch;
//! - where more than a third have rooted branches that go before its own ([`Tree::goes_before`]). None of these nodes has rooted, or will
//!   root, a branch that goes after its own, as long as two thirds don't; so the branch that is let go never has two thirds of the
//!   roots. And of branches that none has two thirds of, one is always left by this.
//!
//! On command a block is refused with all that build on it. Refusals travel with the votes, and end where anyone has rooted the block.

use std::sync::Arc;

use solana_sdk::hash::Hash;

use super::block::Block;
use super::ledger::{BlockId, Height, Slot};
use super::tree::{Tree, Weights};
use super::votes::{Vote, Votes};
use crate::topology::NodeIndex;

/// One node's part in the agreement.
#[derive(Debug)]
pub(super) struct Consensus {
    own: NodeIndex,
    depth: u64,
    tree: Tree,
    votes: Votes,
    head: Hash,
    rooted: Hash,
    /// What it had rooted last and let go.
    left: Hash,
}

/// How sure the blocks of the branch are that a node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) confirmed: Height,
    pub(super) rooted: BlockId,
    pub(super) finalized: BlockId,
    pub(super) finalized_height: Height,
}

impl Consensus {
    /// The part of node `own` of `nodes`, which knows nothing but the newest final block. Blocks are rooted `depth` blocks deep.
    pub(super) fn new(own: NodeIndex, nodes: u16, depth: u64, root: BlockId, height: Height) -> Self {
        let (head, rooted) = (root.hash, root.hash);
        Self { own, depth, tree: Tree::new(root, height), votes: Votes::new(nodes), head, rooted, left: rooted }
    }

    /// Takes up what the node followed and had rooted before it was restarted.
    pub(super) fn resume(&mut self, chain: Vec<Block>, rooted: Slot, refused: Vec<BlockId>) {
        for block in chain {
            let hash = block.id.hash;
            let below = block.id.slot <= rooted;
            if self.tree.add(Arc::new(block)) {
                self.head = hash;
                self.rooted = if below { hash } else { self.rooted };
            }
        }
        let root = self.tree.root();
        for id in refused.into_iter().filter(|id| id.slot > root.slot) {
            self.tree.refuse(id);
        }
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The newest slot that was heard of, on whatever branch.
    pub(super) fn newest_slot(&self) -> Slot {
        self.votes.newest_slot().max(self.tree.newest_slot())
    }

    /// The newest block that the node follows.
    pub(super) const fn head(&self) -> Hash {
        self.head
    }

    /// How deep a block may be to be given up on command: what is deeper may be rooted by someone who was ahead.
    pub(super) fn most_refused(&self) -> u64 {
        self.depth.saturating_sub((self.depth / 4).max(1))
    }

    /// Adds a block that is known to be well made. `false` where it is no news, or what it builds on is not known.
    pub(super) fn add(&mut self, block: Arc<Block>) -> bool {
        self.tree.add(block)
    }

    /// Takes a vote in. Tells whether it is news.
    pub(super) fn hear(&mut self, vote: Vote) -> bool {
        self.votes.take(vote)
    }

    /// Gives a block up on command, where nobody is known to have rooted it. Tells whether that is news.
    pub(super) fn refuse(&mut self, id: BlockId) -> bool {
        let final_or_given_up = id.slot <= self.tree.root().slot || self.tree.is_refused(&id.hash);
        if final_or_given_up || self.roots().contains_key(&id.hash) {
            return false;
        }
        self.tree.refuse(id);
        true
    }

    /// Gives a block up that breaks the rules.
    pub(super) fn condemn(&mut self, id: BlockId) {
        self.tree.condemn(id.hash);
    }

    /// Which block to follow.
    pub(super) fn best(&mut self) -> Hash {
        let Self { votes, tree, own, .. } = self;
        votes.count(*own, |head| tree.has(&head.hash));
        self.release();
        let heads = self.votes.counted().map(|vote| vote.head.hash).chain([self.head]);
        self.tree.best(&self.rooted, &self.roots(), &self.tree.weigh(heads))
    }

    /// Follows a known block.
    pub(super) fn follow(&mut self, head: Hash) {
        self.head = head;
    }

    /// Settles what the votes say, and forgets what can't become of the chain any more.
    pub(super) fn settle(&mut self) -> Settled {
        let Self { votes, tree, own, .. } = self;
        votes.count(*own, |head| tree.has(&head.hash));
        let quorum = self.votes.quorum();
        let heads = self.votes.counted().map(|vote| vote.head.hash).chain([self.head]);
        let weights = self.tree.weigh(heads);
        let heavy = |at: &Hash| weights.get(at).is_some_and(|weight| *weight >= quorum);
        let height = self.tree.height(&self.head).unwrap_or(0);
        let confirmed = self.tree.down(&self.head).find(heavy).and_then(|at| self.tree.height(&at));
        // A vote for a block is in the next one.
        let confirmed = confirmed.unwrap_or(0).min(height.saturating_sub(1));

        let deep = confirmed.min(height.saturating_sub(self.depth));
        let deepest = self.tree.down(&self.head).find(|at| self.tree.height(at).is_some_and(|at| at <= deep));
        if let Some(deepest) = deepest
            && !self.tree.goes_before(&self.left, &deepest)
            && self.tree.height(&deepest) > self.tree.height(&self.rooted)
        {
            self.rooted = deepest;
        }

        let settled = self.roots();
        let heavy = |at: &Hash| settled.get(at).is_some_and(|weight| *weight >= quorum);
        let finalized = self.tree.down(&self.head).find(heavy).unwrap_or(self.tree.root().hash);
        self.tree.finalize(&finalized);
        if !self.tree.has(&self.rooted) || !self.tree.is_on(&self.head, &self.rooted) {
            self.rooted = finalized;
        }
        let root = self.tree.root();
        Settled {
            confirmed,
            rooted: self.tree.id(&self.rooted).unwrap_or(root),
            finalized: root,
            finalized_height: self.tree.height(&root.hash).unwrap_or(0),
        }
    }

    /// Casts the node's vote, where it has changed. Tells whether it has.
    pub(super) fn cast(&mut self) -> bool {
        let root = self.tree.root();
        let head = self.tree.id(&self.head).unwrap_or(root);
        let rooted = self.tree.id(&self.rooted).unwrap_or(root);
        let number = self.votes.number(self.own);
        let vote = Vote { voter: self.own, number: number.saturating_add(1), head, rooted };
        let same = |last: &Vote| last.voter == self.own && (last.head, last.rooted) == (head, rooted);
        if self.votes.all().iter().any(same) {
            return false;
        }
        self.votes.take(vote)
    }

    /// The votes that are known, the node's own among them.
    pub(super) fn votes(&self) -> Vec<Vote> {
        self.votes.all()
    }

    /// Blocks that are voted for and not known, with those who vote for them.
    pub(super) fn wanted(&self) -> Vec<(NodeIndex, BlockId)> {
        let root = self.tree.root();
        let votes = self.votes.all().into_iter().filter(|vote| vote.voter != self.own);
        let unknown = votes.filter(|vote| !self.tree.has(&vote.head.hash) && vote.head.slot > root.slot);
        unknown.map(|vote| (vote.voter, vote.head)).collect()
    }

    /// How many nodes have rooted each block or what builds on it.
    fn roots(&self) -> Weights {
        self.tree.weigh(self.votes.counted().map(|vote| vote.rooted.hash).chain([self.rooted]))
    }

    /// Lets go of refusals of what anyone has rooted, and of what the node has rooted where that can't become final any more.
    fn release(&mut self) {
        let quorum = self.votes.quorum();
        let mut hopeless = false;
        for (block, weight) in self.roots() {
            if self.tree.accept(&block) {
                tracing::debug!(%block, "a refused block is rooted all the same");
            }
            hopeless |= weight >= quorum && self.parts(&block, &self.rooted);
        }
        let before = self.votes.counted().filter(|vote| self.tree.goes_before(&vote.rooted.hash, &self.rooted)).count();
        if hopeless || before >= self.votes.veto() {
            self.left = self.rooted;
            self.rooted = self.tree.root().hash;
        }
    }

    /// Whether two blocks are of different branches.
    fn parts(&self, one: &Hash, other: &Hash) -> bool {
        !self.tree.is_on(one, other) && !self.tree.is_on(other, one)
    }
}

#[cfg(test)]
mod tests;
