//! Three nodes and a client to each.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U64, U256};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::network::{Conditions, Latency};
use simulator::node::ethereum::{Coin, EthereumConfig, EthereumNode};
use simulator::node::solana::SolanaConfig;
use simulator::seed::Seed;
use simulator::topology::NodeIndex;
use simulator::world::{NodeCounts, World, WorldConfig};

use crate::client::{ETHER, Key};

/// The safe block is so far behind the head, and no deeper reorganisation is possible.
pub(crate) const SAFE: u32 = 4;

/// A quick network that loses nothing.
pub(crate) fn quick() -> Conditions {
    let latency = Latency { least_ms: 0, spread_ms: 2, tail_ms: 0 };
    Conditions { latency, ..Conditions::default() }
}

pub(crate) struct Three {
    pub(crate) world: World,
    pub(crate) clock: Arc<ManualClock>,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Three {
    pub(crate) async fn start() -> Self {
        Self::start_with(quick(), 2 * SAFE, 11).await
    }

    pub(crate) async fn start_with(network: Conditions, finality_depth: u32, seed: u64) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_750_000_000_000));
        let config = WorldConfig {
            dir: Some(folder.path().to_owned()),
            seed: Seed(seed),
            nodes: NodeCounts { ethereum: 3, ..NodeCounts::default() },
            network,
            ethereum: EthereumConfig { finality_depth: finality_depth.into(), ..EthereumConfig::default() },
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(config, clock.clone()).await.unwrap();
        Self { world, clock, http: reqwest::Client::new(), _folder: folder }
    }

    pub(crate) fn node(&self, index: u16) -> Arc<EthereumNode> {
        self.world.ethereum_nodes().node(NodeIndex(index)).unwrap()
    }

    pub(crate) async fn call(&self, index: u16, method: &str, params: Value) -> Result<Value, reqwest::Error> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = self.http.post(self.node(index).url()).body(body.to_string()).send().await?.text().await?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn ok(&self, index: u16, method: &str, params: Value) -> Value {
        let mut answer = self.call(index, method, params.clone()).await.unwrap();
        assert_eq!(answer.get("error"), None, "{method} {params} at node {index}");
        answer["result"].take()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, index: u16, method: &str, params: Value) -> T {
        serde_json::from_value(self.ok(index, method, params).await).unwrap()
    }

    /// What a call is refused with.
    pub(crate) async fn refused(&self, index: u16, method: &str, params: Value) -> String {
        let answer = self.call(index, method, params).await.unwrap();
        answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{method}: {answer}")).to_owned()
    }

    pub(crate) async fn block(&self, index: u16, tag: &str) -> Value {
        self.ok(index, "eth_getBlockByNumber", json!([tag, false])).await
    }

    /// The hash of a node's newest block.
    pub(crate) async fn head(&self, index: u16) -> B256 {
        serde_json::from_value(self.block(index, "latest").await["hash"].clone()).unwrap()
    }

    /// The number of a node's newest, safe or finalized block.
    pub(crate) async fn number(&self, index: u16, tag: &str) -> u64 {
        serde_json::from_value::<U64>(self.block(index, tag).await["number"].clone()).unwrap().to()
    }

    /// Waits until a node answers a call like this.
    pub(crate) async fn until(&self, index: u16, method: &str, params: Value, is: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let answer = self.ok(index, method, params.clone()).await;
                if is(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{method} at node {index}"))
    }

    /// Waits until all these nodes are where the first of them is.
    pub(crate) async fn agree(&self, nodes: &[u16]) {
        let head = json!(self.head(nodes[0]).await);
        for node in nodes {
            self.until(*node, "eth_getBlockByNumber", json!(["latest", false]), |block| block["hash"] == head).await;
        }
    }

    /// Makes blocks, each when all of these nodes have the one before: there is time to vote.
    pub(crate) async fn slots(&self, maker: u16, blocks: u32, all: &[u16]) {
        for _ in 0..blocks {
            self.node(maker).mine(1).await.unwrap();
            let order: Vec<u16> = std::iter::once(maker).chain(all.iter().copied()).collect();
            self.agree(&order).await;
        }
    }

    pub(crate) fn partition(&self, groups: &[&[u16]]) {
        let groups: Vec<Vec<_>> = groups.iter().map(|group| group.iter().copied().map(NodeIndex).collect()).collect();
        self.world.ethereum_nodes().network().partition(&groups);
    }

    pub(crate) fn heal(&self) {
        self.world.ethereum_nodes().network().heal();
    }

    /// A key with money that all nodes know of.
    pub(crate) async fn rich(&self, name: &str) -> Key {
        let key = Key::new(name);
        self.node(0).fund(&key.address().to_string(), ETHER * U256::from(100), Coin::Ether).await.unwrap();
        self.agree(&[0, 1, 2]).await;
        key
    }

    pub(crate) async fn send(&self, index: u16, raw: &Bytes) -> B256 {
        self.get(index, "eth_sendRawTransaction", json!([raw])).await
    }

    /// Waits until a transaction waits at a node.
    pub(crate) async fn waits(&self, index: u16, hash: B256) {
        self.until(index, "eth_getTransactionByHash", json!([hash]), |tx| tx.is_object() && tx["blockHash"].is_null())
            .await;
    }

    /// Waits until a transaction is in a block of a node. Returns its receipt.
    pub(crate) async fn mined(&self, index: u16, hash: B256) -> Value {
        self.until(index, "eth_getTransactionReceipt", json!([hash]), Value::is_object).await
    }

    pub(crate) async fn stop(self) {
        self.world.shutdown().await;
    }
}
