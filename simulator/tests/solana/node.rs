//! A node and a client for it.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::rpc::CancellationToken;
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use solana_sdk::transaction::VersionedTransaction;

pub(crate) const SOL: u64 = 1_000_000_000;
pub(crate) const START_MILLIS: u64 = 1_700_000_000_000;

/// A node whose slots are made on demand.
pub(crate) struct Node {
    pub(crate) node: SolanaNode,
    pub(crate) clock: Arc<ManualClock>,
    http: reqwest::Client,
    shutdown: CancellationToken,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(SolanaConfig { block_interval: None, ..SolanaConfig::default() }).await
    }

    pub(crate) async fn start_in(dir: &Path) -> Self {
        let dir = Some(dir.to_owned());
        Self::with(SolanaConfig { block_interval: None, dir, ..SolanaConfig::default() }).await
    }

    pub(crate) async fn with(config: SolanaConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(ManualClock::new(START_MILLIS));
        let shutdown = CancellationToken::new();
        let node = SolanaNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
        Self { node, clock, http: reqwest::Client::new(), shutdown }
    }

    pub(crate) async fn stop(self) {
        drop(self.http);
        self.shutdown.cancel();
        self.node.stopped().await;
    }

    /// The whole answer to a request body.
    pub(crate) async fn post(&self, body: &str) -> Value {
        let answer = self.http.post(self.node.url()).body(body.to_owned()).send().await.unwrap();
        answer.json().await.unwrap()
    }

    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut answer = self.post(&body.to_string()).await;
        match answer.get_mut("error").map(Value::take) {
            Some(error) => Err(error),
            None => Ok(answer["result"].take()),
        }
    }

    pub(crate) async fn ok(&self, method: &str, params: Value) -> Value {
        self.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What a method says of the newest slot's state.
    pub(crate) async fn value(&self, method: &str, params: Value) -> Value {
        self.ok(method, params).await["value"].take()
    }

    pub(crate) async fn fails(&self, method: &str, params: Value) -> (i64, String) {
        let error = self.call(method, params.clone()).await.expect_err(&format!("{method} {params}"));
        (error["code"].as_i64().unwrap(), error["message"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn blockhash(&self) -> Hash {
        let value = self.value("getLatestBlockhash", json!([{ "commitment": "processed" }])).await;
        value["blockhash"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) async fn balance(&self, address: &Pubkey, commitment: &str) -> u64 {
        let params = json!([address.to_string(), { "commitment": commitment }]);
        self.value("getBalance", params).await.as_u64().unwrap()
    }

    /// A key with so many lamports, final.
    pub(crate) async fn funded(&self, lamports: u64) -> Keypair {
        let key = Keypair::new();
        self.node.fund(&key.pubkey().to_string(), lamports).await.unwrap();
        self.node.mine(9).await.unwrap();
        key
    }

    pub(crate) async fn sign(&self, signers: &[&Keypair], instructions: &[Instruction]) -> VersionedTransaction {
        sign(signers, instructions, self.blockhash().await)
    }

    pub(crate) async fn send(&self, transaction: &VersionedTransaction) -> Result<String, Value> {
        let params = json!([encode(transaction), { "encoding": "base64", "preflightCommitment": "processed" }]);
        self.call("sendTransaction", params).await.map(|signature| signature.as_str().unwrap().to_owned())
    }

    pub(crate) async fn send_blindly(&self, transaction: &VersionedTransaction) -> String {
        let params = json!([encode(transaction), { "encoding": "base64", "skipPreflight": true }]);
        self.ok("sendTransaction", params).await.as_str().unwrap().to_owned()
    }

    /// Sends, makes a slot, and returns the transaction as `getTransaction` has it once it is confirmed.
    pub(crate) async fn execute(&self, signers: &[&Keypair], instructions: &[Instruction]) -> Value {
        let transaction = self.sign(signers, instructions).await;
        let signature = self.send(&transaction).await.unwrap_or_else(|error| panic!("{error}"));
        self.node.mine(2).await.unwrap();
        self.transaction(&signature).await
    }

    pub(crate) async fn transaction(&self, signature: &str) -> Value {
        let config = json!({ "commitment": "confirmed", "maxSupportedTransactionVersion": 0 });
        self.ok("getTransaction", json!([signature, config])).await
    }

    pub(crate) async fn status(&self, signature: &str) -> Value {
        let config = json!({ "searchTransactionHistory": true });
        self.value("getSignatureStatuses", json!([[signature], config])).await[0].take()
    }
}

pub(crate) fn sign(signers: &[&Keypair], instructions: &[Instruction], blockhash: Hash) -> VersionedTransaction {
    let message = Message::new_with_blockhash(instructions, Some(&signers[0].pubkey()), &blockhash);
    VersionedTransaction::try_new(VersionedMessage::Legacy(message), signers).unwrap()
}

pub(crate) fn encode(transaction: &VersionedTransaction) -> String {
    BASE64_STANDARD.encode(bincode::serialize(transaction).unwrap())
}

pub(crate) fn transfer(from: &Keypair, to: &Pubkey, lamports: u64) -> Instruction {
    solana_system_interface::instruction::transfer(&from.pubkey(), to, lamports)
}
