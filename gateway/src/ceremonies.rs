//! Key ceremonies that run while the gateway serves: each a job that can be watched, asked for or on a schedule.
//!
//! Jobs live in memory. What they work on is durable at the signers: a refresh that is cut off leaves the key as it was, or
//! refreshed, and the next start finds out which.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chains::account::KeyId;
use serde::Serialize;
use signer::pool::{KeyStatus, Pool, Progress, SignerId};
use signer::request::Claims;
use signer::roster::CredentialId;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::ApiError;

/// How often the schedule looks whether a key is due.
const CHECK: Duration = Duration::from_secs(60);
/// How long a key rests after a refresh by schedule that failed, in milliseconds.
const REST: u64 = 15 * 60 * 1000;

/// The ceremonies of a pool's keys, the last one of each key.
pub struct Ceremonies {
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    jobs: Mutex<BTreeMap<KeyId, Job>>,
    used: Mutex<BTreeMap<(CredentialId, String), u64>>,
}

/// A ceremony and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Job {
    /// Its name.
    pub job: Uuid,
    /// The key.
    pub key: KeyId,
    /// What is done: `refresh` or `reshare`.
    pub kind: &'static str,
    /// Who asked for it; none where it was due.
    pub asked_by: Option<CredentialId>,
    /// When it began, in milliseconds since the Unix epoch.
    pub began: u64,
    /// How far it is.
    #[serde(flatten)]
    pub state: JobState,
}

/// How far a ceremony is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// It goes on.
    Running {
        /// The round of messages that it is in; 0 before the first. After the last one the new shares are proved.
        round: u32,
        /// How many there are; 0 before the first.
        of: u32,
    },
    /// The key signs with other shares from here on.
    Done {
        /// The generation of the shares.
        epoch: u32,
        /// When it ended, in milliseconds since the Unix epoch.
        ended: u64,
        /// Signers that keep an older share, each with the reason: it has to be erased there.
        unerased: Vec<(SignerId, String)>,
    },
    /// The key is as it was.
    Failed {
        /// Why.
        reason: String,
        /// When it ended, in milliseconds since the Unix epoch.
        ended: u64,
    },
}

impl std::fmt::Debug for Ceremonies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ceremonies").finish_non_exhaustive()
    }
}

impl Ceremonies {
    /// Of the keys of `pool`.
    pub fn new(pool: Arc<Pool>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { pool, clock, jobs: Mutex::default(), used: Mutex::default() })
    }

    /// Every key, with how it is held.
    pub async fn keys(&self) -> Vec<KeyStatus> {
        self.pool.status().await.keys
    }

    /// The last ceremony of a key since the gateway was started.
    pub fn job(&self, key: &KeyId) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Uses up the token of a request that starts a ceremony. Tokens live for a minute, so a list in memory does.
    ///
    /// # Errors
    /// Where it was used before.
    pub fn use_token(&self, claims: &Claims) -> Result<(), ApiError> {
        let now = self.clock.unix_seconds();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that is off by less than an hour doesn't make an old token fresh again.
        used.retain(|_, expires| expires.saturating_add(3600) > now);
        match used.insert((claims.sub.clone(), claims.jti.clone()), claims.exp) {
            None => Ok(()),
            Some(_) => {
                Err(ApiError::new("token_replayed", "this token was used before; make another for each request"))
            }
        }
    }

    /// Starts a refresh of a key, or answers the one that is under way. `None` is a refresh that was due.
    pub fn refresh(self: &Arc<Self>, key: &KeyId, asked_by: Option<CredentialId>) -> Job {
        self.begin(key, asked_by, None)
    }

    /// Starts a reshare of a key among these holders, with the pool's threshold, or answers the ceremony that is under way.
    pub fn reshare(self: &Arc<Self>, key: &KeyId, asked_by: CredentialId, holders: Vec<SignerId>) -> Job {
        self.begin(key, Some(asked_by), Some(holders))
    }

    fn begin(self: &Arc<Self>, key: &KeyId, asked_by: Option<CredentialId>, holders: Option<Vec<SignerId>>) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.get(key).filter(|job| matches!(job.state, JobState::Running { .. })) {
            return job.clone();
        }
        let (job, began, state) = (Uuid::now_v7(), self.clock.unix_millis(), JobState::Running { round: 0, of: 0 });
        let kind = if holders.is_some() { "reshare" } else { "refresh" };
        let job = Job { job, key: key.clone(), kind, asked_by, began, state };
        jobs.insert(key.clone(), job.clone());
        drop(jobs);
        let (ceremonies, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move { ceremonies.run(&key, holders).await });
        job
    }

    async fn run(&self, key: &KeyId, holders: Option<Vec<SignerId>>) {
        tracing::info!(%key, ?holders, "a ceremony begins");
        let tell = |progress| {
            if let Progress::Refreshing { round, of, .. } | Progress::Resharing { round, of, .. } = progress {
                self.set(key, JobState::Running { round, of });
            }
        };
        let rekeyed = match &holders {
            None => self.pool.refresh(key, tell).await,
            Some(holders) => self.pool.reshare(key, holders, tell).await,
        };
        let ended = self.clock.unix_millis();
        self.set(
            key,
            match rekeyed {
                Ok(rekeyed) => {
                    tracing::info!(%key, epoch = rekeyed.epoch, "a key has other shares");
                    JobState::Done { epoch: rekeyed.epoch, ended, unerased: rekeyed.unerased }
                }
                Err(error) => {
                    tracing::error!(%key, %error, "a ceremony failed");
                    JobState::Failed { reason: error.to_string(), ended }
                }
            },
        );
    }

    fn set(&self, key: &KeyId, state: JobState) {
        if let Some(job) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            job.state = state;
        }
    }

    /// Refreshes every key whose shares have been in use for `every`, again and again, until it is dropped.
    pub async fn keep_refreshed(self: Arc<Self>, every: Duration) {
        loop {
            for key in self.keys().await {
                let last = self.job(&key.key);
                if is_due(&key, last.as_ref(), every, self.clock.unix_millis()) {
                    self.refresh(&key.key, None);
                }
            }
            tokio::time::sleep(CHECK).await;
        }
    }
}

