//! What a gateway answers to what is wrong: each a typed error, nothing signed, nothing lost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/process.rs"]
mod process;

use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use process::{Process, portcullis, quick_config, url_in};
use serde_json::{Value, json};
use signer::request::{Claims, SignedRequest};

const BTC: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const ETH: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const SOL: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";

struct Gateway {
    http: reqwest::Client,
    url: String,
    key: SigningKey,
    _process: Process,
    _dir: tempfile::TempDir,
}

#[expect(clippy::disallowed_methods, reason = "a client's own clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn fresh() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Gateway {
    fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (quick_config(dir.path()), dir.path().join("data"));
        let mut process =
            Process::start(portcullis().args(["dev", "--config"]).arg(&config).arg("--data-dir").arg(&data));
        let url = url_in(&process.wait_for("gateway "));
        process.wait_for("ready");
        let pem = std::fs::read_to_string(data.join("demo/demo-trader.key")).unwrap();
        let key = SigningKey::from_pkcs8_pem(&pem).unwrap();
        Self { http: reqwest::Client::new(), url, key, _process: process, _dir: dir }
    }

    async fn post(&self, token: Option<&str>, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let mut request = self.http.post(&self.url).header("content-type", "application/json").body(body.into());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}")))
    }

    fn sign(&self, body: &[u8]) -> String {
        let id = "demo-trader".parse().unwrap();
        SignedRequest::sign(&self.key, &id, "/", &fresh(), now(), 30, body.to_vec()).token
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
        self.post(Some(&self.sign(body.as_bytes())), body).await.1
    }

    /// Submits an intent that must be refused; answers the error's kind and code.
    async fn refusal(&self, wallet: &str, action: Value) -> (String, i64) {
        let intent = json!({ "wallet": wallet, "action": action });
        let answer = self.call("tx_submit", json!({ "idempotency_key": fresh(), "intent": intent })).await;
        kind(&answer)
    }
}

fn kind(answer: &Value) -> (String, i64) {
    let error = answer.get("error").unwrap_or_else(|| panic!("no error in {answer}"));
    let kind = error.pointer("/data/kind").and_then(Value::as_str).unwrap_or("none").to_owned();
    assert!(!error["message"].as_str().unwrap().is_empty());
    (kind, error["code"].as_i64().unwrap())
}

fn transfer(asset: &str, to: &str, amount: &str) -> Value {
    json!({ "kind": "transfer", "asset": asset, "to": to, "amount": amount })
}

#[tokio::test]
async fn every_bad_request_has_its_error_and_moves_nothing() {
    let gateway = Gateway::start();
    let balances = balances(&gateway).await;

    intents(&gateway).await;
    requests(&gateway).await;
    tokens(&gateway).await;
    keys(&gateway).await;

    assert_eq!(self::balances(&gateway).await, balances, "nothing has moved");
    let list = gateway.call("tx_list", json!({ "limit": 500 })).await;
    for record in list["result"].as_array().unwrap() {
        assert_eq!(record["exposure"], "none", "{record}");
        assert_eq!(record["attempts"], json!([]), "{record}");
    }
}

async fn balances(gateway: &Gateway) -> Vec<Value> {
    let mut all = Vec::new();
    for wallet in ["btc-taproot", "btc-segwit", "eth-main", "sol-main"] {
        all.push(gateway.call("wallet_balance", json!({ "wallet": wallet })).await["result"].clone());
    }
    assert!(all.iter().all(|balance| balance["amount"] != "0"), "{all:?}");
    all
}

