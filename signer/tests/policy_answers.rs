//! What people ask a policy: why not, who could, and what would change.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail by panicking, as tests do")]

use std::collections::BTreeSet;

use chains::account::{Account, KeyPath, PublicKey};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Effects, Transfer};
use chains::network::Network;
use serde_json::{Value, json};
use signer::policy::prove::{Act, Among, ProveError, Question};
use signer::policy::{Circumstances, Policy, PolicyConfig, Verdict, diff, evaluate_traced, prove};

const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
const OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
const TOKEN: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";
/// Friday, 20 November 2026, noon in UTC.
const NOON: u64 = 1_795_176_000_000;

fn account(wallet: &str, network: &str) -> Account {
    let network: Network = network.parse().expect("a network");
    let public_key = match network {
        Network::Solana(_) => PublicKey::Ed25519([7; 32]),
        _ => PublicKey::Ecdsa(
            "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5".parse().expect("a point"),
        ),
    };
    let (wallet, key) = (wallet.parse().expect("a name"), "key".parse().expect("a name"));
    Account::new(wallet, network, key, KeyPath::root(), public_key).expect("an account")
}

fn accounts() -> Vec<Account> {
    vec![account("eth", "ethereum:1"), account("btc", "bitcoin:regtest"), account("sol", "solana:devnet")]
}

fn policy(config: Value) -> Policy {
    let config: PolicyConfig = serde_json::from_value(config).expect("the policy's form");
    let wallets = accounts().iter().map(|account| (account.wallet().clone(), account.network())).collect();
    config.compile(&wallets).expect("a sound policy")
}

fn treasury() -> Value {
    json!({
        "denied_addresses": [OTHER],
        "rules": [
            {"id": "payees", "wallets": ["eth"], "addresses": [PAYEE, TOKEN, OTHER], "max_amount": "1000", "max_fee": "500",
             "require": "2 of finance and 1 of cfo", "require_above": "10"},
            {"id": "desk", "wallets": ["eth"], "addresses": [PAYEE], "initiators": ["alice"], "max_amount": "5000",
             "hours": {"days": ["mon"], "from": "09:00", "to": "17:00", "zone": "Europe/Zurich"}},
            {"id": "never", "effect": "deny", "wallets": ["eth"], "assets": ["native"], "min_amount": "4000"},
        ],
    })
}

fn pays(to: &str, amount: u64) -> Effects {
    let account = account("eth", "ethereum:1");
    let to: Address = UncheckedAddress::new(to).require_network(account.network()).expect("an address");
    let from = account.address().clone();
    Effects {
        transfers: vec![Transfer { asset: Asset::Native, from, to, amount: Amount::from_sat(amount) }],
        max_fee: Amount::from_sat(100),
        ..Effects::default()
    }
}

fn trace(policy: Value, initiator: &str, effects: &Effects) -> Value {
    let initiator = initiator.parse().expect("a name");
    let circumstances = Circumstances { initiator: &initiator, at: NOON };
    let trace = evaluate_traced(&self::policy(policy), &account("eth", "ethereum:1"), &circumstances, effects);
    serde_json::to_value(trace).expect("JSON")
}

