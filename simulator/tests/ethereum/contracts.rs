//! Contracts: deployment, calls, estimates, reverts, logs, filters.

use alloy::primitives::{Address, B256, Bytes, TxKind, U256, b256, bytes, hex};
use alloy::rpc::types::{Log, TransactionReceipt};
use alloy::sol;
use alloy::sol_types::{SolCall, SolEvent};
use serde_json::{Value, json};
use simulator::node::ethereum::{Coin, DEMO_TOKEN};

use crate::client::{ETHER, GWEI, World, transfer};

sol! {
    function name() external view returns (string);
    function decimals() external view returns (uint8);
    function balanceOf(address owner) external view returns (uint256);
    function transfer(address to, uint256 value) external returns (bool);
    event Transfer(address indexed from, address indexed to, uint256 value);
}

async fn read<C: SolCall>(world: &World, call: C) -> C::Return {
    let request = json!({ "to": DEMO_TOKEN, "data": Bytes::from(call.abi_encode()) });
    let output: Bytes = world.get("eth_call", json!([request, "latest"])).await;
    C::abi_decode_returns(&output).unwrap()
}

fn token_transfer(to: Address, value: u64) -> Bytes {
    transferCall { to, value: U256::from(value) }.abi_encode().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_token_is_an_erc20() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    world.node.fund(&alice.address().to_string(), U256::from(1_000_000), Coin::Token(DEMO_TOKEN)).await.unwrap();
    assert_eq!(world.node.demo_token(), DEMO_TOKEN);
    assert_eq!(read(&world, nameCall {}).await, "Portcullis Demo Dollar");
    assert_eq!(read(&world, decimalsCall {}).await, 6);
    assert_eq!(read(&world, balanceOfCall { owner: alice.address() }).await, U256::from(1_000_000));

    let bob = Address::repeat_byte(0x88);
    let request = json!({ "from": alice.address(), "to": DEMO_TOKEN, "data": token_transfer(bob, 400_000) });
    let gas: U256 = world.get("eth_estimateGas", json!([request])).await;
    let mut tx = transfer(0, GWEI);
    (tx.to, tx.value, tx.gas_limit) = (TxKind::Call(DEMO_TOKEN), U256::ZERO, gas.to());
    tx.input = token_transfer(bob, 400_000);
    let hash = world.send(&alice.sign(tx.clone())).await;
    world.node.mine(1).await.unwrap();
    let receipt: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([hash])).await;
    assert!(receipt.status());
    assert!(receipt.gas_used <= gas.to() && gas.to::<u64>() <= receipt.gas_used * 103 / 100, "{receipt:?} {gas}");
    let moved = Transfer::decode_log(&receipt.inner.logs()[0].inner).unwrap();
    assert_eq!((moved.from, moved.to, moved.value), (alice.address(), bob, U256::from(400_000)));
    assert_eq!(read(&world, balanceOfCall { owner: bob }).await, U256::from(400_000));

    // Too little gas fails and costs all of it; too little balance reverts and costs a part.
    tx.nonce = 1;
    tx.gas_limit = 25_000;
    let starved = world.send(&alice.sign(tx.clone())).await;
    tx.nonce = 2;
    (tx.input, tx.gas_limit) = (token_transfer(bob, 700_000), 100_000);
    let reverted = world.send(&alice.sign(tx.clone())).await;
    world.node.mine(1).await.unwrap();
    let starved: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([starved])).await;
    let reverted: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([reverted])).await;
    assert!(!starved.status() && !reverted.status());
    assert_eq!(starved.gas_used, 25_000);
    assert!(reverted.gas_used < 50_000 && reverted.inner.logs().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_is_told_with_its_reason() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let request =
        json!({ "from": alice.address(), "to": DEMO_TOKEN, "input": token_transfer(Address::repeat_byte(1), 5) });
    for method in ["eth_call", "eth_estimateGas"] {
        let (code, message, data) = world.refused(method, json!([request, "latest"])).await;
        assert_eq!(code, 3);
        assert_eq!(message, "execution reverted: ERC20: transfer amount exceeds balance");
        // The selector of Error(string), from the Solidity ABI.
        assert!(data.as_str().unwrap().starts_with("0x08c379a0"));
    }

    // A call can see another state than there is: here the balance's slot, keccak(address, 1).
    let slot = alloy::primitives::keccak256([alice.address().into_word(), B256::with_last_byte(1)].concat());
    let overrides = json!({ DEMO_TOKEN.to_string(): { "stateDiff": { slot.to_string(): B256::with_last_byte(9) } } });
    let output = world.ask("eth_call", json!([request, "latest", overrides])).await;
    assert_eq!(output, json!(B256::with_last_byte(1)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_estimates_fail_in_the_words_of_geth() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let nobody = Address::repeat_byte(0x99);
    let refused = async |method: &str, request: Value| {
        let (code, message, _) = world.refused(method, json!([request, "latest"])).await;
        assert_eq!(code, -32000, "{message}");
        message
    };
    assert_eq!(
        refused("eth_call", json!({ "from": nobody, "to": nobody, "value": "0x1" })).await,
        format!(
            "err: insufficient funds for gas * price + value: address {nobody} have 0 want 1 (supplied gas 50000000)"
        )
    );
    assert!(
        refused("eth_call", json!({ "from": alice.address(), "to": nobody, "gasPrice": "0x1", "gas": "0x5208" }))
            .await
            .starts_with("err: max fee per gas less than block base fee: address ")
    );
    assert_eq!(
        refused("eth_call", json!({ "to": nobody, "gas": "0x5207" })).await,
        "err: intrinsic gas too low: have 20999, want 21000 (supplied gas 20999)"
    );
    assert_eq!(
        refused("eth_estimateGas", json!({ "from": nobody, "to": nobody, "value": "0x1", "gasPrice": "0x2540be400" }))
            .await,
        "insufficient funds for transfer"
    );
    // JUMPDEST PUSH1 0 JUMP never ends.
    assert_eq!(refused("eth_call", json!({ "data": "0x5b600056", "gas": "0x186a0" })).await, "out of gas");
    assert_eq!(
        refused("eth_estimateGas", json!({ "data": "0x5b600056", "gas": "0x186a0" })).await,
        "gas required exceeds allowance (100000)"
    );
    assert_eq!(refused("eth_call", json!({ "data": "0xfe" })).await, "invalid opcode: INVALID");
    assert_eq!(
        refused("eth_call", json!({ "to": nobody, "gasPrice": "0x1", "maxFeePerGas": "0x1" })).await,
        "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"
    );
    let plain = json!({ "from": alice.address(), "to": nobody, "value": ETHER });
    assert_eq!(world.ask("eth_estimateGas", json!([plain])).await, "0x5208");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deploys_code_that_keeps_state() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    // Runtime: slot 0 += 1, return it. PUSH1 1 PUSH0 SLOAD ADD DUP1 PUSH0 SSTORE PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
    let runtime = bytes!("60015f5401805f555f5260205ff3");
    // PUSH14 runtime PUSH0 MSTORE PUSH1 14 PUSH1 18 RETURN
    let mut creation = hex!("6d").to_vec();
    creation.extend_from_slice(&runtime);
    creation.extend_from_slice(&hex!("5f52600e6012f3"));

    let mut tx = transfer(0, GWEI);
    (tx.to, tx.value, tx.input, tx.gas_limit) = (TxKind::Create, U256::ZERO, creation.into(), 200_000);
    let hash = world.send(&alice.sign(tx)).await;
    world.node.mine(1).await.unwrap();
    let receipt: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([hash])).await;
    let contract = receipt.contract_address.unwrap();
    assert_eq!((receipt.status(), receipt.to), (true, None));
    assert_eq!(contract, alice.address().create(0));
    assert_eq!(world.ask("eth_getCode", json!([contract, "latest"])).await, json!(runtime));
    assert_eq!(world.ask("eth_getCode", json!([contract, "0x1"])).await, "0x");

    for nonce in 1..=3 {
        let mut tx = transfer(nonce, GWEI);
        (tx.to, tx.value, tx.gas_limit) = (TxKind::Call(contract), U256::ZERO, 100_000);
        world.send(&alice.sign(tx)).await;
    }
    // The pending state has all three calls, the latest none.
    let counted = |value: u8| json!(B256::with_last_byte(value));
    let request = json!({ "to": contract });
    assert_eq!(world.ask("eth_call", json!([request, "pending"])).await, counted(4));
    assert_eq!(world.ask("eth_call", json!([request, "latest"])).await, counted(1));
    let height = world.node.mine(1).await.unwrap();
    assert_eq!(world.ask("eth_getStorageAt", json!([contract, "0x0", "latest"])).await, counted(3));
    assert_eq!(world.ask("eth_getStorageAt", json!([contract, "0x0", U256::from(height - 1)])).await, counted(0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_found_by_address_topic_and_block() {
    let world = World::start().await;
    let (bob, carol) = (Address::repeat_byte(0xb0), Address::repeat_byte(0xca));
    for to in [bob, carol, bob] {
        world.node.fund(&to.to_string(), U256::from(7), Coin::Token(DEMO_TOKEN)).await.unwrap();
    }
    // keccak("Transfer(address,address,uint256)"), as in every ERC-20.
    let topic = b256!("0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef");
    let find = async |filter: Value| -> Vec<Log> { world.get("eth_getLogs", json!([filter])).await };
    let all = find(json!({ "fromBlock": "0x0", "address": DEMO_TOKEN, "topics": [topic] })).await;
    assert_eq!(all.iter().map(|log| log.block_number.unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let to_bob = find(json!({ "fromBlock": "earliest", "topics": [topic, null, [bob.into_word()]] })).await;
    assert_eq!(to_bob.iter().map(|log| log.block_number.unwrap()).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(find(json!({ "blockHash": all[1].block_hash })).await, all[1..2]);
    assert_eq!(find(json!({ "fromBlock": "0x2", "toBlock": "0x2" })).await, all[1..2]);
    assert!(find(json!({ "fromBlock": "0x0", "address": bob })).await.is_empty());
    assert_eq!(find(json!({})).await, all[2..]);

    let refused = async |filter: Value| world.refused("eth_getLogs", json!([filter])).await;
    assert_eq!(refused(json!({ "fromBlock": "0x2", "toBlock": "0x1" })).await.1, "invalid block range params");
    assert_eq!(refused(json!({ "blockHash": B256::ZERO })).await.1, "unknown block");
    assert_eq!(refused(json!({ "blockHash": B256::ZERO, "fromBlock": "0x1" })).await.0, -32602);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_tell_what_is_fresh() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let blocks = world.ask("eth_newBlockFilter", json!([])).await;
    let logs = world.ask("eth_newFilter", json!([{ "address": DEMO_TOKEN }])).await;
    let pending = world.ask("eth_newPendingTransactionFilter", json!([])).await;
    let changes = async |id: &Value| world.ask("eth_getFilterChanges", json!([id])).await;
    for id in [&blocks, &logs, &pending] {
        assert_eq!(changes(id).await, json!([]));
    }
    let hash = world.send(&alice.payment(0, GWEI)).await;
    assert_eq!(changes(&pending).await, json!([hash]));
    world.node.fund(&alice.address().to_string(), U256::ONE, Coin::Token(DEMO_TOKEN)).await.unwrap();
    let head = world.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(changes(&blocks).await, json!([head["hash"]]));
    assert_eq!(changes(&logs).await.as_array().unwrap().len(), 1);
    assert_eq!(world.ask("eth_getFilterLogs", json!([logs])).await.as_array().unwrap().len(), 1);
    for id in [&blocks, &logs] {
        assert_eq!(changes(id).await, json!([]));
    }
    assert_eq!(world.ask("eth_uninstallFilter", json!([blocks])).await, true);
    assert_eq!(world.ask("eth_uninstallFilter", json!([blocks])).await, false);
    assert_eq!(world.refused("eth_getFilterChanges", json!([blocks])).await.1, "filter not found");
    world.stop().await;
}
