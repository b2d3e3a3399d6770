//! What happened, and what the node says of itself.

use std::time::Duration;

use serde_json::{Value, json};
use simulator::node::solana::SolanaConfig;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signer;

use crate::node::{Node, SOL, START_MILLIS, transfer};

#[tokio::test]
async fn signatures_are_listed_newest_first_and_paged() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let mut sent = Vec::new();
    for lamports in 1..=5 {
        let executed = node.execute(&[&from], &[transfer(&from, &to, lamports)]).await;
        sent.push(executed["transaction"]["signatures"][0].as_str().unwrap().to_owned());
    }
    sent.reverse();
    let page = async |config: Value| -> Vec<String> {
        let listed = node.ok("getSignaturesForAddress", json!([from.pubkey().to_string(), config])).await;
        listed.as_array().unwrap().iter().map(|one| one["signature"].as_str().unwrap().to_owned()).collect()
    };
    // The last one is the airdrop.
    assert_eq!(page(json!({ "commitment": "confirmed" })).await[..5], sent);
    assert_eq!(page(json!({ "commitment": "confirmed", "limit": 2 })).await, sent[..2]);
    let between = json!({ "commitment": "confirmed", "before": sent[1], "until": sent[4] });
    assert_eq!(page(between).await, sent[2..4]);
    // Two slots each, and 8 are needed: only the first payment and the airdrop are final.
    assert_eq!(page(json!({})).await.len(), 2);
    node.stop().await;
}

#[tokio::test]
async fn blocks_have_parents_times_and_transactions() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    node.clock.advance(Duration::from_secs(5));
    let executed = node.execute(&[&from], &[transfer(&from, &Pubkey::new_unique(), SOL / 2)]).await;
    let slot = executed["slot"].as_u64().unwrap();
    assert_eq!(executed["blockTime"], START_MILLIS / 1000 + 5);

    let config = |details: &str| json!({ "commitment": "confirmed", "transactionDetails": details });
    let block = node.ok("getBlock", json!([slot, config("full")])).await;
    let parent = node.ok("getBlock", json!([slot - 1, config("none")])).await;
    assert_eq!(block["previousBlockhash"], parent["blockhash"]);
    assert_eq!((&block["parentSlot"], &block["blockHeight"]), (&json!(slot - 1), &json!(slot)));
    assert_eq!(block["transactions"][0]["transaction"], executed["transaction"]);
    assert_eq!(parent.get("transactions"), None);
    let signatures = node.ok("getBlock", json!([slot, config("signatures")])).await;
    assert_eq!(signatures["signatures"], executed["transaction"]["signatures"]);
    let accounts = node.ok("getBlock", json!([slot, config("accounts")])).await;
    assert_eq!(accounts["transactions"][0]["transaction"]["accountKeys"][0]["signer"], true);

    assert_eq!(node.ok("getBlockTime", json!([slot])).await, START_MILLIS / 1000 + 5);
    assert_eq!(
        node.fails("getBlock", json!([slot, {}])).await,
        (-32004, format!("Block not available for slot {slot}"))
    );
    assert_eq!(node.fails("getBlockTime", json!([slot + 9])).await.0, -32004);
    let confirmed = json!({ "commitment": "confirmed" });
    assert_eq!(node.ok("getBlocks", json!([slot - 1, slot, confirmed])).await, json!([slot - 1, slot]));
    assert_eq!(node.ok("getBlocks", json!([slot, confirmed])).await, json!([slot]));
    assert_eq!(node.ok("getBlocksWithLimit", json!([2, 3])).await, json!([2, 3]));
    assert_eq!(node.ok("getBlocksWithLimit", json!([3, 9])).await, json!([3]), "the rest is not final");
    assert_eq!(node.ok("getTransactionCount", json!([{ "commitment": "processed" }])).await, 2);
    node.stop().await;
}

#[tokio::test]
async fn the_node_introduces_itself() {
    let node = Node::start().await;
    node.node.mine(10).await.unwrap();
    assert_eq!(node.ok("getHealth", json!([])).await, "ok");
    assert!(node.ok("getVersion", json!(null)).await["solana-core"].as_str().unwrap().starts_with("4."));
    let genesis: Value = node.ok("getGenesisHash", json!([])).await;
    let first = node.ok("getBlock", json!([0])).await;
    assert_eq!(first["blockhash"], genesis);
    for (level, slot) in [("processed", 10), ("confirmed", 9), ("finalized", 2)] {
        let params = json!([{ "commitment": level }]);
        assert_eq!(node.ok("getSlot", params.clone()).await, slot);
        assert_eq!(node.ok("getBlockHeight", params.clone()).await, slot);
        let answer = node.ok("getLatestBlockhash", params.clone()).await;
        assert_eq!(
            (&answer["context"]["slot"], &answer["value"]["lastValidBlockHeight"]),
            (&json!(slot), &json!(slot + 150))
        );
        assert_eq!(node.ok("getEpochInfo", params).await["absoluteSlot"], slot);
    }
    let identity = node.ok("getIdentity", json!([])).await["identity"].take();
    assert_eq!(node.ok("getClusterNodes", json!([])).await[0]["pubkey"], identity);
    assert_eq!(node.ok("getVoteAccounts", json!([])).await["current"][0]["nodePubkey"], identity);
    assert_eq!(node.ok("getSlotLeader", json!([])).await, identity);
    for method in ["getFirstAvailableBlock", "minimumLedgerSlot"] {
        assert_eq!(node.ok(method, json!([])).await, 0);
    }
    let health = reqwest::get(format!("{}/health", node.node.url())).await.unwrap();
    assert_eq!(health.text().await.unwrap(), "ok");
    node.stop().await;
}

#[tokio::test]
async fn slots_are_made_on_an_interval() {
    let interval = Some(Duration::from_millis(5));
    let node = Node::with(SolanaConfig { block_interval: interval, ..SolanaConfig::default() }).await;
    let to = Pubkey::new_unique();
    node.node.fund(&to.to_string(), SOL).await.unwrap();
    while node.balance(&to, "finalized").await == 0 {}
    assert_eq!(node.balance(&to, "finalized").await, SOL);
    node.stop().await;
}
