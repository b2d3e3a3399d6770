//! The gateway's own Bitcoin client on a real `bitcoind`: pay, speed up, cancel, hurry a parent on, and follow through a reorganisation.
//!
//! What the client's messages and signatures are worth is Bitcoin Core's word here.

use std::collections::BTreeSet;
use std::ops::Deref;

use bitcoin::OutPoint;
use chains::amount::Amount;
use chains::chain::{BuildError, Chain, Replacement};
use chains::client::{BroadcastError, Client, SendClass, StateError, Status};
use chains::intent::Intent;
use chains::rpc::Auth;
use serde_json::{Value, json};

use crate::bitcoind::Bitcoind;
use crate::payer::{CHAIN, FUNDS, PAID, PAYEE, Purse, account, pay, script};
use crate::subject::Subject;
use crate::wallet::{Kind, Wallet};

const COINBASE: u64 = 5_000_000_000;

/// A funded wallet on its node.
struct Payer {
    _bitcoind: Bitcoind,
    node: Subject,
    purse: Purse,
}

impl Deref for Payer {
    type Target = Purse;

    fn deref(&self) -> &Purse {
        &self.purse
    }
}

impl Payer {
    /// A node with one payment of each of `coins` to the wallet.
    async fn start(taproot: bool, coins: &[u64]) -> Self {
        let bitcoind = Bitcoind::start();
        let (node, account) = (bitcoind.subject(), account(taproot));
        let miner = Wallet::new(3, Kind::P2wpkh);
        let blocks: Vec<String> =
            node.get("generatetoaddress", json!([coins.len() + 100, miner.address().to_string()])).await;
        for (block, sats) in blocks.iter().zip(coins) {
            let block = node.ask("getblock", json!([block])).await;
            let coin = OutPoint::new(block["tx"][0].as_str().unwrap().parse().unwrap(), 0);
            // What the coinbase has more goes back to the miner.
            let money = bitcoin::Amount::from_sat(COINBASE);
            let mut tx = miner.unsigned(&[(coin, money)], script(&account), COINBASE - sats);
            let change = bitcoin::Amount::from_sat(COINBASE - sats - 10_000);
            tx.output.push(bitcoin::TxOut { value: change, script_pubkey: miner.script() });
            let tx = miner.sign(tx, &[(coin, money)]);
            node.ask("sendrawtransaction", json!([bitcoin::consensus::encode::serialize_hex(&tx)])).await;
        }
        let purse = Purse::new(bitcoind.url(), Auth::BasicFile(bitcoind.cookie()), account);
        let payer = Self { _bitcoind: bitcoind, node, purse };
        payer.mine(1).await;
        assert_eq!(payer.balance().await, Amount::from_sat(coins.iter().sum()));
        payer
    }

    async fn mine(&self, blocks: u32) -> Vec<String> {
        self.node.get("generatetoaddress", json!([blocks, PAYEE])).await
    }
}

async fn pay_follow_reorganise(taproot: bool) {
    let payer = Payer::start(taproot, &[FUNDS]).await;
    let unsigned = payer.build(&pay(PAID)).await;
    let fee = CHAIN.effects(&payer.account, &unsigned).unwrap().max_fee;
    let signed = payer.signed(&unsigned);
    assert_eq!(payer.status(&signed).await, Status::Unknown);
    payer.client.broadcast(&signed).await.unwrap();
    payer.client.broadcast(&signed).await.unwrap();
    assert_eq!(payer.status(&signed).await, Status::InMempool);
    let block = payer.mine(3).await.remove(0);
    payer.client.broadcast(&signed).await.unwrap();
    let confirmations = async || match payer.status(&signed).await {
        Status::Included(inclusion) => (inclusion.block, inclusion.confirmations),
        other => panic!("{other:?}"),
    };
    assert_eq!(confirmations().await, (Some(block.clone()), 3));
    let left = Amount::from_sat(FUNDS - PAID).checked_sub(fee).unwrap();
    assert_eq!(payer.balance().await, left);

    payer.node.ask("invalidateblock", json!([block])).await;
    assert_eq!(payer.status(&signed).await, Status::InMempool);
    assert_eq!(payer.balance().await, left);
    // Paid to somebody else: otherwise it could be the very block that is invalid.
    let other = Wallet::new(4, Kind::P2wpkh).address().to_string();
    let again = payer.node.get::<Vec<String>>("generatetoaddress", json!([1, other])).await.remove(0);
    assert_eq!(confirmations().await, (Some(again), 1));
    let height: u64 = payer.node.get("getblockcount", json!([])).await;
    assert_eq!(payer.client.tip().await.unwrap().height, height);
}

