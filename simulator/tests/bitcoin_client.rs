//! The gateway's own Bitcoin client against the simulated node: build, sign, broadcast, follow, through a reorganisation;
//! speed up and cancel what waits.
//!
//! The builder's signature hash is judged by the node's consensus code here, which shares nothing with it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

#[path = "bitcoin_support/payer.rs"]
mod payer;
#[path = "support/storm.rs"]
mod storm;

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{BitcoinClient, Options, Signed, Unsigned};
use chains::chain::{BuildError, Chain, Replacement};
use chains::client::{Client, StateError, Status};
use chains::intent::Intent;
use chains::rpc::{Auth, RpcClient};
use serde_json::json;
use simulator::clock::ManualClock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode};
use simulator::rpc::CancellationToken;

use crate::payer::{CHAIN, FUNDS, PAID, PAYEE, Purse, account, pay, script};

async fn pay_follow_reorganise(taproot: bool) {
    let folder = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let config = BitcoinConfig { dir: Some(folder.path().to_owned()), ..BitcoinConfig::default() };
    let clock = Arc::new(ManualClock::new(1_750_000_000_000));
    let node = BitcoinNode::start(config, clock, shutdown.clone()).await.unwrap();

    let auth = Auth::BasicFile(node.cookie_file().unwrap().to_owned());
    let purse = Purse::new(&node.url(), auth, account(taproot));
    let (client, account) = (&purse.client, &purse.account);

    assert_eq!(purse.balance().await, Amount::from_sat(0));
    node.fund(&account.address().to_string(), bitcoin::Amount::from_sat(FUNDS)).await.unwrap();
    assert_eq!(purse.balance().await, Amount::from_sat(FUNDS));

    let unsigned = purse.build(&pay(PAID)).await;
    let fee = CHAIN.effects(account, &unsigned).unwrap().max_fee;
    let signed = purse.signed(&unsigned);

    assert_eq!(client.status(&signed).await.unwrap(), Status::Unknown);
    client.broadcast(&signed).await.unwrap();
    client.broadcast(&signed).await.unwrap();
    assert_eq!(client.status(&signed).await.unwrap(), Status::InMempool);
    let block = node.mine(3).await.unwrap()[0];
    client.broadcast(&signed).await.unwrap();
    let confirmations = async || match client.status(&signed).await.unwrap() {
        Status::Included(inclusion) => (inclusion.block, inclusion.confirmations),
        other => panic!("{other:?}"),
    };
    assert_eq!(confirmations().await, (Some(block.to_string()), 3));
    let left = Amount::from_sat(FUNDS - PAID).checked_sub(fee).unwrap();
    assert_eq!(purse.balance().await, left);

    node.invalidate(block).await.unwrap();
    assert_eq!(client.status(&signed).await.unwrap(), Status::InMempool);
    assert_eq!(purse.balance().await, left);
    let again = node.mine(1).await.unwrap()[0];
    assert_eq!(confirmations().await, (Some(again.to_string()), 1));
    assert_eq!(client.tip().await.unwrap().height, u64::from(node.height().await.unwrap()));

    shutdown.cancel();
    node.stopped().await;
}

#[tokio::test]
async fn a_p2wpkh_payment() {
    pay_follow_reorganise(false).await;
}

#[tokio::test]
async fn a_p2tr_payment() {
    pay_follow_reorganise(true).await;
}

/// A funded wallet and its node.
struct Payer {
    node: BitcoinNode,
    purse: Purse,
    rpc: RpcClient,
    shutdown: CancellationToken,
}

impl Deref for Payer {
    type Target = Purse;

    fn deref(&self) -> &Purse {
        &self.purse
    }
}

impl Payer {
    async fn start(taproot: bool, coins: &[u64]) -> Self {
        let shutdown = CancellationToken::new();
        let clock = Arc::new(ManualClock::new(1_750_000_000_000));
        let node = BitcoinNode::start(BitcoinConfig::default(), clock, shutdown.clone()).await.unwrap();
        let purse = Purse::new(&node.url(), Auth::None, account(taproot));
        for coin in coins {
            node.fund(&purse.account.address().to_string(), bitcoin::Amount::from_sat(*coin)).await.unwrap();
        }
        let rpc = RpcClient::new(&node.url(), Auth::None, Duration::from_secs(10)).unwrap();
        Self { node, purse, rpc, shutdown }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.node.stopped().await;
    }