async fn intents(gateway: &Gateway) {
    let huge = "9".repeat(60);
    let above_256_bits = format!("1{}", "0".repeat(78));
    let unlisted_btc = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry";
    let unlisted_eth = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
    let cases = [
        ("no-such-wallet", transfer("native", ETH, "1"), "unknown_wallet"),
        ("btc-taproot", transfer("native", BTC, "0"), "zero_amount"),
        ("eth-main", transfer("native", ETH, "0"), "zero_amount"),
        ("sol-main", transfer("native", SOL, "0"), "zero_amount"),
        // Wrong network, wrong chain, wrong checksum.
        ("btc-taproot", transfer("native", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "1000"), "wrong_network"),
        ("btc-segwit", transfer("native", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081", "1000"), "invalid_address"),
        ("btc-taproot", transfer("native", ETH, "1000"), "invalid_address"),
        ("eth-main", transfer("native", "0x52908400098527886E0F7030069857D2E4169Ee7", "1"), "invalid_address"),
        ("eth-main", transfer("native", BTC, "1"), "invalid_address"),
        ("sol-main", transfer("native", "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y0Q", "1000000"), "invalid_address"),
        // Assets of other chains.
        ("btc-taproot", transfer(&format!("erc20:{ETH}"), BTC, "1"), "wrong_asset"),
        ("eth-main", transfer(&format!("spl:{SOL}"), ETH, "1"), "wrong_asset"),
        // Dust, overflow, funds.
        ("btc-taproot", transfer("native", BTC, "1"), "dust"),
        ("btc-taproot", transfer("native", BTC, &huge), "overflow"),
        ("sol-main", transfer("native", SOL, &huge), "overflow"),
        ("btc-segwit", transfer("native", BTC, "2000000000000000"), "insufficient_funds"),
        ("eth-main", transfer("native", ETH, &huge), "insufficient_funds"),
        ("sol-main", transfer("native", SOL, "18000000000000000000"), "insufficient_funds"),
        // Policy.
        ("btc-taproot", transfer("native", unlisted_btc, "10000"), "unlisted_address"),
        ("eth-main", transfer("native", unlisted_eth, "1"), "unlisted_address"),
        ("sol-main", transfer("native", "11111111111111111111111111111112", "1000000000"), "unlisted_address"),
        ("eth-main", transfer("native", "0x098B716B8Aaf21512996dC57EB0615e2383E2f96", "1"), "denied_address"),
        ("eth-main", transfer("native", "0x098b716b8aaf21512996dc57eb0615e2383e2f96", "1"), "denied_address"),
        (
            "eth-main",
            json!({ "kind": "call", "contract": unlisted_eth, "data": "0xd0e30db0", "value": "0" }),
            "unlisted_contract",
        ),
    ];
    for (wallet, action, expected) in cases {
        let (kind, code) = gateway.refusal(wallet, action.clone()).await;
        assert_eq!(kind, expected, "{wallet} {action}");
        assert!((-33_999..=-32_000).contains(&code), "{code}");
    }
    // Amounts and addresses that aren't even that.
    for amount in [
        json!("-1"),
        json!("1.5"),
        json!("1e3"),
        json!(""),
        json!("0x1"),
        json!("01"),
        json!(1),
        json!(null),
        json!(above_256_bits),
    ] {
        let action = json!({ "kind": "transfer", "asset": "native", "to": ETH, "amount": amount });
        assert_eq!(gateway.refusal("eth-main", action).await, ("invalid_params".to_owned(), -32_602), "{amount}");
    }
    let fee = json!({ "wallet": "eth-main", "action": transfer("native", ETH, "1"), "max_fee": "1" });
    let answer = gateway.call("tx_submit", json!({ "idempotency_key": fresh(), "intent": fee })).await;
    assert_eq!(kind(&answer).0, "fee_above_cap");
}

async fn requests(gateway: &Gateway) {
    let valid = json!({ "idempotency_key": fresh(), "intent": { "wallet": "eth-main", "action": transfer("native", ETH, "1") } });
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let cases = [
        ("not json", -32_700),
        ("", -32_700),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_submit\"", -32_700),
        ("[]", -32_600),
        ("{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"tx_list\",\"params\":{}}", -32_600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"no_such_method\",\"params\":{}}", -32_601),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_list\",\"params\":[]}", -32_602),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_list\",\"params\":{\"surprise\":1}}", -32_602),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_get\",\"params\":{\"tx_id\":\"nonsense\"}}", -32_602),
    ];
    for (body, code) in cases {
        let (_, answer) = gateway.post(Some(&gateway.sign(body.as_bytes())), body).await;
        assert_eq!(answer["error"]["code"], code, "{body} -> {answer}");
    }
    let batch = format!("[{}]", json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": valid }));
    let twice = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_list\",\"params\":{\"limit\":1,\"limit\":2}}".to_owned();
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tx_list\",\"params\":{{\"x\":{deep}}}}}");
    for body in [batch, twice, deep] {
        let (_, answer) = gateway.post(Some(&gateway.sign(body.as_bytes())), body.clone()).await;
        assert!(matches!(answer["error"]["code"].as_i64(), Some(-32_700 | -32_600)), "{body} -> {answer}");
    }
    let long = vec![b' '; 200 * 1024];
    assert_eq!(gateway.post(None, long).await.0, 413);
}

