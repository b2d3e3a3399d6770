//! Signers as real processes: prepared, started and killed through the binary, over gRPC on the loopback interface.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/process.rs"]
mod process;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/trip.rs"]
mod trip;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::amount::Amount;
use chains::chain::Chain;
use chains::intent::Intent;
use chains::network::{Cluster, Network};
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Solana, State, Validity,
};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePublicKey;
use serde_json::json;
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{ApartConfig, ApartSigner, KeySpec, Pool, SchemeId, SignError, SignOutcome, SignerId, WalletSpec};
use signer::request::{Evidence, SignedRequest, SigningRequest};
use signer::roster::{Credential, Role, Roster};
use signer::transport::Transport;
use signer::transport::grpc::{Coordinator, LinkIdentity, Pin};
use uuid::Uuid;

use process::{PATIENCE, Process, portcullis, url_in};
use proxy::Proxy;
use trip::Trip;

const NAMES: [&str; 3] = ["signer-1", "signer-2", "signer-3"];
const PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
/// What signers and gateway alike judge by.
const RULES: &str = r#"
[[wallets]]
id = "sol-main"
network = "solana:localnet"
key = "main-ed25519"

[[credentials]]
id = "demo-trader"
role = "initiator"
public_key_file = "PUBLIC_KEY"

[policy]

[[policy.rules]]
id = "sol-payees"
wallets = ["sol-main"]
assets = ["native", "spl:9sgso1vsgbmtGabPkZaKNzYPHP8JDsJFkA7HRNSKoV2G"]
addresses = ["7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q"]
"#;

/// The files of three signers and a gateway, under one folder.
struct Site {
    dir: tempfile::TempDir,
    gateway_key: String,
    /// By signer: the key that the gateway pins, and the key that its peers pin.
    keys: BTreeMap<&'static str, (Pin, String)>,
}

