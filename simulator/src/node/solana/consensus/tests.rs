//! Several nodes that do nothing but agree: in any order of messages, under any partition and any command, what is final stays so, and
//! once all hear each other they follow one branch.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::node::solana::block::Said;

/// How deep a block is rooted.
const DEPTH: u64 = 4;
/// The first block.
const GENESIS: BlockId = BlockId { slot: 0, hash: Hash::new_from_array([7; 32]) };

#[derive(Clone, Debug)]
enum Step {
    /// A node makes a block.
    Lead(usize),
    /// A node replaces its newest blocks.
    Reorg(usize, usize),
    /// So many messages arrive, from a random link each.
    Deliver(Vec<prop::sample::Index>),
    /// A message is lost.
    Lose(prop::sample::Index),
    /// The nodes whose bit is set are cut off from the others.
    Partition(u8),
    /// A node starts anew from what it has written down.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_usize).prop_map(Step::Lead),
        1 => (0..8_usize, 1..4_usize).prop_map(|(node, depth)| Step::Reorg(node, depth)),
        6 => prop::collection::vec(any::<prop::sample::Index>(), 1..30).prop_map(Step::Deliver),
        1 => any::<prop::sample::Index>().prop_map(Step::Lose),
        1 => any::<u8>().prop_map(Step::Partition),
        1 => (0..8_usize).prop_map(Step::Restart),
    ]
}

#[derive(Clone)]
enum Message {
    Blocks(Vec<Arc<Block>>),
    Said(Said),
}

struct Node {
    consensus: Consensus,
    /// Everything final, oldest first, and all other blocks of the branch: what a journal would hold.
    finals: Vec<BlockId>,
    settled: Settled,
}

struct World {
    nodes: Vec<Node>,
    /// By sender and receiver.
    links: Vec<Vec<VecDeque<Message>>>,
    apart: u8,
    /// Every block that was ever made.
    made: HashMap<Hash, Arc<Block>>,
}

impl World {
    fn new(size: usize) -> Self {
        let nodes = (0..size).map(|index| {
            let own = NodeIndex(u16::try_from(index).unwrap());
            let mut consensus = Consensus::new(own, u16::try_from(size).unwrap(), DEPTH, GENESIS, 0);
            let settled = consensus.settle();
            Node { consensus, finals: vec![GENESIS], settled }
        });
        Self { nodes: nodes.collect(), links: vec![vec![VecDeque::new(); size]; size], apart: 0, made: HashMap::new() }
    }

    fn size(&self) -> usize {
        self.nodes.len()
    }

    fn reach(&self, one: usize, other: usize) -> bool {
        one != other && (self.apart >> one) & 1 == (self.apart >> other) & 1
    }

    fn spread(&mut self, from: usize, message: &Message) {
        for to in 0..self.size() {
            if self.reach(from, to) {
                self.links[from][to].push_back(message.clone());
            }
        }
    }

    fn say(&mut self, from: usize) {
        let consensus = &self.nodes[from].consensus;
        let said = Said { votes: consensus.votes(), refused: consensus.tree().refused() };
        self.spread(from, &Message::Said(said));
    }

    /// Follows, settles and votes, as the validator does.
    fn agree(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let best = node.consensus.best();
        node.consensus.follow(best);
        let settled = node.consensus.settle();
        assert!(settled.finalized_height >= node.settled.finalized_height, "what is final stays so");
        if settled.finalized != node.settled.finalized {
            node.finals.push(settled.finalized);
        }
        node.settled = settled;
        if node.consensus.cast() {
            self.say(index);
        }
    }

    fn lead(&mut self, index: usize) -> Arc<Block> {
        let consensus = &mut self.nodes[index].consensus;
        let parent = consensus.tree().id(&consensus.head()).unwrap();
        let slot = consensus.newest_slot() + 1;
        let leader = NodeIndex(u16::try_from(index).unwrap());
        let block = Arc::new(Block::new(parent, slot, Some(leader), slot, Vec::new()));
        assert!(consensus.add(Arc::clone(&block)));
        consensus.follow(block.id.hash);
        self.made.insert(block.id.hash, Arc::clone(&block));
        block
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Some(message) = self.links[from][to].pop_front() else { return };
        let consensus = &mut self.nodes[to].consensus;
        let spoke = matches!(message, Message::Said(_));
        match message {
            Message::Blocks(blocks) => {
                for block in blocks {
                    consensus.add(block);
                }
            }
            Message::Said(said) => {
                for vote in said.votes {
                    consensus.hear(vote);
                }
                for id in said.refused {
                    consensus.refuse(id);
                }
            }
        }
        self.agree(to);
        // Blocks that are voted for and missing are asked for; the answer takes its time as all do.
        let wanted = self.nodes[to].consensus.wanted();
        for (_, id) in wanted.into_iter().filter(|(voter, _)| spoke && usize::from(voter.0) == from) {
            let path = self.branch(id.hash);
            if self.reach(from, to) && !path.is_empty() {
                self.links[from][to].push_back(Message::Blocks(path));
            }
        }
    }

    /// A block and all that it builds on, oldest first.
    fn branch(&self, head: Hash) -> Vec<Arc<Block>> {
        let mut branch: Vec<_> =
            std::iter::successors(self.made.get(&head), |block| self.made.get(&block.parent.hash)).cloned().collect();
        branch.reverse();
        branch
    }

