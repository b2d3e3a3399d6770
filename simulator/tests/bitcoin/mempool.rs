//! What waits: replacements, families, limits.

use bitcoin::{Amount, OutPoint, Sequence};
use serde_json::json;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::bitcoin::policy::Policy;

use crate::run::{BTC, Run};
use crate::wallet::{Kind, Wallet};

#[tokio::test]
async fn a_replacement_pays_for_what_it_replaces() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let to = Wallet::new(9, Kind::P2tr).script();
    let first = wallet.spend(&[coin], wallet.script(), 1_000);
    run.send(&first).await;
    let child_coin = (OutPoint::new(first.compute_txid(), 0), Amount::from_sat(BTC - 1_000));
    let child = wallet.spend(&[child_coin], wallet.script(), 3_000);
    run.send(&child).await;

    let cheap = wallet.spend(&[coin], to.clone(), 900);
    let (code, message) = run.refused(&cheap).await;
    assert_eq!(code, -26);
    assert!(
        message
            .starts_with(&format!("insufficient fee, rejecting replacement {}; new feerate 0.0", cheap.compute_txid()))
    );
    let less = wallet.spend(&[coin], to.clone(), 3_999);
    assert!(run.refused(&less).await.1.ends_with("less fees than conflicting txs; 0.00003999 < 0.00004"));
    let no_relay = wallet.spend(&[coin], to.clone(), 4_100);
    assert!(run.refused(&no_relay).await.1.contains("not enough additional fees to relay; 0.000001 < 0.00000"));

    let (replacement, entry) = (wallet.spend(&[coin], to, 4_200), child.compute_txid());
    assert_eq!(run.ok("getmempoolentry", json!([entry])).await["ancestorcount"], 2);
    let before = run.ok("getrawmempool", json!([false, true])).await["mempool_sequence"].as_u64().unwrap();
    run.send(&replacement).await;
    let after = run.ok("getrawmempool", json!([false, true])).await;
    assert_eq!(after["txids"], json!([replacement.compute_txid()]));
    assert_eq!(after["mempool_sequence"], before + 3);
    assert_eq!(run.error("getmempoolentry", json!([entry])).await, (-5, "Transaction not in mempool".to_owned()));
    let mined = run.node.mine(1).await.unwrap()[0];
    assert_eq!(run.ok("getblock", json!([mined])).await["tx"][1], json!(replacement.compute_txid()));
    run.stop().await;
}

#[tokio::test]
async fn without_full_rbf_only_signalling_transactions_are_replaced() {
    let policy = Policy { full_rbf: false, ..Policy::default() };
    let run = Run::start(BitcoinConfig { policy, ..BitcoinConfig::default() }).await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
    tx.input[0].sequence = Sequence::MAX;
    run.send(&wallet.sign(tx, &[coin])).await;
    let replacement = wallet.spend(&[coin], wallet.script(), 50_000);
    assert_eq!(run.refused(&replacement).await, (-26, "txn-mempool-conflict".to_owned()));
    run.stop().await;
}

#[tokio::test]
async fn chains_of_unconfirmed_transactions_are_limited() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let mut coin = run.fund(&wallet, BTC).await;
    for depth in 0..26 {
        let tx = wallet.spend(&[coin], wallet.script(), 1_000);
        if depth == 25 {
            let refusal = "too-long-mempool-chain, too many unconfirmed ancestors [limit: 25]".to_owned();
            assert_eq!(run.refused(&tx).await, (-26, refusal));
        } else {
            run.send(&tx).await;
        }
        coin = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
    }
    run.node.mine(1).await.unwrap();
    assert_eq!(run.ok("getmempoolinfo", json!([])).await["size"], 0);
    run.stop().await;
}

#[tokio::test]
async fn a_child_pays_for_its_parent() {
    let run = Run::fresh().await;
    let (poor, middle) = (Wallet::new(1, Kind::P2wpkh), Wallet::new(2, Kind::P2wpkh));
    let poor_coin = run.fund(&poor, BTC).await;
    let middle_coin = run.fund(&middle, BTC).await;
    let parent = poor.spend(&[poor_coin], poor.script(), 120);
    let other = middle.spend(&[middle_coin], middle.script(), 1_000);
    let child = poor.spend(&[(OutPoint::new(parent.compute_txid(), 0), parent.output[0].value)], poor.script(), 9_000);
    for tx in [&parent, &other, &child] {
        run.send(tx).await;
    }
    let mined = run.node.mine(1).await.unwrap()[0];
    let block = run.ok("getblock", json!([mined, 2])).await;
    let order: Vec<_> = block["tx"].as_array().unwrap().iter().skip(1).map(|tx| tx["txid"].clone()).collect();
    assert_eq!(order, [&parent, &child, &other].map(|tx| json!(tx.compute_txid())));
    let paid = Amount::from_btc(block["tx"][0]["vout"][0]["value"].as_f64().unwrap()).unwrap();
    assert_eq!(paid, Amount::from_sat(50 * BTC + 120 + 9_000 + 1_000));
    run.stop().await;
}

#[tokio::test]
async fn version_3_transactions_have_small_families() {
    let run = Run::fresh().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = run.fund(&wallet, BTC).await;
    let version3 = |coin| {
        let mut tx = wallet.unsigned(&[coin], wallet.script(), 1_000);
        tx.version.0 = 3;
        let tx = wallet.sign(tx, &[coin]);
        let next = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
        (tx, next)
    };
    let (parent, next) = version3(coin);
    run.send(&parent).await;
    let (_, mixed) = run.refused(&wallet.spend(&[next], wallet.script(), 1_000)).await;
    assert!(mixed.starts_with("TRUC-violation, non-version=3 tx "), "{mixed}");
    let (child, next) = version3(next);
    run.send(&child).await;
    let (_, long) = run.refused(&version3(next).0).await;
    assert!(long.ends_with("would have too many ancestors"), "{long}");
    run.stop().await;
}
