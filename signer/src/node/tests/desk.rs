//! A client with wallets on every chain, and signers that hold the keys of them.

use chains::account::WalletId;
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::bitcoin::{Bitcoin, Utxo};
use chains::chain::Chain;
use chains::ethereum::{Ethereum, Fees, Gas, GasPrice, Nonce};
use chains::intent::Intent;
use chains::network::{Cluster, Network};
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, Solana, TableAccount,
    TokenProgram, TokenState, table_digest,
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::policy::PolicyConfig;
use crate::request::{Evidence, SignedRequest};
use crate::roster::{Credential, Role};

pub(super) const EVM_PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub(super) const EVM_OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
pub(super) const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
pub(super) const BTC_PAYEE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
pub(super) const BTC_OTHER: &str = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6";
pub(super) const SOL_PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
pub(super) const SOL_OTHER: &str = "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi";
pub(super) const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
/// A program of which every call is permitted whose data begins with 1.
pub(super) const PROGRAM: &str = "JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4";

/// Each wallet with its network, scheme (which names its key) and path.
const WALLETS: [(&str, &str, SchemeId, &str); 5] = [
    ("eth", "ethereum:31337", SchemeId::Ecdsa, "m/0"),
    ("btc", "bitcoin:regtest", SchemeId::Ecdsa, "m/1/5"),
    ("btc-2", "bitcoin:regtest", SchemeId::Ecdsa, "m/1/6"),
    ("btc-taproot", "bitcoin:regtest", SchemeId::Taproot, "m"),
    ("sol", "solana:localnet", SchemeId::Ed25519, "m"),
];

/// The client's side, and what the signers were given of it.
pub(super) struct Desk {
    pub(super) client: SigningKey,
    accounts: BTreeMap<WalletId, Account>,
    roster: Arc<Roster>,
    policy: Arc<Policy>,
    wallets: Vec<WalletSpec>,
}

fn key_of(scheme: SchemeId) -> KeyId {
    scheme.name().parse().unwrap()
}

/// Signers with a 2-of-3 key of each scheme, and a desk whose wallets they serve.
pub(super) fn open_for_business(schemes: &[SchemeId]) -> (Signers, Desk) {
    let dir = tempfile::tempdir().unwrap();
    let nodes = NAMES.map(|name| open(dir.path(), name)).into_iter().collect::<Vec<_>>();
    let signers = Signers { dir, nodes };
    signers.join();
    let mut infos = BTreeMap::new();
    for &scheme in schemes {
        for (node, share) in signers.nodes.iter().zip(deal(scheme, 2, 3).into_values()) {
            let (key, participants, group) = (key_of(scheme), ids(&NAMES), share.group());
            let info = KeyInfo { key: key.clone(), scheme, epoch: 1, threshold: 2, participants, group };
            let held = node.vault.put(&info, &share).unwrap();
            node.keys.write().unwrap().insert(key.clone(), held);
            assert!(matches!(node.carry_out(Command::Activate { key: key.clone(), epoch: 1 }), Ok(Answer::Done)));
            infos.insert(key, info);
        }
    }
    let desk = Desk::new(&infos);
    signers.nodes.iter().for_each(|node| desk.install(node));
    (signers, desk)
}

/// When requests are signed, in seconds since 1970: so far ahead that none gets too old.
const NEVER_OLD: u64 = 4_102_444_800;

impl Desk {
    fn new(infos: &BTreeMap<KeyId, KeyInfo>) -> Self {
        let wallets = WALLETS.into_iter().map(|(wallet, network, scheme, path)| WalletSpec {
            wallet: wallet.parse().unwrap(),
            network: network.parse().unwrap(),
            key: key_of(scheme),
            path: path.parse().unwrap(),
        });
        let wallets = wallets.filter(|spec| infos.contains_key(&spec.key)).collect::<Vec<_>>();
        let accounts = wallets.iter().map(|spec| (spec.wallet.clone(), account(spec, &infos[&spec.key]).unwrap()));
        let client = SigningKey::from_bytes(&[42; 32]);
        let credential = |id: &str, role, public_key| Credential { id: id.parse().unwrap(), role, public_key };
        let approver = SigningKey::from_bytes(&[43; 32]);
        let roster = Roster::new(vec![
            credential("trader", Role::Initiator, client.verifying_key()),
            credential("approver", Role::Approver, approver.verifying_key()),
        ]);
        let networks = wallets.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect();
        let policy = json!({ "rules": rules(&wallets), "lookup_tables": pins(&wallets) });
        let config: PolicyConfig = serde_json::from_value(policy).unwrap();
        let policy = Arc::new(config.compile(&networks).unwrap());
        Self { client, accounts: accounts.collect(), roster: Arc::new(roster.unwrap()), policy, wallets }
    }

