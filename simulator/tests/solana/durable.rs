//! The gateway's own Solana client under durable nonces: opening one, paying, failing, replacing, cancelling, and the end of
//! every attempt that lost.

use std::collections::BTreeSet;
use std::time::Duration;

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, Replacement, Slot};
use chains::client::{BroadcastError, Client, Inclusion, StateError, Status};
use chains::effects::Upkeep;
use chains::intent::{Action, Intent};
use chains::network::{Cluster, Network};
use chains::payload::{Message as Signable, Signature};
use chains::rpc::{Auth, RpcClient};
use chains::solana::{Durable, Options, Signed, Solana, SolanaClient, Unsigned, Validity, nonce_account};
use serde_json::json;
use solana_sdk::hash::Hash;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};
use solana_sdk::transaction::VersionedTransaction;
use solana_system_interface::instruction as system;

use crate::node::{Node, SOL, sign, transfer};
use crate::storm::{self, Storm};

const CHAIN: Solana = Solana::new(Cluster::Localnet);
/// The rent of 80 bytes, in lamports.
const RENT: u64 = 1_447_680;
/// After so many slots everything is final.
const FINAL: u32 = 9;

/// A node, a wallet on it with 10 SOL, and the wallet's client.
struct World {
    node: Node,
    key: Keypair,
    account: Account,
    client: SolanaClient,
    payee: Pubkey,
}

impl World {
    /// A wallet with `nonces` open nonce accounts.
    async fn new(nonces: u8) -> Self {
        let node = Node::start().await;
        let key = node.funded(10 * SOL).await;
        let payee = node.funded(SOL).await.pubkey();
        let account = Account::new(
            "treasury".parse().unwrap(),
            Network::Solana(Cluster::Localnet),
            "ed25519".parse().unwrap(),
            KeyPath::root(),
            PublicKey::Ed25519(key.pubkey().to_bytes()),
        );
        let client = client(&node, Options::default());
        let world = Self { node, key, account: account.unwrap(), client, payee };
        for index in 0..nonces {
            let opened = world.make(&open(index), &BTreeSet::new()).await;
            world.send(&opened).await;
        }
        world.mine(FINAL).await;
        world
    }

    async fn mine(&self, slots: u32) {
        self.node.node.mine(slots).await.unwrap();
    }

    async fn build(&self, intent: &Intent, busy: &BTreeSet<Slot>) -> Unsigned {
        let state = self.client.state(intent, &self.account, busy).await.unwrap();
        CHAIN.build(intent, &self.account, &state).unwrap()
    }

    async fn replace(
        &self,
        intent: &Intent,
        previous: &[Unsigned],
        purpose: Replacement,
    ) -> Result<Unsigned, StateError> {
        let busy = previous.iter().flat_map(|unsigned| self.slots(unsigned)).collect();
        let state = self.client.replacement_state(intent, &self.account, previous, purpose, &busy).await?;
        Ok(CHAIN.replace(intent, &self.account, previous, purpose, &state)?)
    }

    fn slots(&self, unsigned: &Unsigned) -> BTreeSet<Slot> {
        CHAIN.slots(&self.account, unsigned)
    }

    /// Through the bytes, as they are stored and given to signers.
    fn sign(&self, unsigned: &Unsigned) -> Signed {
        let unsigned = CHAIN.decode_unsigned(&CHAIN.encode_unsigned(unsigned)).unwrap();
        CHAIN.effects(&self.account, &unsigned).unwrap();
        let payloads = CHAIN.payloads(&self.account, &unsigned).unwrap();
        let [payload] = payloads.as_slice() else { panic!("one signature") };
        let Signable::Ed25519(message) = payload.message() else { panic!("Ed25519") };
        let signature = Signature::Ed25519(*self.key.sign_message(message).as_array());
        let signed = CHAIN.assemble(&self.account, &unsigned, &[signature]).unwrap();
        CHAIN.decode_signed(&CHAIN.encode_signed(&signed)).unwrap()
    }

