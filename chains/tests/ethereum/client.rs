//! State, balances and broadcasting, against a scripted node.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::sol_types::{Revert, SolError};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{BuildError, Chain, Slot};
use chains::client::{BroadcastError, Client, SendClass, StateError};
use chains::ethereum::{Fees, Gas, GasPrice, Nonce, Options, State};
use chains::rpc::RpcError;
use serde_json::{Value, json};

use crate::fake_node::{Answer, FakeNode, block, client_of, error, raw_endpoint};
use crate::fixture::{CHAIN, CHAIN_ID, account, alice, alice_key, call, evm_address, signed_transfer, transfer};

const BOB: Address = Address::repeat_byte(0xb0);
const TOKEN: Address = Address::repeat_byte(0x70);
const ETHER: u128 = 1_000_000_000_000_000_000;

/// A node with a base fee of 1 gwei, where Alice has an ether, 500 of the token, and three transactions behind her.
async fn node() -> FakeNode {
    let node = FakeNode::start().await;
    node.result("eth_getTransactionCount", json!("0x3"));
    node.result("eth_getBalance", json!(U256::from(ETHER)));
    node.result("eth_call", json!(format!("{:#066x}", 500)));
    node.result("eth_getBlockByNumber", block(100, 0xaa));
    node.result(
        "eth_feeHistory",
        json!({
            "oldestBlock": "0x5b", "gasUsedRatio": [0.5, 0.0, 0.7],
            "baseFeePerGas": ["0x1", "0x2", "0x3", "0x3b9aca00"],
            "reward": [["0x77359400"], ["0x0"], ["0xb2d05e00"]],
        }),
    );
    node.result("eth_estimateGas", json!("0x5208"));
    node
}

async fn state_of(node: &FakeNode, intent: &chains::intent::Intent, busy: &[u64]) -> Result<State, StateError> {
    let slot = |nonce| format!("ethereum:{CHAIN_ID}/{}/{nonce}", alice().address()).parse().expect("a slot");
    let busy: BTreeSet<Slot> = busy.iter().map(slot).collect();
    node.client(Options::default()).state(intent, &alice(), &busy).await
}

fn pay() -> chains::intent::Intent {
    transfer(Asset::Native, BOB, Amount::from_wei(1_000))
}

#[tokio::test]
async fn the_state_of_a_payment() {
    let node = node().await;
    let state = state_of(&node, &pay(), &[]).await.expect("a state");
    let expected = State {
        nonce: Nonce::new(3),
        balance: Amount::from_wei(ETHER),
        token_balance: None,
        fees: Fees::Eip1559 {
            max_fee_per_gas: GasPrice::from_gwei(2 + 3), // twice the next base fee, and the median tip
            max_priority_fee_per_gas: GasPrice::from_gwei(3),
        },
        gas_limit: Gas::from_units(25_200),
        replacing: None,
    };
    assert_eq!(state, expected);
    assert_eq!(node.asked("eth_getTransactionCount"), [json!([evm_address(&alice()), "latest"])]);
    assert_eq!(node.asked("eth_getBalance"), [json!([evm_address(&alice()), "pending"])]);
    assert_eq!(node.asked("eth_feeHistory"), [json!(["0xa", "latest", [50]])]);
    let call = json!({ "from": evm_address(&alice()), "to": BOB, "value": "0x3e8", "data": "0x" });
    assert_eq!(node.asked("eth_estimateGas"), [json!([call, "pending"])]);
    assert_eq!(node.asked("eth_call"), [] as [Value; 0], "no token, no token balance");
    assert!(CHAIN.build(&pay(), &alice(), &state).is_ok(), "it can be built from that");
}

#[tokio::test]
async fn nonces_that_are_reserved_are_left_out() {
    let node = node().await;
    for (busy, nonce) in [(vec![], 3), (vec![3], 4), (vec![3, 4, 5], 6), (vec![4], 3), (vec![0, 1, 2], 3)] {
        let state = state_of(&node, &pay(), &busy).await.expect("a state");
        assert_eq!(state.nonce, Nonce::new(nonce), "busy: {busy:?}");
    }
}

#[tokio::test]
async fn a_network_without_a_base_fee_has_one_price() {
    let node = node().await;
    node.result("eth_getBlockByNumber", json!({ "number": "0x64", "hash": crate::fake_node::hash(1) }));
    node.result("eth_gasPrice", json!("0x4a817c800"));
    let state = state_of(&node, &pay(), &[]).await.expect("a state");
    assert_eq!(state.fees, Fees::Legacy { gas_price: GasPrice::from_gwei(20) });
    assert_eq!(node.asked("eth_feeHistory"), [] as [Value; 0]);
}

