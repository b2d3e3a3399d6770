//! Every chain, one suite: what the client asked for passes, and whatever differs from it by one word, one bit or one
//! effect is refused.

use std::sync::Arc as Shared;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use chains::account::{KeyPath, PublicKey};
use chains::ethereum::{Fees, Gas, GasPrice, Nonce};
use chains::network::{BitcoinNetwork, Cluster};
use chains::payload::Message;
use chains::solana::{
    ComputeBudget, Destination, DestinationKind, Lamports, MessageVersion, MicroLamports, TokenProgram, TokenState,
};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::approval::{Approval, Approver, Decision, Statement};
use crate::policy::PolicyConfig;
use crate::request::{Evidence, SignedRequest};
use crate::roster::Credential;

mod approvals;
mod bits;
mod deals;
mod delegations;
mod intents;
mod programs;
mod tables;
mod upkeep;

/// Twice secp256k1's base point, a valid key of every kind. (Once is the payee.)
const POINT_X: &str = "c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

const EVM_PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const EVM_OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const BTC_PAYEE: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const BTC_OTHER: &str = "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6";
const SOL_PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
const SOL_OTHER: &str = "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi";
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";

const WALLETS: [(&str, &str); 7] = [
    ("eth", "ethereum:31337"),
    ("eth-2", "ethereum:1"),
    ("btc", "bitcoin:regtest"),
    ("btc-taproot", "bitcoin:regtest"),
    ("btc-2", "bitcoin:regtest"),
    ("sol", "solana:localnet"),
    ("sol-2", "solana:localnet"),
];

fn wallet(name: &str) -> WalletId {
    name.parse().expect("a name")
}

fn account(name: &str) -> Account {
    let (_, network) = WALLETS.iter().find(|(known, _)| *known == name).expect("a wallet");
    let public_key = match name {
        "btc-taproot" => PublicKey::Taproot(POINT_X.parse().expect("a point")),
        "btc-2" => PublicKey::Ecdsa(format!("03{POINT_X}").parse().expect("a point")),
        "sol" => PublicKey::Ed25519(key(20).verifying_key().to_bytes()),
        "sol-2" => PublicKey::Ed25519(key(21).verifying_key().to_bytes()),
        _ => PublicKey::Ecdsa(format!("02{POINT_X}").parse().expect("a point")),
    };
    let network = network.parse().expect("a network");
    Account::new(wallet(name), network, "key".parse().expect("a name"), KeyPath::root(), public_key)
        .expect("an account")
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The rules let every wallet do more than any test asks, so that a refusal is never the policy's by chance.
fn rules() -> Value {
    let token = format!("erc20:{TOKEN}");
    let spl = format!("spl:{MINT}");
    let evm = json!([EVM_PAYEE, EVM_OTHER, TOKEN]);
    let contracts = json!([
        {"address": TOKEN, "selectors": ["0xa9059cbb", "0x095ea7b3", "0x23b872dd", "0xd0e30db0"]},
        {"address": EVM_OTHER, "selectors": ["0xa9059cbb", "0xd0e30db0"]}
    ]);
    json!([
        {"id": "eth", "wallets": ["eth"], "assets": ["native", token], "addresses": evm, "contracts": contracts},
        {"id": "eth-2", "wallets": ["eth-2"], "addresses": evm},
        {"id": "btc", "wallets": ["btc", "btc-taproot", "btc-2"], "addresses": [BTC_PAYEE, BTC_OTHER]},
        {"id": "sol", "wallets": ["sol", "sol-2"], "assets": ["native", spl], "addresses": [SOL_PAYEE, SOL_OTHER]}
    ])
}

/// When requests are judged.
const NOW: u64 = 1_700_000_000_000;

fn guard_with(config: Value) -> Guard {
    guard_of(config, BTreeMap::new())
}

/// A guard that knows the people behind some credentials.
fn guard_of(config: Value, people: BTreeMap<CredentialId, Approver>) -> Guard {
    let config: PolicyConfig = serde_json::from_value(config).expect("the policy's form");
    let networks = WALLETS.iter().map(|(name, network)| (wallet(name), network.parse().expect("a network"))).collect();
    let policy = config.compile(&networks).expect("a sound policy");
    let credential = |id: &str, role, seed| Credential {
        id: id.parse().expect("a name"),
        role,
        public_key: key(seed).verifying_key(),
    };
    let roster = Roster::new(vec![
        credential("trader", Role::Initiator, 1),
        credential("approver", Role::Approver, 2),
        credential("operator", Role::Operator, 3),
        credential("fay", Role::Approver, 11),
        credential("finn", Role::Approver, 12),
        credential("carla", Role::Approver, 13),
        credential("carla-2", Role::Approver, 14),
        credential("pia", Role::Approver, 16),
        credential("pia-2", Role::Approver, 17),
        credential("tina", Role::Approver, 15),
    ])
    .and_then(|roster| roster.with_people(people))
    .expect("credentials and people");
    let accounts = WALLETS.iter().map(|(name, _)| (wallet(name), account(name))).collect();
    Guard::new(Shared::new(roster), Shared::new(policy), accounts)
}

fn guard() -> Guard {
    guard_with(json!({"rules": rules()}))
}

fn signed_by(id: &str, seed: u8, intent: &Value) -> SignedRequest {
    let params = json!({"idempotency_key": "invoice-17", "intent": intent});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": params}).to_string();
    SignedRequest::sign(&key(seed), &id.parse().expect("a name"), "/", "jti", 1_700_000_000, 30, body.into_bytes())
}

/// The trader asks for `intent`; the gateway presents `unsigned` for it.
fn request(intent: &Value, unsigned: Vec<u8>) -> SigningRequest {
    SigningRequest {
        tx: Uuid::from_u128(1),
        wallet: intent["wallet"].as_str().expect("a wallet").parse().expect("a name"),
        unsigned,
        evidence: Evidence {
            request: signed_by("trader", 1, intent),
            approvals: Vec::new(),
            cancel: None,
            release: None,
        },
        fence: 1,
        policy: Policy::default().digest(),
    }
}

fn pays(wallet: &str, asset: &str, to: &str, amount: &str) -> Value {
    let action = json!({"kind": "transfer", "asset": asset, "to": to, "amount": amount});
    json!({"wallet": wallet, "action": action})
}

fn calls(contract: &str, data: &str, value: &str) -> Value {
    json!({"wallet": "eth", "action": {"kind": "call", "contract": contract, "data": data, "value": value}})
}

/// What an honest gateway builds for the intent.
fn built(intent: &Value) -> Vec<u8> {
    let intent: Intent = serde_json::from_value(intent.clone()).expect("an intent");
    let account = account(intent.wallet.as_str());
    match account.network() {
        Network::Bitcoin(network) => {
            let chain = Bitcoin::new(network);
            let unsigned = chain.build(&intent, &account, &bitcoin_state(&account)).expect("possible");
            chain.encode_unsigned(&unsigned)
        }
        Network::Ethereum(chain_id) => {
            let chain = Ethereum::new(chain_id);
            let unsigned = chain.build(&intent, &account, &ethereum_state()).expect("possible");
            chain.encode_unsigned(&unsigned)
        }
        Network::Solana(cluster) => {
            let chain = Solana::new(cluster);
            let unsigned = chain.build(&intent, &account, &solana_state()).expect("possible");
            chain.encode_unsigned(&unsigned)
        }
    }
}

fn bitcoin_state(account: &Account) -> chains::bitcoin::State {
    let Address::Bitcoin(own) = account.address() else { panic!("a Bitcoin account") };
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(vec![0x51]),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let outputs =
        [60_000, 50_000].map(|sat| TxOut { value: bitcoin::Amount::from_sat(sat), script_pubkey: own.script_pubkey() });
    let previous =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: outputs.to_vec() };
    let previous = Shared::new(previous);
    let utxos = [0, 1].map(|vout| chains::bitcoin::Utxo::new(previous.clone(), vout, 6).expect("an output"));
    chains::bitcoin::State {
        utxos: utxos.to_vec(),
        fee_rate: FeeRate::from_sat_per_vb(2).expect("a rate"),
        max_fee_rate: FeeRate::from_sat_per_vb(500).expect("a rate"),
        tip: Height::from_consensus(100).expect("a height"),
        waiting: chains::bitcoin::Waiting::Untouched,
    }
}

