//! A node that is stopped goes on where it was.

use std::time::Duration;

use serde_json::json;
use simulator::clock::ManualClock;
use simulator::node::solana::{SolanaConfig, SolanaError, SolanaNode};
use simulator::rpc::CancellationToken;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signer;

use crate::node::{Node, SOL, START_MILLIS, sign, transfer};

#[tokio::test]
async fn everything_shown_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_in(dir.path()).await;
    let from = node.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    node.node.fund_token(&to.to_string(), 5).await.unwrap();
    let executed = node.execute(&[&from], &[transfer(&from, &to, SOL)]).await;
    let failed = node.send_blindly(&node.sign(&[&from], &[transfer(&from, &to, 5 * SOL)]).await).await;
    node.node.mine(3).await.unwrap();
    let signature = executed["transaction"]["signatures"][0].as_str().unwrap().to_owned();

    let questions = [
        ("getLatestBlockhash", json!([{ "commitment": "processed" }])),
        ("getBalance", json!([from.pubkey().to_string()])),
        ("getBalance", json!([to.to_string(), { "commitment": "processed" }])),
        ("getSupply", json!([{ "commitment": "processed" }])),
        ("getSupply", json!([{ "commitment": "finalized" }])),
        ("getTransaction", json!([signature, { "commitment": "confirmed" }])),
        ("getSignatureStatuses", json!([[signature, failed]])),
        ("getBlock", json!([executed["slot"], { "commitment": "confirmed", "transactionDetails": "full" }])),
        ("getSignaturesForAddress", json!([to.to_string(), { "commitment": "confirmed" }])),
    ];
    let mut before = Vec::new();
    for (method, params) in &questions {
        before.push(node.ok(method, params.clone()).await);
    }
    let blockhash = node.blockhash().await;
    node.stop().await;

    let node = Node::start_in(dir.path()).await;
    for ((method, params), before) in questions.iter().zip(before) {
        assert_eq!(node.ok(method, params.clone()).await, before, "{method} {params}");
    }
    // What was signed before the restart is still good.
    node.send(&sign(&[&from], &[transfer(&from, &to, 9)], blockhash)).await.unwrap();
    node.node.mine(1).await.unwrap();
    assert_eq!(node.balance(&to, "processed").await, SOL + 9);
    node.stop().await;
}

#[tokio::test]
async fn a_run_that_was_under_way_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let config = || SolanaConfig {
        block_interval: Some(Duration::from_millis(400)),
        dir: Some(dir.path().to_owned()),
        ..SolanaConfig::default()
    };
    let node = Node::with(config()).await;
    // One tick at least: from then on 25 slots are recorded.
    while node.ok("getSlot", json!([{ "commitment": "processed" }])).await == 0 {}
    let shown = node.blockhash().await.to_string();
    node.stop().await;
    let node = Node::with(config()).await;
    assert_eq!(node.ok("getSlot", json!([{ "commitment": "processed" }])).await, 25);
    let still = node.value("isBlockhashValid", json!([shown, { "commitment": "processed" }])).await;
    assert_eq!(still, true);
    node.stop().await;
}

#[tokio::test]
async fn what_was_taken_back_stays_so() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_in(dir.path()).await;
    node.node.mine(3).await.unwrap();
    assert_eq!(node.node.reorganize(3).await.unwrap(), [4, 5, 6, 7]);
    node.node.mine(2).await.unwrap();
    assert_eq!(node.node.reorganize(1).await.unwrap(), [10, 11]);
    let shown = async |node: &Node| {
        let height = node.ok("getBlockHeight", json!([{ "commitment": "processed" }])).await;
        (node.blockhash().await, height)
    };
    let before = shown(&node).await;
    assert_eq!(before.1, 7);
    node.stop().await;
    let node = Node::start_in(dir.path()).await;
    assert_eq!(shown(&node).await, before);
    assert_eq!(node.node.mine(1).await.unwrap(), 12);
    node.stop().await;
}

#[tokio::test]
async fn a_day_of_empty_slots_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_in(dir.path()).await;
    node.node.mine(216_000).await.unwrap();
    let blockhash = node.blockhash().await;
    node.stop().await;
    let journal = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    assert_eq!(journal.lines().count(), 2);
    let node = Node::start_in(dir.path()).await;
    assert_eq!(node.blockhash().await, blockhash);
    assert_eq!(node.ok("getSlot", json!([{ "commitment": "processed" }])).await, 216_000);
    node.stop().await;
}

#[tokio::test]
async fn a_foreign_journal_is_refused() {
    let start = async |journal: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal"), journal).unwrap();
        let config = SolanaConfig { dir: Some(dir.path().to_owned()), block_interval: None, ..SolanaConfig::default() };
        let clock = std::sync::Arc::new(ManualClock::new(START_MILLIS));
        match SolanaNode::start(config, clock, CancellationToken::new()).await {
            Ok(_) => panic!("{journal} was taken"),
            Err(SolanaError::Restore(error)) => error.to_string(),
            Err(other) => panic!("{other}"),
        }
    };
    assert!(start("{\"record\":\"genesis\",\"hash\":\"x\",\"millis\":1}\n").await.contains("genesis"));
    assert!(start("not json\n").await.contains("line 1"));
    let dir = tempfile::tempdir().unwrap();
    Node::start_in(dir.path()).await.stop().await;
    let genesis = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    let gap = "{\"record\":\"block\",\"slot\":5,\"millis\":1,\"transactions\":[]}\n";
    assert!(start(&format!("{genesis}{gap}")).await.contains("slot 5"));
    let broken = "{\"record\":\"block\",\"slot\":1,\"millis\":1,\"transactions\":[\"!\"]}\n";
    assert!(start(&format!("{genesis}{broken}")).await.contains("decoded"));
}
