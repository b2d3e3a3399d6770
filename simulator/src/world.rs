//! The simulated world: the nodes of each chain, started and stopped together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError, Commands, Ground, StartError};
use crate::control::{Controller, serve_control};
use crate::fault::Faults;
use crate::network::Conditions;
use crate::node::bitcoin::{BitcoinConfig, BitcoinError, BitcoinNode};
use crate::node::ethereum::{EthereumConfig, EthereumNode, StartError as EthereumError};
use crate::node::solana::{SolanaConfig, SolanaError, SolanaNode};
use crate::rpc::gate::Control;
use crate::rpc::{CancellationToken, ListenError, RpcServer};
use crate::seed::Seed;

/// How the nodes run.
#[derive(Clone, Debug, Default)]
pub struct WorldConfig {
    /// Where the nodes keep their state: the first of each chain in the folder `bitcoin`, `ethereum` or `solana`, whatever its own
    /// configuration says, the others in `bitcoin-1` and so on. Without it each chain's own folder is used, if it has one.
    pub dir: Option<PathBuf>,
    /// What all chance comes from.
    pub seed: Seed,
    /// How many nodes each chain has.
    pub nodes: NodeCounts,
    /// What the links between them do to messages.
    pub network: Conditions,
    /// Where the world's own port listens, which answers `sim_*` for all chains. Without it there is none.
    pub control: Option<SocketAddr>,
    /// The Bitcoin nodes.
    pub bitcoin: BitcoinConfig,
    /// The Ethereum nodes.
    pub ethereum: EthereumConfig,
    /// The Solana nodes.
    pub solana: SolanaConfig,
}

/// How many nodes each chain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// Of Bitcoin.
    pub bitcoin: u16,
    /// Of Ethereum.
    pub ethereum: u16,
    /// Of Solana.
    pub solana: u16,
}

impl Default for NodeCounts {
    /// One each.
    fn default() -> Self {
        Self { bitcoin: 1, ethereum: 1, solana: 1 }
    }
}

/// What doesn't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A Bitcoin node.
    #[error("the simulated bitcoin node doesn't start: {0}")]
    Bitcoin(#[source] BitcoinError),
    /// An Ethereum node.
    #[error("the simulated ethereum node doesn't start: {0}")]
    Ethereum(#[source] EthereumError),
    /// A Solana node.
    #[error("the simulated solana node doesn't start: {0}")]
    Solana(#[source] SolanaError),
    /// A chain with these nodes.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The world's own port.
    #[error(transparent)]
    Control(#[from] ListenError),
}

impl<E> StartError<E> {
    fn named(self, name: impl FnOnce(E) -> WorldError) -> WorldError {
        match self {
            Self::Node(error) => name(error),
            Self::Cluster(error) => error.into(),
        }
    }
}

/// Chains that run.
#[derive(Debug)]
pub struct World {
    bitcoin: Arc<Cluster<BitcoinNode>>,
    ethereum: Arc<Cluster<EthereumNode>>,
    solana: Arc<Cluster<SolanaNode>>,
    controller: Arc<Controller>,
    port: Option<RpcServer>,
    shutdown: CancellationToken,
}

impl World {
    /// Starts all nodes, resuming what is in their folders. Where one of them doesn't start, the others are stopped again.
    ///
    /// # Errors
    /// The first chain's reason, in the order of the fields.
    pub async fn start(config: WorldConfig, clock: Arc<dyn Clock>) -> Result<Self, WorldError> {
        let WorldConfig { dir, seed, nodes, network, control, mut bitcoin, mut ethereum, mut solana } = config;
        if let Some(dir) = dir {
            bitcoin.dir = Some(dir.join("bitcoin"));
            ethereum.dir = Some(dir.join("ethereum"));
            solana.dir = Some(dir.join("solana"));
        }
        let shutdown = CancellationToken::new();
        let faults = Arc::new(Faults::new(seed));
        let controller = Controller::new(Arc::clone(&faults));
        let commander: Arc<dyn Control> = controller.clone();
        let ground = Ground { clock, faults, control: commander, shutdown: shutdown.clone() };
        let started = tokio::join!(
            Cluster::<BitcoinNode>::start(&bitcoin, nodes.bitcoin, network, ground.clone()),
            Cluster::<EthereumNode>::start(&ethereum, nodes.ethereum, network, ground.clone()),
            Cluster::<SolanaNode>::start(&solana, nodes.solana, network, ground),
        );
        let (bitcoin, ethereum, solana) = match started {
            (Ok(bitcoin), Ok(ethereum), Ok(solana)) => (bitcoin, ethereum, solana),
            (bitcoin, ethereum, solana) => {
                shutdown.cancel();
                let mut errors = Vec::new();
                match bitcoin {
                    Ok(cluster) => cluster.stopped().await,
                    Err(error) => errors.push(error.named(WorldError::Bitcoin)),
                }
                match ethereum {
                    Ok(cluster) => cluster.stopped().await,
                    Err(error) => errors.push(error.named(WorldError::Ethereum)),
                }
                match solana {
                    Ok(cluster) => cluster.stopped().await,
                    Err(error) => errors.push(error.named(WorldError::Solana)),
                }
                let first = errors.into_iter().next();
                return Err(first.expect("one of the three chains has failed, or they would have been used"));
            }
        };
        let mut world = Self { bitcoin, ethereum, solana, controller, port: None, shutdown };
        world.controller.command(world.clusters(), world.shutdown.clone());
        if let Some(listen) = control {
            match serve_control(listen, Arc::clone(&world.controller), world.shutdown.child_token()).await {
                Ok(port) => world.port = Some(port),
                Err(error) => {
                    world.shutdown().await;
                    return Err(error.into());
                }
            }
        }
        Ok(world)
    }

    fn clusters(&self) -> Vec<Weak<dyn Commands>> {
        let bitcoin: Arc<dyn Commands> = self.bitcoin.clone();
        let ethereum: Arc<dyn Commands> = self.ethereum.clone();
        let solana: Arc<dyn Commands> = self.solana.clone();
        [bitcoin, ethereum, solana].iter().map(Arc::downgrade).collect()
    }

    /// The first Bitcoin node.
    pub fn bitcoin(&self) -> Arc<BitcoinNode> {
        self.bitcoin.first()
    }

    /// The first Ethereum node.
    pub fn ethereum(&self) -> Arc<EthereumNode> {
        self.ethereum.first()
    }

    /// The first Solana node.
    pub fn solana(&self) -> Arc<SolanaNode> {
        self.solana.first()
    }

    /// All Bitcoin nodes.
    pub fn bitcoin_nodes(&self) -> &Arc<Cluster<BitcoinNode>> {
        &self.bitcoin
    }

    /// All Ethereum nodes.
    pub fn ethereum_nodes(&self) -> &Arc<Cluster<EthereumNode>> {
        &self.ethereum
    }

    /// All Solana nodes.
    pub fn solana_nodes(&self) -> &Arc<Cluster<SolanaNode>> {
        &self.solana
    }

    /// Who commands the world: faults, partitions, crashes.
    pub fn controller(&self) -> &Arc<Controller> {
        &self.controller
    }

    /// The endpoint of the world's own port, where it has one.
    pub fn control_url(&self) -> Option<String> {
        self.port.as_ref().map(RpcServer::url)
    }

    /// Stops all nodes and waits until their folders are free.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        let Self { bitcoin, ethereum, solana, port, .. } = self;
        tokio::join!(bitcoin.stopped(), ethereum.stopped(), solana.stopped());
        if let Some(port) = port {
            port.stopped().await;
        }
    }
}
