//! `eth_simulateV1`: what would come of calls in blocks that aren't there.

use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U256, address, bytes, keccak256};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};
use simulator::node::ethereum::{Coin, DEMO_TOKEN};

use crate::client::{ETHER, GWEI, World, transfer};

sol! {
    function transfer(address to, uint256 value) external returns (bool);
}

const BOB: Address = Address::repeat_byte(0xb0);
const CAROL: Address = Address::repeat_byte(0xca);
/// Where code is put by an override.
const CODE: Address = Address::repeat_byte(0xcc);
/// In whose name transfers of the coin are told (ERC-7528).
const COIN: Address = address!("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE");

fn token_transfer(to: Address, value: u64) -> Bytes {
    transferCall { to, value: U256::from(value) }.abi_encode().into()
}

fn hex(value: &Value) -> u64 {
    serde_json::from_value::<U64>(value.clone()).unwrap().to()
}

async fn simulate(world: &World, payload: Value) -> Vec<Value> {
    world.get("eth_simulateV1", json!([payload, "latest"])).await
}

/// What one call in one block comes to.
async fn one(world: &World, block: Value) -> Value {
    let mut blocks = simulate(world, json!({ "blockStateCalls": [block], "traceTransfers": true })).await;
    blocks[0]["calls"][0].take()
}