    async fn make(&self, intent: &Intent, busy: &BTreeSet<Slot>) -> Signed {
        self.sign(&self.build(intent, busy).await)
    }

    async fn send(&self, signed: &Signed) {
        self.client.broadcast(signed).await.unwrap();
    }

    async fn status(&self, signed: &Signed) -> Status {
        self.client.status(signed).await.unwrap()
    }

    async fn included(&self, signed: &Signed) -> Inclusion {
        match self.status(signed).await {
            Status::Included(inclusion) => inclusion,
            other => panic!("{other:?}"),
        }
    }

    async fn paid(&self) -> u64 {
        self.node.balance(&self.payee, "processed").await - SOL
    }

    async fn left(&self) -> u64 {
        self.node.balance(&self.key.pubkey(), "processed").await
    }

    fn pay(&self, lamports: u64) -> Intent {
        let (to, amount) = (UncheckedAddress::new(self.payee.to_string()), Amount::from_lamports(lamports));
        intent(Action::Transfer { asset: Asset::Native, to, amount })
    }

    /// What every wallet's nonce accounts hold.
    async fn nonces(&self) -> Vec<Hash> {
        use base64::Engine as _;
        let names: Vec<_> = (0..8).map(|index| nonce_account(&self.key.pubkey(), index).to_string()).collect();
        let config = json!({ "encoding": "base64", "commitment": "processed" });
        let found = self.node.value("getMultipleAccounts", json!([names, config])).await;
        let data =
            found.as_array().unwrap().iter().filter_map(|account| account["data"][0].as_str().map(str::to_owned));
        let bytes = data.map(|data| base64::prelude::BASE64_STANDARD.decode(data).unwrap());
        bytes.map(|bytes| Hash::new_from_array(bytes[40..72].try_into().unwrap())).collect()
    }
}

fn client(node: &Node, options: Options) -> SolanaClient {
    let rpc = RpcClient::new(&node.node.url(), Auth::None, Duration::from_secs(10)).unwrap();
    SolanaClient::new(rpc, Cluster::Localnet, options)
}

fn intent(action: Action) -> Intent {
    Intent { wallet: "treasury".parse().unwrap(), action, max_fee: None, reference: None }
}

fn open(index: u8) -> Intent {
    intent(Action::OpenNonce { index })
}

fn is_durable(unsigned: &Unsigned) -> bool {
    matches!(unsigned.validity(), Validity::Nonce(_))
}

fn fee(inclusion: &Inclusion) -> u64 {
    inclusion.fee.unwrap().to_u64().unwrap()
}

