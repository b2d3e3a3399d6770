//! How long a verdict takes under 1,000 rules.
//!
//! `cargo bench -p signer --bench policy` prints one line for each shape of the table. The target is 50 µs at p99.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench states its assumptions bluntly"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Call, Effects, Transfer};
use chains::network::Network;
use serde_json::{Value, json};
use signer::policy::{Circumstances, Policy, PolicyConfig, Verdict, evaluate, evaluate_traced};
use signer::roster::CredentialId;

const RULES: u64 = 1_000;
/// Addresses that each rule names.
const ADDRESSES: u64 = 20;
const EVALUATIONS: u64 = 100_000;
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const NETWORK: Network = Network::Ethereum(1);

/// What a table's rules have in common.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Each is for one of so many wallets; one in ten holds in office hours.
    Wallets(u64),
    /// They are for one wallet, at all times.
    OneWallet,
    /// They are for one wallet; one in ten holds in office hours.
    OfficeHours,
    /// They are for one wallet, each in hours of its own.
    OwnHours,
    /// They are for one wallet, and all that permit name the same payees.
    SamePayees,
    /// They are for one wallet, and bind the receiver among the arguments of the token's own call.
    Arguments,
}

const SHAPES: [(&str, Shape); 6] = [
    ("100 wallets", Shape::Wallets(100)),
    ("1 wallet", Shape::OneWallet),
    ("1 wallet, 1 rule in 10 with hours", Shape::OfficeHours),
    ("1 wallet, hours for each rule", Shape::OwnHours),
    ("1 wallet, the same payees", Shape::SamePayees),
    ("1 wallet, arguments bound", Shape::Arguments),
];

fn main() {
    println!("{RULES} rules of {ADDRESSES} addresses, {EVALUATIONS} payments of a token, a verdict each");
    SHAPES.iter().for_each(|(name, shape)| measure(name, *shape));
}

impl Shape {
    const fn wallets(self) -> u64 {
        if let Self::Wallets(wallets) = self { wallets } else { 1 }
    }

    /// The number of the address at a place of a rule.
    fn address(self, rule: u64, place: u64) -> u64 {
        if self == Self::SamePayees && !denies(rule) { place } else { (rule + 1) * ADDRESSES + place }
    }

    fn hours(self, rule: u64) -> Option<Value> {
        let (from, to, zone) = match self {
            Self::Wallets(_) | Self::OfficeHours if rule % 10 == 5 => ("09:00".to_owned(), "17:30", "Europe/Zurich"),
            // All are open at noon in UTC.
            Self::OwnHours => {
                let zone =
                    ["UTC", "Europe/Zurich", "Europe/London", "Africa/Lagos"][usize::try_from(rule % 4).unwrap()];
                (format!("{:02}:{:02}", rule % 11, rule % 60), "17:30", zone)
            }
            _ => return None,
        };
        let days = ["mon", "tue", "wed", "thu", "fri"];
        Some(json!({"days": days, "from": from, "to": to, "zone": zone}))
    }
}

const fn denies(rule: u64) -> bool {
    rule % 20 == 7
}

