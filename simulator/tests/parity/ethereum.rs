//! The Ethereum suite: the simulated node against `anvil`, with blocks on demand on both.

mod simulate;

use std::process::Command;
use std::sync::Arc;

use alloy::consensus::{TxEip1559, TxEip2930, TxLegacy};
use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U256};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::ethereum::{EthereumConfig, EthereumNode};
use simulator::rpc::CancellationToken;

use crate::client::{CHAIN, ETHER, GWEI, Key, transfer};
use crate::subject::{Process, Subject};
use crate::transcript::{Known, Transcript};

/// The simulated node answers as geth does; where anvil doesn't, anvil is the one that differs.
const KNOWN: &[Known] = &[
    Known { step: "*", place: "blobGasPrice", why: "anvil tells it of every receipt, geth of blob transactions only" },
    Known { step: "*", place: "[].blobGasPrice", why: "the same" },
    Known { step: "*", place: "blockTimestamp", why: "anvil adds it to receipts; geth has it in logs only" },
    Known { step: "*", place: "[].blockTimestamp", why: "the same" },
    Known { step: "*", place: "totalDifficulty", why: "geth has left it out since the merge" },
    Known { step: "the pending block", place: "*", why: "geth says nothing that only sealing decides" },
    Known { step: "eth_gasPrice", place: "*", why: "geth adds the newest block's base fee, anvil the next one's" },
    Known { step: "no transaction", place: "code", why: "geth's code is -32000, anvil's -32602" },
    Known { step: "reverts of *", place: "message", why: "geth's words for a panic" },
    Known { step: "eth_call ends *", place: "*", why: "geth's code and words for what isn't a revert" },
    Known { step: "eth_call beyond the balance", place: "code", why: "geth's code is -32000, anvil's -32003" },
    Known { step: "eth_estimateGas beyond the balance", place: "code", why: "geth refuses it, anvil doesn't look" },
    Known { step: "logs of a range*", place: "code", why: "geth refuses it, anvil finds nothing" },
    Known { step: "a balance in the future", place: "code", why: "geth's code is -32000, anvil's -32602" },
    Known { step: "the fee history without rewards", place: "reward.[]", why: "geth leaves an empty list out" },
    Known { step: "percentiles out of order", place: "code", why: "geth refuses them, anvil sorts" },
    Known {
        step: "simulated: failure*",
        place: "0.code",
        why: "the specification's -32015, or 3 of a revert; anvil says -3200",
    },
    Known { step: "simulated: failure*", place: "0.error", why: "geth names the error, anvil says that it failed" },
    Known {
        step: "simulated: failure*",
        place: "0.logs*",
        why: "geth tells nothing of what is undone; anvil, the payment",
    },
    Known {
        step: "traced: *",
        place: "gas",
        why: "geth shows a transaction's limit, anvil what of it is left for its code",
    },
    Known { step: "the code of no JSON", place: "*", why: "JSON-RPC 2.0 says -32700; anvil says -32600" },
];

sol! {
    function mint(address to, uint256 value) external returns (bool);
    function transfer(address to, uint256 value) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
}

/// A run of the suite on one node.
struct Run {
    node: Subject,
    notes: Transcript,
    alice: Key,
    bob: Address,
}

impl Run {
    async fn on(url: &str) -> Transcript {
        let (alice, bob) = (Key::new("alice of the parity suite"), Address::repeat_byte(0xb0));
        let mut run = Self { node: Subject::new(url), notes: Transcript::new("ethereum"), alice, bob };
        run.about_the_node().await;
        run.transfers().await;
        run.refusals().await;
        run.replacement().await;
        run.contracts().await;
        run.logs().await;
        run.simulations().await;
        run.blocks().await;
        run.bad_requests().await;
        run.notes
    }

    async fn height(&self) -> U64 {
        self.node.get("eth_blockNumber", json!([])).await
    }

