//! The network between the nodes of one chain, inside the process.
//!
//! Each pair of nodes has two links, one each way, which deliver in order as a TCP connection does. A link has a latency, may lose or
//! repeat messages and may be cut by a partition; all of it can be changed while the nodes run. What happens to a message is a
//! function of the world's seed, the link, the message's kind and how many of this kind the link has carried: the threads have no say
//! in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::fault::Faults;
use crate::fault::timeline::Subject;
use crate::seed::{Draw, Probability};
use crate::topology::{ChainKind, Link, NodeIndex};

/// The name under which a link's own losses are in the timeline.
const RULE: &str = "network";

/// What nodes say to each other: the messages of a chain with its own transactions `T`, blocks `B`, block ids `I` and, where its nodes
/// vote, votes `V`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gossip<T, B, I, V = Infallible> {
    /// A transaction that the sender's mempool has taken in.
    Transaction(T),
    /// A block that the sender has connected.
    Block(B),
    /// The sender's tip. Said when two nodes meet and at intervals, so that what was lost is asked for again.
    Tip(I),
    /// Asks for the blocks up to `want`, from the first of `have` on that the receiver knows. `have` lists blocks that the sender
    /// has, newest first.
    Request {
        /// The last block that is wanted.
        want: I,
        /// Blocks that the sender has, newest first.
        have: Vec<I>,
    },
    /// Blocks that were asked for, oldest first.
    Blocks(Vec<B>),
    /// A vote for a block, the sender's own or one that it has heard.
    Vote(V),
}

/// What the network has to know of a message.
pub trait Message: Clone + fmt::Debug + Send + 'static {
    /// Its kind. Messages of each kind are counted by themselves.
    fn kind(&self) -> MessageKind;
}

impl<T, B, I, V> Message for Gossip<T, B, I, V>
where
    Self: Clone + fmt::Debug + Send + 'static,
{
    fn kind(&self) -> MessageKind {
        match self {
            Self::Transaction(_) => MessageKind::Transaction,
            Self::Block(_) => MessageKind::Block,
            Self::Tip(_) => MessageKind::Tip,
            Self::Request { .. } => MessageKind::Request,
            Self::Blocks(_) => MessageKind::Blocks,
            Self::Vote(_) => MessageKind::Vote,
        }
    }
}

/// The kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// A transaction.
    Transaction,
    /// A block that is news.
    Block,
    /// The id of a tip.
    Tip,
    /// A question for blocks.
    Request,
    /// The answer to it.
    Blocks,
    /// A vote for a block.
    Vote,
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transaction => "transaction",
            Self::Block => "block",
            Self::Tip => "tip",
            Self::Request => "request",
            Self::Blocks => "blocks",
            Self::Vote => "vote",
        })
    }
}

/// How long messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// At least so long, in milliseconds.
    pub least_ms: u64,
    /// And up to so much longer, each length equally likely, in milliseconds.
    #[serde(default)]
    pub spread_ms: u64,
    /// And, by this mean, exponentially longer, in milliseconds: the long tail.
    #[serde(default)]
    pub tail_ms: u64,
}

impl Default for Latency {
    /// 5 to 25 ms: nodes on one continent.
    fn default() -> Self {
        Self { least_ms: 5, spread_ms: 20, tail_ms: 0 }
    }
}

impl Latency {
    fn sample(&self, draw: &mut Draw) -> Duration {
        let spread = draw.below(self.spread_ms.saturating_mul(1_000).saturating_add(1));
        let tail = exponential(draw.word(), self.tail_ms.saturating_mul(1_000));
        Duration::from_micros(self.least_ms.saturating_mul(1_000).saturating_add(spread).saturating_add(tail))
    }
}

/// A number of exponential distribution with this mean: the negative logarithm of a word taken as a fraction, in whole numbers. Between the
/// powers of two the logarithm is taken for a straight line.
fn exponential(word: u64, mean: u64) -> u64 {
    /// ln 2 in millionths.
    const LN_2: u128 = 693_147;
    const MILLION: u128 = 1_000_000;
    let zeros = word.leading_zeros();
    // The word without its first one bit, as a fraction of what it can be, in millionths.
    let rest = word.checked_shl(zeros.saturating_add(1)).unwrap_or(0);
    let fraction = (u128::from(rest) * MILLION) >> 64;
    let halvings = u128::from(zeros.saturating_add(1)) * MILLION - fraction;
    let number = halvings.saturating_mul(LN_2).saturating_mul(u128::from(mean)) / (MILLION * MILLION);
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What a link does to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// How long they take.
    pub latency: Latency,
    /// How likely one is lost.
    pub loss: Probability,
    /// How likely one arrives twice.
    pub duplication: Probability,
}

impl Default for Conditions {
    /// Some latency, nothing lost, nothing twice.
    fn default() -> Self {
        Self { latency: Latency::default(), loss: Probability::NEVER, duplication: Probability::NEVER }
    }
}

/// The network of one chain. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network<M> {
    inner: Arc<Inner<M>>,
}

#[derive(Debug)]
struct Inner<M> {
    chain: ChainKind,
    faults: Arc<Faults>,
    state: Mutex<State<M>>,
}

