//! Faults, crashes and the simulator's own methods, over HTTP as a client and a tester see them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

use std::sync::Arc;

use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::fault::timeline::Timeline;
use simulator::node::solana::SolanaConfig;
use simulator::seed::Seed;
use simulator::world::{World, WorldConfig};

struct Port {
    http: reqwest::Client,
    url: String,
}

impl Port {
    fn new(url: String) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), url }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, reqwest::Error> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = self.http.post(&self.url).body(body.to_string()).send().await?.text().await?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn ok(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await.unwrap();
        assert_eq!(answer.get("error"), None, "{method}");
        answer["result"].clone()
    }

    async fn error(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.call(method, params).await.unwrap();
        let code = answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method} was answered {answer}"));
        (code, answer["error"]["message"].as_str().unwrap().to_owned())
    }
}

/// A world on demand, and its own port.
async fn world(seed: u64) -> (World, Port) {
    let solana = SolanaConfig { block_interval: None, ..SolanaConfig::default() };
    let control = Some(([127, 0, 0, 1], 0).into());
    let config = WorldConfig { seed: Seed(seed), control, solana, ..WorldConfig::default() };
    let world = World::start(config, Arc::new(ManualClock::new(1_750_000_000_000))).await.unwrap();
    let port = Port::new(world.control_url().unwrap());
    (world, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_struck_and_written_down() {
    let (world, port) = world(1).await;
    let node = Port::new(world.ethereum().url());
    assert_eq!(node.ok("eth_chainId", json!([])).await, "0x7a69");

    let busy = json!({
        "id": "busy",
        "chain": "ethereum",
        "fault": { "kind": "error", "code": -32005, "message": "limit exceeded" },
        "scope": { "on": "rpc", "methods": ["eth_chain*"] },
        "count": 2,
    });
    assert_eq!(port.ok("sim_addFault", busy.clone()).await, json!({ "id": "busy" }));
    assert_eq!(port.error("sim_addFault", busy).await.0, -32602, "the name is taken");
    for _ in 0..2 {
        assert_eq!(node.error("eth_chainId", json!([])).await, (-32005, "limit exceeded".to_owned()));
    }
    assert_eq!(node.ok("eth_chainId", json!([])).await, "0x7a69");
    let listed = port.ok("sim_listFaults", json!([])).await;
    assert_eq!((&listed[0]["seen"], &listed[0]["struck"]), (&json!(3), &json!(2)));
    assert_eq!(port.ok("sim_removeFault", json!({ "id": "busy" })).await, true);
    assert_eq!(port.ok("sim_removeFault", json!([{ "id": "busy" }])).await, false);

    // A fault that is added at a node's port is of its chain.
    let dropped = json!([{ "fault": { "kind": "drop", "executed": true }, "scope": { "on": "rpc", "methods": ["sim_mine"] }, "count": 1 }]);
    // What the simulator answers itself is not struck; what the dialect answers is.
    node.ok("sim_addFault", dropped).await;
    let before = node.ok("eth_blockNumber", json!([])).await;
    assert!(node.call("sim_mine", json!([1])).await.is_err(), "the connection breaks");
    assert_ne!(node.ok("eth_blockNumber", json!([])).await, before, "but the call was executed");

    let timeline = port.ok("sim_timeline", json!([])).await;
    let strikes: Vec<_> = timeline["strikes"].as_array().unwrap().iter().map(|strike| &strike["what"]).collect();
    assert_eq!(strikes, ["error -32005 limit exceeded", "error -32005 limit exceeded", "drop after execution"]);
    assert_eq!(timeline["strikes"][0]["subject"], "ethereum/0 eth_chainId");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_never_answered_ends_with_the_world() {
    let (world, port) = world(1).await;
    let node = Port::new(world.solana().url());
    let rule =
        json!({ "chain": "solana", "fault": { "kind": "timeout" }, "scope": { "on": "rpc", "methods": ["getSlot"] } });
    port.ok("sim_addFault", rule).await;
    let call = tokio::spawn(async move { node.call("getSlot", json!([])).await });
    while port.ok("sim_listFaults", json!([])).await[0]["struck"] != 1 {
        tokio::task::yield_now().await;
    }
    assert!(!call.is_finished());
    world.shutdown().await;
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_crashes_and_comes_back_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let solana = SolanaConfig { block_interval: None, ..SolanaConfig::default() };
    let control = Some(([127, 0, 0, 1], 0).into());
    let config = WorldConfig { dir: Some(folder.path().to_owned()), control, solana, ..WorldConfig::default() };
    let world = World::start(config, Arc::new(ManualClock::new(1_750_000_000_000))).await.unwrap();
    let port = Port::new(world.control_url().unwrap());
    let node = Port::new(world.ethereum().url());
    node.ok("sim_mine", json!([3])).await;
    let height = node.ok("eth_blockNumber", json!([])).await;

    let target = json!({ "chain": "ethereum", "node": 0 });
    assert_eq!(port.ok("sim_crash", target.clone()).await, Value::Null);
    assert!(node.call("eth_blockNumber", json!([])).await.is_err());
    assert_eq!(port.ok("sim_status", json!([])).await["chains"][1]["nodes"][0]["up"], false);
    assert!(port.error("sim_crash", target.clone()).await.1.contains("is down"));
    assert_eq!(port.ok("sim_restart", target.clone()).await, Value::Null);
    assert!(port.error("sim_restart", target).await.1.contains("runs already"));
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, height, "at the same port, from its journal");

    // A node that is told to crash at its own port takes the call with it.
    assert!(node.call("sim_crash", json!({})).await.is_err());
    port.ok("sim_restart", json!({ "chain": "ethereum", "node": 0 })).await;
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, height);

    // The crash that took its own call with it is written down when it is over.
    let strikes = async || port.ok("sim_timeline", json!([])).await["strikes"].as_array().unwrap().clone();
    while strikes().await.len() < 4 {
        tokio::task::yield_now().await;
    }
    let strikes = strikes().await;
    let done = |what: &str| strikes.iter().filter(|strike| strike["what"] == what).count();
    assert_eq!((strikes.len(), done("crash"), done("restart")), (4, 2, 2));

    // A rule crashes it, and brings it back when it is removed.
    let rule = json!({ "id": "gone", "chain": "ethereum", "fault": { "kind": "crash" }, "scope": { "on": "node" } });
    port.ok("sim_addFault", rule).await;
    let up = async || port.ok("sim_status", json!([])).await["chains"][1]["nodes"][0]["up"].as_bool().unwrap();
    while up().await {
        tokio::task::yield_now().await;
    }
    port.ok("sim_removeFault", json!({ "id": "gone" })).await;
    while !up().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.ok("eth_blockNumber", json!([])).await, height);
    world.shutdown().await;
}

