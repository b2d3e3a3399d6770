//! The node as a member of a world: one of several.

use std::net::SocketAddr;
use std::time::Duration;

use super::{BitcoinConfig, BitcoinError, BitcoinNode, FIRST_BLOCKS, FIRST_SPACING, Message};
use crate::cluster::{ChainNode, NodeError, Seat, address, folder};
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

    /// The time that the first blocks' times were counted back from.
    fn origin(&self) -> Option<u64> {
        let first = self.node.read(|engine| engine.chain().at(1).map(|known| known.block.header.time));
        let after = FIRST_BLOCKS.saturating_sub(1).saturating_mul(FIRST_SPACING);
        Some(u64::from(first.ok()??).saturating_add(after))
    }

    async fn produce(&self, blocks: u32) -> Result<Vec<String>, NodeError> {
        Ok(self.mine(blocks).await?.iter().map(ToString::to_string).collect())
    }

    async fn reorganize(&self, depth: u32) -> Result<Vec<String>, NodeError> {
        Ok(self.node.reorganize(depth)?.iter().map(ToString::to_string).collect())
    }

    async fn evict(&self) -> Result<u64, NodeError> {
        Ok(u64::try_from(self.node.evict()?)?)
    }

    fn supports(fault: &Fault) -> bool {
        fault.is_common() || matches!(fault, Fault::Pinning)
    }

    async fn ended(&self) {
        self.ended().await;
    }
}
