//! What has become of a transaction, against a scripted node.

#![allow(clippy::indexing_slicing, reason = "tests state their assumptions bluntly")]

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy::consensus::TxEnvelope;
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, B256};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::Chain;
use chains::client::{Client, Inclusion, Status, Tip};
use chains::ethereum::{Fees, Finality, GasPrice, Options, Signed, State};
use chains::rpc::RpcError;
use serde_json::{Value, json};

use crate::fake_node::{Answer, FakeNode, block, error, hash};
use crate::fixture::{CHAIN, alice, alice_key, signed, signed_anew, signed_transfer, state, transfer};

fn receipt(height: u64, status: &str) -> Value {
    receipt_of(signed_transfer().hash(), height, status)
}

fn receipt_of(tx: B256, height: u64, status: &str) -> Value {
    json!({
        "transactionHash": tx, "blockHash": hash(0xaa), "blockNumber": format!("{height:#x}"),
        "status": status, "gasUsed": "0x5208", "effectiveGasPrice": "0x3b9aca00",
    })
}

/// A node at height 100, final up to 90, that knows nothing of the transaction (nonce 7): the sender's last is nonce 6.
async fn node() -> FakeNode {
    let node = FakeNode::start().await;
    chain(&node, |tag| match tag {
        "finalized" => Answer::Result(block(90, 0xaa)),
        _ => Answer::Result(Value::Null),
    });
    node.result("eth_getTransactionReceipt", Value::Null);
    node.result("eth_getTransactionByHash", Value::Null);
    node.result("eth_getTransactionCount", json!("0x7"));
    node
}

/// Answers `eth_getBlockByNumber` up to height 100; everything that isn't `latest` or a height is `other`'s.
fn chain(node: &FakeNode, other: impl Fn(&str) -> Answer + Send + 'static) {
    node.on("eth_getBlockByNumber", move |params| {
        let at = params.get(0).and_then(Value::as_str).expect("a block");
        match at.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16).expect("a height")) {
            Some(height) if height <= 100 => Answer::Result(block(height, 0xaa)),
            Some(_) => Answer::Result(Value::Null),
            None if at == "latest" => Answer::Result(block(100, 0xaa)),
            None => other(at),
        }
    });
}

/// A transaction of Alice's as a node tells it with its block, by alloy's own JSON.
fn mined(tx: &Signed) -> Value {
    let envelope = TxEnvelope::decode_2718(&mut tx.raw().as_ref()).expect("a transaction");
    let told = serde_json::to_value(envelope).expect("JSON");
    with(&told, "from", json!(tx.unsigned().from()))
}

/// The same object with another field.
fn with(object: &Value, field: &str, value: Value) -> Value {
    let mut changed = object.as_object().expect("an object").clone();
    changed.insert(field.to_owned(), value);
    changed.into()
}

/// Another payment of Alice's with nonce 7.
fn other(fees: Fees, wei: u128) -> Signed {
    let intent = transfer(Asset::Native, Address::repeat_byte(0xbb), Amount::from_wei(wei));
    let unsigned = CHAIN.build(&intent, &alice(), &State { fees, ..state() }).expect("it can be built");
    signed(&CHAIN, &alice_key(), &unsigned)
}

/// Up to block 100, final up to 90: the sender's nonce 7 is used up in block `at`, among others' by `tx`. States below
/// `oldest` are thrown away.
fn used_up(node: &FakeNode, at: u64, oldest: u64, tx: &Value) {
    node.on("eth_getTransactionCount", move |params| {
        let height = height_of(params.get(1), 100);
        match height {
            Some(height) if height >= oldest => Answer::Result(json!(if height >= at { "0x8" } else { "0x7" })),
            _ => error(-32000, "missing trie node"),
        }
    });
    let (strange, tx) = (json!({ "hash": hash(0x11), "type": "0x7e" }), tx.clone());
    node.on("eth_getBlockByNumber", move |params| {
        let Some(height) = height_of(params.get(0), 90) else { return Answer::Result(Value::Null) };
        let header = block(height, 0xaa);
        if params.get(1) != Some(&json!(true)) {
            return Answer::Result(header);
        }
        let (earlier, anothers) = (with(&tx, "nonce", json!("0x6")), with(&tx, "from", json!(Address::ZERO)));
        let mut all = vec![strange.clone(), earlier, anothers];
        all.extend((height == at).then(|| tx.clone()));
        Answer::Result(with(&header, "transactions", all.into()))
    });
}

