//! The nodes of one chain: started together, crashed and restarted one by one, making blocks in turn.
//!
//! A chain joins by implementing [`ChainNode`]. Each of its nodes is given a [`Seat`]: its clock, its connection to the others, and
//! what faults hold there. The cluster decides who makes the next block: in each group of nodes that reach each other one of them, by
//! the world's seed.

mod produce;
mod seat;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::seat::{Seat, SkewedClock};
use crate::clock::Clock;
use crate::fault::Faults;
use crate::fault::rule::Fault;
use crate::network::{Conditions, Endpoint, Message, Network};
use crate::rpc::gate::{Control, Gate};
use crate::topology::{ChainKind, NodeId, NodeIndex};

/// A node that can be one of several.
pub trait ChainNode: Send + Sync + Sized + 'static {
    /// Its chain.
    const CHAIN: ChainKind;
    /// How it runs.
    type Config: Clone + Send + Sync + 'static;
    /// What it says to the others.
    type Message: Message;
    /// Why it doesn't start.
    type StartError: std::error::Error + Send + Sync + 'static;

    /// The configuration of the node at `index`, from that of the chain: its own port and folder. The first node's is the
    /// chain's own.
    fn placed(config: &Self::Config, index: NodeIndex) -> Self::Config;

    /// The same configuration, listening at `addr`: where the node listened before it crashed.
    fn listening(config: &Self::Config, addr: SocketAddr) -> Self::Config;

    /// The time between blocks that the cluster makes. `None`: only on demand, or the node makes them itself.
    fn block_interval(config: &Self::Config) -> Option<Duration>;

    /// Starts the node in its seat: resumes from its journal, or begins the chain.
    fn open(
        config: Self::Config,
        seat: Seat<Self::Message>,
    ) -> impl Future<Output = Result<Self, Self::StartError>> + Send;

    /// Where it listens.
    fn listens(&self) -> SocketAddr;

    /// What all nodes of the chain must begin with (such as the time of the first block), for those that start after this one.
    fn origin(&self) -> Option<u64>;

    /// Makes blocks. Returns their ids.
    fn produce(&self, blocks: u32) -> impl Future<Output = Result<Vec<String>, NodeError>> + Send;

    /// Replaces the newest `depth` blocks by a branch that is one longer. Returns its blocks' ids.
    fn reorganize(&self, depth: u32) -> impl Future<Output = Result<Vec<String>, NodeError>> + Send;

    /// Empties the mempool. Returns how many transactions were in it.
    fn evict(&self) -> impl Future<Output = Result<u64, NodeError>> + Send;

    /// Whether the chain knows a fault.
    fn supports(fault: &Fault) -> bool;

    /// Waits until it has stopped after its seat's `shutdown` was cancelled. Its folder is free then.
    fn ended(&self) -> impl Future<Output = ()> + Send;
}

/// What a node says that can't do what it was asked for.
pub type NodeError = Box<dyn std::error::Error + Send + Sync>;

/// A chain's node can't do this at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated {chain} node can't {what}; use it on another chain")]
pub struct Unsupported {
    /// The chain.
    pub chain: ChainKind,
    /// What was asked for.
    pub what: &'static str,
}

/// What a world gives each of its clusters.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) control: Arc<dyn Control>,
    pub(crate) shutdown: CancellationToken,
}

/// Why a cluster can't do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// There is no such node.
    #[error("there is no node {0}; they are counted from 0")]
    NoSuchNode(NodeId),
    /// The node has crashed.
    #[error("node {0} is down; restart it first")]
    Down(NodeId),
    /// The node runs.
    #[error("node {0} runs already")]
    Up(NodeId),
    /// All nodes have crashed.
    #[error("all {0} nodes are down; restart one first")]
    AllDown(ChainKind),
    /// No nodes were asked for.
    #[error("a {0} chain needs at least one node")]
    NoNodes(ChainKind),
    /// What the node says.
    #[error("{0}: {1}")]
    Node(NodeId, #[source] NodeError),
}

