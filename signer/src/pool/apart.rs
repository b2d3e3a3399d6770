//! A pool of signers that run in processes of their own: it coordinates them and hosts none.
//!
//! Each signer judges by its own configuration. What the coordinator is given by [`Pool::install`] serves to check
//! results; whether a signer has the same is asked and reported, never imposed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chains::account::{KeyId, NameError};
use serde::{Deserialize, Serialize};

use super::quorum::Quarrels;
use super::settle::Settled;
use super::{Pool, PoolConfig, PoolError, STATUS_TIMEOUT, WalletSpec};
use crate::node::Terms;
use crate::node::wire::Command;
use crate::policy::Policy;
use crate::roster::Roster;
use crate::session::{Failure, FailureKind, Line};
use crate::transport::{SignerId, Transport};

/// A pool's signers, which run elsewhere, and its patience.
#[derive(Clone, Debug)]
pub struct ApartConfig {
    /// How many signers it takes to sign: at least 2, at most all.
    pub threshold: u16,
    /// The signers, at most 255.
    pub signers: Vec<ApartSigner>,
    /// The least number of regions that those who sign together are in; 0 and 1 ask for nothing.
    pub min_regions: u16,
    /// How long a signing may take, restarts with other signers counted; so long it may also wait for its turn.
    pub deadline: Duration,
    /// How long a signer may take for one round.
    pub round_timeout: Duration,
}

/// A signer that runs elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApartSigner {
    /// Its name.
    pub id: SignerId,
    /// Where it stands: a data centre, a jurisdiction, whatever shall not fall or be seized at once.
    pub region: Option<Region>,
}

/// The name of a region, 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// What a pool knows only of signers that it doesn't host.
pub(super) struct Apart {
    regions: Regions,
    terms: RwLock<Option<Terms>>,
}

/// Who stands where, and in how many places a quorum has to be.
#[derive(Clone, Debug, Default)]
struct Regions {
    of: BTreeMap<SignerId, Region>,
    min: usize,
}

impl Pool {
    /// Coordinates signers that run in processes of their own and are reached by `transport`. Keys in their vaults are
    /// loaded. Signers that are away may come later: [`Pool::meet`].
    ///
    /// # Errors
    /// Where the configuration makes no pool, fewer signers answer than it takes, or they don't accept each other.
    pub async fn coordinate(config: ApartConfig, transport: Arc<dyn Transport>) -> Result<Self, PoolError> {
        let (threshold, apart) = check(&config)?;
        let ApartConfig { threshold: t, signers, deadline, round_timeout, .. } = config;
        let config = PoolConfig { threshold: t, signers: Vec::new(), deadline, round_timeout };
        let signers = signers.into_iter().map(|signer| signer.id).collect();
        let pool = Self::assemble(config, threshold, Line::new(transport), signers, Some(apart));
        pool.introduce().await?.map_or(Ok(()), Err)?;
        pool.load_keys().await;
        Ok(pool)
    }

    /// Makes the signers known to each other once more, and learns which keys they hold: to be called when one of them
    /// has come back. Who is away keeps what it held.
    ///
    /// # Errors
    /// Where fewer signers answer than it takes, or one doesn't accept the others; the keys are learned all the same then.
    pub async fn meet(&self) -> Result<(), PoolError> {
        let _no_ceremony_meanwhile = self.ceremony.lock().await;
        let refusal = self.introduce().await?;
        let inventory = self.inventory().await;
        // What was cut off in the making is cleared away by `ensure_keys`.
        for key in inventory.in_use() {
            match self.settle(key, &inventory).await {
                Ok(Settled { known: Some(mut known), .. }) => {
                    let before = self.known(key).filter(|before| before.info == known.info);
                    let before = before.map(|before| before.holders).unwrap_or_default();
                    known.holders.extend(before.into_iter().filter(|signer| !inventory.here.contains(signer)));
                    self.learn(known);
                }
                Ok(Settled { known: None, .. }) => (),
                Err(error) => tracing::error!(%key, %error, "a key cannot be used"),
            }
        }
        self.report_disagreements().await;
        refusal.map_or(Ok(()), Err)
    }

    /// Remembers by what this side judges, and reports the signers that judge by something else. In a pool that hosts
    /// its signers there is nothing to compare.
    pub(super) async fn compare_terms(&self, roster: &Roster, policy: &Policy, wallets: &[WalletSpec]) {
        let Some(apart) = &self.apart else { return };
        let terms = Terms::of(roster, policy, wallets);
        *apart.terms.write().unwrap_or_else(PoisonError::into_inner) = Some(terms);
        self.report_disagreements().await;
    }

    async fn report_disagreements(&self) {
        for (signer, reason) in self.disagreements().await {
            tracing::error!(%signer, %reason, "a signer judges by something else than the gateway; correct one of them");
        }
    }

    /// The signers whose own configuration differs from what was installed here, with what differs; those that don't
    /// answer are left out.
    pub async fn disagreements(&self) -> BTreeMap<SignerId, String> {
        let terms = self.apart.as_ref().and_then(|a| *a.terms.read().unwrap_or_else(PoisonError::into_inner));
        let Some(terms) = terms else { return BTreeMap::new() };
        let answers = self.line.ask_all_within(&self.signers, &Command::Agree { terms }, STATUS_TIMEOUT).await;
        let refused = answers.into_iter().filter_map(|(signer, answer)| match answer {
            Err(Failure { kind: FailureKind::Refused(reason), .. }) => Some((signer, reason)),
            _ => None,
        });
        refused.collect()
    }

