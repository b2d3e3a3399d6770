//! What one node knows all get to know.

use alloy::primitives::{B256, U64};
use serde_json::{Value, json};
use simulator::network::{Conditions, Latency};
use simulator::seed::Probability;
use simulator::topology::NodeIndex;

use crate::client::GWEI;
use crate::three::{SAFE, Three, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_blocks_reach_everyone() {
    let three = Three::start().await;
    assert_eq!(three.head(0).await, three.head(2).await, "all begin with the same block");
    for index in 0..3 {
        assert_eq!(three.ok(index, "net_peerCount", json!([])).await, "0x2");
    }
    let alice = three.rich("alice").await;
    let hash = three.send(1, &alice.payment(0, GWEI)).await;
    for index in [0, 2] {
        three.waits(index, hash).await;
        assert_eq!(three.ok(index, "eth_getTransactionCount", json!([alice.address(), "pending"])).await, "0x1");
    }
    three.node(2).mine(1).await.unwrap();
    three.agree(&[2, 0, 1]).await;
    let receipts = [three.mined(0, hash).await, three.mined(1, hash).await, three.mined(2, hash).await];
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0] && receipt["status"] == "0x1"));
    for index in 0..3 {
        assert_eq!(three.ok(index, "txpool_status", json!([])).await, json!({ "pending": "0x0", "queued": "0x0" }));
        assert_eq!(three.ok(index, "eth_getTransactionCount", json!([alice.address(), "latest"])).await, "0x1");
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_has_a_faucet() {
    let three = Three::start().await;
    three.partition(&[&[0], &[1], &[2]]);
    let mut paid = Vec::new();
    for index in 0..3 {
        let to = alloy::primitives::Address::repeat_byte(u8::try_from(index).unwrap() + 1);
        paid.push(three.ok(index, "sim_fund", json!([to, "1000"])).await);
    }
    three.heal();
    // Two of the three branches of one block lose, and what they paid comes again.
    let all: Vec<B256> = paid.into_iter().map(|hash| serde_json::from_value(hash).unwrap()).collect();
    three.until(0, "eth_getBlockByNumber", json!(["latest", false]), |block| block["number"] == "0x1").await;
    let lowest = |heads: &[B256]| *heads.iter().min().unwrap();
    let winner = lowest(&[three.head(0).await, three.head(1).await, three.head(2).await]);
    for index in 0..3 {
        three
            .until(index, "eth_getBlockByNumber", json!(["latest", false]), |block| block["hash"] == json!(winner))
            .await;
        three.until(index, "txpool_status", json!([]), |status| status["pending"] == "0x2").await;
    }
    three.node(1).mine(1).await.unwrap();
    three.agree(&[1, 0, 2]).await;
    for hash in all {
        assert_eq!(three.mined(2, hash).await["status"], "0x1");
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_node_resumes_and_catches_up() {
    let three = Three::start().await;
    let alice = three.rich("alice").await;
    three.slots(2, 2 * SAFE + 3, &[0, 1]).await;
    let cluster = three.world.ethereum_nodes();
    let safe = three.number(2, "safe").await;
    assert!(safe > 0);
    cluster.crash(NodeIndex(2)).await.unwrap();
    assert!(three.node(2).mine(1).await.is_err());

    // More than one answer holds, and final without the third.
    let hash = three.send(0, &alice.payment(0, GWEI)).await;
    three.node(0).mine(300).await.unwrap();
    three.agree(&[0, 1]).await;
    three.slots(1, SAFE + 2, &[0]).await;
    let height = three.number(0, "latest").await;
    three.until(0, "eth_getBlockByNumber", json!(["safe", false]), number_above(height - u64::from(SAFE) - 3)).await;
    cluster.restart(NodeIndex(2)).await.unwrap();
    assert!(three.number(2, "safe").await >= safe, "what was safe is so after a restart");
    three.agree(&[0, 2]).await;
    assert_eq!(three.mined(2, hash).await, three.mined(0, hash).await);
    three.until(2, "eth_getBlockByNumber", json!(["safe", false]), number_above(height - u64::from(SAFE) - 3)).await;

    // All of them at once, from their journals.
    let (head, receipt) = (three.head(0).await, three.mined(0, hash).await);
    for index in 0..3 {
        cluster.crash(NodeIndex(index)).await.unwrap();
    }
    for index in 0..3 {
        cluster.restart(NodeIndex(index)).await.unwrap();
        assert_eq!((three.head(index).await, three.mined(index, hash).await), (head, receipt.clone()));
    }
    three.stop().await;
}

/// Whether a block's number is above this one.
fn number_above(least: u64) -> impl Fn(&Value) -> bool {
    move |block| serde_json::from_value::<U64>(block["number"].clone()).unwrap().to::<u64>() > least
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_delays_but_loses_nothing() {
    let conditions = Conditions {
        latency: Latency { least_ms: 0, spread_ms: 3, tail_ms: 1 },
        loss: Probability::from_millionths(300_000),
        duplication: Probability::from_millionths(300_000),
    };
    let three = Three::start_with(conditions, 2 * SAFE, 11).await;
    for round in 0..12_u16 {
        three.slots(round % 3, 1, &[0, 1, 2]).await;
    }
    assert_eq!(three.number(1, "latest").await, 12);
    three.world.ethereum_nodes().network().set_conditions(quick());
    three.slots(0, 3, &[1, 2]).await;
    three.until(2, "eth_getBlockByNumber", json!(["safe", false]), number_above(0)).await;
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_make_blocks_in_turn() {
    let three = Three::start().await;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": 20 }])).await;
    three.until(0, "eth_blockNumber", json!([]), |number| number.as_str().unwrap().len() > 3).await;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": null }])).await;
    let mut makers = std::collections::BTreeSet::new();
    for number in 1..=16 {
        makers.insert(three.block(0, &format!("{number:#x}")).await["extraData"].to_string());
    }
    assert!(makers.len() > 1 && makers.len() <= 3, "{makers:?}");
    three.stop().await;
}