#[tokio::test]
async fn a_nonce_is_opened_and_a_payment_outlives_every_blockhash() {
    let world = World::new(0).await;
    let early = world.build(&world.pay(7), &BTreeSet::new()).await;
    assert!(!is_durable(&early), "there is no nonce yet");

    let before = world.left().await;
    let built = world.build(&open(0), &BTreeSet::new()).await;
    let effects = CHAIN.effects(&world.account, &built).unwrap();
    assert_eq!(effects.upkeep, Some(Upkeep::OpenNonce { index: 0 }));
    let opened = world.sign(&built);
    world.send(&opened).await;
    world.mine(FINAL).await;
    let inclusion = world.included(&opened).await;
    assert!(inclusion.succeeded && inclusion.finalized);
    let cost = before - world.left().await;
    assert_eq!(cost, RENT + fee(&inclusion));
    assert_eq!(effects.max_fee, Amount::from_lamports(cost), "the rent is counted as fee");
    let again = world.client.state(&open(0), &world.account, &BTreeSet::new()).await;
    assert!(matches!(again, Err(StateError::Build(BuildError::Unsupported(_)))), "{again:?}");

    let paying = world.build(&world.pay(7), &BTreeSet::new()).await;
    assert!(is_durable(&paying));
    let signed = world.sign(&paying);
    world.mine(400).await;
    assert_eq!(world.status(&signed).await, Status::Unknown, "it waits for as long as it takes");
    world.send(&signed).await;
    world.mine(1).await;
    assert_eq!(world.paid().await, 7);
    assert!(!world.included(&signed).await.finalized);

    // Its nonce is used up, so a node that is asked to take it again refuses: no evidence that it is not out.
    world.mine(2).await;
    let refused = world.client.broadcast(&signed).await;
    let Err(BroadcastError::Rejected { message, .. }) = refused else { panic!("{refused:?}") };
    assert!(message.contains("BlockhashNotFound"), "{message}");
    world.mine(FINAL).await;
    let inclusion = world.included(&signed).await;
    assert!(inclusion.finalized && inclusion.succeeded);
    let effects = CHAIN.effects(&world.account, &paying).unwrap();
    assert_eq!(effects.max_fee, Amount::from_lamports(fee(&inclusion)));

    // The next payment is under the next value, and the same payment is paid again.
    let next = world.build(&world.pay(7), &world.slots(&paying)).await;
    assert!(is_durable(&next) && world.slots(&next).is_disjoint(&world.slots(&paying)));
    world.send(&world.sign(&next)).await;
    world.mine(1).await;
    assert_eq!(world.paid().await, 14);
    world.node.stop().await;
}

#[tokio::test]
async fn each_payment_in_flight_has_a_nonce_of_its_own() {
    let world = World::new(2).await;
    let mut busy = BTreeSet::new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let built = world.build(&world.pay(5), &busy).await;
        assert!(is_durable(&built) && world.slots(&built).is_disjoint(&busy));
        busy.extend(world.slots(&built));
        waiting.push(world.sign(&built));
    }
    assert!(!is_durable(&world.build(&world.pay(5), &busy).await), "a blockhash will do");
    let strict = client(&world.node, Options { durable: Durable::Require, ..Options::default() });
    let refused = strict.state(&world.pay(5), &world.account, &busy).await;
    assert!(matches!(refused, Err(StateError::Build(BuildError::NoNonce))), "{refused:?}");
    let plain = client(&world.node, Options { durable: Durable::Never, ..Options::default() });
    let state = plain.state(&world.pay(5), &world.account, &BTreeSet::new()).await.unwrap();
    assert!(matches!(state.validity, Validity::Blockhash { .. }));

    for signed in &waiting {
        world.send(signed).await;
    }
    world.mine(2).await;
    assert_eq!(world.paid().await, 10);
    // As soon as the blocks are confirmed the nonces serve again.
    assert!(is_durable(&world.build(&world.pay(5), &busy).await));
    world.node.stop().await;
}

