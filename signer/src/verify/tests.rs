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
mod deals;
mod delegations;
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

#[test]
fn what_was_asked_for_is_signed() {
    let guard = guard();
    for intent in intents() {
        let request = request(&intent, built(&intent));
        let judged = guard.judge(&request, |_| NOW).unwrap_or_else(|e| panic!("{intent}: {e}"));
        assert_eq!(judged.account, account(request.wallet.as_str()));
        // Two coins were needed; elsewhere there is one signature.
        let inputs = if request.wallet.as_str().starts_with("btc") { 2 } else { 1 };
        assert_eq!((judged.payloads.len(), judged.uses.slots.len()), (inputs, inputs), "{intent}");
        let expected = |message: &Message| match request.wallet.as_str() {
            "btc-taproot" => matches!(message, Message::Taproot(_)),
            "sol" => matches!(message, Message::Ed25519(_)),
            _ => matches!(message, Message::Ecdsa(_)),
        };
        assert!(judged.payloads.iter().all(|payload| expected(payload.message())), "{intent}");
        let slots: Vec<String> = judged.uses.slots.iter().map(ToString::to_string).collect();
        assert!(slots.iter().all(|slot| slot.starts_with(&format!("{}/", judged.account.network()))), "{slots:?}");
    }
}

#[test]
fn the_intent_is_the_clients_and_not_the_gateways() {
    let intent = &intents()[0];
    let first = request(intent, built(intent));
    let judged = |request: &SigningRequest| guard().judge(request, |_| NOW).expect("asked for").intent;
    // Another name, another lease, another nonce: still the one intent.
    let again = SigningRequest { tx: Uuid::from_u128(2), fence: 9, ..first.clone() };
    assert_eq!(judged(&first), judged(&again));
}