#[tokio::test]
async fn the_state_of_a_token_payment() {
    let node = node().await;
    let pay = |amount| transfer(Asset::Erc20(TOKEN), BOB, Amount::from_wei(amount));
    let state = state_of(&node, &pay(500), &[]).await.expect("a state");
    assert_eq!(state.token_balance, Some(Amount::from_wei(500)));
    let data = format!("0x70a08231{}", hex::encode(evm_address(&alice()).into_word()));
    assert_eq!(node.asked("eth_call"), [json!([{ "to": TOKEN, "data": data }, "pending"])]);

    let short = state_of(&node, &pay(501), &[]).await.expect_err("one too many");
    assert!(matches!(short, StateError::Build(BuildError::InsufficientFunds { asset: Asset::Erc20(TOKEN), .. })));

    node.result("eth_call", json!("0x"));
    let error = state_of(&node, &pay(1), &[]).await.expect_err("an address without code");
    assert!(matches!(error, StateError::Build(BuildError::WrongAsset { asset: Asset::Erc20(TOKEN), .. })), "{error}");
}

#[tokio::test]
async fn funds_are_checked_before_gas_is_estimated() {
    let node = node().await;
    let too_much = transfer(Asset::Native, BOB, Amount::from_wei(ETHER + 1));
    let error = state_of(&node, &too_much, &[]).await.expect_err("one wei too many");
    assert!(matches!(error, StateError::Build(BuildError::InsufficientFunds { asset: Asset::Native, .. })), "{error}");
    assert_eq!(node.asked("eth_estimateGas"), [] as [Value; 0]);
}

#[tokio::test]
async fn a_call_that_reverts_is_told_with_its_reason() {
    let node = node().await;
    let revert = format!("0x{}", hex::encode(Revert::from("transfer exceeds balance").abi_encode()));
    node.on("eth_estimateGas", move |_| Answer::Error {
        code: 3,
        message: "execution reverted: transfer exceeds balance",
        data: Some(json!(revert)),
    });
    let error = state_of(&node, &call(TOKEN, [1, 2, 3, 4], Amount::ZERO), &[]).await.expect_err("it reverts");
    assert!(matches!(&error, StateError::Reverted(reason) if reason == "transfer exceeds balance"), "{error}");

    node.error("eth_estimateGas", -32000, "header not found");
    let error = state_of(&node, &pay(), &[]).await.expect_err("the node fails");
    assert!(matches!(error, StateError::Rpc(RpcError::Node { code: -32000, .. })), "no revert: {error}");
}