fn ethereum_state() -> chains::ethereum::State {
    chains::ethereum::State {
        nonce: Nonce::new(7),
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

fn solana_state() -> chains::solana::State {
    let mint = UncheckedAddress::new(MINT).require_network(Network::Solana(Cluster::Localnet));
    let Ok(Address::Solana(mint)) = mint else { panic!("a mint") };
    chains::solana::State {
        validity: chains::solana::Validity::Blockhash { blockhash: Default::default(), last_valid_block_height: 1_150 },
        balance: Lamports::new(1_000_000_000),
        rent_exempt_minimum: Lamports::new(890_880),
        destination: Destination { lamports: Lamports::new(1_000_000_000), kind: DestinationKind::Wallet },
        token: Some(TokenState {
            mint,
            program: TokenProgram::Token,
            decimals: 6,
            source_balance: 1_000_000,
            destination_exists: true,
            account_rent: Lamports::new(2_039_280),
        }),
        owners: Vec::new(),
        tables: Vec::new(),
        nonce_rent: None,
        compute: ComputeBudget { unit_limit: 30_000, unit_price: MicroLamports::new(12_345) },
        version: MessageVersion::V0,
    }
}

/// `transfer(address,uint256)` of 5 units to the payee.
fn transfer_data() -> String {
    format!("0xa9059cbb{:0>64}{:064x}", EVM_PAYEE[2..].to_lowercase(), 5)
}

fn approve_data(amount: &str) -> String {
    format!("0x095ea7b3{:0>64}{amount:0>64}", EVM_PAYEE[2..].to_lowercase())
}

/// One intent of every kind.
fn intents() -> Vec<Value> {
    let token = format!("erc20:{TOKEN}");
    let spl = format!("spl:{MINT}");
    vec![
        pays("eth", "native", EVM_PAYEE, "1000"),
        pays("eth", &token, EVM_PAYEE, "1000"),
        calls(TOKEN, &transfer_data(), "0"),
        calls(TOKEN, "0xd0e30db0", "1000"),
        pays("btc", "native", BTC_PAYEE, "70000"),
        pays("btc-taproot", "native", BTC_PAYEE, "70000"),
        pays("sol", "native", SOL_PAYEE, "1000"),
        pays("sol", &spl, SOL_PAYEE, "1000"),
    ]
}

/// The intent that a request is about.
fn intent_of(request: &SigningRequest) -> IntentId {
    let call = parse_call(&request.evidence.request.body).expect("a call");
    Submission::from_call(&call).expect("a submission").intent_id(&"trader".parse().expect("a name"))
}

fn refused(request: &SigningRequest) -> Refusal {
    guard().judge(request, |_| NOW).expect_err("it must be refused")
}
