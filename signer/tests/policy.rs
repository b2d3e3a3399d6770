//! The policy: nothing without a rule, nothing against the denylist, and every denial says why.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeMap;

use chains::account::{Account, KeyPath, PublicKey, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Transfer};
use chains::network::Network;
use proptest::prelude::*;
use serde_json::{Value, json};
use signer::policy::{
    Circumstances, Denial, Policy, PolicyConfig, PolicyError, Selector, Verdict, evaluate, evaluate_upkeep, screen,
};
use signer::roster::CredentialId;

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
const ROUTER: &str = "0xde709f2102306220921060314715629080e2fb77";
const MINT: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const SOL_PAYEE: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
const TRANSFER: &str = "0xa9059cbb";

// One key, HASH160 751e76e8…1996d6 (BIP-173's example), in every spelling.
const P2PKH: &str = "1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH";
const P2PKH_TEST: &str = "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r";
const P2WPKH: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const P2WPKH_REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const NESTED: &str = "3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN";

fn wallets() -> BTreeMap<WalletId, Network> {
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

fn account(wallet: &str) -> Account {
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

fn circumstances(initiator: &CredentialId) -> Circumstances<'_> {
    Circumstances { initiator, at: 0 }
}

fn asker() -> CredentialId {
    "treasurer".parse().expect("a name")
}

fn compile(config: Value) -> Result<Policy, PolicyError> {
    let config: PolicyConfig = serde_json::from_value(config).expect("the policy's form");
    config.compile(&wallets())
}

fn policy(rules: Value) -> Policy {
    compile(json!({"rules": rules})).expect("a sound policy")
}

fn address(account: &Account, text: &str) -> Address {
    UncheckedAddress::new(text).require_network(account.network()).expect("an address of the network")
}

fn asset(text: &str) -> Asset {
    text.parse().expect("an asset")
}

fn erc20() -> Asset {
    asset(&format!("erc20:{TOKEN}"))
}

fn nothing() -> Effects {
    Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        change: Amount::ZERO,
        max_fee: Amount::from_wei(100),
        touches: Vec::new(),
        tables: Vec::new(),
        upkeep: None,
    }
}

fn transfer(account: &Account, asset: Asset, to: &str, amount: u64) -> Transfer {
    Transfer { asset, from: account.address().clone(), to: address(account, to), amount: Amount::from_sat(amount) }
}

fn pays(account: &Account, asset: Asset, to: &str, amount: u64) -> Effects {
    Effects { transfers: vec![transfer(account, asset, to, amount)], ..nothing() }
}