#[test]
fn the_smallest_change_is_an_amount() {
    let trace = trace(treasury(), "bob", &pays(PAYEE, 1001));
    assert_eq!(trace["verdict"]["reason"]["kind"], "above_limit");
    let changes = &trace["nearest"]["changes"];
    assert_eq!(changes[0]["input"], "transfer");
    assert_eq!(changes[0]["wanted"], json!({"kind": "amount_at_most", "amount": "1000"}));
    assert_eq!(changes[1]["input"], "approvals");
    assert_eq!(changes[1]["wanted"]["quorums"], json!(["1 of cfo and 2 of finance"]));
    assert_eq!(trace["nearest"]["verdict"]["verdict"], "require");
    // Every rule of the wallet says why.
    let rules = trace["rules"].as_array().expect("a list");
    assert_eq!(
        rules.iter().map(|rule| rule["rule"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["payees", "desk", "never"]
    );
    let kinds = |at: usize| -> Vec<Value> {
        rules[at]["misses"].as_array().expect("a list").iter().map(|miss| miss["wanted"]["kind"].clone()).collect()
    };
    assert_eq!(kinds(0), ["amount_at_most"]);
    assert_eq!(kinds(1), ["one_of_initiators", "hours"]);
    assert_eq!(kinds(2), ["amount_at_least"]);
    // The desk's window opens on Monday at nine in Zurich.
    assert_eq!(rules[1]["misses"][1]["wanted"]["next"], 1_795_420_800_000_u64);
}

#[test]
fn an_approval_is_all_that_is_missing() {
    let trace = trace(treasury(), "bob", &pays(PAYEE, 11));
    assert_eq!(trace["verdict"]["verdict"], "require");
    assert_eq!(trace["nearest"]["changes"].as_array().map(Vec::len), Some(1));
    assert_eq!(trace["nearest"]["changes"][0]["wanted"]["kind"], "approval");
    assert_eq!(self::trace(treasury(), "bob", &pays(PAYEE, 10))["nearest"], Value::Null);
}

#[test]
fn a_denied_address_is_not_proposed() {
    let trace = trace(treasury(), "bob", &pays("0xde709f2102306220921060314715629080e2fb77", 1));
    let addresses = &trace["nearest"]["changes"][0]["wanted"]["addresses"];
    assert_eq!(addresses, &json!([PAYEE, TOKEN]));
    // Nothing helps against the denylist but another address, and nothing helps a wallet without rules.
    assert_eq!(self::trace(json!({"rules": []}), "bob", &pays(PAYEE, 1))["nearest"], Value::Null);
}

#[test]
fn a_denying_rule_is_evaded_below_its_amount() {
    let config = json!({"rules": [
        {"id": "all", "wallets": ["eth"], "addresses": [PAYEE]},
        {"id": "never", "effect": "deny", "wallets": ["eth"], "assets": ["native"], "min_amount": "4000"},
    ]});
    let trace = trace(config, "bob", &pays(PAYEE, 9000));
    assert_eq!(trace["verdict"]["reason"]["kind"], "denied_by_rule");
    assert_eq!(trace["nearest"]["changes"][0]["wanted"], json!({"kind": "amount_at_most", "amount": "3999"}));
    assert_eq!(trace["nearest"]["verdict"]["verdict"], "allow");
}

fn question(json: Value) -> Question {
    serde_json::from_value(json).expect("a question")
}

#[test]
fn a_question_has_a_witness_or_none() {
    let policy = policy(treasury());
    let ask = |json: Value| prove(&policy, &accounts(), &question(json)).expect("an answer");
    // Above the step-up amount only the desk pays without approval, on Mondays.
    let witness = ask(json!({"min_amount": "11", "without_approval": true, "from": NOON})).expect("the desk");
    assert_eq!((witness.initiator.as_str(), witness.at), ("alice", 1_795_420_800_000));
    assert!(matches!(witness.verdict, Verdict::Allow { .. }));
    assert_eq!(ask(json!({"min_amount": "11", "without_approval": true, "from": NOON, "until": NOON})), None);
    assert_eq!(ask(json!({"min_amount": "11", "without_approval": true, "initiators": {"none_of": ["alice"]}})), None);
    assert!(ask(json!({"min_amount": "11", "initiators": {"none_of": ["alice"]}})).is_some());
    // The denying rule is stronger than the desk's limit; nobody else is paid; the denied address neither.
    assert!(ask(json!({"min_amount": "3999"})).is_some());
    assert_eq!(ask(json!({"min_amount": "4000"})), None);
    assert_eq!(ask(json!({"addresses": {"none_of": [PAYEE, TOKEN]}})), None);
    assert_eq!(ask(json!({"assets": {"none_of": ["native"]}})), None);
    assert_eq!(ask(json!({"acts": ["call"]})), None);
    assert_eq!(ask(json!({"wallets": {"none_of": ["eth"]}})), None);
    assert_eq!(ask(json!({"min_fee": "501", "initiators": {"none_of": ["alice"]}})), None);
    // What can't be meant is no answer.
    let nowhere = question(json!({"addresses": {"one_of": ["nowhere"]}}));
    assert_eq!(prove(&policy, &accounts(), &nowhere), Err(ProveError::Address(UncheckedAddress::new("nowhere"))));
    assert!(serde_json::from_value::<Question>(json!({"amount": "1"})).is_err());
}

#[test]
fn a_wallet_of_deals_pays_under_no_other_terms() {
    let mut config = treasury();
    config["deals_only"] = json!(["eth"]);
    let plain = trace(config.clone(), "bob", &pays(PAYEE, 10));
    assert_eq!(plain["verdict"]["reason"]["kind"], "no_deal");
    assert_eq!(plain["nearest"]["changes"], json!([{"input": "deal", "wanted": {"kind": "deal"}}]));
    assert_eq!(plain["nearest"]["verdict"], trace(treasury(), "bob", &pays(PAYEE, 10))["verdict"]);
    // What keeps a leg from passing is named as well, and where nothing helps a leg, a deal doesn't either.
    let large = trace(config.clone(), "bob", &pays(PAYEE, 1001));
    let kinds: Vec<&Value> =
        large["nearest"]["changes"].as_array().expect("a list").iter().map(|miss| &miss["wanted"]["kind"]).collect();
    assert_eq!(kinds, ["amount_at_most", "approval", "deal"]);
    let nothing = trace(json!({"rules": [], "deals_only": ["eth"]}), "bob", &pays(PAYEE, 1));
    assert_eq!((&nothing["verdict"]["reason"]["kind"], &nothing["nearest"]), (&json!("no_deal"), &Value::Null));

    let (free, bound) = (policy(treasury()), policy(config));
    let ask = |policy: &Policy, json: Value| prove(policy, &accounts(), &question(json)).expect("an answer");
    let small = json!({"wallets": {"one_of": ["eth"]}, "max_amount": "10", "without_approval": true});
    assert!(ask(&free, small.clone()).is_some_and(|witness| !witness.deal));
    assert_eq!(ask(&bound, small), None, "a deal waits for its parties");
    assert!(ask(&bound, json!({"wallets": {"one_of": ["eth"]}})).is_some_and(|witness| witness.deal));

    let found = diff(&bound, &free, &accounts(), NOON).expect("an answer");
    assert_eq!((found.freed_of_deals.len(), found.tightened), (1, None));
    let Some(Verdict::Deny { reason, .. }) = found.loosened.map(|step| step.otherwise) else { panic!("it is freed") };
    assert_eq!(reason.kind(), "no_deal");
    let found = diff(&free, &bound, &accounts(), NOON).expect("an answer");
    assert!(found.freed_of_deals.is_empty() && found.loosened.is_none() && found.tightened.is_some());
}

#[test]
fn every_chain_has_its_witness() {
    let bitcoin = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let solana = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";
    let mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
    let policy = policy(json!({"rules": [
        {"id": "btc", "wallets": ["btc"], "addresses": [bitcoin]},
        {"id": "spl", "wallets": ["sol"], "assets": [format!("spl:{mint}")], "addresses": [solana]},
    ]}));
    for (wallet, to) in [("btc", bitcoin), ("sol", solana)] {
        let asked = Question {
            acts: BTreeSet::from([Act::Pay]),
            addresses: Among::OneOf(vec![UncheckedAddress::new(to)]),
            ..Question::default()
        };
        let witness = prove(&policy, &accounts(), &asked).expect("an answer").expect("a witness");
        assert_eq!((witness.wallet.as_str(), witness.effects.transfers[0].to.to_string()), (wallet, to.to_owned()));
    }
}

#[test]
fn a_diff_names_what_changed_and_what_it_lets_through() {
    let accounts = accounts();
    let (old, mut changed) = (treasury(), treasury());
    let same = diff(&policy(old.clone()), &policy(old.clone()), &accounts, NOON).expect("an answer");
    assert_eq!((same.loosened, same.tightened, same.rules), (None, None, Default::default()));

    changed["rules"][0]["require"] = json!("1 of finance");
    changed["rules"][0]["max_amount"] = json!("900");
    changed["rules"].as_array_mut().expect("a list").push(json!({"id": "more", "wallets": ["btc"]}));
    let found = diff(&policy(old.clone()), &policy(changed), &accounts, NOON).expect("an answer");
    assert_eq!(found.rules.added, ["more"]);
    assert_eq!(found.rules.changed["payees"], ["effect", "max_amount"]);
    let loosened = found.loosened.expect("a weaker quorum");
    assert!(matches!(
        (&loosened.witness.verdict, &loosened.otherwise),
        (Verdict::Require { .. }, Verdict::Require { .. })
    ));
    let tightened = found.tightened.expect("a lower limit");
    assert_ne!(tightened.witness.verdict, tightened.otherwise);

    let mut undenied = old.clone();
    undenied["denied_addresses"] = json!([]);
    let found = diff(&policy(old), &policy(undenied), &accounts, NOON).expect("an answer");
    assert!(found.fewer_denied && !found.more_denied && found.rules == Default::default());
    let witness = found.loosened.expect("a denied address").witness;
    assert_eq!(witness.effects.transfers[0].to.to_string(), OTHER);
    assert_eq!(found.tightened, None);
}
