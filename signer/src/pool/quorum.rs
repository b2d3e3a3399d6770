//! Who signs: the healthiest signers, none of whom has just accused another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::transport::SignerId;

/// How long a signer is benched after its first failure; doubled with each more in a row.
const FIRST_BENCH: Duration = Duration::from_secs(1);
/// The longest time on the bench.
const LONGEST_BENCH: Duration = Duration::from_secs(60);

/// What the coordinator knows of the signers' health.
#[derive(Default)]
pub(super) struct Health(Mutex<BTreeMap<SignerId, Record>>);

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    failures: u32,
    benched_until: Option<Instant>,
    in_flight: u32,
}

/// Signers that take part in a session, counted as busy until this is dropped.
pub(super) struct Engaged<'h> {
    health: &'h Health,
    signers: Vec<SignerId>,
}

impl Health {
    /// `signers`, the healthiest first: those off the bench, with the fewest failures in a row, the least busy.
    pub(super) fn rank(&self, signers: &[SignerId], now: Instant) -> Vec<SignerId> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranked = signers.to_vec();
        ranked.sort_by_key(|signer| {
            let record = records.get(signer).copied().unwrap_or_default();
            let benched = record.benched_until.is_some_and(|until| until > now);
            (benched, record.failures, record.in_flight)
        });
        ranked
    }

    /// Whether a signer is benched, and after how many failures in a row.
    pub(super) fn of(&self, signer: &SignerId, now: Instant) -> (bool, u32) {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.get(signer).copied().unwrap_or_default();
        (record.benched_until.is_some_and(|until| until > now), record.failures)
    }

    pub(super) fn engage(&self, signers: &[SignerId]) -> Engaged<'_> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for signer in signers {
            let record = records.entry(signer.clone()).or_default();
            record.in_flight = record.in_flight.saturating_add(1);
        }
        Engaged { health: self, signers: signers.to_vec() }
    }

    pub(super) fn succeeded(&self, signer: &SignerId) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(signer.clone()).or_default();
        record.failures = 0;
        record.benched_until = None;
    }

    pub(super) fn failed(&self, signer: &SignerId, now: Instant) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.entry(signer.clone()).or_default();
        let bench = FIRST_BENCH.saturating_mul(1 << record.failures.min(16)).min(LONGEST_BENCH);
        record.failures = record.failures.saturating_add(1);
        record.benched_until = now.checked_add(bench);
    }
}

impl Drop for Engaged<'_> {
    fn drop(&mut self) {
        let mut records = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        for signer in &self.signers {
            if let Some(record) = records.get_mut(signer) {
                record.in_flight = record.in_flight.saturating_sub(1);
            }
        }
    }
}

/// Pairs of signers, one of whom accuses the other. Which of them is right cannot be told, so they don't meet again.
#[derive(Default)]
pub(super) struct Quarrels(BTreeSet<(SignerId, SignerId)>);

impl Quarrels {
    pub(super) fn add(&mut self, one: &SignerId, other: &SignerId) {
        self.0.insert((one.clone(), other.clone()));
        self.0.insert((other.clone(), one.clone()));
    }

    /// `threshold` of `ranked` without a quarrel among them, the best first.
    pub(super) fn choose(&self, ranked: &[SignerId], threshold: usize) -> Option<Vec<SignerId>> {
        self.choose_where(ranked, threshold, |_, _| true)
    }

    /// Like [`Quarrels::choose`], of those that `admits` lets join the ones already chosen.
    pub(super) fn choose_where(
        &self,
        ranked: &[SignerId],
        threshold: usize,
        admits: impl Fn(&[SignerId], &SignerId) -> bool,
    ) -> Option<Vec<SignerId>> {
        // Greedily from each start in turn: the best start that works wins.
        (0..ranked.len()).find_map(|start| {
            let mut chosen: Vec<SignerId> = Vec::with_capacity(threshold);
            for signer in ranked.iter().skip(start).chain(ranked.iter().take(start)) {
                let quarrels = chosen.iter().any(|other| self.0.contains(&(signer.clone(), other.clone())));
                if !quarrels && chosen.len() < threshold && admits(&chosen, signer) {
                    chosen.push(signer.clone());
                }
            }
            (chosen.len() == threshold).then_some(chosen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SignerId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_failed_signer_is_benched_and_comes_back() {
        let (health, signers, start) = (Health::default(), names(&["a", "b", "c"]), Instant::now());
        assert_eq!(health.rank(&signers, start), signers);
        health.failed(&signers[0], start);
        assert_eq!(health.rank(&signers, start), names(&["b", "c", "a"]));
        assert_eq!(health.of(&signers[0], start), (true, 1));
        let later = start + Duration::from_secs(2);
        assert_eq!(health.of(&signers[0], later), (false, 1));
        health.succeeded(&signers[0]);
        assert_eq!(health.rank(&signers, later), signers);
        let busy = health.engage(&names(&["a", "b"]));
        assert_eq!(health.rank(&signers, later)[0].as_str(), "c");
        drop(busy);
        assert_eq!(health.rank(&signers, later), signers);
    }

    #[test]
    fn those_who_quarrel_do_not_meet_again() {
        let (mut quarrels, signers) = (Quarrels::default(), names(&["a", "b", "c"]));
        assert_eq!(quarrels.choose(&signers, 2), Some(names(&["a", "b"])));
        quarrels.add(&signers[0], &signers[1]);
        assert_eq!(quarrels.choose(&signers, 2), Some(names(&["a", "c"])));
        quarrels.add(&signers[2], &signers[0]);
        assert_eq!(quarrels.choose(&signers, 2), Some(names(&["b", "c"])));
        quarrels.add(&signers[1], &signers[2]);
        assert_eq!(quarrels.choose(&signers, 2), None);
        assert_eq!(quarrels.choose(&signers[..1], 2), None);
    }
}
