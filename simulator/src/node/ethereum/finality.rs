//! Which blocks can't be taken back any more: Casper FFG (Buterin and Griffith 2017, arXiv:1710.09437) with a checkpoint at each block.
//!
//! A node votes for a link from the highest block that it knows to be justified to a block some way behind its head. A link that two
//! thirds of all nodes vote for justifies its target; where the target follows directly on the source, the source is final. No vote
//! of a node has a lower target or source than the one before, and no two have different targets at one height; they are in its journal
//! before anybody hears of them. So two blocks of different branches can't both become final, whatever is lost, cut off or killed:
//! two thirds and two thirds have a node in common. (The paper lets a node vote once for a target. A second vote for the same
//! block from a higher source is no harm to its proof, and makes blocks final that nothing follows on for a while.)
//! Simulated nodes don't lie in votes: one that names a source has seen it justified.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;
use serde::{Deserialize, Serialize};

use crate::topology::NodeIndex;

/// A block that is voted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) number: u64,
    pub(crate) hash: B256,
}

/// A node's vote for the link between two blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) voter: NodeIndex,
    pub(crate) source: Checkpoint,
    pub(crate) target: Checkpoint,
}

/// What a node knows of the votes.
#[derive(Clone, Debug)]
pub(crate) struct Finality {
    /// How many nodes there are.
    size: u16,
    justified: Checkpoint,
    finalized: Checkpoint,
    /// Who voted for each link whose target is above the highest final block.
    links: BTreeMap<(Checkpoint, Checkpoint), BTreeSet<NodeIndex>>,
    /// Each node's newest vote.
    latest: BTreeMap<NodeIndex, Vote>,
}

impl Finality {
    /// No votes yet among `size` nodes, and a first block that is final.
    pub(crate) fn new(size: u16, genesis: Checkpoint) -> Self {
        Self { size, justified: genesis, finalized: genesis, links: BTreeMap::new(), latest: BTreeMap::new() }
    }

    /// The highest block that is known to be justified.
    pub(crate) fn justified(&self) -> Checkpoint {
        self.justified
    }

    /// The highest block that is known to be final.
    pub(crate) fn finalized(&self) -> Checkpoint {
        self.finalized
    }

    /// Whether there is anybody to agree with.
    pub(crate) fn is_social(&self) -> bool {
        self.size > 1
    }

    /// Each node's newest vote.
    pub(crate) fn latest(&self) -> impl Iterator<Item = Vote> {
        self.latest.values().copied()
    }

    /// A node's newest vote.
    pub(crate) fn of(&self, voter: NodeIndex) -> Option<Vote> {
        self.latest.get(&voter).copied()
    }

    /// The vote that `voter` may cast for `target`, a block after the justified one. `None` where it would go back on its word.
    pub(crate) fn propose(&self, voter: NodeIndex, target: Checkpoint) -> Option<Vote> {
        let source = self.justified;
        let last = self.latest.get(&voter);
        let keeps_word = last.is_none_or(|last| {
            let (higher, same) = (target.number > last.target.number, target == last.target);
            (higher && source.number >= last.source.number) || (same && source.number > last.source.number)
        });
        (self.is_social() && target.number > source.number && keeps_word).then_some(Vote { voter, source, target })
    }

    /// Whether a vote is news.
    pub(crate) fn is_news(&self, vote: &Vote) -> bool {
        let known = || {
            let voters = self.links.get(&(vote.source, vote.target));
            voters.is_some_and(|voters| voters.contains(&vote.voter))
        };
        let can_be = vote.voter.0 < self.size && vote.target.number > vote.source.number;
        self.is_social() && can_be && vote.target.number > self.finalized.number && !known()
    }

    /// Counts a vote.
    pub(crate) fn count(&mut self, vote: Vote) {
        if !self.is_news(&vote) {
            return;
        }
        let Vote { voter, source, target } = vote;
        let latest = self.latest.entry(voter).or_insert(vote);
        if (latest.target.number, latest.source.number) < (target.number, source.number) {
            *latest = vote;
        }
        if source.number > self.justified.number {
            self.justified = source;
        }
        let voters = self.links.entry((source, target)).or_default();
        voters.insert(voter);
        let enough = voters.len().saturating_mul(3) >= usize::from(self.size).saturating_mul(2);
        if !enough {
            return;
        }
        if target.number > self.justified.number {
            self.justified = target;
        }
        if source.number.checked_add(1) == Some(target.number) && source.number > self.finalized.number {
            self.finalized = source;
            self.links.retain(|(_, target), _| target.number > source.number);
        }
    }

