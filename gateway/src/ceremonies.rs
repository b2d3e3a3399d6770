//! Key ceremonies that run while the gateway serves: each a job that can be watched, asked for or on a schedule.
//!
//! What they work on is durable at the signers: a ceremony that is cut off leaves the key as it was, or with other shares,
//! and the next start finds out which. Jobs and the tokens that asked for them are durable in a `journal`: a job that a
//! stop of the gateway cut off is either done, or begins again.

mod journal;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chains::account::KeyId;
use serde::{Deserialize, Serialize};
use signer::pool::{KeyStatus, Pool, Progress, SignerId};
use signer::request::Claims;
use signer::roster::CredentialId;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::ApiError;
use journal::{Entry, Journal, Used};

/// How often the schedule looks whether a key is due.
const CHECK: Duration = Duration::from_secs(60);
/// How long a key rests after a refresh by schedule that failed, in milliseconds.
const REST: u64 = 15 * 60 * 1000;
/// How often a job is begun at most: one that takes the gateway down with it must not do so for ever.
const ATTEMPTS: u32 = 3;

/// The ceremonies of a pool's keys, the last one of each key.
pub struct Ceremonies {
    pool: Arc<Pool>,
    clock: Arc<dyn Clock>,
    jobs: Mutex<BTreeMap<KeyId, Job>>,
    used: Mutex<Used>,
    journal: Mutex<Option<Journal>>,
}

/// The kinds of ceremonies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Other shares for the same holders.
    Refresh,
    /// Shares for other holders.
    Reshare,
}

/// A ceremony and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub job: Uuid,
    /// The key.
    pub key: KeyId,
    /// What is done.
    pub kind: Kind,
    /// Who is to hold the key, where it is shared anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<SignerId>>,
    /// Who asked for it; none where it was due.
    pub asked_by: Option<CredentialId>,
    /// When it began, in milliseconds since the Unix epoch.
    pub began: u64,
    /// The generation of the shares before it; none before it is known.
    #[serde(default)]
    pub epoch_before: Option<u32>,
    /// How often it was begun: more than once where the gateway was stopped meanwhile.
    pub attempt: u32,
    /// How far it is.
    #[serde(flatten)]
    pub state: JobState,
}