    /// Gives an account money. On the simulated node that takes a block, so the others make one too.
    async fn rich(&self, address: Address) {
        let before = self.height().await;
        self.node.ask("anvil_setBalance", json!([address, ETHER * U256::from(100)])).await;
        if self.height().await == before {
            self.mine().await;
        }
    }

    async fn mine(&self) {
        self.node.ask("evm_mine", json!([])).await;
    }

    async fn send(&self, raw: &Bytes) -> B256 {
        self.node.get("eth_sendRawTransaction", json!([raw])).await
    }

    /// Sends a transaction, mines it and returns its receipt.
    async fn receipt(&self, raw: &Bytes) -> Value {
        let hash = self.send(raw).await;
        self.mine().await;
        let receipt = self.node.ask("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(receipt["transactionHash"], json!(hash));
        receipt
    }

    async fn shape(&mut self, step: &str, method: &str, params: Value) -> Value {
        let answer = self.node.ask(method, params).await;
        self.notes.shape(step, &answer);
        answer
    }

    async fn exact(&mut self, step: &str, method: &str, params: Value) -> Value {
        let answer = self.node.ask(method, params).await;
        self.notes.exact(step, &answer);
        answer
    }

    /// What a transaction's receipt says of it, null while there is none.
    async fn status(&self, hash: B256) -> Value {
        self.node.ask("eth_getTransactionReceipt", json!([hash])).await["status"].clone()
    }

    /// Notes the code of a refusal: words that no client reads.
    async fn code(&mut self, step: &str, method: &str, params: Value) {
        let outcome = self.node.call(method, params).await;
        self.notes.code(step, outcome);
    }

    async fn nonce(&self) -> u64 {
        self.node.get::<U64>("eth_getTransactionCount", json!([self.alice.address(), "pending"])).await.to()
    }

    async fn about_the_node(&mut self) {
        for method in ["eth_chainId", "net_version", "net_listening", "eth_syncing", "eth_blockNumber", "eth_gasPrice"]
        {
            self.exact(method, method, json!([])).await;
        }
        for method in ["web3_clientVersion", "eth_maxPriorityFeePerGas", "eth_blobBaseFee"] {
            self.shape(method, method, json!([])).await;
        }
        self.exact("web3_sha3", "web3_sha3", json!(["0x68656c6c6f"])).await;
        let nobody = Address::repeat_byte(0x0d);
        self.exact("the balance of nobody", "eth_getBalance", json!([nobody, "latest"])).await;
        self.exact("the code of nobody", "eth_getCode", json!([nobody, "latest"])).await;
        self.exact("the nonce of nobody", "eth_getTransactionCount", json!([nobody, "latest"])).await;
        self.exact("the storage of nobody", "eth_getStorageAt", json!([nobody, "0x0", "latest"])).await;
        let missing = json!([B256::repeat_byte(1)]);
        for method in ["eth_getTransactionByHash", "eth_getTransactionReceipt"] {
            self.exact(&format!("{method} of nothing"), method, missing.clone()).await;
        }
    }

    /// Transactions of every type from the pool into a block.
    async fn transfers(&mut self) {
        let alice = self.alice.address();
        self.rich(alice).await;
        self.exact("a balance", "eth_getBalance", json!([alice, "latest"])).await;
        let to = TxKind::Call(self.bob);
        let value = U256::from(7);
        let legacy = TxLegacy {
            chain_id: Some(CHAIN),
            nonce: 0,
            gas_price: 3 * GWEI,
            gas_limit: 21_000,
            to,
            value,
            ..TxLegacy::default()
        };
        let listed = TxEip2930 {
            chain_id: CHAIN,
            nonce: 1,
            gas_price: 3 * GWEI,
            gas_limit: 21_000,
            to,
            value,
            ..TxEip2930::default()
        };
        let dynamic = TxEip1559 { nonce: 2, to: TxKind::Call(self.bob), value, ..transfer(2, GWEI) };
        let raws = [self.alice.sign(legacy), self.alice.sign(listed), self.alice.sign(dynamic)];
        let mut hashes = Vec::new();
        for (kind, raw) in raws.iter().enumerate() {
            let hash = self.send(raw).await;
            self.notes.exact(format!("the hash of type {kind}"), &json!(hash));
            self.shape(&format!("type {kind} in the pool"), "eth_getTransactionByHash", json!([hash])).await;
            hashes.push(hash);
        }
        self.exact("the pool", "txpool_status", json!([])).await;
        let content = self.node.ask("txpool_content", json!([])).await;
        // geth writes senders with their checksums, anvil without.
        let waiting = content["pending"].as_object().unwrap().values().next().unwrap();
        self.notes.shape("the pool's content", &json!({ "pending": waiting, "queued": content["queued"] }));
        for tag in ["latest", "pending"] {
            self.exact(&format!("the nonce as of {tag}"), "eth_getTransactionCount", json!([alice, tag])).await;
        }
        self.mine().await;
        for (kind, hash) in hashes.iter().enumerate() {
            let shown = self.shape(&format!("type {kind} in a block"), "eth_getTransactionByHash", json!([hash])).await;
            let names =
                ["type", "nonce", "from", "to", "value", "input", "gas", "gasPrice", "chainId", "transactionIndex"];
            self.notes.fields(format!("fields of type {kind}"), &shown, &names);
            let receipt =
                self.shape(&format!("the receipt of type {kind}"), "eth_getTransactionReceipt", json!([hash])).await;
            let names = [
                "status",
                "type",
                "gasUsed",
                "cumulativeGasUsed",
                "effectiveGasPrice",
                "contractAddress",
                "from",
                "to",
                "logs",
                "logsBloom",
                "transactionIndex",
            ];
            self.notes.fields(format!("fields of the receipt of type {kind}"), &receipt, &names);
        }
        self.exact("the payee's balance", "eth_getBalance", json!([self.bob, "latest"])).await;
        self.exact("the payer's balance", "eth_getBalance", json!([alice, "latest"])).await;
        self.exact("the empty pool", "txpool_status", json!([])).await;
        let place = json!(["latest", "0x1"]);
        self.shape("a transaction by its place", "eth_getTransactionByBlockNumberAndIndex", place).await;
        self.exact("no transaction at a place", "eth_getTransactionByBlockNumberAndIndex", json!(["latest", "0x9"]))
            .await;
    }

    async fn refusal(&mut self, step: &str, raw: &Bytes) {
        match self.node.call("eth_sendRawTransaction", json!([raw])).await {
            Err(refusal) => self.notes.class(step, &refusal),
            Ok(_) => self.notes.exact(step, &json!("taken")),
        }
    }

    /// What the gateway concludes from each refusal.
    async fn refusals(&mut self) {
        let next = self.nonce().await;
        let alice = Key::new("alice of the parity suite");
        let change = |make: &dyn Fn(&mut TxEip1559)| {
            let mut tx = transfer(next, GWEI);
            make(&mut tx);
            alice.sign(tx)
        };
        self.refusal("a used nonce", &change(&|tx| tx.nonce = 0)).await;
        self.refusal("more than there is", &change(&|tx| tx.value = ETHER * U256::from(1_000))).await;
        self.refusal("too little gas to start", &change(&|tx| tx.gas_limit = 20_000)).await;
        self.refusal("more gas than a block has", &change(&|tx| tx.gas_limit = 40_000_000)).await;
        self.refusal("another chain", &change(&|tx| tx.chain_id = 1)).await;
        self.refusal("a tip above the fee", &change(&|tx| tx.max_priority_fee_per_gas = tx.max_fee_per_gas + 1)).await;
        self.code("no transaction", "eth_sendRawTransaction", json!(["0x02c0"])).await;
        self.refusal("an empty account", &Key::new("a poor key").sign(transfer(0, GWEI))).await;
        self.exact("nothing was taken", "txpool_status", json!([])).await;
    }

    /// A transaction in the pool, again, and others in its place.
    async fn replacement(&mut self) {
        let next = self.nonce().await;
        let raw = self.alice.sign(transfer(next, 20 * GWEI));
        let first = self.send(&raw).await;
        self.refusal("the same again", &raw).await;
        let with = |value: u64, tip: u128| {
            let mut tx = transfer(next, tip);
            (tx.value, tx.max_fee_per_gas) = (U256::from(value), 10 * tip);
            tx
        };
        let dear = self.alice.sign(with(2, 100 * GWEI));
        // geth asks for a tenth more, anvil for anything more.
        let same = TxEip1559 { max_fee_per_gas: 30 * GWEI, ..with(2, 20 * GWEI) };
        self.refusal("no more than before", &self.alice.sign(same)).await;
        let second = self.send(&dear).await;
        self.exact("the replaced one", "eth_getTransactionByHash", json!([first])).await;
        // One beyond a gap waits; the gap filled, both are mined.
        let later = self.send(&self.alice.sign(transfer(next + 2, GWEI))).await;
        self.exact("one waits for its turn", "txpool_status", json!([])).await;
        self.mine().await;
        let (mined, waits) = (self.status(second).await, self.status(later).await);
        self.notes.exact("the replacement is mined, the later one isn't", &json!([mined, waits]));
        self.send(&self.alice.sign(transfer(next + 1, GWEI))).await;
        self.mine().await;
        let mined = self.status(later).await;
        self.notes.exact("the gap is filled", &mined);
        self.exact("the pool after the gap", "txpool_status", json!([])).await;
    }

    /// A token: deployed, called, tried; reverts with their reasons.
    async fn contracts(&mut self) {
        let runtime = hex::decode(include_str!("../../assets/DemoToken.bin").trim()).unwrap();
        // A constructor that returns the runtime code: PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE, CODECOPY, RETURNDATASIZE, RETURN.
        let length = u16::try_from(runtime.len()).unwrap().to_be_bytes();
        let code = [&[0x61], &length[..], &hex::decode("80600a3d393df3").unwrap(), &runtime].concat();
        let nonce = self.nonce().await;
        let call = |nonce: u64, to: TxKind, input: Vec<u8>, gas_limit: u64| TxEip1559 {
            to,
            input: input.into(),
            gas_limit,
            value: U256::ZERO,
            ..transfer(nonce, GWEI)
        };
        let names = ["status", "gasUsed", "contractAddress", "to", "logsBloom"];
        let request = json!({ "from": self.alice.address(), "data": Bytes::from(code.clone()) });
        let estimate: U64 = self.node.get("eth_estimateGas", json!([request])).await;
        let receipt = self.receipt(&self.alice.sign(call(nonce, TxKind::Create, code, 2_000_000))).await;
        self.notes.fields("the deployment", &receipt, &names);
        self.notes.shape("the receipt of the deployment", &receipt);
        self.estimated("the deployment", estimate, &receipt);
        let token: Address = serde_json::from_value(receipt["contractAddress"].clone()).unwrap();
        self.exact("the code", "eth_getCode", json!([token, "latest"])).await;

        let me = self.alice.address();
        let mint = mintCall { to: me, value: U256::from(1_000) }.abi_encode();
        let receipt = self.receipt(&self.alice.sign(call(nonce + 1, TxKind::Call(token), mint, 100_000))).await;
        self.notes.fields("minting", &receipt, &names);
        self.notes.shape("a receipt with a log", &receipt);
        self.notes.fields("a log", &receipt["logs"][0], &["address", "topics", "data", "logIndex", "removed"]);
        let bob = self.bob;
        let give = |value: u64| transferCall { to: bob, value: U256::from(value) }.abi_encode();
        let request = |value: u64| json!({ "from": me, "to": token, "input": Bytes::from(give(value)) });
        let estimate: U64 = self.node.get("eth_estimateGas", json!([request(400)])).await;
        let receipt = self.receipt(&self.alice.sign(call(nonce + 2, TxKind::Call(token), give(400), 100_000))).await;
        self.notes.fields("a token transfer", &receipt, &names);
        self.estimated("a token transfer", estimate, &receipt);
        let reverted = self.receipt(&self.alice.sign(call(nonce + 3, TxKind::Call(token), give(4_000), 100_000))).await;
        self.notes.fields("a reverted transfer", &reverted, &names);
        let starved = self.receipt(&self.alice.sign(call(nonce + 4, TxKind::Call(token), give(1), 25_000))).await;
        self.notes.fields("a starved transfer", &starved, &names);

        let held = Bytes::from(balanceOfCall { owner: self.bob }.abi_encode());
        let read = json!({ "to": token, "data": held });
        self.exact("a call", "eth_call", json!([read, "latest"])).await;
        self.exact("a call of the past", "eth_call", json!([read, receipt["blockNumber"]])).await;
        let before: U64 = serde_json::from_value(receipt["blockNumber"].clone()).unwrap();
        self.exact("a call before it", "eth_call", json!([read, before - U64::ONE])).await;
        let by_hash = json!({ "blockHash": receipt["blockHash"] });
        self.exact("a call at a block's hash", "eth_call", json!([read, by_hash])).await;
        let slot = alloy::primitives::keccak256([self.bob.into_word(), B256::with_last_byte(1)].concat());
        self.exact("storage", "eth_getStorageAt", json!([token, slot, "latest"])).await;
        let overrides = json!({ token.to_string(): { "stateDiff": { slot.to_string(): B256::with_last_byte(9) } } });
        self.exact("a call on another state", "eth_call", json!([read, "latest", overrides])).await;

        // Reverted calls: the words and the data, by which clients decode the reason.
        let overflow = json!({ "to": token, "input": Bytes::from(mintCall { to: me, value: U256::MAX }.abi_encode()) });
        for (step, request) in [("with a reason", request(4_000)), ("with a panic", overflow)] {
            for method in ["eth_call", "eth_estimateGas"] {
                let refusal = self.node.refused(method, json!([request, "latest"])).await;
                self.notes.refusal(format!("reverts of {method} {step}"), &refusal);
                self.notes.exact(format!("the data of {method} that reverts {step}"), &refusal.data);
            }
        }
        // Code that isn't deployed: REVERT without data, INVALID, an endless loop.
        for (step, code) in [("bare", "0x5f5ffd"), ("an invalid instruction", "0xfe"), ("a loop", "0x5b5f56")] {
            let request = json!({ "from": me, "input": code, "gas": "0x186a0" });
            let refusal = self.node.refused("eth_call", json!([request, "latest"])).await;
            self.notes.refusal(format!("eth_call ends {step}"), &refusal);
        }
        let poor = json!({ "from": Address::repeat_byte(0x99), "to": self.bob, "value": "0x1" });
        for method in ["eth_call", "eth_estimateGas"] {
            self.code(&format!("{method} beyond the balance"), method, json!([poor, "latest"])).await;
        }
    }

    /// An estimate suffices and isn't much more than what was used.
    fn estimated(&mut self, what: &str, estimate: U64, receipt: &Value) {
        let used: U64 = serde_json::from_value(receipt["gasUsed"].clone()).unwrap();
        let fits = used <= estimate && estimate.to::<u64>() <= used.to::<u64>() * 103 / 100;
        self.notes.exact(format!("the estimate of {what} fits"), &json!(fits));
    }

    /// Logs by block, address and topic, and filters.
    async fn logs(&mut self) {
        let nonce = self.nonce().await;
        let token = self.alice.address().create(nonce);
        // A contract that logs its input's first word under two topics, one of them the caller:
        // CALLER, PUSH1 7, CALLDATASIZE, 0, 0, CALLDATACOPY, CALLDATASIZE, 0, LOG2 and STOP.
        let runtime = "3360073660005f37365fa200";
        let length = runtime.len() / 2;
        let code = hex::decode(format!("60{length:02x}8060095f395ff3{runtime}")).unwrap();
        let deployment = TxEip1559 {
            to: TxKind::Create,
            input: code.into(),
            gas_limit: 200_000,
            value: U256::ZERO,
            ..transfer(nonce, GWEI)
        };
        let receipt = self.receipt(&self.alice.sign(deployment)).await;
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        assert_eq!(receipt["contractAddress"], json!(token));

        let filter = json!({ "address": token });
        let polled = self.node.ask("eth_newFilter", json!([filter])).await;
        let blocks = self.node.ask("eth_newBlockFilter", json!([])).await;
        let pending = self.node.ask("eth_newPendingTransactionFilter", json!([])).await;
        self.notes.shape("a filter's name", &polled);
        let mut receipts = Vec::new();
        for offset in 1..3 {
            let tx = TxEip1559 {
                to: TxKind::Call(token),
                input: B256::with_last_byte(u8::try_from(offset).unwrap()).into(),
                gas_limit: 60_000,
                value: U256::ZERO,
                ..transfer(nonce + offset, GWEI)
            };
            receipts.push(self.receipt(&self.alice.sign(tx)).await);
        }
        let range = json!({ "fromBlock": receipts[0]["blockNumber"], "toBlock": "latest", "address": token });
        let found = self.shape("logs", "eth_getLogs", json!([range])).await;
        self.notes.exact("the logs' data", &json!([found[0]["data"], found[1]["data"], found[0]["topics"]]));
        let caller = self.alice.address().into_word();
        let with = |name: &str, value: Value| {
            let mut filter = range.clone();
            filter[name] = value;
            filter
        };
        for (step, filter) in [
            ("one block", json!({ "blockHash": receipts[1]["blockHash"] })),
            ("a topic", with("topics", json!([B256::with_last_byte(7)]))),
            ("any and a topic", with("topics", json!([null, caller]))),
            ("one of two topics", with("topics", json!([[B256::ZERO, B256::with_last_byte(7)]]))),
            ("another topic", with("topics", json!([B256::ZERO]))),
            ("two addresses", with("address", json!([token, self.bob]))),
            ("another address", with("address", json!(self.bob))),
            ("no block yet", with("fromBlock", json!("latest"))),
        ] {
            let found = self.node.ask("eth_getLogs", json!([filter])).await;
            self.notes.exact(format!("logs of {step}"), &json!(found.as_array().unwrap().len()));
        }
        for (step, filter) in [
            ("a range that ends before it starts", json!({ "fromBlock": "0x3", "toBlock": "0x1" })),
            ("an unknown block", json!({ "blockHash": B256::repeat_byte(3) })),
        ] {
            self.code(&format!("logs of {step}"), "eth_getLogs", json!([filter])).await;
        }
        let news = self.shape("a filter's news", "eth_getFilterChanges", json!([polled])).await;
        self.notes.exact("a filter's data", &json!([news[0]["data"], news[1]["data"]]));
        self.exact("nothing since", "eth_getFilterChanges", json!([polled])).await;
        self.shape("all of a filter", "eth_getFilterLogs", json!([polled])).await;
        let hashes = self.shape("new blocks", "eth_getFilterChanges", json!([blocks])).await;
        self.notes.exact("their number", &json!(hashes.as_array().unwrap().len()));
        let hashes = self.node.ask("eth_getFilterChanges", json!([pending])).await;
        self.notes.exact(
            "new transactions",
            &json!([hashes[0] == receipts[0]["transactionHash"], hashes.as_array().unwrap().len()]),
        );
        self.exact("a filter goes", "eth_uninstallFilter", json!([polled])).await;
        self.exact("it has gone", "eth_uninstallFilter", json!([polled])).await;
        self.code("no such filter", "eth_getFilterChanges", json!([polled])).await;
    }

    /// Blocks by tag, number and digest; fees.
    async fn blocks(&mut self) {
        let height = self.height().await;
        self.notes.exact("the height", &json!(height));
        for tag in ["latest", "earliest", "pending", "safe", "finalized"] {
            self.shape(&format!("the {tag} block"), "eth_getBlockByNumber", json!([tag, false])).await;
        }
        let latest = self.shape("a block with transactions", "eth_getBlockByNumber", json!(["latest", true])).await;
        let names = [
            "number",
            "gasUsed",
            "gasLimit",
            "baseFeePerGas",
            "sha3Uncles",
            "difficulty",
            "nonce",
            "transactionsRoot",
            "receiptsRoot",
            "logsBloom",
            "uncles",
        ];
        self.notes.fields("fields of a block", &latest, &names);
        let hash = latest["hash"].clone();
        self.shape("a block by its hash", "eth_getBlockByHash", json!([hash, false])).await;
        self.shape("a block's receipts", "eth_getBlockReceipts", json!([hash])).await;
        self.exact("a block's count", "eth_getBlockTransactionCountByNumber", json!(["latest"])).await;
        self.exact("a block's uncles", "eth_getUncleCountByBlockHash", json!([hash])).await;
        self.exact("no block yet", "eth_getBlockByNumber", json!(["0xffffff", false])).await;
        self.exact("no block", "eth_getBlockByHash", json!([B256::repeat_byte(9), false])).await;
        self.code("a balance in the future", "eth_getBalance", json!([self.bob, "0xffffff"])).await;

        let history = self.shape("the fee history", "eth_feeHistory", json!(["0x5", "latest", [10.0, 50.0]])).await;
        self.notes.fields("fields of the fee history", &history, &["oldestBlock", "baseFeePerGas", "reward"]);
        self.shape("the fee history without rewards", "eth_feeHistory", json!(["0x2", "latest", []])).await;
        self.code("percentiles out of order", "eth_feeHistory", json!(["0x2", "latest", [50.0, 10.0]])).await;
    }

    async fn bad_requests(&mut self) {
        for (step, body) in [
            ("no JSON", "{"),
            ("no request", "[1]"),
            ("no version", r#"{"id":1,"method":"eth_chainId","params":[]}"#),
            ("no method", r#"{"jsonrpc":"2.0","id":1,"params":[]}"#),
            ("an unknown method", r#"{"jsonrpc":"2.0","id":1,"method":"eth_nonsense","params":[]}"#),
            ("a bad address", r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x12","latest"]}"#),
            ("a missing parameter", r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}"#),
            ("a bad quantity", r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["zz",false]}"#),
        ] {
            let (_, answer) = self.node.post(body).await;
            let answer = answer.get(0).unwrap_or(&answer);
            self.notes.exact(format!("the code of {step}"), &answer["error"]["code"]);
        }
        let batch = r#"[{"jsonrpc":"2.0","id":"a","method":"eth_chainId"},{"jsonrpc":"2.0","id":7,"method":"net_version","params":[]}]"#;
        let (status, answer) = self.node.post(batch).await;
        self.notes.exact("a batch", &json!([status, answer]));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs anvil; tests/run installs and names it"]
async fn the_ethereum_node_answers_as_anvil_does() {
    let program = std::env::var("PORTCULLIS_ANVIL").expect("tests/run names anvil in PORTCULLIS_ANVIL");
    let gas = simulator::node::ethereum::BLOCK_GAS_LIMIT.to_string();
    // anvil takes the base fee of the first block after genesis: an eighth less than the genesis block's of the simulated node.
    let (_anvil, line) = Process::start(
        Command::new(program)
            .args(["--port", "0", "--no-mining", "--hardfork", "prague", "--chain-id", "31337", "--gas-limit", &gas])
            .args(["--slots-in-an-epoch", "2", "--block-base-fee-per-gas", "875000000"]),
        "Listening on",
    );
    let real = Run::on(&format!("http://{}", line.split_whitespace().last().unwrap())).await;

    let shutdown = CancellationToken::new();
    let node = EthereumNode::start(EthereumConfig::default(), Arc::new(SystemClock), shutdown.clone()).await.unwrap();
    let simulated = Run::on(&node.url()).await;
    shutdown.cancel();
    node.stopped().await;
    Transcript::compare(&simulated, &real, KNOWN);
}