/// The nodes of one chain.
pub struct Cluster<N: ChainNode> {
    slots: Vec<Slot<N>>,
    network: Network<N::Message>,
    ground: Ground,
    interval: watch::Sender<Option<Duration>>,
    producer: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// A node's place.
struct Slot<N: ChainNode> {
    id: NodeId,
    /// How it is restarted: where it listened before.
    config: N::Config,
    origin: Option<u64>,
    /// The node, or what is left of it while it is down.
    node: RwLock<Arc<N>>,
    /// How it is stopped; `None` while it is down.
    life: Mutex<Option<Life>>,
}

/// What ends a node.
struct Life {
    shutdown: CancellationToken,
    killed: CancellationToken,
}

impl Life {
    /// Whether nothing has ended the node yet. It ends itself where it can't go on.
    fn lasts(life: Option<&Self>) -> bool {
        life.is_some_and(|life| !life.shutdown.is_cancelled())
    }
}

impl<N: ChainNode> std::fmt::Debug for Cluster<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("chain", &N::CHAIN).field("nodes", &self.slots.len()).finish_non_exhaustive()
    }
}

impl<N: ChainNode> Cluster<N> {
    /// Starts `nodes` nodes, resuming what is in their folders. Where one doesn't start, the others are stopped again.
    pub(crate) async fn start(
        config: &N::Config,
        nodes: u16,
        conditions: Conditions,
        ground: Ground,
    ) -> Result<Arc<Self>, StartError<N::StartError>> {
        if nodes == 0 {
            return Err(StartError::Cluster(ClusterError::NoNodes(N::CHAIN)));
        }
        let network = Network::new(N::CHAIN, Arc::clone(&ground.faults), conditions);
        let mut slots: Vec<Slot<N>> = Vec::new();
        for index in (0..nodes).map(NodeIndex) {
            let id = NodeId { chain: N::CHAIN, index };
            let config = N::placed(config, index);
            let origin = slots.first().and_then(|slot| slot.node().origin());
            let (seat, life) = seat(id, &ground, Some(&network), origin, nodes);
            match N::open(config.clone(), seat).await {
                Ok(node) => slots.push(Slot {
                    id,
                    config: N::listening(&config, node.listens()),
                    origin: origin.or_else(|| node.origin()),
                    node: RwLock::new(Arc::new(node)),
                    life: Mutex::new(Some(life)),
                }),
                Err(error) => {
                    for slot in &slots {
                        slot.stop(false).await;
                    }
                    return Err(StartError::Node(error));
                }
            }
        }
        let (interval, _) = watch::channel(N::block_interval(config));
        let cluster = Arc::new(Self { slots, network, ground, interval, producer: std::sync::Mutex::new(None) });
        let producer = tokio::spawn(produce::produce(
            Arc::downgrade(&cluster),
            cluster.interval.subscribe(),
            cluster.ground.shutdown.clone(),
        ));
        *cluster.producer.lock().unwrap_or_else(PoisonError::into_inner) = Some(producer);
        Ok(cluster)
    }

    /// The number of nodes, running or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none. There always is one.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The node at a place. One that is down answers that it has stopped.
    ///
    /// # Errors
    /// Where there is no such place.
    pub fn node(&self, index: NodeIndex) -> Result<Arc<N>, ClusterError> {
        self.slot(index).map(Slot::node)
    }

    /// The first node.
    pub fn first(&self) -> Arc<N> {
        self.slots.first().map(Slot::node).expect("a cluster has at least one node")
    }