#[tokio::test]
async fn gas_is_limited() {
    let node = node().await;
    node.result("eth_estimateGas", json!(format!("{:#x}", 9_000_000)));
    let state = state_of(&node, &pay(), &[]).await.expect("within the limit");
    assert_eq!(state.gas_limit, Gas::from_units(10_000_000), "the margin ends at the limit");
    node.result("eth_estimateGas", json!(format!("{:#x}", 10_000_001)));
    let error = state_of(&node, &pay(), &[]).await.expect_err("above the limit");
    assert!(matches!(error, StateError::Build(BuildError::Unsupported(_))), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_the_intent_is_told_without_asking_the_node() {
    let node = FakeNode::start().await;
    let error = state_of(&node, &transfer(Asset::Native, BOB, Amount::ZERO), &[]).await.expect_err("nothing to pay");
    assert!(matches!(error, StateError::Build(BuildError::ZeroAmount)), "{error}");
    assert_eq!(node.asked("eth_chainId"), [] as [Value; 0]);
}

#[tokio::test]
async fn a_node_that_lies_about_fees_is_not_believed() {
    let node = node().await;
    let most = format!("{:#x}", u128::MAX);
    for history in [json!({ "baseFeePerGas": [most] }), json!({ "baseFeePerGas": [] }), json!({})] {
        node.result("eth_feeHistory", history);
        let error = state_of(&node, &pay(), &[]).await.expect_err("no fee to offer");
        assert!(matches!(error, StateError::Rpc(RpcError::Malformed { .. })), "{error}");
    }
}

#[tokio::test]
async fn balances() {
    let node = node().await;
    let client = node.client(Options::default());
    let balance = async |asset| client.balance(&alice(), asset).await.expect("a balance");
    assert_eq!(balance(Asset::Native).await, Amount::from_wei(ETHER));
    assert_eq!(balance(Asset::Erc20(TOKEN)).await, Amount::from_wei(500));
    let mint = "spl:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v".parse().expect("an asset");
    assert_eq!(balance(mint).await, Amount::ZERO);

    node.result("eth_call", json!("0x"));
    let error = client.balance(&alice(), Asset::Erc20(TOKEN)).await.expect_err("no token");
    assert!(matches!(error, RpcError::Malformed { .. }), "{error}");
    let elsewhere = account(&alice_key(), 1);
    assert!(client.balance(&elsewhere, Asset::Native).await.is_err(), "an account of another network");
}

#[tokio::test]
async fn the_chain_id_is_checked_once_and_before_anything_else() {
    let node = node().await;
    let client = node.client(Options::default());
    client.tip().await.expect("a tip");
    client.tip().await.expect("a tip");
    assert_eq!(node.asked("eth_chainId").len(), 1);

    let node = FakeNode::start().await;
    node.result("eth_chainId", json!("0x1"));
    let client = node.client(Options::default());
    for _ in 0..2 {
        let error = client.tip().await.expect_err("another network's node");
        assert!(matches!(error, RpcError::Endpoint { .. }) && !error.is_transient(), "{error}");
    }
    let error = client.broadcast(&signed_transfer()).await.expect_err("another network's node");
    assert!(matches!(error, BroadcastError::Rpc(RpcError::Endpoint { .. })), "{error}");
    assert_eq!(node.asked("eth_sendRawTransaction"), [] as [Value; 0]);
}

#[tokio::test]
async fn a_transaction_is_sent_as_it_is() {
    let node = node().await;
    let signed = signed_transfer();
    node.result("eth_sendRawTransaction", json!(signed.hash()));
    node.client(Options::default()).broadcast(&signed).await.expect("taken");
    let raw = format!("0x{}", hex::encode(CHAIN.encode_signed(&signed)));
    assert_eq!(node.asked("eth_sendRawTransaction"), [json!([raw])]);

    node.result("eth_sendRawTransaction", json!(crate::fake_node::hash(1)));
    let error = node.client(Options::default()).broadcast(&signed).await.expect_err("another hash");
    assert!(matches!(error, BroadcastError::Rpc(RpcError::Malformed { .. })), "{error}");
}

/// What the node answers to the broadcast while it has no transaction of ours but what `known` adds.
async fn broadcast(answer: Answer, known: impl Fn(&FakeNode)) -> Result<(), BroadcastError> {
    let node = FakeNode::start().await;
    node.on("eth_sendRawTransaction", move |_| answer.clone());
    node.result("eth_getTransactionReceipt", Value::Null);
    node.result("eth_getTransactionByHash", Value::Null);
    known(&node);
    node.client(Options::default()).broadcast(&signed_transfer()).await
}

#[tokio::test]
async fn a_node_that_has_the_transaction_has_taken_it() {
    broadcast(error(-32000, "already known"), |_| {}).await.expect("the node says so");

    let receipt = json!({
        "transactionHash": signed_transfer().hash(), "blockHash": crate::fake_node::hash(1), "blockNumber": "0x1",
        "status": "0x1", "gasUsed": "0x5208",
    });
    let too_low = || error(-32000, "nonce too low: next nonce 8, tx nonce 7");
    broadcast(too_low(), |node| node.result("eth_getTransactionReceipt", receipt.clone())).await.expect("our own");

    let pending = json!({ "hash": signed_transfer().hash(), "blockHash": null });
    let unheard_of = error(-39999, "in the pool, I should say");
    broadcast(unheard_of, |node| node.result("eth_getTransactionByHash", pending.clone())).await.expect("our own");

    let result = broadcast(too_low(), |_| {}).await;
    let used = |result: &_| matches!(result, Err(BroadcastError::Rejected { class: SendClass::SlotUsed, .. }));
    assert!(used(&result), "somebody else's nonce: {result:?}");
    let result = broadcast(too_low(), |node| {
        node.on("eth_getTransactionReceipt", |_| Answer::Http(503, "busy"));
    })
    .await;
    assert!(matches!(result, Err(BroadcastError::Rpc(_))), "nobody knows whose nonce: {result:?}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_nodes_words() {
    let error = broadcast(error(-32003, "insufficient funds for gas * price + value"), |_| {}).await.expect_err("no");
    let BroadcastError::Rejected { class, code, message } = error else { panic!("{error}") };
    assert_eq!((code, message.as_str()), (-32003, "insufficient funds for gas * price + value"));
    assert_eq!(class, SendClass::InsufficientFunds);
}

#[tokio::test]
async fn broken_answers_are_typed() {
    let impatient = Duration::from_millis(200);
    let tip = async |url: String| client_of(&url, impatient, Options::default()).tip().await.expect_err("no answer");

    let error = tip(raw_endpoint("", false).await).await;
    assert!(matches!(error, RpcError::Timeout { .. }) && error.is_transient(), "silence: {error}");
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,";
    let error = tip(raw_endpoint(half, true).await).await;
    assert!(matches!(error, RpcError::Connection { .. }) && error.is_transient(), "half a body: {error}");
    let error = tip(raw_endpoint(half, false).await).await;
    assert!(matches!(error, RpcError::Timeout { .. }), "half a body, then silence: {error}");

    let node = FakeNode::start().await;
    for (status, transient) in [(200, false), (429, true), (502, true)] {
        node.on("eth_getBlockByNumber", move |_| Answer::Http(status, "<html>Welcome</html>"));
        let error = node.client(Options::default()).tip().await.expect_err("an HTML page");
        assert!(matches!(error, RpcError::Malformed { .. }), "{error}");
        assert_eq!(error.is_transient(), transient, "HTTP {status}");
    }
    for wrong in [json!({}), json!("0x1"), json!({ "number": "0xzz", "hash": "0x" }), Value::Null] {
        node.result("eth_getBlockByNumber", wrong.clone());
        let error = node.client(Options::default()).tip().await.expect_err("no block");
        assert!(matches!(error, RpcError::Malformed { .. }), "{wrong}: {error}");
    }
}
