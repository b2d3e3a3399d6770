//! From fates to series, percentiles and tables.

use std::collections::BTreeMap;

use super::{ChainReport, FORMAT, Fact, Failure, FaultSpan, Report, Stage, Totals};
use crate::load::{Fate, Latencies, digest};
use crate::scenario::Verdict;
use crate::scenario::judge::FINALIZED;
use crate::seed::Seed;
use crate::topology::ChainKind;

/// At most so many steps a series has: as many as are told apart at a glance.
const MOST_STEPS: u64 = 72;
/// Payments are listed one by one up to so many.
const MOST_PAYMENTS: usize = 5_000;
/// Failures are listed up to so many.
const MOST_FAILURES: usize = 500;
/// Lengths that a step may have, in milliseconds.
const STEPS: [u64; 9] = [250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 600_000];

/// States that say that a payment is in a block: one that is deep enough at once is never seen as included.
const IN_A_BLOCK: &[&str] = &["included", "confirmed"];

/// The stages of a payment's way: a name, the states that it begins with (none: the moment that it was to be asked for), and those that
/// end it.
const STAGES: [(&str, &[&str], &[&str]); 7] = [
    ("to the gateway", &[], &["received"]),
    ("screened and judged", &["received"], &["queued"]),
    ("built and frozen", &["queued"], &["signing"]),
    ("signed by the threshold", &["signing"], &["signed"]),
    ("broadcast", &["signed"], &["in_mempool"]),
    ("into a block", &["in_mempool"], IN_A_BLOCK),
    ("to finality", IN_A_BLOCK, &[FINALIZED]),
];

/// What a report is made of.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was run.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// What all chance came from.
    pub seed: Seed,
    /// The command that repeats it.
    pub command: String,
    /// When the load began, in milliseconds since the Unix epoch.
    pub began_unix_ms: u64,
    /// When all was over, in milliseconds since the load began.
    pub end_ms: u64,
    /// What else there is to know.
    pub facts: Vec<Fact>,
    /// The claims.
    pub verdicts: Vec<Verdict>,
    /// What went wrong, and when.
    pub faults: Vec<FaultSpan>,
    /// What became of each order.
    pub fates: Vec<Fate>,
    /// States that a payment may end in.
    pub ends: Vec<String>,
}

/// Makes a report.
pub fn build(told: Told) -> Report {
    let Told { name, about, seed, command, began_unix_ms, end_ms, facts, verdicts, faults, fates, ends } = told;
    let step_ms = step(end_ms);
    let mut by_chain: BTreeMap<ChainKind, Vec<&Fate>> = BTreeMap::new();
    for fate in &fates {
        by_chain.entry(fate.order.chain).or_default().push(fate);
    }
    let chains = by_chain.into_iter().map(|(chain, fates)| chain_report(chain, &fates, step_ms, end_ms)).collect();
    let failures: Vec<_> = fates.iter().filter(|fate| !fate.ended || !ends.contains(&fate.state)).collect();
    let failures = failures.into_iter().take(MOST_FAILURES).map(failure).collect();
    let orders: Vec<_> = fates.iter().map(|fate| fate.order.clone()).collect();
    let (totals, orders_digest) = (totals(&fates, end_ms), digest(&orders));
    let payments = if fates.len() <= MOST_PAYMENTS { fates } else { Vec::new() };
    Report {
        format: FORMAT,
        name,
        about,
        seed: seed.0,
        command,
        began_unix_ms,
        end_ms,
        facts,
        verdicts,
        totals,
        step_ms,
        chains,
        faults,
        failures,
        orders_digest,
        payments,
    }
}

/// The shortest step that doesn't make too many of them.
fn step(end_ms: u64) -> u64 {
    let fits = |step: &u64| end_ms.div_ceil(*step) <= MOST_STEPS;
    STEPS.into_iter().find(fits).unwrap_or_else(|| end_ms.div_ceil(MOST_STEPS).max(1))
}

