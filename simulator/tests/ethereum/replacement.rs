//! The gateway's own Ethereum client against the simulated node: a payment that waits is sped up or cancelled, and only one
//! of its attempts is ever mined.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::{U256, keccak256};
use bitcoin::CompressedPublicKey;
use chains::account::{Account, KeyPath, PublicKey};
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, Replacement};
use chains::client::{BroadcastError, Client, Nonces, StateError, Status};
use chains::ethereum::{BasisPoints, Ethereum, EthereumClient, Finality, Options, Replacing, Signed, Unsigned};
use chains::intent::Intent;
use chains::network::Network;
use chains::payload::{Message, Payload, Signature};
use chains::rpc::{Auth, RpcClient};
use k256::ecdsa::SigningKey;
use k256::ecdsa::hazmat::SignPrimitive;
use k256::sha2::Sha256;
use serde_json::json;

use crate::client::{CHAIN, World};
use crate::storm::{self, Storm};

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

struct Payer {
    world: World,
    client: EthereumClient,
    key: SigningKey,
    account: Account,
}

impl Payer {
    async fn start() -> Self {
        let world = World::start().await;
        let key = SigningKey::from_slice(keccak256("alice").as_slice()).unwrap();
        world.rich("alice").await;
        let public = CompressedPublicKey::from_slice(key.verifying_key().to_encoded_point(true).as_bytes()).unwrap();
        let (wallet, name) = ("test".parse().unwrap(), "key".parse().unwrap());
        let network = Network::Ethereum(CHAIN);
        let account = Account::new(wallet, network, name, KeyPath::root(), PublicKey::Ecdsa(public)).unwrap();
        let rpc = RpcClient::new(&world.node.url(), Auth::None, Duration::from_secs(10)).unwrap();
        let options = Options { finality: Finality::Tag { else_depth: None }, ..Options::default() };
        Self { client: EthereumClient::new(rpc, CHAIN, options), world, key, account }
    }

    fn chain(&self) -> Ethereum {
        Ethereum::new(CHAIN)
    }

    fn signed(&self, unsigned: &Unsigned) -> Signed {
        let sign = |payload: &Payload| {
            let Message::Ecdsa(hash) = payload.message() else { unreachable!("Ethereum signs hashes with ECDSA") };
            let (signature, id) = self.key.sign_prehash_recoverable(hash).unwrap();
            Signature::Ecdsa { rs: signature.to_bytes().into(), recovery_id: id.to_byte() }
        };
        let payloads = self.chain().payloads(&self.account, unsigned).unwrap();
        let signatures: Vec<_> = payloads.iter().map(sign).collect();
        self.chain().assemble(&self.account, unsigned, &signatures).unwrap()
    }

    /// The same message under another signature, as whoever took part in a signing may hold it.
    fn signed_anew(&self, unsigned: &Unsigned) -> Signed {
        let hash = unsigned.signature_hash().0.into();
        let scalar = self.key.as_nonzero_scalar();
        let (signature, id) = scalar.try_sign_prehashed_rfc6979::<Sha256>(&hash, b"another").unwrap();
        let again = Signature::Ecdsa { rs: signature.to_bytes().into(), recovery_id: id.unwrap().to_byte() };
        self.chain().assemble(&self.account, unsigned, &[again]).unwrap()
    }

    async fn first(&self, intent: &Intent) -> Unsigned {
        let state = self.client.state(intent, &self.account, &BTreeSet::new()).await.unwrap();
        self.chain().build(intent, &self.account, &state).unwrap()
    }

    async fn replace(
        &self,
        intent: &Intent,
        previous: &[Unsigned],
        purpose: Replacement,
    ) -> Result<Unsigned, StateError> {
        let slots = previous.iter().flat_map(|tx| self.chain().slots(&self.account, tx)).collect();
        let state = self.client.replacement_state(intent, &self.account, previous, purpose, &slots).await?;
        Ok(self.chain().replace(intent, &self.account, previous, purpose, &state)?)
    }