    /// All nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = Arc<N>> + '_ {
        self.slots.iter().map(Slot::node)
    }

    /// The network between them.
    pub fn network(&self) -> &Network<N::Message> {
        &self.network
    }

    /// Ends a node as `kill -9` does: its connections break, what it was about to say is not said. Its journal stays.
    ///
    /// # Errors
    /// Where there is no such node, or it is down already.
    pub async fn crash(&self, index: NodeIndex) -> Result<(), ClusterError> {
        let slot = self.slot(index)?;
        self.network.leave(index);
        if slot.stop(true).await { Ok(()) } else { Err(ClusterError::Down(slot.id)) }
    }

    /// Starts a node that has crashed, from its journal, where it listened before. It catches up with the others.
    ///
    /// # Errors
    /// Where there is no such node, it runs, or it doesn't start.
    pub async fn restart(&self, index: NodeIndex) -> Result<(), ClusterError> {
        let slot = self.slot(index)?;
        let mut life = slot.life.lock().await;
        if Life::lasts(life.as_ref()) {
            return Err(ClusterError::Up(slot.id));
        }
        if self.ground.shutdown.is_cancelled() {
            return Err(ClusterError::Down(slot.id));
        }
        slot.end(life.take(), true).await;
        let size = u16::try_from(self.len()).unwrap_or(u16::MAX);
        let (seat, new_life) = seat(slot.id, &self.ground, Some(&self.network), slot.origin, size);
        match N::open(slot.config.clone(), seat).await {
            Ok(node) => {
                *slot.node.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(node);
                *life = Some(new_life);
                Ok(())
            }
            Err(error) => {
                self.network.leave(index);
                Err(ClusterError::Node(slot.id, Box::new(error)))
            }
        }
    }

    /// Which nodes run.
    pub async fn up(&self) -> Vec<NodeIndex> {
        let mut up = Vec::new();
        for slot in &self.slots {
            if slot.runs().await {
                up.push(slot.id.index);
            }
        }
        up
    }

    /// Lets a node make blocks: the one at `index`, or the first that runs.
    ///
    /// # Errors
    /// Where it is down or can't.
    pub async fn mine(&self, index: Option<NodeIndex>, blocks: u32) -> Result<Vec<String>, ClusterError> {
        let slot = self.running(index).await?;
        slot.node().produce(blocks).await.map_err(|error| ClusterError::Node(slot.id, error))
    }

    /// Lets a node replace its newest `depth` blocks by a longer branch, which the others follow.
    ///
    /// # Errors
    /// Where it is down, or its chain is not as long.
    pub async fn reorg(&self, index: Option<NodeIndex>, depth: u32) -> Result<Vec<String>, ClusterError> {
        let slot = self.running(index).await?;
        slot.node().reorganize(depth).await.map_err(|error| ClusterError::Node(slot.id, error))
    }

    /// Empties a node's mempool.
    ///
    /// # Errors
    /// Where it is down or can't.
    pub async fn evict(&self, index: NodeIndex) -> Result<u64, ClusterError> {
        let slot = self.running(Some(index)).await?;
        slot.node().evict().await.map_err(|error| ClusterError::Node(slot.id, error))
    }

    /// Sets the time between blocks. `None`: only on demand.
    pub fn set_block_interval(&self, interval: Option<Duration>) {
        self.interval.send_replace(interval);
    }

    /// Stops all nodes and waits until their folders are free.
    pub async fn stopped(&self) {
        for slot in &self.slots {
            slot.stop(false).await;
        }
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(producer) = producer {
            // It only makes blocks: there is nothing to be lost of it.
            producer.abort();
            let _ = producer.await;
        }
    }

    fn slot(&self, index: NodeIndex) -> Result<&Slot<N>, ClusterError> {
        let missing = ClusterError::NoSuchNode(NodeId { chain: N::CHAIN, index });
        self.slots.get(usize::from(index.0)).ok_or(missing)
    }

    async fn running(&self, index: Option<NodeIndex>) -> Result<&Slot<N>, ClusterError> {
        let Some(index) = index else {
            for slot in &self.slots {
                if slot.runs().await {
                    return Ok(slot);
                }
            }
            return Err(ClusterError::AllDown(N::CHAIN));
        };
        let slot = self.slot(index)?;
        if slot.runs().await { Ok(slot) } else { Err(ClusterError::Down(slot.id)) }
    }
}

