//! What isn't a request, isn't a method or isn't a parameter.

use alloy::primitives::B256;
use serde_json::{Value, json};

use crate::client::World;

#[tokio::test(flavor = "multi_thread")]
async fn answers_bad_requests_by_the_book() {
    let world = World::start().await;
    let code = |answer: &Value| answer["error"]["code"].as_i64().unwrap();
    assert_eq!(code(&world.post("{").await), -32700);
    assert_eq!(code(&world.post("[]").await), -32600);
    assert_eq!(code(&world.post("{\"id\":1}").await), -32600);
    let batch = world
        .post(r#"[{"jsonrpc":"2.0","id":1,"method":"eth_chainId"},{"jsonrpc":"2.0","id":2,"method":"eth_nope"}]"#)
        .await;
    assert_eq!(batch[0], json!({ "jsonrpc": "2.0", "id": 1, "result": "0x7a69" }));
    assert_eq!(batch[1]["error"]["message"], "the method eth_nope does not exist/is not available");
    assert_eq!(code(&batch[1]), -32601);

    for method in
        ["eth_getProof", "eth_createAccessList", "eth_subscribe", "debug_traceTransaction", "personal_sign", ""]
    {
        assert_eq!(world.refused(method, json!([])).await.0, -32601, "{method}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_wrong_parameters_by_the_book() {
    let world = World::start().await;
    let address = "0x0000000000000000000000000000000000000001";
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!([address])),
        ("eth_getBalance", json!(["0x01", "latest"])),
        ("eth_getBalance", json!([address, "newest"])),
        ("eth_getBalance", json!({ "address": address })),
        ("eth_getBlockByNumber", json!(["0x1"])),
        ("eth_getBlockByNumber", json!(["1", true])),
        ("eth_getBlockByNumber", json!(["0x1", "true"])),
        ("eth_getTransactionByHash", json!(["0x12"])),
        ("eth_getTransactionReceipt", json!([null])),
        ("eth_sendRawTransaction", json!(["nothex"])),
        ("eth_sendRawTransaction", json!([12])),
        ("eth_call", json!(["0x"])),
        ("eth_call", json!([{ "to": "0x1" }, "latest"])),
        ("eth_estimateGas", json!([{ "value": "lots" }])),
        ("eth_getLogs", json!([{ "topics": ["0x1"] }])),
        ("eth_feeHistory", json!(["0x1"])),
        ("eth_getFilterChanges", json!(["zero"])),
        ("sim_mine", json!(["many"])),
        ("sim_mine", json!([-1])),
        ("sim_mine", json!(["0x"])),
    ] {
        let (code, message, _) = world.refused(method, params.clone()).await;
        assert_eq!(code, -32602, "{method} {params}: {message}");
    }
    let (_, message, _) = world.refused("eth_getBalance", json!([address])).await;
    assert_eq!(message, "missing value for required argument 1");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_null_for_what_it_does_not_know() {
    let world = World::start().await;
    let unknown = B256::repeat_byte(9);
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0x9", true])),
        ("eth_getBlockByHash", json!([unknown, true])),
        ("eth_getHeaderByHash", json!([unknown])),
        ("eth_getBlockReceipts", json!(["0x9"])),
        ("eth_getBlockTransactionCountByHash", json!([unknown])),
        ("eth_getTransactionByHash", json!([unknown])),
        ("eth_getTransactionReceipt", json!([unknown])),
        ("eth_getTransactionByBlockNumberAndIndex", json!(["0x0", "0x0"])),
    ] {
        assert_eq!(world.ask(method, params).await, Value::Null, "{method}");
    }
    for (method, expected) in [
        ("eth_chainId", json!("0x7a69")),
        ("net_version", json!("31337")),
        ("net_listening", json!(true)),
        ("net_peerCount", json!("0x0")),
        ("eth_syncing", json!(false)),
        ("eth_accounts", json!([])),
        ("eth_blockNumber", json!("0x0")),
        ("eth_gasPrice", json!("0x77359400")),
        ("eth_maxPriorityFeePerGas", json!("0x3b9aca00")),
    ] {
        assert_eq!(world.ask(method, json!([])).await, expected, "{method}");
    }
    world.stop().await;
}
