//! The simulated solana node: `litesvm` as its runtime, agave's JSON-RPC as its face.
//!
//! A slot is made on an interval or on demand. What is sent waits for the next slot and is executed in it at once.
//! Rent, fees, compute units and logs are the runtime's own; a blockhash is good for 150 blocks; durable nonces work.
//! The state follows from a journal and is rebuilt from it at start. Several nodes lead slots in turn, vote, and roll forks back.
//!
//! - `engine`: the deterministic state machine; `genesis`: what it begins with; `ledger`: what happened; `nonce`,
//!   `token`: the two kinds of account state that it reads itself;
//! - `record`: what the journal keeps;
//! - `validator`: makes the slots, with `queue` and `faucet`;
//! - `consensus`: what the nodes agree on, made of `tree` (open blocks and their branches) and `votes`;
//! - `gossip`: `block`s, transactions and votes from and to the other nodes; `member`: the node in its cluster;
//! - `dialect`: the JSON-RPC.

mod block;
mod consensus;
mod dialect;
mod engine;
mod faucet;
mod genesis;
mod gossip;
mod ledger;
mod member;
mod nonce;
mod queue;
mod record;
mod token;
mod tree;
mod validator;
mod votes;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Signature, Signer};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::block::Message;
use self::dialect::SolanaDialect;
pub use self::engine::ReplayError;
pub use self::faucet::FaucetError;
pub use self::validator::{ProduceError, ReorgError, RestoreError, TooDeep};
use self::validator::{Rules, Validator};
use crate::clock::Clock;
use crate::cluster::Seat;
use crate::rpc::{CancellationToken, ListenError, RpcServer, serve_behind};
use crate::seed::Probability;
use crate::topology::ChainKind;

/// How a node is started.
#[derive(Clone, Debug)]
pub struct SolanaConfig {
    /// Where the JSON-RPC listens. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where else subscriptions are served, which the JSON-RPC's own address has too: agave has them on the next port. In a world, the
    /// next port it is, where the JSON-RPC's is given.
    pub websocket: Option<SocketAddr>,
    /// The folder of the journal. None: nothing outlives the process.
    pub dir: Option<PathBuf>,
    /// The time from slot to slot. None: slots are made on demand only.
    pub block_interval: Option<Duration>,
    /// How many blocks deep one is final: 32 on mainnet. Of several nodes two thirds must agree too.
    pub finality_depth: u32,
    /// How likely a slot passes without a block: some percent on mainnet.
    pub skip_rate: Probability,
}

impl Default for SolanaConfig {
    /// Loopback, any port, nothing kept, a slot every 400 ms, none skipped, final after 8 slots.
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
            websocket: None,
            dir: None,
            block_interval: Some(Duration::from_millis(400)),
            finality_depth: 8,
            skip_rate: Probability::NEVER,
        }
    }
}

/// Why a node can't be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SolanaError {
    /// The state can't be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The interval between slots is zero.
    #[error("the interval between slots is shorter than a millisecond; leave it out to make slots on demand")]
    Interval,
    /// The thread that restores the state was stopped.
    #[error("the node was stopped while its state was restored")]
    Stopped,
}

/// A running node.
pub struct SolanaNode {
    validator: Arc<Mutex<Validator>>,
    server: RpcServer,
    sockets: Option<RpcServer>,
    /// The task that makes slots, where the node is in no world.
    producer: Mutex<Option<JoinHandle<()>>>,
    /// The task that listens to the other nodes.
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for SolanaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SolanaNode").field("server", &self.server).finish_non_exhaustive()
    }
}

impl SolanaNode {
    /// Restores or begins the chain, serves its JSON-RPC and makes slots until `shutdown` is cancelled.
    ///
    /// # Errors
    /// Where the journal can't be used or the address can't be listened on.
    pub async fn start(
        config: SolanaConfig,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, SolanaError> {
        let every = config.block_interval;
        let shutdown = shutdown.child_token();
        let seat = Seat::alone(ChainKind::Solana, clock, shutdown.clone());
        let node = Self::launch(config, seat).await?;
        let producer = every.map(|every| tokio::spawn(make_slots(node.validator.clone(), every, shutdown)));
        *node.producer.lock().unwrap_or_else(PoisonError::into_inner) = producer;
        Ok(node)
    }

    /// Starts a node in its seat. It makes slots only when it is told to.
    async fn launch(config: SolanaConfig, seat: Seat<Message>) -> Result<Self, SolanaError> {
        let interval = config.block_interval.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        if interval == Some(0) {
            return Err(SolanaError::Interval);
        }
        let path = config.dir.as_ref().map(|dir| dir.join("journal"));
        let rules = Rules { interval, depth: u64::from(config.finality_depth), skipped: config.skip_rate };
        let (gate, shutdown, endpoint) = (seat.gate.clone(), seat.shutdown.clone(), seat.endpoint.clone());
        // Replaying executes all transactions again.
        let restored = tokio::task::spawn_blocking(move || Validator::restore(path.as_deref(), seat, rules)).await;
        let validator = Arc::new(Mutex::new(restored.map_err(|_| SolanaError::Stopped)??));

        let dialect = Arc::new(SolanaDialect { validator: validator.clone() });
        let serve = async |listen| serve_behind(listen, dialect.clone(), shutdown.clone(), gate.clone()).await;
        let served = async {
            let server = serve(config.listen).await?;
            let sockets = match config.websocket {
                Some(listen) => Some(serve(listen).await?),
                None => None,
            };
            Ok::<_, ListenError>((server, sockets))
        };
        let (server, sockets) = match served.await {
            Ok(servers) => servers,
            Err(error) => {
                shutdown.cancel();
                lock(&validator).close();
                return Err(error.into());
            }
        };
        let listener = endpoint.map(|endpoint| tokio::spawn(gossip::listen(validator.clone(), endpoint, shutdown)));
        Ok(Self { validator, server, sockets, producer: Mutex::new(None), listener: Mutex::new(listener) })
    }

    /// The endpoint to give a client.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The endpoint to give a client that subscribes.
    pub fn websocket_url(&self) -> String {
        format!("ws://{}", self.sockets.as_ref().unwrap_or(&self.server).addr())
    }

    /// The address that is listened on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Makes `slots` slots at once and returns the newest slot.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub async fn mine(&self, slots: u32) -> Result<u64, ProduceError> {
        self.on_thread(move |validator| validator.mine(slots)).await
    }