#[derive(Debug)]
struct State<M> {
    conditions: Conditions,
    /// Links whose conditions are their own.
    links: BTreeMap<(NodeIndex, NodeIndex), Conditions>,
    /// The group of each node; 0 where none is given.
    groups: BTreeMap<NodeIndex, usize>,
    inboxes: BTreeMap<NodeIndex, Arc<Inbox<M>>>,
    /// What each link has carried.
    carried: BTreeMap<(NodeIndex, NodeIndex), Carried>,
    /// Orders messages of the same instant.
    sequence: u64,
}

#[derive(Debug, Default)]
struct Carried {
    counts: BTreeMap<MessageKind, u64>,
    /// When the latest message arrives: none arrives before it.
    latest: Option<Instant>,
}

/// What waits for a node.
#[derive(Debug)]
struct Inbox<M> {
    waiting: Mutex<BinaryHeap<Reverse<Waiting<M>>>>,
    news: Notify,
}

#[derive(Debug)]
struct Waiting<M> {
    at: Instant,
    sequence: u64,
    event: Event<M>,
}

impl<M> PartialEq for Waiting<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<M> Eq for Waiting<M> {}

impl<M> PartialOrd for Waiting<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Waiting<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What a node learns from the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<M> {
    /// A message has arrived.
    Message {
        /// Who sent it.
        from: NodeIndex,
        /// What it says.
        message: M,
    },
    /// A node can be reached that could not before.
    Met(NodeIndex),
}

impl<M: Message> Network<M> {
    /// A network without nodes.
    pub fn new(chain: ChainKind, faults: Arc<Faults>, conditions: Conditions) -> Self {
        let state = State {
            conditions,
            links: BTreeMap::new(),
            groups: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            carried: BTreeMap::new(),
            sequence: 0,
        };
        Self { inner: Arc::new(Inner { chain, faults, state: Mutex::new(state) }) }
    }

    /// Connects a node. It meets all that it can reach, and they meet it. A node that was connected already starts over with
    /// an empty inbox.
    pub fn join(&self, index: NodeIndex) -> Endpoint<M> {
        let inbox = Arc::new(Inbox { waiting: Mutex::default(), news: Notify::new() });
        let mut state = self.lock();
        state.inboxes.insert(index, Arc::clone(&inbox));
        for peer in state.peers(index) {
            state.meet(index, peer);
        }
        Endpoint { network: self.clone(), index, inbox }
    }

    /// Disconnects a node. What was on its way to it is lost.
    pub fn leave(&self, index: NodeIndex) {
        self.lock().inboxes.remove(&index);
    }

    /// Sets the conditions of all links that have none of their own.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.lock().conditions = conditions;
    }

    /// Sets the conditions of one link. `None`: those of all others.
    pub fn set_link(&self, from: NodeIndex, to: NodeIndex, conditions: Option<Conditions>) {
        let mut state = self.lock();
        match conditions {
            Some(conditions) => state.links.insert((from, to), conditions),
            None => state.links.remove(&(from, to)),
        };
    }

    /// Cuts all links between nodes of different groups, and mends all others. Nodes in no group are one together. What is on its
    /// way over a link that is cut is lost.
    pub fn partition(&self, groups: &[Vec<NodeIndex>]) {
        let mut state = self.lock();
        let before = state.groups.clone();
        let number = |group: usize| group.saturating_add(1);
        state.groups = groups
            .iter()
            .enumerate()
            .flat_map(|(at, group)| group.iter().map(move |node| (*node, number(at))))
            .collect();
        state.meet_again(&before);
    }

    /// Mends all links. Nodes that were apart meet.
    pub fn heal(&self) {
        self.partition(&[]);
    }

    /// The connected nodes, by the groups in which they reach each other, each in ascending order.
    pub fn groups(&self) -> Vec<Vec<NodeIndex>> {
        let state = self.lock();
        let mut groups: BTreeMap<usize, Vec<NodeIndex>> = BTreeMap::new();
        for node in state.inboxes.keys() {
            groups.entry(state.group(*node)).or_default().push(*node);
        }
        groups.into_values().collect()
    }

    fn send(&self, from: NodeIndex, to: NodeIndex, message: M) {
        let kind = message.kind();
        let mut state = self.lock();
        let conditions = *state.links.get(&(from, to)).unwrap_or(&state.conditions);
        let carried = state.carried.entry((from, to)).or_default();
        let count = carried.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        if !state.reach(from, to) {
            return;
        }

        let link = Link { chain: self.inner.chain, from, to };
        let faults = &self.inner.faults;
        let mut draw = faults.seed().stream(format_args!("link/{link}/{kind}")).draw(count);
        // All that chance is asked for is asked for always, so that a change of one condition changes no other decision.
        let (lost, twice) = (draw.happens(conditions.loss), draw.happens(conditions.duplication));
        let latency = conditions.latency.sample(&mut draw);
        let verdict = faults.message(link, kind);
        if lost || twice {
            faults.record(RULE, Subject::Message { link, kind }, count, if lost { "lost" } else { "twice" });
        }
        if lost || verdict.lost {
            return;
        }
        let Some(at) = latency.checked_add(verdict.delay).and_then(|after| Instant::now().checked_add(after)) else {
            return;
        };
        let carried = state.carried.entry((from, to)).or_default();
        let at = carried.latest.map_or(at, |latest| latest.max(at));
        carried.latest = Some(at);
        let event = Event::Message { from, message };
        if twice || verdict.twice {
            state.put(to, at, event.clone());
        }
        state.put(to, at, event);
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.inner.state.lock().expect("nothing that holds the network can panic")
    }
}

