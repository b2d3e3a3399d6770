//! Every effect needs a rule, and every denial says why.

use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Call, Effects};
use serde_json::{Value, json};
use signer::policy::{Circumstances, Denial, Policy, Selector, Verdict, evaluate, evaluate_cancel, evaluate_upkeep};

use super::desk::*;

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

/// Upkeep moves nothing, so no rule needs to name a receiver; but it costs, and some rule of the wallet must admit that.
#[test]
fn upkeep_is_admitted_by_its_fee_alone_and_never_moves_anything() {
    let account = account("eth");
    let rules = policy(eth_rules());
    let upkeep = |policy: &Policy, effects: &Effects| {
        let found = said(evaluate_upkeep(policy, &account, &circumstances(&asker()), effects));
        assert_eq!(said(evaluate_cancel(policy, &account, effects)), found, "no rule here is for somebody");
        found
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

fn said(verdict: Verdict) -> Result<String, Denial> {
    match verdict {
        Verdict::Allow { rule, .. } => Ok(rule),
        Verdict::Require { quorums, .. } => panic!("{quorums:?}"),
        Verdict::Deny { reason, .. } => Err(reason),
    }
}

/// Whoever no rule of the wallet is for can't have its fees burned, however often.
#[test]
fn upkeep_is_for_whom_a_rule_is_and_when() {
    let account = account("eth");
    let office = json!({"days": ["fri"], "from": "09:00", "to": "17:00", "zone": "UTC"});
    let rules = |extra: Value| {
        let desk = json!({
            "id": "desk", "wallets": ["eth"], "addresses": [PAYEE], "initiators": ["alice"], "hours": office,
            "max_fee": "100",
        });
        let cheap = json!({
            "id": "cheap", "wallets": ["eth"], "addresses": [PAYEE], "initiators": ["bob"], "max_fee": "10",
        });
        policy([vec![desk, cheap], extra.as_array().expect("a list").clone()].concat().into())
    };
    // 20 November 2026 is a Friday.
    let (noon, night) = (1_795_176_000_000, 1_795_212_000_000);
    let upkeep = |policy: &Policy, who: &str, at: u64| {
        let initiator = who.parse().expect("a name");
        said(evaluate_upkeep(policy, &account, &Circumstances { initiator: &initiator, at }, &nothing()))
    };
    let plain = rules(json!([]));
    assert_eq!(upkeep(&plain, "alice", noon), Ok("desk".to_owned()));
    for (who, at) in [("alice", night), ("mallory", noon), ("mallory", night)] {
        assert!(matches!(upkeep(&plain, who, at), Err(Denial::NoRuleNow { .. })), "{who} {at}");
    }
    // The fee is bounded by the rules for who asks, not by those for others.
    assert!(
        matches!(upkeep(&plain, "bob", noon), Err(Denial::AboveFeeLimit { limit, .. }) if limit == Amount::from_wei(10))
    );
    // A rule that denies whatever is done denies this, too; one that denies some payments doesn't.
    let denying = |extra: Value| {
        let mut deny = json!({"id": "no", "effect": "deny", "wallets": ["eth"], "initiators": ["alice"]});
        deny.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        rules(json!([deny]))
    };
    assert_eq!(upkeep(&denying(json!({})), "alice", noon), Err(Denial::DeniedByRule { rule: "no".to_owned() }));
    assert_eq!(upkeep(&denying(json!({"addresses": [PAYEE]})), "alice", noon), Ok("desk".to_owned()));
    // A payment is cancelled whoever its rules are for: that it may be asked for is checked elsewhere.
    assert_eq!(said(evaluate_cancel(&plain, &account, &nothing())), Ok("desk".to_owned()));
    assert_eq!(said(evaluate_cancel(&denying(json!({})), &account, &nothing())), Ok("desk".to_owned()));
}
