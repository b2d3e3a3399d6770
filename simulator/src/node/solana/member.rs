//! The node as a member of a world: one of several.

use std::net::SocketAddr;
use std::time::Duration;

use super::block::Message;
use super::validator::Validator;
use super::{SolanaConfig, SolanaError, SolanaNode};
use crate::cluster::{ChainNode, NodeError, Seat, address, folder};
use crate::fault::rule::Fault;
use crate::topology::{ChainKind, NodeIndex};

impl ChainNode for SolanaNode {
    const CHAIN: ChainKind = ChainKind::Solana;

    type Config = SolanaConfig;
    type Message = Message;
    type StartError = SolanaError;

    /// Nodes are two ports apart: the one between is for subscriptions.
    fn placed(config: &SolanaConfig, index: NodeIndex) -> SolanaConfig {
        let listen = address(config.listen, NodeIndex(index.0.saturating_mul(2)));
        let next = listen.port().checked_add(1).filter(|_| listen.port() != 0);
        SolanaConfig {
            listen,
            websocket: next.map(|port| SocketAddr::new(listen.ip(), port)),
            dir: folder(config.dir.as_ref(), index),
            ..config.clone()
        }
    }

    fn listening(config: &SolanaConfig, addr: SocketAddr) -> SolanaConfig {
        SolanaConfig { listen: addr, ..config.clone() }
    }

    fn block_interval(config: &SolanaConfig) -> Option<Duration> {
        config.block_interval
    }

    async fn open(config: SolanaConfig, seat: Seat<Self::Message>) -> Result<Self, SolanaError> {
        Self::launch(config, seat).await
    }

    fn listens(&self) -> SocketAddr {
        self.addr()
    }

    /// When slot 0 was, in milliseconds since the Unix epoch.
    fn origin(&self) -> Option<u64> {
        super::lock(&self.validator).engine().ledger().at(0).map(|first| first.millis)
    }

    /// Leads slots. Returns the newest.
    async fn produce(&self, blocks: u32) -> Result<Vec<String>, NodeError> {
        let lead = move |validator: &mut Validator| match blocks {
            // The next slot of a run, where the node is alone.
            1 => validator.produce(),
            blocks => validator.mine(blocks),
        };
        Ok(vec![self.on_thread(lead).await?.to_string()])
    }

    /// Returns the slots of the new branch.
    async fn reorganize(&self, depth: u32) -> Result<Vec<String>, NodeError> {
        Ok(self.reorganize(depth).await?.iter().map(ToString::to_string).collect())
    }

    async fn evict(&self) -> Result<u64, NodeError> {
        Ok(u64::try_from(self.on_thread(Validator::evict).await)?)
    }

    fn supports(fault: &Fault) -> bool {
        fault.is_common() || matches!(fault, Fault::ExpireBlockhash)
    }

    async fn ended(&self) {
        self.ended().await;
    }
}
