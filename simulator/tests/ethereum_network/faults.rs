//! Faults of Ethereum's own, and that they repeat.

use std::sync::Arc;

use alloy::primitives::U256;
use serde_json::{Value, json};
use simulator::fault::rule::{Fault, Rule, RuleId, Scope};
use simulator::fault::timeline::Timeline;
use simulator::node::ethereum::BLOCK_GAS_LIMIT;
use simulator::seed::Probability;
use simulator::topology::{ChainKind, NodeIndex};

use crate::client::{GWEI, transfer};
use crate::three::{SAFE, Three, quick};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_ethereums_own() {
    let three = Three::start().await;
    let controller = Arc::clone(three.world.controller());
    let add = |fault, scope| {
        let rule = Rule { chain: Some(ChainKind::Ethereum), ..Rule::new(fault, scope) };
        controller.add_fault(rule).unwrap()
    };
    let calls = |methods: &[&str]| Scope::Rpc {
        nodes: vec![NodeIndex(0)],
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
    };
    let nodes = || Scope::Node { nodes: Vec::new() };
    let alice = three.rich("alice").await;
    let none = json!({ "pending": "0x0", "queued": "0x0" });
    let one = json!({ "pending": "0x1", "queued": "0x0" });

    // A lie is accepted and forgotten; what could not be accepted is refused all the same.
    let lie = add(Fault::Lie, calls(&["eth_sendRawTransaction"]));
    let payment = alice.payment(0, GWEI);
    let hash = three.send(0, &payment).await;
    assert_eq!(hash, alloy::primitives::keccak256(&payment));
    assert_eq!(three.ok(0, "txpool_status", json!([])).await, none);
    assert_eq!(three.ok(0, "eth_getTransactionByHash", json!([hash])).await, Value::Null);
    assert_eq!(three.refused(0, "eth_sendRawTransaction", json!(["0x"])).await, "typed transaction too short");
    controller.faults().remove(&lie);

    // A stale answer is one of some blocks ago: blocks, states, receipts and nonces of one and the same head.
    let old = three.block(0, "latest").await;
    assert_eq!(three.send(0, &payment).await, hash);
    three.node(0).mine(3).await.unwrap();
    let newest = three.block(0, "latest").await;
    let stale = add(Fault::Stale { blocks: 3 }, calls(&["eth_get*", "eth_blockNumber"]));
    assert_eq!(three.block(0, "latest").await, old);
    assert_eq!(three.ok(0, "eth_blockNumber", json!([])).await, old["number"]);
    assert_eq!(three.ok(0, "eth_getBlockByHash", json!([newest["hash"], false])).await, Value::Null);
    assert_eq!(three.ok(0, "eth_getTransactionCount", json!([alice.address(), "latest"])).await, "0x0");
    assert_eq!(three.ok(0, "eth_getTransactionReceipt", json!([hash])).await, Value::Null);
    three.waits(0, hash).await;
    controller.faults().remove(&stale);
    assert_eq!(three.block(0, "latest").await, newest);
    assert_eq!(three.mined(0, hash).await["status"], "0x1");

    // A fee spike: the base fee jumps, others take the dear block, cheap payments wait, and the fee falls again by eighths.
    three.agree(&[0, 1, 2]).await;
    let rate = u64::try_from(50 * GWEI).unwrap();
    let spike = add(Fault::FeeSpike { rate }, nodes());
    let history = three.ok(0, "eth_feeHistory", json!(["0x1", "latest", []])).await;
    assert_eq!(history["baseFeePerGas"][1], json!(U256::from(rate)));
    let waiting = three.send(0, &alice.payment(1, GWEI)).await;
    three.slots(0, 2, &[1, 2]).await;
    assert_eq!(three.block(2, "latest").await["baseFeePerGas"], json!(U256::from(rate)));
    three.waits(0, waiting).await;
    controller.faults().remove(&spike);
    three.slots(1, 1, &[0, 2]).await;
    assert_eq!(three.block(0, "latest").await["baseFeePerGas"], json!(U256::from(rate / 8 * 7)));
    three.waits(0, waiting).await;

    // Pinned: no replacement; without, the same one gets in.
    let dearer = alice.sign(alloy::consensus::TxEip1559 { max_fee_per_gas: 60 * GWEI, ..transfer(1, 2 * GWEI) });
    let pinned = add(Fault::Pinning, nodes());
    assert_eq!(
        three.refused(0, "eth_sendRawTransaction", json!([dearer])).await,
        "replacement transaction underpriced"
    );
    controller.faults().remove(&pinned);
    let dearer = three.send(0, &dearer).await;
    three.waits(2, dearer).await;

    // Full blocks: nothing of ours gets in, all gas is used, and the base fee rises by an eighth a block.
    let before = three.block(0, "latest").await;
    let full = add(Fault::FullBlocks, nodes());
    three.slots(0, 2, &[1, 2]).await;
    let after = three.block(2, "latest").await;
    assert_eq!((&after["gasUsed"], &after["gasLimit"]), (&json!(U256::from(BLOCK_GAS_LIMIT)), &after["gasUsed"]));
    let fee = |block: &Value| -> U256 { serde_json::from_value(block["baseFeePerGas"].clone()).unwrap() };
    assert!(fee(&after) > fee(&before) * U256::from(7) / U256::from(8));
    three.waits(0, dearer).await;
    controller.faults().remove(&full);

    // Evicted at one node, by the rule alone; the others remember, and their block has it.
    add(Fault::EvictMempool, Scope::Node { nodes: vec![NodeIndex(0)] });
    three.until(0, "txpool_status", json!([]), |status| *status == none).await;
    assert_eq!(three.ok(1, "txpool_status", json!([])).await, one);
    three.slots(1, 1, &[0, 2]).await;
    assert_eq!(three.mined(0, dearer).await["status"], "0x1");

    // A clock that is ahead stamps its blocks so, and the others follow.
    let skew = add(Fault::ClockSkew { millis: 3_600_000 }, Scope::Node { nodes: vec![NodeIndex(1)] });
    let now = simulator::clock::Clock::unix_seconds(&*three.clock);
    three.slots(1, 1, &[0, 2]).await;
    assert_eq!(three.block(2, "latest").await["timestamp"], json!(U256::from(now + 3_600)));
    controller.faults().remove(&skew);
    three.stop().await;
}

