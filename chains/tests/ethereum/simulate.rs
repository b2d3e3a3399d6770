//! A node's try of a transaction, by each of the methods that a node may have; and the code of contracts.

use alloy::primitives::{Address, keccak256};
use chains::address::Address as ChainAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::Chain;
use chains::client::Client;
use chains::ethereum::{Options, Unsigned};
use chains::rpc::RpcError;
use chains::simulation::{Movement, Simulation, unexplained};
use serde_json::{Value, json};

use crate::fake_node::{Answer, FakeNode};
use crate::fixture::{CHAIN, alice, call, evm_address, state};

const VAULT: Address = Address::repeat_byte(0xcc);
const TOKEN: Address = Address::repeat_byte(0x70);
const MALLORY: Address = Address::repeat_byte(0x66);

fn unsigned() -> Unsigned {
    let intent = call(VAULT, vec![1, 2, 3, 4], Amount::from_wei(7));
    CHAIN.build(&intent, &alice(), &state()).expect("it can be built")
}

fn topic(event: &str) -> Value {
    json!(keccak256(event))
}

/// A log of the token's, with two addresses and an amount.
fn log(event: &str, first: Address, second: Address, amount: u64) -> Value {
    json!({
        "address": TOKEN, "topics": [topic(event), first.into_word(), second.into_word()],
        "data": format!("{amount:#066x}"), "logIndex": "0x0",
    })
}

const TRANSFER: &str = "Transfer(address,address,uint256)";

async fn simulated(node: &FakeNode) -> Result<Simulation, RpcError> {
    node.client(Options::default()).simulate(&unsigned()).await
}

fn moved(to: Address, amount: u64) -> Movement {
    let [from, to] = [evm_address(&alice()), to].map(ChainAddress::Ethereum);
    Movement::Transfer { asset: Asset::Erc20(TOKEN), from, to, amount: Amount::from_sat(amount) }
}

#[tokio::test]
async fn the_method_that_tells_most_is_asked_first() {
    let node = FakeNode::start().await;
    let alice_address = evm_address(&alice());
    let logs =
        json!([log(TRANSFER, alice_address, MALLORY, 9), log("Deposit(address,address,uint256)", VAULT, VAULT, 1)]);
    node.result("eth_simulateV1", json!([{ "number": "0x1", "calls": [{ "status": "0x1", "logs": logs }] }]));
    assert_eq!(simulated(&node).await.expect("an answer"), Simulation::Passed(vec![moved(MALLORY, 9)]));
    assert!(node.asked("debug_traceCall").is_empty() && node.asked("eth_call").is_empty());
    let asked = node.asked("eth_simulateV1").remove(0);
    let told = &asked[0]["blockStateCalls"][0]["calls"][0];
    assert_eq!((&told["to"], &told["value"], &told["data"]), (&json!(VAULT), &json!("0x7"), &json!("0x01020304")));
    assert_eq!(asked[0]["traceTransfers"], true);

    let effects = CHAIN.effects(&alice(), &unsigned()).expect("decodable");
    let Simulation::Passed(movements) = simulated(&node).await.expect("an answer") else { panic!("it passes") };
    assert_eq!(unexplained(&effects, alice().address(), &movements), Some(&moved(MALLORY, 9)));

    let error = json!({ "code": 3, "message": "execution reverted: paused" });
    node.result("eth_simulateV1", json!([{ "calls": [{ "status": "0x0", "error": error }] }]));
    let reverted = Simulation::Reverted("execution reverted: paused".to_owned());
    assert_eq!(simulated(&node).await.expect("an answer"), reverted);
}

