//! The simulated Bitcoin node: regtest's rules behind bitcoind's RPC.
//!
//! - [`engine`]: the state machine, made of [`chain`] (block tree and coins) and [`mempool`] (Core 28's relay policy);
//! - [`block`], [`rules`], [`script`], [`policy`], [`reject`]: what is checked, and Core's words for what fails;
//! - [`faucet`]: coins for whoever asks;
//! - `gossip`: blocks and transactions from and to the other nodes; `member`: the node in its cluster;
//! - `dialect`: bitcoind's method table, with `amount` and `cookie`.
//!
//! A restart resumes where the node was killed: the state is the fold of `journal.jsonl` in the node's folder.

mod amount;
pub mod block;
pub mod chain;
mod cookie;
mod dialect;
pub mod engine;
pub mod faucet;
mod gossip;
mod member;
pub mod mempool;
pub mod policy;
pub mod reject;
pub mod rules;
pub mod script;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::{Address, Amount, Block, BlockHash, Network, ScriptBuf, Transaction, Txid};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use self::chain::UnknownBlock;
use self::cookie::Cookie;
use self::engine::{Engine, Mined, Raw, Record, ReplayError};
use self::faucet::FaucetEmpty;
use self::policy::Policy;
use self::reject::Reject;
use crate::clock::Clock;
use crate::cluster::Seat;
use crate::journal::{Journal, JournalError};
use crate::network::{Endpoint, Gossip};
use crate::rpc::{CancellationToken, ListenError, RpcServer, serve_behind};
use crate::topology::{ChainKind, NodeIndex};

/// What nodes say to each other.
type Message = Gossip<Arc<Transaction>, Arc<Block>, BlockHash>;

/// The journal's file in the node's folder.
const JOURNAL: &str = "journal.jsonl";
/// Blocks mined when a node is created: the first 31 coinbases can be spent by the next block.
const FIRST_BLOCKS: u64 = 130;
/// Seconds between the first blocks' times.
const FIRST_SPACING: u64 = 600;
/// Where in a coinbase's salt the node's place is.
const NODE_SALT: u32 = 48;
/// Where in a coinbase's salt a reorganisation's number is.
const REORG_SALT: u32 = 24;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct BitcoinConfig {
    /// The RPC address. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where the journal and the `.cookie` file are. Without a folder nothing is kept and no credentials are asked for.
    pub dir: Option<PathBuf>,
    /// The time between blocks. `None`: only on demand.
    pub block_interval: Option<Duration>,
    /// What is relayed.
    pub policy: Policy,
}

impl Default for BitcoinConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 0).into(), dir: None, block_interval: None, policy: Policy::default() }
    }
}