    /// Mines just this transaction, which needn't be in the mempool.
    async fn mine_alone(&self, signed: &Signed) {
        let hex = bitcoin::consensus::encode::serialize_hex(signed.transaction());
        let _: serde_json::Value = self.rpc.call("generateblock", json!([PAYEE, [hex]])).await.unwrap();
    }
}

fn not_replaceable(refused: Result<Unsigned, StateError>) -> &'static str {
    match refused {
        Err(StateError::Build(BuildError::NotReplaceable(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

async fn speed_up_and_cancel(taproot: bool) {
    let payer = Payer::start(taproot, &[300_000, 80_000]).await;
    // The first attempt's surplus is its fee, so the others need the second coin.
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
    assert_eq!(attempts[0].transaction().input.len(), 1);
    assert_eq!(attempts[4].transaction().input.len(), 2);
    payer.node.mine(1).await.unwrap();
    assert!(matches!(payer.status(&signed[4]).await, Status::Included(_)));
    assert_eq!(payer.balance().await, Amount::from_sat(380_000 - attempts[4].fee().to_sat()));

    let refused = payer.replace(&intent, &attempts, Replacement::SpeedUp, BTreeSet::new()).await;
    assert!(not_replaceable(refused).contains("in a block already"));
    payer.node.mine(5).await.unwrap();
    for excluded in &signed[..4] {
        assert_eq!(payer.status(excluded).await, Status::Expired);
    }
    payer.stop().await;
}

#[tokio::test]
async fn p2wpkh_payments_are_sped_up_and_cancelled() {
    speed_up_and_cancel(false).await;
}

#[tokio::test]
async fn p2tr_payments_are_sped_up_and_cancelled() {
    speed_up_and_cancel(true).await;
}

#[tokio::test]
async fn a_payment_whose_change_is_spent_stays_as_it_is() {
    let payer = Payer::start(true, &[FUNDS]).await;
    let intent = pay(PAID);
    let parent = payer.build(&intent).await;
    payer.send(&parent).await;
    let child = payer.build(&pay(PAID)).await;
    // It is reserved and hasn't been sent: who knows for how long.
    let reserved = CHAIN.slots(&payer.account, &child);
    let previous = std::slice::from_ref(&parent);
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        assert!(payer.replace(&intent, previous, purpose, BTreeSet::new()).await.is_ok());
        let refused = payer.replace(&intent, previous, purpose, reserved.clone()).await;
        assert!(not_replaceable(refused).contains("accelerate"));
    }
    payer.send(&child).await;
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        let refused = payer.replace(&intent, previous, purpose, BTreeSet::new()).await;
        assert!(not_replaceable(refused).contains("accelerate"));
    }
    payer.stop().await;
}

#[tokio::test]
async fn a_payment_falls_with_the_attempt_whose_change_it_spends() {
    let payer = Payer::start(true, &[FUNDS]).await;
    let intent = pay(PAID);
    let first = payer.build(&intent).await;
    let first_signed = payer.send(&first).await;
    let second = payer.replace(&intent, &[first], Replacement::SpeedUp, BTreeSet::new()).await.unwrap();
    let second_signed = payer.send(&second).await;
    let child = payer.build(&pay(PAID)).await;
    assert_eq!(child.transaction().input[0].previous_output.txid, second.transaction().compute_txid());
    let child = payer.send(&child).await;
    // A miner that never saw the second attempt.
    payer.mine_alone(&first_signed).await;
    assert_eq!(payer.status(&child).await, Status::Unknown);
    payer.node.mine(4).await.unwrap();
    assert_eq!(payer.status(&child).await, Status::Unknown);
    payer.node.mine(1).await.unwrap();
    assert_eq!(payer.status(&second_signed).await, Status::Expired);
    assert_eq!(payer.status(&child).await, Status::Expired);
    assert!(matches!(payer.status(&first_signed).await, Status::Included(_)));
    payer.stop().await;
}

#[tokio::test]
async fn hard_weather_is_a_typed_error_and_nothing_else() {
    let payer = Payer::start(true, &[]).await;
    let birthday = payer.node.height().await.unwrap();
    for _ in 0..2 {
        payer.node.fund(&payer.account.address().to_string(), bitcoin::Amount::from_sat(FUNDS)).await.unwrap();
    }
    let excluded = payer.build(&pay(PAID)).await;
    let excluded_signed = payer.send(&excluded).await;
    let instead = payer.replace(&pay(PAID), &[excluded], Replacement::SpeedUp, BTreeSet::new()).await.unwrap();
    payer.send(&instead).await;
    payer.node.mine(6).await.unwrap();
    let waiting = payer.build(&pay(PAID)).await;
    let waiting_signed = payer.send(&waiting).await;

    let storm = storm::Storm::before(&payer.node.url()).await;
    let script = script(&payer.account);
    // One that has never seen the chain, so that it asks all there is to ask.
    let client = || {
        let rpc = RpcClient::new(storm.url(), Auth::None, Duration::from_secs(10)).unwrap();
        BitcoinClient::new(rpc, Network::Regtest, [script.clone()], birthday, Options::default())
    };
    let (account, nothing) = (&payer.account, &BTreeSet::new());
    let intent = &pay(PAID);
    let state = || async { client().state(intent, account, nothing).await.map(|s| format!("{s:?}")) };
    storm.weather("state", || async { state().await.map_err(storm::of_state) }).await;
    let previous = std::slice::from_ref(&waiting);
    let replacement = || async {
        let state = client().replacement_state(intent, account, previous, Replacement::Cancel, nothing).await;
        state.map(|state| format!("{state:?}")).map_err(storm::of_state)
    };
    storm.weather("replacement_state", replacement).await;
    let balance = || async { client().balance(account, Asset::Native).await.map(|amount| amount.to_string()) };
    storm.weather("balance", balance).await;
    let broadcast =
        || async { client().broadcast(&waiting_signed).await.map(|()| String::new()).map_err(storm::of_broadcast) };
    storm.weather("broadcast", broadcast).await;
    for (signed, expected) in [(&waiting_signed, Status::InMempool), (&excluded_signed, Status::Expired)] {
        assert_eq!(client().status(signed).await.unwrap(), expected);
        storm.weather("status", || async { client().status(signed).await.map(|s| format!("{s:?}")) }).await;
    }
    storm.weather("tip", || async { client().tip().await.map(|tip| format!("{tip:?}")) }).await;
    payer.stop().await;
}

#[tokio::test]
async fn a_payment_is_hurried_on_by_its_child() {
    let payer = Payer::start(true, &[FUNDS]).await;
    let parent = payer.build(&pay(PAID)).await;
    let parent_signed = payer.send(&parent).await;
    let txid = CHAIN.id(&parent_signed);
    let action = json!({ "kind": "accelerate", "parent": txid.as_str() });
    let intent: Intent = serde_json::from_value(json!({ "wallet": "test", "action": action })).unwrap();
    // At the rate that the parent was built for, it needs no child.
    let enough = async |state| CHAIN.build(&intent, &payer.account, &state);
    let mut state = payer.client.state(&intent, &payer.account, &BTreeSet::new()).await.unwrap();
    let refused = enough(state.clone()).await;
    assert!(matches!(refused, Err(BuildError::NotAcceleratable(_))), "{refused:?}");

    let rate = 40;
    state.fee_rate = bitcoin::FeeRate::from_sat_per_vb_u32(rate);
    let child = CHAIN.build(&intent, &payer.account, &state).unwrap();
    let child_signed = payer.send(&child).await;
    let slots = CHAIN.slots(&payer.account, &child);
    assert!(slots.iter().all(|slot| slot.is_output_of(&txid)), "its parent's change suffices");
    // What the node reckons of the package.
    let entry: serde_json::Value = payer.rpc.call("getmempoolentry", [CHAIN.id(&child_signed).as_str()]).await.unwrap();
    let fees = bitcoin::Amount::from_btc(entry["fees"]["ancestor"].as_f64().unwrap()).unwrap();
    assert!(fees.to_sat() >= u64::from(rate) * entry["ancestorsize"].as_u64().unwrap());
    assert_eq!(fees, parent.fee() + child.fee());

    // The parent stays as it is from then on.
    let refused = payer.replace(&pay(PAID), &[parent], Replacement::SpeedUp, slots).await;
    assert!(not_replaceable(refused).contains("accelerate"));
    payer.node.mine(1).await.unwrap();
    for signed in [&parent_signed, &child_signed] {
        assert!(matches!(payer.status(signed).await, Status::Included(_)));
    }
    assert_eq!(payer.balance().await, Amount::from_sat(FUNDS - PAID - fees.to_sat()));
    let gone = payer.client.state(&intent, &payer.account, &BTreeSet::new()).await;
    assert!(matches!(gone, Err(StateError::Build(BuildError::NotAcceleratable(_)))), "{gone:?}");
    payer.stop().await;
}