    async fn paid(&self) -> U256 {
        self.world.balance(PAYEE.parse().unwrap()).await
    }
}

fn intent(wei: &str) -> Intent {
    let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": wei });
    serde_json::from_value(json!({ "wallet": "test", "action": action })).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_sped_up_twice_and_mined_once() {
    let payer = Payer::start().await;
    // Nearly all that the account has: an estimate on top of its own earlier attempt would fail.
    let intent = intent("90000000000000000000");
    let mut attempts = vec![payer.first(&intent).await];
    let mut signed = vec![payer.signed(&attempts[0])];
    payer.client.broadcast(&signed[0]).await.unwrap();
    for _ in 0..2 {
        let faster = payer.replace(&intent, &attempts, Replacement::SpeedUp).await.unwrap();
        let bytes = payer.signed(&faster);
        payer.client.broadcast(&bytes).await.unwrap();
        assert_eq!(payer.client.status(&bytes).await.unwrap(), Status::InMempool);
        attempts.push(faster);
        signed.push(bytes);
    }
    // An earlier attempt that comes back pays too little.
    let refused = payer.client.broadcast(&signed[0]).await;
    assert!(matches!(refused, Err(BroadcastError::Rejected { .. })), "{refused:?}");
    assert_eq!(
        payer.client.nonces(&payer.account).await.unwrap(),
        Some(Nonces { latest: 0, pending: 1, finalized: Some(0) })
    );

    payer.world.node.mine(1).await.unwrap();
    assert_eq!(payer.paid().await.to_string(), "90000000000000000000");
    let refused = payer.replace(&intent, &attempts, Replacement::SpeedUp).await;
    assert!(matches!(refused, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{refused:?}");
    payer.world.node.mine(10).await.unwrap();
    assert!(matches!(payer.client.status(&signed[2]).await.unwrap(), Status::Included(_)));
    for earlier in &signed[..2] {
        assert_eq!(payer.client.status(earlier).await.unwrap(), Status::Expired);
    }
    assert_eq!(
        payer.client.nonces(&payer.account).await.unwrap(),
        Some(Nonces { latest: 1, pending: 1, finalized: Some(1) })
    );
    payer.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_payment_pays_nobody() {
    let payer = Payer::start().await;
    let intent = intent("1000");
    let first = payer.first(&intent).await;
    let faster = {
        payer.client.broadcast(&payer.signed(&first)).await.unwrap();
        payer.replace(&intent, std::slice::from_ref(&first), Replacement::SpeedUp).await.unwrap()
    };
    payer.client.broadcast(&payer.signed(&faster)).await.unwrap();
    let cancel = payer.replace(&intent, &[first, faster.clone()], Replacement::Cancel).await.unwrap();
    let effects = payer.chain().effects(&payer.account, &cancel).unwrap();
    assert!(effects.transfers.is_empty() && effects.calls.is_empty() && effects.allowances.is_empty());
    let signed = payer.signed(&cancel);
    payer.client.broadcast(&signed).await.unwrap();
    payer.world.node.mine(1).await.unwrap();
    assert!(matches!(payer.client.status(&signed).await.unwrap(), Status::Included(i) if i.succeeded));
    assert_eq!(payer.paid().await, U256::ZERO);
    payer.world.node.mine(10).await.unwrap();
    assert_eq!(payer.client.status(&payer.signed(&faster)).await.unwrap(), Status::Expired);
    payer.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signature_over_the_same_message_is_the_payment() {
    let payer = Payer::start().await;
    let payment = intent("1000");
    payer.world.node.mine(5).await.unwrap();
    let unsigned = payer.first(&payment).await;
    let (ours, anothers) = (payer.signed(&unsigned), payer.signed_anew(&unsigned));
    assert_ne!(ours.hash(), anothers.hash());
    payer.client.broadcast(&anothers).await.unwrap();
    payer.world.node.mine(1).await.unwrap();
    assert_eq!(payer.paid().await, U256::from(1_000));
    // Later payments and blocks lie between.
    let next = payer.first(&payment).await;
    payer.client.broadcast(&payer.signed(&next)).await.unwrap();
    payer.world.node.mine(20).await.unwrap();

    let Status::Included(theirs) = payer.client.status(&anothers).await.unwrap() else { panic!("it was mined") };
    assert!(theirs.finalized && theirs.succeeded);
    assert_eq!(payer.client.status(&ours).await.unwrap(), Status::Included(theirs));
    payer.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_refuses_what_the_rule_forbids() {
    let payer = Payer::start().await;
    let intent = intent("1000");
    let first = payer.first(&intent).await;
    payer.client.broadcast(&payer.signed(&first)).await.unwrap();
    let previous = std::slice::from_ref(&first);
    let purpose = Replacement::SpeedUp;
    let nobody = BTreeSet::new();
    let state = payer.client.replacement_state(&intent, &payer.account, previous, purpose, &nobody).await;
    let mut state = state.unwrap();
    for (bump, taken) in [(999, false), (1_000, true)] {
        state.replacing = Some(Replacing { bump: BasisPoints::new(bump) });
        let faster = payer.chain().replace(&intent, &payer.account, previous, purpose, &state).unwrap();
        assert_eq!(payer.client.broadcast(&payer.signed(&faster)).await.is_ok(), taken, "{bump} basis points");
    }
    payer.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_weather_is_a_typed_error_and_nothing_else() {
    let payer = Payer::start().await;
    let payment = intent("1000");
    let excluded = payer.first(&payment).await;
    let excluded_signed = payer.signed(&excluded);
    payer.client.broadcast(&excluded_signed).await.unwrap();
    let instead = payer.replace(&payment, &[excluded], Replacement::SpeedUp).await.unwrap();
    payer.client.broadcast(&payer.signed(&instead)).await.unwrap();
    payer.world.node.mine(10).await.unwrap();
    let waiting = payer.first(&payment).await;
    let waiting_signed = payer.signed(&waiting);
    payer.client.broadcast(&waiting_signed).await.unwrap();

    let storm = Storm::before(&payer.world.node.url()).await;
    let client = || {
        let rpc = RpcClient::new(storm.url(), Auth::None, Duration::from_secs(10)).unwrap();
        EthereumClient::new(rpc, CHAIN, Options::default())
    };
    let (account, nothing) = (&payer.account, &BTreeSet::new());
    let token = Asset::Erc20(payer.world.node.demo_token());
    let state = || async { client().state(&payment, account, nothing).await.map(|state| format!("{state:?}")) };
    storm.weather("state", || async { state().await.map_err(storm::of_state) }).await;
    let previous = std::slice::from_ref(&waiting);
    let replacement = || async {
        let state = client().replacement_state(&payment, account, previous, Replacement::SpeedUp, nothing).await;
        state.map(|state| format!("{state:?}")).map_err(storm::of_state)
    };
    storm.weather("replacement_state", replacement).await;
    for asset in [Asset::Native, token] {
        let balance = || async { client().balance(account, asset).await.map(|amount| amount.to_string()) };
        storm.weather("balance", balance).await;
    }
    let broadcast =
        || async { client().broadcast(&waiting_signed).await.map(|()| String::new()).map_err(storm::of_broadcast) };
    storm.weather("broadcast", broadcast).await;
    for (signed, expected) in [(&waiting_signed, Status::InMempool), (&excluded_signed, Status::Expired)] {
        assert_eq!(client().status(signed).await.unwrap(), expected);
        storm.weather("status", || async { client().status(signed).await.map(|s| format!("{s:?}")) }).await;
    }
    storm.weather("nonces", || async { client().nonces(account).await.map(|nonces| format!("{nonces:?}")) }).await;
    storm.weather("tip", || async { client().tip().await.map(|tip| format!("{tip:?}")) }).await;
    payer.world.stop().await;
}