#[tokio::test]
async fn a_failed_payment_uses_its_nonce_up_and_pays_its_fee() {
    let world = World::new(1).await;
    let built = world.build(&world.pay(6 * SOL), &BTreeSet::new()).await;
    let signed = world.sign(&built);
    let before = world.nonces().await;
    // Most of the funds leave first.
    let leaves = world.node.sign(&[&world.key], &[transfer(&world.key, &Pubkey::new_unique(), 6 * SOL)]).await;
    world.node.send(&leaves).await.unwrap();
    world.mine(2).await;
    let left = world.left().await;

    assert!(matches!(world.client.broadcast(&signed).await, Err(BroadcastError::Rejected { .. })), "preflight fails");
    assert_eq!(world.status(&signed).await, Status::Unknown);
    let blind = client(&world.node, Options { skip_preflight: true, ..Options::default() });
    blind.broadcast(&signed).await.unwrap();
    world.mine(FINAL).await;
    let inclusion = world.included(&signed).await;
    assert!(inclusion.finalized && !inclusion.succeeded && inclusion.failure.is_some());
    assert_eq!(world.left().await, left - fee(&inclusion));
    assert_ne!(world.nonces().await, before);
    assert_eq!(world.paid().await, 0);
    let refused = world.replace(&world.pay(6 * SOL), &[built], Replacement::Cancel).await;
    assert!(matches!(refused, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{refused:?}");
    world.node.stop().await;
}

/// All attempts of one payment, sent in one order and in the other, in one slot and in several: exactly one is included, and
/// every other one ends as expired, but not before that is final.
#[tokio::test]
async fn of_all_attempts_one_is_included() {
    for first in 0..3 {
        for together in [true, false] {
            let world = World::new(1).await;
            let intent = world.pay(9);
            let payment = world.build(&intent, &BTreeSet::new()).await;
            let faster = world.replace(&intent, std::slice::from_ref(&payment), Replacement::SpeedUp).await.unwrap();
            let cancel = world.replace(&intent, &[payment.clone(), faster.clone()], Replacement::Cancel).await.unwrap();
            let attempts = [payment, faster, cancel];
            let slots = world.slots(&attempts[0]);
            assert!(attempts.iter().all(|attempt| world.slots(attempt) == slots));
            let fees: Vec<_> =
                attempts.iter().map(|attempt| CHAIN.effects(&world.account, attempt).unwrap().max_fee).collect();
            assert!(fees.is_sorted(), "{fees:?}");

            let mut order: Vec<Signed> = attempts.iter().map(|attempt| world.sign(attempt)).collect();
            order.rotate_left(first);
            let before = world.left().await;
            let blind = client(&world.node, Options { skip_preflight: true, ..Options::default() });
            for attempt in &order {
                blind.broadcast(attempt).await.unwrap();
                if !together {
                    world.mine(1).await;
                }
            }
            world.mine(1).await;
            let (winner, losers) = order.split_first().unwrap();
            assert!(world.included(winner).await.succeeded);
            for loser in losers {
                assert_eq!(world.status(loser).await, Status::Unknown, "a reorg may still let it in");
            }
            world.mine(FINAL).await;
            let inclusion = world.included(winner).await;
            assert!(inclusion.finalized);
            for loser in losers {
                assert_eq!(world.status(loser).await, Status::Expired);
                let refused = world.client.broadcast(loser).await;
                assert!(matches!(refused, Err(BroadcastError::Rejected { .. })), "{refused:?}");
            }
            let paid = if first == 2 { 0 } else { 9 };
            assert_eq!(world.paid().await, paid, "{first} {together}");
            assert_eq!(before - world.left().await, paid + fee(&inclusion), "one fee is paid");

            let refused = world.replace(&intent, &attempts, Replacement::SpeedUp).await;
            assert!(matches!(refused, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{refused:?}");
            world.node.stop().await;
        }
    }
}

#[tokio::test]
async fn a_payment_under_a_blockhash_is_not_replaced_but_expires() {
    let world = World::new(0).await;
    let payment = world.build(&world.pay(9), &BTreeSet::new()).await;
    let signed = world.sign(&payment);
    for purpose in [Replacement::SpeedUp, Replacement::Cancel] {
        let refused = world.replace(&world.pay(9), std::slice::from_ref(&payment), purpose).await;
        assert!(matches!(refused, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{refused:?}");
    }
    let Validity::Blockhash { last_valid_block_height, .. } = *payment.validity() else { panic!("a blockhash") };
    let finalized = async || world.client.tip().await.unwrap().finalized.unwrap();
    world.mine(u32::try_from(last_valid_block_height - finalized().await).unwrap()).await;
    assert_eq!(finalized().await, last_valid_block_height);
    assert_eq!(world.status(&signed).await, Status::Unknown);
    world.mine(1).await;
    assert_eq!(world.status(&signed).await, Status::Expired);
    world.node.stop().await;
}

/// Signatures that several signers make together are randomised: one of them may keep a second one over the same message, and send
/// it instead. The payment is made, under an id that nobody was told.
#[tokio::test]
async fn a_second_signature_over_the_message_is_the_payment() {
    for nonces in [1, 0] {
        let world = World::new(nonces).await;
        let payment = world.build(&world.pay(9), &BTreeSet::new()).await;
        assert_eq!(is_durable(&payment), nonces == 1);
        let signed = world.sign(&payment);
        let message = payment.message().clone();
        let scalar = ed25519_dalek::SigningKey::from_bytes(world.key.secret_bytes()).to_scalar();
        let again = frost_ed25519::SigningKey::deserialize(&scalar.to_bytes()).unwrap();
        let again = again.sign(rand_core::OsRng, &message.serialize()).serialize().unwrap();
        let again = VersionedTransaction { signatures: vec![again.try_into().unwrap()], message };
        assert_ne!(again.signatures[0], signed.signature());
        assert_eq!(again.verify_with_results(), [true]);

        let id = world.node.send(&again).await.unwrap();
        world.mine(1).await;
        assert_eq!(world.paid().await, 9);
        assert_eq!(world.status(&signed).await, Status::Unknown, "a reorg may still take it back");
        // Under a nonce it is known as soon as that is final, under a blockhash when that is too old.
        world.mine(if nonces == 1 { FINAL } else { 170 }).await;
        let inclusion = world.included(&signed).await;
        assert!(inclusion.finalized && inclusion.succeeded);
        assert_eq!(inclusion.height, world.node.status(&id).await["slot"]);
        let told = world.node.transaction(&id).await;
        assert_eq!(told["meta"]["fee"], fee(&inclusion));
        world.node.stop().await;
    }
}

/// Why a nonce's value must prove that it is one: two messages that start by advancing the nonce but are under a recent
/// blockhash are both included. The adapter signs no such message.
#[tokio::test]
async fn an_advance_under_a_blockhash_excludes_nothing() {
    let world = World::new(1).await;
    let (own, nonce) = (world.key.pubkey(), nonce_account(&world.key.pubkey(), 0));
    let blockhash = world.node.blockhash().await;
    let mut messages = Vec::new();
    for lamports in [3, 4] {
        let instructions = [system::advance_nonce_account(&nonce, &own), transfer(&world.key, &world.payee, lamports)];
        messages.push(Message::new_with_blockhash(&instructions, Some(&own), &blockhash));
        world.node.send(&sign(&[&world.key], &instructions, blockhash)).await.unwrap();
        world.mine(1).await;
    }
    assert_eq!(world.paid().await, 7, "both");
    for message in messages {
        let message = VersionedMessage::Legacy(message);
        assert!(Unsigned::new(Cluster::Localnet, message.clone(), 1_000, Vec::new()).is_err());
        for origin in [blockhash, Hash::default()] {
            assert!(Unsigned::durable(Cluster::Localnet, message.clone(), origin, 1, Vec::new()).is_err());
        }
    }
    // The account itself is as good as before.
    assert!(is_durable(&{
        world.mine(2).await;
        world.build(&world.pay(5), &BTreeSet::new()).await
    }));
    world.node.stop().await;
}

/// What the client asks about nonces, as agave answers it.
#[tokio::test]
async fn the_node_tells_of_nonces() {
    let world = World::new(1).await;
    let rent = world.node.ok("getMinimumBalanceForRentExemption", json!([80])).await;
    assert_eq!(rent, RENT);
    let nonce = nonce_account(&world.key.pubkey(), 0).to_string();
    let tip = world.node.ok("getSlot", json!([{ "commitment": "finalized" }])).await.as_u64().unwrap();
    let ask = async |least: u64| {
        let config = json!({ "encoding": "base64", "commitment": "finalized", "minContextSlot": least });
        world.node.call("getMultipleAccounts", json!([[nonce], config])).await
    };
    let answer = ask(tip).await.unwrap();
    assert_eq!((&answer["context"]["slot"], &answer["value"][0]["space"]), (&json!(tip), &json!(80)));
    assert_eq!(ask(tip + 1).await.unwrap_err()["code"], -32016);

    // A message under a nonce is simulated as it is, or under the node's own blockhash.
    let payment = world.build(&world.pay(5), &BTreeSet::new()).await;
    let transaction = VersionedTransaction { signatures: vec![Default::default()], message: payment.message().clone() };
    let simulate = async |replace: bool| {
        let config = json!({ "encoding": "base64", "commitment": "confirmed", "replaceRecentBlockhash": replace });
        world.node.value("simulateTransaction", json!([crate::node::encode(&transaction), config])).await
    };
    for replace in [false, true] {
        let done = simulate(replace).await;
        // The advance, two compute budget instructions and the transfer: 150 units each.
        assert_eq!((&done["err"], &done["unitsConsumed"]), (&json!(null), &json!(600)), "{done}");
    }
    world.send(&world.sign(&payment)).await;
    world.mine(2).await;
    assert_eq!(simulate(false).await["err"], "BlockhashNotFound", "the value is used up");
    assert_eq!(simulate(true).await["err"], json!(null));
    world.node.stop().await;
}

#[tokio::test]
async fn hard_weather_is_a_typed_error_and_nothing_else() {
    let world = World::new(2).await;
    let intent = world.pay(9);
    let payment = world.build(&intent, &BTreeSet::new()).await;
    let cancel = world.replace(&intent, std::slice::from_ref(&payment), Replacement::Cancel).await.unwrap();
    let excluded = world.sign(&payment);
    let included = world.sign(&cancel);
    world.send(&included).await;
    world.mine(FINAL).await;
    let waiting = world.build(&intent, &world.slots(&payment)).await;
    assert!(is_durable(&waiting));
    let waiting_signed = world.sign(&waiting);

    let plain = client(&world.node, Options { durable: Durable::Never, ..Options::default() });
    let late = plain.state(&intent, &world.account, &BTreeSet::new()).await.unwrap();
    let late = world.sign(&CHAIN.build(&intent, &world.account, &late).unwrap());
    world.mine(170).await;

    let storm = Storm::before(&world.node.node.url()).await;
    let client = || {
        let rpc = RpcClient::new(storm.url(), Auth::None, Duration::from_secs(10)).unwrap();
        SolanaClient::new(rpc, Cluster::Localnet, Options::default())
    };
    let (account, nothing) = (&world.account, &BTreeSet::new());
    let state = || async { client().state(&intent, account, nothing).await.map(|state| format!("{state:?}")) };
    storm.weather("state", || async { state().await.map_err(storm::of_state) }).await;
    let previous = std::slice::from_ref(&waiting);
    let replacement = || async {
        let state = client().replacement_state(&intent, account, previous, Replacement::SpeedUp, nothing).await;
        state.map(|state| format!("{state:?}")).map_err(storm::of_state)
    };
    storm.weather("replacement_state", replacement).await;
    let balance = || async { client().balance(account, Asset::Native).await.map(|amount| amount.to_string()) };
    storm.weather("balance", balance).await;
    for (signed, expected) in
        [(&waiting_signed, Status::Unknown), (&excluded, Status::Expired), (&late, Status::Expired)]
    {
        assert_eq!(client().status(signed).await.unwrap(), expected);
        storm.weather("status", || async { client().status(signed).await.map(|s| format!("{s:?}")) }).await;
    }
    storm.weather("status", || async { client().status(&included).await.map(|s| format!("{s:?}")) }).await;
    let broadcast =
        || async { client().broadcast(&waiting_signed).await.map(|()| String::new()).map_err(storm::of_broadcast) };
    storm.weather("broadcast", broadcast).await;
    storm.weather("tip", || async { client().tip().await.map(|tip| format!("{tip:?}")) }).await;
    world.node.stop().await;
}
