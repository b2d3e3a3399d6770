//! `debug_traceCall`: the calls within a call.

use alloy::primitives::{Address, Bytes, U64, U256, bytes};
use serde_json::{Value, json};

use crate::client::World;

/// Where code is put by an override.
const OUTER: Address = Address::repeat_byte(0xcc);
const INNER: Address = Address::repeat_byte(0xdd);

fn config(with_log: bool, overrides: Value) -> Value {
    json!({ "tracer": "callTracer", "tracerConfig": { "withLog": with_log }, "stateOverrides": overrides })
}

/// Logs a byte, calls the inner one with 2 wei, has it run as its own code, and logs another byte.
fn outer() -> Bytes {
    let mut code = bytes!("60015f526001601fa0").to_vec();
    code.extend(bytes!("5f5f5f5f600273"));
    code.extend(INNER);
    code.extend(bytes!("5af1505f5f5f5f73"));
    code.extend(INNER);
    code.extend(bytes!("5af45060025f526001601fa0"));
    code.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_told_as_they_nest() {
    let world = World::start().await;
    let alice = world.rich("alice").await.address();
    // Logs its caller's address.
    let inner = bytes!("335f5260205fa0");
    let overrides =
        |inner: Bytes| json!({ OUTER.to_string(): { "code": outer() }, INNER.to_string(): { "code": inner } });
    let call = json!({ "from": alice, "to": OUTER, "value": "0x5", "gas": "0x30d40" });
    let trace = world.ask("debug_traceCall", json!([call, "latest", config(true, overrides(inner.clone()))])).await;
    assert_eq!((&trace["type"], &trace["from"], &trace["to"]), (&json!("CALL"), &json!(alice), &json!(OUTER)));
    assert_eq!((&trace["value"], &trace["gas"], &trace.get("error")), (&json!("0x5"), &json!("0x30d40"), &None));
    let told = |log: &Value| [&log["address"], &log["data"], &log["position"], &log["index"]].map(Clone::clone);
    let logs: Vec<_> = trace["logs"].as_array().unwrap().iter().map(told).collect();
    assert_eq!(
        logs,
        [
            [json!(OUTER), json!("0x01"), json!("0x0"), json!("0x0")],
            [json!(OUTER), json!("0x02"), json!("0x2"), json!("0x3")],
        ]
    );
    let calls = trace["calls"].as_array().unwrap();
    let [called, run] = calls.as_slice() else { panic!("{trace}") };
    assert_eq!((&called["type"], &called["from"], &called["value"]), (&json!("CALL"), &json!(OUTER), &json!("0x2")));
    let word = |address: Address| json!(address.into_word());
    assert_eq!(told(&called["logs"][0]), [json!(INNER), word(OUTER), json!("0x0"), json!("0x1")]);
    // Foreign code that runs as its own: in its name, for its caller.
    assert_eq!((&run["type"], &run["from"], &run["to"]), (&json!("DELEGATECALL"), &json!(OUTER), &json!(INNER)));
    assert_eq!(told(&run["logs"][0]), [json!(OUTER), word(alice), json!("0x0"), json!("0x2")]);
    // What was used is what the transaction would pay for.
    let used: U64 = serde_json::from_value(trace["gasUsed"].clone()).unwrap();
    let payload = json!({ "blockStateCalls": [{ "stateOverrides": overrides(inner), "calls": [call] }] });
    let simulated = world.ask("eth_simulateV1", json!([payload, "latest"])).await;
    assert_eq!(simulated[0]["calls"][0]["gasUsed"], json!(used));

    // What fails within has logged nothing, and the others' numbers close up.
    let failing = overrides(bytes!("335f5260205fa05f5ffd"));
    let trace = world.ask("debug_traceCall", json!([call, "latest", config(true, failing.clone())])).await;
    let failed = &trace["calls"][0];
    assert_eq!((&failed["error"], failed.get("logs")), (&json!("execution reverted"), None));
    assert_eq!((&trace["logs"][1]["index"], trace.get("error")), (&json!("0x1"), None));
    let silent = world.ask("debug_traceCall", json!([call, "latest", config(false, failing)])).await;
    assert_eq!(silent.get("logs"), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_and_refusals_are_told() {
    let world = World::start().await;
    let alice = world.rich("alice").await.address();
    let nonce: U64 = world.get("eth_getTransactionCount", json!([alice, "latest"])).await;
    // Returns one byte, the code: STOP.
    let creation = json!({ "from": alice, "input": "0x60015ff3", "value": "0x7" });
    let trace = world.ask("debug_traceCall", json!([creation, "latest", config(true, json!({}))])).await;
    assert_eq!((&trace["type"], &trace["to"]), (&json!("CREATE"), &json!(alice.create(nonce.to()))));
    assert_eq!((&trace["input"], &trace["output"]), (&json!("0x60015ff3"), &json!("0x00")));

    let call = json!({ "from": alice, "to": OUTER });
    let other = json!({ "tracer": "prestateTracer" });
    let poor = json!({ "from": OUTER, "to": alice, "value": U256::from(1) });
    for (request, config, words) in [
        (&call, json!({}), "name it as the tracer"),
        (&call, other, "name it as the tracer"),
        (&poor, config(true, json!({})), "tracing failed: insufficient funds"),
    ] {
        let (code, message, _) = world.refused("debug_traceCall", json!([request, "latest", config])).await;
        assert_eq!(code, -32000, "{message}");
        assert!(message.contains(words), "{message}");
    }
    world.stop().await;
}
