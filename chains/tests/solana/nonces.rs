//! The Solana client and durable nonces, against a scripted node: which one is taken, what proves its value, when a payment under
//! one has expired.

use std::collections::BTreeSet;

use chains::chain::{BuildError, Chain, Replacement};
use chains::client::{Client, StateError, Status};
use chains::network::Cluster;
use chains::rpc::RpcError;
use chains::solana::{
    Durable, Lamports, MicroLamports, Nonce, Options, Signed, State, Unsigned, Validity, nonce_account,
};
use serde_json::{Value, json};
use solana_nonce::state::{Data, DurableNonce, State as NonceState};
use solana_nonce::versions::Versions;
use solana_sdk::hash::Hash;
use solana_sdk::pubkey::Pubkey;

use crate::client::{NONCES, Node, accounts, an_account, asked, client, client_with, status, valued, wallet_account};
use crate::fixture::{CHAIN, MINIMUM, durable, key, nonce, open_nonce, pay_sol, state, under_blockhash, wallet};

/// The rent of 80 bytes, in lamports.
const RENT: u64 = 1_447_680;

/// The blockhash that is `n` in every byte.
fn hash(n: u8) -> Hash {
    Hash::new_from_array([n; 32])
}

fn data(authority: Pubkey, origin: u8) -> Box<NonceState> {
    Box::new(NonceState::Initialized(Data::new(authority, DurableNonce::from_blockhash(&hash(origin)), 5_000)))
}

fn account_of(versions: &Versions) -> Value {
    an_account(Pubkey::default(), RENT, &bincode::serialize(versions).expect("80 bytes"))
}

/// A nonce account of the wallet whose value derives from the blockhash that is `origin` in every byte.
pub(crate) fn good(origin: u8) -> Value {
    account_of(&Versions::Current(data(wallet().address(), origin)))
}

fn eight(list: &[Value]) -> Value {
    let mut all = list.to_vec();
    all.resize(8, Value::Null);
    accounts(&all)
}

fn named(slots: &[u64]) -> Value {
    slots.iter().map(|slot| json!({ "signature": "s", "slot": slot, "err": null })).collect()
}

fn block(previous: u8) -> Value {
    json!({ "blockhash": hash(0xee).to_string(), "previousBlockhash": hash(previous).to_string(), "parentSlot": 1 })
}

/// A node that has these nonce accounts and can tell where the one that derives from 21 was advanced.
fn node(nonces: &[Value]) -> Node {
    Node::new().says(NONCES, eight(nonces)).says("getSignaturesForAddress", named(&[990])).says("getBlock", block(21))
}

async fn read(node: Node, mode: Durable) -> Result<State, StateError> {
    let server = node.start().await;
    let client = client_with(&server, Cluster::Localnet, Options { durable: mode, ..Options::default() });
    client.state(&pay_sol(key(5), MINIMUM), &wallet().account, &BTreeSet::new()).await
}

fn taken(index: u8, origin: u8) -> Validity {
    let value = *DurableNonce::from_blockhash(&hash(origin)).as_hash();
    // slot 1000 is the node's
    let account = nonce_account(&wallet().address(), index);
    Validity::Nonce(Nonce { account, value, origin: hash(origin), seen_at: 1_000 })
}

// ---- which nonce is taken ----

#[tokio::test]
async fn a_payment_is_made_under_a_free_nonce() {
    let server = node(&[good(21)]).start().await;
    let (client, wallet, intent) = (client(&server), wallet(), pay_sol(key(5), MINIMUM));
    let state = client.state(&intent, &wallet.account, &BTreeSet::new()).await.expect("a state");
    assert_eq!(state.validity, taken(0, 21));
    let built = CHAIN.build(&intent, &wallet.account, &state).expect("possible");
    assert!(asked(&server, "getLatestBlockhash").await.is_empty());

    let asked_for = asked(&server, "getMultipleAccounts").await;
    let names: Vec<String> = (0..8).map(|n| nonce_account(&wallet.address(), n).to_string()).collect();
    assert!(asked_for.contains(&json!([names, { "encoding": "base64", "commitment": "confirmed" }])));
    let config = json!({
        "commitment": "confirmed", "transactionDetails": "none", "rewards": false, "maxSupportedTransactionVersion": 0,
    });
    assert_eq!(asked(&server, "getBlock").await, [json!([990, config])]);

    // The same once more: its nonce is taken.
    let busy = CHAIN.slots(&wallet.account, &built);
    let state = client.state(&intent, &wallet.account, &busy).await.expect("a state");
    assert_eq!(state.validity, under_blockhash([9; 32]));
}