impl<N: ChainNode> Slot<N> {
    fn node(&self) -> Arc<N> {
        Arc::clone(&self.node.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn runs(&self) -> bool {
        Life::lasts(self.life.lock().await.as_ref())
    }

    /// Ends the node, at once or after what it is doing. `false` where it is down already.
    async fn stop(&self, at_once: bool) -> bool {
        let mut life = self.life.lock().await;
        self.end(life.take(), at_once).await
    }

    async fn end(&self, life: Option<Life>, at_once: bool) -> bool {
        let Some(Life { shutdown, killed }) = life else { return false };
        if at_once {
            killed.cancel();
        }
        shutdown.cancel();
        self.node().ended().await;
        // Connections that a client keeps open have no one behind them any more.
        killed.cancel();
        true
    }
}

/// Why a cluster doesn't start.
#[derive(Debug)]
pub(crate) enum StartError<E> {
    /// A node's reason.
    Node(E),
    /// The cluster's own.
    Cluster(ClusterError),
}

fn seat<M: Message>(
    id: NodeId,
    ground: &Ground,
    network: Option<&Network<M>>,
    origin: Option<u64>,
    size: u16,
) -> (Seat<M>, Life) {
    let (shutdown, killed) = (ground.shutdown.child_token(), CancellationToken::new());
    let gate = Gate {
        node: id,
        faults: Arc::clone(&ground.faults),
        control: Arc::clone(&ground.control),
        killed: killed.clone(),
    };
    let clock = SkewedClock::new(Arc::clone(&ground.clock), Arc::clone(&ground.faults), id);
    let endpoint: Option<Endpoint<M>> = network.map(|network| network.join(id.index));
    let seat =
        Seat { id, clock: Arc::new(clock), gate: Some(gate), endpoint, origin, size, shutdown: shutdown.clone() };
    (seat, Life { shutdown, killed })
}

/// A cluster of any chain, as it is commanded.
pub trait Commands: Send + Sync + 'static {
    /// Its chain.
    fn chain(&self) -> ChainKind;
    /// Its nodes' endpoints, in order.
    fn urls(&self) -> Vec<String>;
    /// Which of them run.
    fn up(&self) -> BoxFuture<'_, Vec<NodeIndex>>;
    /// [`Cluster::crash`].
    fn crash(&self, index: NodeIndex) -> BoxFuture<'_, Result<(), ClusterError>>;
    /// [`Cluster::restart`].
    fn restart(&self, index: NodeIndex) -> BoxFuture<'_, Result<(), ClusterError>>;
    /// [`Cluster::mine`].
    fn mine(&self, index: Option<NodeIndex>, blocks: u32) -> BoxFuture<'_, Result<Vec<String>, ClusterError>>;
    /// [`Cluster::reorg`].
    fn reorg(&self, index: Option<NodeIndex>, depth: u32) -> BoxFuture<'_, Result<Vec<String>, ClusterError>>;
    /// [`Cluster::evict`].
    fn evict(&self, index: NodeIndex) -> BoxFuture<'_, Result<u64, ClusterError>>;
    /// [`Network::partition`]. No groups: all links are mended.
    fn partition(&self, groups: &[Vec<NodeIndex>]);
    /// [`Network::groups`].
    fn groups(&self) -> Vec<Vec<NodeIndex>>;
    /// Sets the conditions of all links, or of one.
    fn set_conditions(&self, link: Option<(NodeIndex, NodeIndex)>, conditions: Conditions);
    /// [`Cluster::set_block_interval`].
    fn set_block_interval(&self, interval: Option<Duration>);
    /// [`ChainNode::supports`].
    fn supports(&self, fault: &Fault) -> bool;
}

impl<N: ChainNode> Commands for Cluster<N> {
    fn chain(&self) -> ChainKind {
        N::CHAIN
    }

    fn urls(&self) -> Vec<String> {
        self.nodes().map(|node| format!("http://{}", node.listens())).collect()
    }

    fn up(&self) -> BoxFuture<'_, Vec<NodeIndex>> {
        Box::pin(self.up())
    }

    fn crash(&self, index: NodeIndex) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(self.crash(index))
    }

    fn restart(&self, index: NodeIndex) -> BoxFuture<'_, Result<(), ClusterError>> {
        Box::pin(self.restart(index))
    }

    fn mine(&self, index: Option<NodeIndex>, blocks: u32) -> BoxFuture<'_, Result<Vec<String>, ClusterError>> {
        Box::pin(self.mine(index, blocks))
    }

    fn reorg(&self, index: Option<NodeIndex>, depth: u32) -> BoxFuture<'_, Result<Vec<String>, ClusterError>> {
        Box::pin(self.reorg(index, depth))
    }

    fn evict(&self, index: NodeIndex) -> BoxFuture<'_, Result<u64, ClusterError>> {
        Box::pin(self.evict(index))
    }

    fn partition(&self, groups: &[Vec<NodeIndex>]) {
        self.network.partition(groups);
    }

    fn groups(&self) -> Vec<Vec<NodeIndex>> {
        self.network.groups()
    }

    fn set_conditions(&self, link: Option<(NodeIndex, NodeIndex)>, conditions: Conditions) {
        match link {
            Some((from, to)) => self.network.set_link(from, to, Some(conditions)),
            None => self.network.set_conditions(conditions),
        }
    }

    fn set_block_interval(&self, interval: Option<Duration>) {
        self.set_block_interval(interval);
    }

    fn supports(&self, fault: &Fault) -> bool {
        N::supports(fault)
    }
}

/// The folder of the node at `index`: the chain's own for the first, so that a world of one node resumes what it was.
pub fn folder(chain: Option<&PathBuf>, index: NodeIndex) -> Option<PathBuf> {
    let chain = chain?;
    if index.0 == 0 {
        return Some(chain.clone());
    }
    let name = chain.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Some(chain.with_file_name(format!("{name}-{index}")))
}

/// The address of the node at `index`: the chain's own for the first, the next ports for the others, any free port where 0 was asked for.
pub fn address(chain: SocketAddr, index: NodeIndex) -> SocketAddr {
    let port = if chain.port() == 0 { 0 } else { chain.port().checked_add(index.0).unwrap_or(0) };
    SocketAddr::new(chain.ip(), port)
}
