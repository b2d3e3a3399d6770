//! Several engines, messages that chance delays, repeats and loses, and journals that are read back.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const START: u64 = 1_700_000_000;
const DEPTH: u64 = 4;

#[derive(Clone, Debug)]
enum Said {
    Block(Arc<Block>),
    Vote(Vote),
}

struct Member {
    engine: Engine,
    journal: Vec<Record>,
}

/// Engines and what is on its way between them.
struct Crowded {
    members: Vec<Member>,
    links: BTreeMap<(usize, usize), VecDeque<Said>>,
    group: Vec<u8>,
    /// What any node has ever called safe, by number.
    safe: BTreeMap<u64, B256>,
}

fn role(node: usize, size: usize) -> Role {
    let node = NodeIndex(u16::try_from(node).unwrap());
    Role { chain_id: 5, finality_depth: DEPTH, node, size: u16::try_from(size).unwrap() }
}

impl Crowded {
    fn new(size: usize) -> Self {
        let genesis = Genesis { chain_id: 5, timestamp: START, faucets: 1 };
        let member =
            |node| Member { engine: Engine::new(genesis, role(node, size)), journal: vec![Record::Genesis(genesis)] };
        Self {
            members: (0..size).map(member).collect(),
            links: BTreeMap::new(),
            group: vec![0; size],
            safe: BTreeMap::new(),
        }
    }

    fn size(&self) -> usize {
        self.members.len()
    }

    fn tell(&mut self, from: usize, said: &Said) {
        for to in (0..self.size()).filter(|to| *to != from && self.group[from] == self.group[*to]) {
            self.links.entry((from, to)).or_default().push_back(said.clone());
        }
    }

    /// Votes, writes down, and checks what must hold of the node.
    fn after(&mut self, at: usize, records: Vec<Record>) {
        let member = &mut self.members[at];
        member.journal.extend(records);
        let vote = member.engine.cast();
        member.journal.extend(vote.map(Record::Vote));
        let Settled { safe, finalized } = member.engine.settled();
        assert!(finalized <= safe && safe <= member.engine.chain().head().header.number);
        for number in 0..=safe {
            let hash = member.engine.chain().at(number).unwrap().hash();
            assert_eq!(*self.safe.entry(number).or_insert(hash), hash, "block {number} was safe");
        }
        if let Some(vote) = vote {
            self.tell(at, &Said::Vote(vote));
        }
    }

    fn seal(&mut self, at: usize, time: u64) {
        let record = self.members[at].engine.seal(Order::at(START + time));
        let block = Arc::clone(self.members[at].engine.chain().head());
        self.tell(at, &Said::Block(block));
        self.after(at, vec![record]);
    }

    fn deliver(&mut self, from: usize, to: usize, lost: bool) {
        let Some(said) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front).filter(|_| !lost) else {
            return;
        };
        match said {
            Said::Vote(vote) => {
                let record = self.members[to].engine.hear(vote);
                self.after(to, record.into_iter().collect());
            }
            Said::Block(block) => self.import(from, to, &block),
        }
    }

    /// Takes a block with all that it builds on, which the sender has.
    fn import(&mut self, from: usize, to: usize, block: &Arc<Block>) {
        let path = self.members[from].engine.path(&block.hash(), &self.members[to].engine.locator(), usize::MAX);
        for block in path {
            let Ok(executed) = self.members[to].engine.check(&block) else { continue };
            let record = self.members[to].engine.accept(executed);
            self.after(to, record.into_iter().collect());
        }
    }

    fn restart(&mut self, at: usize) {
        let member = &mut self.members[at];
        let before = (member.engine.chain().head().hash(), member.engine.settled().safe, member.engine.chain().root());
        member.engine = Engine::replay(member.journal.clone(), role(at, self.group.len())).unwrap();
        let engine = &member.engine;
        assert_eq!((engine.chain().head().hash(), engine.settled().safe, engine.chain().root()), before);
    }

    /// Lets all hear of everything.
    fn reconcile(&mut self) {
        self.group.fill(0);
        for from in 0..self.size() {
            let head = Arc::clone(self.members[from].engine.chain().head());
            let votes: Vec<_> = self.members[from].engine.finality().latest().collect();
            self.tell(from, &Said::Block(head));
            for vote in votes {
                self.tell(from, &Said::Vote(vote));
            }
        }
        while let Some(link) = self.links.iter().find(|(_, waiting)| !waiting.is_empty()).map(|(link, _)| *link) {
            self.deliver(link.0, link.1, false);
        }
    }
}