#[tokio::test]
async fn accounts_that_are_no_nonces_of_the_wallet() {
    let own = wallet().address();
    let bytes = |versions: &Versions| bincode::serialize(versions).expect("80 bytes");
    let current = bytes(&Versions::Current(data(own, 21)));
    let mut long = current.clone();
    long.push(0);
    let mut uninitialized = bytes(&Versions::Current(Box::new(NonceState::Uninitialized)));
    uninitialized.resize(80, 0);
    let cases = [
        ("absent", Value::Null),
        ("lamports alone", wallet_account(5)),
        ("another authority", account_of(&Versions::Current(data(key(6), 21)))),
        ("the old version", account_of(&Versions::Legacy(data(own, 21)))),
        ("not initialized", an_account(Pubkey::default(), RENT, &uninitialized)),
        ("of another program", an_account(key(8), RENT, &current)),
        ("longer", an_account(Pubkey::default(), RENT, &long)),
        ("noise", an_account(Pubkey::default(), RENT, &[0xff; 80])),
    ];
    for (name, account) in &cases {
        let state = read(node(std::slice::from_ref(account)), Durable::Prefer).await.expect("a state");
        assert_eq!(state.validity, under_blockhash([9; 32]), "{name}");
        let refused = read(node(std::slice::from_ref(account)), Durable::Require).await;
        assert!(matches!(refused, Err(StateError::Build(BuildError::NoNonce))), "{name}: {refused:?}");
    }
    let mut all: Vec<Value> = cases.into_iter().map(|(_, account)| account).take(7).collect();
    all.push(good(21));
    let state = read(node(&all), Durable::Require).await.expect("a state");
    assert_eq!(state.validity, taken(7, 21), "the last one will do");
}

#[tokio::test]
async fn who_does_not_want_nonces_is_not_given_any() {
    let server = node(&[good(21)]).start().await;
    let client = client_with(&server, Cluster::Localnet, Options { durable: Durable::Never, ..Options::default() });
    let state = client.state(&pay_sol(key(5), MINIMUM), &wallet().account, &BTreeSet::new()).await.expect("a state");
    assert_eq!(state.validity, under_blockhash([9; 32]));
    assert_eq!(asked(&server, "getMultipleAccounts").await.len(), 1, "the parties of the payment");
}

// ---- what proves a value ----

/// Anybody can name a nonce account, so the block in which it was advanced may not be the last one that has it.
#[tokio::test]
async fn the_block_that_advanced_it_is_looked_for() {
    let node = node(&[good(21)])
        .says("getSignaturesForAddress", named(&[990, 990, 980, 970, 960]))
        .answer("getBlock", [Ok(block(1)), Ok(Value::Null), Ok(block(21)), Ok(block(2))]);
    let server = node.start().await;
    let state = client(&server).state(&pay_sol(key(5), MINIMUM), &wallet().account, &BTreeSet::new()).await;
    assert_eq!(state.expect("a state").validity, taken(0, 21));
    let slots: Vec<Value> = asked(&server, "getBlock").await.iter().map(|params| params[0].clone()).collect();
    assert_eq!(slots, [json!(990), json!(980), json!(970)]);
}