    /// Replaces the newest `depth` blocks by a branch that is one longer and holds nobody's transactions. Returns its slots.
    ///
    /// # Errors
    /// Where that would replace what is or may be final, or the journal can't be written.
    pub async fn reorganize(&self, depth: u32) -> Result<Vec<u64>, ReorgError> {
        let branch = self.on_thread(move |validator| validator.reorganize(depth)).await?;
        Ok(branch.iter().map(|id| id.slot).collect())
    }

    /// Makes so many empty slots that every blockhash so far is too old, and returns the newest slot.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub async fn expire_blockhashes(&self) -> Result<u64, ProduceError> {
        self.on_thread(Validator::expire_blockhashes).await
    }

    /// Sends `lamports` from the faucet to `address`, in the next slot.
    ///
    /// # Errors
    /// Where `address` is none, or the transfer would fail: an account can't hold less than its rent-exempt minimum.
    pub async fn fund(&self, address: &str, lamports: u64) -> Result<Signature, FaucetError> {
        let address = parse(address)?;
        self.on_thread(move |validator| validator.fund(&address, lamports)).await
    }

    /// Mints `amount` base units (6 decimals) of the demo mint to the associated token account of `owner`, in the next
    /// slot. The account is created if need be.
    ///
    /// # Errors
    /// Where `owner` is no address, or the transaction would fail.
    pub async fn fund_token(&self, owner: &str, amount: u64) -> Result<Signature, FaucetError> {
        let owner = parse(owner)?;
        self.on_thread(move |validator| validator.fund_token(&owner, &genesis::demo_mint(), amount)).await
    }

    /// The SPL mint that the faucet can mint: 6 decimals, the same address in every run.
    pub fn demo_mint() -> Pubkey {
        genesis::demo_mint()
    }

    /// The faucet's address, the same in every run.
    pub fn faucet() -> Pubkey {
        genesis::faucet().pubkey()
    }

    /// Waits until the node has stopped, after `shutdown` was cancelled. Its journal is free for another node then.
    pub async fn stopped(self) {
        self.ended().await;
    }

    async fn ended(&self) {
        self.server.stopped().await;
        if let Some(sockets) = &self.sockets {
            sockets.stopped().await;
        }
        for task in [&self.producer, &self.listener] {
            let task = task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // A panic in the task has been reported by the runtime; there is nothing left to wait for.
                let _ = task.await;
            }
        }
        lock(&self.validator).close();
    }

    async fn on_thread<T: Send + 'static>(&self, work: impl FnOnce(&mut Validator) -> T + Send + 'static) -> T {
        on_thread(&self.validator, work).await
    }
}

/// Works with a validator, where it may take its time.
async fn on_thread<T: Send + 'static>(
    validator: &Arc<Mutex<Validator>>,
    work: impl FnOnce(&mut Validator) -> T + Send + 'static,
) -> T {
    let validator = Arc::clone(validator);
    let work = tokio::task::spawn_blocking(move || work(&mut lock(&validator)));
    work.await.expect("the work is not aborted, and its panic is passed on")
}

async fn make_slots(validator: Arc<Mutex<Validator>>, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick comes at once, and a slot is there already.
    ticks.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let validator = validator.clone();
        let produced = tokio::task::spawn_blocking(move || lock(&validator).produce()).await;
        match produced {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the simulated solana node makes no more slots");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "the simulated solana node failed");
                return;
            }
        }
    }
}

fn lock(validator: &Mutex<Validator>) -> MutexGuard<'_, Validator> {
    validator.lock().expect("a panic while the validator is held has left its state unknown")
}

fn parse(address: &str) -> Result<Pubkey, FaucetError> {
    address.parse().map_err(|_| FaucetError::Address(address.to_owned()))
}
