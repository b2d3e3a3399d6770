//! The gateway's own client at one of the nodes, through reorganisations and to finality.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::{U256, keccak256};
use bitcoin::CompressedPublicKey;
use chains::account::{Account, KeyPath, PublicKey};
use chains::chain::Chain as _;
use chains::client::{Client as _, Inclusion, Status};
use chains::ethereum::{Ethereum, EthereumClient, Finality, Options, Signed};
use chains::intent::Intent;
use chains::network::Network;
use chains::payload::{Message, Payload, Signature};
use chains::rpc::{Auth, RpcClient};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::client::CHAIN;
use crate::three::{SAFE, Three};

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

/// The client of a gateway that talks to the first node.
struct Follower {
    client: EthereumClient,
    key: SigningKey,
    account: Account,
}

impl Follower {
    async fn new(three: &Three) -> Self {
        let key = SigningKey::from_slice(keccak256("alice").as_slice()).unwrap();
        three.rich("alice").await;
        let public = CompressedPublicKey::from_slice(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap();
        let (wallet, name) = ("test".parse().unwrap(), "key".parse().unwrap());
        let network = Network::Ethereum(CHAIN);
        let account = Account::new(wallet, network, name, KeyPath::root(), PublicKey::Ecdsa(public)).unwrap();
        let rpc = RpcClient::new(&three.node(0).url(), Auth::None, Duration::from_secs(10)).unwrap();
        let options = Options { finality: Finality::Tag { else_depth: None }, ..Options::default() };
        Self { client: EthereumClient::new(rpc, CHAIN, options), key, account }
    }

    async fn pay(&self, wei: u64) -> Signed {
        let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": wei.to_string() });
        let intent: Intent = serde_json::from_value(json!({ "wallet": "test", "action": action })).unwrap();
        let chain = Ethereum::new(CHAIN);
        let state = self.client.state(&intent, &self.account, &BTreeSet::new()).await.unwrap();
        let unsigned = chain.build(&intent, &self.account, &state).unwrap();
        let sign = |payload: &Payload| {
            let Message::Ecdsa(hash) = payload.message() else { unreachable!("Ethereum signs hashes with ECDSA") };
            let (signature, id) = self.key.sign_prehash_recoverable(hash).unwrap();
            Signature::Ecdsa { rs: signature.to_bytes().into(), recovery_id: id.to_byte() }
        };
        let signatures: Vec<_> = chain.payloads(&self.account, &unsigned).unwrap().iter().map(sign).collect();
        let signed = chain.assemble(&self.account, &unsigned, &signatures).unwrap();
        self.client.broadcast(&signed).await.unwrap();
        signed
    }

    async fn included(&self, signed: &Signed) -> Inclusion {
        match self.client.status(signed).await.unwrap() {
            Status::Included(inclusion) => inclusion,
            other => panic!("not included but {other:?}"),
        }
    }
}

/// A payment that `depth` blocks confirm leaves the chain with them, comes back, and becomes final.
async fn follow_through(three: &Three, follower: &Follower, depth: u32, by_partition: bool) {
    let all = [0, 1, 2];
    three.agree(&all).await;
    // What the payee has at the first node's head.
    let paid = async || three.get::<U256>(0, "eth_getBalance", json!([PAYEE, "latest"])).await;
    let before = paid().await;
    let signed;
    if by_partition {
        three.partition(&[&[0], &[1, 2]]);
        signed = follower.pay(1_000).await;
        three.node(0).mine(depth).await.unwrap();
        assert_eq!(paid().await, before + U256::from(1_000));
        three.node(1).mine(depth + 1).await.unwrap();
        let lost = follower.included(&signed).await;
        assert_eq!((lost.confirmations, lost.finalized), (u64::from(depth), false));
        three.heal();
        three.agree(&[1, 0, 2]).await;
    } else {
        signed = follower.pay(1_000).await;
        three.slots(0, depth, &[1, 2]).await;
        let lost = follower.included(&signed).await;
        assert_eq!((lost.confirmations, lost.finalized), (u64::from(depth), false));
        let branch = three.ok(0, "sim_reorg", json!([{ "depth": depth }])).await;
        assert_eq!(branch.as_array().map(Vec::len), Some(usize::try_from(depth).unwrap() + 1));
        three.agree(&all).await;
    }
    assert_eq!(follower.client.status(&signed).await.unwrap(), Status::InMempool, "{depth} blocks, {by_partition}");
    assert_eq!(paid().await, before);
    let nonces = follower.client.nonces(&follower.account).await.unwrap().unwrap();
    assert_eq!(nonces.pending, nonces.latest + 1);

    // Whoever makes the next block has it.
    three.waits(2, signed.hash()).await;
    three.slots(2, 1, &[0, 1]).await;
    let again = follower.included(&signed).await;
    assert!(again.succeeded && !again.finalized && again.confirmations == 1);
    let tip = follower.client.tip().await.unwrap();
    assert_eq!((again.height, again.block), (tip.height, Some(three.head(0).await.to_string())));
    three.slots(1, 2 * SAFE + 1, &[0, 2]).await;
    let is = |block: &Value| {
        let number = U256::from_str_radix(&block["number"].as_str().unwrap()[2..], 16).unwrap();
        number >= U256::from(again.height)
    };
    three.until(0, "eth_getBlockByNumber", json!(["finalized", false]), is).await;
    assert!(follower.included(&signed).await.finalized);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_client_survives_reorganisations() {
    let three = Three::start().await;
    let follower = Follower::new(&three).await;
    three.slots(0, 2 * SAFE, &[1, 2]).await;
    for depth in 1..SAFE {
        follow_through(&three, &follower, depth, false).await;
        follow_through(&three, &follower, depth, true).await;
    }
    three.stop().await;
}
