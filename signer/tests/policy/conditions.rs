//! Rules that deny, that hold at times, ask people, or bind a call's arguments.

use chains::asset::Asset;
use chains::effects::{Call, Effects};
use chains::ethereum::function::Function;
use serde_json::{Value, json};
use signer::policy::{Denial, Policy, PolicyConfig, PolicyError, Verdict, evaluate};

use super::desk::*;

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
fn a_denying_rule_is_for_arguments_that_nobody_can_read() {
    let account = account("eth");
    let deposit: Function = "deposit(uint256,address)".parse().expect("a function");
    let selector = deposit.selector();
    let allow = json!({"id": "vault", "wallets": ["eth"], "contracts": [
        {"address": ROUTER, "selectors": [format!("0x{}", hex::encode(selector))]},
    ]});
    let denying = |arguments: Value| {
        let functions = json!([{"signature": "deposit(uint256,address)", "arguments": arguments}]);
        let deny = json!({"id": "no", "effect": "deny", "wallets": ["eth"],
            "contracts": [{"address": ROUTER, "functions": functions}]});
        policy(json!([allow, deny]))
    };
    let word = |text: &str| [&[0; 12][..], &hex::decode(text.trim_start_matches("0x")).expect("hex")].concat();
    let deposits = |to: &str, tail: &[u8]| {
        let arguments = [vec![0; 31], vec![9], word(to), tail.to_vec()].concat().into();
        Effects { calls: vec![Call { arguments, ..call(&account, ROUTER, selector) }], ..nothing() }
    };
    // One of some values, which the index looks up, and a range, which it doesn't.
    for arguments in [json!([{"at": "1", "one_of": [OTHER]}]), json!([{"at": "0", "min": "10"}])] {
        let policy = denying(arguments);
        assert_eq!(allowed_by(&policy, &account, &deposits(PAYEE, &[])), "vault");
        // Solidity passes over what follows the arguments.
        for tail in [&[0; 32][..], &[1], &[7; 64]] {
            for to in [OTHER, PAYEE] {
                let found = denial(&policy, &account, &deposits(to, tail));
                assert_eq!(found, Denial::DeniedByRule { rule: "no".to_owned() }, "{to} {tail:?}");
            }
        }
        let mut dirty = deposits(PAYEE, &[]);
        dirty.calls[0].arguments = [vec![0; 32], vec![1], word(OTHER)[1..].to_vec()].concat().into();
        assert!(matches!(denial(&policy, &account, &dirty), Denial::DeniedByRule { .. }), "bits above an address");
    }
    let named = denying(json!([{"at": "1", "one_of": [OTHER]}]));
    assert!(matches!(denial(&named, &account, &deposits(OTHER, &[])), Denial::DeniedByRule { .. }));
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
