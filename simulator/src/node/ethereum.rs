//! A simulated Ethereum node: real EVM execution, geth's JSON-RPC.
//!
//! - `engine`: the node as a deterministic state machine, rebuilt from its journal (`record`) at start;
//! - `block`, `executor`, `state`: what a block is, how it is executed by `revm`, and what it leaves;
//! - `chain`, `finality`: the block tree with the node's branch, and votes on what never leaves it;
//! - `mempool`: what waits for a block, by geth's rules;
//! - `call`, `simulate`, `trace`, `fees`, `filter`: execution without effect, price suggestions, logs;
//! - `dialect`, `answer`, `args`, `sight`: geth's method table and JSON shapes, and what they are about;
//! - `subscribe`: notifications over WebSockets;
//! - `control`, `faucet`: blocks on demand and money;
//! - `host`: lock, journal and clock around the engine;
//! - `gossip`: transactions, blocks and votes from and to the other nodes; `member`: the node in its cluster.
//!
//! Blocks have real headers: transaction, receipt and state roots are those of the Merkle Patricia tries, the base fee follows
//! EIP-1559 (or is forced above it), the rules are Prague's. Left out: blobs (EIP-4844), withdrawals and the system contracts of the
//! beacon chain, `eth_getProof`, `eth_createAccessList`. The state can be read up to 128 blocks back. Two blocks never share a second:
//! with an interval below one second the chain's time runs ahead of the clock.

mod answer;
mod args;
mod block;
mod call;
mod chain;
mod control;
mod dialect;
mod engine;
mod executor;
mod faucet;
mod fees;
mod filter;
mod finality;
mod gossip;
mod host;
mod member;
mod mempool;
mod record;
mod sight;
mod simulate;
mod state;
mod subscribe;
mod trace;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

pub use self::block::{BENEFICIARY, BLOCK_GAS_LIMIT, INITIAL_BASE_FEE};
pub use self::call::GAS_CAP;
pub use self::chain::KEPT_STATES;
pub use self::faucet::{Coin, DEMO_TOKEN};
pub use self::gossip::Message;
pub use self::mempool::{CAPACITY, TxError};
pub use self::record::ReplayError;

use self::dialect::Geth;
use self::host::Host;
use crate::clock::Clock;
use crate::cluster::Seat;
use crate::journal::JournalError;
use crate::rpc::{CancellationToken, ListenError, RpcServer, serve_behind};
use crate::topology::ChainKind;

/// How a node runs.
#[derive(Clone, Debug)]
pub struct EthereumConfig {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// The folder of its journal; `None` keeps the chain in memory only.
    pub dir: Option<PathBuf>,
    /// The time between blocks; `None` makes blocks only on demand.
    pub block_interval: Option<Duration>,
    /// The EIP-155 chain number.
    pub chain_id: u64,
    /// How many blocks the finalized block is behind the head (about 64 on the main network). The safe block is half as far. Where
    /// there are several nodes both wait for the votes of two thirds of them.
    pub finality_depth: u64,
}

impl Default for EthereumConfig {
    /// Any free loopback port, in memory, blocks on demand, chain 31337, final after four blocks.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dir: None,
            block_interval: None,
            chain_id: 31_337,
            finality_depth: 4,
        }
    }
}

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The journal can't be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal can't be written.
    #[error("can't write the journal: {0}")]
    Write(#[from] std::io::Error),
    /// The journal holds no chain that this node could continue.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The replay was broken off by a bug.
    #[error("the journal's replay crashed; report it with the journal")]
    Crashed,
}

/// Why a node can't do what it was told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The mempool refuses the transaction.
    #[error(transparent)]
    Refused(#[from] TxError),
    /// A string that is no address.
    #[error("{0:?} is no address; write 0x and 40 hexadecimal digits")]
    Address(String),
    /// A token that isn't there.
    #[error("there is no contract at {0}")]
    NoContract(Address),
    /// The token refused to mint.
    #[error("the faucet's transaction {0} was reverted; the token must have an open mint(address,uint256)")]
    Reverted(B256),
    /// Blocks are so full that the faucet didn't get in.
    #[error("the faucet's transaction {0} waits for room in a block; mine more of them")]
    NotMined(B256),
    /// Blocks to be replaced that can't leave the chain any more.
    #[error(
        "can't replace {depth} blocks: only the newest {limit} can leave the chain; ask for fewer, or set a greater finality_depth"
    )]
    TooDeep {
        /// How many were to be replaced.
        depth: u32,
        /// How many can be.
        limit: u64,
    },
    /// The node has stopped or is about to.
    #[error("the node has stopped")]
    Stopped,
}

/// A string that names no coin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no asset; write native, or the token's contract as 0x… or erc20:0x…")]
pub struct CoinError(String);

