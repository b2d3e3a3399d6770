//! Branches that win and lose, and blocks that never leave the chain.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};
use simulator::node::ethereum::{Coin, DEMO_TOKEN};
use simulator::seed::Seed;

use crate::client::GWEI;
use crate::three::{SAFE, Three, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_reorganises_the_shorter_half() {
    let three = Three::start().await;
    let alice = three.rich("alice").await;
    let logs = three.ok(0, "eth_newFilter", json!([{ "address": DEMO_TOKEN }])).await;
    let heads = three.ok(0, "eth_newBlockFilter", json!([])).await;

    three.partition(&[&[0], &[1, 2]]);
    assert_eq!(three.ok(0, "net_peerCount", json!([])).await, "0x0");
    let hash = three.send(0, &alice.payment(0, GWEI)).await;
    let mint = three.node(0).fund(&alice.address().to_string(), U256::from(5), Coin::Token(DEMO_TOKEN)).await.unwrap();
    let lost: B256 = serde_json::from_value(three.mined(0, hash).await["blockHash"].clone()).unwrap();
    three.node(0).mine(1).await.unwrap();
    let lost_head = three.head(0).await;
    three.node(1).mine(3).await.unwrap();
    three.agree(&[1, 2]).await;
    assert_ne!(three.head(0).await, three.head(1).await);
    assert_eq!(three.ok(2, "txpool_status", json!([])).await["pending"], "0x0", "nothing crosses the partition");
    let found = three.ok(0, "eth_getFilterChanges", json!([logs])).await;
    assert_eq!((found.as_array().unwrap().len(), &found[0]["removed"]), (1, &json!(false)));
    assert_eq!(three.ok(0, "eth_getFilterChanges", json!([heads])).await, json!([lost, lost_head]));

    three.heal();
    three.agree(&[1, 0]).await;
    // Both payments wait again, everywhere, and nothing of the lost branch is told as if it were the chain's.
    for index in 0..3 {
        three.waits(index, hash).await;
        three.waits(index, mint).await;
        assert_eq!(three.ok(index, "eth_getTransactionReceipt", json!([hash])).await, Value::Null);
        assert_eq!(
            three.ok(index, "eth_getLogs", json!([{ "fromBlock": "0x0", "address": DEMO_TOKEN }])).await,
            json!([])
        );
        assert_eq!(three.ok(index, "eth_getTransactionCount", json!([alice.address(), "latest"])).await, "0x0");
    }
    let removed = three.ok(0, "eth_getFilterChanges", json!([logs])).await;
    assert_eq!((removed.as_array().unwrap().len(), &removed[0]["removed"]), (1, &json!(true)));
    assert_eq!(removed[0]["blockHash"], found[0]["blockHash"]);
    let joined = three.ok(0, "eth_getFilterChanges", json!([heads])).await;
    assert_eq!(joined.as_array().unwrap().len(), 3);
    assert_eq!(joined[2], json!(three.head(1).await));
    // A lost block can still be asked for by its hash.
    assert_eq!(three.ok(0, "eth_getBlockByHash", json!([lost, false])).await["hash"], json!(lost));
    let then = json!([alice.address(), { "blockHash": lost }]);
    assert_eq!(three.ok(0, "eth_getTransactionCount", then).await, "0x1");

    three.node(2).mine(1).await.unwrap();
    three.agree(&[2, 0, 1]).await;
    for index in 0..3 {
        assert_eq!(three.mined(index, hash).await["status"], "0x1");
        assert_eq!(three.mined(index, mint).await["status"], "0x1");
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_on_command_goes_as_deep_as_nothing_is_settled() {
    let three = Three::start().await;
    let alice = three.rich("alice").await;
    three.slots(1, 3 * SAFE, &[0, 2]).await;
    let hash = three.send(0, &alice.payment(0, GWEI)).await;
    three.slots(0, 1, &[1, 2]).await;
    let before = three.mined(1, hash).await;
    let safe = three.block(0, "safe").await;

    let branch = three.ok(0, "sim_reorg", json!([{ "depth": 2 }])).await;
    assert_eq!(branch.as_array().unwrap().len(), 3);
    assert_eq!(json!(three.head(0).await), branch[2]);
    three.agree(&[0, 1, 2]).await;
    three.waits(2, hash).await;
    three.slots(2, 1, &[0, 1]).await;
    assert_ne!(three.mined(1, hash).await["blockHash"], before["blockHash"]);
    assert_eq!(three.ok(0, "eth_getBlockByHash", json!([safe["hash"], false])).await, safe);
    let number = safe["number"].as_str().unwrap();
    assert_eq!(three.block(1, number).await["hash"], safe["hash"]);

    let deep = three.refused(0, "sim_reorg", json!([{ "depth": 2 * SAFE + 2 }])).await;
    assert!(deep.contains("can leave the chain"), "{deep}");
    three.stop().await;
}

/// Waits until a node's safe block has at least this number.
async fn safe_from(three: &Three, index: u16, least: u64) {
    let is =
        |block: &Value| U256::from_str_radix(&block["number"].as_str().unwrap()[2..], 16).unwrap() >= U256::from(least);
    three.until(index, "eth_getBlockByNumber", json!(["safe", false]), is).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finality_needs_two_thirds() {
    let three = Three::start().await;
    let depth = u64::from(SAFE);
    three.slots(0, 3 * SAFE, &[1, 2]).await;
    safe_from(&three, 1, 2 * depth - 2).await;

    // Two of three go on; the third stands still, however long its branch is.
    three.partition(&[&[0], &[1, 2]]);
    let stuck = three.number(0, "safe").await;
    three.node(0).mine(6 * SAFE).await.unwrap();
    three.slots(1, 3 * SAFE, &[2]).await;
    safe_from(&three, 1, 5 * depth - 2).await;
    assert_eq!(three.number(0, "safe").await, stuck);
    assert!(three.number(0, "latest").await > three.number(1, "latest").await);
    three.heal();
    three.agree(&[1, 0]).await;
    safe_from(&three, 0, 5 * depth - 2).await;

    // Three thirds stand still all of them, and go on together.
    three.partition(&[&[0], &[1], &[2]]);
    let stuck = [three.number(0, "safe").await, three.number(1, "safe").await, three.number(2, "safe").await];
    for index in 0..3 {
        three.node(index).mine(2 * SAFE + u32::from(index)).await.unwrap();
    }
    for index in 0..3 {
        assert_eq!(three.number(index, "safe").await, stuck[usize::from(index)]);
    }
    let longest = three.head(2).await;
    three.heal();
    three.agree(&[2, 0, 1]).await;
    assert_eq!(three.head(0).await, longest);
    three.slots(0, SAFE + 3, &[1, 2]).await;
    let height = three.number(0, "latest").await;
    for index in 0..3 {
        safe_from(&three, index, height - depth - 2).await;
    }
    three.stop().await;
}

/// Partitions, reorganisations and blocks as chance has them.
async fn storm(seed: u64, steps: u64) {
    let three = Three::start_with(quick(), 2 * SAFE, seed).await;
    let stream = Seed(seed).stream("storm");
    let alice = three.rich("alice").await;
    // Her money is out of reach of reorganisations.
    three.slots(0, 2 * SAFE, &[1, 2]).await;
    safe_from(&three, 0, 1).await;
    let mut hashes = Vec::new();
    let mut settled: BTreeMap<u64, Value> = BTreeMap::new();
    for step in 0..steps {
        let mut draw = stream.draw(step);
        let node = u16::try_from(draw.below(3)).unwrap();
        match draw.below(10) {
            0 => three.partition(&[&[node]]),
            1 => three.heal(),
            2 => drop(three.call(node, "sim_reorg", json!([{ "depth": 1 + draw.below(3) }])).await.unwrap()),
            3 | 4 => {
                let nonce = u64::try_from(hashes.len()).unwrap();
                hashes.push(three.send(node, &alice.payment(nonce, GWEI)).await);
            }
            _ => drop(three.node(node).mine(1).await.unwrap()),
        }
        for index in 0..3 {
            for tag in ["safe", "finalized"] {
                let block = three.block(index, tag).await;
                let number: U64 = serde_json::from_value(block["number"].clone()).unwrap();
                let known = settled.entry(number.to()).or_insert_with(|| block["hash"].clone());
                assert_eq!(*known, block["hash"], "seed {seed}, step {step}: block {number} is {tag} at node {index}");
            }
        }
    }
    three.heal();
    three.agree(&[0, 1, 2].map(|index| (index + 1) % 3)).await;
    // Whatever is settled is on everyone's chain, and every payment in the end.
    three.slots(1, 2 * SAFE, &[0, 2]).await;
    for index in 0..3 {
        for (number, hash) in &settled {
            assert_eq!(three.block(index, &format!("{number:#x}")).await["hash"], *hash);
        }
        for hash in &hashes {
            assert_eq!(three.mined(index, *hash).await["status"], "0x1");
        }
    }
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_settled_ever_leaves_and_no_payment_is_lost() {
    for seed in 1..=3 {
        storm(seed, 40).await;
    }
}