impl<M: Clone> State<M> {
    fn group(&self, node: NodeIndex) -> usize {
        self.groups.get(&node).copied().unwrap_or(0)
    }

    /// Whether a message could get from one node to the other.
    fn reach(&self, from: NodeIndex, to: NodeIndex) -> bool {
        let connected = self.inboxes.contains_key(&from) && self.inboxes.contains_key(&to);
        connected && from != to && self.group(from) == self.group(to)
    }

    fn peers(&self, of: NodeIndex) -> Vec<NodeIndex> {
        self.inboxes.keys().copied().filter(|node| self.reach(of, *node)).collect()
    }

    fn meet(&mut self, one: NodeIndex, other: NodeIndex) {
        let now = Instant::now();
        self.put(one, now, Event::Met(other));
        self.put(other, now, Event::Met(one));
    }

    /// Lets nodes meet that were apart in other groups.
    fn meet_again(&mut self, before: &BTreeMap<NodeIndex, usize>) {
        let group = |node: &NodeIndex| before.get(node).copied().unwrap_or(0);
        let nodes: BTreeSet<NodeIndex> = self.inboxes.keys().copied().collect();
        for one in &nodes {
            for other in nodes.range(..*one) {
                if group(one) != group(other) && self.reach(*one, *other) {
                    self.meet(*one, *other);
                }
            }
        }
    }

    fn put(&mut self, to: NodeIndex, at: Instant, event: Event<M>) {
        self.sequence = self.sequence.saturating_add(1);
        let sequence = self.sequence;
        if let Some(inbox) = self.inboxes.get(&to) {
            inbox.lock().push(Reverse(Waiting { at, sequence, event }));
            inbox.news.notify_one();
        }
    }
}

impl<M> Inbox<M> {
    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<Waiting<M>>>> {
        self.waiting.lock().expect("nothing that holds an inbox can panic")
    }
}

/// What is to be found in an inbox.
enum Taken<M> {
    /// Something that has arrived.
    Event(Event<M>),
    /// Nothing until then.
    Until(Instant),
    /// Nothing on its way.
    Nothing,
}

/// A node's connection to the network.
#[derive(Clone, Debug)]
pub struct Endpoint<M> {
    network: Network<M>,
    index: NodeIndex,
    inbox: Arc<Inbox<M>>,
}

impl<M: Message> Endpoint<M> {
    /// The node's own place.
    pub fn index(&self) -> NodeIndex {
        self.index
    }

    /// The nodes that can be reached.
    pub fn peers(&self) -> Vec<NodeIndex> {
        self.network.lock().peers(self.index)
    }

    /// Disconnects the node, where it has not been connected anew.
    pub fn leave(&self) {
        let mut state = self.network.lock();
        if state.inboxes.get(&self.index).is_some_and(|inbox| Arc::ptr_eq(inbox, &self.inbox)) {
            state.inboxes.remove(&self.index);
        }
    }

    /// Sends to one node. Whether it arrives is not known.
    pub fn send(&self, to: NodeIndex, message: M) {
        self.network.send(self.index, to, message);
    }

    /// Sends to all nodes that can be reached but `except`, which has it already.
    pub fn spread(&self, message: &M, except: Option<NodeIndex>) {
        for peer in self.peers() {
            if Some(peer) != except {
                self.send(peer, message.clone());
            }
        }
    }

    /// Waits for what arrives next. To be called by one task only. Nothing is lost where the call is dropped.
    pub async fn receive(&self) -> Event<M> {
        loop {
            match self.take() {
                Taken::Event(event) => return event,
                Taken::Until(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.inbox.news.notified() => {}
                },
                Taken::Nothing => self.inbox.news.notified().await,
            }
        }
    }

    fn take(&self) -> Taken<M> {
        loop {
            let mut waiting = self.inbox.lock();
            match waiting.peek() {
                Some(Reverse(next)) if next.at > Instant::now() => return Taken::Until(next.at),
                _ => {}
            }
            let Some(Reverse(Waiting { event, .. })) = waiting.pop() else { return Taken::Nothing };
            drop(waiting);
            if self.arrives(&event) {
                return Taken::Event(event);
            }
        }
    }

    /// Whether the link was not cut meanwhile. What a node sent before it died arrives.
    fn arrives(&self, event: &Event<M>) -> bool {
        let state = self.network.lock();
        match event {
            Event::Message { from, .. } => state.group(*from) == state.group(self.index),
            Event::Met(peer) => state.reach(self.index, *peer),
        }
    }
}

#[cfg(test)]
mod tests;