fn call(account: &Account, contract: &str, selector: [u8; 4]) -> Call {
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
fn pays_token(account: &Account, to: &str, amount: u64) -> Effects {
    Effects { calls: vec![call(account, TOKEN, [0xa9, 0x05, 0x9c, 0xbb])], ..pays(account, erc20(), to, amount) }
}

fn allows(account: &Account, spender: &str, amount: Amount) -> Effects {
    let allowance = Allowance { asset: erc20(), spender: address(account, spender), amount };
    Effects { allowances: vec![allowance], calls: vec![call(account, TOKEN, [0x09, 0x5e, 0xa7, 0xb3])], ..nothing() }
}

fn denial(policy: &Policy, account: &Account, effects: &Effects) -> Denial {
    match evaluate(policy, account, &circumstances(&asker()), effects) {
        Verdict::Deny { reason, .. } => reason,
        other => panic!("{effects:?}: {other:?}"),
    }
}

fn allowed_by(policy: &Policy, account: &Account, effects: &Effects) -> String {
    match evaluate(policy, account, &circumstances(&asker()), effects) {
        Verdict::Allow { rule, .. } => rule,
        other => panic!("{other:?}"),
    }
}

fn eth_rules() -> Value {
    json!([
        {"id": "payees", "wallets": ["eth"], "addresses": [PAYEE], "max_amount": "1000", "max_fee": "500"},
        {"id": "tokens", "wallets": ["eth"], "assets": [format!("erc20:{TOKEN}")], "addresses": [PAYEE, ROUTER],
         "contracts": [{"address": TOKEN, "selectors": [TRANSFER, "0x095ea7b3", "0x23b872dd"]}]}
    ])
}

#[test]
fn what_no_rule_allows_is_denied() {
    let account = account("eth");
    let pays = pays(&account, Asset::Native, PAYEE, 1);
    let no_rule = Denial::NoRule { wallet: account.wallet().clone() };
    assert_eq!(denial(&Policy::default(), &account, &pays), no_rule);
    assert_eq!(denial(&policy(json!([])), &account, &pays), no_rule);
    // A rule for another wallet, and one that names nobody.
    let others = policy(json!([{"id": "a", "wallets": ["base"], "addresses": [PAYEE]}]));
    assert_eq!(denial(&others, &account, &pays), no_rule);
    let nobody = policy(json!([{"id": "a", "wallets": ["eth"]}]));
    let unlisted = Denial::UnlistedAddress { address: address(&account, PAYEE), asset: Asset::Native };
    assert_eq!(denial(&nobody, &account, &pays), unlisted);
    // A transaction that seems to do nothing is no exception.
    assert_eq!(denial(&policy(eth_rules()), &account, &nothing()), Denial::NoEffect);
}

#[test]
fn what_a_rule_names_is_allowed() {
    let policy = policy(eth_rules());
    let account = account("eth");
    assert_eq!(allowed_by(&policy, &account, &pays(&account, Asset::Native, PAYEE, 1000)), "payees");
    assert_eq!(allowed_by(&policy, &account, &pays_token(&account, PAYEE, u64::MAX)), "tokens");
    assert_eq!(allowed_by(&policy, &account, &allows(&account, ROUTER, Amount::from_sat(5))), "tokens");

    let sol = self::account("sol");
    let rules = json!([{"id": "sol", "wallets": ["sol"], "assets": [format!("spl:{MINT}")], "addresses": [SOL_PAYEE]}]);
    let policy = self::policy(rules);
    let spl = asset(&format!("spl:{MINT}"));
    assert_eq!(allowed_by(&policy, &sol, &pays(&sol, spl, SOL_PAYEE, 1)), "sol");
    let denied = denial(&policy, &sol, &pays(&sol, Asset::Native, SOL_PAYEE, 1));
    assert_eq!(denied, Denial::UnlistedAsset { asset: Asset::Native });
}

#[test]
fn every_effect_needs_a_rule() {
    let policy = policy(eth_rules());
    let account = account("eth");
    let mut effects = pays_token(&account, PAYEE, 1);
    effects.transfers.push(transfer(&account, Asset::Native, PAYEE, 1));
    assert_eq!(allowed_by(&policy, &account, &effects), "tokens");
    effects.transfers.push(transfer(&account, Asset::Native, OTHER, 1));
    let unlisted = Denial::UnlistedAddress { address: address(&account, OTHER), asset: Asset::Native };
    assert_eq!(denial(&policy, &account, &effects), unlisted);
}

#[test]
fn each_denial_has_its_kind() {
    let policy = policy(eth_rules());
    let account = account("eth");
    let verdict = |effects: &Effects| evaluate(&policy, &account, &circumstances(&asker()), effects);
    let other = address(&account, OTHER);

    // Receivers and assets.
    let deny = |reason: Denial| Verdict::Deny { rule: None, reason };
    let unlisted = Denial::UnlistedAddress { address: other.clone(), asset: Asset::Native };
    assert_eq!(verdict(&pays(&account, Asset::Native, OTHER, 1)), deny(unlisted));
    let unknown = asset(&format!("erc20:{OTHER}"));
    assert_eq!(verdict(&pays(&account, unknown, PAYEE, 1)), deny(Denial::UnlistedAsset { asset: unknown }));
    // The router may receive tokens, which says nothing of ether.
    let router = Denial::UnlistedAddress { address: address(&account, ROUTER), asset: Asset::Native };
    assert_eq!(verdict(&pays(&account, Asset::Native, ROUTER, 1)), deny(router));

    // Limits.
    let above =
        Denial::AboveLimit { asset: Asset::Native, amount: Amount::from_wei(1001), limit: Amount::from_wei(1000) };
    let above = Verdict::Deny { rule: Some("payees".to_owned()), reason: above };
    assert_eq!(verdict(&pays(&account, Asset::Native, PAYEE, 1001)), above);
    let costly = |max_fee| Effects { max_fee: Amount::from_wei(max_fee), ..pays(&account, Asset::Native, PAYEE, 1) };
    assert_eq!(allowed_by(&policy, &account, &costly(500)), "payees");
    let above = Denial::AboveFeeLimit { fee: Amount::from_wei(501), limit: Amount::from_wei(500) };
    assert_eq!(verdict(&costly(501)), Verdict::Deny { rule: Some("payees".to_owned()), reason: above });

    // Calls: another function of a listed contract, a listed function of another contract, no contract rule at all.
    let calls = |contract: &str, selector| Effects { calls: vec![call(&account, contract, selector)], ..nothing() };
    for (contract, selector) in [(TOKEN, [0, 0, 0, 1]), (ROUTER, [0xa9, 0x05, 0x9c, 0xbb])] {
        let found = denial(&policy, &account, &calls(contract, selector));
        let selector = format!("0x{}", hex::encode(selector)).parse::<Selector>().expect("a selector");
        assert_eq!(found, Denial::UnlistedContract { contract: address(&account, contract), selector });
    }
    // A permitted receiver doesn't make the call permitted, nor the other way round.
    let mut wrong_call = pays_token(&account, PAYEE, 1);
    wrong_call.calls = vec![call(&account, ROUTER, [0xa9, 0x05, 0x9c, 0xbb])];
    assert!(matches!(denial(&policy, &account, &wrong_call), Denial::UnlistedContract { .. }));
    assert!(matches!(denial(&policy, &account, &pays_token(&account, OTHER, 1)), Denial::UnlistedAddress { .. }));

    // Allowances.
    let spender = Denial::UnlistedAddress { address: other, asset: erc20() };
    assert_eq!(denial(&policy, &account, &allows(&account, OTHER, Amount::from_sat(1))), spender);
    let most = Amount::from_wei(u128::MAX);
    assert_eq!(allowed_by(&policy, &account, &allows(&account, ROUTER, most)), "tokens");
    for unlimited in [most.checked_add(Amount::from_wei(1)).expect("129 bits"), Amount::MAX] {
        let found = denial(&policy, &account, &allows(&account, ROUTER, unlimited));
        assert_eq!(found, Denial::UnlimitedAllowance { asset: erc20(), spender: address(&account, ROUTER) });
    }
}

#[test]
fn the_funds_of_others_need_a_call_of_their_token() {
    let policy = policy(eth_rules());
    let account = account("eth");
    let mut effects = pays(&account, erc20(), PAYEE, 1);
    effects.transfers[0].from = address(&account, OTHER);
    let foreign = Denial::ForeignFunds { from: address(&account, OTHER), asset: erc20() };
    assert_eq!(denial(&policy, &account, &effects), foreign);
    effects.calls = vec![call(&account, TOKEN, [0x23, 0xb8, 0x72, 0xdd])];
    assert_eq!(allowed_by(&policy, &account, &effects), "tokens");
    // Another function of the token, which no rule names, covers nothing; neither does a call of another contract.
    effects.calls = vec![call(&account, TOKEN, [0, 0, 0, 1])];
    assert_eq!(denial(&policy, &account, &effects), foreign);
    effects.calls = vec![call(&account, ROUTER, [0x23, 0xb8, 0x72, 0xdd])];
    assert_eq!(denial(&policy, &account, &effects), foreign);
    // Ether is never spent for another.
    let mut ether = pays(&account, Asset::Native, PAYEE, 1);
    ether.transfers[0].from = address(&account, OTHER);
    ether.calls = vec![call(&account, TOKEN, [0x23, 0xb8, 0x72, 0xdd])];
    assert!(matches!(denial(&policy, &account, &ether), Denial::ForeignFunds { .. }));
}

#[test]
fn a_contract_that_the_wallet_operates_may_pay_who_is_listed() {
    let rules = json!([{
        "id": "safe", "wallets": ["eth"], "assets": ["native"], "addresses": [PAYEE], "max_amount": "5",
        "contracts": [{ "address": ROUTER, "selectors": ["0x6a761202"] }],
    }]);
    let (policy, account) = (policy(rules), account("eth"));
    let from_the_safe = |to, amount| {
        let mut effects = pays(&account, Asset::Native, to, amount);
        effects.transfers[0].from = address(&account, ROUTER);
        effects.calls = vec![call(&account, ROUTER, [0x6a, 0x76, 0x12, 0x02])];
        effects
    };
    assert_eq!(allowed_by(&policy, &account, &from_the_safe(PAYEE, 5)), "safe");
    assert!(matches!(denial(&policy, &account, &from_the_safe(PAYEE, 6)), Denial::AboveLimit { .. }));
    assert!(matches!(denial(&policy, &account, &from_the_safe(OTHER, 1)), Denial::UnlistedAddress { .. }));
    let mut another_safe = from_the_safe(PAYEE, 1);
    another_safe.transfers[0].from = address(&account, OTHER);
    assert!(matches!(denial(&policy, &account, &another_safe), Denial::ForeignFunds { .. }));
}

#[test]
fn every_call_in_a_call_needs_a_rule() {
    let (policy, account) = (policy(eth_rules()), account("eth"));
    let mut effects = pays_token(&account, PAYEE, 1);
    assert_eq!(allowed_by(&policy, &account, &effects), "tokens");
    let Address::Ethereum(router) = address(&account, ROUTER) else { panic!("an EVM network") };
    effects.calls.push(Call { caller: router, depth: 1, ..call(&account, TOKEN, [0, 0, 0, 1]) });
    assert!(matches!(denial(&policy, &account, &effects), Denial::UnlistedContract { .. }));
}

#[test]
fn what_a_call_brings_in_goes_to_the_wallet_or_to_who_is_listed() {
    let (policy, account) = (policy(eth_rules()), account("eth"));
    let brings = |to: &Address| Effects {
        proceeds: vec![chains::effects::Proceeds { to: to.clone() }],
        ..pays_token(&account, PAYEE, 1)
    };
    assert_eq!(allowed_by(&policy, &account, &brings(account.address())), "tokens");
    assert_eq!(allowed_by(&policy, &account, &brings(&address(&account, PAYEE))), "tokens");
    let other = address(&account, OTHER);
    assert_eq!(denial(&policy, &account, &brings(&other)), Denial::UnlistedRecipient { address: other });
}

fn denying(denied: &[&str], rules: Value) -> Policy {
    compile(json!({"denied_addresses": denied, "rules": rules})).expect("a sound policy")
}

#[test]
fn deny_wins_wherever_the_address_stands() {
    let account = account("eth");
    let denied = |effects: &Effects, whom: &str| {
        // Every spelling of the address, and both on a list and in a rule.
        for spelling in [whom.to_owned(), format!("0x{}", whom[2..].to_lowercase())] {
            let policy = denying(&[&spelling], eth_rules());
            let expected = Denial::DeniedAddress { address: address(&account, whom) };
            assert_eq!(denial(&policy, &account, effects), expected, "{spelling}");
            assert_eq!(screen(&policy, effects), Some(address(&account, whom)), "{spelling}");
        }
    };
    denied(&pays(&account, Asset::Native, PAYEE, 1), PAYEE);
    denied(&pays_token(&account, PAYEE, 1), TOKEN);
    denied(&allows(&account, ROUTER, Amount::from_sat(1)), ROUTER);
    let touching = Effects { touches: vec![address(&account, OTHER)], ..pays(&account, Asset::Native, PAYEE, 1) };
    denied(&touching, OTHER);
    let mut foreign = pays_token(&account, PAYEE, 1);
    foreign.transfers[0].from = address(&account, OTHER);
    denied(&foreign, OTHER);

    // The wallet itself.
    let own = denying(&[&account.address().to_string()], eth_rules());
    let pays = pays(&account, Asset::Native, PAYEE, 1);
    assert!(matches!(denial(&own, &account, &pays), Denial::DeniedAddress { .. }));
    // On every EVM network.
    let base = self::account("base");
    let policy = denying(&[PAYEE], json!([{"id": "base", "wallets": ["base"], "addresses": [PAYEE]}]));
    let pays = self::pays(&base, Asset::Native, PAYEE, 1);
    assert!(matches!(denial(&policy, &base, &pays), Denial::DeniedAddress { .. }));
}

#[test]
fn one_bitcoin_key_is_denied_in_every_form() {
    let (main, regtest) = (account("btc"), account("btc-regtest"));
    for listed in [P2PKH, P2WPKH, P2PKH_TEST, P2WPKH_REGTEST, &P2WPKH.to_uppercase()] {
        let policy = denying(&[listed], json!([]));
        for (account, paid) in
            [(&main, P2PKH), (&main, P2WPKH), (&main, NESTED), (&regtest, P2PKH_TEST), (&regtest, P2WPKH_REGTEST)]
        {
            let hit = screen(&policy, &pays(account, Asset::Native, paid, 1));
            assert_eq!(hit, Some(address(account, paid)), "{listed} is listed, {paid} is paid");
        }
        // Another key, and the same bytes as another kind of hash.
        for free in ["bc1q34aq5drpuwy3wgl9lhup9892qp6svr8ldzyy7c", "3CNHUhP3uyB9EUtRLsmvFUmvGdjGdkTxJw"] {
            assert_eq!(screen(&policy, &pays(&main, Asset::Native, free, 1)), None, "{listed}, {free}");
        }
    }
    // A nested address on the list denies the key that it wraps.
    let policy = denying(&[NESTED], json!([]));
    assert!(screen(&policy, &pays(&main, Asset::Native, NESTED, 1)).is_some());
    assert!(screen(&policy, &pays(&main, Asset::Native, P2WPKH, 1)).is_some());
}

#[test]
fn solana_accounts_are_denied_by_their_key() {
    let sol = account("sol");
    let policy = denying(&[MINT, SOL_PAYEE], json!([]));
    let effects = pays(&sol, asset(&format!("spl:{MINT}")), SOL_PAYEE, 1);
    assert_eq!(screen(&policy, &effects), Some(address(&sol, SOL_PAYEE)));
    let effects = Effects { transfers: Vec::new(), touches: vec![address(&sol, MINT)], ..nothing() };
    assert_eq!(screen(&policy, &effects), Some(address(&sol, MINT)));
    assert_eq!(screen(&policy, &nothing()), None);
}

#[test]
fn a_policy_that_means_nothing_does_not_compile() {
    let rule = |change: Value| {
        let mut rule = json!({"id": "a", "wallets": ["eth"], "addresses": [PAYEE]});
        for (name, value) in change.as_object().expect("an object") {
            rule[name] = value.clone();
        }
        compile(json!({"rules": [rule]})).expect_err("it means nothing")
    };
    let contract = |address: &str, selectors: &[&str]| json!([{"address": address, "selectors": selectors}]);
    assert!(matches!(rule(json!({"id": " "})), PolicyError::Id(_)));
    assert!(matches!(rule(json!({"wallets": []})), PolicyError::NoWallet { .. }));
    assert!(matches!(rule(json!({"wallets": ["eth", "nobody"]})), PolicyError::UnknownWallet { .. }));
    assert!(matches!(rule(json!({"wallets": ["eth", "base"]})), PolicyError::Networks { .. }));
    assert!(matches!(rule(json!({"assets": [format!("spl:{MINT}")]})), PolicyError::Asset { .. }));
    assert!(matches!(rule(json!({"addresses": [P2PKH]})), PolicyError::Address { .. }));
    assert!(matches!(rule(json!({"addresses": [TOKEN.replace("A0", "a0")]})), PolicyError::Address { .. }));
    assert!(matches!(rule(json!({"contracts": contract(P2PKH, &[TRANSFER])})), PolicyError::Address { .. }));
    assert!(matches!(rule(json!({"contracts": contract(TOKEN, &[])})), PolicyError::Contracts { .. }));
    let sol = json!({"wallets": ["sol"], "addresses": [], "contracts": contract(SOL_PAYEE, &[TRANSFER])});
    assert!(matches!(rule(sol), PolicyError::Contracts { .. }));
    let regtest = json!({"wallets": ["btc"], "addresses": [P2WPKH_REGTEST]});
    assert!(matches!(rule(regtest), PolicyError::Address { .. }));
    let many = json!({"assets": ["native", format!("erc20:{TOKEN}")], "max_amount": "1"});
    assert!(matches!(rule(many), PolicyError::LimitOfMany { .. }));

    let twice = json!({"rules": [{"id": "a", "wallets": ["eth"]}, {"id": "a", "wallets": ["sol"]}]});
    assert_eq!(compile(twice).expect_err("one name twice"), PolicyError::Id("a".to_owned()));
    for bad in
        ["", "0x", "nobody", "0xa0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"]
    {
        let denied = compile(json!({"denied_addresses": [PAYEE, bad]}));
        assert!(matches!(denied, Err(PolicyError::DeniedAddress(_))), "{bad}");
    }
    // An address of a chain on which there is no wallet could never be met: a mistake.
    let only_sol: BTreeMap<_, _> = wallets().into_iter().filter(|(id, _)| id.as_str() == "sol").collect();
    let config = PolicyConfig { denied_addresses: vec![UncheckedAddress::new(PAYEE)], ..PolicyConfig::default() };
    assert!(matches!(config.compile(&only_sol), Err(PolicyError::DeniedAddress(_))));
}

#[test]
fn the_form_is_closed() {
    for bad in [
        json!({"deny": []}),
        json!({"rules": [{"id": "a", "wallets": [], "amount": "1"}]}),
        json!({"rules": [{"wallets": []}]}),
        json!({"rules": [{"id": "a", "wallets": [], "max_amount": 1}]}),
        json!({"rules": [{"id": "a", "wallets": [], "assets": ["eth"]}]}),
        json!({"rules": [{"id": "a", "wallets": [], "contracts": [{"address": TOKEN, "selector": "0xa9059cbb"}]}]}),
        json!({"rules": [{"id": "a", "wallets": [], "contracts": [{"address": TOKEN, "selectors": ["0xa9059c"]}]}]}),
        json!({"rules": [{"id": "a", "wallets": [], "contracts": [{"address": TOKEN, "selectors": ["a9059cbb"]}]}]}),
    ] {
        assert!(serde_json::from_value::<PolicyConfig>(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn verdicts_have_a_json_form() {
    let account = account("eth");
    let denied =
        evaluate(&policy(eth_rules()), &account, &circumstances(&asker()), &pays(&account, Asset::Native, PAYEE, 1001));
    assert_eq!(
        serde_json::to_value(denied).expect("JSON"),
        json!({
            "verdict": "deny", "rule": "payees",
            "reason": {"kind": "above_limit", "asset": "native", "amount": "1001", "limit": "1000"}
        })
    );
    let calls = Effects { calls: vec![call(&account, ROUTER, [1, 2, 3, 4])], ..nothing() };
    let denial = denial(&policy(eth_rules()), &account, &calls);
    let json = serde_json::to_value(&denial).expect("JSON");
    assert_eq!(json["selector"], "0x01020304");
    assert_eq!(json["kind"], denial.kind());
}

/// Some effects of an Ethereum wallet, drawn from few addresses so that rules and lists are hit.
fn some_effects() -> impl Strategy<Value = Effects> {
    let party = || prop::sample::select(vec![PAYEE, OTHER, TOKEN, ROUTER]);
    let pay = (any::<bool>(), party(), 0_u64..2000).prop_map(|(token, to, amount)| {
        transfer(&account("eth"), if token { erc20() } else { Asset::Native }, to, amount)
    });
    let calling = (party(), prop::sample::select(vec![[0xa9, 0x05, 0x9c, 0xbb], [9; 4]]))
        .prop_map(|(contract, selector)| call(&account("eth"), contract, selector));
    let allowing = (party(), any::<u64>()).prop_map(|(spender, amount)| Allowance {
        asset: erc20(),
        spender: address(&account("eth"), spender),
        amount: Amount::from_sat(amount),
    });
    let touching = party().prop_map(|party| address(&account("eth"), party));
    let few = 0..3_usize;
    (
        prop::collection::vec(pay, few.clone()),
        prop::collection::vec(calling, few.clone()),
        prop::collection::vec(allowing, few.clone()),
        prop::collection::vec(touching, few),
        0_u128..1000,
    )
        .prop_map(|(transfers, calls, allowances, touches, fee)| Effects {
            transfers,
            calls,
            allowances,
            touches,
            max_fee: Amount::from_wei(fee),
            ..nothing()
        })
}

const PARTIES: [&str; 6] = [PAYEE, OTHER, TOKEN, ROUTER, P2PKH, SOL_PAYEE];

fn is_allowed(policy: &Policy, effects: &Effects) -> bool {
    matches!(evaluate(policy, &account("eth"), &circumstances(&asker()), effects), Verdict::Allow { .. })
}

proptest! {
    #[test]
    fn denying_more_never_permits_more(
        effects in some_effects(),
        mut list in prop::sample::subsequence(PARTIES.to_vec(), 0..PARTIES.len()),
        more in prop::sample::select(PARTIES.to_vec()),
    ) {
        let before = is_allowed(&denying(&list, eth_rules()), &effects);
        list.push(more);
        let policy = denying(&list, eth_rules());
        prop_assert!(before || !is_allowed(&policy, &effects));
        prop_assert!(screen(&policy, &effects).is_none() || !is_allowed(&policy, &effects));
    }

    #[test]
    fn what_two_transactions_may_not_do_one_may_not(a in some_effects(), b in some_effects()) {
        let policy = policy(eth_rules());
        let mut both = a.clone();
        both.transfers.extend(b.transfers.iter().cloned());
        both.calls.extend(b.calls.iter().cloned());
        both.allowances.extend(b.allowances.iter().cloned());
        both.max_fee = a.max_fee.max(b.max_fee);
        // Nothing here spends for others, so no call changes what a transfer is.
        if is_allowed(&policy, &both) {
            let empty = |e: &Effects| e.transfers.is_empty() && e.calls.is_empty() && e.allowances.is_empty();
            prop_assert!(empty(&a) || is_allowed(&policy, &a));
            prop_assert!(empty(&b) || is_allowed(&policy, &b));
        }
    }

    #[test]
    fn a_higher_amount_is_never_easier(effects in some_effects(), at: prop::sample::Index, more in 1_u64..5000) {
        prop_assume!(!effects.transfers.is_empty());
        let policy = policy(eth_rules());
        let mut higher = effects.clone();
        let at = at.index(higher.transfers.len());
        let amount = higher.transfers[at].amount.checked_add(Amount::from_sat(more)).expect("far from the edge");
        higher.transfers[at].amount = amount;
        prop_assert!(is_allowed(&policy, &effects) || !is_allowed(&policy, &higher));
    }
}

fn verdict_of(policy: &Policy, account: &Account, effects: &Effects, initiator: &str, at: u64) -> Verdict {
    let initiator = initiator.parse().expect("a name");
    evaluate(policy, account, &Circumstances { initiator: &initiator, at }, effects)
}

#[test]
fn a_denying_rule_beats_every_allowing_one() {
    let account = account("eth");
    let allow = json!({"id": "all", "wallets": ["eth"], "addresses": [PAYEE, OTHER]});
    let with = |deny: Value| policy(json!([allow, deny]));
    let pay = |to, amount| pays(&account, Asset::Native, to, amount);
    let denied = |policy: &Policy, effects: &Effects| {
        denial(policy, &account, effects) == Denial::DeniedByRule { rule: "no".to_owned() }
    };

    let payee = with(json!({"id": "no", "effect": "deny", "wallets": ["eth"], "addresses": [OTHER]}));
    assert!(denied(&payee, &pay(OTHER, 1)));
    assert_eq!(allowed_by(&payee, &account, &pay(PAYEE, 1)), "all");

    let large = with(json!({
        "id": "no", "effect": "deny", "wallets": ["eth"], "assets": ["native"], "min_amount": "100",
    }));
    assert!(denied(&large, &pay(PAYEE, 100)));
    assert_eq!(allowed_by(&large, &account, &pay(PAYEE, 99)), "all");

    let frozen = with(json!({"id": "no", "effect": "deny", "wallets": ["eth"]}));
    assert!(denied(&frozen, &pay(PAYEE, 1)));
    assert!(denied(&frozen, &Effects { calls: vec![call(&account, TOKEN, [1; 4])], ..nothing() }));

    let contract = json!([{"address": TOKEN, "selectors": ["0xa9059cbb"]}]);
    let calls = with(json!({"id": "no", "effect": "deny", "wallets": ["eth"], "contracts": contract}));
    assert!(denied(&calls, &pays_token(&account, PAYEE, 1)));
    assert_eq!(allowed_by(&calls, &account, &pay(PAYEE, 1)), "all");
}

#[test]
fn a_rule_may_be_for_some_who_ask_and_for_some_hours() {
    let account = account("eth");
    let office = json!({"days": ["fri"], "from": "09:00", "to": "17:00", "zone": "UTC"});
    let policy = policy(json!([{
        "id": "desk", "wallets": ["eth"], "addresses": [PAYEE], "initiators": ["alice"], "hours": office,
    }]));
    let pay = pays(&account, Asset::Native, PAYEE, 1);
    // 20 November 2026 is a Friday.
    let (noon, night) = (1_795_176_000_000, 1_795_212_000_000);
    assert!(matches!(verdict_of(&policy, &account, &pay, "alice", noon), Verdict::Allow { .. }));
    for (who, when) in [("bob", noon), ("alice", night), ("alice", 0)] {
        let found = verdict_of(&policy, &account, &pay, who, when);
        assert!(matches!(found, Verdict::Deny { reason: Denial::NoRuleNow { .. }, .. }), "{who} {when}");
    }
}

#[test]
fn quorums_are_asked_for_by_amount_and_the_easier_rule_wins() {
    let account = account("eth");
    let rule = |id: &str, extra: Value| {
        let mut rule = json!({"id": id, "wallets": ["eth"], "addresses": [PAYEE]});
        rule.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        rule
    };
    let quorums = |rules: Value, amount| -> Vec<String> {
        match evaluate(
            &policy(rules),
            &account,
            &circumstances(&asker()),
            &pays(&account, Asset::Native, PAYEE, amount),
        ) {
            Verdict::Allow { .. } => Vec::new(),
            Verdict::Require { quorums, .. } => quorums.iter().map(ToString::to_string).collect(),
            Verdict::Deny { reason, .. } => panic!("{reason}"),
        }
    };
    let step = rule("step", json!({"require": "2 of finance", "require_above": "10"}));
    assert_eq!(quorums(json!([step]), 10), Vec::<String>::new());
    assert_eq!(quorums(json!([step]), 11), ["2 of finance"]);
    let always = rule("always", json!({"require": "1 of ceo"}));
    assert_eq!(quorums(json!([always]), 1), ["1 of ceo"]);
    assert_eq!(quorums(json!([always, step]), 10), Vec::<String>::new(), "one of them asks nobody");
    assert_eq!(quorums(json!([always, step]), 11), ["1 of ceo or 2 of finance"], "either will do");
}

#[test]
fn a_token_payment_asks_its_quorum_once() {
    let account = account("eth");
    let policy = policy(json!([{
        "id": "tokens", "wallets": ["eth"], "assets": [format!("erc20:{TOKEN}")], "addresses": [PAYEE],
        "contracts": [{"address": TOKEN, "selectors": ["0xa9059cbb"]}], "require": "2 of finance",
    }]));
    let verdict = evaluate(&policy, &account, &circumstances(&asker()), &pays_token(&account, PAYEE, 1));
    let Verdict::Require { quorums, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(quorums.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2 of finance"]);
}

#[test]
fn arguments_are_held_to_their_constraints() {
    let account = account("eth");
    let wallet = account.address().to_string();
    let swap = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint160))";
    let rules = |arguments: Value| {
        json!([{
            "id": "swaps", "wallets": ["eth"],
            "contracts": [{"address": ROUTER, "functions": [{"signature": swap, "arguments": arguments}]}],
        }])
    };
    let constraints = json!([
        {"at": "0.0", "one_of": [TOKEN]}, {"at": "0.3", "wallet": true}, {"at": "0.4", "max": "1000"}, {"at": "0.5", "min": "1"},
    ]);
    let policy = policy(rules(constraints));
    let word = |text: &str| [&[0; 12][..], &hex::decode(text.trim_start_matches("0x")).expect("hex")].concat();
    let number = |n: u64| [&[0; 24][..], &n.to_be_bytes()].concat();
    let swaps = |token: &str, recipient: &str, amount, least| {
        let words = [word(token), word(TOKEN), number(500), word(recipient), number(amount), number(least), number(0)];
        let arguments = words.concat().into();
        let call = Call { arguments, ..call(&account, ROUTER, [0x04, 0xe4, 0x5a, 0xaf]) };
        Effects { calls: vec![call], ..nothing() }
    };
    assert_eq!(allowed_by(&policy, &account, &swaps(TOKEN, &wallet, 1000, 1)), "swaps");
    let others = [
        swaps(OTHER, &wallet, 1000, 1),
        swaps(TOKEN, OTHER, 1000, 1),
        swaps(TOKEN, &wallet, 1001, 1),
        swaps(TOKEN, &wallet, 1000, 0),
        Effects { calls: vec![call(&account, ROUTER, [0x04, 0xe4, 0x5a, 0xaf])], ..nothing() },
    ];
    for effects in others {
        assert!(matches!(denial(&policy, &account, &effects), Denial::UnlistedArguments { .. }));
    }
    for wrong in [
        json!([{"at": "9", "max": "1"}]),
        json!([{"at": "0.3", "max": "1"}]),
        json!([{"at": "0.4", "wallet": true}]),
        json!([{"at": "0.3", "one_of": ["nobody"]}]),
        json!([{"at": "0.3"}]),
        json!([{"at": "0.3", "wallet": true, "one_of": [TOKEN]}]),
    ] {
        assert!(matches!(compile(json!({"rules": rules(wrong)})), Err(PolicyError::Function { .. })));
    }
}

#[test]
fn counterparties_are_their_addresses_on_the_network() {
    let counterparties = json!([{"id": "acme", "addresses": [PAYEE, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"]}]);
    let rule = json!({"id": "acme-eth", "wallets": ["eth"], "counterparties": ["acme"]});
    let config = json!({"counterparties": counterparties, "rules": [rule]});
    let policy = compile(config).expect("a sound policy");
    let account = account("eth");
    assert_eq!(allowed_by(&policy, &account, &pays(&account, Asset::Native, PAYEE, 1)), "acme-eth");
    assert!(matches!(
        denial(&policy, &account, &pays(&account, Asset::Native, OTHER, 1)),
        Denial::UnlistedAddress { .. }
    ));
    let wrong = [
        json!({"rules": [{"id": "r", "wallets": ["eth"], "counterparties": ["nobody"]}]}),
        json!({"counterparties": [{"id": "x", "addresses": []}], "rules": []}),
        json!({"counterparties": [{"id": "x", "addresses": ["nowhere"]}], "rules": []}),
        json!({"rules": [{"id": "r", "wallets": ["eth"], "effect": "deny", "max_amount": "1"}]}),
        json!({"rules": [{"id": "r", "wallets": ["eth"], "require_above": "1"}]}),
        json!({"rules": [{"id": "r", "wallets": ["eth"], "min_amount": "2", "max_amount": "1"}]}),
        json!({"rules": [{"id": "r", "wallets": ["eth"], "require": "everybody"}]}),
    ];
    for config in wrong {
        let parsed: Result<PolicyConfig, _> = serde_json::from_value(config.clone());
        assert!(parsed.is_err() || compile(config.clone()).is_err(), "{config}");
    }
}

/// Upkeep moves nothing, so no rule needs to name a receiver; but it costs, and some rule of the wallet must admit that.
#[test]
fn upkeep_is_admitted_by_its_fee_alone_and_never_moves_anything() {
    let account = account("eth");
    let rules = policy(eth_rules());
    let upkeep = |policy: &Policy, effects: &Effects| match evaluate_upkeep(policy, &account, effects) {
        Verdict::Allow { rule, .. } => Ok(rule),
        Verdict::Require { quorums, .. } => panic!("{quorums:?}"),
        Verdict::Deny { reason, .. } => Err(reason),
    };
    assert!(upkeep(&rules, &nothing()).is_ok());
    assert_eq!(denial(&rules, &account, &nothing()), Denial::NoEffect, "as a payment it is none");
    let moving = [
        pays(&account, Asset::Native, PAYEE, 1),
        pays_token(&account, PAYEE, 1),
        allows(&account, ROUTER, Amount::from_sat(1)),
        Effects { calls: vec![call(&account, TOKEN, [0xa9, 0x05, 0x9c, 0xbb])], ..nothing() },
    ];
    for effects in moving {
        assert_eq!(upkeep(&rules, &effects), Err(Denial::NotUpkeep), "{effects:?}");
    }
    assert!(matches!(upkeep(&policy(json!([])), &nothing()), Err(Denial::NoRule { .. })));
    let capped = policy(json!([{"id": "a", "wallets": ["eth"], "addresses": [PAYEE], "max_fee": "100"}]));
    assert_eq!(upkeep(&capped, &nothing()), Ok("a".to_owned()));
    let dear = Effects { max_fee: Amount::from_wei(101), ..nothing() };
    assert!(matches!(upkeep(&capped, &dear), Err(Denial::AboveFeeLimit { .. })));
    let denied = compile(json!({"rules": eth_rules(), "denied_addresses": [PAYEE]})).expect("a sound policy");
    let touching = Effects { touches: vec![address(&account, PAYEE)], ..nothing() };
    assert!(matches!(upkeep(&denied, &touching), Err(Denial::DeniedAddress { .. })));
}