    /// The same with limits in the policy.
    pub(super) fn with_limits(mut self, limits: &Value) -> Self {
        let networks = self.wallets.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect();
        let policy = json!({ "rules": rules(&self.wallets), "limits": limits });
        let config: PolicyConfig = serde_json::from_value(policy).unwrap();
        self.policy = Arc::new(config.compile(&networks).unwrap());
        self
    }

    /// Gives a signer its copies, as the pool does at the start.
    pub(super) fn install(&self, node: &Node) {
        node.install(self.roster.clone(), self.policy.clone(), &self.wallets).unwrap();
    }

    pub(super) fn account(&self, wallet: &str) -> &Account {
        &self.accounts[&wallet.parse::<WalletId>().unwrap()]
    }

    /// What the client signs when it asks for `intent` under `name`.
    pub(super) fn ask(&self, name: &str, intent: &Value) -> SignedRequest {
        let params = json!({ "idempotency_key": name, "intent": intent });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params });
        self.sign(serde_json::to_vec(&body).unwrap())
    }

    pub(super) fn sign(&self, body: Vec<u8>) -> SignedRequest {
        SignedRequest::sign(&self.client, &"trader".parse().unwrap(), "/", "jti", NEVER_OLD, 30, body)
    }

    /// The whole request of an honest gateway. `state` numbers the state of the chain that the transaction is built on.
    pub(super) fn request(&self, tx: u128, intent: &Value, state: u32) -> SigningRequest {
        let wallet = intent["wallet"].as_str().unwrap();
        SigningRequest {
            tx: Uuid::from_u128(tx),
            wallet: wallet.parse().unwrap(),
            unsigned: self.build(intent, state),
            evidence: Evidence {
                request: self.ask(&format!("payment-{tx}"), intent),
                approvals: Vec::new(),
                cancel: None,
                release: None,
            },
            fence: 1,
            policy: self.policy.digest(),
        }
    }

    fn build(&self, intent: &Value, state: u32) -> Vec<u8> {
        let intent: Intent = serde_json::from_value(intent.clone()).unwrap();
        let account = self.account(intent.wallet.as_str());
        match account.network() {
            Network::Bitcoin(network) => {
                let chain = Bitcoin::new(network);
                chain.encode_unsigned(&chain.build(&intent, account, &bitcoin_state(account, state)).unwrap())
            }
            Network::Ethereum(chain_id) => {
                let chain = Ethereum::new(chain_id);
                chain.encode_unsigned(&chain.build(&intent, account, &ethereum_state(state)).unwrap())
            }
            Network::Solana(cluster) => {
                let chain = Solana::new(cluster);
                chain.encode_unsigned(&chain.build(&intent, account, &solana_state(state)).unwrap())
            }
        }
    }
}

pub(super) fn pays(wallet: &str, asset: &str, to: &str, amount: u64) -> Value {
    let action = json!({ "kind": "transfer", "asset": asset, "to": to, "amount": amount.to_string() });
    json!({ "wallet": wallet, "action": action })
}

/// The rules allow more than any test asks, so that a refusal is never the policy's by chance.
fn rules(wallets: &[WalletSpec]) -> Vec<Value> {
    let rule = |spec: &WalletSpec| match spec.network {
        Network::Ethereum(_) => json!({
            "id": spec.wallet, "wallets": [spec.wallet], "assets": ["native", format!("erc20:{TOKEN}")],
            "addresses": [EVM_PAYEE, EVM_OTHER, TOKEN],
            "contracts": [{ "address": TOKEN, "selectors": ["0xa9059cbb", "0xd0e30db0"] }]
        }),
        Network::Bitcoin(_) => {
            json!({ "id": spec.wallet, "wallets": [spec.wallet], "addresses": [BTC_PAYEE, BTC_OTHER] })
        }
        Network::Solana(_) => json!({
            "id": spec.wallet, "wallets": [spec.wallet], "assets": ["native", format!("spl:{MINT}")],
            "addresses": [SOL_PAYEE, SOL_OTHER],
            "programs": [{ "address": PROGRAM, "discriminators": ["0x01"], "other_accounts": true }]
        }),
    };
    wallets.iter().map(rule).collect()
}