async fn tokens(gateway: &Gateway) {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "wallet_list", "params": {} }).to_string();
    let id = "demo-trader".parse().unwrap();
    let token = |key: &SigningKey, uri: &str, iat: u64, lifetime: u64, body: &str| {
        SignedRequest::sign(key, &id, uri, &fresh(), iat, lifetime, body.as_bytes().to_vec()).token
    };
    let stranger = SigningKey::from_bytes(&[7; 32]);
    let elsewhere = Claims {
        sub: "demo-trader".parse().unwrap(),
        aud: Some("staging".parse().unwrap()),
        uri: "/".to_owned(),
        jti: fresh(),
        iat: now(),
        exp: now() + 30,
        body_hash: String::new(),
    };
    let elsewhere = SignedRequest::sign_claims(&gateway.key, elsewhere, body.clone().into_bytes());
    let good = gateway.sign(body.as_bytes());
    let (head, rest) = good.split_once('.').unwrap();
    let cases = [
        String::new(),
        "nonsense".to_owned(),
        token(&stranger, "/", now(), 30, &body),
        token(&gateway.key, "/", now() - 120, 30, &body),
        token(&gateway.key, "/", now() + 120, 30, &body),
        token(&gateway.key, "/", now(), 3_600, &body),
        token(&gateway.key, "/elsewhere", now(), 30, &body),
        token(&gateway.key, "/", now(), 30, "another body"),
        elsewhere.token,
        // alg: none
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{rest}"),
        format!("{head}.{}", rest.split_once('.').unwrap().0),
    ];
    let mut answers = Vec::new();
    for token in &cases {
        let (status, mut answer) = gateway.post(Some(token), body.clone()).await;
        assert_eq!((status, kind(&answer)), (401, ("unauthenticated".to_owned(), -33_101)), "{token}");
        answer["error"]["data"]["trace_id"] = Value::Null;
        answers.push(answer);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "a failure tells nothing about itself");
    // Without any token: health answers, nothing else does.
    let (_, answer) = gateway.post(None, body).await;
    assert_eq!(kind(&answer).0, "unauthenticated");
    let health = json!({ "jsonrpc": "2.0", "id": 1, "method": "gw_health", "params": {} }).to_string();
    let (_, answer) = gateway.post(None, health).await;
    assert_eq!(answer["result"]["status"], "ok", "{answer}");
}

async fn keys(gateway: &Gateway) {
    // A used token, then the same key with another body. Both intents are refused, so nothing moves.
    let intent = json!({ "wallet": "btc-taproot", "action": transfer("native", BTC, "1") });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": { "idempotency_key": "twice", "intent": intent } });
    let body = body.to_string();
    let token = gateway.sign(body.as_bytes());
    assert_eq!(kind(&gateway.post(Some(&token), body.clone()).await.1).0, "dust");
    assert_eq!(kind(&gateway.post(Some(&token), body).await.1), ("token_replayed".to_owned(), -33_102));
    let other = json!({ "wallet": "btc-taproot", "action": transfer("native", BTC, "2") });
    let answer = gateway.call("tx_submit", json!({ "idempotency_key": "twice", "intent": other })).await;
    assert_eq!(kind(&answer), ("idempotency_conflict".to_owned(), -33_401));
    for key in ["", "with space", "ümlaut", &"k".repeat(65)] {
        let answer = gateway.call("tx_submit", json!({ "idempotency_key": key, "intent": intent })).await;
        assert_eq!(kind(&answer).1, -32_602, "{key:?}");
    }
}