/// Every intent that differs from one in a single word, and can be built, against the transaction of that one.
#[test]
fn a_transaction_serves_no_other_intent() {
    let edits: Vec<(&str, &str)> = vec![
        ("/action/amount", "1001"),
        ("/action/amount", "999"),
        ("/action/amount", "1"),
        ("/action/value", "1001"),
        ("/action/value", "0"),
        ("/action/to", EVM_OTHER),
        ("/action/to", BTC_OTHER),
        ("/action/to", SOL_OTHER),
        ("/action/to", TOKEN),
        ("/action/asset", "native"),
        ("/action/contract", EVM_OTHER),
        ("/action/data", "0xd0e30db0"),
        ("/action/data", "0xd0e30db1"),
        ("/action/data", "0xd0e30db000"),
        ("/action/data", "0xd0e30d"),
        ("/action/data", "0x"),
    ];
    let mut tried = 0;
    for intent in intents() {
        let unsigned = built(&intent);
        for (part, word) in &edits {
            let mut other = intent.clone();
            match other.pointer_mut(part) {
                Some(found) if *found != *word => *found = json!(word),
                _ => continue,
            }
            let refusal = refused(&request(&other, unsigned.clone()));
            assert!(
                matches!(refusal, Refusal::Mismatch(_) | Refusal::Address(_)),
                "{part} = {word} of {intent}: {refusal}"
            );
            tried += 1;
        }
        // Another kind of action with the same outcome is another intent all the same.
        for other in intents().iter().filter(|other| **other != intent && other["wallet"] == intent["wallet"]) {
            let refusal = refused(&request(other, unsigned.clone()));
            assert!(matches!(refusal, Refusal::Mismatch(_)), "{other} for {intent}: {refusal}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn a_wallet_signs_for_itself_alone() {
    for (intent, other) in [(0, "eth-2"), (4, "btc-2"), (4, "btc-taproot"), (6, "sol-2"), (6, "btc"), (4, "eth")] {
        let intent = intents()[intent].clone();
        let unsigned = built(&intent);
        let mut others = intent.clone();
        others["wallet"] = json!(other);
        // The client asked another wallet to pay; the bytes are this one's.
        let refusal = refused(&request(&others, unsigned.clone()));
        assert!(matches!(refusal, Refusal::Decode(_)), "{other}: {refusal}");
        // The gateway says another wallet than the client.
        let request = SigningRequest { wallet: wallet(other), ..request(&intent, unsigned) };
        assert!(matches!(refused(&request), Refusal::OtherWallet { .. }), "{other}");
    }
    let intent = pays("nobody", "native", EVM_PAYEE, "1");
    assert_eq!(refused(&request(&intent, Vec::new())), Refusal::UnknownWallet(wallet("nobody")));
}

#[test]
fn only_an_initiator_asks() {
    let intent = &intents()[0];
    let good = request(intent, built(intent));
    let with = |request: SignedRequest| SigningRequest {
        evidence: Evidence { request, approvals: Vec::new(), cancel: None, release: None },
        ..good.clone()
    };
    for (id, seed, role) in [("approver", 2, Role::Approver), ("operator", 3, Role::Operator)] {
        let expected = Refusal::Role { credential: id.parse().expect("a name"), role };
        assert_eq!(refused(&with(signed_by(id, seed, intent))), expected);
    }
    let stranger = refused(&with(signed_by("stranger", 9, intent)));
    assert!(matches!(stranger, Refusal::Auth(AuthError::UnknownCredential(_))));
    let forged = refused(&with(signed_by("trader", 9, intent)));
    assert!(matches!(forged, Refusal::Auth(AuthError::Signature(_))));

    // The gateway swaps the body under the client's token.
    let mut swapped = good.clone();
    swapped.evidence.request.body = signed_by("trader", 1, &pays("eth", "native", EVM_OTHER, "1000")).body;
    assert!(matches!(refused(&swapped), Refusal::Auth(AuthError::BodyHash(_))));

    // A call of another method, signed by the trader, is no payment.
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"tx_list","params":{}}"#.to_vec();
    let trader = "trader".parse().expect("a name");
    let listing = SignedRequest::sign(&key(1), &trader, "/", "jti", 1_700_000_000, 30, body);
    assert!(matches!(refused(&with(listing)), Refusal::Body(BodyError::Method { .. })));
    let batch = [b"[".as_slice(), &good.evidence.request.body, b"]"].concat();
    let batch = SignedRequest::sign(&key(1), &trader, "/", "jti", 1_700_000_000, 30, batch);
    assert!(matches!(refused(&with(batch)), Refusal::Body(BodyError::NotACall(_))));

    // Nobody of the roster approves.
    let approver: CredentialId = "approver".parse().expect("a name");
    let subject = Subject { intent: intent_of(&good), initiator: &trader, body: &good.evidence.request.body };
    let statement = Statement::about(&subject, Decision::Approve, 2_000_000_000);
    let approval = Approval::sign(approver.clone(), &statement, &key(9));
    let mut approved = good.clone();
    approved.evidence.approvals.push(approval);
    assert_eq!(refused(&approved), Refusal::Approval(ApprovalError::NotAnApprover(approver)));
}

#[test]
fn the_fee_stays_below_the_intents_cap() {
    for mut intent in intents() {
        let unsigned = built(&intent);
        let judge = |intent: &Value| guard().judge(&request(intent, unsigned.clone()), |_| NOW);
        // The highest cap that refuses tells the fee.
        intent["max_fee"] = json!("0");
        let Err(Refusal::FeeAboveCap { fee, cap }) = judge(&intent) else { panic!("{intent}") };
        assert_eq!(cap, Amount::ZERO);
        intent["max_fee"] = json!(fee);
        assert!(judge(&intent).is_ok(), "{intent}");
        let below = fee.checked_sub(Amount::from_sat(1)).expect("there is a fee");
        intent["max_fee"] = json!(below);
        assert_eq!(judge(&intent).expect_err("one unit too much"), Refusal::FeeAboveCap { fee, cap: below });
    }
}

#[test]
fn the_policy_is_asked_last_and_denies() {
    let intent = &intents()[0];
    let request = request(intent, built(intent));
    let deny = |config: Value| guard_with(config).judge(&request, |_| NOW).expect_err("it must be denied");
    assert!(matches!(deny(json!({"rules": []})), Refusal::Denied(Denial::NoRule { .. })));
    let denied = json!({"denied_addresses": [EVM_PAYEE], "rules": rules()});
    assert!(matches!(deny(denied), Refusal::Denied(Denial::DeniedAddress { .. })));
    let capped = json!([{"id": "a", "wallets": ["eth"], "addresses": [EVM_PAYEE], "max_amount": "999"}]);
    assert!(matches!(deny(json!({"rules": capped})), Refusal::Denied(Denial::AboveLimit { .. })));

    // What a call does beyond the call itself is the policy's to judge.
    let approve = calls(TOKEN, &approve_data("5"), "0");
    assert!(guard().judge(&super::tests::request(&approve, built(&approve)), |_| NOW).is_ok());
    let unlimited = calls(TOKEN, &approve_data(&"f".repeat(64)), "0");
    let refusal = refused(&super::tests::request(&unlimited, built(&unlimited)));
    assert!(matches!(refusal, Refusal::Denied(Denial::UnlimitedAllowance { .. })));
    let unlisted = calls(TOKEN, "0x00000001", "0");
    let refusal = refused(&super::tests::request(&unlisted, built(&unlisted)));
    assert!(matches!(refusal, Refusal::Denied(Denial::UnlistedContract { .. })));
}

/// An allowance is nothing that a transfer may bring along, whatever the adapter makes of the bytes.
#[test]
fn a_transfer_brings_nothing_along() {
    let intent = pays("eth", &format!("erc20:{TOKEN}"), EVM_PAYEE, "5");
    let account = account("eth");
    let chain = Ethereum::new(31337);
    let unsigned = chain.decode_unsigned(&built(&intent)).expect("decodable");
    let good = chain.effects(&account, &unsigned).expect("decodable");
    let intent: Intent = serde_json::from_value(intent).expect("an intent");
    assert_eq!(require_same(&intent, &account, &good, &BTreeSet::new()), Ok(()));

    let refused = |change: &dyn Fn(&mut Effects)| {
        let mut effects = good.clone();
        change(&mut effects);
        assert!(
            matches!(require_same(&intent, &account, &effects, &BTreeSet::new()), Err(Refusal::Mismatch(_))),
            "{effects:?}"
        );
    };
    let spender = UncheckedAddress::new(EVM_OTHER).require_network(account.network()).expect("an address");
    let allowance =
        chains::effects::Allowance { asset: Asset::Native, spender: spender.clone(), amount: Amount::from_sat(1) };
    refused(&|effects| effects.allowances.push(allowance.clone()));
    refused(&|effects| effects.transfers.push(effects.transfers[0].clone()));
    refused(&|effects| effects.transfers.clear());
    refused(&|effects| effects.transfers[0].from = spender.clone());
    refused(&|effects| effects.transfers[0].to = spender.clone());
    refused(&|effects| effects.transfers[0].asset = Asset::Native);
    refused(&|effects| effects.transfers[0].amount = Amount::from_sat(6));
    refused(&|effects| effects.calls.push(effects.calls[0].clone()));
    refused(&|effects| effects.calls.clear());
    refused(&|effects| effects.calls[0].value = Amount::from_sat(1));
    refused(&|effects| effects.calls[0].selector = [1, 2, 3, 4].into());
    refused(&|effects| effects.calls[0].arguments = vec![0; 64].into());
    refused(&|effects| {
        let mut arguments = effects.calls[0].arguments.to_vec();
        arguments.push(0);
        effects.calls[0].arguments = arguments.into();
    });
}

/// Which bits are flipped outside of what is fixed. A PSBT is long, and slow to check.
#[derive(Clone, Copy, PartialEq)]
enum Bits {
    All,
    OneOfEachByte,
}

/// Whatever bit of the transaction is flipped: it is refused, or what is signed still pays the same. In particular every
/// flip inside of the receiver or the amount is refused.
fn flip_bits(intent: &Value, every: Bits, fixed: &[Vec<u8>]) {
    let guard = guard();
    let unsigned = built(intent);
    let good = request(intent, unsigned.clone());
    let ranges: Vec<_> = fixed
        .iter()
        .map(|part| {
            let at = unsigned.windows(part.len()).position(|window| window == part);
            let at = at.unwrap_or_else(|| panic!("{} is not in the bytes", hex::encode(part)));
            at..at + part.len()
        })
        .collect();
    let account = account(good.wallet.as_str());
    let mut accepted = 0;
    let is_fixed = |byte: usize| ranges.iter().any(|range| range.contains(&byte));
    let bits = (0..unsigned.len() * 8).filter(|bit| every == Bits::All || is_fixed(bit / 8) || bit / 8 % 8 == bit % 8);
    for bit in bits {
        let mut flipped = good.clone();
        flipped.unsigned[bit / 8] ^= 1 << (bit % 8);
        if guard.judge(&flipped, |_| NOW).is_ok() {
            accepted += 1;
            assert!(!is_fixed(bit / 8), "{intent}: bit {bit}");
            assert_eq!(pays_what(&account, &flipped.unsigned), pays_what(&account, &unsigned), "{intent}: bit {bit}");
        }
    }
    // A nonce, a gas price, a block hash: what the intent leaves open.
    assert!(accepted > 0, "{intent}: nothing but refusals proves nothing");
}

fn pays_what(account: &Account, bytes: &[u8]) -> Effects {
    fn of<C: Chain>(chain: &C, account: &Account, bytes: &[u8]) -> Effects {
        let unsigned = chain.decode_unsigned(bytes).expect("it was accepted");
        chain.effects(account, &unsigned).expect("it was accepted")
    }
    let effects = match account.network() {
        Network::Bitcoin(network) => of(&Bitcoin::new(network), account, bytes),
        Network::Ethereum(chain_id) => of(&Ethereum::new(chain_id), account, bytes),
        Network::Solana(cluster) => of(&Solana::new(cluster), account, bytes),
    };
    // Fees and what is announced may differ.
    Effects { max_fee: Amount::ZERO, change: Amount::ZERO, touches: Vec::new(), ..effects }
}

fn evm_bytes(address: &str) -> Vec<u8> {
    hex::decode(&address[2..]).expect("hex")
}

#[test]
fn no_bit_of_an_ethereum_payment_is_free() {
    let own = evm_bytes(&account("eth").address().to_string());
    flip_bits(&intents()[0], Bits::All, &[own.clone(), evm_bytes(EVM_PAYEE), vec![0x82, 0x03, 0xe8]]);
    let amount = Amount::from_sat(1000).to_be_bytes().to_vec();
    flip_bits(&intents()[1], Bits::All, &[own.clone(), evm_bytes(TOKEN), evm_bytes(EVM_PAYEE), amount]);
    flip_bits(
        &intents()[2],
        Bits::All,
        &[own, evm_bytes(TOKEN), evm_bytes(EVM_PAYEE), hex::decode("a9059cbb").expect("hex")],
    );
}

#[test]
fn no_bit_of_a_solana_payment_is_free() {
    let key_of = |address: &str| {
        let address = UncheckedAddress::new(address).require_network(Network::Solana(Cluster::Localnet));
        let Ok(Address::Solana(key)) = address else { panic!("a key") };
        key.to_bytes().to_vec()
    };
    let own = key(20).verifying_key().to_bytes().to_vec();
    // System program: instruction 2, little-endian lamports.
    let amount = [2_u32.to_le_bytes().as_slice(), &1000_u64.to_le_bytes()].concat();
    flip_bits(&intents()[6], Bits::All, &[own.clone(), key_of(SOL_PAYEE), amount]);
    // Token program: TransferChecked (12), little-endian units; the receiver stands among the owners.
    let amount = [[12].as_slice(), &1000_u64.to_le_bytes()].concat();
    flip_bits(&intents()[7], Bits::All, &[own, key_of(SOL_PAYEE), key_of(MINT), amount]);
}

#[test]
fn no_bit_of_a_bitcoin_payment_is_free() {
    let address = UncheckedAddress::new(BTC_PAYEE).require_network(Network::Bitcoin(BitcoinNetwork::Regtest));
    let Ok(Address::Bitcoin(payee)) = address else { panic!("an address") };
    let output = TxOut { value: bitcoin::Amount::from_sat(70_000), script_pubkey: payee.script_pubkey() };
    let output = bitcoin::consensus::serialize(&output);
    flip_bits(&intents()[4], Bits::OneOfEachByte, std::slice::from_ref(&output));
    flip_bits(&intents()[5], Bits::OneOfEachByte, &[output]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two payments that differ in anything: neither transaction serves the other intent.
    #[test]
    fn payments_are_not_mixed_up(
        chain in 0_usize..4,
        (first, second) in (1_u64..40_000, 1_u64..40_000),
        to_first: bool,
        to_second: bool,
    ) {
        prop_assume!((first, to_first) != (second, to_second));
        let erc20 = format!("erc20:{TOKEN}");
        let (wallet, asset, payees, least) = [
            ("eth", "native", [EVM_PAYEE, EVM_OTHER], 0),
            ("eth", &erc20, [EVM_PAYEE, EVM_OTHER], 0),
            ("btc", "native", [BTC_PAYEE, BTC_OTHER], 1_000),
            ("sol", "native", [SOL_PAYEE, SOL_OTHER], 0),
        ][chain];
        let intent = |amount: u64, to: bool| pays(wallet, asset, payees[usize::from(to)], &(least + amount).to_string());
        let (first, second) = (intent(first, to_first), intent(second, to_second));
        prop_assert!(guard().judge(&request(&first, built(&first)), |_| NOW).is_ok());
        prop_assert_eq!(refused(&request(&second, built(&first))), Refusal::Mismatch(match chain {
            1 => Mismatch::Calls,
            _ => Mismatch::Transfers,
        }));
    }

    #[test]
    fn no_bytes_make_the_guard_panic(at in 0_usize..8, bytes in prop::collection::vec(any::<u8>(), 0..300), cut: u16) {
        let intent = intents()[at].clone();
        prop_assert!(guard().judge(&request(&intent, bytes.clone()), |_| NOW).is_err());
        let mut unsigned = built(&intent);
        unsigned.truncate(usize::from(cut) % unsigned.len());
        prop_assert!(guard().judge(&request(&intent, unsigned.clone()), |_| NOW).is_err());
        unsigned.extend(bytes);
        if unsigned != built(&intent) {
            prop_assert!(guard().judge(&request(&intent, unsigned), |_| NOW).is_err());
        }
    }
}
