//! Blocks: reorganisations, other nodes', restarts, the interval.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::OutPoint;
use bitcoin::consensus::encode::serialize_hex;
use serde_json::{Value, json};
use simulator::clock::Clock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode, faucet};
use simulator::rpc::CancellationToken;

use crate::run::{BTC, Run};
use crate::wallet::{Kind, Wallet};

#[tokio::test]
async fn a_reorganisation_gives_transactions_back() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let tx = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&tx).await;
    let first = run.node.mine(1).await.unwrap()[0];
    let second = run.node.mine(1).await.unwrap()[0];
    assert_eq!(run.ok("getrawtransaction", json!([tx.compute_txid(), 1])).await["confirmations"], 2);

    assert_eq!(run.ok("invalidateblock", json!([first])).await, Value::Null);
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([tx.compute_txid()]));
    assert_eq!(run.ok("getblockheader", json!([second])).await["confirmations"], -1);
    let tips = run.ok("getchaintips", json!([])).await;
    assert_eq!(
        (&tips[0]["hash"], &tips[0]["status"], &tips[0]["branchlen"]),
        (&json!(second), &json!("invalid"), &json!(2))
    );
    assert_eq!(tips[1]["status"], "active");

    let other = run.ok("generateblock", json!([wallet.address().to_string(), []])).await;
    assert_eq!(run.ok("getbestblockhash", json!([])).await, other["hash"]);
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([tx.compute_txid()]), "an empty block confirms nothing");

    run.ok("reconsiderblock", json!([first])).await;
    assert_eq!(run.ok("getbestblockhash", json!([])).await, json!(second), "the longer branch is back");
    assert_eq!(run.ok("getrawmempool", json!([])).await, json!([]));
    let tips = run.ok("getchaintips", json!([])).await;
    assert_eq!(tips[1]["status"], "valid-fork");
    assert_eq!(tips[1]["hash"], other["hash"]);
    for bad in ["getblock", "invalidateblock", "reconsiderblock"] {
        let unknown = "11".repeat(32);
        assert_eq!(run.error(bad, json!([unknown])).await, (-5, "Block not found".to_owned()));
    }
    run.stop().await;
}

#[tokio::test]
async fn blocks_of_another_node_are_taken() {
    let (ours, theirs) = (Run::fresh().await, Run::fresh().await);
    let wallet = Wallet::new(1, Kind::P2tr);
    let coin = theirs.fund(&wallet, BTC).await;
    theirs.send(&wallet.spend(&[coin], wallet.script(), 1_000)).await;
    // The first blocks of both are the same: same clock, same faucet.
    assert_eq!(ours.ok("getbestblockhash", json!([])).await, theirs.ok("getblockhash", json!([130])).await);
    theirs.node.mine(2).await.unwrap();
    ours.node.mine(1).await.unwrap();
    ours.clock.advance(Duration::from_secs(5));
    let branch = ours.node.mine(1).await.unwrap();

    let mut answers = Vec::new();
    for height in 131..=133 {
        let hash = theirs.ok("getblockhash", json!([height])).await;
        let block = theirs.ok("getblock", json!([hash, 0])).await;
        answers.push(ours.ok("submitblock", json!([block])).await);
        if height == 133 {
            assert_eq!(ours.ok("submitblock", json!([block])).await, "duplicate");
            assert_eq!(ours.ok("getbestblockhash", json!([])).await, hash);
        }
    }
    assert_eq!(answers, [json!("inconclusive"), json!("inconclusive"), Value::Null]);
    assert_eq!(ours.ok("getblockheader", json!([branch[0]])).await["confirmations"], -1);

    // A block with a spend whose signature was spoilt.
    let hash = theirs.ok("getblockhash", json!([132])).await;
    let mut orphan: bitcoin::Block =
        bitcoin::consensus::encode::deserialize_hex(theirs.ok("getblock", json!([hash, 0])).await.as_str().unwrap())
            .unwrap();
    orphan.header.nonce ^= 0x8000_0000;
    let answer = ours.ok("submitblock", json!([serialize_hex(&orphan)])).await;
    assert!(answer == "high-hash" || answer == "inconclusive", "{answer}");
    assert_eq!(ours.error("submitblock", json!(["00"])).await, (-22, "Block decode failed".to_owned()));
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test]
async fn a_block_with_a_bad_spend_is_not_made() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let mut tx = wallet.spend(&[coin], wallet.script(), 0);
    let address = wallet.address().to_string();
    let height = run.node.height().await.unwrap();
    // Without a fee it isn't relayed, but a block may have it.
    let block = run.ok("generateblock", json!([address, [serialize_hex(&tx)], false])).await;
    assert!(block.get("hex").is_some());
    assert_eq!(run.node.height().await.unwrap(), height);
    run.ok("generateblock", json!([address, [serialize_hex(&tx)]])).await;
    assert_eq!(run.node.height().await.unwrap(), height + 1);

    tx.input[0].previous_output = OutPoint::new(tx.compute_txid(), 0);
    let (code, message) = run.error("generateblock", json!([address, [serialize_hex(&tx)]])).await;
    assert_eq!(code, -25);
    assert!(message.starts_with("TestBlockValidity failed: mandatory-script-verify-flag-failed"), "{message}");
    run.stop().await;
}

