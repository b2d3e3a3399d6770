//! Three signers and a gateway, prepared through the binary: their files, what they judge by, and what a client asks of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chains::account::{Account, WalletId};
use chains::amount::Amount;
use chains::chain::Chain;
use chains::ethereum::{Ethereum, Fees, Gas, GasPrice, Nonce};
use chains::intent::Intent;
use chains::network::{Cluster, Network};
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Solana, State, Validity,
};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePublicKey;
use serde_json::json;
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{SignerId, WalletSpec};
use signer::request::{Evidence, SignedRequest, SigningRequest};
use signer::transport::grpc::Pin;
use uuid::Uuid;

use crate::process::{Process, portcullis};

pub(crate) const NAMES: [&str; 3] = ["signer-1", "signer-2", "signer-3"];
pub(crate) const PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
pub(crate) const ETH_PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
/// The chain of the Ethereum wallet.
/// When requests are signed, in seconds since 1970: so far ahead that none gets too old.
const NEVER_OLD: u64 = 4_102_444_800;
const EVM: u64 = 31337;
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

/// An Ethereum wallet beside it.
const ETH_RULES: &str = r#"
[[policy.rules]]
id = "eth-payees"
wallets = ["eth-main"]
addresses = ["0x52908400098527886E0F7030069857D2E4169EE7"]

[[wallets]]
id = "eth-main"
network = "ethereum:31337"
key = "main-ecdsa"
"#;

/// The files of three signers and a gateway, under one folder.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) gateway_key: String,
    /// By signer: the key that the gateway pins, and the key that its peers pin.
    pub(crate) keys: BTreeMap<&'static str, (Pin, String)>,
    /// What the signers have beside the wallet on Solana, in their files.
    more: &'static str,
    /// The seal of the third signer, in its file; the software seal, if it is empty.
    third_seal: String,
    /// The deployment's name in all files, where it has one.
    audience: Option<&'static str>,
}

impl Site {
    /// Prepares every part with `portcullis signer init`.
    pub(crate) fn prepare(public_key: Option<&SigningKey>) -> Self {
        Self::prepare_with(public_key, "", String::new())
    }

    /// The same with an Ethereum wallet at the signers.
    pub(crate) fn prepare_with_ethereum(public_key: &SigningKey) -> Self {
        Self::prepare_with(Some(public_key), ETH_RULES, String::new())
    }

    /// The same with another seal for the third signer.
    pub(crate) fn prepare_with_seal(public_key: &SigningKey, third_seal: String) -> Self {
        Self::prepare_with(Some(public_key), "", third_seal)
    }