fn totals(fates: &[Fate], end_ms: u64) -> Totals {
    let count = |test: &dyn Fn(&&Fate) -> bool| u64::try_from(fates.iter().filter(test).count()).unwrap_or(u64::MAX);
    let mut seconds = counts(1_000, end_ms, fates.iter().filter_map(final_at));
    seconds.sort_unstable();
    Totals {
        intended: count(&|_| true),
        accepted: count(&|fate| fate.record.is_some()),
        finalized: count(&|fate| fate.state == FINALIZED),
        ended_otherwise: count(&|fate| fate.ended && fate.state != FINALIZED),
        open: count(&|fate| !fate.ended),
        retried: count(&|fate| fate.tries > 1),
        peak_per_second: seconds.last().copied().unwrap_or_default(),
    }
}

fn final_at(fate: &Fate) -> Option<u64> {
    fate.last(FINALIZED).filter(|_| fate.state == FINALIZED)
}

/// How many of these moments are in each step.
fn counts(step_ms: u64, end_ms: u64, moments: impl Iterator<Item = u64>) -> Vec<u64> {
    let steps = end_ms.div_ceil(step_ms).max(1);
    let mut counts = vec![0_u64; usize::try_from(steps).unwrap_or_default()];
    for moment in moments {
        let at = usize::try_from((moment / step_ms).min(steps.saturating_sub(1))).unwrap_or_default();
        if let Some(count) = counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }
    counts
}

fn chain_report(chain: ChainKind, fates: &[&Fate], step_ms: u64, end_ms: u64) -> ChainReport {
    let intended = counts(step_ms, end_ms, fates.iter().map(|fate| fate.order.at_ms));
    let finalized = counts(step_ms, end_ms, fates.iter().filter_map(|fate| final_at(fate)));
    let mut by_step: Vec<Latencies> = vec![Latencies::default(); intended.len()];
    let mut overall = Latencies::default();
    for fate in fates.iter().filter(|fate| fate.state == FINALIZED) {
        let Some(took) = fate.took(FINALIZED) else { continue };
        overall.record(took);
        let at = usize::try_from(fate.order.at_ms / step_ms).unwrap_or(usize::MAX);
        if let Some(times) = by_step.get_mut(at) {
            times.record(took);
        }
    }
    let answers = fates.iter().filter_map(|fate| Some(fate.answered_ms?.saturating_sub(fate.order.at_ms)));
    let answer = answers.collect::<Latencies>().percentiles();
    let stages = STAGES.into_iter().filter_map(|(name, from, to)| {
        let took = |fate: &&Fate| {
            let began = if from.is_empty() { fate.order.at_ms } else { first_of(fate, from)? };
            // What is quick isn't always seen in every state on the way.
            Some(first_of(fate, to).or_else(|| reached_beyond(fate, to))?.saturating_sub(began))
        };
        let took = fates.iter().filter_map(took).collect::<Latencies>().percentiles()?;
        Some(Stage { name: name.to_owned(), took })
    });
    let stages = stages.collect();
    let latency = by_step.iter().map(Latencies::percentiles).collect();
    ChainReport { chain, intended, finalized, latency, overall: overall.percentiles(), answer, stages }
}

/// When a payment first reached one of these states.
fn first_of(fate: &Fate, states: &[&str]) -> Option<u64> {
    states.iter().filter_map(|state| fate.first(state)).min()
}

/// When a payment was first seen beyond states that it was never seen in.
fn reached_beyond(fate: &Fate, states: &[&str]) -> Option<u64> {
    let later = STAGES.iter().map(|(_, _, to)| *to).skip_while(|to| *to != states).skip(1);
    later.filter_map(|states| first_of(fate, states)).min()
}

fn failure(fate: &Fate) -> Failure {
    let order = &fate.order;
    let state = match (fate.state.as_str(), fate.ended) {
        ("", true) => "refused".to_owned(),
        ("", false) => "never taken".to_owned(),
        (state, true) => state.to_owned(),
        (state, false) => format!("{state}, not ended"),
    };
    Failure {
        chain: order.chain,
        what: format!("{} of {} to {}", order.kind, order.amount, fate.to),
        key: order.key.clone(),
        record: fate.record.clone(),
        transaction: fate.transactions.last().cloned(),
        at_ms: order.at_ms,
        state,
        reason: fate.reason.clone().unwrap_or_default(),
    }
}
