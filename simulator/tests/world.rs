//! The world: three nodes start together, stop together and resume.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

use std::sync::Arc;

use bitcoin::Amount;
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::world::{World, WorldConfig, WorldError};

async fn call(url: &str, credentials: Option<&str>, method: &str) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [] });
    let mut request =
        reqwest::Client::new().post(url).header("content-type", "application/json").body(body.to_string());
    if let Some((user, password)) = credentials.and_then(|credentials| credentials.split_once(':')) {
        request = request.basic_auth(user, Some(password));
    }
    let answer: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answer.get("error"), None, "{method}");
    answer["result"].clone()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_750_000_000_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_chains_start_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let config = || {
        let mut config = WorldConfig { dir: Some(folder.path().to_owned()), ..WorldConfig::default() };
        config.bitcoin.block_interval = None;
        config.ethereum.block_interval = None;
        config.solana.block_interval = None;
        config
    };
    let world = World::start(config(), clock()).await.unwrap();
    let cookie = std::fs::read_to_string(world.bitcoin().cookie_file().unwrap()).unwrap();
    assert_eq!(call(&world.bitcoin().url(), Some(&cookie), "getblockcount").await, 130);
    assert!(call(&world.ethereum().url(), None, "eth_blockNumber").await.is_string());
    assert_eq!(call(&world.solana().url(), None, "getHealth").await, "ok");

    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    world.bitcoin().fund(address, Amount::from_sat(100_000)).await.unwrap();
    let height = world.bitcoin().height().await.unwrap();
    world.shutdown().await;
    for chain in ["bitcoin", "ethereum", "solana"] {
        assert!(std::fs::read_dir(folder.path().join(chain)).unwrap().next().is_some(), "{chain} keeps its journal");
    }

    let world = World::start(config(), clock()).await.unwrap();
    assert_eq!(world.bitcoin().height().await.unwrap(), height);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_fails_takes_the_others_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bitcoin = BitcoinConfig { listen: taken.local_addr().unwrap(), ..BitcoinConfig::default() };
    let config = WorldConfig { dir: Some(folder.path().to_owned()), bitcoin, ..WorldConfig::default() };
    let failed = World::start(config, clock()).await;
    assert!(matches!(failed, Err(WorldError::Bitcoin(_))));
    // Nothing holds the folders any more.
    let config = WorldConfig { dir: Some(folder.path().to_owned()), ..WorldConfig::default() };
    World::start(config, clock()).await.unwrap().shutdown().await;
}
