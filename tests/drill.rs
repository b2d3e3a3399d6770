//! The drill of a disaster, through the binary: the provider's signers are gone, and the client's one signer and the
//! escrow move the funds of every key on the simulated chains; either alone doesn't.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use simulator::clock::SystemClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::SolanaConfig;
use simulator::world::{World, WorldConfig};

use process::{PATIENCE, Process, portcullis, url_in};

/// The identity of the age crate's own tests.
const IDENTITY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
const RECIPIENT: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

const BTC_PAYEE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const ETH_PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const SOL_PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";

/// Key, wallet, payee, and how much it gets in the end.
const PAYMENTS: [(&str, &str, &str, u64); 3] = [
    ("main-ed25519", "sol-main", SOL_PAYEE, 50_000_000),
    ("main-taproot", "btc-taproot", BTC_PAYEE, 250_000),
    ("main-ecdsa", "eth-main", ETH_PAYEE, 1_000_000_000_000_000),
];

struct Site {
    dir: tempfile::TempDir,
    world: World,
}

impl Site {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let quick = |millis| Some(Duration::from_millis(millis));
        let world = WorldConfig {
            dir: Some(dir.path().join("chains")),
            bitcoin: BitcoinConfig { block_interval: quick(200), ..BitcoinConfig::default() },
            ethereum: EthereumConfig { block_interval: quick(200), finality_depth: 4, ..EthereumConfig::default() },
            solana: SolanaConfig { block_interval: quick(100), finality_depth: 8, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(world, Arc::new(SystemClock)).await.unwrap();
        let site = Self { dir, world };
        let shipped = include_str!("../config/portcullis.toml");
        let (text, _) = shipped.split_once("\n[simulator]\n").unwrap();
        let cookie = site.world.bitcoin().cookie_file().map(|path| format!("\nauth_file = {path:?}"));
        let urls = [site.world.bitcoin().url(), site.world.ethereum().url(), site.world.solana().url()];
        let mut text =
            text.replace("127.0.0.1:8645", "127.0.0.1:0").replace("poll_interval_ms = 200", "poll_interval_ms = 50");
        for (url, more) in urls.iter().zip([cookie.unwrap_or_default(), String::new(), String::new()]) {
            text = text.replacen("endpoints = []", &format!("endpoints = [{url:?}]{more}"), 1);
        }
        // The recovered pool lies in another folder; the credential stays where it is.
        let public = site.path("trader.pub");
        let text = text.replace("\"demo/demo-trader.pub\"", &format!("{public:?}"));
        std::fs::write(site.path("portcullis.toml"), text).unwrap();
        std::fs::create_dir_all(site.path("data/signers")).unwrap();
        std::fs::write(site.path("data/signers/passphrase"), "of the drill").unwrap();
        std::fs::write(site.path("holder.key"), format!("# the escrow's holder\n{IDENTITY}\n")).unwrap();
        let made = portcullis().arg("credential").arg(&public).output().unwrap();
        assert!(made.status.success());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve(&self, data: &str) -> Process {
        let mut serve = portcullis();
        serve.args(["serve", "--config"]).arg(self.path("portcullis.toml"));
        Process::start(serve.arg("--data-dir").arg(self.path(data)))
    }

    /// Runs `portcullis keys`; whether it ended well, and all that it printed.
    fn keys(&self, args: &[&str]) -> (bool, String) {
        let mut keys = portcullis();
        keys.arg("keys").args(args).arg("--config").arg(self.path("portcullis.toml"));
        let output = keys.arg("--data-dir").arg(self.path("data")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    fn drill(&self, key: &str, more: &[&str]) -> (bool, String) {
        let (escrow, identity) = (self.path(&format!("{key}.age")), self.path("holder.key"));
        let (trader, scratch) = (self.path("trader.key"), self.path("scratch"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let paths = [text(&escrow), text(&identity), text(&trader), text(&scratch)];
        let mut args = vec!["drill", "--signers", "signer-1", "--escrow", &paths[0], "--identity", &paths[1]];
        args.extend(["--credential-key", &paths[2], "--scratch", &paths[3]]);
        args.extend(more);
        let ended = self.keys(&args);
        let left = std::fs::read_dir(&scratch).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the drill left something behind: {}", ended.1);
        ended
    }

    async fn call(&self, key: &str, method: &str, params: Value) -> Value {
        let (url, auth) = match key {
            "main-taproot" => {
                let cookie = self.world.bitcoin().cookie_file().map(Path::to_owned);
                (self.world.bitcoin().url(), cookie.map_or(Auth::None, Auth::BasicFile))
            }
            "main-ecdsa" => (self.world.ethereum().url(), Auth::None),
            _ => (self.world.solana().url(), Auth::None),
        };
        RpcClient::new(&url, auth, Duration::from_secs(30)).unwrap().call(method, params).await.unwrap()
    }

    /// What an address has on the chain of a key, as the node says.
    async fn balance(&self, key: &str, address: &str) -> u64 {
        match key {
            "main-taproot" => {
                let scan = self.call(key, "scantxoutset", json!(["start", [format!("addr({address})")]])).await;
                let bitcoin = scan["total_amount"].to_string();
                let (whole, part) = bitcoin.split_once('.').unwrap_or((&bitcoin, ""));
                format!("{whole}{part:0<8}").parse().unwrap()
            }
            "main-ecdsa" => {
                let balance = self.call(key, "eth_getBalance", json!([address, "latest"])).await;
                u64::from_str_radix(balance.as_str().unwrap().trim_start_matches("0x"), 16).unwrap_or(u64::MAX)
            }
            _ => {
                let balance = self.call(key, "getBalance", json!([address, { "commitment": "finalized" }])).await;
                balance["value"].as_u64().unwrap()
            }
        }
    }
}

/// Somebody else's identity.
fn stranger() -> String {
    use age::secrecy::ExposeSecret;
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
}

/// The address of a wallet, as the gateway prints it.
fn address(line: &str) -> String {
    line.split_whitespace().nth(2).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escrow_and_the_clients_share_move_funds_with_the_provider_gone() {
    let site = Site::start().await;
    let mut house = site.serve("data");
    let mut before = Vec::new();
    house.wait_for("gateway  http");
    for (key, wallet, ..) in PAYMENTS {
        let address = address(&house.wait_for(&format!("wallet   {wallet} ")));
        let amount = if key == "main-ecdsa" { "100000000000000000" } else { "1000000000" };
        site.call(key, "sim_fund", json!([address, amount])).await;
        before.push(address);
    }
    let (ok, text) = site.keys(&["list"]);
    assert!(!ok && text.contains("in use by another process"), "beside a gateway that runs: {text}");
    house.kill();

    let (ok, text) = site.keys(&["list"]);
    assert!(ok && text.matches("escrow   none").count() == 3, "{text}");
    assert_eq!(text.matches("2 of 3, epoch 1").count(), 3, "{text}");
    for (key, ..) in PAYMENTS {
        let file = site.path(&format!("{key}.age"));
        let args = ["escrow", "--key", key, "--recipient", RECIPIENT, "--out", file.to_str().unwrap()];
        let (ok, text) = site.keys(&args);
        assert!(ok && text.contains("epoch 1, made by signer-"), "{text}");
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{written}");
        let (ok, text) = site.keys(&args);
        assert!(!ok && text.contains("never written over another"), "{text}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    }
    let (ok, text) = site.keys(&["list"]);
    assert!(ok && text.matches("escrow   of epoch 1").count() == 3, "{text}");
    for ((key, ..), address) in PAYMENTS.into_iter().zip(&before) {
        let funded = async {
            while site.balance(key, address).await == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, funded).await.unwrap();
    }

    // The provider is gone, and everything that it had.
    for name in ["signer-2", "signer-3"] {
        std::fs::rename(site.path("data/signers").join(name), site.path(name)).unwrap();
    }
    let (ok, text) = site.keys(&["list"]);
    assert!(!text.contains("epoch 1"), "one signer is no pool: {ok} {text}");
    for ((key, wallet, payee, amount), address) in PAYMENTS.into_iter().zip(&before) {
        assert_eq!(site.balance(key, payee).await, 0);
        let (ok, text) = site.drill(key, &["--pay", wallet, payee, &amount.to_string()]);
        assert!(ok, "{text}");
        for part in [
            "alone    the escrow can do nothing",
            "alone    signer-1 can do nothing",
            "away     signer-2, signer-3: not opened",
            "signed   3 shares",
            &format!("address  {wallet} {address}, as before"),
            "final on the chain",
            "drill passed",
        ] {
            assert!(text.contains(part), "no {part:?} in:\n{text}");
        }
        assert_eq!(site.balance(key, payee).await, amount, "{text}");
    }

    // Then for good: a pool in a fresh folder, which serves like any other.
    let escrows = PAYMENTS.map(|(key, ..)| site.path(&format!("{key}.age")).to_str().unwrap().to_owned());
    let (identity, out) = (site.path("holder.key"), site.path("recovered"));
    let mut args = vec!["recover", "--signers", "signer-1", "--identity", identity.to_str().unwrap(), "--out"];
    args.push(out.to_str().unwrap());
    escrows.iter().for_each(|escrow| args.extend(["--escrow", escrow.as_str()]));
    let (ok, text) = site.keys(&args);
    assert!(ok && text.matches("epoch 2, held by signer-1, signer-2, signer-3").count() == 3, "{text}");
    assert!(!text.contains("WARNING"), "every key was recovered: {text}");
    let (ok, text) = site.keys(&args);
    assert!(!ok && text.contains("recover into an empty folder"), "{text}");
    let mut house = site.serve("recovered");
    let url = url_in(&house.wait_for("gateway  http"));
    for ((_, wallet, ..), before) in PAYMENTS.into_iter().zip(&before) {
        assert_eq!(address(&house.wait_for(&format!("wallet   {wallet} "))), *before);
    }
    let mut tx = portcullis();
    tx.args(["tx", "--url", &url, "--key"]).arg(site.path("trader.key"));
    let sent = tx.args(["send", "sol-main", SOL_PAYEE, "1000", "--watch"]).output().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    house.kill();

    // What must not work, and how it is said.
    let (ok, text) = site.drill("main-ed25519", &["--pay", "sol-main", "11111111111111111111111111111112", "1000000"]);
    assert!(!ok && text.contains("wiped"), "a payee that the policy doesn't list:\n{text}");
    assert!(!text.contains("drill passed"), "{text}");
    std::fs::write(site.path("holder.key"), format!("{}\n", stranger())).unwrap();
    let (ok, text) = site.drill("main-ed25519", &[]);
    assert!(!ok && text.contains("not for this identity"), "{text}");
    std::fs::write(site.path("holder.key"), "no identity").unwrap();
    let (ok, text) = site.drill("main-ed25519", &[]);
    assert!(!ok && text.contains("no age identity"), "{text}");
    site.world.shutdown().await;
}

/// Needs no chain and no gateway: importing and listing work on the signers' folders.
#[test]
fn a_key_is_imported_once_into_a_pool_that_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let config = process::quick_config(dir.path());
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("signers")).unwrap();
    std::fs::write(data.join("signers/passphrase"), "of the import").unwrap();
    let (secret, damaged) = (dir.path().join("secret"), dir.path().join("damaged"));
    std::fs::write(&secret, "07".repeat(32)).unwrap();
    std::fs::write(&damaged, "07".repeat(31)).unwrap();
    let keys = |args: &[&str]| {
        let mut keys = portcullis();
        keys.arg("keys").args(args).arg("--config").arg(&config).arg("--data-dir").arg(&data);
        let output = keys.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let import = |key: &str, scheme: &str, file: &Path| {
        keys(&["import", "--key", key, "--scheme", scheme, "--secret-file", file.to_str().unwrap()])
    };
    let (ok, text) = import("main-ed25519", "ed25519", &damaged);
    assert!(!ok && text.contains("no secret key"), "{text}");
    let (ok, text) = import("main-ed25519", "taproot", &secret);
    assert!(!ok && text.contains("calls main-ed25519 a ed25519 key"), "{text}");
    let (ok, text) = import("main-ed25519", "ed25519", &secret);
    assert!(ok && text.contains("copies may exist"), "{text}");
    let public = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
    let public = public.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(text.contains(&format!("public   ed25519:{public}")), "{text}");
    assert!(secret.exists(), "what it does not own it leaves");
    let (ok, text) = import("main-ed25519", "ed25519", &secret);
    assert!(!ok && text.contains("a key of that name exists"), "{text}");
    let (ok, text) = keys(&["list"]);
    assert!(ok && text.contains("main-ed25519: ed25519, 2 of 3, epoch 1"), "{text}");
    assert!(text.contains("main-ecdsa: ecdsa, not generated yet"), "{text}");
    // Another process holds a signer.
    let lock = std::fs::File::options().write(true).open(data.join("signers/signer-2/lock")).unwrap();
    lock.try_lock().unwrap();
    let (ok, text) = import("another", "ed25519", &secret);
    assert!(!ok, "a signer is in use, and the key was imported without it: {text}");
}