/// A log's address, its sender and receiver, and its amount.
fn moved(log: &Value) -> (Address, Address, Address, U256) {
    let topics: Vec<B256> = serde_json::from_value(log["topics"].clone()).unwrap();
    assert_eq!(topics[0], keccak256("Transfer(address,address,uint256)"));
    let amount = serde_json::from_value::<B256>(log["data"].clone()).unwrap().into();
    let who = |topic: B256| Address::from_word(topic);
    (serde_json::from_value(log["address"].clone()).unwrap(), who(topics[1]), who(topics[2]), amount)
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_build_on_each_other_and_change_nothing() {
    let world = World::start().await;
    let alice = world.rich("alice").await.address();
    world.node.fund(&alice.to_string(), U256::from(500), Coin::Token(DEMO_TOKEN)).await.unwrap();
    let head = world.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    let pay = json!({ "from": alice, "to": BOB, "value": "0x9" });
    let on = json!({ "from": BOB, "to": CAROL, "value": "0x4" });
    let move_token = json!({ "from": alice, "to": DEMO_TOKEN, "input": token_transfer(BOB, 200) });
    let spend = json!({ "from": BOB, "to": DEMO_TOKEN, "input": token_transfer(CAROL, 200) });
    let number = hex(&head["number"]);
    let later = json!({ "number": U64::from(number + 3) });
    let payload = json!({
        "blockStateCalls": [{ "calls": [pay, on, move_token] }, { "calls": [spend], "blockOverrides": later }],
        "traceTransfers": true, "returnFullTransactions": true,
    });
    let blocks = simulate(&world, payload.clone()).await;
    let numbers: Vec<u64> = blocks.iter().map(|block| hex(&block["number"])).collect();
    assert_eq!(numbers, [number + 1, number + 2, number + 3], "numbers that are left out are empty blocks");
    let mut parent = &head;
    for block in &blocks {
        assert_eq!(block["parentHash"], parent["hash"]);
        assert_eq!(hex(&block["timestamp"]), hex(&parent["timestamp"]) + 12);
        assert_eq!(block["miner"], head["miner"]);
        parent = block;
    }
    let [first, empty, last] = blocks.as_slice() else { panic!("{blocks:?}") };
    assert_eq!((&empty["calls"], &empty["stateRoot"]), (&json!([]), &first["stateRoot"]));
    assert_eq!(first["baseFeePerGas"], "0x0", "nobody names a price");
    let logs: Vec<Value> = [first, last]
        .iter()
        .flat_map(|block| block["calls"].as_array().unwrap())
        .flat_map(|call| {
            assert_eq!(call["status"], "0x1", "{call}");
            call["logs"].as_array().unwrap().clone()
        })
        .collect();
    let told: Vec<_> = logs.iter().map(moved).collect();
    assert_eq!(
        told,
        [
            (COIN, alice, BOB, U256::from(9)),
            (COIN, BOB, CAROL, U256::from(4)),
            (DEMO_TOKEN, alice, BOB, U256::from(200)),
            (DEMO_TOKEN, BOB, CAROL, U256::from(200)),
        ]
    );
    for ((at, log), transaction) in (0_u64..).zip(&logs).zip(first["transactions"].as_array().unwrap()) {
        assert_eq!((hex(&log["logIndex"]), hex(&log["transactionIndex"])), (at, at));
        assert_eq!((&log["blockHash"], &log["transactionHash"]), (&first["hash"], &transaction["hash"]));
    }
    assert_eq!(first["transactions"][1]["from"], json!(BOB));
    assert_eq!(hex(&first["transactions"][2]["nonce"]), hex(&first["transactions"][0]["nonce"]) + 1);
    assert_eq!(hex(&first["calls"][0]["gasUsed"]), 21_000);

    // Without the flags: hashes of the same transactions, and only what contracts log.
    let mut plain = payload.clone();
    plain["traceTransfers"] = json!(false);
    plain["returnFullTransactions"] = json!(false);
    let plain = simulate(&world, plain).await;
    assert_eq!(plain[0]["transactions"][2], first["transactions"][2]["hash"]);
    let counts = plain[0]["calls"].as_array().unwrap().iter().map(|call| call["logs"].as_array().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(plain[0]["hash"], first["hash"], "a block commits to what contracts log");

    assert_eq!(world.balance(BOB).await, U256::ZERO);
    assert_eq!(world.ask("eth_getBlockByNumber", json!(["latest", false])).await, head);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_block_is_the_one_that_is_made() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    world.node.fund(&alice.address().to_string(), U256::from(500), Coin::Token(DEMO_TOKEN)).await.unwrap();
    let mut tx = transfer(0, GWEI);
    (tx.to, tx.value, tx.gas_limit) = (TxKind::Call(DEMO_TOKEN), U256::ZERO, 100_000);
    tx.input = token_transfer(BOB, 200);
    let call = json!({
        "from": alice.address(), "to": DEMO_TOKEN, "input": tx.input, "gas": U64::from(tx.gas_limit), "nonce": "0x0",
        "maxFeePerGas": U256::from(tx.max_fee_per_gas), "maxPriorityFeePerGas": U256::from(tx.max_priority_fee_per_gas),
    });
    let simulated = simulate(&world, json!({ "blockStateCalls": [{ "calls": [call] }], "validation": true })).await;
    let hash = world.send(&alice.sign(tx)).await;
    world.node.mine(1).await.unwrap();
    let made = world.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    for field in [
        "number",
        "parentHash",
        "stateRoot",
        "receiptsRoot",
        "logsBloom",
        "gasUsed",
        "gasLimit",
        "baseFeePerGas",
        "miner",
    ] {
        assert_eq!(simulated[0][field], made[field], "{field}");
    }
    let receipt = world.ask("eth_getTransactionReceipt", json!([hash])).await;
    let call = &simulated[0]["calls"][0];
    assert_eq!((&call["gasUsed"], &call["status"]), (&receipt["gasUsed"], &receipt["status"]));
    assert_eq!(call["logs"][0]["topics"], receipt["logs"][0]["topics"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_and_leaves_nothing() {
    let world = World::start().await;
    let alice = world.rich("alice").await.address();
    let block = json!({ "calls": [{ "from": alice, "to": DEMO_TOKEN, "input": token_transfer(BOB, 1) }] });
    let reverted = one(&world, block).await;
    assert_eq!((&reverted["status"], &reverted["logs"]), (&json!("0x0"), &json!([])));
    let error = &reverted["error"];
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(3), &json!("execution reverted: ERC20: transfer amount exceeds balance"))
    );
    assert_eq!(error["data"], reverted["returnData"]);

    // INVALID takes all gas.
    let override_with = |code: Bytes| json!({ CODE.to_string(): { "code": code } });
    let call = json!({ "from": alice, "to": CODE, "gas": "0xc350", "value": "0x5" });
    let halted = one(&world, json!({ "calls": [call], "stateOverrides": override_with(bytes!("fe")) })).await;
    assert_eq!((&halted["status"], &halted["gasUsed"], &halted["logs"]), (&json!("0x0"), &json!("0xc350"), &json!([])));
    assert_eq!(
        (&halted["error"]["code"], &halted["error"]["message"]),
        (&json!(-32015), &json!("invalid opcode: INVALID"))
    );

    // A call within, paid on and failing, is undone with what it told; the outer one goes on and logs.
    // CALL(gas, 0xdd.., 2 wei), then LOG0 of nothing.
    let inner = Address::repeat_byte(0xdd);
    let mut outer = bytes!("6000600060006000600273").to_vec();
    outer.extend(inner);
    outer.extend(bytes!("5af15060006000a0"));
    let overrides = json!({
        CODE.to_string(): { "code": Bytes::from(outer) },
        // Pays 1 wei on to 0xee.. and reverts.
        inner.to_string(): { "code": bytes!("6000600060006000600173eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee5af15060006000fd") },
    });
    let call = json!({ "from": alice, "to": CODE, "value": "0x5" });
    let passed = one(&world, json!({ "calls": [call], "stateOverrides": overrides })).await;
    let logs = passed["logs"].as_array().unwrap();
    assert_eq!((&passed["status"], logs.len()), (&json!("0x1"), 2), "{passed}");
    assert_eq!(moved(&logs[0]), (COIN, alice, CODE, U256::from(5)));
    assert_eq!(
        (&logs[1]["address"], &logs[1]["topics"], &logs[1]["logIndex"]),
        (&json!(CODE), &json!([]), &json!("0x1"))
    );

    // A creation pays the contract that it makes.
    let nonce: U64 = world.get("eth_getTransactionCount", json!([alice, "latest"])).await;
    let created = one(&world, json!({ "calls": [{ "from": alice, "value": "0x3", "input": "0x00" }] })).await;
    assert_eq!(moved(&created["logs"][0]), (COIN, alice, alice.create(nonce.to()), U256::from(3)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_accounts_can_be_overridden() {
    let world = World::start().await;
    // NUMBER, TIMESTAMP, COINBASE, PREVRANDAO, BASEFEE, GASLIMIT and BLOCKHASH(NUMBER - 1), a word each.
    let code = bytes!("43600052426020524160405244606052486080524560a052600143034060c05260e06000f3");
    let overrides = json!({ CODE.to_string(): { "code": code }, BOB.to_string(): { "balance": "0x64" } });
    let block = json!({
        "number": "0x40", "time": "0x80000000", "feeRecipient": CAROL, "prevRandao": B256::repeat_byte(7),
        "baseFeePerGas": "0x9", "gasLimit": "0x100000",
    });
    let call = json!({ "from": BOB, "to": CODE, "gas": "0x100000", "maxFeePerGas": "0x9" });
    let free = json!({ "from": BOB, "to": CAROL, "value": "0x64" });
    let rich = json!({ BOB.to_string(): { "balance": ETHER } });
    let blocks = simulate(
        &world,
        json!({ "blockStateCalls": [
        { "stateOverrides": overrides, "calls": [free] },
        { "stateOverrides": rich, "blockOverrides": block, "calls": [call] },
    ] }),
    )
    .await;
    assert_eq!(blocks[0]["calls"][0]["status"], "0x1", "what is overridden can be spent");
    let last = blocks.last().unwrap();
    let output: Bytes = serde_json::from_value(last["calls"][0]["returnData"].clone()).unwrap();
    let words: Vec<B256> = output.chunks(32).map(B256::from_slice).collect();
    let word = |n: u64| B256::from(U256::from(n));
    let parent: B256 = serde_json::from_value(last["parentHash"].clone()).unwrap();
    let expected =
        [word(0x40), word(0x8000_0000), CAROL.into_word(), B256::repeat_byte(7), word(9), word(0x10_0000), parent];
    assert_eq!(words, expected);
    assert_eq!(
        (&last["number"], &last["miner"], &last["baseFeePerGas"]),
        (&json!("0x40"), &json!(CAROL), &json!("0x9"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cant_be_simulated_is_refused_by_its_code() {
    let world = World::start().await;
    let alice = world.rich("alice").await.address();
    let head: U64 = world.get("eth_blockNumber", json!([])).await;
    let now = hex(&world.ask("eth_getBlockByNumber", json!(["latest", false])).await["timestamp"]);
    let blocks = |count: usize| json!({ "blockStateCalls": vec![json!({}); count] });
    let call = |call: Value| json!({ "blockStateCalls": [{ "calls": [call] }], "validation": true });
    let at = |over: Value| json!({ "blockStateCalls": [{ "blockOverrides": over }] });
    let paid = |change: Value| {
        let mut call = json!({ "from": alice, "to": BOB, "gas": "0x5208", "maxFeePerGas": U256::from(10 * GWEI) });
        call.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        call
    };
    for (payload, code, words) in [
        (blocks(0), -32602, "empty input"),
        (blocks(257), -38026, "too many blocks"),
        (at(json!({ "number": head })), -38020, "block numbers must be in order"),
        (at(json!({ "number": "0x10000" })), -38026, "too many blocks"),
        (at(json!({ "time": U64::from(now) })), -38021, "block timestamps must be in order"),
        (at(json!({ "blockHash": {} })), -32602, "blockHash is not supported"),
        (call(paid(json!({ "nonce": "0x5" }))), -38011, "nonce too high"),
        (call(paid(json!({ "gas": "0x5207" }))), -38013, "intrinsic gas too low: have 20999, want 21000"),
        (call(paid(json!({ "gas": "0x2000000" }))), -38015, "block gas limit reached"),
        (
            call(paid(json!({ "value": ETHER * U256::from(1000) }))),
            -38014,
            "insufficient funds for gas * price + value",
        ),
        (call(paid(json!({ "maxFeePerGas": "0x1" }))), -32602, "max fee per gas less than block base fee"),
        (call(paid(json!({ "gasPrice": "0x1" }))), -32000, "both gasPrice and"),
        (json!({ "blockStateCalls": 5 }), -32602, "invalid argument 0"),
    ] {
        let (found, message, _) = world.refused("eth_simulateV1", json!([payload, "latest"])).await;
        assert_eq!(found, code, "{payload}: {message}");
        assert!(message.contains(words), "{payload}: {message}");
    }
    // Without validation neither nonces nor fees matter; money does.
    let lax = |call: Value| json!([{ "blockStateCalls": [{ "calls": [call] }] }]);
    let free = json!({ "from": alice, "to": BOB, "nonce": "0x99" });
    let free: Vec<Value> = world.get("eth_simulateV1", lax(free)).await;
    assert_eq!(free[0]["calls"][0]["status"], "0x1");
    let (code, ..) = world.refused("eth_simulateV1", lax(json!({ "from": BOB, "to": alice, "value": "0x1" }))).await;
    assert_eq!(code, -38014);
    let (code, message, _) = world.refused("eth_simulateV1", json!([blocks(1), "0x10000"])).await;
    assert_eq!((code, message.as_str()), (-32000, "header not found"));
    world.stop().await;
}
