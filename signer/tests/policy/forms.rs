//! What is a policy, what is none, and how verdicts read.

use std::collections::BTreeMap;

use chains::address::UncheckedAddress;
use chains::asset::Asset;
use chains::effects::Effects;
use serde_json::{Value, json};
use signer::policy::{PolicyConfig, PolicyError, evaluate};

use super::desk::*;

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