/// A lookup table with all its entries, as the policy names it.
fn pins(wallets: &[WalletSpec]) -> Vec<Value> {
    if !wallets.iter().any(|spec| matches!(spec.network, Network::Solana(_))) {
        return Vec::new();
    }
    let (table, entries) = (table(), table().entries().unwrap());
    let sha256 = hex::encode(table_digest(&entries, entries.len()).unwrap());
    vec![json!({ "address": table.address.to_string(), "length": entries.len(), "sha256": sha256 })]
}

/// A call of the program that reads two accounts by way of the table.
pub(super) fn calls_by_table() -> Value {
    let account = |address: &str, writable: bool| json!({ "address": address, "writable": writable });
    let accounts = [account(SOL_PAYEE, true), account(SOL_OTHER, false)];
    let instruction = json!({ "program": PROGRAM, "accounts": accounts, "data": "0x01aa" });
    let tables = [table().address.to_string()];
    let action = json!({ "kind": "call_program", "instructions": [instruction], "lookup_tables": tables });
    json!({ "wallet": "sol", "action": action })
}

/// The table's account: 56 bytes about it, then the entries.
pub(super) fn table() -> TableAccount {
    let key = |text: &str| match UncheckedAddress::new(text).require_network(Network::Solana(Cluster::Localnet)) {
        Ok(Address::Solana(key)) => key,
        other => panic!("{other:?}"),
    };
    let owner = key("AddressLookupTab1e1111111111111111111111111");
    let head = [&1_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes(), &77_u64.to_le_bytes(), &[0, 1], &[4; 32], &[0, 0]];
    let entries = [SOL_OTHER, MINT, SOL_PAYEE].map(|entry| key(entry).to_bytes());
    TableAccount { address: [60; 32].into(), owner, data: [head.concat(), entries.concat()].concat() }
}

/// One coin of 100 000 sat, another one in each state.
fn bitcoin_state(account: &Account, state: u32) -> chains::bitcoin::State {
    let Address::Bitcoin(own) = account.address() else { panic!("a Bitcoin account") };
    let input = bitcoin::TxIn { previous_output: bitcoin::OutPoint::null(), ..Default::default() };
    let output = bitcoin::TxOut { value: bitcoin::Amount::from_sat(100_000), script_pubkey: own.script_pubkey() };
    let previous = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(state),
        input: vec![input],
        output: vec![output],
    };
    chains::bitcoin::State {
        utxos: vec![Utxo::new(Arc::new(previous), 0, 6).unwrap()],
        fee_rate: bitcoin::FeeRate::from_sat_per_vb(2).unwrap(),
        max_fee_rate: bitcoin::FeeRate::from_sat_per_vb(500).unwrap(),
        tip: bitcoin::absolute::Height::from_consensus(100).unwrap(),
        waiting: chains::bitcoin::Waiting::Untouched,
    }
}

fn ethereum_state(state: u32) -> chains::ethereum::State {
    chains::ethereum::State {
        nonce: Nonce::new(state.into()),
        balance: Amount::from_wei(10_u128.pow(20)),
        token_balance: Some(Amount::from_wei(10_u128.pow(20))),
        fees: Fees::Eip1559 {
            max_fee_per_gas: GasPrice::from_gwei(20),
            max_priority_fee_per_gas: GasPrice::from_gwei(1),
        },
        gas_limit: Gas::from_units(60_000),
        replacing: None,
    }
}

fn solana_state(state: u32) -> chains::solana::State {
    let mint = UncheckedAddress::new(MINT).require_network(Network::Solana(Cluster::Localnet));
    let Ok(Address::Solana(mint)) = mint else { panic!("a mint") };
    let mut blockhash = [7; 32];
    blockhash[..4].copy_from_slice(&state.to_be_bytes());
    chains::solana::State {
        validity: chains::solana::Validity::Blockhash { blockhash: blockhash.into(), last_valid_block_height: 1_150 },
        balance: Lamports::new(10_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000_000), kind: DestinationKind::Wallet },
        token: Some(TokenState {
            mint,
            program: TokenProgram::Token,
            decimals: 6,
            source_balance: 1_000_000_000,
            destination_exists: true,
            account_rent: Lamports::new(2_039_280),
        }),
        owners: Vec::new(),
        tables: vec![table()],
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 30_000, unit_price: MicroLamports::new(12_345) },
        version: MessageVersion::V0,
    }
}
