//! `eth_simulateV1` and `debug_traceCall`: what calls come to.
//!
//! anvil counts and links simulated blocks otherwise than geth does, and validates nothing. That part is held against the specification in
//! `simulator/tests/ethereum/simulate.rs`.

use alloy::primitives::{Address, B256, U64, U256};
use serde_json::{Value, json};

use super::Run;
use crate::client::ETHER;

/// An account that has nothing but what an override gives it.
const RICH: Address = Address::repeat_byte(0x51);
/// Where an override puts code.
const CODE: Address = Address::repeat_byte(0x52);
/// Logs its caller under the topic 7, with the call's data: CALLER, PUSH1 7, CALLDATASIZE, 0, 0, CALLDATACOPY, CALLDATASIZE, 0, LOG2.
const LOGS: &str = "0x3360073660005f37365fa200";
/// Pays 2 wei on to 0x5555…55: CALL with all gas and no data.
const PAYS_ON: &str = "0x5f5f5f5f60027355555555555555555555555555555555555555555af100";
/// The words of `Error(string)` with "no".
const REVERTS: &str = "0x7f08c379a0000000000000000000000000000000000000000000000000000000005f5260206004526002602452\
    7f6e6f00000000000000000000000000000000000000000000000000000000000060445260645ffd";

impl Run {
    /// Calls in blocks that aren't there.
    pub(super) async fn simulations(&mut self) {
        let rich = json!({ RICH.to_string(): { "balance": ETHER } });
        let with = |code: &str| {
            let mut overrides = rich.clone();
            overrides[CODE.to_string()] = json!({ "code": code });
            overrides
        };
        let to =
            |to: Address, value: u64| json!({ "from": RICH, "to": to, "value": U256::from(value), "gas": "0x186a0" });
        let data = |data: &str| json!({ "from": RICH, "to": CODE, "input": data, "gas": "0x186a0" });

        // What calls come to, one after the other.
        for (step, code, calls) in [
            ("a payment", LOGS, vec![to(self.bob, 5)]),
            ("payments in a row", LOGS, vec![to(Address::repeat_byte(0x53), 5), to(self.bob, 1)]),
            ("a log", LOGS, vec![data("0x01"), data("0x0203")]),
            ("a payment within", PAYS_ON, vec![to(CODE, 3)]),
            ("failure by a reason", REVERTS, vec![data("0x")]),
            ("failure by a bare revert", "0x5f5ffd", vec![to(CODE, 3)]),
            ("failure by an invalid instruction", "0xfe", vec![to(CODE, 3)]),
            ("failure by too little gas", "0x5b5f56", vec![data("0x"), to(self.bob, 1)]),
        ] {
            let block = json!({ "stateOverrides": with(code), "calls": calls });
            let payload = json!({ "blockStateCalls": [block], "traceTransfers": true });
            let blocks = self.node.ask("eth_simulateV1", json!([payload, "latest"])).await;
            let found: Vec<Value> = blocks[0]["calls"].as_array().unwrap().iter().map(told).collect();
            self.notes.exact(format!("simulated: {step}"), &json!(found));
        }

        // The calls within, with their logs.
        for (step, code, call) in [
            ("a log", LOGS, data("0x0203")),
            ("a payment within", PAYS_ON, to(CODE, 3)),
            ("a reason", REVERTS, data("0x")),
            ("an invalid instruction", "0xfe", to(CODE, 3)),
        ] {
            let tracer =
                json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true }, "stateOverrides": with(code) });
            self.exact(&format!("traced: {step}"), "debug_traceCall", json!([call, "latest", tracer])).await;
        }

        // What contracts see of a block: NUMBER, TIMESTAMP, COINBASE, PREVRANDAO and GASLIMIT, a word each.
        let seen = with("0x435f524260205241604052446060524560805260a05ff3");
        let over = json!({
            "number": self.height().await + U64::from(9), "time": "0xf0000000", "feeRecipient": self.bob,
            "prevRandao": B256::repeat_byte(7), "gasLimit": "0x100000",
        });
        let block = json!({ "blockOverrides": over, "stateOverrides": seen, "calls": [data("0x")] });
        let blocks = self.node.ask("eth_simulateV1", json!([{ "blockStateCalls": [block] }, "latest"])).await;
        let last = blocks.as_array().unwrap().last().unwrap();
        self.notes.exact("what a simulated contract sees", &last["calls"][0]["returnData"]);
    }
}

/// What is noted of a call.
fn told(call: &Value) -> Value {
    let logs: Vec<Value> = call["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| json!([log["address"], log["topics"], log["data"], log["logIndex"], log["transactionIndex"]]))
        .collect();
    json!({
        "status": call["status"], "gasUsed": call["gasUsed"], "returnData": call["returnData"], "logs": logs,
        "error": call["error"]["message"], "code": call["error"]["code"],
    })
}
