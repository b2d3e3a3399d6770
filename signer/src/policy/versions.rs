//! The versions of a policy at one signer: which is in force, what comes next and when, and what was rejected. Pure: time comes
//! as a value, and whoever holds it writes it down before it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chains::account::WalletId;
use chains::network::Network;
use serde::{Deserialize, Serialize};

use super::Policy;
use super::change::{Change, ChangeError, ChangesConfig, Version, check_roster};
use super::document::PolicyDigest;
use super::quorum::{Group, Person};
use crate::approval::{ApprovalError, Approver, Proof};
use crate::roster::{Credential, CredentialId, Roster};

/// Which policy is in force at a signer, and which one waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStanding {
    /// The version in force.
    pub version: Version,
    /// Its digest.
    pub digest: PolicyDigest,
    /// The approved change that waits for its delay to be over.
    pub pending: Option<PendingPolicy>,
}

/// An approved change that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPolicy {
    /// The version that it makes.
    pub version: Version,
    /// The digest of its document.
    pub digest: PolicyDigest,
    /// When the signer first saw it fully approved, in milliseconds since the Unix epoch.
    pub seen_at: u64,
    /// When it is in force, in milliseconds since the Unix epoch.
    pub due_at: u64,
}

/// Why an offered change isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OfferError {
    /// It doesn't hold.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Too few people have approved it.
    #[error("it takes the approval of {quorum}; {missing} are missing")]
    Quorum { quorum: String, missing: usize },
    /// Somebody said no.
    #[error("{0} has rejected it")]
    Rejected(CredentialId),
    /// Another approved change waits for the same version.
    #[error("another change waits to be version {0}; it has to be rejected first")]
    Occupied(Version),
}

/// Why written versions aren't taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResumeError {
    /// A version doesn't follow from the one before.
    #[error("version {version} doesn't hold: {source}")]
    Broken { version: Version, source: OfferError },
    /// The configured policy isn't the one that the first change replaced.
    #[error(
        "the configured policy is {configured}, and the first change replaced {replaced}; put the policy that was configured then \
         back, or make the one in force the configured one everywhere and remove the written versions"
    )]
    Origin { configured: PolicyDigest, replaced: PolicyDigest },
    /// The version in force can't be compiled for the wallets that are configured.
    #[error("version {version} doesn't fit the configured wallets: {reason}")]
    Wallets { version: Version, reason: String },
}

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    /// The changes in force before and at present, from version 1 on.
    pub(crate) taken: Vec<Arc<Taken>>,
    /// The approved change that waits.
    pub(crate) pending: Option<Arc<Taken>>,
    /// The changes to the next version that somebody has rejected.
    pub(crate) rejected: BTreeMap<PolicyDigest, CredentialId>,
}

/// A change that was seen fully approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taken {
    change: Change,
    /// When, in milliseconds since the Unix epoch.
    seen: u64,
    /// Who the approvers were then: people leave the roster, and what they approved stays.
    people: BTreeMap<CredentialId, Counted>,
}

/// An approver as the roster had them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    #[serde(with = "hex::serde")]
    public_key: [u8; 32],
    person: Person,
    groups: BTreeSet<Group>,
}

/// The versions of a policy.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    roster: Arc<Roster>,
    wallets: BTreeMap<WalletId, Network>,
    base: Arc<Policy>,
    written: Written,
    in_force: Arc<Policy>,
}

