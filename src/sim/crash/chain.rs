//! One simulated chain that outlives the gateway, with blocks that can be held back, and what the chain itself says of who
//! was paid.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chains::network::Family;
use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode};
use simulator::node::ethereum::{EthereumConfig, EthereumNode};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::rpc::CancellationToken;
use tokio::sync::watch;

use crate::cli::Failure;

/// So many blocks make a payment final, on every chain.
pub(super) const FINAL: u32 = 3;

/// A node with its clients and its miner.
pub(super) struct SimChain {
    /// Which kind of chain.
    pub(super) family: Family,
    node: Node,
    rpc: Arc<RpcClient>,
    url: String,
    cookie: Option<PathBuf>,
    mining: watch::Sender<bool>,
    stop: CancellationToken,
}

enum Node {
    Bitcoin(BitcoinNode),
    Ethereum(EthereumNode),
    Solana(SolanaNode),
}

/// What the chain says of the payee and of the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Books {
    /// What the payee has, in base units.
    pub(super) received: u128,
    /// Bitcoin: outputs of the payee. Ethereum: the wallet's nonce. Solana: transactions that name the payee.
    pub(super) count: u64,
}

impl SimChain {
    /// Starts the node with its state in `dir`, and makes a block whenever `interval` is over.
    ///
    /// # Errors
    /// Where it doesn't start.
    pub(super) async fn start(family: Family, dir: &Path) -> Result<Self, Failure> {
        let (stop, clock) = (CancellationToken::new(), Arc::new(SystemClock));
        let (dir, token) = (Some(dir.to_owned()), stop.child_token());
        let node = match family {
            Family::Bitcoin => {
                let config = BitcoinConfig { dir, block_interval: None, ..BitcoinConfig::default() };
                Node::Bitcoin(BitcoinNode::start(config, clock, token).await?)
            }
            Family::Ethereum => {
                let config = EthereumConfig {
                    dir,
                    block_interval: None,
                    finality_depth: u64::from(FINAL),
                    ..EthereumConfig::default()
                };
                Node::Ethereum(EthereumNode::start(config, clock, token).await?)
            }
            Family::Solana => {
                let config =
                    SolanaConfig { dir, block_interval: None, finality_depth: FINAL, ..SolanaConfig::default() };
                Node::Solana(SolanaNode::start(config, clock, token).await?)
            }
        };
        let (url, cookie) = match &node {
            Node::Bitcoin(node) => (node.url(), node.cookie_file().map(Path::to_owned)),
            Node::Ethereum(node) => (node.url(), None),
            Node::Solana(node) => (node.url(), None),
        };
        let auth = cookie.clone().map_or(Auth::None, Auth::BasicFile);
        let rpc = Arc::new(RpcClient::new(&url, auth, Duration::from_secs(30))?);
        let mining = watch::Sender::new(true);
        tokio::spawn(mine(Arc::clone(&rpc), mining.subscribe(), interval(family), stop.child_token()));
        Ok(Self { family, node, rpc, url, cookie, mining, stop })
    }

    /// Where the node listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The file with the node's credentials, where it wants some.
    pub(super) fn cookie(&self) -> Option<&Path> {
        self.cookie.as_deref()
    }

    /// The height of a Bitcoin chain: wallets made from here on were never paid before. 0 on the others.
    ///
    /// # Errors
    /// Where the node doesn't say.
    pub(super) async fn birthday(&self) -> Result<u32, Failure> {
        match &self.node {
            Node::Bitcoin(node) => Ok(node.height().await?),
            Node::Ethereum(_) | Node::Solana(_) => Ok(0),
        }
    }

    /// Makes blocks, or stops making them.
    pub(super) fn mining(&self, on: bool) {
        self.mining.send_replace(on);
    }

    /// Makes so many blocks at once.
    ///
    /// # Errors
    /// Where the node fails.
    pub(super) async fn mine(&self, blocks: u32) -> Result<(), Failure> {
        let _: Value = self.rpc.call("sim_mine", json!([blocks])).await?;
        Ok(())
    }

    /// Gives the wallet more than the harness ever spends, in several payments.
    ///
    /// # Errors
    /// Where the faucet fails.
    pub(super) async fn fund(&self, address: &str) -> Result<(), Failure> {
        let (amount, times) = match self.family {
            Family::Bitcoin => ("100000000", 20),
            Family::Ethereum => ("1000000000000000000000", 1),
            Family::Solana => ("100000000000000", 1),
        };
        for _ in 0..times {
            let _: Value = self.rpc.call("sim_fund", json!([address, amount])).await?;
        }
        self.mine(FINAL.saturating_add(1)).await
    }

    /// What the chain says of the payee and of the wallet.
    ///
    /// # Errors
    /// Where the node doesn't say.
    pub(super) async fn books(&self, payee: &str, wallet: &str) -> Result<Books, Failure> {
        Ok(match self.family {
            Family::Bitcoin => {
                let scan = json!(["start", [format!("addr({payee})")]]);
                let found: Value = self.rpc.call("scantxoutset", scan).await?;
                let outputs = found.get("unspents").and_then(Value::as_array).ok_or("no unspent outputs")?;
                let mut received = 0_u128;
                for output in outputs {
                    let text = output.get("amount").ok_or("an output without an amount")?.to_string();
                    let amount = bitcoin::Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin)?;
                    received = received.checked_add(u128::from(amount.to_sat())).ok_or("a sum above 2^128")?;
                }
                Books { received, count: u64::try_from(outputs.len())? }
            }
            Family::Ethereum => {
                let balance: String = self.rpc.call("eth_getBalance", json!([payee, "latest"])).await?;
                let nonce: String = self.rpc.call("eth_getTransactionCount", json!([wallet, "latest"])).await?;
                let received = u128::from_str_radix(balance.trim_start_matches("0x"), 16)?;
                Books { received, count: u64::from_str_radix(nonce.trim_start_matches("0x"), 16)? }
            }
            Family::Solana => {
                let finalized = json!([payee, { "commitment": "finalized" }]);
                let balance: Value = self.rpc.call("getBalance", finalized.clone()).await?;
                let signatures: Vec<Value> = self.rpc.call("getSignaturesForAddress", finalized).await?;
                let received = balance.get("value").and_then(Value::as_u64).ok_or("no balance")?;
                Books { received: received.into(), count: u64::try_from(signatures.len())? }
            }
        })
    }

    /// Hands signed bytes to the node, whatever it says to them.
    pub(super) async fn deliver(&self, method: &str, params: &Value) {
        let _: Result<Value, _> = self.rpc.call(method, params).await;
    }

    /// Stops the node and waits until its folder is free.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        match self.node {
            Node::Bitcoin(node) => node.stopped().await,
            Node::Ethereum(node) => node.stopped().await,
            Node::Solana(node) => node.stopped().await,
        }
    }
}

/// The time between two blocks. Solana's blockhashes hold for 150 of them, which a restart must not use up.
const fn interval(family: Family) -> Duration {
    match family {
        Family::Ethereum => Duration::from_millis(150),
        Family::Solana => Duration::from_millis(250),
        // A gateway reads every block.
        Family::Bitcoin => Duration::from_millis(400),
    }
}

async fn mine(rpc: Arc<RpcClient>, mut on: watch::Receiver<bool>, every: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            waited = on.wait_for(|on| *on) => if waited.is_err() { return },
        }
        let mined: Result<Value, _> = rpc.call("sim_mine", json!([1])).await;
        if let Err(error) = mined {
            tracing::debug!(%error, "no block");
        }
        tokio::time::sleep(every).await;
    }
}