/// What strikes 60 calls of each of two methods, made in turn or both at once.
async fn struck(seed: u64, at_once: bool) -> Timeline {
    let (world, port) = world(seed).await;
    let rule = json!({
        "id": "flaky",
        "fault": { "kind": "error", "code": -1, "message": "flaky" },
        "scope": { "on": "rpc", "methods": ["eth_chainId", "net_version"] },
        "probability": 0.4,
    });
    port.ok("sim_addFault", rule).await;
    let node = Port::new(world.ethereum().url());
    let calls = async |method: &str| {
        for _ in 0..60 {
            node.call(method, json!([])).await.unwrap();
        }
    };
    if at_once {
        tokio::join!(calls("eth_chainId"), calls("net_version"));
    } else {
        calls("net_version").await;
        calls("eth_chainId").await;
    }
    let timeline = world.controller().faults().timeline();
    world.shutdown().await;
    timeline
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_gives_one_fault_timeline() {
    let (one, two, other) = tokio::join!(struck(3, false), struck(3, true), struck(4, false));
    assert!((20..80).contains(&one.strikes().len()), "{} of 120", one.strikes().len());
    assert_eq!(one.strikes().len(), two.strikes().len());
    assert_eq!(one.difference(&two), None);
    assert!(one.difference(&other).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_refused() {
    let (world, port) = world(1).await;
    let cases = [
        ("sim_addFault", json!({ "fault": { "kind": "lie" }, "scope": { "on": "link" } })),
        ("sim_addFault", json!({ "fault": { "kind": "melt" }, "scope": { "on": "rpc" } })),
        (
            "sim_addFault",
            json!({ "chain": "ethereum", "fault": { "kind": "expire_blockhash" }, "scope": { "on": "node" } }),
        ),
        ("sim_crash", json!({ "chain": "bitcoin", "node": 7 })),
        ("sim_crash", json!({ "chain": "dogecoin", "node": 0 })),
        ("sim_crash", json!({})),
        ("sim_reorg", json!({ "chain": "bitcoin", "depth": 0 })),
        ("sim_partition", json!({ "chain": "bitcoin" })),
        ("sim_removeFault", json!([1, 2])),
    ];
    for (method, params) in cases {
        assert_eq!(port.error(method, params.clone()).await.0, -32602, "{method} {params}");
    }
    assert_eq!(port.error("sim_nothing", json!([])).await.0, -32601);
    world.shutdown().await;
}