/// The height that a block parameter names, where `finalized` is at `last`.
fn height_of(at: Option<&Value>, last: u64) -> Option<u64> {
    match at.and_then(Value::as_str).expect("a block") {
        "latest" => Some(100),
        "finalized" => Some(last),
        height => {
            let digits = height.strip_prefix("0x").expect("a height");
            Some(u64::from_str_radix(digits, 16).expect("a height")).filter(|height| *height <= 100)
        }
    }
}

async fn status(node: &FakeNode) -> Status {
    status_with(node, Options::default()).await.expect("a status")
}

async fn status_with(node: &FakeNode, options: Options) -> Result<Status, RpcError> {
    node.client(options).status(&signed_transfer()).await
}

#[tokio::test]
async fn included_and_final() {
    let node = node().await;
    node.result("eth_getTransactionReceipt", receipt(90, "0x1"));
    let expected = Inclusion {
        height: 90,
        block: Some(hash(0xaa)),
        confirmations: 11,
        finalized: true,
        succeeded: true,
        failure: None,
        fee: Some(Amount::from_wei(21_000 * 1_000_000_000)),
    };
    assert_eq!(status(&node).await, Status::Included(expected.clone()));

    node.result("eth_getTransactionReceipt", receipt(100, "0x1"));
    let expected = Inclusion { height: 100, confirmations: 1, finalized: false, ..expected };
    assert_eq!(status(&node).await, Status::Included(expected));
}

#[tokio::test]
async fn included_and_failed() {
    let node = node().await;
    node.result("eth_getTransactionReceipt", receipt(95, "0x0"));
    let Status::Included(inclusion) = status(&node).await else { panic!("it is in a block") };
    assert!(!inclusion.succeeded && inclusion.failure.is_some() && inclusion.fee.is_some());
}

#[tokio::test]
async fn a_receipt_of_a_replaced_block_is_no_inclusion() {
    let node = node().await;
    let mut stale = receipt(95, "0x1");
    stale["blockHash"] = json!(hash(0xbb));
    node.result("eth_getTransactionReceipt", stale);
    assert_eq!(status(&node).await, Status::Unknown);
    node.result("eth_getTransactionReceipt", receipt(101, "0x1"));
    assert_eq!(status(&node).await, Status::Unknown, "a block above the best one");
}