    /// Where a signer stands.
    pub(super) fn region_of(&self, signer: &SignerId) -> Option<Region> {
        self.apart.as_ref()?.regions.of.get(signer).cloned()
    }

    /// `threshold` of `ranked`, in as many regions as it takes.
    pub(super) fn choose(&self, quarrels: &Quarrels, ranked: &[SignerId], threshold: usize) -> Option<Vec<SignerId>> {
        match &self.apart {
            None => quarrels.choose(ranked, threshold),
            Some(apart) => apart.regions.choose(quarrels, ranked, threshold),
        }
    }

    /// How many regions a quorum needs, and how many `signers` are in, where that is too few.
    pub(super) fn regions_short(&self, signers: &[SignerId]) -> Option<(u16, u16)> {
        let regions = &self.apart.as_ref()?.regions;
        let there = regions.count(signers.iter());
        let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        (there < regions.min).then(|| (number(regions.min), number(there)))
    }
}

impl Regions {
    /// Distinct regions; a signer whose region is not known is in none.
    fn count<'s>(&self, signers: impl Iterator<Item = &'s SignerId>) -> usize {
        signers.filter_map(|signer| self.of.get(signer)).collect::<BTreeSet<_>>().len()
    }

    fn choose(&self, quarrels: &Quarrels, ranked: &[SignerId], threshold: usize) -> Option<Vec<SignerId>> {
        quarrels.choose_where(ranked, threshold, |chosen, candidate| {
            let regions = self.count(chosen.iter().chain([candidate]));
            let places = threshold.saturating_sub(chosen.len()).saturating_sub(1);
            regions.saturating_add(places) >= self.min
        })
    }
}

/// The threshold and the rest, if the configuration makes a pool.
fn check(config: &ApartConfig) -> Result<(u8, Apart), PoolError> {
    let signers = config.signers.iter().map(|signer| &signer.id);
    let threshold = super::check_threshold(config.threshold, config.signers.len())?;
    if signers.clone().collect::<BTreeSet<_>>().len() != config.signers.len() {
        return Err(PoolError::Config("every signer needs a name of its own".to_owned()));
    }
    let of = config.signers.iter().filter_map(|signer| Some((signer.id.clone(), signer.region.clone()?)));
    let regions = Regions { of: of.collect(), min: config.min_regions.into() };
    let there = regions.count(signers);
    // As many regions as a quorum can be in: no more than it has signers.
    let reachable = u16::try_from(there).unwrap_or(u16::MAX).min(config.threshold);
    if config.min_regions > 1 && reachable < config.min_regions {
        return Err(PoolError::TooFewRegions { needed: config.min_regions, there: reachable });
    }
    Ok((threshold, Apart { regions, terms: RwLock::default() }))
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // Regions are named by the same rule as keys.
        text.parse::<KeyId>().map(|name| Self(name.to_string()))
    }
}

impl TryFrom<String> for Region {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<SignerId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn config(places: &[(&str, &str)], threshold: u16, min_regions: u16) -> ApartConfig {
        let signer = |(id, region): &(&str, &str)| ApartSigner { id: id.parse().unwrap(), region: region.parse().ok() };
        let (deadline, round_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
        ApartConfig { threshold, signers: places.iter().map(signer).collect(), min_regions, deadline, round_timeout }
    }

    const PLACES: [(&str, &str); 4] = [("a", "west"), ("b", "west"), ("c", "west"), ("d", "east")];

    #[test]
    fn a_quorum_is_in_as_many_regions_as_the_rule_says() {
        let ranked = names(&["a", "b", "c", "d"]);
        let chosen = |min, ranked: &[SignerId], threshold, quarrels: &Quarrels| {
            check(&config(&PLACES, 2, min)).unwrap().1.regions.choose(quarrels, ranked, threshold)
        };
        let peace = Quarrels::default();
        assert_eq!(chosen(1, &ranked, 2, &peace), Some(names(&["a", "b"])), "the healthiest");
        assert_eq!(chosen(2, &ranked, 2, &peace), Some(names(&["a", "d"])), "one of each region");
        assert_eq!(chosen(2, &ranked, 3, &peace), Some(names(&["a", "b", "d"])));
        assert_eq!(chosen(2, &ranked[..3], 2, &peace), None, "all in the west");
        let mut quarrels = Quarrels::default();
        quarrels.add(&ranked[0], &ranked[3]);
        assert_eq!(chosen(2, &ranked, 2, &quarrels), Some(names(&["b", "d"])));
    }

    #[test]
    fn a_rule_that_nobody_can_meet_is_refused() {
        let short = |places: &[(&str, &str)], threshold, min| match check(&config(places, threshold, min)) {
            Err(PoolError::TooFewRegions { needed, there }) => Some((needed, there)),
            _ => None,
        };
        assert_eq!(short(&PLACES[..3], 2, 2), Some((2, 1)), "a single region");
        assert_eq!(short(&[("a", ""), ("b", ""), ("c", "west")], 2, 2), Some((2, 1)), "no region is none");
        assert_eq!(short(&[("a", "x"), ("b", "y"), ("c", "z")], 2, 3), Some((3, 2)), "two signers are in two at most");
        assert_eq!(short(&PLACES, 2, 2), None);
        assert_eq!(short(&[("a", ""), ("b", "")], 2, 1), None);
        assert!(matches!(check(&config(&PLACES, 1, 1)), Err(PoolError::Config(_))));
        assert!(matches!(check(&config(&[PLACES[0], PLACES[0]], 2, 1)), Err(PoolError::Config(_))));
    }
}