#[tokio::test]
async fn a_value_that_nothing_proves_is_not_used() {
    let error = |code| [Err(json!({ "code": code, "message": "words" }))];
    let many: Vec<u64> = (0..64).map(|n| 990 - n).collect();
    let unproven = || {
        [
            ("never named", node(&[good(21)]).says("getSignaturesForAddress", json!([]))),
            ("another blockhash", node(&[good(21)]).says("getBlock", block(22))),
            ("no block", node(&[good(21)]).says("getBlock", Value::Null)),
            ("no history", node(&[good(21)]).answer("getSignaturesForAddress", error(-32011))),
            ("a block that is gone", node(&[good(21)]).answer("getBlock", error(-32001))),
            ("a noisy one", node(&[good(21)]).says("getSignaturesForAddress", named(&many)).says("getBlock", block(1))),
        ]
    };
    for (name, node) in unproven() {
        let state = read(node, Durable::Prefer).await.expect("a state");
        assert_eq!(state.validity, under_blockhash([9; 32]), "{name}");
    }
    for (name, node) in unproven() {
        let refused = read(node, Durable::Require).await;
        assert!(matches!(refused, Err(StateError::Build(BuildError::NoNonce))), "{name}: {refused:?}");
    }
    // The next one may be proven.
    let node = node(&[good(33), good(21)]).says("getSignaturesForAddress", named(&[990]));
    assert_eq!(read(node, Durable::Prefer).await.expect("a state").validity, taken(1, 21));
}

#[tokio::test]
async fn answers_about_nonces_that_break_their_promise() {
    let cases = [
        (NONCES, accounts(&[Value::Null])),
        (NONCES, json!([])),
        ("getSignaturesForAddress", json!({})),
        ("getSignaturesForAddress", json!([{ "slot": "990" }])),
        ("getBlock", json!({ "previousBlockhash": "short" })),
        ("getBlock", json!({})),
    ];
    for (method, answer) in cases {
        let found = read(node(&[good(21)]).says(method, answer.clone()), Durable::Prefer).await;
        assert!(matches!(found, Err(StateError::Rpc(RpcError::Malformed { .. }))), "{method} {answer}: {found:?}");
    }
}

// ---- opening ----

#[tokio::test]
async fn a_state_for_opening() {
    let open = async |there: Value| {
        let node = node(&[good(21)])
            .says("getMultipleAccounts", accounts(&[wallet_account(1_000_000_000), there]))
            .answer("getMinimumBalanceForRentExemption", [Ok(json!(RENT)), Ok(json!(MINIMUM))]);
        let server = node.start().await;
        let state = client(&server).state(&open_nonce(3), &wallet().account, &BTreeSet::new()).await;
        (state, asked(&server, "getMinimumBalanceForRentExemption").await, asked(&server, "getMultipleAccounts").await)
    };
    let (state, rents, snapshots) = open(Value::Null).await;
    let state = state.expect("a state");
    assert_eq!((state.nonce_rent, state.rent_exempt_minimum), (Some(Lamports::new(RENT)), Lamports::new(MINIMUM)));
    assert_eq!(state.validity, under_blockhash([9; 32]), "always");
    assert_eq!(rents, [json!([80]), json!([0])]);
    let names = [wallet().address(), nonce_account(&wallet().address(), 3)].map(|name| name.to_string());
    assert_eq!(snapshots[0][0], json!(names));
    assert!(CHAIN.build(&open_nonce(3), &wallet().account, &state).is_ok());

    for there in [good(21), wallet_account(1)] {
        let (refused, ..) = open(there).await;
        assert!(matches!(refused, Err(StateError::Build(BuildError::Unsupported(_)))), "{refused:?}");
    }
}

// ---- replacement ----

fn paid() -> Unsigned {
    CHAIN.build(&pay_sol(key(5), MINIMUM), &wallet().account, &durable(&wallet(), 21)).expect("possible")
}

/// A node at which the wallet's nonce derives from `origin`.
fn at(origin: u8) -> Node {
    let parties = accounts(&[wallet_account(1_000_000_000), Value::Null]);
    Node::new().answer("getMultipleAccounts", [Ok(accounts(&[good(origin)])), Ok(parties)])
}

