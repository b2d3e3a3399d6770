//! The node as a member of a world: alone on its chain.

use std::net::SocketAddr;
use std::time::Duration;

use super::{SolanaConfig, SolanaError, SolanaNode};
use crate::cluster::{ChainNode, NodeError, Seat, Unsupported, address, folder};
use crate::fault::rule::Fault;
use crate::network::Gossip;
use crate::topology::{ChainKind, NodeIndex};

impl ChainNode for SolanaNode {
    const CHAIN: ChainKind = ChainKind::Solana;

    type Config = SolanaConfig;
    type Message = Gossip<(), (), ()>;
    type StartError = SolanaError;

    fn placed(config: &SolanaConfig, index: NodeIndex) -> SolanaConfig {
        SolanaConfig {
            listen: address(config.listen, index),
            dir: folder(config.dir.as_ref(), index),
            ..config.clone()
        }
    }

    fn listening(config: &SolanaConfig, addr: SocketAddr) -> SolanaConfig {
        SolanaConfig { listen: addr, ..config.clone() }
    }

    /// The node makes its blocks itself.
    fn block_interval(_: &SolanaConfig) -> Option<Duration> {
        None
    }

    async fn open(config: SolanaConfig, seat: Seat<Self::Message>) -> Result<Self, SolanaError> {
        Self::launch(config, seat.clock, seat.shutdown, seat.gate).await
    }

    fn listens(&self) -> SocketAddr {
        self.addr()
    }

    fn origin(&self) -> Option<u64> {
        None
    }

    async fn produce(&self, blocks: u32) -> Result<Vec<String>, NodeError> {
        Ok(vec![self.mine(blocks).await?.to_string()])
    }

    async fn reorganize(&self, _depth: u32) -> Result<Vec<String>, NodeError> {
        Err(Unsupported { chain: Self::CHAIN, what: "reorganise its chain" }.into())
    }

    async fn evict(&self) -> Result<u64, NodeError> {
        Err(Unsupported { chain: Self::CHAIN, what: "empty its mempool" }.into())
    }

    fn supports(fault: &Fault) -> bool {
        matches!(
            fault,
            Fault::Delay { .. }
                | Fault::Error { .. }
                | Fault::Timeout { .. }
                | Fault::Drop { .. }
                | Fault::Duplicate
                | Fault::Crash
                | Fault::ClockSkew { .. }
        )
    }

    fn is_social() -> bool {
        false
    }

    async fn ended(&self) {
        self.ended().await;
    }
}