    fn prepare_with(public_key: Option<&SigningKey>, more: &'static str, third_seal: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = BTreeMap::new();
        let mut site = Self { dir, gateway_key: String::new(), keys, more, third_seal, audience: None };
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

    /// Gives the deployment a name: in the gateway's file at once, and in those of the signers that are written after this.
    pub(crate) fn call_it(&mut self, audience: &'static str) {
        self.audience = Some(audience);
        self.write_gateway();
    }

    fn audience(&self) -> String {
        self.audience.map_or_else(String::new, |name| format!("audience = \"{name}\"\n"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the client's public key is.
    pub(crate) fn public_key(&self) -> PathBuf {
        self.path("gateway").join("demo/demo-trader.pub")
    }

    fn rules(&self) -> String {
        RULES.replace("PUBLIC_KEY", self.public_key().to_str().unwrap())
    }

    pub(crate) fn write_gateway(&self) {
        let apart = |(name, (key, _)): (&&str, &(Pin, String))| {
            format!("[[signers.apart]]\nname = \"{name}\"\npublic_key = \"{key}\"\nregion = \"{name}\"\n")
        };
        let apart = self.keys.iter().map(apart).collect::<String>();
        let simulator = ["bitcoin", "ethereum", "solana"]
            .map(|chain| format!("{chain} = {{ listen = \"127.0.0.1:0\", block_interval_ms = 100 }}\n"))
            .concat();
        let text = format!(
            "data_dir = {:?}\n{}[server]\nlisten = \"127.0.0.1:0\"\n[signers]\nlisten = \"127.0.0.1:0\"\nthreshold = 2\n\
             min_regions = 2\n{apart}\n[[keys]]\nid = \"main-ed25519\"\nscheme = \"ed25519\"\n[[networks]]\n\
             id = \"solana:localnet\"\npoll_interval_ms = 50\n{}\n[simulator]\n{simulator}",
            self.path("gateway"),
            self.audience(),
            self.rules()
        );
        std::fs::write(self.path("gateway.toml"), text).unwrap();
    }

    pub(crate) fn write_signer(&self, name: &str, coordinator: SocketAddr) {
        let peers = self.keys.iter().map(|(name, (_, link))| format!("{name} = \"{link}\"\n")).collect::<String>();
        let public_key = match self.gateway_key.as_str() {
            "" => String::new(),
            key => format!("public_key = \"{key}\"\n"),
        };
        let text = format!(
            "name = \"{name}\"\ndata_dir = {:?}\n{}threshold = 2\n[coordinator]\naddress = \"{coordinator}\"\n{public_key}\
             [peers]\n{peers}\n{}\n{}\n{}",
            self.path(name),
            self.audience(),
            if name == NAMES[2] { self.third_seal.as_str() } else { "" },
            self.rules(),
            self.more,
        );
        std::fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    pub(crate) fn start(&self, name: &str) -> Process {
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

pub(crate) fn id(name: &str) -> SignerId {
    name.parse().unwrap()
}

pub(crate) fn wallet() -> WalletSpec {
    let network = Network::Solana(Cluster::Localnet);
    let (wallet, key) = ("sol-main".parse().unwrap(), "main-ed25519".parse().unwrap());
    WalletSpec { wallet, network, key, path: "m".parse().unwrap() }
}

/// The wallet of [`Site::prepare_with_ethereum`].
pub(crate) fn eth_wallet() -> WalletSpec {
    let (wallet, key) = ("eth-main".parse().unwrap(), "main-ecdsa".parse().unwrap());
    WalletSpec { wallet, network: Network::Ethereum(EVM), key, path: "m".parse().unwrap() }
}

/// What the signers' files say, those of [`Site::prepare_with_ethereum`] where its wallet is among these.
pub(crate) fn policy(wallets: &[WalletSpec]) -> Policy {
    let mut named = vec![wallet()];
    named.extend(wallets.contains(&eth_wallet()).then(eth_wallet));
    let rule = |spec: &WalletSpec| match spec.network {
        Network::Solana(_) => json!({
            "id": "sol-payees",
            "wallets": ["sol-main"],
            "assets": ["native", "spl:9sgso1vsgbmtGabPkZaKNzYPHP8JDsJFkA7HRNSKoV2G"],
            "addresses": [PAYEE],
        }),
        _ => json!({ "id": "eth-payees", "wallets": ["eth-main"], "addresses": [ETH_PAYEE] }),
    };
    let rules = json!({ "rules": named.iter().map(rule).collect::<Vec<_>>() });
    let config: PolicyConfig = serde_json::from_value(rules).unwrap();
    let networks = named.iter().map(|spec| (spec.wallet.clone(), spec.network));
    config.compile(&networks.collect::<BTreeMap<WalletId, Network>>()).unwrap()
}

/// The payment of this number from a wallet, as the client signs it.
pub(crate) fn request(client: &SigningKey, account: &Account, number: u64, policy: &Policy) -> SigningRequest {
    let (to, amount) = match account.network() {
        Network::Solana(_) => (PAYEE, Amount::from_lamports(1_000_000 + number)),
        _ => (ETH_PAYEE, Amount::from_wei(1_000_000 + u128::from(number))),
    };
    let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": amount });
    let intent = json!({ "wallet": account.wallet(), "action": action });
    let params = json!({ "idempotency_key": format!("payment-{number}"), "intent": intent });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params });
    let intent: Intent = serde_json::from_value(intent).unwrap();
    let unsigned = match account.network() {
        Network::Solana(_) => {
            let chain = Solana::new(Cluster::Localnet);
            chain.encode_unsigned(&chain.build(&intent, account, &solana_state()).unwrap())
        }
        _ => {
            let chain = Ethereum::new(EVM);
            chain.encode_unsigned(&chain.build(&intent, account, &ethereum_state(number)).unwrap())
        }
    };
    let (sub, jti) = ("demo-trader".parse().unwrap(), format!("jti-{number}"));
    let body = serde_json::to_vec(&body).unwrap();
    let request = SignedRequest::sign(client, &sub, "/v1", &jti, NEVER_OLD, 60, body);
    let evidence = Evidence { request, approvals: Vec::new(), cancel: None, release: None };
    let tx = Uuid::from_u128(number.into());
    SigningRequest { tx, wallet: account.wallet().clone(), unsigned, evidence, fence: 1, policy: policy.digest() }
}

fn solana_state() -> State {
    State {
        validity: Validity::Blockhash {
            blockhash: "EkSnNWid2cvwEVnVx9aBqawnmiCNiDgp3gUdkDPTKN1N".parse().unwrap(),
            last_valid_block_height: 1_000,
        },
        tables: Vec::new(),
        nonce_rent: None,
        balance: Lamports::new(10_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000), kind: DestinationKind::Wallet },
        token: None,
        compute: ComputeBudget { unit_limit: 1_000, unit_price: MicroLamports::new(1_000) },
        version: MessageVersion::V0,
        owners: Vec::new(),
    }
}

fn ethereum_state(nonce: u64) -> chains::ethereum::State {
    let max_fee_per_gas = GasPrice::from_gwei(20);
    chains::ethereum::State {
        nonce: Nonce::new(nonce),
        balance: Amount::from_wei(10_000_000_000_000_000_000),
        token_balance: None,
        fees: Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas: GasPrice::from_gwei(1) },
        gas_limit: Gas::from_units(21_000),
        replacing: None,
    }
}