    /// What every node follows, has rooted and has refused.
    fn describe(&self) -> String {
        let describe = |node: &Node| {
            let consensus = &node.consensus;
            let tree = consensus.tree();
            let name = |hash: &Hash| {
                let mark = if tree.is_refused(hash) { "!" } else { "" };
                format!("{mark}{}.{}", tree.id(hash).map_or(0, |id| id.slot), &hash.to_string()[..3])
            };
            let branch: Vec<_> = tree.down(&consensus.head).map(|at| name(&at)).collect();
            let refused: Vec<_> = tree.refused().iter().map(|id| name(&id.hash)).collect();
            let votes: Vec<_> = consensus.votes.counted().map(|vote| (vote.voter.0, name(&vote.head.hash))).collect();
            format!("{branch:?} rooted {} refused {refused:?} votes {votes:?}", name(&consensus.rooted))
        };
        self.nodes.iter().map(describe).collect::<Vec<_>>().join("\n")
    }

    fn busy(&self) -> Vec<(usize, usize)> {
        let all = (0..self.size()).flat_map(|from| (0..self.size()).map(move |to| (from, to)));
        all.filter(|(from, to)| !self.links[*from][*to].is_empty()).collect()
    }

    /// Lets everyone hear each other until nothing is left to say.
    fn calm(&mut self) {
        self.apart = 0;
        for _ in 0..3 {
            for node in 0..self.size() {
                self.say(node);
            }
            while let Some((from, to)) = self.busy().first().copied() {
                self.deliver(from, to);
            }
        }
    }

    fn restart(&mut self, index: usize) {
        let size = u16::try_from(self.size()).unwrap();
        let node = &mut self.nodes[index];
        let (consensus, settled) = (&node.consensus, node.settled);
        let tree = consensus.tree();
        let chain = tree.path(&settled.finalized.hash, &consensus.head());
        let chain = chain.iter().map(|block| Block::clone(block)).collect();
        let refused = tree.refused();
        let mut anew = Consensus::new(consensus.own, size, DEPTH, settled.finalized, settled.finalized_height);
        anew.resume(chain, settled.rooted.slot, refused);
        node.consensus = anew;
        for links in &mut self.links {
            links[index].clear();
        }
        for from in 0..self.size() {
            if self.reach(from, index) {
                self.say(from);
            }
        }
    }

    fn take(&mut self, step: Step) {
        let size = self.size();
        match step {
            Step::Lead(node) => {
                let block = self.lead(node % size);
                self.spread(node % size, &Message::Blocks(vec![block]));
                self.agree(node % size);
            }
            Step::Reorg(node, depth) => {
                let index = node % size;
                let consensus = &mut self.nodes[index].consensus;
                let down: Vec<Hash> = consensus.tree().down(&consensus.head()).take(depth + 1).collect();
                let [.., first, fork] = down.as_slice() else { return };
                let first = consensus.tree().id(first).unwrap();
                if !consensus.refuse(first) {
                    return;
                }
                consensus.follow(*fork);
                let branch = (0..down.len()).map(|_| self.lead(index)).collect();
                self.say(index);
                self.spread(index, &Message::Blocks(branch));
                self.agree(index);
            }
            Step::Deliver(which) => {
                for which in which {
                    let busy = self.busy();
                    if !busy.is_empty() {
                        let (from, to) = busy[which.index(busy.len())];
                        self.deliver(from, to);
                    }
                }
            }
            Step::Lose(which) => {
                let busy = self.busy();
                if !busy.is_empty() {
                    let (from, to) = busy[which.index(busy.len())];
                    self.links[from][to].pop_front();
                }
            }
            Step::Partition(apart) => {
                self.apart = apart;
                for from in 0..size {
                    for to in 0..size {
                        if !self.reach(from, to) {
                            self.links[from][to].clear();
                        }
                    }
                    self.say(from);
                }
            }
            Step::Restart(node) => self.restart(node % size),
        }
    }
}

/// How many histories are tried: `PROPTEST_CASES`, or a handful.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_final_is_one_branch_and_all_meet_on_it(
        size in 1..6_usize,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(size);
        for step in steps {
            world.take(step);
        }
        world.calm();
        // Everyone is heard: one branch, which goes on and becomes final.
        for round in 0..usize::try_from(DEPTH).unwrap() * 3 {
            world.take(Step::Lead(round));
            world.calm();
        }
        let head = world.nodes[0].consensus.head();
        for node in &world.nodes {
            prop_assert_eq!(node.consensus.head(), head, "{}", world.describe());
            prop_assert!(node.settled.finalized_height > 0, "nothing became final\n{}", world.describe());
        }
        // What any node ever held for final is of the one branch.
        let mut branch: HashSet<Hash> = world.branch(head).iter().map(|block| block.id.hash).collect();
        branch.insert(GENESIS.hash);
        for node in &world.nodes {
            prop_assert!(node.finals.iter().all(|id| branch.contains(&id.hash)), "{:?}", node.finals);
        }
    }
}

#[test]
fn a_refusal_that_comes_too_late_is_taken_back() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.take(Step::Lead(0));
        world.calm();
    }
    // Node 0 gives a block up that the other two make final meanwhile.
    world.take(Step::Partition(0b001));
    world.take(Step::Reorg(0, 2));
    let branch = world.nodes[0].consensus.head();
    for _ in 0..8 {
        world.take(Step::Lead(1));
        while let Some((from, to)) = world.busy().first().copied() {
            world.deliver(from, to);
        }
    }
    let head = world.nodes[1].consensus.head();
    assert!(world.nodes[1].settled.finalized_height > 3);
    world.calm();
    assert_eq!(world.nodes[0].consensus.head(), head);
    assert!(!world.nodes[0].consensus.tree().has(&branch));
}
