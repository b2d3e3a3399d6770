//! Subscriptions over WebSockets.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use simulator::node::solana::SolanaConfig;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signer;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::node::{Node, SOL, transfer};

/// A WebSocket client, which keeps what it was told while it waited for an answer.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    told: Vec<Value>,
    calls: u64,
}

impl Socket {
    pub(crate) async fn connect(url: &str) -> Self {
        let (stream, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Self { stream, told: Vec::new(), calls: 0 }
    }

    async fn receive(&mut self) -> Value {
        loop {
            let received = tokio::time::timeout(Duration::from_secs(30), self.stream.next()).await;
            if let Message::Text(text) = received.expect("something is told").unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    pub(crate) async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.calls += 1;
        let request = json!({ "jsonrpc": "2.0", "id": self.calls, "method": method, "params": params });
        self.stream.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let mut received = self.receive().await;
            if received.get("method").is_some() {
                self.told.push(received);
            } else {
                assert_eq!(received["id"], self.calls);
                return match received.get_mut("error").map(Value::take) {
                    Some(error) => Err(error),
                    None => Ok(received["result"].take()),
                };
            }
        }
    }

    pub(crate) async fn ok(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What a subscription is told next.
    pub(crate) async fn next(&mut self, method: &str, id: &Value) -> Value {
        let is = |told: &Value| told["method"] == method && told["params"]["subscription"] == *id;
        loop {
            if let Some(at) = self.told.iter().position(is) {
                return self.told.remove(at)["params"]["result"].take();
            }
            let received = self.receive().await;
            self.told.push(received);
        }
    }
}

#[tokio::test]
async fn what_happens_is_told() {
    let node = Node::start().await;
    let from = node.funded(3 * SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let mut socket = Socket::connect(&node.node.websocket_url()).await;
    let tip = socket.ok("getSlot", json!([{ "commitment": "processed" }])).await.as_u64().unwrap();

    let processed = json!({ "commitment": "processed" });
    let slots = socket.ok("slotSubscribe", json!([])).await;
    let roots = socket.ok("rootSubscribe", json!(null)).await;
    let account = json!([to.to_string(), { "commitment": "confirmed", "encoding": "base64" }]);
    let account = socket.ok("accountSubscribe", account).await;
    let all = socket.ok("logsSubscribe", json!(["all", processed])).await;
    let mentioned = json!([{ "mentions": [Pubkey::new_unique().to_string()] }, processed]);
    let mentioned = socket.ok("logsSubscribe", mentioned).await;
    assert_eq!([&slots, &roots, &account, &all, &mentioned], [0, 1, 2, 3, 4].map(|id| json!(id)).each_ref());

    let transaction = node.sign(&[&from], &[transfer(&from, &to, SOL)]).await;
    let signature = transaction.signatures[0].to_string();
    let mut subscribed = Vec::new();
    for level in ["processed", "confirmed", "finalized"] {
        subscribed.push(socket.ok("signatureSubscribe", json!([signature, { "commitment": level }])).await);
    }
    let received = json!([signature, { "commitment": "confirmed", "enableReceivedNotification": true }]);
    let received = socket.ok("signatureSubscribe", received).await;
    node.send(&transaction).await.unwrap();
    node.node.mine(1).await.unwrap();
    let told = socket.next("slotNotification", &slots).await;
    assert_eq!(told, json!({ "slot": tip + 1, "parent": tip, "root": tip + 1 - 8 }));
    assert_eq!(socket.next("rootNotification", &roots).await, tip + 1 - 8);
    let told = socket.next("signatureNotification", &subscribed[0]).await;
    assert_eq!(told, json!({ "context": { "slot": tip + 1 }, "value": { "err": null } }));
    let told = socket.next("logsNotification", &all).await;
    assert_eq!((&told["context"]["slot"], &told["value"]["signature"]), (&json!(tip + 1), &json!(signature)));
    assert_eq!((&told["value"]["err"], told["value"]["logs"].as_array().unwrap().len()), (&Value::Null, 2));

    // A block has brought it; what came of it is told at the level that was asked for.
    let told = socket.next("signatureNotification", &received).await;
    assert_eq!(told, json!({ "context": { "slot": tip + 1 }, "value": "receivedSignature" }));

    node.node.mine(1).await.unwrap();
    let told = socket.next("signatureNotification", &received).await;
    assert_eq!(told, json!({ "context": { "slot": tip + 1 }, "value": { "err": null } }));
    let told = socket.next("accountNotification", &account).await;
    assert_eq!((&told["context"]["slot"], &told["value"]["lamports"]), (&json!(tip + 1), &json!(2 * SOL)));
    assert_eq!(told["value"]["data"], json!(["", "base64"]));
    assert_eq!(socket.next("signatureNotification", &subscribed[1]).await["context"]["slot"], tip + 1);
    node.node.mine(7).await.unwrap();
    assert_eq!(socket.next("signatureNotification", &subscribed[2]).await["context"]["slot"], tip + 1);

    // A signature is told once and its subscription is over; others end when they are told to.
    let over = socket.call("signatureUnsubscribe", json!([subscribed[0]])).await.unwrap_err();
    assert_eq!((&over["code"], &over["message"]), (&json!(-32602), &json!("Invalid subscription id.")));
    assert_eq!(socket.ok("slotUnsubscribe", json!([slots])).await, true);
    let later = socket.ok("signatureSubscribe", json!([signature])).await;
    socket.next("signatureNotification", &later).await;
    assert!(socket.told.iter().all(|told| told["params"]["subscription"] != mentioned));
    for (method, params) in [
        ("signatureSubscribe", json!(["x"])),
        ("logsSubscribe", json!([{ "mentions": [] }])),
        ("logsSubscribe", json!(["some"])),
        ("accountSubscribe", json!([])),
        ("slotUnsubscribe", json!([99])),
    ] {
        assert_eq!(socket.call(method, params.clone()).await.unwrap_err()["code"], -32602, "{method} {params}");
    }
    assert_eq!(socket.call("blockSubscribe", json!(["all"])).await.unwrap_err()["code"], -32601);
    node.stop().await;
}

#[tokio::test]
async fn a_fork_is_followed() {
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = SolanaConfig { websocket: Some(listen), block_interval: None, ..SolanaConfig::default() };
    let node = Node::with(config).await;
    assert_eq!(node.node.websocket_url(), format!("ws://{listen}"));
    node.node.mine(4).await.unwrap();
    let mut socket = Socket::connect(&node.node.websocket_url()).await;
    let slots = socket.ok("slotSubscribe", json!([])).await;
    node.node.mine(1).await.unwrap();
    assert_eq!(socket.next("slotNotification", &slots).await["slot"], 5);
    assert_eq!(node.node.reorganize(2).await.unwrap(), [6, 7, 8]);
    let mut told = Vec::new();
    for _ in 0..3 {
        let slot = socket.next("slotNotification", &slots).await;
        told.push((slot["parent"].as_u64().unwrap(), slot["slot"].as_u64().unwrap()));
    }
    assert_eq!(told, [(3, 6), (6, 7), (7, 8)]);
    node.stop().await;
}
