//! A plain JSON-RPC client, a key and a node to test with.

use std::path::Path;
use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::node::ethereum::{Coin, EthereumConfig, EthereumNode};
use simulator::rpc::CancellationToken;

pub(crate) const GWEI: u128 = 1_000_000_000;
pub(crate) const ETHER: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
pub(crate) const CHAIN: u64 = 31_337;

/// A running node and a client to it.
pub(crate) struct World {
    pub(crate) node: EthereumNode,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shutdown: CancellationToken,
    http: reqwest::Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(EthereumConfig::default()).await
    }

    pub(crate) async fn start_in(dir: &Path) -> Self {
        Self::start_with(EthereumConfig { dir: Some(dir.to_owned()), ..EthereumConfig::default() }).await
    }

    pub(crate) async fn start_with(config: EthereumConfig) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let shutdown = CancellationToken::new();
        let node = EthereumNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
        Self { node, clock, shutdown, http: reqwest::Client::new() }
    }

    pub(crate) async fn stop(self) {
        let Self { node, shutdown, http, .. } = self;
        drop(http);
        shutdown.cancel();
        node.stopped().await;
    }

    /// The answer to a raw request body.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Value {
        let answer = self.http.post(self.node.url()).header("content-type", "application/json").body(body);
        serde_json::from_str(&answer.send().await.unwrap().text().await.unwrap()).unwrap()
    }

    async fn exchange(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let answer = self.post(request.to_string()).await;
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)));
        answer
    }

    /// A result.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let mut answer = self.exchange(method, params.clone()).await;
        assert_eq!(answer.get("error"), None, "{method} {params}");
        answer["result"].take()
    }

    /// A result of a type.
    pub(crate) async fn get<T: serde::de::DeserializeOwned>(&self, method: &str, params: Value) -> T {
        serde_json::from_value(self.ask(method, params).await).unwrap()
    }

    /// An error's code, message and data.
    pub(crate) async fn refused(&self, method: &str, params: Value) -> (i64, String, Value) {
        let mut answer = self.exchange(method, params.clone()).await;
        assert_eq!(answer.get("result"), None, "{method} {params}");
        let error = &mut answer["error"];
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned(), error["data"].take())
    }

    pub(crate) async fn send(&self, raw: &Bytes) -> B256 {
        self.get("eth_sendRawTransaction", json!([raw])).await
    }

    /// What a transaction is refused with.
    pub(crate) async fn send_refused(&self, raw: &Bytes) -> String {
        let (code, message, _) = self.refused("eth_sendRawTransaction", json!([raw])).await;
        assert_eq!(code, -32000, "{message}");
        message
    }

    pub(crate) async fn balance(&self, address: Address) -> U256 {
        self.get("eth_getBalance", json!([address, "latest"])).await
    }

    pub(crate) async fn height(&self) -> u64 {
        self.get::<U256>("eth_blockNumber", json!([])).await.to()
    }

    /// A funded key.
    pub(crate) async fn rich(&self, name: &str) -> Key {
        let key = Key::new(name);
        self.node.fund(&key.address().to_string(), ETHER * U256::from(100), Coin::Ether).await.unwrap();
        key
    }
}

/// A key made of a name.
pub(crate) struct Key(SigningKey);

impl Key {
    pub(crate) fn new(name: &str) -> Self {
        Self::from_secret(keccak256(name))
    }

    pub(crate) fn from_secret(secret: B256) -> Self {
        Self(SigningKey::from_slice(secret.as_slice()).unwrap())
    }

    pub(crate) fn address(&self) -> Address {
        Address::from_private_key(&self.0)
    }

    pub(crate) fn sign<T: SignableTransaction<Signature>>(&self, tx: T) -> Bytes
    where
        TxEnvelope: From<alloy::consensus::Signed<T>>,
    {
        let signature = self.0.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
        TxEnvelope::from(tx.into_signed(signature.into())).encoded_2718().into()
    }

    /// A payment of one wei.
    pub(crate) fn payment(&self, nonce: u64, tip: u128) -> Bytes {
        self.sign(transfer(nonce, tip))
    }
}

/// A transfer of one wei.
pub(crate) fn transfer(nonce: u64, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10 * GWEI + tip,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(Address::repeat_byte(0x77)),
        value: U256::ONE,
        ..TxEip1559::default()
    }
}
