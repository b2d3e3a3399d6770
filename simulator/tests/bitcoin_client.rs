//! The gateway's own Bitcoin client against the simulated node: build, sign, broadcast, follow, through a reorganisation.
//!
//! The builder's signature hash is judged by the node's consensus code here, which shares nothing with it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::key::{Keypair, Secp256k1, TapTweak};
use bitcoin::secp256k1::{self, SecretKey};
use bitcoin::{CompressedPublicKey, Network};
use chains::account::{Account, KeyPath, PublicKey};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{Bitcoin, BitcoinClient, Options};
use chains::chain::Chain;
use chains::client::{Client, Status};
use chains::intent::Intent;
use chains::payload::{Message, Payload, Signature};
use chains::rpc::{Auth, RpcClient};
use serde_json::json;
use simulator::clock::ManualClock;
use simulator::node::bitcoin::{BitcoinConfig, BitcoinNode};
use simulator::rpc::CancellationToken;

const FUNDS: u64 = 1_000_000;
const PAID: u64 = 250_000;

fn secret() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

fn account(taproot: bool) -> Account {
    let secp = Secp256k1::new();
    let key = match taproot {
        true => PublicKey::Taproot(secret().x_only_public_key(&secp).0),
        false => PublicKey::Ecdsa(CompressedPublicKey(secret().public_key(&secp))),
    };
    let network = "bitcoin:regtest".parse().unwrap();
    Account::new("test".parse().unwrap(), network, "key".parse().unwrap(), KeyPath::root(), key).unwrap()
}

fn sign(payload: &Payload) -> Signature {
    let secp = Secp256k1::new();
    match payload.message() {
        Message::Ecdsa(hash) => {
            let message = secp256k1::Message::from_digest(*hash);
            let (id, rs) = secp.sign_ecdsa_recoverable(&message, &secret()).serialize_compact();
            Signature::Ecdsa { rs, recovery_id: u8::try_from(id.to_i32()).unwrap() }
        }
        Message::Taproot(hash) => {
            let pair = Keypair::from_secret_key(&secp, &secret()).tap_tweak(&secp, None).to_keypair();
            let message = secp256k1::Message::from_digest(*hash);
            Signature::Schnorr(secp.sign_schnorr_no_aux_rand(&message, &pair).serialize())
        }
        Message::Ed25519(_) => panic!("not on Bitcoin"),
    }
}

async fn pay_follow_reorganise(taproot: bool) {
    let folder = tempfile::tempdir().unwrap();
    let shutdown = CancellationToken::new();
    let config = BitcoinConfig { dir: Some(folder.path().to_owned()), ..BitcoinConfig::default() };
    let clock = Arc::new(ManualClock::new(1_750_000_000_000));
    let node = BitcoinNode::start(config, clock, shutdown.clone()).await.unwrap();

    let account = account(taproot);
    let chain = Bitcoin::new(Network::Regtest);
    let script = account.address().to_string().parse::<bitcoin::Address<_>>().unwrap().assume_checked().script_pubkey();
    let auth = Auth::BasicFile(node.cookie_file().unwrap().to_owned());
    let rpc = RpcClient::new(&node.url(), auth, Duration::from_secs(10)).unwrap();
    let client = BitcoinClient::new(rpc, Network::Regtest, [script], 0, Options::default());
    let balance = async || client.balance(&account, Asset::Native).await.unwrap();

    assert_eq!(balance().await, Amount::from_sat(0));
    node.fund(&account.address().to_string(), bitcoin::Amount::from_sat(FUNDS)).await.unwrap();
    assert_eq!(balance().await, Amount::from_sat(FUNDS));

    let intent: Intent = serde_json::from_value(json!({
        "wallet": "test",
        "action": {
            "kind": "transfer",
            "asset": "native",
            "to": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "amount": PAID.to_string(),
        },
    }))
    .unwrap();
    let state = client.state(&intent, &account, &BTreeSet::new()).await.unwrap();
    let unsigned = chain.build(&intent, &account, &state).unwrap();
    let fee = chain.effects(&account, &unsigned).unwrap().max_fee;
    let signatures: Vec<_> = chain.payloads(&account, &unsigned).unwrap().iter().map(sign).collect();
    let signed = chain.assemble(&account, &unsigned, &signatures).unwrap();

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
    assert_eq!(balance().await, left);

    node.invalidate(block).await.unwrap();
    assert_eq!(client.status(&signed).await.unwrap(), Status::InMempool);
    assert_eq!(balance().await, left);
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
