//! What people ask a policy, against trying it out: why not, what would pass, whether anything does, and what another policy changes.

use std::collections::BTreeSet;

use chains::address::UncheckedAddress;
use chains::amount::Amount;
use chains::effects::Effects;
use signer::policy::prove::{Act, Among, Question};
use signer::policy::trace::{Input, RuleEffect, RuleTrace, Trace, Wanted};
use signer::policy::{Circumstances, Policy, Verdict, diff, evaluate, evaluate_traced, prove};
use signer::roster::CredentialId;

use super::model::{self, Random, Table, Tx};
use super::{cases, each, judge, rank};

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
        let by_itself = Tx { deal: false, ..tx.clone() };
        assert_eq!(trace.verdict, judge(policy, &by_itself));
        // Where there is one effect of the wallet's own, the rules' traces make the verdict.
        let effects = tx.effects();
        let own = effects.transfers.iter().all(|transfer| transfer.from == *model::account(tx.wallet).address());
        let limited = effects.allowances.iter().all(|grant| grant.amount.to_u128().is_some());
        let one = effects.transfers.len() + effects.allowances.len() + effects.calls.len() == 1
            && effects.proceeds.is_empty();
        let by_rules = table.denied.is_empty() && !table.deals_only.contains(&tx.wallet);
        if !(one && own && limited && by_rules) {
            return;
        }
        lone += 1;
        let out_of_force = |input: &Input| matches!(input, Input::Initiator { .. } | Input::Time { .. });
        let in_force = |rule: &&RuleTrace| !rule.misses.iter().any(|miss| out_of_force(&miss.input));
        let fee = |rule: &&RuleTrace| !rule.misses.iter().any(|miss| matches!(miss.input, Input::Fee { .. }));
        let fits = |rule: &&RuleTrace| !rule.fits.is_empty();
        let deny = |rule: &&RuleTrace| rule.effect == RuleEffect::Deny;
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
                Wanted::Approval { .. } | Wanted::Deal => next.push((initiator, at, effects)),
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
        "deal",
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
        // A leg of a deal waits for the deal's parties.
        let deal = table.deals_only.contains(&0);
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
            let passes = rank(&verdict) > u8::from(question.without_approval) && !(deal && question.without_approval);
            (fits && passes).then_some(effects)
        });
        assert_eq!(witness.is_some(), by_hand.is_some(), "{round} {table:#?} {question:#?} {witness:#?} {by_hand:#?}");
        counts[usize::from(witness.is_some())] += 1;
        if let Some(witness) = witness {
            let circumstances = Circumstances { initiator: &witness.initiator, at: witness.at };
            let verdict = evaluate(&policy, &accounts[0], &circumstances, &witness.effects);
            assert_eq!((&verdict, deal), (&witness.verdict, witness.deal));
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
        match random.below(4) {
            0 => new.rules.push(model::Rule::some(&mut random, "another", false)),
            1 if !new.rules.is_empty() => {
                let at = random.below(new.rules.len());
                let (id, deny) = (new.rules[at].id.clone(), new.rules[at].deny);
                new.rules[at] = model::Rule::some(&mut random, &id, deny);
            }
            2 => new.deals_only = random.few(2),
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
            let free = |policy: &Policy| policy.require_deal(account.wallet(), false);
            let otherwise = match (free(lax), free(strict)) {
                (Ok(()), Err(reason)) => Verdict::Deny { rule: None, reason },
                _ => evaluate(strict, account, &circumstances, &step.witness.effects),
            };
            assert_eq!(otherwise, step.otherwise);
            assert_ne!(step.witness.verdict, step.otherwise);
            assert!(rank(&step.witness.verdict) > 0);
        }
        // Whatever a transaction at random shows has been found.
        for _ in 0..500 {
            let ((initiator, at), effects) = (&moments[random.below(moments.len())], &deeds[random.below(deeds.len())]);
            for deal in [false, true] {
                let says = |policy: &Policy| match policy.require_deal(accounts[0].wallet(), deal) {
                    Ok(()) => rank(&evaluate(policy, &accounts[0], &Circumstances { initiator, at: *at }, effects)),
                    Err(_) => 0,
                };
                let (was, is) = (says(&before), says(&after));
                assert!(is <= was || found.loosened.is_some(), "{old:#?} {new:#?} {effects:#?}");
                assert!(is >= was || found.tightened.is_some(), "{old:#?} {new:#?} {effects:#?}");
            }
        }
        eased += u32::from(found.loosened.is_some());
        same += u32::from(found.loosened.is_none() && found.tightened.is_none());
    }
    assert!(eased > 3 && same > 3, "{eased} {same}");
}