/// Whether the shares of a key are old enough to be refreshed at `now`, in milliseconds since the Unix epoch. Shares whose
/// age nobody knows are not.
fn is_due(key: &KeyStatus, last: Option<&Job>, every: Duration, now: u64) -> bool {
    let every = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let old = key.since.is_some_and(|since| since.saturating_add(every) <= now);
    let rests = match last.map(|job| &job.state) {
        Some(JobState::Running { .. }) => true,
        Some(JobState::Failed { ended, .. }) => ended.saturating_add(REST) > now,
        Some(JobState::Done { .. }) | None => false,
    };
    old && !rests
}

#[cfg(test)]
mod tests {
    use signer::pool::{GroupKey, SchemeId};

    use super::*;

    fn key(since: Option<u64>) -> KeyStatus {
        KeyStatus {
            key: "main".parse().expect("a name"),
            scheme: SchemeId::Ed25519,
            threshold: 2,
            shares: 3,
            holders: Vec::new(),
            epoch: 1,
            public_key: GroupKey::Ed25519([1; 32]),
            signers_required: 2,
            faults_tolerated: 1,
            signers_up: Vec::new(),
            since,
            last_culprit: None,
            pool_depth: None,
        }
    }

    fn job(state: JobState) -> Job {
        let key = "main".parse().expect("a name");
        Job { job: Uuid::nil(), key, kind: "refresh", asked_by: None, began: 0, state }
    }

    #[test]
    fn a_key_is_due_when_its_shares_are_old_and_nothing_is_under_way() {
        let hour = Duration::from_secs(3600);
        assert!(!is_due(&key(None), None, hour, u64::MAX));
        assert!(!is_due(&key(Some(1_000)), None, hour, 3_600_999));
        assert!(is_due(&key(Some(1_000)), None, hour, 3_601_000));
        let running = job(JobState::Running { round: 1, of: 3 });
        assert!(!is_due(&key(Some(0)), Some(&running), hour, 4_000_000));
        let failed = job(JobState::Failed { reason: "a signer is down".to_owned(), ended: 4_000_000 });
        assert!(!is_due(&key(Some(0)), Some(&failed), hour, 4_000_000 + REST - 1));
        assert!(is_due(&key(Some(0)), Some(&failed), hour, 4_000_000 + REST));
        let done = job(JobState::Done { epoch: 2, ended: 4_000_000, unerased: Vec::new() });
        assert!(is_due(&key(Some(4_000_000)), Some(&done), hour, 7_600_000));
    }
}
