//! The wallets, names and transactions of the tests.

use std::collections::BTreeMap;

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Transfer};
use chains::network::Network;
use serde_json::{Value, json};
use signer::policy::{Circumstances, Denial, Policy, PolicyConfig, PolicyError, Verdict, evaluate};
use signer::roster::CredentialId;

pub const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub const OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
pub const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
pub const ROUTER: &str = "0xde709f2102306220921060314715629080e2fb77";
pub const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
pub const SOL_PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
pub const TRANSFER: &str = "0xa9059cbb";

// One key, HASH160 751e76e8…1996d6 (BIP-173's example), in every spelling.
pub const P2PKH: &str = "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH";
pub const P2PKH_TEST: &str = "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r";
pub const P2WPKH: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
pub const P2WPKH_REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
pub const NESTED: &str = "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN";

pub fn wallets() -> BTreeMap<WalletId, Network> {
    [
        ("eth", "ethereum:1"),
        ("base", "ethereum:8453"),
        ("btc", "bitcoin:mainnet"),
        ("btc-regtest", "bitcoin:regtest"),
        ("sol", "solana:devnet"),
    ]
    .into_iter()
    .map(|(wallet, network)| (wallet.parse().expect("a name"), network.parse().expect("a network")))
    .collect()
}

pub fn account(wallet: &str) -> Account {
    let wallet: WalletId = wallet.parse().expect("a name");
    let network = wallets()[&wallet];
    let public_key = match network {
        Network::Solana(_) => PublicKey::Ed25519([7; 32]),
        // Twice secp256k1's base point.
        _ => PublicKey::Ecdsa(
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().expect("a point"),
        ),
    };
    Account::new(wallet, network, "key".parse().expect("a name"), KeyPath::root(), public_key).expect("an account")
}

pub fn circumstances(initiator: &CredentialId) -> Circumstances<'_> {
    Circumstances { initiator, at: 0 }
}

pub fn asker() -> CredentialId {
    "treasurer".parse().expect("a name")
}

pub fn compile(config: Value) -> Result<Policy, PolicyError> {
    let config: PolicyConfig = serde_json::from_value(config).expect("the policy's form");
    config.compile(&wallets())
}

pub fn policy(rules: Value) -> Policy {
    compile(json!({"rules": rules})).expect("a sound policy")
}

pub fn address(account: &Account, text: &str) -> Address {
    UncheckedAddress::new(text).require_network(account.network()).expect("an address of the network")
}

pub fn asset(text: &str) -> Asset {
    text.parse().expect("an asset")
}

pub fn erc20() -> Asset {
    asset(&format!("erc20:{TOKEN}"))
}

pub fn nothing() -> Effects {
    Effects { max_fee: Amount::from_wei(100), ..Effects::default() }
}

pub fn transfer(account: &Account, asset: Asset, to: &str, amount: u64) -> Transfer {
    Transfer { asset, from: account.address().clone(), to: address(account, to), amount: Amount::from_sat(amount) }
}

pub fn pays(account: &Account, asset: Asset, to: &str, amount: u64) -> Effects {
    Effects { transfers: vec![transfer(account, asset, to, amount)], ..nothing() }
}

pub fn call(account: &Account, contract: &str, selector: [u8; 4]) -> Call {
    let (Address::Ethereum(contract), Address::Ethereum(caller)) = (address(account, contract), account.address())
    else {
        panic!("calls are for EVM networks")
    };
    Call {
        caller: *caller,
        depth: 0,
        contract,
        selector: selector.into(),
        arguments: vec![0; 64].into(),
        value: Amount::ZERO,
    }
}

/// What the adapter says of an ERC-20 `transfer`.
pub fn pays_token(account: &Account, to: &str, amount: u64) -> Effects {
    Effects { calls: vec![call(account, TOKEN, [0xa9, 0x05, 0x9c, 0xbb])], ..pays(account, erc20(), to, amount) }
}

pub fn allows(account: &Account, spender: &str, amount: Amount) -> Effects {
    let allowance = Allowance { asset: erc20(), spender: address(account, spender), amount };
    Effects { allowances: vec![allowance], calls: vec![call(account, TOKEN, [0x09, 0x5e, 0xa7, 0xb3])], ..nothing() }
}

pub fn denial(policy: &Policy, account: &Account, effects: &Effects) -> Denial {
    match evaluate(policy, account, &circumstances(&asker()), effects) {
        Verdict::Deny { reason, .. } => reason,
        other => panic!("{effects:?}: {other:?}"),
    }
}

pub fn allowed_by(policy: &Policy, account: &Account, effects: &Effects) -> String {
    match evaluate(policy, account, &circumstances(&asker()), effects) {
        Verdict::Allow { rule, .. } => rule,
        other => panic!("{other:?}"),
    }
}

pub fn eth_rules() -> Value {
    json!([
        {"id": "payees", "wallets": ["eth"], "addresses": [PAYEE], "max_amount": "1000", "max_fee": "500"},
        {"id": "tokens", "wallets": ["eth"], "assets": [format!("erc20:{TOKEN}")], "addresses": [PAYEE, ROUTER],
         "contracts": [{"address": TOKEN, "selectors": [TRANSFER, "0x095ea7b3", "0x23b872dd"]}]}
    ])
}

pub fn denying(denied: &[&str], rules: Value) -> Policy {
    compile(json!({"denied_addresses": denied, "rules": rules})).expect("a sound policy")
}

pub fn verdict_of(policy: &Policy, account: &Account, effects: &Effects, initiator: &str, at: u64) -> Verdict {
    let initiator = initiator.parse().expect("a name");
    evaluate(policy, account, &Circumstances { initiator: &initiator, at }, effects)
}
