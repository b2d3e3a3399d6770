//! A node that was stopped goes on where it was.

use alloy::primitives::U256;
use serde_json::{Value, json};
use simulator::node::ethereum::{Coin, DEMO_TOKEN, EthereumConfig, EthereumNode, StartError};
use simulator::rpc::CancellationToken;

use crate::client::{GWEI, World};

async fn everything(world: &World, address: &str) -> Vec<Value> {
    let mut told = Vec::new();
    for number in 0..=world.height().await {
        told.push(world.ask("eth_getBlockByNumber", json!([U256::from(number), true])).await);
        told.push(world.ask("eth_getBlockReceipts", json!([U256::from(number)])).await);
        told.push(world.ask("eth_getBalance", json!([address, U256::from(number)])).await);
    }
    told.push(world.ask("txpool_content", json!([])).await);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_tells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_in(folder.path()).await;
    let alice = world.rich("alice").await;
    let address = alice.address().to_string();
    world.node.fund(&address, U256::from(500), Coin::Token(DEMO_TOKEN)).await.unwrap();
    world.send(&alice.payment(0, GWEI)).await;
    world.node.mine(3).await.unwrap();
    world.ask("anvil_setBalance", json!(["0x0000000000000000000000000000000000000005", "0x5"])).await;
    let replaced = world.send(&alice.payment(1, GWEI)).await;
    let waiting = world.send(&alice.payment(1, 20 * GWEI)).await;
    let before = everything(&world, &address).await;
    world.stop().await;

    let world = World::start_in(folder.path()).await;
    assert_eq!(everything(&world, &address).await, before);
    assert_eq!(world.ask("eth_getTransactionByHash", json!([replaced])).await, Value::Null);
    world.node.mine(1).await.unwrap();
    let receipt = world.ask("eth_getTransactionReceipt", json!([waiting])).await;
    assert_eq!(receipt["status"], "0x1");
    let after = everything(&world, &address).await;
    world.stop().await;

    let world = World::start_in(folder.path()).await;
    assert_eq!(everything(&world, &address).await, after);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chains_or_a_changed_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::start_in(folder.path()).await;
    world.rich("alice").await;
    let clock = world.clock.clone();
    world.stop().await;

    let start = async |chain_id: u64| {
        let config = EthereumConfig { dir: Some(folder.path().to_owned()), chain_id, ..EthereumConfig::default() };
        EthereumNode::start(config, clock.clone(), CancellationToken::new()).await.map(|_| ())
    };
    assert!(matches!(start(1).await, Err(StartError::Replay(_))));

    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let journal = std::fs::read_to_string(&file).unwrap();
    // The block's time is part of its hash.
    std::fs::write(&file, journal.replace("\"timestamp\":1700000001", "\"timestamp\":1700000009")).unwrap();
    assert!(matches!(start(31_337).await, Err(StartError::Replay(_))));
    std::fs::write(&file, journal).unwrap();
    assert!(start(31_337).await.is_ok());
}
