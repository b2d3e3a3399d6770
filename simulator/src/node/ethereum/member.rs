//! The node as a member of a world: one of several.

use std::net::SocketAddr;
use std::time::Duration;

use super::gossip::Message;
use super::{EthereumConfig, EthereumNode, StartError};
use crate::cluster::{ChainNode, NodeError, Seat, address, folder};
use crate::fault::rule::Fault;
use crate::topology::{ChainKind, NodeIndex};

impl ChainNode for EthereumNode {
    const CHAIN: ChainKind = ChainKind::Ethereum;

    type Config = EthereumConfig;
    type Message = Message;
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

    fn block_interval(config: &EthereumConfig) -> Option<Duration> {
        config.block_interval
    }

    async fn open(config: EthereumConfig, seat: Seat<Self::Message>) -> Result<Self, StartError> {
        Self::launch(config, seat).await
    }

    fn listens(&self) -> SocketAddr {
        self.addr()
    }

    /// The genesis block's time, and how many nodes have a faucet.
    fn origin(&self) -> Option<u64> {
        Some(self.host.genesis().origin())
    }

    async fn produce(&self, blocks: u32) -> Result<Vec<String>, NodeError> {
        let hashes = self.run(move |host| host.mine(blocks)).await?;
        Ok(hashes.iter().map(ToString::to_string).collect())
    }

    async fn reorganize(&self, depth: u32) -> Result<Vec<String>, NodeError> {
        let hashes = self.run(move |host| host.reorganize(depth)).await?;
        Ok(hashes.iter().map(ToString::to_string).collect())
    }

    async fn evict(&self) -> Result<u64, NodeError> {
        Ok(u64::try_from(self.run(|host| host.evict()).await?)?)
    }

    fn supports(fault: &Fault) -> bool {
        fault.is_common() || matches!(fault, Fault::Pinning)
    }

    async fn ended(&self) {
        self.ended().await;
    }
}