impl Versions {
    /// Takes up what was written, from the configured policy on. Each link of the chain is checked again. Approvers count as the
    /// roster had them when the change was taken; a signature is checked again where the roster still has its key.
    ///
    /// # Errors
    /// Where the chain doesn't hold. Then nothing may be signed.
    pub(crate) fn resume(
        base: Arc<Policy>,
        roster: Arc<Roster>,
        wallets: BTreeMap<WalletId, Network>,
        written: Written,
    ) -> Result<Self, ResumeError> {
        if let Some(first) = written.taken.first().or(written.pending.as_ref())
            && first.change.previous != base.digest()
        {
            return Err(ResumeError::Origin { configured: base.digest(), replaced: first.change.previous });
        }
        let mut versions = Self {
            roster,
            wallets,
            in_force: Arc::clone(&base),
            base,
            written: Written { rejected: written.rejected, ..Written::default() },
        };
        let mut rules = versions.base.changes.clone();
        for taken in written.taken.iter().chain(&written.pending) {
            let version = taken.change.version;
            let broken = |source: OfferError| ResumeError::Broken { version, source };
            versions.recheck(taken, rules.as_ref()).map_err(broken)?;
            let config = taken.change.document().read();
            rules = config.map_err(|error| broken(ChangeError::from(error).into()))?.changes;
            versions.written.taken.push(Arc::clone(taken));
        }
        if written.pending.is_some() {
            versions.written.pending = versions.written.taken.pop();
        }
        if let Some(last) = versions.written.taken.last() {
            let unfit = |reason: String| ResumeError::Wallets { version: last.change.version, reason };
            let policy = last.change.document().compile(&versions.wallets).map_err(|error| unfit(error.to_string()))?;
            versions.in_force = Arc::new(policy);
        }
        Ok(versions)
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.in_force
    }

    /// What has to be written down.
    pub(crate) const fn written(&self) -> &Written {
        &self.written
    }

    /// Which policy is in force, and which one waits.
    pub(crate) fn standing(&self) -> PolicyStanding {
        let pending = self.written.pending.as_ref().map(|pending| PendingPolicy {
            version: pending.change.version,
            digest: pending.change.document().digest(),
            seen_at: pending.seen,
            due_at: self.due(pending),
        });
        PolicyStanding { version: self.version(), digest: self.in_force.digest(), pending }
    }

    /// The change that made a version, or that waits to.
    pub(crate) fn change(&self, version: Version) -> Option<&Change> {
        let all = self.written.taken.iter().chain(&self.written.pending);
        all.map(|taken| &taken.change).find(|change| change.version == version)
    }

    /// Takes an offered change, at a time in milliseconds since the Unix epoch; whether that changes anything. A rejection that
    /// comes with it ends it here.
    ///
    /// # Errors
    /// Where it isn't taken; what was written down before stays, but for what was rejected.
    pub(crate) fn offer(&mut self, change: Change, at: u64) -> Result<bool, OfferError> {
        let digest = change.document().digest();
        if self.digest(change.version) == Some(digest) && change.version <= self.version() {
            return Ok(false);
        }
        let rules = self.require_next(&change)?;
        let waits = self.written.pending.as_ref().filter(|taken| taken.change.document().digest() == digest);
        // Approvals that were good when it was first seen are good for as long as it waits.
        let as_of = waits.map_or_else(|| self.time(at), |taken| taken.seen);
        let waits = waits.is_some();
        let weighed = change.weigh(&self.roster, &rules, |version| self.digest(version), as_of)?;
        if let Some(who) = weighed.rejected_by {
            if waits {
                self.written.pending = None;
            }
            let fresh = self.written.rejected.insert(digest, who).is_none();
            return Ok(waits || fresh);
        }
        if let Some(who) = self.written.rejected.get(&digest) {
            return Err(OfferError::Rejected(who.clone()));
        }
        if self.written.pending.is_some() {
            // The one that waits goes on waiting from when it was first seen.
            return if waits { Ok(false) } else { Err(OfferError::Occupied(change.version)) };
        }
        let policy = change.document().compile(&self.wallets).map_err(ChangeError::from)?;
        check_roster(&policy, &self.roster)?;
        if !rules.require.is_met_by(&weighed.people) {
            let (quorum, missing) = (rules.require.to_string(), rules.require.missing(&weighed.people));
            return Err(OfferError::Quorum { quorum, missing });
        }
        let counted = |name: &CredentialId| {
            let Approver { person, groups, .. } = self.roster.approver(name)?.clone();
            let public_key = self.roster.get(name)?.public_key.to_bytes();
            Some((name.clone(), Counted { public_key, person, groups }))
        };
        let people = change.approvals.iter().filter_map(|approval| counted(&approval.approver)).collect();
        self.written.pending = Some(Arc::new(Taken { change, seen: self.time(at), people }));
        Ok(true)
    }