fn measure(name: &str, shape: Shape) {
    let policy = policy(shape);
    let wallets = shape.wallets();
    let initiator: CredentialId = "desk".parse().unwrap();
    // 4 November 2026, noon in UTC.
    let circumstances = Circumstances { initiator: &initiator, at: 1_793_793_600_000 };
    let accounts: Vec<Account> = (0..wallets).map(account).collect();
    let mut times: Vec<Duration> = Vec::new();
    let mut verdicts = [0_u64; 3];
    for round in 0..EVALUATIONS {
        let number = round.wrapping_mul(7_919) % RULES;
        let account = accounts.get(usize::try_from(number % wallets).unwrap()).unwrap();
        // Every fourth payment is to nobody whom a rule names.
        let place = round % ADDRESSES;
        let to = address(if round % 4 == 0 { u64::MAX - round } else { shape.address(number, place) });
        let effects = pays(account, &to, 1 + round % 1_200);
        let began = Instant::now();
        let verdict = black_box(evaluate(black_box(&policy), account, &circumstances, black_box(&effects)));
        times.push(began.elapsed());
        let [allow, require, deny] = &mut verdicts;
        *match verdict {
            Verdict::Allow { .. } => allow,
            Verdict::Require { .. } => require,
            Verdict::Deny { .. } => deny,
        } += 1;
    }
    times.sort_unstable();
    let at = |percent: usize| *times.get(times.len() * percent / 100).unwrap();
    let [allow, require, deny] = verdicts;
    println!("{name:34} p50 {:?}, p99 {:?}; {allow} allowed, {require} with approval, {deny} denied", at(50), at(99));

    let effects = pays(accounts.first().unwrap(), &address(u64::MAX), 1);
    let began = Instant::now();
    let trace = black_box(evaluate_traced(&policy, accounts.first().unwrap(), &circumstances, &effects));
    println!("{name:34} a trace of {} rules in {:?}", trace.rules.len(), began.elapsed());
}

fn policy(shape: Shape) -> Policy {
    let rules: Vec<Value> = (0..RULES).map(|number| rule(number, shape)).collect();
    let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).unwrap();
    let wallets: BTreeMap<WalletId, Network> = (0..shape.wallets()).map(|wallet| (name(wallet), NETWORK)).collect();
    config.compile(&wallets).unwrap()
}

/// One in twenty denies, one in ten asks for approval.
fn rule(number: u64, shape: Shape) -> Value {
    let addresses = (0..ADDRESSES).map(|place| address(shape.address(number, place)).to_string());
    let addresses: Vec<String> = addresses.collect();
    let mut rule = json!({
        "id": format!("rule-{number}"), "wallets": [name(number % shape.wallets())], "assets": [format!("erc20:{TOKEN}")],
        "addresses": addresses,
    });
    if denies(number) {
        rule["effect"] = json!("deny");
        return rule;
    }
    let arguments = json!([{"at": "0", "one_of": addresses}]);
    rule["contracts"] = match shape {
        Shape::Arguments => {
            let function = json!({"signature": "transfer(address,uint256)", "arguments": arguments});
            json!([{"address": TOKEN, "functions": [function]}])
        }
        _ => json!([{"address": TOKEN, "selectors": ["0xa9059cbb"]}]),
    };
    rule["max_amount"] = json!("1000");
    if number % 10 == 3 {
        rule["require"] = json!("2 of finance and 1 of cfo");
    }
    if let Some(hours) = shape.hours(number) {
        rule["hours"] = hours;
    }
    rule
}

fn name(wallet: u64) -> WalletId {
    format!("wallet-{wallet}").parse().unwrap()
}

fn account(wallet: u64) -> Account {
    // Twice secp256k1's base point.
    let key = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().unwrap();
    Account::new(name(wallet), NETWORK, "key".parse().unwrap(), KeyPath::root(), PublicKey::Ecdsa(key)).unwrap()
}

fn address(number: u64) -> Address {
    let text = format!("0x{:016x}{:016x}{:08x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number, 0x5a);
    UncheckedAddress::new(text).require_network(NETWORK).unwrap()
}

fn pays(account: &Account, to: &Address, amount: u64) -> Effects {
    let asset: Asset = format!("erc20:{TOKEN}").parse().unwrap();
    let (Asset::Erc20(contract), Address::Ethereum(caller), Address::Ethereum(payee)) = (asset, account.address(), to)
    else {
        panic!("an EVM network's")
    };
    let amount = Amount::from_sat(amount);
    let arguments = [&[0; 12][..], payee.as_slice(), &amount.to_be_bytes()].concat().into();
    let selector = [0xa9, 0x05, 0x9c, 0xbb].into();
    Effects {
        transfers: vec![Transfer { asset, from: account.address().clone(), to: to.clone(), amount }],
        calls: vec![Call { caller: *caller, depth: 0, contract, selector, arguments, value: Amount::ZERO }],
        max_fee: Amount::from_wei(100),
        ..Effects::default()
    }
}