#[tokio::test]
#[ignore = "needs bitcoind; `just parity` builds and names it"]
async fn a_p2wpkh_payment_on_bitcoind() {
    pay_follow_reorganise(false).await;
}

#[tokio::test]
#[ignore = "needs bitcoind; `just parity` builds and names it"]
async fn a_p2tr_payment_on_bitcoind() {
    pay_follow_reorganise(true).await;
}

#[tokio::test]
#[ignore = "needs bitcoind; `just parity` builds and names it"]
async fn payments_are_sped_up_and_cancelled_on_bitcoind() {
    let payer = Payer::start(true, &[300_000, 80_000]).await;
    let intent = pay(299_300);
    let mut attempts = vec![payer.build(&intent).await];
    let mut signed = vec![payer.send(&attempts[0]).await];
    for purpose in [Replacement::SpeedUp, Replacement::SpeedUp, Replacement::Cancel, Replacement::Cancel] {
        let next = payer.replace(&intent, &attempts, purpose, BTreeSet::new()).await.unwrap();
        signed.push(payer.send(&next).await);
        attempts.push(next);
        for evicted in &signed[..signed.len() - 1] {
            assert_eq!(payer.status(evicted).await, Status::Unknown);
        }
    }
    // bitcoind says that the first attempt pays too little to come back.
    let refused = payer.client.broadcast(&signed[0]).await;
    assert!(
        matches!(refused, Err(BroadcastError::Rejected { class: SendClass::ReplacementUnderpriced, .. })),
        "{refused:?}"
    );
    payer.mine(1).await;
    assert!(matches!(payer.status(&signed[4]).await, Status::Included(_)));
    assert_eq!(payer.balance().await, Amount::from_sat(380_000 - attempts[4].fee().to_sat()));
    let refused = payer.client.broadcast(&signed[0]).await;
    assert!(matches!(refused, Err(BroadcastError::Rejected { class: SendClass::SlotUsed, .. })), "{refused:?}");
    payer.mine(5).await;
    for excluded in &signed[..4] {
        assert_eq!(payer.status(excluded).await, Status::Expired);
    }
    let refused = payer.replace(&intent, &attempts, Replacement::SpeedUp, BTreeSet::new()).await;
    assert!(matches!(refused, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{refused:?}");
}

#[tokio::test]
#[ignore = "needs bitcoind; `just parity` builds and names it"]
async fn a_payment_is_hurried_on_by_its_child_on_bitcoind() {
    let payer = Payer::start(true, &[FUNDS]).await;
    let parent = payer.build(&pay(PAID)).await;
    let parent_signed = payer.send(&parent).await;
    let txid = CHAIN.id(&parent_signed);
    let action = json!({ "kind": "accelerate", "parent": txid.as_str() });
    let intent: Intent = serde_json::from_value(json!({ "wallet": "test", "action": action })).unwrap();
    let mut state = payer.client.state(&intent, &payer.account, &BTreeSet::new()).await.unwrap();
    let rate = 40;
    state.fee_rate = bitcoin::FeeRate::from_sat_per_vb_u32(rate);
    let child = CHAIN.build(&intent, &payer.account, &state).unwrap();
    let child_signed = payer.send(&child).await;
    let entry: Value = payer.node.ask("getmempoolentry", json!([CHAIN.id(&child_signed).as_str()])).await;
    let fees = bitcoin::Amount::from_btc(entry["fees"]["ancestor"].as_f64().unwrap()).unwrap();
    assert_eq!(fees, parent.fee() + child.fee());
    assert!(fees.to_sat() >= u64::from(rate) * entry["ancestorsize"].as_u64().unwrap());
    payer.mine(1).await;
    for signed in [&parent_signed, &child_signed] {
        assert!(matches!(payer.status(signed).await, Status::Included(_)));
    }
    assert_eq!(payer.balance().await, Amount::from_sat(FUNDS - PAID - fees.to_sat()));
}