/// How far a ceremony is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of the keys of `pool`, in memory until they are [taken up](Ceremonies::take_up).
    pub fn new(pool: Arc<Pool>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (jobs, used, journal) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { pool, clock, jobs, used, journal })
    }

    /// Remembers what the journal in `path` says, and writes there from here on. Ceremonies that the gateway's last stop cut
    /// off are done, where the signers have gone over to other shares, or else begun again.
    ///
    /// # Errors
    /// Where the journal can't be read or written, or is damaged.
    pub fn take_up(self: &Arc<Self>, path: &Path) -> io::Result<()> {
        let (journal, remembered) = Journal::open(path, self.clock.unix_seconds())?;
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).extend(remembered.used);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, job) in remembered.jobs {
            if matches!(job.state, JobState::Running { .. }) {
                tokio::spawn(Arc::clone(self).run_again(job.clone()));
            }
            jobs.insert(key, job);
        }
        Ok(())
    }

    /// Every key, with how it is held.
    pub async fn keys(&self) -> Vec<KeyStatus> {
        self.pool.status().await.keys
    }

    /// The last ceremony of a key.
    pub fn job(&self, key: &KeyId) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Uses up the token of a request that starts a ceremony; that is durable when this returns.
    ///
    /// # Errors
    /// Where it was used before, or that can't be written down.
    pub fn use_token(&self, claims: &Claims) -> Result<(), ApiError> {
        let Claims { sub, jti, exp, .. } = claims.clone();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        journal::forget(&mut used, self.clock.unix_seconds());
        if used.contains_key(&(sub.clone(), jti.clone())) {
            return Err(ApiError::new("token_replayed", "this token was used before; make another for each request"));
        }
        self.write(&Entry::Used { sub: sub.clone(), jti: jti.clone(), exp }).map_err(unwritten)?;
        used.insert((sub, jti), exp);
        Ok(())
    }

    /// Starts a refresh of a key, or answers the one that is under way. `None` is a refresh that was due.
    ///
    /// # Errors
    /// Where it can't be written down; then it doesn't begin.
    pub fn refresh(self: &Arc<Self>, key: &KeyId, asked_by: Option<CredentialId>) -> Result<Job, ApiError> {
        self.begin(key, asked_by, None)
    }

    /// Starts a reshare of a key among these holders, with the pool's threshold, or answers the ceremony that is under way.
    ///
    /// # Errors
    /// Where it can't be written down; then it doesn't begin.
    pub fn reshare(
        self: &Arc<Self>,
        key: &KeyId,
        asked_by: CredentialId,
        holders: Vec<SignerId>,
    ) -> Result<Job, ApiError> {
        self.begin(key, Some(asked_by), Some(holders))
    }

    fn begin(
        self: &Arc<Self>,
        key: &KeyId,
        asked_by: Option<CredentialId>,
        holders: Option<Vec<SignerId>>,
    ) -> Result<Job, ApiError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.get(key).filter(|job| matches!(job.state, JobState::Running { .. })) {
            return Ok(job.clone());
        }
        let (job, key, began) = (Uuid::now_v7(), key.clone(), self.clock.unix_millis());
        let kind = if holders.is_some() { Kind::Reshare } else { Kind::Refresh };
        let state = JobState::Running { round: 0, of: 0 };
        let job = Job { job, key, kind, holders, asked_by, began, epoch_before: None, attempt: 1, state };
        self.write(&Entry::Job(job.clone())).map_err(unwritten)?;
        jobs.insert(job.key.clone(), job.clone());
        drop(jobs);
        tokio::spawn(Arc::clone(self).run(job.clone()));
        Ok(job)
    }

    /// A job that was cut off: done, if the signers have gone over to other shares, or else begun once more.
    async fn run_again(self: Arc<Self>, mut job: Job) {
        let ended = self.clock.unix_millis();
        let epoch = self.keys().await.into_iter().find(|status| status.key == job.key).map(|status| status.epoch);
        match (epoch, job.epoch_before) {
            (Some(epoch), Some(before)) if epoch > before => {
                tracing::info!(key = %job.key, epoch, "a ceremony that was cut off is done");
                job.state = JobState::Done { epoch, ended, unerased: Vec::new() };
                self.put(job);
            }
            (Some(_), _) if job.attempt < ATTEMPTS => {
                job.attempt = job.attempt.saturating_add(1);
                job.state = JobState::Running { round: 0, of: 0 };
                self.put(job.clone());
                self.run(job).await;
            }
            _ => {
                let reason =
                    "the gateway was stopped in the middle of it; look at the key's epoch, and ask for it again";
                job.state = JobState::Failed { reason: reason.to_owned(), ended };
                self.put(job);
            }
        }
    }

    async fn run(self: Arc<Self>, mut job: Job) {
        let key = job.key.clone();
        tracing::info!(%key, holders = ?job.holders, attempt = job.attempt, "a ceremony begins");
        // By this the next start can tell whether the ceremony has come to its end.
        job.epoch_before = self.keys().await.into_iter().find(|status| status.key == key).map(|status| status.epoch);
        self.put(job.clone());
        let tell = |progress| {
            if let Progress::Refreshing { round, of, .. } | Progress::Resharing { round, of, .. } = progress {
                self.show(&key, JobState::Running { round, of });
            }
        };
        let rekeyed = match &job.holders {
            None => self.pool.refresh(&key, tell).await,
            Some(holders) => self.pool.reshare(&key, holders, tell).await,
        };
        let ended = self.clock.unix_millis();
        job.state = match rekeyed {
            Ok(rekeyed) => {
                tracing::info!(%key, epoch = rekeyed.epoch, "a key has other shares");
                JobState::Done { epoch: rekeyed.epoch, ended, unerased: rekeyed.unerased }
            }
            Err(error) => {
                tracing::error!(%key, %error, "a ceremony failed");
                JobState::Failed { reason: error.to_string(), ended }
            }
        };
        self.put(job);
    }

    /// Shows how far a ceremony is. That is not written down: one that is cut off begins again at its first round.
    fn show(&self, key: &KeyId, state: JobState) {
        if let Some(job) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key) {
            job.state = state;
        }
    }

    /// Shows where a ceremony stands, and writes it down.
    fn put(&self, job: Job) {
        if let Err(error) = self.write(&Entry::Job(job.clone())) {
            tracing::error!(key = %job.key, %error, "where a ceremony stands can't be written down");
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(job.key.clone(), job);
    }

    /// Ceremonies are rare, so nobody minds waiting for the disk.
    fn write(&self, entry: &Entry) -> io::Result<()> {
        match &mut *self.journal.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(journal) => journal.write(entry),
            None => Ok(()),
        }
    }

    /// Refreshes every key whose shares have been in use for `every`, again and again, until it is dropped.
    pub async fn keep_refreshed(self: Arc<Self>, every: Duration) {
        loop {
            for key in self.keys().await {
                let last = self.job(&key.key);
                if is_due(&key, last.as_ref(), every, self.clock.unix_millis())
                    && let Err(error) = self.refresh(&key.key, None)
                {
                    tracing::error!(key = %key.key, error = error.kind(), "a refresh that is due can't begin");
                }
            }
            tokio::time::sleep(CHECK).await;
        }
    }
}

fn unwritten(error: io::Error) -> ApiError {
    tracing::error!(%error, "the journal of ceremonies can't be written");
    ApiError::new("store_unavailable", "the gateway's journal of ceremonies is unavailable")
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
            escrowed: None,
            last_culprit: None,
            pool_depth: None,
        }
    }

    fn job(state: JobState) -> Job {
        let key = "main".parse().expect("a name");
        let (job, kind, epoch_before) = (Uuid::nil(), Kind::Refresh, Some(1));
        Job { job, key, kind, holders: None, asked_by: None, began: 0, epoch_before, attempt: 1, state }
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