#[tokio::test]
async fn a_trace_is_the_second_choice() {
    let node = FakeNode::start().await;
    let alice_address = evm_address(&alice());
    let coin = json!({ "type": "CALL", "logs": [log(TRANSFER, alice_address, MALLORY, 2)], "calls": [] });
    let undone = json!({ "error": "execution reverted", "logs": [log(TRANSFER, alice_address, MALLORY, 8)] });
    let inner = json!({ "calls": [coin, undone], "logs": [log(TRANSFER, alice_address, VAULT, 1)] });
    node.result("debug_traceCall", json!({ "type": "CALL", "from": alice_address, "calls": [inner] }));
    let expected = Simulation::Passed(vec![moved(VAULT, 1), moved(MALLORY, 2)]);
    assert_eq!(simulated(&node).await.expect("an answer"), expected);
    node.result("debug_traceCall", json!({ "error": "execution reverted", "revertReason": "closed" }));
    assert_eq!(simulated(&node).await.expect("an answer"), Simulation::Reverted("closed".to_owned()));
}

#[tokio::test]
async fn a_call_is_the_last_and_an_error_is_no_verdict() {
    let node = FakeNode::start().await;
    node.result("eth_call", json!("0x"));
    assert_eq!(simulated(&node).await.expect("an answer"), Simulation::Passed(Vec::new()));
    node.on("eth_call", |_| Answer::Error { code: 3, message: "execution reverted", data: None });
    assert!(matches!(simulated(&node).await, Ok(Simulation::Reverted(_))));
    node.error("eth_call", -32005, "too many requests");
    assert_eq!(simulated(&node).await.expect("an answer"), Simulation::Unsupported);
    node.on("eth_simulateV1", |_| Answer::Http(502, "bad gateway"));
    assert!(simulated(&node).await.is_err(), "a gateway's page says nothing of methods");
}

#[tokio::test]
async fn rights_are_told() {
    let node = FakeNode::start().await;
    let alice_address = evm_address(&alice());
    let logs = json!([
        log("Approval(address,address,uint256)", alice_address, MALLORY, 5),
        log("ApprovalForAll(address,address,bool)", alice_address, MALLORY, 1),
        { "address": TOKEN, "topics": [topic(TRANSFER), alice_address.into_word(), MALLORY.into_word(), format!("{:#066x}", 77)] },
        { "address": "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "data": format!("{:#066x}", 7),
          "topics": [topic(TRANSFER), alice_address.into_word(), VAULT.into_word()] },
        { "address": TOKEN, "topics": [], "data": "0x" },
        { "address": TOKEN, "topics": [topic(TRANSFER), alice_address.into_word(), VAULT.into_word()], "data": "0x01" },
    ]);
    node.result("eth_simulateV1", json!([{ "calls": [{ "status": "0x1", "logs": logs }] }]));
    let Ok(Simulation::Passed(movements)) = simulated(&node).await else { panic!("it passes") };
    let [owner, spender] = [alice_address, MALLORY].map(ChainAddress::Ethereum);
    let allows = |amount| Movement::Allowance {
        asset: Asset::Erc20(TOKEN),
        owner: owner.clone(),
        spender: spender.clone(),
        amount,
    };
    let coin = Movement::Transfer {
        asset: Asset::Native,
        from: owner.clone(),
        to: ChainAddress::Ethereum(VAULT),
        amount: Amount::from_wei(7),
    };
    assert_eq!(movements, [allows(Amount::from_sat(5)), allows(Amount::MAX), moved(MALLORY, 77), coin]);
    let effects = CHAIN.effects(&alice(), &unsigned()).expect("decodable");
    assert_eq!(unexplained(&effects, alice().address(), &movements[3..]), None, "what was sent along");
}

#[tokio::test]
async fn code_has_a_hash() {
    let node = FakeNode::start().await;
    let client = node.client(Options::default());
    let vault = ChainAddress::Ethereum(VAULT);
    node.result("eth_getCode", json!("0x6001600155"));
    let expected = keccak256([0x60, 1, 0x60, 1, 0x55]).0;
    assert_eq!(client.code_hash(&vault).await.expect("an answer"), Some(expected));
    assert_eq!(node.asked("eth_getCode"), [json!([VAULT, "latest"])]);
    node.result("eth_getCode", json!("0x"));
    assert_eq!(client.code_hash(&vault).await.expect("an answer"), None);
    node.error("eth_getCode", -32000, "missing trie node");
    assert!(client.code_hash(&vault).await.is_err());
}