    /// Makes blocks final that nobody else has a say in.
    pub(crate) fn settle(&mut self, block: Checkpoint) {
        if !self.is_social() && block.number > self.finalized.number {
            (self.justified, self.finalized) = (block, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(number: u64, branch: u8) -> Checkpoint {
        let mut hash = B256::repeat_byte(branch);
        hash[..8].copy_from_slice(&number.to_be_bytes());
        Checkpoint { number, hash }
    }

    fn genesis() -> Checkpoint {
        block(0, 0)
    }

    #[test]
    fn two_thirds_in_a_row_make_a_block_final() {
        let mut seen = Finality::new(3, genesis());
        for (number, of) in [(1, 0), (2, 1), (3, 2)] {
            let [first, second] = [0, 1].map(|voter| seen.propose(NodeIndex(voter), block(number, 1)).unwrap());
            seen.count(first);
            assert_eq!(seen.justified().number, of, "one of three is not enough");
            seen.count(first);
            assert_eq!(seen.justified().number, of, "and none counts twice");
            seen.count(second);
            assert_eq!((seen.justified().number, seen.finalized().number), (number, of));
        }
        assert_eq!(seen.propose(NodeIndex(0), block(3, 1)), None, "3 is justified");
        // One vote for a block of the other branch at a height, and never one for this branch there.
        let mut torn = Finality::new(3, genesis());
        torn.count(torn.propose(NodeIndex(0), block(5, 1)).unwrap());
        assert_eq!(torn.propose(NodeIndex(0), block(5, 2)), None);
        assert_eq!(torn.propose(NodeIndex(0), block(5, 1)), None);
        assert_eq!(torn.propose(NodeIndex(0), block(4, 1)), None);
        // Others have justified 3 meanwhile: the same block again, from there.
        torn.count(Vote { voter: NodeIndex(1), source: block(3, 1), target: block(6, 1) });
        assert_eq!(torn.propose(NodeIndex(0), block(5, 2)), None);
        assert_eq!(torn.propose(NodeIndex(0), block(5, 1)).unwrap().source, block(3, 1));
        let stranger = Vote { voter: NodeIndex(3), source: block(3, 1), target: block(4, 1) };
        assert!(!seen.is_news(&stranger));
    }

    #[test]
    fn one_node_settles_for_itself() {
        let mut alone = Finality::new(1, genesis());
        assert_eq!(alone.propose(NodeIndex(0), block(1, 1)), None);
        alone.settle(block(4, 1));
        alone.settle(block(3, 1));
        assert_eq!(alone.finalized(), block(4, 1));
        let mut one_of_two = Finality::new(2, genesis());
        one_of_two.settle(block(4, 1));
        assert_eq!(one_of_two.finalized(), genesis());
    }

    proptest! {
        /// Nodes on two branches vote as they like, and hear of each other's votes as chance has it.
        #[test]
        fn two_branches_never_both_become_final(
            size in 2..6_u16,
            steps in prop::collection::vec((0..6_u16, 1..3_u64, any::<bool>(), any::<u8>()), 1..200),
        ) {
            let mut nodes = vec![Finality::new(size, genesis()); usize::from(size)];
            let mut heads = vec![(0_u64, 1_u8); usize::from(size)];
            for (node, ahead, other, heard_by) in steps {
                let node = node % size;
                let place = usize::from(node);
                let justified = nodes[place].justified();
                // A node may change to the other branch where what is justified leaves it the choice.
                let fixed = (1..=2).find(|branch| justified == block(justified.number, *branch));
                heads[place].1 = fixed.unwrap_or(if other { 3 - heads[place].1 } else { heads[place].1 });
                heads[place].0 = heads[place].0.max(justified.number) + ahead;
                let (number, branch) = heads[place];
                let Some(vote) = nodes[place].propose(NodeIndex(node), block(number, branch)) else { continue };
                for (other, seen) in nodes.iter_mut().enumerate() {
                    if other == place || heard_by >> other & 1 == 1 {
                        seen.count(vote);
                    }
                }
                let finals: BTreeSet<u8> = nodes
                    .iter()
                    .map(Finality::finalized)
                    .filter(|last| last.number > 0)
                    .map(|last| last.hash[31])
                    .collect();
                prop_assert!(finals.len() <= 1, "final on both branches");
            }
        }
    }
}
