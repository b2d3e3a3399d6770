//! What ceremonies must not forget when the gateway stops: which were begun and how they ended, and which tokens were used
//! to ask for them.
//!
//! One file, a JSON value a line, each synced before anything that depends on it happens: a token is written down before
//! its ceremony is, and a ceremony before it begins. The last line may be torn, by a crash in the middle of writing it;
//! then nothing has depended on it yet. At each start the file is written anew with what still matters.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use chains::account::KeyId;
use serde::{Deserialize, Serialize};
use signer::roster::CredentialId;

use super::Job;

/// How long a token is remembered after its end, in seconds: a clock that is off by less doesn't make it fresh again.
const TOKEN_REST: u64 = 3600;

/// The tokens that were used, by credential and name, each with its end in seconds since the Unix epoch.
pub(super) type Used = BTreeMap<(CredentialId, String), u64>;

/// The file, open at its end.
pub(super) struct Journal {
    file: File,
    /// A line was written in part, perhaps: what came after it could not be read.
    broken: bool,
}

/// A line of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    /// A token was used.
    Used { sub: CredentialId, jti: String, exp: u64 },
    /// A ceremony as it stands.
    Job(Job),
}

/// What was written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) jobs: BTreeMap<KeyId, Job>,
    pub(super) used: Used,
}

impl Journal {
    /// Reads what `path` holds, if it exists, and goes on at its end. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Where the file can't be read or written, or a line of it other than the last is none.
    pub(super) fn open(path: &Path, now: u64) -> io::Result<(Self, Remembered)> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut remembered = read(&bytes)?;
        forget(&mut remembered.used, now);

        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        for ((sub, jti), exp) in &remembered.used {
            file.write_all(&line(&Entry::Used { sub: sub.clone(), jti: jti.clone(), exp: *exp })?)?;
        }
        for job in remembered.jobs.values() {
            file.write_all(&line(&Entry::Job(job.clone()))?)?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
        Ok((Self { file, broken: false }, remembered))
    }

    /// Writes an entry; it is durable when this returns.
    ///
    /// # Errors
    /// Where it can't be written, or once couldn't: then the gateway has to be started anew.
    pub(super) fn write(&mut self, entry: &Entry) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier line was not written; start the gateway anew"));
        }
        let line = line(entry)?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        self.broken = written.is_err();
        written
    }
}

/// Forgets the tokens that are long over.
pub(super) fn forget(used: &mut Used, now: u64) {
    used.retain(|_, exp| exp.saturating_add(TOKEN_REST) > now);
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    Ok(line)
}

fn read(bytes: &[u8]) -> io::Result<Remembered> {
    let mut remembered = Remembered::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            tracing::warn!("the last line of the ceremonies' journal is torn, and dropped");
            break;
        }
        match serde_json::from_slice(line) {
            Ok(Entry::Used { sub, jti, exp }) => {
                remembered.used.insert((sub, jti), exp);
            }
            Ok(Entry::Job(job)) => {
                remembered.jobs.insert(job.key.clone(), job);
            }
            Err(error) => {
                let reason = format!("the ceremonies' journal is damaged: {error}; restore it, or move it away");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
        }
    }
    Ok(remembered)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{JobState, Kind};
    use super::*;

    fn job(key: &str, state: JobState) -> Job {
        Job {
            job: Uuid::from_u128(7),
            key: key.parse().unwrap(),
            kind: Kind::Reshare,
            holders: Some(vec!["a".parse().unwrap(), "b".parse().unwrap()]),
            asked_by: Some("ops".parse().unwrap()),
            began: 1_000,
            epoch_before: Some(1),
            attempt: 2,
            state,
        }
    }

    fn used(jti: &str, exp: u64) -> Entry {
        Entry::Used { sub: "ops".parse().unwrap(), jti: jti.to_owned(), exp }
    }

    #[test]
    fn what_is_written_is_remembered_and_what_is_over_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremonies");
        let (mut journal, remembered) = Journal::open(&path, 0).unwrap();
        assert_eq!(remembered, Remembered::default());
        let unerased = vec![("c".parse().unwrap(), "it cannot be reached".to_owned())];
        for state in [
            JobState::Running { round: 0, of: 0 },
            JobState::Failed { reason: "a signer is down".to_owned(), ended: 2_000 },
            JobState::Done { epoch: 2, ended: 3_000, unerased },
        ] {
            journal.write(&Entry::Job(job("other", JobState::Running { round: 0, of: 0 }))).unwrap();
            journal.write(&Entry::Job(job("main", state.clone()))).unwrap();
            let (_, remembered) = Journal::open(&path, 0).unwrap();
            assert_eq!(
                remembered.jobs.values().map(|job| job.state.clone()).collect::<Vec<_>>(),
                [state, JobState::Running { round: 0, of: 0 }]
            );
            assert_eq!(
                remembered.jobs[&"main".parse().unwrap()].holders,
                job("main", JobState::Running { round: 0, of: 0 }).holders
            );
            journal = Journal::open(&path, 0).unwrap().0;
        }
        journal.write(&used("old", 100)).unwrap();
        journal.write(&used("young", 200)).unwrap();
        let (_, remembered) = Journal::open(&path, 100 + TOKEN_REST).unwrap();
        let names = remembered.used.keys().map(|(_, jti)| jti.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["young"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3, "one token and two keys' last jobs");
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_any_other_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ceremonies");
        let (mut journal, _) = Journal::open(&path, 0).unwrap();
        journal.write(&used("one", 100)).unwrap();
        journal.write(&used("two", 100)).unwrap();
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let (_, remembered) = Journal::open(&path, 0).unwrap();
            assert_eq!(remembered.used.len(), usize::from(length >= first), "cut at {length}");
        }
        let mut damaged = whole.clone();
        damaged[0] = b'x';
        fs::write(&path, &damaged).unwrap();
        let refused = Journal::open(&path, 0).err().unwrap();
        assert!(refused.to_string().contains("damaged"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "it is left as it is");
    }
}