#[tokio::test]
async fn a_state_for_a_replacement() {
    let (wallet, intent) = (wallet(), pay_sol(key(5), MINIMUM));
    for (purpose, there) in [(Replacement::SpeedUp, 2), (Replacement::Cancel, 1)] {
        let parties = [wallet_account(1_000_000_000), Value::Null];
        let node = at(21)
            .answer("getMultipleAccounts", [Ok(accounts(&[good(21)])), Ok(accounts(&parties[..there]))])
            .says("getRecentPrioritizationFees", json!([{ "slot": 1, "prioritizationFee": 700 }]));
        let server = node.start().await;
        let previous = [paid()];
        let busy = CHAIN.slots(&wallet.account, &previous[0]);
        let state = client(&server).replacement_state(&intent, &wallet.account, &previous, purpose, &busy).await;
        let state = state.expect("a state");
        assert_eq!(state.validity, Validity::Nonce(nonce(&wallet, 21)));
        assert_eq!((state.compute.unit_limit, state.compute.unit_price), (540, MicroLamports::new(700)));
        let built = CHAIN.replace(&intent, &wallet.account, &previous, purpose, &state).expect("possible");
        assert_eq!(CHAIN.slots(&wallet.account, &built), busy);
        let looked = &asked(&server, "getMultipleAccounts").await[0];
        let config = json!({ "encoding": "base64", "commitment": "confirmed", "minContextSlot": 900 });
        assert_eq!(*looked, json!([[nonce(&wallet, 21).account.to_string()], config]));
    }
}

#[tokio::test]
async fn no_state_for_what_is_not_replaced() {
    let (wallet, intent) = (wallet(), pay_sol(key(5), MINIMUM));
    let ask = async |node: Node, previous: &[Unsigned], options: Options| {
        let server = node.start().await;
        let client = client_with(&server, Cluster::Localnet, options);
        client.replacement_state(&intent, &wallet.account, previous, Replacement::Cancel, &BTreeSet::new()).await
    };
    let not_replaceable = |found: Result<State, StateError>| {
        assert!(matches!(found, Err(StateError::Build(BuildError::NotReplaceable(_)))), "{found:?}");
    };
    let plain = CHAIN.build(&intent, &wallet.account, &state()).expect("possible");
    not_replaceable(ask(at(21), &[plain], Options::default()).await);
    not_replaceable(ask(at(22), &[paid()], Options::default()).await);
    not_replaceable(
        ask(Node::new().says("getMultipleAccounts", accounts(&[Value::Null])), &[paid()], Options::default()).await,
    );
    let mut thrifty = Options::default();
    thrifty.priority.cap = MicroLamports::new(13_579);
    // 12 345 and a tenth more is 13 580.
    not_replaceable(ask(at(21), &[paid()], thrifty.clone()).await);
    thrifty.priority.cap = MicroLamports::new(13_580);
    let one = at(21)
        .answer("getMultipleAccounts", [Ok(accounts(&[good(21)])), Ok(accounts(&[wallet_account(1_000_000_000)]))]);
    assert!(ask(one, &[paid()], thrifty).await.is_ok());

    // A node that is behind would show an earlier value; that is no reason to give up.
    let behind = json!({ "context": { "slot": 899 }, "value": [good(20)] });
    let found = ask(Node::new().says("getMultipleAccounts", behind), &[paid()], Options::default()).await;
    assert!(matches!(found, Err(StateError::Rpc(RpcError::Malformed { .. }))), "{found:?}");
    let refuses = Node::new().fails("getMultipleAccounts", -32016, json!({ "contextSlot": 899 }));
    let found = ask(refuses, &[paid()], Options::default()).await;
    assert!(matches!(found, Err(StateError::Rpc(RpcError::Node { code: -32016, .. }))), "{found:?}");
}

// ---- status ----