#[tokio::test]
async fn a_restart_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let config = BitcoinConfig { dir: Some(folder.path().join("bitcoin")), ..BitcoinConfig::default() };
    let wallet = Wallet::new(1, Kind::P2wpkh);

    let run = Run::start(config.clone()).await;
    let coin = run.fund(&wallet, BTC).await;
    let refused = run.node.mine(2).await.unwrap()[0];
    run.node.invalidate(refused).await.unwrap();
    let tx = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&tx).await;
    let visible = async |run: &Run| {
        let mut all = Vec::new();
        for (method, params) in [
            ("getbestblockhash", json!([])),
            ("getchaintips", json!([])),
            ("getrawmempool", json!([true])),
            ("getrawmempool", json!([false, true])),
            ("scantxoutset", json!(["start", [format!("raw({})", faucet::script().to_hex_string())]])),
        ] {
            all.push(run.ok(method, params).await);
        }
        all
    };
    let before = visible(&run).await;
    let cookie = std::fs::read_to_string(run.node.cookie_file().unwrap()).unwrap();
    assert!(cookie.starts_with("__cookie__:"));
    let path = run.node.cookie_file().unwrap().to_owned();
    run.stop().await;
    assert!(!path.exists(), "the cookie is removed at the end");

    let run = Run::start(config.clone()).await;
    assert_eq!(visible(&run).await, before);
    assert_ne!(std::fs::read_to_string(&path).unwrap(), cookie);
    let second = BitcoinNode::start(config, run.clock.clone(), CancellationToken::new()).await;
    assert!(second.is_err(), "the folder is in use");
    run.node.mine(1).await.unwrap();
    assert_eq!(run.ok("getrawtransaction", json!([tx.compute_txid(), 1])).await["confirmations"], 1);
    run.stop().await;
}

#[tokio::test]
async fn the_interval_makes_blocks() {
    let clock = Arc::new(simulator::clock::SystemClock);
    let shutdown = CancellationToken::new();
    let config = BitcoinConfig { block_interval: Some(Duration::from_millis(5)), ..BitcoinConfig::default() };
    let node = BitcoinNode::start(config, clock.clone(), shutdown.clone()).await.unwrap();
    let mut heights = BTreeSet::new();
    let deadline = clock.unix_millis() + 20_000;
    while heights.len() < 3 && clock.unix_millis() < deadline {
        heights.insert(node.height().await.unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!(heights.len(), 3);
    shutdown.cancel();
    node.stopped().await;
}