/// A fixed course of calls, crashes and forks, under rules that chance decides.
async fn course(seed: u64) -> Timeline {
    let three = Three::start_with(quick(), 2 * SAFE, seed).await;
    let flaky = Rule {
        id: Some(RuleId("flaky".to_owned())),
        chain: Some(ChainKind::Ethereum),
        probability: Probability::from_millionths(300_000),
        ..Rule::new(
            Fault::Error { code: -32005, message: "limit exceeded".to_owned() },
            Scope::Rpc { nodes: Vec::new(), methods: vec!["eth_chainId".to_owned(), "eth_gasPrice".to_owned()] },
        )
    };
    three.world.controller().add_fault(flaky).unwrap();
    for round in 0..20_u16 {
        let node = round % 3;
        tokio::join!(three.call(node, "eth_chainId", json!([])), three.call(node, "eth_gasPrice", json!([])))
            .0
            .unwrap();
        match round {
            5 => drop(three.ok(0, "sim_partition", json!([{ "groups": [[0], [1, 2]] }])).await),
            9 => drop(three.ok(0, "sim_heal", json!([])).await),
            12 => {
                three.ok(0, "sim_crash", json!([{ "node": 1, "chain": "ethereum" }])).await;
                three.ok(0, "sim_restart", json!([{ "node": 1, "chain": "ethereum" }])).await;
            }
            _ => drop(three.node(node).mine(1).await.unwrap()),
        }
    }
    let timeline = three.world.controller().faults().timeline();
    three.stop().await;
    timeline
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_gives_one_timeline() {
    let (one, two, other) = (course(3).await, course(3).await, course(4).await);
    assert!((9..35).contains(&one.strikes().len()), "{} of 44", one.strikes().len());
    assert_eq!(one.difference(&two), None);
    assert!(one.difference(&other).is_some());
}