#[test]
fn the_last_settled_block_can_be_built_on_however_old_it_is() {
    let genesis = Genesis { chain_id: 5, timestamp: START, faucets: 1 };
    let mut engine = Engine::new(genesis, Role { finality_depth: 400, ..role(0, 1) });
    for _ in 0..300 {
        engine.seal(Order::at(START));
    }
    assert_eq!(engine.settled().safe, 100);
    let settled = engine.chain().at(100).unwrap().hash();
    assert!(engine.chain().state(&settled).is_some());
    assert!(matches!(engine.reorganize(201, START), Err(ControlError::TooDeep { depth: 201, limit: 200 })));
    assert_eq!(engine.reorganize(200, START).unwrap().len(), 201);
    assert_eq!((engine.chain().head().header.number, engine.chain().at(100).unwrap().hash()), (301, settled));
    assert!(engine.chain().state(&engine.chain().at(99).unwrap().hash()).is_none(), "and no more is kept");
}

#[derive(Clone, Debug)]
enum Event {
    Seal(usize),
    Deliver { from: usize, to: usize, lost: bool },
    Reorganize { node: usize, depth: u32 },
    Partition(Vec<u8>),
    Restart(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 0..5_usize;
    prop_oneof![
        5 => node().prop_map(Event::Seal),
        24 => (node(), node(), prop::bool::weighted(0.1)).prop_map(|(from, to, lost)| Event::Deliver { from, to, lost }),
        1 => (node(), 1..4_u32).prop_map(|(node, depth)| Event::Reorganize { node, depth }),
        1 => prop::collection::vec(0..2_u8, 5).prop_map(Event::Partition),
        1 => node().prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_safe_stays_and_all_agree_in_the_end(size in 1..6_usize, events in prop::collection::vec(event(), 1..250)) {
        let mut world = Crowded::new(size);
        let mut time = 0;
        for event in events {
            time += 1;
            match event {
                Event::Seal(node) => world.seal(node % size, time),
                Event::Deliver { from, to, lost } => world.deliver(from % size, to % size, lost),
                Event::Reorganize { node, depth } => {
                    let node = node % size;
                    // What is settled is refused.
                    if let Ok(records) = world.members[node].engine.reorganize(depth, START + time) {
                        let head = Arc::clone(world.members[node].engine.chain().head());
                        world.tell(node, &Said::Block(head));
                        world.after(node, records);
                    }
                }
                Event::Partition(groups) => {
                    world.group = groups.into_iter().cycle().take(size).collect();
                    let group = world.group.clone();
                    world.links.retain(|(from, to), _| group[*from] == group[*to]);
                }
                Event::Restart(node) => world.restart(node % size),
            }
        }
        world.reconcile();
        let before = world.members.iter().map(|member| member.engine.settled().safe).max().unwrap();
        // Nobody votes for what isn't above all that it has voted for, and a branch that lost may have been the longer one.
        let votes = world.members.iter().flat_map(|member| member.engine.finality().latest());
        let highest = votes.map(|vote| vote.target.number).max().unwrap_or_default();
        let behind = highest.saturating_sub(world.members[0].engine.chain().head().header.number);
        let rounds = 8 + usize::try_from(behind).unwrap();
        for round in 0..rounds {
            world.seal(round % size, time);
            world.reconcile();
        }
        let head = world.members[0].engine.chain().head().hash();
        for member in &world.members {
            prop_assert_eq!(member.engine.chain().head().hash(), head);
            prop_assert!(member.engine.settled().safe > before, "finality goes on");
        }
    }
}
