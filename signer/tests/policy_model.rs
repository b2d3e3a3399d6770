//! The policy against a second reading of its specification: a naive interpreter of the rule table, and every transaction of
//! a small universe tried by hand.
//!
//! `CASES` is how many transactions the interpreters are asked about, and a thousandth of it how many policies are tried
//! out; `just policy` asks a million.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "policy_model/answers.rs"]
mod answers;
#[path = "policy_model/model.rs"]
mod model;

use std::collections::BTreeSet;

use chains::address::Address;
use chains::amount::Amount;
use chains::effects::Effects;
use model::{Random, Said, SolanaTable, SolanaTx, Table, Tx};
use signer::policy::code::{CodeDemand, CodeHash, code_demands};
use signer::policy::{Circumstances, Policy, Verdict, evaluate, evaluate_cancel, evaluate_upkeep};

fn cases(default: u64) -> u64 {
    std::env::var("CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// No, with approval, yes.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Deny { .. } => 0,
        Verdict::Require { .. } => 1,
        Verdict::Allow { .. } => 2,
    }
}

/// As whoever judges a payment does: whether it may be made by itself, and what the rules say.
fn judge(policy: &Policy, tx: &Tx) -> Verdict {
    let account = model::account(tx.wallet);
    if let Err(reason) = policy.require_deal(account.wallet(), tx.deal) {
        return Verdict::Deny { rule: None, reason };
    }
    let initiator = model::initiator(tx.initiator);
    evaluate(policy, &account, &Circumstances { initiator: &initiator, at: tx.at }, &tx.effects())
}

/// A transaction per call, each policy asked eight times.
fn each(seed: u64, count: u64, mut check: impl FnMut(&mut Random, &Table, &Policy, &Tx)) {
    for round in 0..count.div_ceil(8) {
        let mut random = Random::new(seed.wrapping_add(round));
        let table = Table::some(&mut random);
        let policy = table.compile();
        for _ in 0..8 {
            let tx = Tx::some(&mut random, &table);
            check(&mut random, &table, &policy, &tx);
        }
    }
}

#[test]
fn agrees_with_the_naive_interpreter() {
    let (mut counts, count) = ([0_u64; 3], cases(20_000));
    each(1, count, |random, table, policy, tx| {
        let verdict = judge(policy, tx);
        let said = table.says(tx);
        counts[usize::from(rank(&verdict))] += 1;
        let context = || format!("{table:#?}\n{tx:#?}\n{verdict:#?}\n{said:#?}");
        match (&verdict, &said) {
            (Verdict::Deny { .. }, Said::No) => {}
            (Verdict::Allow { draws, .. } | Verdict::Require { draws, .. }, Said::Yes { needs }) => {
                assert_eq!(needs.is_empty(), rank(&verdict) == 2, "{}", context());
                let drawn: BTreeSet<(String, Amount)> =
                    draws.iter().map(|draw| (draw.counter.as_str().to_owned(), draw.amount)).collect();
                assert_eq!(drawn, table.draws(tx), "{}", context());
                if let Verdict::Require { quorums, .. } = &verdict {
                    for _ in 0..4 {
                        let people = model::some_people(random);
                        let met = quorums.iter().all(|quorum| quorum.is_met_by(&model::as_people(&people)));
                        let by_hand = needs.iter().all(|ways| ways.iter().any(|way| model::met(way, &people)));
                        assert_eq!(met, by_hand, "{people:?} {}", context());
                    }
                }
            }
            _ => panic!("{}", context()),
        }
        assert_eq!(codes(policy, tx), table.codes(tx), "{}", context());
    });
    println!("{count} cases: {} denied, {} with approval, {} allowed; 0 differences", counts[0], counts[1], counts[2]);
    assert!(counts.iter().all(|n| *n > count / 50), "a generator that says always the same tests nothing: {counts:?}");
}

/// Which code the called contracts must have, by the universe's own numbers.
fn codes(policy: &Policy, tx: &Tx) -> BTreeSet<(usize, BTreeSet<u8>)> {
    let number = |hash: &CodeHash| (1..=2).find(|code| CodeHash::new([*code; 32]) == *hash).expect("a code");
    let place = |contract: &Address| model::place_of(contract);
    let demands = code_demands(policy, &model::account(tx.wallet), &tx.effects());
    demands.iter().map(|CodeDemand { contract, code }| (place(contract), code.iter().map(number).collect())).collect()
}