/// Why a node can't do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BitcoinError {
    /// The journal can't be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record of the journal doesn't fit the ones before it.
    #[error("record {number} of the journal doesn't fit: {reason}; move the file away to start a fresh chain")]
    Replay {
        /// The record's number, from 1.
        number: usize,
        /// What is wrong with it.
        reason: ReplayError,
    },
    /// The journal can't be written. The node stops.
    #[error("can't write the journal, so the node stops: {0}")]
    Write(std::io::Error),
    /// The cookie can't be written.
    #[error("can't write the cookie: {0}")]
    Cookie(std::io::Error),
    /// The RPC address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The node has been stopped.
    #[error("the node has been stopped")]
    Stopped,
    /// No address of regtest.
    #[error("{0:?} is no regtest address")]
    Address(String),
    /// The faucet is empty.
    #[error(transparent)]
    Faucet(#[from] FaucetEmpty),
    /// A transaction or a block is invalid.
    #[error("{0}")]
    Rejected(Reject),
    /// A transaction pays more than its sender allowed.
    #[error("Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)")]
    FeeAboveLimit,
    /// No such block.
    #[error(transparent)]
    UnknownBlock(#[from] UnknownBlock),
    /// More blocks to be replaced than there are.
    #[error("can't replace {depth} blocks of a chain of {height}; ask for fewer")]
    TooDeep {
        /// How many were to be replaced.
        depth: u32,
        /// How many there are.
        height: u32,
    },
}

/// A running node.
#[derive(Debug)]
pub struct BitcoinNode {
    node: Arc<Node>,
    server: RpcServer,
    producer: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl BitcoinNode {
    /// Starts a node: resumes from the journal, or creates a chain with a filled faucet. It runs until `shutdown` is cancelled.
    ///
    /// # Errors
    /// Where the folder can't be used or the address can't be listened on.
    pub async fn start(
        config: BitcoinConfig,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, BitcoinError> {
        let every = config.block_interval;
        let seat = Seat::alone(ChainKind::Bitcoin, clock, shutdown.child_token());
        let node = Self::launch(config, seat).await?;
        let producer =
            every.map(|every| tokio::spawn(produce(Arc::clone(&node.node), every, node.node.shutdown.clone())));
        *node.producer.lock().unwrap_or_else(PoisonError::into_inner) = producer;
        Ok(node)
    }

    /// Starts a node in its seat. It makes blocks only when it is told to.
    async fn launch(config: BitcoinConfig, seat: Seat<Message>) -> Result<Self, BitcoinError> {
        let (gate, shutdown, endpoint) = (seat.gate.clone(), seat.shutdown.clone(), seat.endpoint.clone());
        let listen = config.listen;
        // Reading a long journal takes seconds.
        let opened = tokio::task::spawn_blocking(move || Node::open(&config, seat));
        let node = Arc::new(opened.await.map_err(|_| BitcoinError::Stopped)??);
        let server = match serve_behind(listen, Arc::clone(&node), shutdown, gate).await {
            Ok(server) => server,
            Err(error) => {
                node.close();
                return Err(error.into());
            }
        };
        let listener = endpoint.map(|endpoint| tokio::spawn(gossip::listen(Arc::clone(&node), endpoint)));
        Ok(Self { node, server, producer: Mutex::new(None), listener: Mutex::new(listener) })
    }

    /// The RPC endpoint.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The RPC address.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The file with the RPC credentials, `user:password`, where the node has a folder.
    pub fn cookie_file(&self) -> Option<&Path> {
        self.node.cookie.as_ref().map(Cookie::path)
    }

    /// The height of the tip.
    ///
    /// # Errors
    /// Where the node has been stopped.
    pub async fn height(&self) -> Result<u32, BitcoinError> {
        self.node.read(|engine| engine.chain().tip().height)
    }

    /// Mines blocks from the mempool, paying the faucet.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub async fn mine(&self, blocks: u32) -> Result<Vec<BlockHash>, BitcoinError> {
        self.node.mine(blocks, None)
    }

    /// Sends `amount` from the faucet to a regtest address, and mines a block that confirms it.
    ///
    /// # Errors
    /// Where the address is wrong, the amount is dust, or the faucet is empty.
    pub async fn fund(&self, address: &str, amount: Amount) -> Result<Txid, BitcoinError> {
        self.node.fund(address, amount)
    }

    /// Refuses a block and all that build on it: a reorganisation on command.
    ///
    /// # Errors
    /// Where there is no such block.
    pub async fn invalidate(&self, hash: BlockHash) -> Result<(), BitcoinError> {
        self.node.invalidate(hash)
    }

    /// Takes back a block's refusal.
    ///
    /// # Errors
    /// Where there is no such block.
    pub async fn reconsider(&self, hash: BlockHash) -> Result<(), BitcoinError> {
        self.node.reconsider(hash)
    }

    /// Waits until the node has stopped after `shutdown` was cancelled. Its folder is free then.
    pub async fn stopped(self) {
        self.ended().await;
    }

    async fn ended(&self) {
        self.server.stopped().await;
        for task in [&self.producer, &self.listener] {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // A panic there has been reported by the runtime.
                let _ = task.await;
            }
        }
        self.node.close();
    }
}

/// Makes a block every `every`, until the node is stopped.
async fn produce(node: Arc<Node>, every: Duration, shutdown: CancellationToken) {
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {
                if let Err(error) = node.mine(1, None) {
                    tracing::error!(%error, "the simulated bitcoin node makes no more blocks");
                    return;
                }
            }
        }
    }
}

