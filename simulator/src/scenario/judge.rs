//! The claims of a scenario, held against what the gateway told of each payment and what the chains' own nodes say.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{Claim, Sight, Verdict};
use super::{Bound, Scenario};
use crate::load::{Fate, Latencies};
use crate::report::seconds;
use crate::topology::ChainKind;

/// The state of a payment that is final.
pub const FINALIZED: &str = "finalized";
/// The state of one that a person must look at.
pub const QUARANTINED: &str = "quarantined";
/// So many cases against a claim are told.
const TOLD: usize = 6;

/// What a run left behind. What is said of chains comes from their nodes, past the gateway.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What became of each order.
    pub fates: Vec<Fate>,
    /// What the payee of each order got, by the order's number. A payee serves one order.
    pub received: BTreeMap<u32, u128>,
    /// What each wallet had and has.
    pub purses: Vec<Purse>,
    /// Payments that were called final and aren't, with what was found instead.
    pub unfounded: Vec<String>,
    /// How often each rule struck.
    pub strikes: BTreeMap<String, u64>,
    /// What was seen.
    pub sights: BTreeSet<Sight>,
    /// What was printed of panics.
    pub panics: Vec<String>,
}

/// What a wallet had and has of an asset, in base units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purse {
    /// The chain.
    pub chain: ChainKind,
    /// The asset, as it is shown.
    pub asset: String,
    /// What it had before the load.
    pub before: u128,
    /// What it has once all has ended.
    pub after: u128,
    /// What its payees got, by the word of the nodes.
    pub paid: u128,
    /// What the chain took: fees, and rent of accounts that it opened.
    pub taken: u128,
}

/// Holds every claim of the scenario against the evidence.
pub fn judge(scenario: &Scenario, evidence: &Evidence) -> Vec<Verdict> {
    let mut verdicts = vec![
        settled(evidence),
        passed(scenario, evidence),
        quarantine(evidence),
        exactly_once(evidence),
        finality(evidence),
        conservation(evidence),
    ];
    if !scenario.expect.latency.is_empty() {
        verdicts.push(latency(&scenario.expect.latency, evidence));
    }
    if let (Some(bound), Some(end)) = (scenario.expect.recovery_ms, scenario.faults_end_ms()) {
        verdicts.push(recovery(bound, end, evidence));
    }
    if !scenario.faults.is_empty() {
        verdicts.push(struck(scenario, evidence));
    }
    if !scenario.expect.seen.is_empty() {
        verdicts.push(seen(&scenario.expect.seen, evidence));
    }
    let panics = evidence.panics.clone();
    verdicts.push(verdict(Claim::Sound, panics, "no panic in any process's log".to_owned()));
    verdicts
}

/// Holds where there is no case against it.
fn verdict(claim: Claim, mut against: Vec<String>, holds: String) -> Verdict {
    let count = against.len();
    against.truncate(TOLD);
    if count > TOLD {
        against.push(format!("and {} more", count.saturating_sub(TOLD)));
    }
    let found = match count {
        0 => holds,
        1 => "1 case against it".to_owned(),
        count => format!("{count} cases against it"),
    };
    Verdict { claim, holds: count == 0, found, against }
}

fn name(fate: &Fate) -> String {
    format!("{} {}", fate.order.chain, fate.order.key)
}

fn settled(evidence: &Evidence) -> Verdict {
    let open = evidence.fates.iter().filter(|fate| !fate.ended && fate.state != QUARANTINED);
    let against = open.map(|fate| match fate.state.as_str() {
        "" => format!("{} was never taken: {}", name(fate), fate.reason.as_deref().unwrap_or("no answer")),
        state => format!("{} is {state}: {}", name(fate), fate.reason.as_deref().unwrap_or("no reason told")),
    });
    verdict(Claim::Settled, against.collect(), format!("all {} payments ended", evidence.fates.len()))
}

fn passed(scenario: &Scenario, evidence: &Evidence) -> Verdict {
    let ends = &scenario.expect.ends;
    let wrong = evidence.fates.iter().filter(|fate| fate.ended && !ends.contains(&fate.state));
    let against = wrong.map(|fate| {
        let reason = fate.reason.as_deref().unwrap_or("no reason told");
        format!("{} ended {}: {reason}", name(fate), if fate.state.is_empty() { "refused" } else { &fate.state })
    });
    verdict(Claim::Passed, against.collect(), format!("all ended {}", ends.join(" or ")))
}

fn quarantine(evidence: &Evidence) -> Verdict {
    let left = evidence.fates.iter().filter(|fate| fate.state == QUARANTINED);
    let against = left.map(|fate| format!("{}: {}", name(fate), fate.reason.as_deref().unwrap_or("no reason told")));
    verdict(Claim::Quarantine, against.collect(), "nothing is".to_owned())
}