impl FromStr for Coin {
    type Err = CoinError;

    fn from_str(text: &str) -> Result<Self, CoinError> {
        if text == "native" {
            return Ok(Self::Ether);
        }
        let contract = text.strip_prefix("erc20:").unwrap_or(text);
        contract.parse().map(Self::Token).map_err(|_| CoinError(text.chars().take(100).collect()))
    }
}

/// A running node.
#[derive(Debug)]
pub struct EthereumNode {
    host: Arc<Host>,
    server: RpcServer,
    producer: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl EthereumNode {
    /// Starts a node, which continues the chain in its folder. It runs until `shutdown` is cancelled, and cancels it itself
    /// where it can't go on.
    ///
    /// # Errors
    /// Where the journal is unusable or the address taken.
    pub async fn start(
        config: EthereumConfig,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let interval = config.block_interval;
        let node = Self::launch(config, Seat::alone(ChainKind::Ethereum, clock, shutdown.clone())).await?;
        let producer = interval.map(|interval| tokio::spawn(produce(Arc::clone(&node.host), interval, shutdown)));
        *node.producer.lock().unwrap_or_else(PoisonError::into_inner) = producer;
        Ok(node)
    }

    /// Starts a node in its seat. It makes blocks only when it is told to.
    async fn launch(config: EthereumConfig, seat: Seat<Message>) -> Result<Self, StartError> {
        let EthereumConfig { listen, dir, block_interval: _, chain_id, finality_depth } = config;
        let (gate, shutdown, endpoint) = (seat.gate.clone(), seat.shutdown.clone(), seat.endpoint.clone());
        let open = move || Host::open(dir.as_deref(), chain_id, finality_depth, seat);
        let host = tokio::task::spawn_blocking(open).await.map_err(|_| StartError::Crashed)??;
        let host = Arc::new(host);
        let server = match serve_behind(listen, Arc::new(Geth(host.clone())), shutdown, gate).await {
            Ok(server) => server,
            Err(error) => {
                host.close();
                return Err(error.into());
            }
        };
        let listener = endpoint.map(|endpoint| tokio::spawn(gossip::listen(Arc::clone(&host), endpoint)));
        Ok(Self { host, server, producer: Mutex::new(None), listener: Mutex::new(listener) })
    }

    /// The endpoint to give a client.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The address that is listened on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Makes blocks at once. Returns the number of the last one.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub async fn mine(&self, blocks: u32) -> Result<u64, ControlError> {
        self.run(move |host| {
            host.mine(blocks)?;
            Ok(host.engine()?.chain().head().header.number)
        })
        .await
    }

    /// Takes a signed transaction into the mempool, in its EIP-2718 form, and tells the other nodes. Returns its hash.
    ///
    /// # Errors
    /// geth's reason for refusing it, or where the node has stopped.
    pub async fn submit(&self, raw: Bytes) -> Result<B256, ControlError> {
        self.run(move |host| host.submit(&raw)).await
    }

    /// Lets the faucet pay `amount` (wei, or the token's base units) to `address`, and makes the block that the payment is in.
    /// A token is minted. Returns the transaction's hash.
    ///
    /// # Errors
    /// Where the address is none, the token has no open `mint(address,uint256)`, or the node has stopped.
    pub async fn fund(&self, address: &str, amount: U256, coin: Coin) -> Result<B256, ControlError> {
        let to = address.parse().map_err(|_| ControlError::Address(address.chars().take(100).collect()))?;
        self.run(move |host| host.fund(to, amount, coin)).await
    }

    /// The contract of the ERC-20 that the chain starts with: `Portcullis Demo Dollar`, 6 decimals.
    pub fn demo_token(&self) -> Address {
        DEMO_TOKEN
    }

    /// The account that the faucet pays from.
    pub fn faucet(&self) -> Address {
        self.host.genesis().faucet(self.host.role().node).address()
    }

    /// Waits until the node has stopped after `shutdown` was cancelled. Its journal is free then.
    pub async fn stopped(self) {
        self.ended().await;
    }

    async fn ended(&self) {
        self.server.stopped().await;
        for task in [&self.producer, &self.listener] {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // A panic in the task has been reported by the runtime; there is nothing left to wait for.
                let _ = task.await;
            }
        }
        self.host.close();
    }

    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Host) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, ControlError> {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || act(&host)).await.unwrap_or(Err(ControlError::Stopped))
    }
}

/// Makes a block whenever `interval` has passed.
async fn produce(host: Arc<Host>, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let host = host.clone();
        match tokio::task::spawn_blocking(move || host.seal(None)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return,
            Err(error) => {
                tracing::error!(%error, "a simulated Ethereum node can't make blocks; it stops");
                shutdown.cancel();
                return;
            }
        }
    }
}