#[test]
fn agrees_on_instructions_of_programs() {
    let (mut counts, count) = ([0_u64; 3], cases(20_000));
    let account = model::solana_account();
    for round in 0..count.div_ceil(8) {
        let mut random = Random::new(round.wrapping_add(0x501a));
        let table = SolanaTable::some(&mut random);
        let policy = table.compile();
        for _ in 0..8 {
            let tx = SolanaTx::some(&mut random, &table);
            let initiator = tx.asker();
            let verdict = evaluate(&policy, &account, &Circumstances { initiator: &initiator, at: 0 }, &tx.effects());
            assert_eq!(rank(&verdict), table.says(&tx), "{table:#?}\n{tx:#?}\n{verdict:#?}");
            counts[usize::from(rank(&verdict))] += 1;
        }
    }
    let [denied, asking, allowed] = counts;
    println!("{count} cases on Solana: {denied} denied, {asking} with approval, {allowed} allowed; 0 differences");
    assert!(counts.iter().all(|n| *n > count / 50), "a generator that says always the same tests nothing: {counts:?}");
}

#[test]
fn agrees_on_what_moves_nothing() {
    let (mut upkeep, mut cancels) = ([0_u64; 2], [0_u64; 2]);
    each(8, cases(20_000) / 10, |_, table, policy, tx| {
        let account = model::account(tx.wallet);
        let initiator = model::initiator(tx.initiator);
        let idle = Effects { max_fee: Amount::from_sat(tx.fee), ..Effects::default() };
        let circumstances = Circumstances { initiator: &initiator, at: tx.at };
        let kept = !evaluate_upkeep(policy, &account, &circumstances, &idle).is_denial();
        assert_eq!(kept, table.keeps_up(tx), "{table:#?} {tx:#?}");
        let cancelled = !evaluate_cancel(policy, &account, &idle).is_denial();
        assert_eq!(cancelled, table.cancels(tx), "{table:#?} {tx:#?}");
        upkeep[usize::from(kept)] += 1;
        cancels[usize::from(cancelled)] += 1;
    });
    assert!(upkeep.iter().chain(&cancels).all(|count| *count > 20), "{upkeep:?} {cancels:?}");
    assert!(upkeep[0] > cancels[0], "upkeep is for some, a cancel for anybody");
}

#[test]
fn what_is_taken_away_never_permits_more() {
    let mut changed = 0;
    each(2, cases(20_000) / 10, |random, table, policy, tx| {
        let before = rank(&judge(policy, tx));
        let mut denying = table.clone();
        denying.rules.push(model::Rule::some(random, "another", true));
        let after = rank(&judge(&denying.compile(), tx));
        assert!(after <= before, "{denying:#?} {tx:#?}");
        changed += u32::from(after < before);

        let allowing: Vec<usize> = (0..table.rules.len()).filter(|at| !table.rules[*at].deny).collect();
        if !allowing.is_empty() {
            let mut fewer = table.clone();
            fewer.rules.remove(allowing[random.below(allowing.len())]);
            let after = rank(&judge(&fewer.compile(), tx));
            assert!(before > 0 || after == 0, "{fewer:#?} {tx:#?}");
            changed += u32::from(after < before);
        }
    });
    assert!(changed > 20, "{changed}");
}

#[test]
fn the_order_of_the_rules_says_nothing() {
    each(3, cases(20_000) / 10, |random, table, policy, tx| {
        let mut other = table.clone();
        random.shuffle(&mut other.rules);
        let said = |verdict: Verdict| match verdict {
            Verdict::Allow { draws, .. } => (2, BTreeSet::new(), draws),
            Verdict::Require { quorums, draws, .. } => (1, quorums, draws),
            Verdict::Deny { .. } => (0, BTreeSet::new(), Vec::new()),
        };
        assert_eq!(said(judge(policy, tx)), said(judge(&other.compile(), tx)), "{table:#?} {tx:#?}");
    });
}

#[test]
fn a_higher_amount_is_never_easier_where_no_rule_has_a_least() {
    let mut harder = 0;
    each(4, cases(20_000) / 10, |random, table, _, tx| {
        let mut table = table.clone();
        table.rules.iter_mut().filter(|rule| !rule.deny).for_each(|rule| rule.min = None);
        let policy = table.compile();
        let mut higher = tx.clone();
        let more = 1 + random.below(6) as u64;
        higher.transfers.iter_mut().for_each(|transfer| transfer.amount += more);
        higher.allowances.iter_mut().for_each(|grant| grant.amount = grant.amount.saturating_add(more.into()));
        let (before, after) = (rank(&judge(&policy, tx)), rank(&judge(&policy, &higher)));
        assert!(after <= before, "{table:#?} {tx:#?}");
        harder += u32::from(after < before);
    });
    assert!(harder > 10, "{harder}");
}
