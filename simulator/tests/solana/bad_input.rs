//! What a careless or hostile client may send.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use simulator::node::solana::{FaucetError, SolanaConfig, SolanaError, SolanaNode};
use simulator::rpc::CancellationToken;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signer;

use crate::node::{Node, SOL, encode, transfer};

#[tokio::test]
async fn wrong_parameters_have_agaves_codes() {
    let node = Node::start().await;
    let key = Pubkey::new_unique().to_string();
    let many = vec![key.clone(); 101];
    for (method, params, code, message) in [
        ("noSuchMethod", json!([]), -32601, "Method not found"),
        ("getStakeMinimumDelegation", json!([]), -32601, "Method not found"),
        ("getBalance", json!([]), -32602, "`params` should have at least 1 argument(s)"),
        ("getBalance", json!({ "address": key }), -32602, "`params` should be an array"),
        ("getBalance", json!(["x"]), -32602, "Invalid param: WrongSize"),
        ("getBalance", json!(["0OIl"]), -32602, "Invalid param: Invalid"),
        ("getBalance", json!([5]), -32602, "Invalid params: invalid type: integer `5`, expected a string."),
        ("getBalance", json!([key, { "commitment": "sure" }]), -32602, "Invalid params: unknown variant `sure`"),
        ("getBalance", json!([key, { "minContextSlot": 5 }]), -32016, "Minimum context slot has not been reached"),
        ("getMultipleAccounts", json!([many]), -32602, "Too many inputs provided; max 100"),
        (
            "getAccountInfo",
            json!([SolanaNode::faucet().to_string(), { "encoding": "base64+zstd" }]),
            -32602,
            "Invalid params",
        ),
        ("getSignatureStatuses", json!([["x"]]), -32602, "Invalid param: WrongSize"),
        ("getSignaturesForAddress", json!([key, { "limit": 1001 }]), -32602, "Invalid limit; max 1000"),
        ("getTransaction", json!(["1"]), -32602, "Invalid param: WrongSize"),
        ("getBlock", json!([1]), -32004, "Block not available for slot 1"),
        (
            "getBlock",
            json!([0, { "commitment": "processed" }]),
            -32602,
            "Method does not support commitment below `confirmed`",
        ),
        ("getBlocks", json!([0, 500_001]), -32602, "Slot range too large; max 500000"),
        ("getBlock", json!([-1]), -32602, "Invalid params: invalid value: integer `-1`"),
        ("getTokenAccountBalance", json!([key]), -32602, "Invalid param: could not find account"),
        (
            "getTokenAccountBalance",
            json!([SolanaNode::faucet().to_string()]),
            -32602,
            "Invalid param: not a Token account",
        ),
        ("getTokenSupply", json!([SolanaNode::faucet().to_string()]), -32602, "Invalid param: not a Token mint"),
        ("getTokenAccountsByOwner", json!([key, { "mint": key }]), -32602, "Invalid param: could not find mint"),
        (
            "getTokenAccountsByOwner",
            json!([key, { "programId": key }]),
            -32602,
            "Invalid param: unrecognized Token program id",
        ),
        ("requestAirdrop", json!([key, "1"]), -32602, "Invalid params"),
        ("requestAirdrop", json!([key, 1]), -32603, "the faucet's transaction would fail"),
        ("requestAirdrop", json!([key, u64::MAX]), -32603, "the faucet's transaction would fail"),
        ("sim_fund", json!([key, "-1"]), -32602, "Invalid params"),
        ("sim_fund", json!([key, "1.5"]), -32602, "Invalid params"),
        ("sim_mine", json!(["all"]), -32602, "Invalid params"),
        ("sim_mine", json!([500_001]), -32602, "Invalid params"),
        ("sendTransaction", json!(["0", {}]), -32602, "invalid base58 encoding"),
        ("sendTransaction", json!(["!", { "encoding": "base64" }]), -32602, "invalid base64 encoding"),
        (
            "sendTransaction",
            json!(["AAAA", { "encoding": "base64" }]),
            -32602,
            "failed to deserialize solana_transaction",
        ),
        ("sendTransaction", json!(["AAAA", { "encoding": "hex" }]), -32602, "Invalid params: unknown variant `hex`"),
        (
            "sendTransaction",
            json!(["A".repeat(2000), { "encoding": "base64" }]),
            -32602,
            "base64 encoded solana_transaction::versioned::VersionedTransaction too large: 2000 bytes (max: encoded/raw 1644/1232)",
        ),
        (
            "simulateTransaction",
            json!(["AAAA", { "sigVerify": true, "replaceRecentBlockhash": true }]),
            -32602,
            "sigVerify may not be used with replaceRecentBlockhash",
        ),
        ("getFeeForMessage", json!(["AAAA"]), -32602, "failed to deserialize solana_message"),
    ] {
        let (got, text) = node.fails(method, params.clone()).await;
        assert_eq!(got, code, "{method} {params}: {text}");
        assert!(text.starts_with(message), "{method} {params}: {text}");
    }
    assert_eq!(node.post("{").await["error"]["code"], -32700);
    assert_eq!(node.post("[]").await["error"]["code"], -32600);
    assert_eq!(node.post("{}").await["error"]["code"], -32600);
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_signature_is_refused_or_never_executed() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = node.funded(SOL).await.pubkey();
    let mut transaction = node.sign(&[&from], &[transfer(&from, &to, 5)]).await;
    transaction.signatures[0] = from.sign_message(b"something else");
    let error = node.send(&transaction).await.unwrap_err();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(-32003), &json!("Transaction signature verification failure"))
    );

    let simulate = |verify: bool| json!([encode(&transaction), { "encoding": "base64", "sigVerify": verify, "commitment": "processed" }]);
    assert_eq!(node.fails("simulateTransaction", simulate(true)).await.0, -32003);
    assert_eq!(node.value("simulateTransaction", simulate(false)).await["err"], json!(null));

    let signature = node.send_blindly(&transaction).await;
    node.node.mine(1).await.unwrap();
    assert_eq!(node.status(&signature).await, json!(null));
    assert_eq!(node.balance(&to, "processed").await, SOL);
    node.stop().await;
}