impl Site {
    /// Prepares every part with `portcullis signer init`.
    fn prepare(public_key: Option<&SigningKey>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut site = Self { dir, gateway_key: String::new(), keys: BTreeMap::new() };
        if let Some(key) = public_key {
            let pem = key.verifying_key().to_public_key_pem(Default::default()).unwrap();
            std::fs::create_dir_all(site.public_key().parent().unwrap()).unwrap();
            std::fs::write(site.public_key(), pem).unwrap();
        }
        site.write_gateway();
        site.gateway_key = value(&init(&["--gateway"], &site.path("gateway.toml")), "public_key");
        for name in NAMES {
            site.write_signer(name, "127.0.0.1:1".parse().unwrap());
            std::fs::create_dir_all(site.path(name)).unwrap();
            std::fs::write(site.path(name).join("passphrase"), format!("of {name}")).unwrap();
            let printed = init(&[], &site.path(&format!("{name}.toml")));
            site.keys.insert(name, (value(&printed, "public_key").parse().unwrap(), value(&printed, name)));
            // A second run keeps the keys.
            assert_eq!(init(&[], &site.path(&format!("{name}.toml"))), printed);
        }
        site.write_gateway();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the client's public key is.
    fn public_key(&self) -> PathBuf {
        self.path("gateway").join("demo/demo-trader.pub")
    }

    fn rules(&self) -> String {
        RULES.replace("PUBLIC_KEY", self.public_key().to_str().unwrap())
    }

    fn write_gateway(&self) {
        let apart = |(name, (key, _)): (&&str, &(Pin, String))| {
            format!("[[signers.apart]]\nname = \"{name}\"\npublic_key = \"{key}\"\nregion = \"{name}\"\n")
        };
        let apart = self.keys.iter().map(apart).collect::<String>();
        let simulator = ["bitcoin", "ethereum", "solana"]
            .map(|chain| format!("{chain} = {{ listen = \"127.0.0.1:0\", block_interval_ms = 100 }}\n"))
            .concat();
        let text = format!(
            "data_dir = {:?}\n[server]\nlisten = \"127.0.0.1:0\"\n[signers]\nlisten = \"127.0.0.1:0\"\nthreshold = 2\n\
             min_regions = 2\n{apart}\n[[keys]]\nid = \"main-ed25519\"\nscheme = \"ed25519\"\n[[networks]]\n\
             id = \"solana:localnet\"\npoll_interval_ms = 50\n{}\n[simulator]\n{simulator}",
            self.path("gateway"),
            self.rules()
        );
        std::fs::write(self.path("gateway.toml"), text).unwrap();
    }

    fn write_signer(&self, name: &str, coordinator: SocketAddr) {
        let peers = self.keys.iter().map(|(name, (_, link))| format!("{name} = \"{link}\"\n")).collect::<String>();
        let public_key = match self.gateway_key.as_str() {
            "" => String::new(),
            key => format!("public_key = \"{key}\"\n"),
        };
        let text = format!(
            "name = \"{name}\"\ndata_dir = {:?}\nthreshold = 2\n[coordinator]\naddress = \"{coordinator}\"\n{public_key}\
             [peers]\n{peers}\n{}",
            self.path(name),
            self.rules()
        );
        std::fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    fn start(&self, name: &str) -> Process {
        let mut signer =
            Process::start(portcullis().arg("signer").arg("--config").arg(self.path(&format!("{name}.toml"))));
        signer.wait_for(&format!("{name} dials"));
        signer
    }
}

/// What `portcullis signer init` prints.
fn init(flags: &[&str], config: &Path) -> String {
    let output = portcullis().args(["signer", "init"]).args(flags).arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The value of a line `name = "value"`.
fn value(printed: &str, name: &str) -> String {
    let line = printed.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")));
    line.unwrap_or_else(|| panic!("no {name} in {printed:?}")).trim_end_matches('"').to_owned()
}

fn id(name: &str) -> SignerId {
    name.parse().unwrap()
}

fn wallet() -> WalletSpec {
    let network = Network::Solana(Cluster::Localnet);
    let (wallet, key) = ("sol-main".parse().unwrap(), "main-ed25519".parse().unwrap());
    WalletSpec { wallet, network, key, path: "m".parse().unwrap() }
}

fn policy() -> Policy {
    let rules = json!({ "rules": [{
        "id": "sol-payees",
        "wallets": ["sol-main"],
        "assets": ["native", "spl:9sgso1vsgbmtGabPkZaKNzYPHP8JDsJFkA7HRNSKoV2G"],
        "addresses": [PAYEE],
    }] });
    let config: PolicyConfig = serde_json::from_value(rules).unwrap();
    let networks: BTreeMap<WalletId, Network> = [(wallet().wallet, wallet().network)].into();
    config.compile(&networks).unwrap()
}

/// A payment of so many lamports, as the client signs it.
fn request(client: &SigningKey, account: &Account, lamports: u64) -> SigningRequest {
    let amount = Amount::from_lamports(lamports);
    let action = json!({ "kind": "transfer", "asset": "native", "to": PAYEE, "amount": amount });
    let intent = json!({ "wallet": account.wallet(), "action": action });
    let params = json!({ "idempotency_key": format!("payment-{lamports}"), "intent": intent });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params });
    let intent: Intent = serde_json::from_value(intent).unwrap();
    let state = State {
        validity: Validity::Blockhash {
            blockhash: "EkSnNWid2cvwEVnVx9aBqawnmiCNiDgp3gUdkDPTKN1N".parse().unwrap(),
            last_valid_block_height: 1_000,
        },
        balance: Lamports::new(10_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000), kind: DestinationKind::Wallet },
        token: None,
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 1_000, unit_price: MicroLamports::new(1_000) },
        version: MessageVersion::V0,
    };
    let chain = Solana::new(Cluster::Localnet);
    let unsigned = chain.encode_unsigned(&chain.build(&intent, account, &state).unwrap());
    let (sub, jti) = ("demo-trader".parse().unwrap(), format!("jti-{lamports}"));
    let body = serde_json::to_vec(&body).unwrap();
    let request = SignedRequest::sign(client, &sub, "/v1", &jti, 1_800_000_000, 60, body);
    let evidence = Evidence { request, approvals: Vec::new(), cancel: None };
    SigningRequest {
        tx: Uuid::from_u128(lamports.into()),
        wallet: account.wallet().clone(),
        unsigned,
        evidence,
        fence: 1,
    }
}

