//! The versions of the policy at this signer, on its disk: nothing that was taken counts before it is written and synced.
//!
//! The gateway offers changes and asks; it decides nothing. A change that the signer has seen fully approved comes into force by
//! the signer's own clock, whether or not anybody asks for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use chains::account::WalletId;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::wire::Answer;
use super::{Node, Stop, failed, refused};
use crate::disk;
use crate::ledger::{Clock, SystemClock};
use crate::policy::Policy;
use crate::policy::change::{Change, Version};
use crate::policy::versions::{Versions, Written};
use crate::roster::Roster;

/// The versions that a signer knows, and where they are written.
pub(super) struct PolicyFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// What the signer knows of its policy.
enum State {
    /// As it was written, and nothing to judge by.
    Written(Written),
    /// With the configured policy, from which the versions start.
    Installed(Versions),
}

/// The file: what is written, and its SHA-256.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page<'p> {
    #[serde(with = "hex::serde")]
    check: [u8; 32],
    #[serde(borrow)]
    versions: &'p RawValue,
}

impl PolicyFile {
    /// The versions written in `path`.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let written = match disk::read(path)? {
            Some(bytes) => read(&bytes)?,
            None => Written::default(),
        };
        let state = Mutex::new(State::Written(written));
        Ok(Self { path: path.to_owned(), clock: Arc::new(SystemClock), state })
    }

    /// The same by another clock.
    pub(super) fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Takes the configured policy, checks every written version from there on, and answers the one in force.
    fn install(
        &self,
        policy: Arc<Policy>,
        roster: Arc<Roster>,
        wallets: BTreeMap<WalletId, Network>,
    ) -> Result<Arc<Policy>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match &*state {
            State::Written(written) => written.clone(),
            State::Installed(versions) => versions.written().clone(),
        };
        let versions = Versions::resume(policy, roster, wallets, written)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let in_force = Arc::clone(versions.policy());
        *state = State::Installed(versions);
        Ok(in_force)
    }

    /// Does something with the versions. What it changes is on the disk when this returns, or isn't changed.
    fn change<T>(&self, work: impl FnOnce(&mut Versions, u64) -> Result<T, Stop>) -> Result<T, Stop> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Installed(versions) = &mut *state else {
            return Err(Stop::Refused("no policy is installed at this signer".to_owned()));
        };
        let mut next = versions.clone();
        let done = work(&mut next, self.clock.unix_millis())?;
        if next.written() != versions.written() {
            disk::write_atomic(&self.path, &page(next.written()).map_err(failed)?).map_err(failed)?;
        }
        *versions = next;
        Ok(done)
    }
}

impl Node {
    /// The same by another clock, for its policy and its ledger.
    pub(crate) fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.versions = self.versions.with_clock(Arc::clone(&clock));
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).set_clock(clock);
        self
    }

    /// The policy in force, where this one is configured.
    pub(super) fn policy_in_force(
        &self,
        policy: Arc<Policy>,
        roster: Arc<Roster>,
        wallets: BTreeMap<WalletId, Network>,
    ) -> Result<Arc<Policy>, String> {
        self.versions.install(policy, roster, wallets)
    }

    /// Brings a change whose delay is over into force.
    pub(super) fn settle_policy(&self) -> Result<(), Stop> {
        let settled = self.versions.change(|versions, at| {
            // Where it can't be judged by, nothing is: the policy before is over.
            let settled = versions.settle(at).map_err(failed)?;
            Ok(settled.then(|| (Arc::clone(versions.policy()), versions.standing().version)))
        })?;
        if let Some((policy, version)) = settled {
            tracing::info!(signer = %self.id, %version, digest = %policy.digest(), "another policy is in force");
            let mut guard = self.guard.write().unwrap_or_else(PoisonError::into_inner);
            *guard = guard.as_ref().map(|guard| Arc::new(guard.with_policy(policy)));
        }
        Ok(())
    }

    /// Which policy is in force here, and which one waits.
    pub(super) fn policy_standing(&self) -> Result<Answer, Stop> {
        self.settle_policy()?;
        self.versions.change(|versions, _| Ok(Answer::Policy(versions.standing())))
    }

    /// Takes a change, by this signer's own roster and the rules of its own policy.
    pub(super) fn offer_policy(&self, change: &[u8]) -> Result<Answer, Stop> {
        self.settle_policy()?;
        let change: Change = serde_json::from_slice(change)
            .map_err(|error| Stop::Refused(format!("the change of the policy is malformed: {error}")))?;
        let (version, digest) = (change.version, change.document().digest());
        let (taken, standing) = self.versions.change(|versions, at| {
            let taken = versions.offer(change, at).map_err(refused)?;
            Ok((taken, versions.standing()))
        })?;
        if taken {
            let waits = standing.pending.is_some();
            tracing::info!(signer = %self.id, %version, %digest, waits, "a change of the policy was taken or rejected");
        }
        self.policy_standing()
    }

    /// The change that made a version here.
    pub(super) fn policy_change(&self, version: Version) -> Result<Answer, Stop> {
        self.versions.change(|versions, _| match versions.change(version) {
            Some(change) => Ok(Answer::PolicyChange(serde_json::to_vec(change).map_err(failed)?)),
            None => Err(Stop::Refused(format!("there is no version {version} of the policy here"))),
        })
    }
}

fn page(written: &Written) -> serde_json::Result<Vec<u8>> {
    let versions = serde_json::value::to_raw_value(written)?;
    let check = Sha256::digest(versions.get()).into();
    serde_json::to_vec(&Page { check, versions: &versions })
}

fn read(bytes: &[u8]) -> std::io::Result<Written> {
    let page: Page<'_> = serde_json::from_slice(bytes)?;
    if page.check != <[u8; 32]>::from(Sha256::digest(page.versions.get())) {
        return Err(std::io::Error::other("its check is wrong; restore it from a copy of this signer's"));
    }
    Ok(serde_json::from_str(page.versions.get())?)
}
