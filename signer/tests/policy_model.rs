//! The policy against a second reading of its specification: a naive interpreter of the rule table, and every transaction of
//! a small universe tried by hand.
//!
//! `CASES` is how many transactions the interpreter is asked about, and a thousandth of it how many policies are tried
//! out; `just policy` asks a million.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "helpers of tests fail by panicking, as tests do"
)]

#[path = "policy_model/model.rs"]
mod model;

use std::collections::BTreeSet;

use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::effects::Effects;
use model::{Random, Said, Table, Tx};
use signer::policy::prove::{Act, Among, Question};
use signer::policy::trace::{Input, RuleEffect, Trace, Wanted};
use signer::policy::{Circumstances, Policy, Verdict, diff, evaluate, evaluate_traced, prove};
use signer::roster::CredentialId;

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

fn judge(policy: &Policy, tx: &Tx) -> Verdict {
    let initiator = model::initiator(tx.initiator);
    evaluate(policy, &model::account(tx.wallet), &Circumstances { initiator: &initiator, at: tx.at }, &tx.effects())
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
    });
    println!("{count} cases: {} denied, {} with approval, {} allowed; 0 differences", counts[0], counts[1], counts[2]);
    assert!(counts.iter().all(|n| *n > count / 50), "a generator that says always the same tests nothing: {counts:?}");
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

fn traced(policy: &Policy, tx: &Tx) -> Trace {
    let initiator = model::initiator(tx.initiator);
    evaluate_traced(
        policy,
        &model::account(tx.wallet),
        &Circumstances { initiator: &initiator, at: tx.at },
        &tx.effects(),
    )
}

#[test]
fn a_trace_says_what_evaluate_says() {
    let mut lone = 0;
    each(5, cases(20_000) / 10, |_, table, policy, tx| {
        let trace = traced(policy, tx);
        assert_eq!(trace.verdict, judge(policy, tx));
        // Where there is one effect of the wallet's own, the rules' traces make the verdict.
        let effects = tx.effects();
        let own = effects.transfers.iter().all(|transfer| transfer.from == *model::account(tx.wallet).address());
        let limited = effects.allowances.iter().all(|grant| grant.amount.to_u128().is_some());
        let one = effects.transfers.len() + effects.allowances.len() + effects.calls.len() == 1
            && effects.proceeds.is_empty();
        if !(one && own && limited && table.denied.is_empty()) {
            return;
        }
        lone += 1;
        let out_of_force = |input: &Input| matches!(input, Input::Initiator { .. } | Input::Time { .. });
        let in_force =
            |rule: &&signer::policy::trace::RuleTrace| !rule.misses.iter().any(|miss| out_of_force(&miss.input));
        let fee = |rule: &&signer::policy::trace::RuleTrace| {
            !rule.misses.iter().any(|miss| matches!(miss.input, Input::Fee { .. }))
        };
        let fits = |rule: &&signer::policy::trace::RuleTrace| !rule.fits.is_empty();
        let deny = |rule: &&signer::policy::trace::RuleTrace| rule.effect == RuleEffect::Deny;
        let denied = trace.rules.iter().filter(in_force).filter(deny).any(|rule| fits(&rule));
        let permitted = trace.rules.iter().filter(in_force).filter(fee).filter(fits).any(|rule| !deny(&rule));
        assert_eq!(permitted && !denied, rank(&trace.verdict) > 0, "{table:#?} {tx:#?} {trace:#?}");
    });
    assert!(lone > 50, "{lone}");
}

/// Makes every change that a trace names, each with every value that it names.
fn changed(trace: &Trace, tx: &Tx) -> Vec<(CredentialId, u64, Effects)> {
    let mut all = vec![(model::initiator(tx.initiator), tx.at, tx.effects())];
    for miss in &trace.nearest.as_ref().expect("a change").changes {
        let mut next = Vec::new();
        for (initiator, at, effects) in all {
            match &miss.wanted {
                Wanted::Approval { .. } => next.push((initiator, at, effects)),
                Wanted::OneOfInitiators { initiators } => {
                    next.extend(initiators.iter().map(|who| (who.clone(), at, effects.clone())));
                }
                Wanted::Hours { next: when, .. } | Wanted::OutsideHours { next: when, .. } => {
                    next.push((initiator, when.expect("a time"), effects));
                }
                Wanted::FeeAtMost { fee } => next.push((initiator, at, Effects { max_fee: *fee, ..effects })),
                wanted => next.extend(
                    model::changes(&effects, &miss.input, wanted)
                        .into_iter()
                        .map(|effects| (initiator.clone(), at, effects)),
                ),
            }
        }
        all = next;
    }
    all
}

