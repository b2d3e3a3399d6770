//! A node to test with.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Transaction, Txid};
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode};
use simulator::rpc::CancellationToken;

use crate::wallet::{Client, Wallet};

pub(crate) const NOW: u64 = 1_750_000_000_000;
pub(crate) const BTC: u64 = 100_000_000;

/// A running node and a client to it.
pub(crate) struct Run {
    pub(crate) node: BitcoinNode,
    pub(crate) client: Client,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shutdown: CancellationToken,
}

impl Run {
    pub(crate) async fn start(config: BitcoinConfig) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let shutdown = CancellationToken::new();
        let node = BitcoinNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
        let cookie = node.cookie_file().map(|path| std::fs::read_to_string(path).unwrap());
        let client = Client::new(&node.url(), cookie.as_deref());
        Self { node, client, clock, shutdown }
    }

    pub(crate) async fn fresh() -> Self {
        Self::start(BitcoinConfig::default()).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.node.stopped().await;
    }

    pub(crate) async fn ok(&self, method: &str, params: Value) -> Value {
        self.client.ok(method, params).await
    }

    pub(crate) async fn error(&self, method: &str, params: Value) -> (i64, String) {
        self.client.error(method, params).await
    }

    /// Pays a wallet from the faucet and returns the coin.
    pub(crate) async fn fund(&self, wallet: &Wallet, sats: u64) -> (OutPoint, Amount) {
        let amount = Amount::from_sat(sats);
        let txid = self.node.fund(&wallet.address().to_string(), amount).await.unwrap();
        let tx: Transaction = self.transaction(txid).await;
        let vout = tx.output.iter().position(|output| output.script_pubkey == wallet.script()).unwrap();
        (OutPoint::new(txid, u32::try_from(vout).unwrap()), amount)
    }

    pub(crate) async fn transaction(&self, txid: Txid) -> Transaction {
        let hex = self.ok("getrawtransaction", json!([txid])).await;
        bitcoin::consensus::encode::deserialize_hex(hex.as_str().unwrap()).unwrap()
    }

    pub(crate) async fn send(&self, tx: &Transaction) -> Value {
        self.ok("sendrawtransaction", json!([serialize_hex(tx)])).await
    }

    /// Sends what must be refused; `testmempoolaccept` must refuse it for the same reason.
    pub(crate) async fn refused(&self, tx: &Transaction) -> (i64, String) {
        let hex = serialize_hex(tx);
        let (code, message) = self.error("sendrawtransaction", json!([hex])).await;
        let tried = self.ok("testmempoolaccept", json!([[hex]])).await;
        assert_eq!(tried[0]["allowed"], false);
        let reason = tried[0]["reject-reason"].as_str().unwrap();
        let expected = if reason == "missing-inputs" { "bad-txns-inputs-missingorspent" } else { reason };
        assert!(message.starts_with(expected), "{message} against {reason}");
        (code, message)
    }
}