/// Kills (`kill -9`) one signer process in the middle of rounds, and cuts the cable of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_signer_process_is_named_and_the_others_sign() {
    let client = SigningKey::from_bytes(&[42; 32]);
    let site = Site::prepare(Some(&client));
    let gateway = LinkIdentity::read(&site.path("gateway").join("signers/link")).unwrap();
    assert_eq!(gateway.pin().to_string(), site.gateway_key);
    let pins = site.keys.iter().map(|(name, (pin, _))| (id(name), *pin)).collect();
    let coordinator = Coordinator::listen("127.0.0.1:0".parse().unwrap(), &gateway, pins).await.unwrap();
    let mut arrivals = coordinator.arrivals();
    let mut proxies = BTreeMap::new();
    let mut processes = BTreeMap::new();
    for name in NAMES {
        let proxy = Proxy::start(coordinator.addr());
        site.write_signer(name, proxy.addr());
        proxies.insert(id(name), proxy);
        processes.insert(id(name), site.start(name));
    }
    coordinator.gather(PATIENCE).await;
    let config = ApartConfig {
        threshold: 2,
        signers: NAMES.iter().map(|name| ApartSigner { id: id(name), region: None }).collect(),
        min_regions: 0,
        deadline: Duration::from_secs(60),
        round_timeout: Duration::from_secs(20),
    };
    let trip = Trip::around(Arc::new(coordinator) as Arc<dyn Transport>);
    let pool = Pool::coordinate(config, trip.clone()).await.unwrap();
    let key = KeySpec { key: wallet().key, scheme: SchemeId::Ed25519 };
    pool.ensure_keys(&[key], |_| ()).await.unwrap();
    let trader =
        Credential { id: "demo-trader".parse().unwrap(), role: Role::Initiator, public_key: client.verifying_key() };
    pool.install(Roster::new(vec![trader]).unwrap(), policy(), vec![wallet()]).await.unwrap();
    assert_eq!(pool.disagreements().await, BTreeMap::new(), "their files say the same");
    let account = pool.account(&wallet()).unwrap();
    let mut lamports = 1_000_000;
    let mut sign = async || -> Result<SignOutcome, SignError> {
        lamports += 1;
        pool.sign(request(&client, &account, lamports)).await
    };

    let lost = sign().await.unwrap().participants[0].clone();
    let process = processes.remove(&lost).unwrap();
    // It has sent its first letter; the others' letters never reach it.
    trip.set(&lost, 1, move || process.kill());
    // The healthiest two sign, in the order of their names: it comes to its turn at once, or when another has failed.
    let mut outcome = sign().await.unwrap();
    for _ in 0..9 {
        if !trip.tripped() {
            outcome = sign().await.unwrap();
        }
    }
    assert!(trip.tripped(), "its turn never comes");
    assert!(!outcome.participants.contains(&lost), "{outcome:?}");
    assert!(outcome.culprits.iter().any(|culprit| culprit.signer == lost), "{outcome:?}");
    let status = pool.status().await;
    assert!(status.signers.iter().all(|signer| signer.up == (signer.signer != lost)), "{status:?}");

    // Started again it is a signer as before, and without another one it is needed.
    arrivals.borrow_and_update();
    let _again = site.start(lost.as_str());
    tokio::time::timeout(PATIENCE, arrivals.changed()).await.unwrap().unwrap();
    pool.meet().await.unwrap();
    proxies[&outcome.participants[0]].cut();
    let outcome = sign().await.unwrap();
    assert!(outcome.participants.contains(&lost), "{outcome:?}");
    assert_eq!(proxies.len(), 3);
    proxies.values().for_each(Proxy::mend);
}

/// The whole of it: a gateway and three signers, four processes, pay on a simulated chain.
#[test]
fn a_gateway_pays_by_signers_in_processes_of_their_own() {
    let site = Site::prepare(None);
    let mut gateway = Process::start(portcullis().args(["dev", "--config"]).arg(site.path("gateway.toml")));
    let address = gateway.wait_for("dial in at");
    let address = address.rsplit(' ').next().unwrap().parse().unwrap();
    let mut signers = Vec::new();
    for name in NAMES {
        site.write_signer(name, address);
        signers.push(site.start(name));
    }
    gateway.wait_for("3 are here");
    gateway.wait_for("main-ed25519: generated");
    let url = url_in(&gateway.wait_for("gateway  http"));
    gateway.wait_for("ready");
    let pay = |key: &str| {
        let trader = site.path("gateway").join("demo/demo-trader.key");
        let mut tx = portcullis();
        tx.args(["tx", "--url", &url, "--key"]).arg(trader);
        tx.args(["send", "sol-main", PAYEE, "50000000", "--watch", "--idempotency-key", key]);
        printed(&mut tx)
    };
    assert!(pay("one").contains("by signer-"));
    signers.remove(0).kill();
    let by = pay("two");
    assert!(by.contains("by signer-2, signer-3") || by.contains("by signer-3, signer-2"), "{by}");
    assert!(site.path("signer-2/vault").is_dir() && !site.path("gateway/signers/signer-2").exists());
}

/// What a command that ends well prints.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
