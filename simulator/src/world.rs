//! The simulated world: one node of each chain, started and stopped together.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::node::bitcoin::{BitcoinConfig, BitcoinError, BitcoinNode};
use crate::node::ethereum::{EthereumConfig, EthereumNode, StartError};
use crate::node::solana::{SolanaConfig, SolanaError, SolanaNode};
use crate::rpc::CancellationToken;

/// How the nodes run.
#[derive(Clone, Debug, Default)]
pub struct WorldConfig {
    /// Where the nodes keep their state: each in its own folder `bitcoin`, `ethereum` or `solana`, whatever its own configuration says.
    /// Without it each node's own folder is used, if it has one.
    pub dir: Option<PathBuf>,
    /// The Bitcoin node.
    pub bitcoin: BitcoinConfig,
    /// The Ethereum node.
    pub ethereum: EthereumConfig,
    /// The Solana node.
    pub solana: SolanaConfig,
}

/// A node that doesn't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The Bitcoin node.
    #[error("the simulated bitcoin node doesn't start: {0}")]
    Bitcoin(#[source] BitcoinError),
    /// The Ethereum node.
    #[error("the simulated ethereum node doesn't start: {0}")]
    Ethereum(#[source] StartError),
    /// The Solana node.
    #[error("the simulated solana node doesn't start: {0}")]
    Solana(#[source] SolanaError),
}

/// Three chains that run.
pub struct World {
    bitcoin: BitcoinNode,
    ethereum: EthereumNode,
    solana: SolanaNode,
    shutdown: CancellationToken,
}

impl World {
    /// Starts all three nodes, resuming what is in their folders. Where one of them doesn't start, the others are stopped again.
    ///
    /// # Errors
    /// The first node's reason, in the order of the fields.
    pub async fn start(config: WorldConfig, clock: Arc<dyn Clock>) -> Result<Self, WorldError> {
        let WorldConfig { dir, mut bitcoin, mut ethereum, mut solana } = config;
        if let Some(dir) = dir {
            bitcoin.dir = Some(dir.join("bitcoin"));
            ethereum.dir = Some(dir.join("ethereum"));
            solana.dir = Some(dir.join("solana"));
        }
        let shutdown = CancellationToken::new();
        let started = tokio::join!(
            BitcoinNode::start(bitcoin, Arc::clone(&clock), shutdown.child_token()),
            EthereumNode::start(ethereum, Arc::clone(&clock), shutdown.child_token()),
            SolanaNode::start(solana, clock, shutdown.child_token()),
        );
        let error = match started {
            (Ok(bitcoin), Ok(ethereum), Ok(solana)) => return Ok(Self { bitcoin, ethereum, solana, shutdown }),
            (bitcoin, ethereum, solana) => {
                shutdown.cancel();
                let mut errors = Vec::new();
                match bitcoin {
                    Ok(node) => node.stopped().await,
                    Err(error) => errors.push(WorldError::Bitcoin(error)),
                }
                match ethereum {
                    Ok(node) => node.stopped().await,
                    Err(error) => errors.push(WorldError::Ethereum(error)),
                }
                match solana {
                    Ok(node) => node.stopped().await,
                    Err(error) => errors.push(WorldError::Solana(error)),
                }
                errors.into_iter().next()
            }
        };
        Err(error.expect("one of the three nodes has failed, or they would have been returned"))
    }

    /// The Bitcoin node.
    pub fn bitcoin(&self) -> &BitcoinNode {
        &self.bitcoin
    }

    /// The Ethereum node.
    pub fn ethereum(&self) -> &EthereumNode {
        &self.ethereum
    }

    /// The Solana node.
    pub fn solana(&self) -> &SolanaNode {
        &self.solana
    }

    /// Stops all three nodes and waits until their folders are free.
    pub async fn shutdown(self) {
        self.shutdown.cancel();
        let Self { bitcoin, ethereum, solana, shutdown: _ } = self;
        tokio::join!(bitcoin.stopped(), ethereum.stopped(), solana.stopped());
    }
}
