//! The node as a member of a world: alone on its chain.

use std::net::SocketAddr;
use std::time::Duration;

use super::{EthereumConfig, EthereumNode, StartError};
use crate::cluster::{ChainNode, NodeError, Seat, Unsupported, address, folder};
use crate::fault::rule::Fault;
use crate::network::Gossip;
use crate::topology::{ChainKind, NodeIndex};

impl ChainNode for EthereumNode {
    const CHAIN: ChainKind = ChainKind::Ethereum;

    type Config = EthereumConfig;
    type Message = Gossip<(), (), ()>;
    type StartError = StartError;

    fn placed(config: &EthereumConfig, index: NodeIndex) -> EthereumConfig {
        EthereumConfig {
            listen: address(config.listen, index),
            dir: folder(config.dir.as_ref(), index),
            ..config.clone()
        }
    }

    fn listening(config: &EthereumConfig, addr: SocketAddr) -> EthereumConfig {
        EthereumConfig { listen: addr, ..config.clone() }
    }

    /// The node makes its blocks itself.
    fn block_interval(_: &EthereumConfig) -> Option<Duration> {
        None
    }

    async fn open(config: EthereumConfig, seat: Seat<Self::Message>) -> Result<Self, StartError> {
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