#[tokio::test]
async fn a_simulation_shows_accounts_and_changes_nothing() {
    let node = Node::start().await;
    let from = node.funded(SOL).await;
    let to = Pubkey::new_unique();
    let transaction = node.sign(&[&from], &[transfer(&from, &to, SOL / 2)]).await;
    let config = json!({
        "encoding": "base64",
        "commitment": "processed",
        "replaceRecentBlockhash": true,
        "innerInstructions": true,
        "accounts": { "addresses": [to.to_string(), Pubkey::new_unique().to_string()], "encoding": "base64" },
    });
    let result = node.value("simulateTransaction", json!([encode(&transaction), config])).await;
    assert_eq!(result["accounts"][0]["lamports"], SOL / 2);
    assert_eq!(result["accounts"][1], json!(null));
    assert_eq!(result["unitsConsumed"], 150);
    assert_eq!(result["innerInstructions"], json!([]));
    assert_eq!(result["replacementBlockhash"]["blockhash"], node.blockhash().await.to_string());
    assert_eq!(node.balance(&to, "processed").await, 0);
    node.stop().await;
}

#[tokio::test]
async fn a_faucet_and_a_node_name_what_is_wrong() {
    let node = Node::start().await;
    assert_eq!(node.node.fund("nobody", 1).await, Err(FaucetError::Address("nobody".into())));
    let refused = node.node.fund(&Pubkey::new_unique().to_string(), 1).await;
    assert!(matches!(refused, Err(FaucetError::Refused { .. })));

    let clock = node.clock.clone();
    let taken = SolanaConfig { listen: node.node.addr(), ..SolanaConfig::default() };
    let second = SolanaNode::start(taken, clock.clone(), CancellationToken::new()).await;
    assert!(matches!(second, Err(SolanaError::Listen(_))));
    let zero = SolanaConfig { block_interval: Some(std::time::Duration::ZERO), ..SolanaConfig::default() };
    assert!(matches!(SolanaNode::start(zero, clock, CancellationToken::new()).await, Err(SolanaError::Interval)));
    node.stop().await;
}

/// Bytes that are almost a transaction never stop the node.
#[test]
fn mutated_transactions_do_no_harm() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (node, bytes) = runtime.block_on(async {
        let node = Node::start().await;
        let from = node.funded(SOL).await;
        let transaction = node.sign(&[&from], &[transfer(&from, &Pubkey::new_unique(), SOL / 2)]).await;
        (node, bincode::serialize(&transaction).unwrap())
    });
    let length = bytes.len();
    let mutations = proptest::collection::vec((0..length, any::<u8>()), 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let outcome = runner.run(&(mutations, 0..=length), |(mutations, cut)| {
        let mut bytes = bytes.clone();
        for (at, value) in mutations {
            bytes[at] = value;
        }
        // Half of the cases keep their length.
        bytes.truncate(if cut % 2 == 0 { length } else { cut });
        let text = BASE64_STANDARD.encode(&bytes);
        runtime.block_on(async {
            for config in [
                json!({ "encoding": "base64", "skipPreflight": true }),
                json!({ "encoding": "base64", "preflightCommitment": "processed" }),
            ] {
                let sent: Result<Value, Value> = node.call("sendTransaction", json!([text, config])).await;
                let code = sent.err().map_or(-32602, |error| error["code"].as_i64().unwrap());
                prop_assert!([-32602, -32002, -32003].contains(&code), "{code}");
            }
            let config = json!({ "encoding": "base64", "commitment": "processed", "replaceRecentBlockhash": true });
            let _ = node.call("simulateTransaction", json!([text, config])).await;
            node.node.mine(1).await.unwrap();
            prop_assert_eq!(node.ok("getHealth", json!([])).await, "ok");
            Ok(())
        })
    });
    outcome.unwrap();
    runtime.block_on(node.stop());
}