    /// Brings the change that waits into force, where its delay is over at a time in milliseconds since the Unix epoch; whether
    /// that was so.
    ///
    /// # Errors
    /// Where it doesn't fit the wallets that are configured since.
    pub(crate) fn settle(&mut self, at: u64) -> Result<bool, ChangeError> {
        let Some(pending) = self.written.pending.clone().filter(|pending| self.due(pending) <= self.time(at)) else {
            return Ok(false);
        };
        self.in_force = Arc::new(pending.change.document().compile(&self.wallets)?);
        self.written.taken.push(pending);
        self.written.pending = None;
        self.written.rejected.clear();
        Ok(true)
    }

    fn version(&self) -> Version {
        self.written.taken.last().map_or(Version::default(), |taken| taken.change.version)
    }

    /// The digest of a version that is or was in force.
    fn digest(&self, version: Version) -> Option<PolicyDigest> {
        if version == Version::default() {
            return Some(self.base.digest());
        }
        let taken = self.written.taken.iter().find(|taken| taken.change.version == version);
        taken.map(|taken| taken.change.document().digest())
    }

    /// When a change that waits is in force: by the rules of the policy that it replaces. That one has rules, or there would be
    /// nothing waiting.
    fn due(&self, pending: &Taken) -> u64 {
        let delay = self.in_force.changes.as_ref().map_or(u64::MAX, ChangesConfig::delay_millis);
        pending.seen.saturating_add(delay)
    }

    /// Time as it counts here: never before what was seen, so that nobody shortens a delay by turning a clock back and forth.
    fn time(&self, at: u64) -> u64 {
        let seen = self.written.taken.iter().chain(&self.written.pending).map(|taken| taken.seen);
        seen.fold(at, u64::max)
    }

    /// Whether the change makes the next version of what is in force.
    fn require_next(&self, change: &Change) -> Result<ChangesConfig, ChangeError> {
        let rules = self.in_force.changes.clone().ok_or(ChangeError::Unchangeable)?;
        let (offered, next) = (change.version, self.version().next());
        if offered != next {
            return Err(ChangeError::Version { offered, next });
        }
        let (named, in_force) = (change.previous, self.in_force.digest());
        if named == in_force { Ok(rules) } else { Err(ChangeError::Previous { named, in_force }) }
    }

    /// Checks one more link of a written chain.
    fn recheck(&self, taken: &Taken, rules: Option<&ChangesConfig>) -> Result<(), OfferError> {
        let change = &taken.change;
        let rules = rules.ok_or(ChangeError::Unchangeable)?;
        let (offered, next) = (change.version, self.version().next());
        if offered != next {
            return Err(ChangeError::Version { offered, next }.into());
        }
        let in_force = self.written.taken.last().map_or(self.base.digest(), |last| last.change.document().digest());
        if change.previous != in_force {
            return Err(ChangeError::Previous { named: change.previous, in_force }.into());
        }
        // Keys are replaced and people leave; what can't be checked any more was checked when it was written down.
        match change.proposer(&self.roster, |version| self.digest(version)) {
            Ok(_) | Err(ChangeError::Auth(_) | ChangeError::Role { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let mut people: BTreeMap<Person, BTreeSet<Group>> = BTreeMap::new();
        for approval in &change.approvals {
            let name = || approval.approver.clone();
            let counted = taken.people.get(&approval.approver);
            let counted = counted.ok_or_else(|| ChangeError::from(ApprovalError::NotAnApprover(name())))?;
            let has_key = |credential: &Credential| credential.public_key.to_bytes() == counted.public_key;
            let same_key = self.roster.get(&approval.approver).is_some_and(has_key);
            if same_key && matches!(approval.signature, Proof::Ed25519(_)) {
                change.check_word(approval, &self.roster)?;
            } else if !change.is_approved_by(&approval.payload) {
                return Err(ChangeError::OtherChange(name()).into());
            }
            people.entry(counted.person.clone()).or_default().extend(counted.groups.clone());
        }
        if rules.require.is_met_by(&people) {
            return Ok(());
        }
        let missing = rules.require.missing(&people);
        Err(OfferError::Quorum { quorum: rules.require.to_string(), missing })
    }
}

#[cfg(test)]
mod tests;