fn exactly_once(evidence: &Evidence) -> Verdict {
    let (mut once, mut never) = (0_u64, 0_u64);
    let mut against = Vec::new();
    for fate in &evidence.fates {
        let amount = u128::from(fate.order.amount);
        let got = evidence.received.get(&fate.order.number).copied().unwrap_or_default();
        let is_final = fate.state == FINALIZED;
        match got {
            got if got == amount && is_final => once = once.saturating_add(1),
            0 if !is_final => never = never.saturating_add(1),
            // It is out, and the gateway doesn't say that it isn't: the run ended before it was seen final, or a person must look.
            got if got == amount && (!fate.ended || fate.state == QUARANTINED) => once = once.saturating_add(1),
            got => {
                let state = if fate.state.is_empty() { "never taken" } else { &fate.state };
                against.push(format!("{} of {amount} is {state}, and its payee got {got}", name(fate)));
            }
        }
    }
    verdict(Claim::ExactlyOnce, against, format!("{once} moved money once, {never} never, by the word of the nodes"))
}

fn finality(evidence: &Evidence) -> Verdict {
    let finals = evidence.fates.iter().filter(|fate| fate.state == FINALIZED).count();
    verdict(Claim::Finality, evidence.unfounded.clone(), format!("{finals} final payments are in the best chains"))
}

fn conservation(evidence: &Evidence) -> Verdict {
    let mut against = Vec::new();
    for purse in &evidence.purses {
        let Purse { chain, asset, before, after, paid, taken } = purse;
        let adds_up = paid.checked_add(*taken).and_then(|spent| before.checked_sub(spent)) == Some(*after);
        if !adds_up {
            against
                .push(format!("{chain} {asset}: {before} - {paid} paid - {taken} taken by the chain is not {after}"));
        }
    }
    let purses = evidence.purses.len();
    verdict(Claim::Conservation, against, format!("{purses} balances add up to the last base unit"))
}

fn latency(bounds: &[Bound], evidence: &Evidence) -> Verdict {
    let (mut against, mut told) = (Vec::new(), Vec::new());
    for bound in bounds {
        let on = |fate: &&Fate| bound.chain.is_none_or(|chain| chain == fate.order.chain);
        let times: Latencies = evidence.fates.iter().filter(on).filter_map(|fate| fate.took(&bound.state)).collect();
        let chain = bound.chain.map_or_else(|| "all chains".to_owned(), |chain| chain.to_string());
        let Some(found) = times.percentiles() else {
            against.push(format!("{chain}: nothing became {}", bound.state));
            continue;
        };
        let mut parts = Vec::new();
        for (name, found, limit) in [("p50", found.p50, bound.p50_ms), ("p99", found.p99, bound.p99_ms)] {
            let Some(limit) = limit else { continue };
            let text = format!("{name} {} of {}", seconds(found), seconds(limit));
            if found > limit {
                against.push(format!("{chain} to {}: {text} allowed", bound.state));
            }
            parts.push(text);
        }
        told.push(format!("{chain} {}", parts.join(", ")));
    }
    verdict(Claim::Latency, against, told.join("; "))
}

fn recovery(bound: u64, end: u64, evidence: &Evidence) -> Verdict {
    // What was asked for before the end of the last fault, and wasn't over by then.
    let under_way = evidence.fates.iter().filter(|fate| fate.order.at_ms <= end);
    let mut slowest = 0_u64;
    let mut against = Vec::new();
    for fate in under_way {
        match fate.steps.last().filter(|_| fate.ended) {
            Some(last) => {
                let took = last.at_ms.saturating_sub(end);
                slowest = slowest.max(took);
                if took > bound {
                    against.push(format!("{} took {}, {} allowed", name(fate), seconds(took), seconds(bound)));
                }
            }
            None => against.push(format!("{} has not ended", name(fate))),
        }
    }
    verdict(
        Claim::Recovery,
        against,
        format!("all that was under way ended within {} of {}", seconds(slowest), seconds(bound)),
    )
}

fn struck(scenario: &Scenario, evidence: &Evidence) -> Verdict {
    let count = |id: &str| evidence.strikes.get(id).copied().unwrap_or_default();
    let named = scenario.faults.iter().filter_map(|rule| Some((rule.id.as_ref()?.to_string(), &rule.fault)));
    let against = named.filter(|(id, _)| count(id) == 0).map(|(id, fault)| format!("{id} ({fault}) never struck"));
    let strikes = evidence.strikes.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    verdict(Claim::Struck, against.collect(), format!("{} faults struck {strikes} times", scenario.faults.len()))
}

fn seen(expected: &[Sight], evidence: &Evidence) -> Verdict {
    let missing = expected.iter().filter(|sight| !evidence.sights.contains(sight));
    let against = missing.map(|sight| format!("never: {}", sight.says()));
    let told: Vec<_> = expected.iter().map(|sight| sight.says()).collect();
    verdict(Claim::Seen, against.collect(), told.join("; "))
}
