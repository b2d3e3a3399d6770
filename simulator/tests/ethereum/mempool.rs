//! What the mempool takes, in which order it gives, and geth's words for what it refuses.

use alloy::consensus::{TxEip2930, TxLegacy};
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, bytes};
use alloy::rpc::types::Block;
use serde_json::{Value, json};
use simulator::node::ethereum::EthereumConfig;

use crate::client::{CHAIN, GWEI, Key, World, transfer};

async fn mined(world: &World) -> Vec<B256> {
    world.node.mine(1).await.unwrap();
    let block: Block = world.get("eth_getBlockByNumber", json!([BlockNumberOrTag::Latest, false])).await;
    block.transactions.hashes().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_in_the_words_of_geth() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let poor = Key::new("poor");
    let sent = alice.payment(0, GWEI);
    world.send(&sent).await;
    assert_eq!(world.send_refused(&sent).await, "already known");
    world.node.mine(1).await.unwrap();

    let refused = async |change: &dyn Fn(&mut alloy::consensus::TxEip1559)| {
        let mut tx = transfer(1, GWEI);
        change(&mut tx);
        world.send_refused(&alice.sign(tx)).await
    };
    assert_eq!(world.send_refused(&sent).await, "nonce too low: next nonce 1, tx nonce 0");
    assert_eq!(refused(&|tx| tx.chain_id = 5).await, "invalid sender: invalid chain id for signer: have 5 want 31337");
    assert_eq!(refused(&|tx| tx.gas_limit = 20_999).await, "intrinsic gas too low: gas 20999, minimum needed 21000");
    assert_eq!(
        refused(&|tx| tx.input = Bytes::from(vec![1; 1000])).await,
        "intrinsic gas too low: gas 21000, minimum needed 37000"
    );
    // EIP-7623: 21000 + 10 gas for each of 4 tokens of a byte.
    assert_eq!(
        refused(&|tx| (tx.input, tx.gas_limit) = (Bytes::from(vec![1; 1000]), 37_000)).await,
        "insufficient gas for floor data gas cost: gas 37000, minimum needed 61000"
    );
    assert_eq!(refused(&|tx| tx.gas_limit = 30_000_001).await, "exceeds block gas limit");
    assert_eq!(refused(&|tx| tx.max_fee_per_gas = 1).await, "max priority fee per gas higher than max fee per gas");
    assert_eq!(
        refused(&|tx| tx.max_priority_fee_per_gas = 0).await,
        "transaction underpriced: gas tip cap 0, minimum needed 1"
    );
    assert_eq!(refused(&|tx| tx.nonce = u64::MAX).await, "nonce has max value");
    assert_eq!(
        refused(&|tx| tx.max_fee_per_gas = 100_000_000_000_000).await,
        "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)"
    );
    assert!(refused(&|tx| tx.input = Bytes::from(vec![0; 200_000])).await.starts_with("oversized data: "));
    assert_eq!(
        refused(&|tx| (tx.to, tx.input, tx.gas_limit) = (TxKind::Create, vec![0; 49_153].into(), 1_000_000)).await,
        "max initcode size exceeded: code size 49153, limit 49152"
    );
    let message = world.send_refused(&poor.payment(0, GWEI)).await;
    let cost = 21_000 * 11 * GWEI + 1;
    let expected = format!("insufficient funds for gas * price + value: balance 0, tx cost {cost}, overshot {cost}");
    assert_eq!(message, expected);

    let held = world.balance(alice.address()).await;
    world
        .send(&alice.sign({
            let mut tx = transfer(1, GWEI);
            tx.value = held - U256::from(500_000 * GWEI);
            tx
        }))
        .await;
    let message = world.send_refused(&alice.payment(2, 4 * GWEI)).await;
    assert!(message.contains("queued cost") && message.contains("overshot"), "{message}");

    let unprotected =
        TxLegacy { gas_price: 20 * GWEI, gas_limit: 21_000, to: TxKind::Call(Address::ZERO), ..TxLegacy::default() };
    assert_eq!(
        world.send_refused(&alice.sign(unprotected)).await,
        "only replay-protected (EIP-155) transactions allowed over RPC"
    );
    assert_eq!(world.send_refused(&bytes!("05c0")).await, "transaction type not supported");
    assert_eq!(world.send_refused(&Bytes::new()).await, "typed transaction too short");
    assert!(world.send_refused(&bytes!("02c0")).await.starts_with("rlp: "));
    assert!(world.send_refused(&bytes!("f86c")).await.starts_with("rlp: "));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_legacy_and_access_list_transactions() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let to = TxKind::Call(Address::repeat_byte(0x77));
    let legacy = TxLegacy {
        chain_id: Some(CHAIN),
        gas_price: 3 * GWEI,
        gas_limit: 21_000,
        to,
        value: U256::ONE,
        ..TxLegacy::default()
    };
    let listed = TxEip2930 {
        chain_id: CHAIN,
        nonce: 1,
        gas_price: 3 * GWEI,
        gas_limit: 21_000,
        to,
        value: U256::ONE,
        ..TxEip2930::default()
    };
    let hashes = [world.send(&alice.sign(legacy)).await, world.send(&alice.sign(listed)).await];
    assert_eq!(mined(&world).await, hashes);
    for (hash, kind) in hashes.iter().zip(["0x0", "0x1"]) {
        let receipt = world.ask("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!((&receipt["status"], &receipt["type"]), (&json!("0x1"), &json!(kind)));
        assert_eq!(receipt["effectiveGasPrice"], json!(U256::from(3 * GWEI)));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_the_example_of_eip_155() {
    let vector: Value = serde_json::from_str(include_str!("../../../tests/vectors/eip-155.json")).unwrap();
    let secret: B256 = serde_json::from_value(vector["private_key"].clone()).unwrap();
    let sender = Key::from_secret(secret).address();
    let world = World::start_with(EthereumConfig { chain_id: 1, ..EthereumConfig::default() }).await;
    world.ask("anvil_setBalance", json!([sender, "2000000000000000000"])).await;
    let hash = world.ask("eth_sendRawTransaction", json!([vector["signed"]])).await;
    let tx = world.ask("eth_getTransactionByHash", json!([hash])).await;
    let number = |field: &str| -> U256 { vector[field].to_string().trim_matches('"').parse().unwrap() };
    for (field, expected) in [
        ("from", json!(sender)),
        ("to", vector["to"].clone()),
        ("nonce", json!(number("nonce"))),
        ("gasPrice", json!(number("gas_price"))),
        ("gas", json!(number("gas_limit"))),
        ("value", json!(number("value"))),
        ("chainId", json!(number("chain_id"))),
        ("v", json!(number("v"))),
        ("r", json!(number("r"))),
        ("s", json!(number("s"))),
        ("input", json!("0x")),
        ("type", json!("0x0")),
        ("blockHash", Value::Null),
    ] {
        assert_eq!(tx[field], expected, "{field}");
    }
    assert_eq!(world.ask("eth_getRawTransactionByHash", json!([hash])).await, vector["signed"]);
    // Its nonce is 9 and the account's is 0.
    assert_eq!(world.ask("txpool_status", json!([])).await, json!({ "pending": "0x0", "queued": "0x1" }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replaces_for_ten_percent_more_of_both_fees() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let with = |fee: u128, tip: u128| {
        let mut tx = transfer(0, tip);
        tx.max_fee_per_gas = fee;
        alice.sign(tx)
    };
    let first = world.send(&with(100 * GWEI, 10 * GWEI)).await;
    let cheap = "replacement transaction underpriced";
    assert_eq!(world.send_refused(&with(109 * GWEI, 11 * GWEI)).await, cheap);
    assert_eq!(world.send_refused(&with(110 * GWEI, 11 * GWEI - 1)).await, cheap);
    assert_eq!(world.send_refused(&with(90 * GWEI, 90 * GWEI)).await, cheap);
    let second = world.send(&with(110 * GWEI, 11 * GWEI)).await;
    assert_eq!(world.ask("eth_getTransactionByHash", json!([first])).await, Value::Null);
    assert_eq!(mined(&world).await, [second]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_behind_a_gap_and_orders_by_tip() {
    let world = World::start().await;
    let (alice, bob) = (world.rich("alice").await, world.rich("bob").await);
    let third = world.send(&alice.payment(2, 9 * GWEI)).await;
    let second = world.send(&alice.payment(1, GWEI)).await;
    let status = async || world.ask("txpool_status", json!([])).await;
    assert_eq!(status().await, json!({ "pending": "0x0", "queued": "0x2" }));
    assert_eq!(world.ask("eth_getTransactionCount", json!([alice.address(), "pending"])).await, "0x0");
    let content = world.ask("txpool_content", json!([])).await;
    assert_eq!(content["queued"][alice.address().to_string()]["2"]["hash"], json!(third));
    assert!(mined(&world).await.is_empty());

    let first = world.send(&alice.payment(0, 3 * GWEI)).await;
    let other = world.send(&bob.payment(0, 2 * GWEI)).await;
    assert_eq!(status().await, json!({ "pending": "0x4", "queued": "0x0" }));
    // Alice's first pays best; her second pays less than Bob's and holds her third back.
    assert_eq!(mined(&world).await, [first, other, second, third]);
    assert_eq!(status().await, json!({ "pending": "0x0", "queued": "0x0" }));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_while_the_base_fee_is_too_high_and_drops_what_became_unpayable() {
    let world = World::start().await;
    let (alice, bob) = (world.rich("alice").await, world.rich("bob").await);
    let mut modest = transfer(0, 1);
    modest.max_fee_per_gas = 600_000_000;
    let modest = world.send(&alice.sign(modest)).await;
    // The faucet made two blocks; block 3 asks for about 670 million wei, block 4 for about 586 million.
    assert!(mined(&world).await.is_empty());
    assert_eq!(mined(&world).await, [modest]);

    let hash = world.send(&bob.payment(1, GWEI)).await;
    world.ask("anvil_setBalance", json!([bob.address(), "0x1"])).await;
    assert_eq!(world.ask("eth_getTransactionByHash", json!([hash])).await, Value::Null);
    world.stop().await;
}

/// More gas is wanted than a block has: the rest goes into the next one.
#[tokio::test(flavor = "multi_thread")]
async fn fills_blocks_to_the_gas_limit() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let burn = |nonce| {
        let mut tx = transfer(nonce, GWEI);
        (tx.to, tx.input, tx.gas_limit) = (TxKind::Create, bytes!("5b600056"), 16_000_000);
        alice.sign(tx)
    };
    let (first, second) = (world.send(&burn(0)).await, world.send(&burn(1)).await);
    assert_eq!(mined(&world).await, [first]);
    assert_eq!(mined(&world).await, [second]);
    world.stop().await;
}