fn signed() -> Signed {
    let wallet = wallet();
    let payloads = CHAIN.payloads(&wallet.account, &paid()).expect("the wallet's");
    CHAIN.assemble(&wallet.account, &paid(), &[wallet.sign(&payloads[0])]).expect("signed")
}

fn at_slot(slot: u64, value: Value) -> Value {
    json!({ "context": { "slot": slot }, "value": [value] })
}

#[tokio::test]
async fn it_is_used_up_only_where_final_blocks_show_another_value() {
    let own = wallet().address();
    let cases = [
        ("the same value", at_slot(1_000, good(21)), 1_000, Status::Unknown),
        ("another", at_slot(1_000, good(22)), 1_000, Status::SlotUsed),
        ("another where it was seen", at_slot(900, good(22)), 900, Status::SlotUsed),
        // It was seen at slot 900: final blocks before that show the value before it.
        ("the one before", at_slot(899, good(20)), 1_000, Status::Unknown),
        ("no account", at_slot(1_000, Value::Null), 1_000, Status::Unknown),
        ("no nonce", at_slot(1_000, wallet_account(1)), 1_000, Status::Unknown),
        ("somebody else's", at_slot(1_000, account_of(&Versions::Current(data(key(6), 22)))), 1_000, Status::Unknown),
        ("an old version", at_slot(1_000, account_of(&Versions::Legacy(data(own, 22)))), 1_000, Status::Unknown),
        // Another node behind the same address answers, which hasn't seen that slot.
        ("two nodes", at_slot(1_000, good(22)), 999, Status::Unknown),
    ];
    for (name, account, status_slot, expected) in cases {
        let nothing = at_slot(status_slot, Value::Null);
        let node = Node::new().says("getSignatureStatuses", nothing).says("getMultipleAccounts", account);
        // It keeps everything, and doesn't know what used the value up.
        let node = node.says("getSignaturesForAddress", json!([])).says("getFirstAvailableBlock", json!(0));
        let server = node.start().await;
        assert_eq!(client(&server).status(&signed()).await.expect("told"), expected, "{name}");
        let config = json!({ "encoding": "base64", "commitment": "finalized" });
        let looked = asked(&server, "getMultipleAccounts").await;
        assert_eq!(looked, [json!([[nonce(&wallet(), 21).account.to_string()], config])]);
        assert!(asked(&server, "getEpochInfo").await.is_empty(), "blocks don't make it too old");
    }
}

/// It may be included between the question for its status and the one for the nonce: the status is asked for once more.
#[tokio::test]
async fn an_inclusion_between_two_questions() {
    let seen = valued(json!([status(990, Value::Null, Value::Null, "finalized")]));
    let node = Node::new()
        .answer("getSignatureStatuses", [Ok(valued(json!([null]))), Ok(seen)])
        .says("getMultipleAccounts", at_slot(1_000, good(22)))
        .says("getTransaction", Value::Null);
    let found = client(&node.start().await).status(&signed()).await.expect("told");
    assert!(matches!(found, Status::Included(ref inclusion) if inclusion.finalized), "{found:?}");
}

#[tokio::test]
async fn errors_prove_nothing() {
    let nothing = valued(json!([null]));
    let nodes = [
        Node::new()
            .fails("getSignatureStatuses", -32011, Value::Null)
            .says("getMultipleAccounts", at_slot(1_000, good(22))),
        Node::new().says("getSignatureStatuses", nothing.clone()).fails("getMultipleAccounts", -32005, Value::Null),
        Node::new()
            .answer("getSignatureStatuses", [Ok(nothing.clone()), Err(json!({ "code": -32011, "message": "words" }))])
            .says("getMultipleAccounts", at_slot(1_000, good(22))),
        Node::new().says("getSignatureStatuses", nothing).says("getMultipleAccounts", accounts(&[])),
    ];
    for node in nodes {
        let found = client(&node.start().await).status(&signed()).await;
        assert!(found.is_err(), "{found:?}");
    }
}