/// What the RPC server and the block producer share.
#[derive(Debug)]
pub(crate) struct Node {
    state: Mutex<Option<State>>,
    clock: Arc<dyn Clock>,
    seat: Seat<Message>,
    cookie: Option<Cookie>,
    started: u64,
    shutdown: CancellationToken,
}

/// How a transaction comes in.
#[derive(Clone, Copy)]
struct Entry {
    /// In seconds since the Unix epoch.
    time: u64,
    /// Whether those that wait can't be replaced.
    pinned: bool,
}

#[derive(Debug)]
struct State {
    engine: Engine,
    journal: Journal<Record>,
}

impl State {
    /// Writes a record and makes its change. The record comes first.
    fn change<T>(&mut self, record: &Record, make: impl FnOnce(&mut Engine) -> T) -> Result<T, BitcoinError> {
        self.journal.append(record).map_err(BitcoinError::Write)?;
        Ok(make(&mut self.engine))
    }

    fn mine(&mut self, mined: Mined) -> Result<BlockHash, BitcoinError> {
        let block = self.engine.assemble(&mined);
        self.engine.test(&block).map_err(BitcoinError::Rejected)?;
        let hash = block.block_hash();
        self.change(&Record::Mined(mined), |engine| engine.accept(block))?.map_err(BitcoinError::Rejected)?;
        Ok(hash)
    }

    /// Takes a block from outside, and tells whether it is on the active branch then.
    fn take_block(&mut self, block: Block) -> Result<bool, BitcoinError> {
        self.engine.chain().admit(&block).map_err(BitcoinError::Rejected)?;
        let hash = block.block_hash();
        let record = Record::Block { raw: Raw(block.clone()) };
        self.change(&record, |engine| engine.accept(block))?.map_err(BitcoinError::Rejected)?;
        let chain = self.engine.chain();
        Ok(chain.get(&hash).is_some_and(|known| chain.is_active(known)))
    }

    /// `max_rate` is in satoshis per 1000 virtual bytes.
    fn submit(&mut self, tx: Arc<Transaction>, entry: Entry, max_rate: Option<u64>) -> Result<Txid, BitcoinError> {
        let Entry { time, pinned } = entry;
        let candidate = self.engine.check(tx, time).map_err(BitcoinError::Rejected)?;
        if pinned && !candidate.replaced.is_empty() {
            let detail = format!("rejecting replacement {}, less fees than conflicting txs", candidate.entry.txid);
            return Err(BitcoinError::Rejected(Reject::with("insufficient fee", detail)));
        }
        if max_rate.is_some_and(|rate| candidate.pays_more_than(rate)) {
            return Err(BitcoinError::FeeAboveLimit);
        }
        let txid = candidate.entry.txid;
        let record = Record::Transaction { raw: Raw(Transaction::clone(&candidate.entry.tx)), time };
        self.change(&record, |engine| engine.enter(candidate))?;
        Ok(txid)
    }
}

impl Node {
    fn open(config: &BitcoinConfig, seat: Seat<Message>) -> Result<Self, BitcoinError> {
        let (clock, shutdown) = (Arc::clone(&seat.clock), seat.shutdown.clone());
        let path = config.dir.as_ref().map(|dir| dir.join(JOURNAL));
        let (journal, records) = Journal::open(path.as_deref())?;
        let mut engine = Engine::new(config.policy, faucet::script());
        for (number, record) in (1..).zip(records) {
            engine.replay(record).map_err(|reason| BitcoinError::Replay { number, reason })?;
        }
        let mut state = State { engine, journal };
        let now = clock.unix_seconds();
        let origin = seat.origin.unwrap_or(now);
        while state.engine.chain().count() <= FIRST_BLOCKS {
            let remaining = FIRST_BLOCKS.saturating_sub(state.engine.chain().count());
            let time = origin.saturating_sub(remaining.saturating_mul(FIRST_SPACING));
            let mined = state.engine.plan(None, time, None);
            state.mine(mined)?;
        }
        state.engine.set_salt(u64::from(seat.id.index.0) << NODE_SALT);
        let cookie = config.dir.as_deref().map(Cookie::write).transpose().map_err(BitcoinError::Cookie)?;
        Ok(Self { state: Mutex::new(Some(state)), clock, seat, cookie, started: now, shutdown })
    }

