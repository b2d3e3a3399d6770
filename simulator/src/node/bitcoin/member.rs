//! The node as a member of a world: alone on its chain.

use std::net::SocketAddr;
use std::time::Duration;

use super::{BitcoinConfig, BitcoinError, BitcoinNode, Message};
use crate::cluster::{ChainNode, NodeError, Seat, Unsupported, address, folder};
use crate::fault::rule::Fault;
use crate::topology::{ChainKind, NodeIndex};

impl ChainNode for BitcoinNode {
    const CHAIN: ChainKind = ChainKind::Bitcoin;

    type Config = BitcoinConfig;
    type Message = Message;
    type StartError = BitcoinError;

    fn placed(config: &BitcoinConfig, index: NodeIndex) -> BitcoinConfig {
        BitcoinConfig {
            listen: address(config.listen, index),
            dir: folder(config.dir.as_ref(), index),
            ..config.clone()
        }
    }

    fn listening(config: &BitcoinConfig, addr: SocketAddr) -> BitcoinConfig {
        BitcoinConfig { listen: addr, ..config.clone() }
    }

    fn block_interval(config: &BitcoinConfig) -> Option<Duration> {
        config.block_interval
    }

    async fn open(config: BitcoinConfig, seat: Seat<Self::Message>) -> Result<Self, BitcoinError> {
        Self::launch(config, seat).await
    }

    fn listens(&self) -> SocketAddr {
        self.addr()
    }

    fn origin(&self) -> Option<u64> {
        None
    }

    async fn produce(&self, blocks: u32) -> Result<Vec<String>, NodeError> {
        Ok(self.mine(blocks).await?.iter().map(ToString::to_string).collect())
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
