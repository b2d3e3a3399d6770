//! `eth_subscribe` over WebSockets.

use std::time::Duration;

use alloy::primitives::U256;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use simulator::fault::rule::{Fault, Rule, Scope};
use simulator::node::ethereum::{Coin, DEMO_TOKEN};
use simulator::topology::{ChainKind, NodeIndex};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::client::GWEI;
use crate::three::Three;

/// A client on a WebSocket.
struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
    /// What came while an answer was waited for.
    told: std::collections::VecDeque<Value>,
}

impl Socket {
    async fn open(three: &Three, index: u16) -> Self {
        let url = three.node(index).url().replace("http://", "ws://");
        Self { stream: connect_async(url).await.unwrap().0, asked: 0, told: std::collections::VecDeque::new() }
    }

    /// The next message; `None` where the connection has ended.
    async fn receive(&mut self) -> Option<Value> {
        let message = tokio::time::timeout(Duration::from_secs(60), self.stream.next()).await.expect("nothing comes");
        match message? {
            Ok(Message::Text(text)) => Some(serde_json::from_str(&text).unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    async fn say(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.asked += 1;
        self.say(json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": params }).to_string()).await;
        self.asked
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params).await;
        loop {
            let message = self.receive().await.unwrap();
            if message["id"] == id {
                return message;
            }
            self.told.push_back(message);
        }
    }

    async fn subscribe(&mut self, params: Value) -> Value {
        let answer = self.call("eth_subscribe", params).await;
        answer["result"].as_str().unwrap_or_else(|| panic!("{answer}")).into()
    }

    /// What a subscription tells next.
    async fn news(&mut self, subscription: &Value) -> Value {
        loop {
            if let Some(at) = self.told.iter().position(|told| told["params"]["subscription"] == *subscription) {
                let mut told = self.told.remove(at).unwrap();
                assert_eq!((&told["jsonrpc"], &told["method"]), (&json!("2.0"), &json!("eth_subscription")));
                return told["params"]["result"].take();
            }
            let message = self.receive().await.unwrap();
            self.told.push_back(message);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_are_told_of_heads_logs_and_transactions() {
    let three = Three::start().await;
    let alice = three.rich("alice").await;
    let mut socket = Socket::open(&three, 0).await;
    assert_eq!(socket.call("eth_chainId", json!([])).await["result"], "0x7a69", "ordinary calls are answered too");
    let heads = socket.subscribe(json!(["newHeads"])).await;
    let logs = socket.subscribe(json!(["logs", { "address": DEMO_TOKEN }])).await;
    let hashes = socket.subscribe(json!(["newPendingTransactions"])).await;
    let whole = socket.subscribe(json!(["newPendingTransactions", true])).await;
    socket.subscribe(json!(["syncing"])).await;

    // Another node's transaction and block are news here too.
    let hash = three.send(1, &alice.payment(0, GWEI)).await;
    assert_eq!(socket.news(&hashes).await, json!(hash));
    assert_eq!(socket.news(&whole).await, three.ok(1, "eth_getTransactionByHash", json!([hash])).await);
    three.node(1).mine(1).await.unwrap();
    let head = socket.news(&heads).await;
    assert_eq!(head["hash"], json!(three.head(1).await));
    assert_eq!(head, three.ok(0, "eth_getHeaderByHash", json!([head["hash"]])).await);

    // A reorganisation takes the log back, and all blocks of the other branch are heads.
    three.agree(&[1, 2]).await;
    three.partition(&[&[0], &[1, 2]]);
    three.node(0).fund(&alice.address().to_string(), U256::from(5), Coin::Token(DEMO_TOKEN)).await.unwrap();
    let minted = socket.news(&logs).await;
    assert_eq!((&minted["removed"], &minted["address"]), (&json!(false), &json!(DEMO_TOKEN)));
    assert_eq!(socket.news(&heads).await["hash"], minted["blockHash"]);
    three.node(1).mine(2).await.unwrap();
    three.heal();
    let removed = socket.news(&logs).await;
    assert_eq!((&removed["removed"], &removed["transactionHash"]), (&json!(true), &minted["transactionHash"]));
    let [first, second] = [socket.news(&heads).await, socket.news(&heads).await];
    assert_eq!((&first["parentHash"], &second["parentHash"]), (&head["hash"], &first["hash"]));
    assert_eq!(second["hash"], json!(three.head(1).await));

    // Who has unsubscribed is told no more: the next word is on another subject.
    assert_eq!(socket.call("eth_unsubscribe", json!([heads])).await["result"], true);
    assert_eq!(socket.call("eth_unsubscribe", json!([heads])).await["error"]["message"], "subscription not found");
    let unknown = socket.call("eth_subscribe", json!(["weather"])).await;
    assert_eq!(unknown["error"]["message"], "no \"weather\" subscription in eth namespace");
    three.node(0).mine(1).await.unwrap();
    let word = socket.call("eth_blockNumber", json!([])).await;
    assert_eq!(word["result"], three.ok(0, "eth_blockNumber", json!([])).await);
    assert!(socket.told.iter().all(|told| told["params"]["subscription"] != heads));

    // Over HTTP there is nobody to tell.
    assert_eq!(three.refused(0, "eth_subscribe", json!(["newHeads"])).await, "notifications not supported");
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_takes_nonsense_faults_and_the_nodes_end() {
    let three = Three::start().await;
    let mut socket = Socket::open(&three, 0).await;
    for (text, code) in [("{", -32700), ("[]", -32600), ("{\"id\":1}", -32600), ("5", -32600)] {
        socket.say(text).await;
        assert_eq!(socket.receive().await.unwrap()["error"]["code"], code, "{text}");
    }
    let batch = json!([
        { "jsonrpc": "2.0", "id": "a", "method": "eth_chainId" },
        { "jsonrpc": "2.0", "method": "eth_chainId" },
        { "jsonrpc": "2.0", "id": "b", "method": "eth_subscribe", "params": ["newHeads"] },
    ]);
    socket.say(batch.to_string()).await;
    let answers = socket.receive().await.unwrap();
    assert_eq!(
        (&answers[0]["id"], &answers[1]["id"], answers.as_array().map(Vec::len)),
        (&json!("a"), &json!("b"), Some(2))
    );
    let heads = answers[1]["result"].clone();

    // A call that is never answered holds up neither others nor notifications.
    let controller = three.world.controller();
    let rule = |fault, method: &str| {
        let scope = Scope::Rpc { nodes: vec![NodeIndex(0)], methods: vec![method.to_owned()] };
        controller.add_fault(Rule { chain: Some(ChainKind::Ethereum), ..Rule::new(fault, scope) }).unwrap()
    };
    rule(Fault::Timeout { executed: false }, "eth_gasPrice");
    socket.ask("eth_gasPrice", json!([])).await;
    three.node(0).mine(1).await.unwrap();
    assert_eq!(socket.news(&heads).await["number"], "0x1");
    assert_eq!(socket.call("eth_blockNumber", json!([])).await["result"], "0x1");

    // A call that is dropped takes the connection with it, and so does a crash.
    rule(Fault::Drop { executed: false }, "net_version");
    socket.ask("net_version", json!([])).await;
    assert_eq!(socket.receive().await, None);
    let mut socket = Socket::open(&three, 0).await;
    socket.subscribe(json!(["newHeads"])).await;
    three.world.ethereum_nodes().crash(NodeIndex(0)).await.unwrap();
    assert_eq!(socket.receive().await, None);
    three.stop().await;
}