#[test]
fn the_nearest_change_passes() {
    let mut kinds = BTreeSet::new();
    each(6, cases(20_000) / 10, |_, table, policy, tx| {
        let trace = traced(policy, tx);
        let Some(nearest) = &trace.nearest else { return };
        assert_ne!(rank(&nearest.verdict), 0);
        assert!(!nearest.changes.is_empty());
        // Several sets of values at once may be too many for each other; a single one may be chosen from freely.
        let sets = nearest.changes.iter().filter(|miss| {
            matches!(
                miss.wanted,
                Wanted::OneOfAddresses { .. } | Wanted::OneOfAssets { .. } | Wanted::OneOfInitiators { .. }
            )
        });
        let free = sets.count() <= 1;
        let tried = changed(&trace, tx);
        let passing = tried.iter().filter(|(initiator, at, effects)| {
            let circumstances = Circumstances { initiator, at: *at };
            rank(&evaluate(policy, &model::account(tx.wallet), &circumstances, effects)) > 0
        });
        let passing = passing.count();
        assert!(passing > 0 && (!free || passing == tried.len()), "{table:#?} {tx:#?} {trace:#?}");
        for miss in &nearest.changes {
            let json = serde_json::to_value(&miss.wanted).expect("JSON");
            kinds.insert(json["kind"].as_str().expect("a kind").to_owned());
        }
    });
    for kind in [
        "amount_at_most",
        "amount_at_least",
        "fee_at_most",
        "approval",
        "hours",
        "one_of_initiators",
        "one_of_addresses",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
}

fn some_question(random: &mut Random) -> Question {
    let address = |random: &mut Random| UncheckedAddress::new(model::text(random.below(model::ADDRESSES)));
    let mut question =
        Question { from: model::WEEK, until: Some(model::WEEK + 7 * model::DAY - 1), ..Question::default() };
    question.wallets = Among::OneOf(vec![model::account(0).wallet().clone()]);
    question.acts = match random.below(5) {
        0 => BTreeSet::new(),
        1 => BTreeSet::from([Act::Pay]),
        2 => BTreeSet::from([Act::Approve]),
        3 => BTreeSet::from([Act::Collect]),
        _ => BTreeSet::from([Act::Call]),
    };
    if random.one_in(2) {
        let who = vec![model::initiator(random.below(3))];
        question.initiators = if random.one_in(2) { Among::OneOf(who) } else { Among::NoneOf(who) };
    }
    if random.one_in(2) {
        let to = vec![address(random)];
        question.addresses = if random.one_in(3) { Among::OneOf(to) } else { Among::NoneOf(to) };
    }
    if random.one_in(3) {
        let asset = vec![model::asset(random.below(model::ASSETS))];
        question.assets = if random.one_in(2) { Among::OneOf(asset) } else { Among::NoneOf(asset) };
    }
    if random.one_in(3) {
        question.min_amount = Some(Amount::from_sat(random.below(9) as u64));
    }
    if random.one_in(3) {
        question.max_amount = Some(Amount::from_sat(2 + random.below(7) as u64));
    }
    question.min_fee = Amount::from_sat(random.below(4) as u64);
    question.without_approval = random.one_in(2);
    question
}

#[test]
fn prove_agrees_with_trying_everything() {
    let accounts = [model::account(0)];
    let mut counts = [0_u32; 2];
    for round in 0..(cases(20_000) / 1_000).min(2_000) {
        let mut random = Random::new(round.wrapping_add(0x5eed));
        let table = Table::some(&mut random);
        let policy = table.compile();
        let question = some_question(&mut random);
        let witness = prove(&policy, &accounts, &question).expect("an answer");
        let (moments, deeds) = model::universe(&question);
        let mut all = moments.iter().flat_map(|moment| deeds.iter().map(move |effects| (moment, effects)));
        let by_hand = all.find_map(|((initiator, at), effects)| {
            let circumstances = Circumstances { initiator, at: *at };
            let verdict = evaluate(&policy, &accounts[0], &circumstances, effects);
            let fits = match &verdict {
                Verdict::Allow { draws, .. } | Verdict::Require { draws, .. } => draws.iter().all(|draw| {
                    draw.max_amount.is_none_or(|most| draw.amount <= most) && draw.max_count.is_none_or(|most| most > 0)
                }),
                Verdict::Deny { .. } => false,
            };
            (fits && rank(&verdict) > u8::from(question.without_approval)).then_some(effects)
        });
        assert_eq!(witness.is_some(), by_hand.is_some(), "{round} {table:#?} {question:#?} {witness:#?} {by_hand:#?}");
        counts[usize::from(witness.is_some())] += 1;
        if let Some(witness) = witness {
            let circumstances = Circumstances { initiator: &witness.initiator, at: witness.at };
            let verdict = evaluate(&policy, &accounts[0], &circumstances, &witness.effects);
            assert_eq!(verdict, witness.verdict);
            assert!(rank(&verdict) > u8::from(question.without_approval));
            assert!(model::fits_question(&question, &witness), "{question:#?} {witness:#?}");
        }
    }
    println!("{} with a witness, {} without", counts[1], counts[0]);
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");
}

#[test]
fn a_diff_tells_what_becomes_easier() {
    let accounts = [model::account(0), model::account(1)];
    let (mut eased, mut same) = (0, 0);
    let span = Question { from: model::WEEK, until: Some(model::WEEK + 7 * model::DAY - 1), ..Question::default() };
    let (moments, deeds) = model::universe(&span);
    for round in 0..(cases(20_000) / 1_000).min(2_000) {
        let mut random = Random::new(round.wrapping_add(0xd1ff));
        let old = Table::some(&mut random).without_limits();
        let mut new = old.clone();
        match random.below(3) {
            0 => new.rules.push(model::Rule::some(&mut random, "another", false)),
            1 if !new.rules.is_empty() => {
                let at = random.below(new.rules.len());
                let (id, deny) = (new.rules[at].id.clone(), new.rules[at].deny);
                new.rules[at] = model::Rule::some(&mut random, &id, deny);
            }
            _ => new.rules.reverse(),
        }
        let (before, after) = (old.compile(), new.compile());
        let found = diff(&before, &after, &accounts, model::WEEK).expect("an answer");
        assert_eq!(found.rules.added.len() + old.rules.len(), found.rules.removed.len() + new.rules.len());
        for (step, lax, strict) in [(&found.loosened, &after, &before), (&found.tightened, &before, &after)] {
            let Some(step) = step else { continue };
            let account = accounts.iter().find(|account| *account.wallet() == step.witness.wallet).expect("a wallet");
            let circumstances = Circumstances { initiator: &step.witness.initiator, at: step.witness.at };
            assert_eq!(evaluate(lax, account, &circumstances, &step.witness.effects), step.witness.verdict);
            assert_eq!(evaluate(strict, account, &circumstances, &step.witness.effects), step.otherwise);
            assert_ne!(step.witness.verdict, step.otherwise);
            assert!(rank(&step.witness.verdict) > 0);
        }
        // Whatever a transaction at random shows has been found.
        for _ in 0..500 {
            let ((initiator, at), effects) = (&moments[random.below(moments.len())], &deeds[random.below(deeds.len())]);
            let says = |policy| rank(&evaluate(policy, &accounts[0], &Circumstances { initiator, at: *at }, effects));
            let (was, is) = (says(&before), says(&after));
            assert!(is <= was || found.loosened.is_some(), "{old:#?} {new:#?} {effects:#?}");
            assert!(is >= was || found.tightened.is_some(), "{old:#?} {new:#?} {effects:#?}");
        }
        eased += u32::from(found.loosened.is_some());
        same += u32::from(found.loosened.is_none() && found.tightened.is_none());
    }
    assert!(eased > 3 && same > 3, "{eased} {same}");
}
