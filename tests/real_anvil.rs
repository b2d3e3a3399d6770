//! The unmodified gateway on Foundry's real `anvil`: ETH and an ERC-20, from JSON-RPC to finality.
//!
//! `tests/run` installs anvil (npm package `@foundry-rs/anvil`), names it in `PORTCULLIS_ANVIL` and runs this file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/process.rs"]
mod process;

use std::process::Command;
use std::time::{Duration, Instant};

use chains::rpc::{Auth, RpcClient};
use process::{PATIENCE, Process, portcullis, url_in};
use serde_json::{Value, json};

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

struct Anvil {
    _process: Process,
    rpc: RpcClient,
    url: String,
    unlocked: String,
}

impl Anvil {
    async fn start() -> Self {
        let program = std::env::var("PORTCULLIS_ANVIL").expect("tests/run names anvil in PORTCULLIS_ANVIL");
        // Finality comes two epochs behind the head; with one slot an epoch it comes quickly.
        let mut process = Process::start(Command::new(program).args([
            "--port",
            "0",
            "--block-time",
            "1",
            "--slots-in-an-epoch",
            "1",
        ]));
        let line = process.wait_for("Listening on");
        let url = format!("http://{}", line.split_whitespace().last().unwrap());
        let rpc = RpcClient::new(&url, Auth::None, Duration::from_secs(10)).unwrap();
        let accounts: Vec<String> = rpc.call("eth_accounts", json!([])).await.unwrap();
        Self { _process: process, rpc, url, unlocked: accounts[0].clone() }
    }

    async fn send(&self, transaction: Value) -> Value {
        let hash: String = self.rpc.call("eth_sendTransaction", json!([transaction])).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let receipt: Value = self.rpc.call("eth_getTransactionReceipt", json!([hash])).await.unwrap();
            if !receipt.is_null() {
                assert_eq!(receipt["status"], "0x1", "{receipt}");
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // between looks, not instead of one
        }
        panic!("{hash} is not mined");
    }

    async fn token_balance(&self, token: &str, holder: &str) -> u128 {
        let data = format!("0x70a08231{:0>64}", holder.trim_start_matches("0x"));
        let word: String = self.rpc.call("eth_call", json!([{ "to": token, "data": data }, "latest"])).await.unwrap();
        u128::from_str_radix(word.trim_start_matches("0x"), 16).unwrap()
    }

    async fn balance(&self, holder: &str) -> u128 {
        let balance: String = self.rpc.call("eth_getBalance", json!([holder, "latest"])).await.unwrap();
        u128::from_str_radix(balance.trim_start_matches("0x"), 16).unwrap()
    }
}

#[tokio::test]
#[ignore = "needs anvil; tests/run installs and names it"]
async fn eth_and_an_erc20_through_the_real_anvil() {
    let anvil = Anvil::start().await;
    let code = format!("0x{}", include_str!("../simulator/assets/DemoToken.bin").trim());
    let token = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
    let _: Value = anvil.rpc.call("anvil_setCode", json!([token, code])).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("trader.pem");
    let run = |args: &[&str]| assert!(Command::new("openssl").args(args).status().unwrap().success());
    run(&["genpkey", "-algorithm", "ed25519", "-out", key.to_str().unwrap()]);
    let public = dir.path().join("trader.pub");
    run(&["pkey", "-in", key.to_str().unwrap(), "-pubout", "-out", public.to_str().unwrap()]);
    std::fs::write(dir.path().join("passphrase"), "correct horse battery staple").unwrap();
    let config = dir.path().join("portcullis.toml");
    let text = format!(
        r#"
data_dir = "{data}"
[server]
listen = "127.0.0.1:0"
[signers]
names = ["a", "b", "c"]
threshold = 2
passphrase_file = "passphrase"
[[keys]]
id = "key"
scheme = "ecdsa"
[[networks]]
id = "ethereum:31337"
endpoints = ["{url}"]
poll_interval_ms = 100
[[wallets]]
id = "eth"
network = "ethereum:31337"
key = "key"
[[credentials]]
id = "trader"
role = "initiator"
public_key_file = "trader.pub"
[[policy.rules]]
id = "payees"
wallets = ["eth"]
assets = ["native", "erc20:{token}"]
addresses = ["{PAYEE}"]
contracts = [{{ address = "{token}", selectors = ["0xa9059cbb"] }}]
"#,
        data = dir.path().display(),
        url = anvil.url,
    );
    std::fs::write(&config, text).unwrap();

    let mut gateway = Process::start(portcullis().args(["serve", "--config"]).arg(&config));
    let wallet_line = gateway.wait_for("wallet ");
    let wallet = wallet_line.split_whitespace().find(|word| word.starts_with("0x")).unwrap().to_owned();
    let url = url_in(&gateway.wait_for("gateway "));
    anvil.send(json!({ "from": anvil.unlocked, "to": wallet, "value": "0xde0b6b3a7640000" })).await;
    let mint = format!("0x40c10f19{:0>64}{:064x}", wallet.trim_start_matches("0x"), 1_000_000);
    anvil.send(json!({ "from": anvil.unlocked, "to": token, "data": mint })).await;

    let pay = |asset: String, amount: &str| {
        let output = portcullis()
            .args(["tx", "--url", &url, "--credential", "trader", "--key"])
            .arg(&key)
            .args(["send", "eth", PAYEE, amount, "--asset", &asset, "--watch"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("finalized"), "{text}");
    };
    let before = anvil.balance(PAYEE).await;
    pay("native".to_owned(), "1000000000000000");
    assert_eq!(anvil.balance(PAYEE).await - before, 1_000_000_000_000_000);
    pay(format!("erc20:{token}"), "250000");
    assert_eq!(anvil.token_balance(token, PAYEE).await, 250_000);
    assert_eq!(anvil.token_balance(token, &wallet).await, 750_000);
}
