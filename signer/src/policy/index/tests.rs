//! The index finds what a scan of the table finds.

use std::collections::BTreeMap;

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::effects::{AccountUse, Allowance, Proceeds, Transfer};
use chains::network::Network;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::*;
use crate::policy::evaluate::{in_force, is_denied_by};
use crate::policy::{Circumstances, Policy, PolicyConfig};

/// Names of things on one chain.
#[derive(Debug)]
struct Names {
    network: &'static str,
    wallets: [&'static str; 2],
    addresses: [&'static str; 3],
    assets: [&'static str; 3],
}

const EVM: Names = Names {
    network: "ethereum:1",
    wallets: ["eth", "eth2"],
    addresses: [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    ],
    assets: [
        "native",
        "erc20:0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    ],
};
const SOLANA: Names = Names {
    network: "solana:devnet",
    wallets: ["sol", "sol2"],
    addresses: [
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q",
        "D8cy77BBepLMngZx6ZukaTff5hCt1HrWyKk3Hnd9oitf",
    ],
    assets: [
        "native",
        "spl:EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "spl:D8cy77BBepLMngZx6ZukaTff5hCt1HrWyKk3Hnd9oitf",
    ],
};
const INITIATORS: [&str; 3] = ["alice", "bob", "carol"];
const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];
const APPROVE: [u8; 4] = [0x09, 0x5e, 0xa7, 0xb3];
/// Monday, 2 November 2026, 00:00 in UTC.
const MONDAY: u64 = 20_759 * 24 * 3_600_000;

/// What a rule says of calls: of each contract or program named, in which of some ways.
fn calls(names: &'static Names) -> impl Strategy<Value = (&'static str, Value)> {
    let named = vec((select(&names.addresses[..]), 0..4_u8), 0..3);
    named.prop_map(|named| {
        let contract = |(address, way): (&str, u8)| match way {
            0 => json!({ "address": address, "selectors": ["0xa9059cbb"] }),
            1 => json!({ "address": address, "selectors": ["0x095ea7b3"] }),
            2 => json!({ "address": address, "functions": [
                { "signature": "transfer(address,uint256)", "arguments": [{ "at": "0", "one_of": [EVM.addresses[0]] }] },
                { "signature": "transfer(address,uint256)", "arguments": [
                    { "at": "0", "one_of": [EVM.addresses[1]] }, { "at": "1", "one_of": ["2", "3"] },
                ] },
            ] }),
            _ => json!({ "address": address, "functions": [
                { "signature": "transfer(address,uint256)", "arguments": [{ "at": "1", "one_of": ["1", "2"] }] },
                { "signature": "approve(address,uint256)", "arguments": [{ "at": "1", "max": "3" }] },
            ] }),
        };
        let program = |(address, way): (&str, u8)| match way {
            0 => json!({ "address": address, "discriminators": ["0x01"], "other_accounts": true }),
            1 => json!({ "address": address, "discriminators": ["0x0102"] }),
            _ => json!({ "address": address, "discriminators": ["0x02"], "accounts": [{ "at": 0, "wallet": true }] }),
        };
        match names.network == SOLANA.network {
            true => ("programs", Value::from_iter(named.into_iter().map(program))),
            false => ("contracts", Value::from_iter(named.into_iter().map(contract))),
        }
    })
}

fn rule() -> impl Strategy<Value = Value> {
    prop_oneof![Just(&EVM), Just(&SOLANA)].prop_flat_map(|names| {
        let hours =
            select(vec![("UTC", "09:00", "17:00"), ("UTC", "22:00", "06:00"), ("Asia/Tokyo", "09:00", "17:00")]);
        (
            subsequence(&names.wallets[..], 1..=2),
            subsequence(&INITIATORS[..2], 0..=2),
            option::weighted(0.3, hours),
            option::of(subsequence(&names.assets[..], 1..=2)),
            subsequence(&names.addresses[..], 0..=3),
            calls(names),
            option::weighted(0.3, 1..6_u64),
            prop::bool::weighted(0.4),
        )
            .prop_map(|(wallets, initiators, hours, assets, addresses, (key, calls), least, denies)| {
                let mut rule = json!({ "wallets": wallets, "initiators": initiators, "addresses": addresses });
                rule[key] = calls;
                let one = assets.as_ref().map_or(!denies, |assets| assets.len() == 1);
                if let Some(least) = least.filter(|_| one) {
                    rule["min_amount"] = json!(least.to_string());
                }
                if let Some(assets) = assets {
                    rule["assets"] = json!(assets);
                }
                if let Some((zone, from, to)) = hours {
                    rule["hours"] = json!({ "days": ["mon", "tue"], "from": from, "to": to, "zone": zone });
                }
                if denies {
                    rule["effect"] = json!("deny");
                }
                rule
            })
    })
}

/// Tables of more rules than a word has bits, too.
fn policy() -> impl Strategy<Value = Policy> {
    vec(rule(), 1..100).prop_map(|mut rules| {
        rules.iter_mut().enumerate().for_each(|(place, rule)| rule["id"] = json!(format!("rule-{place}")));
        let config: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).unwrap();
        let wallets = [&EVM, &SOLANA].map(|names| names.wallets.map(|wallet| (wallet, names.network)));
        let wallets: BTreeMap<WalletId, Network> = wallets
            .into_iter()
            .flatten()
            .map(|(wallet, network)| (wallet.parse().unwrap(), network.parse().unwrap()))
            .collect();
        config.compile(&wallets).unwrap()
    })
}

fn account(names: &Names, wallet: usize) -> Account {
    let network: Network = names.network.parse().unwrap();
    let public_key = match network {
        Network::Solana(_) => PublicKey::Ed25519([7; 32]),
        _ => PublicKey::Ecdsa("02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().unwrap()),
    };
    let wallet = names.wallets[wallet].parse().unwrap();
    Account::new(wallet, network, "key".parse().unwrap(), KeyPath::root(), public_key).unwrap()
}

fn address(names: &Names, at: usize) -> Address {
    UncheckedAddress::new(names.addresses[at]).require_network(names.network.parse().unwrap()).unwrap()
}

/// One effect of every kind that the chain has.
fn effects(names: &Names, account: &Account, [asset, to, callee]: [usize; 3], amount: u64, way: bool) -> Effects {
    let (asset, to, from): (Asset, _, _) =
        (names.assets[asset].parse().unwrap(), address(names, to), account.address().clone());
    let (amount, mut calls, mut programs) = (Amount::from_sat(amount), Vec::new(), Vec::new());
    match (address(names, callee), &to, &from) {
        (Address::Ethereum(contract), Address::Ethereum(to), Address::Ethereum(caller)) => calls.push(Call {
            caller: *caller,
            depth: 0,
            contract,
            selector: if way { TRANSFER } else { APPROVE }.into(),
            arguments: [&[0; 12][..], to.as_slice(), &amount.to_be_bytes()].concat().into(),
            value: Amount::ZERO,
        }),
        (Address::Solana(program), Address::Solana(to), _) => programs.push(ProgramCall {
            program,
            accounts: vec![AccountUse { address: *to, writable: true }],
            data: if way { vec![1, 2] } else { vec![2] }.into(),
            explained: false,
        }),
        others => panic!("{others:?}"),
    }
    Effects {
        transfers: vec![Transfer { asset, from, to: to.clone(), amount }],
        allowances: vec![Allowance { asset, spender: address(names, callee), amount }],
        calls,
        programs,
        proceeds: vec![Proceeds { to }],
        ..Effects::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn it_finds_what_a_scan_finds(
        policy in policy(), chain in prop_oneof![Just(&EVM), Just(&SOLANA)], wallet in 0..2_usize, asker in 0..3_usize,
        hour in 0..72_u64, chosen in [0..3_usize, 0..3_usize, 0..3_usize], amount in 1..6_u64, way: bool, step in 1..4_usize,
    ) {
        let index = &policy.index;
        let account = account(chain, wallet);
        let initiator: CredentialId = INITIATORS[asker].parse().unwrap();
        let circumstances = Circumstances { initiator: &initiator, at: MONDAY + hour * 3_600_000 };
        let done = effects(chain, &account, chosen, amount, way);
        let all: Places = (0..policy.rules.len()).collect();
        let of_wallet = index.of_wallet(account.wallet());
        prop_assert_eq!(&of_wallet, &policy.keep(&all, |rule| rule.wallets.contains(account.wallet())));
        prop_assert_eq!(
            in_force(&policy, &of_wallet, &circumstances),
            policy.keep(&all, |rule| rule.is_for(&account, &circumstances))
        );

        // Whatever is asked of some rules, is answered of no others.
        let some: Places = (0..policy.rules.len()).step_by(step).collect();
        let scan = |predicate: &dyn Fn(&Rule) -> bool| policy.keep(&some, predicate);
        let (denying, permitting) = index.by_effect(&some);
        prop_assert_eq!(&denying, &scan(&|rule| rule.denies()));
        prop_assert_eq!(&permitting, &scan(&|rule| !rule.denies()));
        let (asset, to) = (done.transfers[0].asset, &done.transfers[0].to);
        prop_assert_eq!(index.for_asset(&some, asset), scan(&|rule| rule.is_for_asset(asset)));
        prop_assert_eq!(index.for_address(&some, to), scan(&|rule| rule.is_for_address(to)));
        let names = |rule: &Rule| rule.addresses.as_ref().is_some_and(|addresses| addresses.contains(to));
        prop_assert_eq!(index.naming_address(&some, to), scan(&names));
        for call in &done.calls {
            prop_assert_eq!(index.naming_call(&some, call), scan(&|rule| rule.names_call(call)));
            let fits = |rule: &Rule| rule.is_for_call(&account, call);
            prop_assert_eq!(policy.keep(&index.fitting_call(&some, call), fits), scan(&fits));
            // Arguments that can't be read fit where any do, and what denies.
            let tail = [&call.arguments[..], &[0; 32]].concat();
            for unreadable in [vec![7; 5], tail] {
                let garbage = Call { arguments: unreadable.into(), ..call.clone() };
                let fits = |rule: &Rule| rule.is_for_call(&account, &garbage);
                prop_assert_eq!(policy.keep(&index.fitting_call(&some, &garbage), fits), scan(&fits));
                let free = index.naming_call_with_any_arguments(&some, call);
                prop_assert_eq!(free.or(&index.naming_call(&denying, call)), scan(&fits));
                let garbled = Effects { calls: vec![garbage.clone()], ..done.clone() };
                prop_assert_eq!(
                    policy.keep(&index.touched_by(&denying, &garbled), |rule| is_denied_by(rule, &account, &garbled)),
                    policy.keep(&denying, |rule| is_denied_by(rule, &account, &garbled))
                );
            }
        }
        for call in &done.programs {
            let naming = index.naming_program(&some, call);
            prop_assert_eq!(policy.keep(&naming, |rule| rule.names_program(call)), scan(&|rule| rule.names_program(call)));
        }
        let touched = index.touched_by(&denying, &done);
        prop_assert_eq!(
            policy.keep(&touched, |rule| is_denied_by(rule, &account, &done)),
            policy.keep(&denying, |rule| is_denied_by(rule, &account, &done))
        );
    }
}
