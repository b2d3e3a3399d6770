//! Calls: credentials, errors, fee estimates.

use bitcoin::OutPoint;
use serde_json::json;
use simulator::node::bitcoin::BitcoinConfig;

use crate::run::{BTC, Run};
use crate::wallet::{Client, Kind, Wallet};

#[tokio::test]
async fn credentials_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = BitcoinConfig { dir: Some(folder.path().to_owned()), ..BitcoinConfig::default() };
    let run = Run::start(config).await;
    for wrong in [None, Some("__cookie__:00"), Some("x")] {
        let (status, _) = Client::new(&run.node.url(), wrong).raw("{}").await;
        assert_eq!(status, 401);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(run.node.cookie_file().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(run.ok("getblockcount", json!([])).await, 130);
    run.stop().await;
}

#[tokio::test]
async fn bad_calls_get_bitcoinds_codes() {
    let run = Run::fresh().await;
    let (status, body) = run.client.raw("{").await;
    assert_eq!((status, &body["error"]["code"]), (500, &json!(-32700)));
    let (status, body) = run.client.raw(r#"{"id":1,"method":"nonsense"}"#).await;
    assert_eq!((status, &body["error"]), (404, &json!({ "code": -32601, "message": "Method not found" })));
    let (status, _) = run.client.raw(r#"{"id":1,"method":"getblockhash","params":[9999]}"#).await;
    assert_eq!(status, 500);
    for (method, params, code, message) in [
        ("getblockhash", json!([]), -1, "getblockhash height"),
        ("getblockhash", json!([1, 2]), -1, "getblockhash height"),
        ("getblockhash", json!({ "high": 1 }), -8, "Unknown named parameter high"),
        ("getblockhash", json!([131]), -8, "Block height out of range"),
        ("getblockhash", json!([-1]), -8, "Block height out of range"),
        ("getblockhash", json!([1.5]), -1, "JSON integer out of range"),
        (
            "getblockhash",
            json!(["1"]),
            -3,
            "Wrong type passed:\n{\n    \"Position 1 (height)\": \"JSON value of type string is not of expected type number\"\n}",
        ),
        ("getblock", json!(["00"]), -8, "blockhash must be of length 64 (not 2, for '00')"),
        (
            "getrawtransaction",
            json!(["11".repeat(32)]),
            -5,
            "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
        ),
        (
            "getrawtransaction",
            json!(["4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"]),
            -5,
            "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved",
        ),
        ("generatetoaddress", json!([1, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"]), -5, "Error: Invalid address"),
        ("decoderawtransaction", json!(["zz"]), -22, "TX decode failed"),
        ("estimatesmartfee", json!([0]), -8, "Invalid conf_target, must be between 1 and 1008"),
        ("testmempoolaccept", json!([[]]), -8, "Array must contain between 1 and 25 transactions."),
        ("getrawmempool", json!([true, true]), -8, "Verbose results cannot contain mempool sequence values."),
        ("sim_fund", json!(["x", 1_000]), -5, "Error: Invalid address"),
        (
            "sim_fund",
            json!([Wallet::new(1, Kind::P2tr).address().to_string(), "1.5"]),
            -8,
            "sats must be a whole number of satoshis",
        ),
        ("sim_fund", json!([Wallet::new(1, Kind::P2tr).address().to_string(), 1]), -26, "dust"),
    ] {
        assert_eq!(run.error(method, params.clone()).await, (code, message.to_owned()), "{method} {params}");
    }
    let (code, message) =
        run.error("sim_fund", json!([Wallet::new(1, Kind::P2tr).address().to_string(), 20_000_000 * BTC])).await;
    assert_eq!(code, -1);
    assert!(message.starts_with("the faucet has 1550 BTC to spend"), "{message}");
    let help = run.ok("help", json!([])).await;
    assert!(help.as_str().unwrap().contains("getblock blockhash ( verbosity )"));
    run.stop().await;
}

#[tokio::test]
async fn fees_are_estimated_once_there_is_something_to_go_by() {
    let run = Run::fresh().await;
    let nothing = run.ok("estimatesmartfee", json!([1])).await;
    assert_eq!(nothing, json!({ "errors": ["Insufficient data or no feerate found"], "blocks": 0 }));
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let mut coin = run.fund(&wallet, BTC).await;
    for _ in 0..20 {
        let tx = wallet.spend(&[coin], wallet.script(), 1_100);
        run.send(&tx).await;
        coin = (OutPoint::new(tx.compute_txid(), 0), tx.output[0].value);
    }
    run.node.mine(1).await.unwrap();
    let rate = run.ok("estimatesmartfee", json!([6])).await;
    assert_eq!(rate["feerate"].to_string().parse::<f64>().unwrap(), 0.0001);
    run.stop().await;
}
