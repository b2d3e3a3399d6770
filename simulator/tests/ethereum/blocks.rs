//! Blocks, payments, fees and state over time.

use std::time::Duration;

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::{Block, FeeHistory, Transaction, TransactionReceipt};
use serde_json::{Value, json};
use simulator::node::ethereum::{BENEFICIARY, Coin, DEMO_TOKEN, EthereumConfig};

use crate::client::{ETHER, GWEI, Key, World, transfer};

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_moves_money_and_every_wei_is_accounted_for() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    let bob = Address::repeat_byte(0x77);
    let miner_before = world.balance(BENEFICIARY).await;
    let hash = world.send(&alice.payment(0, 2 * GWEI)).await;

    let waiting: Transaction = world.get("eth_getTransactionByHash", json!([hash])).await;
    assert_eq!((waiting.block_number, waiting.inner.signer()), (None, alice.address()));
    assert_eq!(world.ask("eth_getTransactionReceipt", json!([hash])).await, Value::Null);
    assert_eq!(world.ask("eth_getTransactionCount", json!([alice.address(), "latest"])).await, "0x0");
    assert_eq!(world.ask("eth_getTransactionCount", json!([alice.address(), "pending"])).await, "0x1");
    assert_eq!(world.ask("eth_getBalance", json!([bob, "pending"])).await, "0x1");
    assert_eq!(world.ask("eth_getBalance", json!([bob, "latest"])).await, "0x0");
    let pending = world.ask("eth_getBlockByNumber", json!(["pending", false])).await;
    assert_eq!((&pending["hash"], &pending["transactions"]), (&Value::Null, &json!([hash])));

    let height = world.node.mine(1).await.unwrap();
    let receipt: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([hash])).await;
    let block: Block = world.get("eth_getBlockByNumber", json!(["latest", true])).await;
    let base_fee = u128::from(block.header.base_fee_per_gas.unwrap());
    assert!(receipt.status());
    assert_eq!((receipt.block_number, receipt.gas_used), (Some(height), 21_000));
    assert_eq!(receipt.effective_gas_price, base_fee + 2 * GWEI);
    assert_eq!((receipt.from, receipt.to), (alice.address(), Some(bob)));

    let fee = U256::from(receipt.effective_gas_price * 21_000);
    assert_eq!(world.balance(bob).await, U256::ONE);
    assert_eq!(world.balance(alice.address()).await, ETHER * U256::from(100) - U256::ONE - fee);
    let earned = world.balance(BENEFICIARY).await - miner_before;
    assert_eq!(earned, U256::from(2 * GWEI * 21_000), "the base fee is burned");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_commit_to_what_the_node_tells() {
    let world = World::start().await;
    let alice = world.rich("alice").await;
    for nonce in 0..3 {
        world.send(&alice.payment(nonce, GWEI)).await;
    }
    world.node.mine(1).await.unwrap();
    world.node.mine(1).await.unwrap();

    let mut parent = B256::ZERO;
    for number in 0..=world.height().await {
        let block: Block = world.get("eth_getBlockByNumber", json!([U256::from(number), true])).await;
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        assert_eq!(block.header.parent_hash, parent);
        parent = block.header.hash;

        let receipts: Vec<TransactionReceipt> = world.get("eth_getBlockReceipts", json!([block.header.hash])).await;
        let inner: Vec<_> = receipts.into_iter().map(|receipt| receipt.inner.into_primitives_receipt()).collect();
        assert_eq!(calculate_receipt_root(&inner), block.header.receipts_root);
        assert_eq!(inner.last().map_or(0, |receipt| receipt.cumulative_gas_used()), block.header.gas_used);
        let transactions: Vec<_> =
            block.transactions.as_transactions().unwrap_or_default().iter().map(|tx| tx.inner.inner()).collect();
        assert_eq!(calculate_transaction_root(&transactions), block.header.transactions_root);

        let by_hash = world.ask("eth_getBlockByHash", json!([parent, true])).await;
        assert_eq!(by_hash, world.ask("eth_getBlockByNumber", json!([U256::from(number), true])).await);
        assert_eq!(by_hash.get("totalDifficulty"), None);
        for field in
            ["mixHash", "nonce", "sha3Uncles", "size", "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash"]
        {
            assert!(by_hash[field].is_string(), "{field}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_roots_are_those_of_another_trie() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/ethereum-state-roots.json")).unwrap();
    let code = format!("0x{}", include_str!("../../assets/DemoToken.bin").trim_end());
    let world = World::start().await;
    let (one, two) = (Address::repeat_byte(0x11), Address::repeat_byte(0x22));
    world.ask("anvil_setBalance", json!([one, "0x10"])).await;
    world.ask("sim_fund", json!([two, "1000000", DEMO_TOKEN])).await;
    world.ask("sim_fund", json!([one, "2500000", DEMO_TOKEN])).await;
    for block in vectors["blocks"].as_array().unwrap() {
        let number = &block["number"];
        let header = world.ask("eth_getHeaderByNumber", json!([number])).await;
        assert_eq!(header["stateRoot"], block["state_root"]);
        for account in block["accounts"].as_array().unwrap() {
            let address = &account["address"];
            let balance: U256 = account["balance"].as_str().unwrap().parse().unwrap();
            assert_eq!(world.ask("eth_getBalance", json!([address, number])).await, json!(balance));
            assert_eq!(world.ask("eth_getTransactionCount", json!([address, number])).await, account["nonce"]);
            let expected = if account["code"] == true { code.as_str() } else { "0x" };
            assert_eq!(world.ask("eth_getCode", json!([address, number])).await, expected);
            for (slot, value) in account["storage"].as_object().into_iter().flatten() {
                assert_eq!(&world.ask("eth_getStorageAt", json!([address, slot, number])).await, value);
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_fee_follows_eip_1559() {
    let world = World::start().await;
    let fee = async |number: u64| {
        let block: Block = world.get("eth_getBlockByNumber", json!([U256::from(number), false])).await;
        (block.header.base_fee_per_gas.unwrap(), block.header.gas_used)
    };
    world.node.mine(2).await.unwrap();
    // An empty parent lowers the fee by an eighth.
    assert_eq!(fee(0).await, (1_000_000_000, 0));
    assert_eq!(fee(1).await, (875_000_000, 0));
    assert_eq!(fee(2).await, (765_625_000, 0));

    // A block of 25 million gas (an endless loop takes all it gets) raises the fee: 669_921_875 * 10 / 15 / 8 more.
    let alice = world.rich("alice").await;
    let (before, _) = fee(3).await;
    let mut burner = transfer(0, GWEI);
    // JUMPDEST PUSH1 0 JUMP as creation code.
    burner.to = alloy::primitives::TxKind::Create;
    burner.input = alloy::primitives::bytes!("5b600056");
    burner.gas_limit = 25_000_000;
    let hash = world.send(&alice.sign(burner)).await;
    world.node.mine(2).await.unwrap();
    let receipt: TransactionReceipt = world.get("eth_getTransactionReceipt", json!([hash])).await;
    assert!(!receipt.status());
    assert_eq!(receipt.contract_address, Some(alice.address().create(0)));
    let (at, used) = fee(4).await;
    assert_eq!(used, 25_000_000);
    assert!(at < before);
    assert_eq!(fee(5).await.0, at + at * (25_000_000 - 15_000_000) / 15_000_000 / 8);

    let history: FeeHistory = world.get("eth_feeHistory", json!(["0x3", "latest", [0, 50.5, 100]])).await;
    assert_eq!(history.oldest_block, 3);
    assert_eq!(history.base_fee_per_gas.len(), 4);
    assert_eq!(history.gas_used_ratio.len(), 3);
    assert_eq!(format!("{:.6}", history.gas_used_ratio[1]), "0.833333");
    let reward = history.reward.unwrap();
    assert_eq!((reward[1].as_slice(), reward[2].as_slice()), ([GWEI; 3].as_slice(), [0; 3].as_slice()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_follow_the_head_and_old_states_can_be_read_for_a_while() {
    let world = World::start().await;
    let address = Key::new("carol").address();
    for _ in 0..6 {
        world.node.fund(&address.to_string(), U256::from(5), Coin::Ether).await.unwrap();
    }
    let number = async |tag: &str| -> U256 {
        world.get::<Block>("eth_getBlockByNumber", json!([tag, false])).await.header.number.try_into().unwrap()
    };
    assert_eq!(number("latest").await, U256::from(6));
    assert_eq!(number("safe").await, U256::from(4));
    assert_eq!(number("finalized").await, U256::from(2));
    assert_eq!(number("earliest").await, U256::ZERO);
    for height in 0..=6_u64 {
        let held: U256 = world.get("eth_getBalance", json!([address, U256::from(height)])).await;
        assert_eq!(held, U256::from(5 * height));
        let block: Block = world.get("eth_getBlockByNumber", json!([U256::from(height), false])).await;
        let by_hash: U256 = world.get("eth_getBalance", json!([address, { "blockHash": block.header.hash }])).await;
        assert_eq!(by_hash, held);
    }
    assert_eq!(world.refused("eth_getBalance", json!([address, "0x7"])).await.1, "header not found");

    world.node.mine(127).await.unwrap();
    let held: U256 = world.get("eth_getBalance", json!([address, "0x6"])).await;
    assert_eq!(held, U256::from(30));
    let (code, message, _) = world.refused("eth_getBalance", json!([address, "0x5"])).await;
    assert_eq!(code, -32000);
    assert!(message.starts_with("missing trie node "), "{message}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_faucet_pays_ether_and_tokens() {
    let world = World::start().await;
    let address = Key::new("dave").address();
    let hash = world.ask("sim_fund", json!([address, "1234567890123456789"])).await;
    assert_eq!(world.ask("eth_getTransactionReceipt", json!([hash])).await["status"], "0x1");
    assert_eq!(world.balance(address).await, U256::from(1_234_567_890_123_456_789_u64));
    let hash = world.ask("sim_fund", json!([address, "5000000", DEMO_TOKEN])).await;
    let receipt = world.ask("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["logs"].as_array().unwrap().len(), 1);

    let (code, message, _) = world.refused("sim_fund", json!([address, "5", address])).await;
    assert_eq!((code, message), (-32000, format!("there is no contract at {address}")));
    assert_eq!(world.refused("sim_fund", json!([address, "five"])).await.0, -32602);
    assert_eq!(world.refused("sim_fund", json!([address, "5", "gold"])).await.0, -32602);
    assert_eq!(world.refused("sim_fund", json!(["0x12", "5"])).await.0, -32602);
    assert!(world.node.fund("nobody", U256::ONE, Coin::Ether).await.is_err());

    world.ask("anvil_setBalance", json!([address, "0x10"])).await;
    assert_eq!(world.balance(address).await, U256::from(16));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_on_demand_in_time_and_on_an_interval() {
    let world = World::start().await;
    assert_eq!(world.ask("sim_mine", json!([3])).await, "0x3");
    assert_eq!(world.ask("evm_mine", json!([])).await, "0x0");
    assert_eq!(world.ask("anvil_mine", json!(["0x2"])).await, Value::Null);
    assert_eq!(world.height().await, 6);
    let time = async |world: &World| {
        world.get::<Block>("eth_getBlockByNumber", json!(["latest", false])).await.header.timestamp
    };
    // The clock stands still, so blocks follow each other by a second.
    assert_eq!(time(&world).await, 1_700_000_006);
    world.clock.advance(Duration::from_secs(100));
    world.node.mine(1).await.unwrap();
    assert_eq!(time(&world).await, 1_700_000_100);
    assert_eq!(world.ask("evm_increaseTime", json!([50])).await, 50);
    world.node.mine(1).await.unwrap();
    assert_eq!(time(&world).await, 1_700_000_150);
    assert_eq!(world.refused("sim_mine", json!([1_000_000_000])).await.0, -32602);
    world.stop().await;

    let config = EthereumConfig { block_interval: Some(Duration::from_millis(5)), ..EthereumConfig::default() };
    let world = World::start_with(config).await;
    let grows = async { while world.height().await < 5 {} };
    tokio::time::timeout(Duration::from_secs(60), grows).await.expect("the node makes blocks by itself");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pending_block_grows_with_the_mempool() {
    let world = World::start().await;
    let (alice, bob) = (world.rich("alice").await, world.rich("bob").await);
    let payee = Address::repeat_byte(0x77);
    let expect = async |paid: u64, hashes: &[B256]| {
        assert_eq!(world.ask("eth_getBalance", json!([payee, "pending"])).await, json!(U256::from(paid)));
        let block = world.ask("eth_getBlockByNumber", json!(["pending", false])).await;
        assert_eq!(block["transactions"], json!(hashes));
        assert_eq!(world.ask("eth_getBalance", json!([payee, "latest"])).await, "0x0");
        block
    };
    let empty = expect(0, &[]).await;
    let first = world.send(&alice.payment(0, GWEI)).await;
    let grown = expect(1, &[first]).await;
    for root in ["transactionsRoot", "receiptsRoot"] {
        assert_ne!(grown[root], empty[root]);
    }
    // What follows on a gap is there as soon as the gap is filled, and a token balance too.
    let third = world.send(&alice.payment(2, GWEI)).await;
    expect(1, &[first]).await;
    let second = world.send(&alice.payment(1, GWEI)).await;
    expect(3, &[first, second, third]).await;
    let other = world.send(&bob.payment(0, 2 * GWEI)).await;
    expect(4, &[first, second, third, other]).await;
    // A replacement leaves its predecessor out.
    let dearer = world.send(&alice.payment(2, 30 * GWEI)).await;
    let block = world.ask("eth_getBlockByNumber", json!(["pending", false])).await;
    let hashes: Vec<B256> = serde_json::from_value(block["transactions"].clone()).unwrap();
    assert!(hashes.contains(&dearer) && !hashes.contains(&third) && hashes.len() == 4);
    // The block that is sealed in the end has the best first.
    world.node.mine(1).await.unwrap();
    let sealed = world.ask("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(sealed["transactions"], json!([other, first, second, dearer]));
    assert_eq!(world.balance(payee).await, U256::from(4));
    world.stop().await;
}
