//! Votes: which block each node follows, and which one it will never leave.
//!
//! Each node has one vote of equal weight, and two thirds of all nodes, running or not, settle something. The newest vote of a node
//! that can't be reached counts on: silence changes no decision.

use std::collections::BTreeMap;

use super::ledger::{BlockId, Slot};
use crate::topology::NodeIndex;

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who says it.
    pub voter: NodeIndex,
    /// Later votes have higher numbers.
    pub number: u64,
    /// The newest block that it follows.
    pub head: BlockId,
    /// The newest block that it will never leave.
    pub rooted: BlockId,
}

/// What a node knows of everyone's votes.
#[derive(Debug)]
pub(super) struct Votes {
    nodes: u16,
    latest: BTreeMap<NodeIndex, Vote>,
    /// The latest votes of others whose blocks are known.
    counted: BTreeMap<NodeIndex, Vote>,
    newest: Slot,
}

impl Votes {
    /// No votes yet, in a cluster of so many nodes.
    pub(super) const fn new(nodes: u16) -> Self {
        Self { nodes, latest: BTreeMap::new(), counted: BTreeMap::new(), newest: 0 }
    }

    /// How many votes settle something.
    pub(super) fn quorum(&self) -> usize {
        let twice = usize::from(self.nodes).saturating_mul(2);
        twice.div_ceil(3).max(1)
    }

    /// How many nodes must hold out that the others can't settle anything.
    pub(super) fn veto(&self) -> usize {
        usize::from(self.nodes).saturating_sub(self.quorum()).saturating_add(1)
    }

    /// Takes a vote in. `false` where a later one is known, or its voter is none of the cluster's nodes.
    pub(super) fn take(&mut self, vote: Vote) -> bool {
        let known = self.latest.get(&vote.voter).map_or(0, |known| known.number);
        if vote.number <= known || vote.voter.0 >= self.nodes {
            return false;
        }
        self.latest.insert(vote.voter, vote);
        self.newest = self.newest.max(vote.head.slot);
        true
    }

    /// Counts the votes whose blocks are known.
    pub(super) fn count(&mut self, own: NodeIndex, knows: impl Fn(BlockId) -> bool) {
        for (voter, vote) in &self.latest {
            if *voter != own && knows(vote.head) {
                self.counted.insert(*voter, *vote);
            }
        }
    }

    /// The number of a node's latest vote; 0 where it has none.
    pub(super) fn number(&self, voter: NodeIndex) -> u64 {
        self.latest.get(&voter).map_or(0, |vote| vote.number)
    }

    /// The newest slot that was ever voted for.
    pub(super) const fn newest_slot(&self) -> Slot {
        self.newest
    }

    /// The latest vote of each node.
    pub(super) fn all(&self) -> Vec<Vote> {
        self.latest.values().copied().collect()
    }

    /// The votes of others that count.
    pub(super) fn counted(&self) -> impl Iterator<Item = &Vote> {
        self.counted.values()
    }
}

#[cfg(test)]
mod tests {
    use solana_sdk::hash::Hash;

    use super::*;

    #[test]
    fn two_thirds_of_all_nodes_settle() {
        let quorum = |nodes| Votes::new(nodes).quorum();
        assert_eq!((1..=7).map(quorum).collect::<Vec<_>>(), [1, 2, 2, 3, 4, 4, 5]);
        let veto = |nodes| Votes::new(nodes).veto();
        assert_eq!((1..=7).map(veto).collect::<Vec<_>>(), [1, 1, 2, 2, 2, 3, 3]);
    }

    #[test]
    fn the_latest_known_vote_counts() {
        let id = |slot| BlockId { slot, hash: Hash::default() };
        let vote = |voter, number, slot| Vote { voter: NodeIndex(voter), number, head: id(slot), rooted: id(0) };
        let mut votes = Votes::new(3);
        assert!(votes.take(vote(1, 2, 5)));
        assert!(!votes.take(vote(1, 2, 6)) && !votes.take(vote(1, 1, 4)) && !votes.take(vote(3, 1, 4)));
        assert!(votes.take(vote(0, 1, 9)));
        votes.count(NodeIndex(0), |head| head.slot <= 5);
        assert!(votes.take(vote(1, 3, 6)));
        votes.count(NodeIndex(0), |head| head.slot <= 5);
        let counted: Vec<_> = votes.counted().map(|vote| (vote.voter.0, vote.head.slot)).collect();
        assert_eq!(counted, [(1, 5)], "one's own is not among them, nor what is not known yet");
        votes.count(NodeIndex(0), |_| true);
        assert_eq!(votes.counted().next().map(|vote| vote.head.slot), Some(6));
        assert_eq!((votes.number(NodeIndex(1)), votes.number(NodeIndex(2)), votes.all().len()), (3, 0, 2));
    }
}