    /// The state, under what holds at the node.
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        let floor = self.seat.conditions().fee_floor;
        let locked = self.state.lock();
        let mut state = locked.expect("a thread that panicked while it held the state leaves nothing to trust");
        if let Some(state) = state.as_mut() {
            state.engine.set_fee_floor(floor);
        }
        state
    }

    /// How a transaction comes in.
    fn entry(&self) -> Entry {
        Entry { time: self.clock.unix_seconds(), pinned: self.seat.conditions().pinned }
    }

    /// Looks at the state.
    fn read<T>(&self, look: impl FnOnce(&Engine) -> T) -> Result<T, BitcoinError> {
        self.lock().as_ref().map(|state| look(&state.engine)).ok_or(BitcoinError::Stopped)
    }

    /// Changes the state. A node whose journal can't be written stops: its file may end with half a record.
    fn write<T>(&self, change: impl FnOnce(&mut State) -> Result<T, BitcoinError>) -> Result<T, BitcoinError> {
        let mut state = self.lock();
        let result = change(state.as_mut().ok_or(BitcoinError::Stopped)?);
        if matches!(result, Err(BitcoinError::Write(_))) {
            *state = None;
            self.shutdown.cancel();
        }
        result
    }

    /// Gives the journal and the cookie's file back.
    fn close(&self) {
        if self.lock().take().is_some()
            && let Some(cookie) = &self.cookie
        {
            cookie.remove();
        }
    }

    fn mine(&self, blocks: u32, to: Option<&ScriptBuf>) -> Result<Vec<BlockHash>, BitcoinError> {
        let mut hashes = Vec::new();
        for _ in 0..blocks {
            let now = self.clock.unix_seconds();
            let full = self.seat.conditions().full_blocks;
            hashes.push(self.write(|state| {
                let mined = match full {
                    true => state.engine.plan_empty(to.cloned(), now),
                    false => state.engine.plan(to.cloned(), now, None),
                };
                state.mine(mined)
            })?);
            self.announce_block();
        }
        Ok(hashes)
    }

    fn mine_exactly(&self, to: ScriptBuf, transactions: Vec<Transaction>) -> Result<BlockHash, BitcoinError> {
        let now = self.clock.unix_seconds();
        let hash = self.write(|state| {
            let mined = state.engine.plan_exactly(to, now, transactions);
            state.mine(mined)
        })?;
        self.announce_block();
        Ok(hash)
    }

    fn submit(&self, tx: Transaction, max_rate: Option<u64>) -> Result<Txid, BitcoinError> {
        let (tx, entry) = (Arc::new(tx), self.entry());
        let txid = self.write(|state| state.submit(Arc::clone(&tx), entry, max_rate))?;
        self.spread(Gossip::Transaction(tx), None);
        Ok(txid)
    }

    /// Takes a transaction that a peer has told, and tells it on.
    fn relay(&self, tx: &Arc<Transaction>, from: Option<NodeIndex>) -> Result<(), BitcoinError> {
        let entry = self.entry();
        self.write(|state| state.submit(Arc::clone(tx), entry, None))?;
        self.spread(Gossip::Transaction(Arc::clone(tx)), from);
        Ok(())
    }

    /// Takes a block from outside, and tells whether it is on the active branch then.
    fn submit_block(&self, block: Block) -> Result<bool, BitcoinError> {
        let active = self.write(|state| state.take_block(block))?;
        self.announce_block();
        Ok(active)
    }

    /// Takes a block that a peer has told.
    fn take_block(&self, block: &Block) -> Result<(), BitcoinError> {
        self.write(|state| state.take_block(block.clone())).map(drop)
    }

    /// Replaces the newest `depth` blocks by a branch that is one longer and holds nobody's transactions.
    fn reorganize(&self, depth: u32) -> Result<Vec<BlockHash>, BitcoinError> {
        let now = self.clock.unix_seconds();
        let branch = self.write(|state| {
            let chain = state.engine.chain();
            let height = chain.tip().height;
            if depth >= height {
                return Err(BitcoinError::TooDeep { depth, height });
            }
            let number = chain.count();
            let mut other = state.engine.rewound(depth);
            other.set_salt((u64::from(self.seat.id.index.0) << NODE_SALT) | number.wrapping_shl(REORG_SALT));
            let mut branch = Vec::new();
            for _ in 0..=depth {
                let block = other.assemble(&other.plan_empty(None, now));
                branch.push(Arc::new(block.clone()));
                other.accept(block).map_err(BitcoinError::Rejected)?;
            }
            for block in &branch {
                state.take_block(Block::clone(block))?;
            }
            Ok(branch)
        })?;
        let hashes = branch.iter().map(|block| block.block_hash()).collect();
        self.spread(Gossip::Blocks(branch), None);
        Ok(hashes)
    }

    /// Empties the mempool. Returns how many transactions were in it.
    fn evict(&self) -> Result<usize, BitcoinError> {
        self.write(|state| state.change(&Record::Evicted, Engine::evict))
    }

    /// The nodes that can be reached.
    fn peers(&self) -> Vec<NodeIndex> {
        self.seat.endpoint.as_ref().map(Endpoint::peers).unwrap_or_default()
    }

    fn spread(&self, message: Message, except: Option<NodeIndex>) {
        if let Some(endpoint) = &self.seat.endpoint {
            endpoint.spread(&message, except);
        }
    }

    /// Tells the others the newest block.
    fn announce_block(&self) {
        if self.seat.endpoint.is_some()
            && let Ok(block) = self.read(|engine| Arc::clone(&engine.chain().tip().block))
        {
            self.spread(Gossip::Block(block), None);
        }
    }

    /// Tells the others which block is the newest.
    fn announce_tip(&self) {
        if self.seat.endpoint.is_some()
            && let Ok(hash) = self.read(|engine| engine.chain().tip().hash)
        {
            self.spread(Gossip::Tip(hash), None);
        }
    }

    fn fund(&self, address: &str, amount: Amount) -> Result<Txid, BitcoinError> {
        let to = script_of(address)?;
        let entry = self.entry();
        let share = self.seat.endpoint.as_ref().map(|endpoint| endpoint.index().0);
        let (txid, tx) = self.write(|state| {
            let tx = Arc::new(faucet::pay(&state.engine, to, amount, share)?);
            let txid = state.submit(Arc::clone(&tx), entry, None)?;
            let mined = state.engine.plan(None, entry.time, Some(&txid));
            state.mine(mined)?;
            Ok((txid, tx))
        })?;
        self.spread(Gossip::Transaction(tx), None);
        self.announce_block();
        Ok(txid)
    }

    fn invalidate(&self, hash: BlockHash) -> Result<(), BitcoinError> {
        self.write(|state| {
            state.engine.chain().get(&hash).filter(|known| known.height > 0).ok_or(UnknownBlock)?;
            state.change(&Record::Invalidated { hash }, |engine| engine.invalidate(&hash))?.map(drop)?;
            Ok(())
        })?;
        self.announce_tip();
        Ok(())
    }

    fn reconsider(&self, hash: BlockHash) -> Result<(), BitcoinError> {
        self.write(|state| {
            state.engine.chain().get(&hash).ok_or(UnknownBlock)?;
            state.change(&Record::Reconsidered { hash }, |engine| engine.reconsider(&hash))?.map(drop)?;
            Ok(())
        })?;
        self.announce_tip();
        Ok(())
    }
}

/// The script of a regtest address.
fn script_of(address: &str) -> Result<ScriptBuf, BitcoinError> {
    Address::from_str(address)
        .ok()
        .and_then(|address| address.require_network(Network::Regtest).ok())
        .map(|address| address.script_pubkey())
        .ok_or_else(|| BitcoinError::Address(address.chars().take(120).collect()))
}
