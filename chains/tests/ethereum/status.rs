//! What has become of a transaction, against a scripted node.

use std::sync::atomic::{AtomicUsize, Ordering};

use chains::amount::Amount;
use chains::client::{Client, Inclusion, Status, Tip};
use chains::ethereum::{Finality, Options};
use chains::rpc::RpcError;
use serde_json::{Value, json};

use crate::fake_node::{Answer, FakeNode, block, error, hash};
use crate::fixture::signed_transfer;

fn receipt(height: u64, status: &str) -> Value {
    json!({
        "transactionHash": signed_transfer().hash(), "blockHash": hash(0xaa), "blockNumber": format!("{height:#x}"),
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
async fn expired_once_the_nonce_is_used_at_a_final_block() {
    let node = node().await;
    let used_up_at = |final_height: &'static str| {
        move |params: &Value| {
            let at = params.get(1).and_then(Value::as_str).expect("a block");
            Answer::Result(json!(if at == final_height { "0x8" } else { "0x7" }))
        }
    };
    node.on("eth_getTransactionCount", used_up_at("latest"));
    assert_eq!(status(&node).await, Status::Unknown, "used, but not at a final block");
    node.on("eth_getTransactionCount", used_up_at("0x5a"));
    assert_eq!(status(&node).await, Status::Expired);

    // Without finality nothing expires.
    chain(&node, |_| error(-32602, "unknown tag"));
    let never = Options { finality: Finality::Tag { else_depth: None }, ..Options::default() };
    node.result("eth_getTransactionCount", json!("0x8"));
    assert_eq!(status_with(&node, never).await.expect("a status"), Status::Unknown);
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
        node.result("eth_getTransactionCount", json!("0x8"));
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
