//! Calls that a node tries before they are signed: what would revert, or move what its bytes don't tell, never reaches a signer. The
//! gateway, its signers and the simulated node are real.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/office.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test needs another part of it")]
mod office;

use std::time::Duration;

use gateway::record::{Exposure, State};
use serde_json::{Value, json};
use signer::roster::Role;

use office::{Member, Office, PATIENCE, Plan, WALLET};

const MEMBERS: [Member; 1] = [("trader", Role::Initiator, "tina", &[])];

/// Who makes the contracts of these tests.
const DEPLOYER: &str = "0x230055CF0321F13b23D9FB109Ef372f28A8B84CA";
/// Called with an address, it logs that 5 of its tokens go from there to `0x6666…`.
const TOKEN: &str = "0x807a06deD8903BF2FfF0b02848f87ba580dE822e";
/// By the first byte of a call it
/// - `33`: does nothing;
/// - `22`: reverts once it is armed;
/// - `44`: is armed from then on;
/// - else: calls the token with its caller's address.
const CONTRACT: &str = "0x6CfdCB89f4C6A96dd7B04Bcf449123Dd96C79FE4";
/// Makes the token, makes the contract, and arms it: signed by the deployer, whose first transactions they are.
const TRANSACTIONS: [&str; 3] = [
    "0x02f8a5827a6980843b9aca0085174876e800830493e08080b84a60418060093d393df360055f5273666666\
        66666666666666666666666666666666665f357fddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef6020\
        5fa300c080a0f6374db6eb924f8077148c63f6c392db024cfbec99332dc30047fc206f913702a02d6310b8ee96f714af2a8c143f0fb6\
        214952b876bff4b3d40c7e3b94e3b97fec",
    "0x02f8b1827a6901843b9aca0085174876e800830493e08080b856604d8060093d393df35f3560f81c806044\
        14603b578060221460415780603314604b57335f525f5f60205f5f73807a06ded8903bf2fff0b02848f87ba580de822e5af1005b6001\
        5f55005b5f5415604b575f5ffd5b00c080a0dc5356db4cc17c40a86e8f9ae261a5526dc7398a863e0d7bab3c314cf9067ec8a063a045\
        d4b4a9211aea4a3f0cbf34376b247d3f3fbeb2bb2ecd13601efadba147",
    "0x02f872827a6902843b9aca0085174876e800830493e0946cfdcb89f4c6a96dd7b04bcf449123dd96c79fe4\
        808444444444c080a051800041a0cd8e6bb818fad057cff29e9d2cd867b6d765bf2febeff25faaf3d0a0478888310ee074b264eb1306\
        a17effb76674005a87028826ff9a13e731cbba22",
];

const HARMLESS: &str = "0x33333333";
const REVERTS: &str = "0x22222222";
const TAKES: &str = "0x11111111";

/// A house that may call the contract, whose newest block has armed it.
async fn house() -> Office {
    let contracts = json!([{ "address": CONTRACT, "selectors": [HARMLESS, REVERTS, TAKES] }]);
    let policy = json!({ "rules": [{ "id": "contract", "wallets": [WALLET], "contracts": contracts }] });
    let office = Plan { policy, ..Plan::new(&MEMBERS) }.start().await;
    let node = office.node();
    let _: Value = node.call("sim_fund", json!([DEPLOYER, "1000000000000000000"])).await.unwrap();
    for raw in TRANSACTIONS {
        let _: Value = node.call("eth_sendRawTransaction", json!([raw])).await.unwrap();
        let _: Value = node.call("sim_mine", json!([1])).await.unwrap();
    }
    let armed: String = node.call("eth_getStorageAt", json!([CONTRACT, "0x0", "latest"])).await.unwrap();
    assert!(armed.ends_with('1'), "{armed}");
    // Gas is estimated as if the contract weren't armed yet: what happens between an estimate and the try.
    fault(&office, json!({ "kind": "stale", "blocks": 1 }), "eth_estimateGas").await;
    office
}

async fn fault(office: &Office, fault: Value, method: &str) {
    let rule = json!([{ "fault": fault, "scope": { "on": "rpc", "methods": [method] } }]);
    let _: Value = office.node().call("sim_addFault", rule).await.unwrap();
}

async fn absent(office: &Office, method: &str) {
    let message = format!("the method {method} does not exist/is not available");
    fault(office, json!({ "kind": "error", "code": -32601, "message": message }), method).await;
}

async fn submit(office: &Office, name: &str, data: &str) -> Value {
    let action = json!({ "kind": "call", "contract": CONTRACT, "data": data, "value": "0" });
    let params = json!({ "idempotency_key": name, "intent": { "wallet": WALLET, "action": action } });
    match office.call("trader", "tx_submit", params).await {
        Ok(view) => view["tx_id"].clone(),
        Err(ended) => ended["data"]["tx_id"].clone(), // before the answer was made
    }
}

/// The call is refused, and no signer, slot or node has anything of it.
async fn stopped(office: &Office, data: &str, kind: &str, words: &str) {
    let id = submit(office, kind, data).await;
    // Without blocks: the estimate is to stay the one before the newest.
    let ended = async {
        loop {
            let view = office.tx(&id).await;
            if view.state.is_terminal() {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let view = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!((view.state, view.exposure), (State::Rejected, Exposure::None), "{view:#?}");
    let reason = view.reason.as_ref().unwrap();
    assert_eq!((reason.kind.as_str(), reason.rule.as_deref()), (kind, Some("contract")), "{view:#?}");
    assert!(reason.message.contains(words), "{}", reason.message);
    assert!(view.attempts.is_empty(), "{view:#?}");
}

/// The call is made.
async fn made(office: &Office, name: &str, data: &str) {
    let id = submit(office, name, data).await;
    let view = office.ended(&id).await;
    assert_eq!(view.state, State::Finalized, "{view:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_simulates_tells_what_moves() {
    let office = house().await;
    stopped(&office, REVERTS, "would_revert", "execution reverted").await;
    stopped(&office, TAKES, "simulation_mismatch", &format!("5 of erc20:{TOKEN} go from")).await;
    // Neither left a gap: the wallet's first nonce is the next call's.
    made(&office, "harmless", HARMLESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_traces_tells_what_moves() {
    let office = house().await;
    absent(&office, "eth_simulateV1").await;
    stopped(&office, REVERTS, "would_revert", "execution reverted").await;
    stopped(&office, TAKES, "simulation_mismatch", &format!("5 of erc20:{TOKEN} go from")).await;
    made(&office, "harmless", HARMLESS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_calls_tells_what_reverts() {
    let office = house().await;
    absent(&office, "eth_simulateV1").await;
    absent(&office, "debug_traceCall").await;
    stopped(&office, REVERTS, "would_revert", "execution reverted").await;
    // Such a node tells nothing of what moves, and its silence is held against nobody.
    made(&office, "takes", TAKES).await;
    made(&office, "harmless", HARMLESS).await;
}