#[tokio::test]
async fn a_receipt_of_another_transaction_is_refused() {
    let node = node().await;
    let mut other = receipt(95, "0x1");
    other["transactionHash"] = json!(hash(0x01));
    node.result("eth_getTransactionReceipt", other);
    let error = status_with(&node, Options::default()).await.expect_err("another's");
    assert!(matches!(error, RpcError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn waiting_and_unknown() {
    let node = node().await;
    assert_eq!(status(&node).await, Status::Unknown);
    let hash_of_ours = signed_transfer().hash();
    node.result("eth_getTransactionByHash", json!({ "hash": hash_of_ours, "blockHash": null }));
    assert_eq!(status(&node).await, Status::InMempool);
    node.result("eth_getTransactionByHash", json!({ "hash": hash_of_ours, "blockHash": hash(0xaa) }));
    assert_eq!(status(&node).await, Status::Unknown, "in a block, but without a receipt");
}

#[tokio::test]
async fn expired_once_another_transaction_has_used_the_nonce_in_a_final_block() {
    let node = node().await;
    let another = mined(&other(state().fees, 2));
    used_up(&node, 91, 0, &another);
    assert_eq!(status(&node).await, Status::Unknown, "used, but not in a final block");
    // Wherever the block is.
    for at in (1..=90).step_by(4).chain([89, 90]) {
        used_up(&node, at, 0, &another);
        assert_eq!(status(&node).await, Status::Expired, "block {at}");
    }

    // Without finality nothing expires.
    chain(&node, |_| error(-32602, "unknown tag"));
    let never = Options { finality: Finality::Tag { else_depth: None }, ..Options::default() };
    node.result("eth_getTransactionCount", json!("0x8"));
    assert_eq!(status_with(&node, never).await.expect("a status"), Status::Unknown);
}

#[tokio::test]
async fn a_second_signature_over_the_same_message_is_the_payment() {
    let node = node().await;
    let ours = signed_transfer();
    let again = signed_anew(&alice_key(), &ours);
    assert!(again.hash() != ours.hash() && again.unsigned() == ours.unsigned());
    let hash_of_it = again.hash();
    node.on("eth_getTransactionReceipt", move |params| {
        let asked: B256 = serde_json::from_value(params[0].clone()).expect("a hash");
        Answer::Result(if asked == hash_of_it { receipt_of(asked, 60, "0x1") } else { Value::Null })
    });
    used_up(&node, 60, 0, &mined(&again));
    let Status::Included(inclusion) = status(&node).await else { panic!("it is in a block") };
    assert!(inclusion.height == 60 && inclusion.finalized && inclusion.succeeded);

    node.result("eth_getTransactionReceipt", Value::Null);
    assert_eq!(status(&node).await, Status::Unknown, "included, but what came of it isn't known");
}

#[tokio::test]
async fn a_node_that_forgot_the_hash_finds_the_transaction_in_its_block() {
    let node = node().await;
    used_up(&node, 12, 0, &mined(&signed_transfer()));
    assert_eq!(status(&node).await, Status::Unknown, "not expired: it is in a block, without a receipt");
}

#[tokio::test]
async fn every_field_makes_another_message() {
    let node = node().await;
    let Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas } = state().fees else { unreachable!() };
    let wei = |price: GasPrice, more| GasPrice::from_wei(price.wei() + more);
    let dearer = Fees::Eip1559 { max_fee_per_gas: wei(max_fee_per_gas, 1), max_priority_fee_per_gas };
    let tipped = Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas: wei(max_priority_fee_per_gas, 1) };
    let of_another_type = Fees::Legacy { gas_price: max_fee_per_gas };
    for tx in [other(dearer, 1), other(tipped, 1), other(of_another_type, 1)] {
        used_up(&node, 50, 0, &mined(&tx));
        assert_eq!(status(&node).await, Status::Expired, "{tx:?}");
    }
    let others = [
        ("to", json!(Address::ZERO)),
        ("to", Value::Null),
        ("value", json!("0x2")),
        ("input", json!("0x00")),
        ("gas", json!("0x1")),
        ("chainId", json!("0x1")),
        ("accessList", json!([{ "address": Address::ZERO, "storageKeys": [] }])),
        ("type", json!("0x0")),
    ];
    for (field, value) in others {
        used_up(&node, 50, 0, &with(&mined(&signed_transfer()), field, value));
        assert_eq!(status(&node).await, Status::Expired, "{field}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_called_so() {
    let node = node().await;
    let another = mined(&other(state().fees, 2));
    // Old states are thrown away: the block where they begin isn't the one.
    used_up(&node, 40, 60, &another);
    assert_eq!(status(&node).await, Status::SlotUsed);
    // It is within the states that are left, though a step back leads out of them.
    used_up(&node, 62, 60, &another);
    assert_eq!(status(&node).await, Status::Expired);
    // A field is left out.
    for field in ["type", "value", "maxFeePerGas", "hash"] {
        let mut tx = mined(&signed_transfer());
        tx.as_object_mut().expect("an object").remove(field);
        used_up(&node, 50, 0, &tx);
        assert_eq!(status(&node).await, Status::SlotUsed, "{field}");
    }
    // No transaction of the sender's is in that block: an authorization has used up the nonce (EIP-7702).
    let anothers = with(&another, "from", json!(Address::ZERO));
    used_up(&node, 50, 0, &anothers);
    assert_eq!(status(&node).await, Status::SlotUsed);
    // Used up from the beginning: that can't be.
    used_up(&node, 0, 0, &anothers);
    assert_eq!(status(&node).await, Status::SlotUsed);
    // Old blocks are thrown away, or told as an error, or as nothing.
    for answer in [error(4444, "pruned history unavailable"), Answer::Result(Value::Null)] {
        used_up(&node, 50, 0, &another);
        node.on("eth_getBlockByNumber", move |params| match (height_of(params.get(0), 90), params.get(1)) {
            (Some(_), Some(Value::Bool(true))) => answer.clone(),
            (Some(height), _) => Answer::Result(block(height, 0xaa)),
            (None, _) => Answer::Result(Value::Null),
        });
        assert_eq!(status(&node).await, Status::SlotUsed);
    }
}

#[tokio::test]
async fn the_search_asks_little() {
    let node = node().await;
    used_up(&node, 90, 0, &mined(&other(state().fees, 2)));
    assert_eq!(status(&node).await, Status::Expired);
    assert_eq!(
        node.asked("eth_getTransactionCount").len(),
        2,
        "whether it is used up, and whether by the last final block"
    );
}

#[tokio::test]
async fn what_used_the_nonce_may_be_the_transaction_itself() {
    let node = node().await;
    node.result("eth_getTransactionCount", json!("0x8"));
    let asked = AtomicUsize::new(0);
    node.on("eth_getTransactionReceipt", move |_| {
        // It is included between the first question and the second.
        let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
        Answer::Result(if first { Value::Null } else { receipt(90, "0x1") })
    });
    assert!(matches!(status(&node).await, Status::Included(inclusion) if inclusion.finalized));
}

#[tokio::test]
async fn an_error_is_never_evidence() {
    for method in
        ["eth_getTransactionReceipt", "eth_getTransactionByHash", "eth_getTransactionCount", "eth_getBlockByNumber"]
    {
        let node = node().await;
        used_up(&node, 90, 0, &mined(&other(state().fees, 2)));
        assert_eq!(status(&node).await, Status::Expired);
        for answer in [error(-32000, "try again"), Answer::Http(502, "<html>")] {
            node.on(method, move |_| answer.clone());
            assert!(status_with(&node, Options::default()).await.is_err(), "{method}");
        }
    }
}

#[tokio::test]
async fn finality_by_tag_and_by_depth() {
    let node = node().await;
    let tip = async |finality| node.client(Options { finality, ..Options::default() }).tip().await;
    let at = |finalized| Tip { height: 100, finalized };
    let tag = |else_depth| Finality::Tag { else_depth };

    assert_eq!(tip(tag(Some(30))).await.expect("a tip"), at(Some(90)));
    assert_eq!(tip(Finality::Depth(30)).await.expect("a tip"), at(Some(70)));
    assert_eq!(tip(Finality::Depth(0)).await.expect("a tip"), at(Some(100)));
    assert_eq!(tip(Finality::Depth(101)).await.expect("a tip"), at(None), "the chain is too short");

    // A node that doesn't know the tag.
    chain(&node, |_| error(-32602, "unknown tag"));
    assert_eq!(tip(tag(Some(30))).await.expect("a tip"), at(Some(70)));
    assert_eq!(tip(tag(None)).await.expect("a tip"), at(None));
    // One that knows it, and has no final block.
    chain(&node, |_| Answer::Result(Value::Null));
    assert_eq!(tip(tag(Some(30))).await.expect("a tip"), at(None));
    // One that can't be asked: that says nothing about the tag.
    chain(&node, |_| Answer::Http(503, "busy"));
    assert!(tip(tag(Some(30))).await.is_err());
}
