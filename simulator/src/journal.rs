//! The append-only file that an engine's state is rebuilt from.
//!
//! One record a line, as JSON. A record is handed to the operating system before its effect becomes visible, so that a node which is
//! killed starts again with everything it ever answered for. (A power failure is not defended against: a simulated chain
//! can be made anew.) A last line without its line feed was never complete and is cut off at open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An append-only list of records, in a file or (for a node that lives no longer than its process) nowhere.
#[derive(Debug)]
pub struct Journal<R> {
    keep: Keep,
    records: PhantomData<fn(&R)>,
}

#[derive(Debug)]
enum Keep {
    /// In this file, locked against every other process.
    File(File),
    /// Nowhere.
    Nowhere,
    /// Nothing more.
    Closed,
}

/// Why a journal can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file can't be created, read or cut.
    #[error("can't open the journal {path}: {reason}")]
    Io {
        /// The journal's file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// Another process has the file open.
    #[error("the journal {path} is in use by another process; stop that one or use another folder")]
    InUse {
        /// The journal's file.
        path: PathBuf,
    },
    /// A complete line that is no record of this kind.
    #[error("line {line} of the journal {path} can't be read: {reason}; move the file away to start a fresh chain")]
    Corrupt {
        /// The journal's file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: serde_json::Error,
    },
}

impl<R: Serialize + DeserializeOwned> Journal<R> {
    /// Opens the journal at `path`, creating it and its folder where needed, and returns what it holds, oldest first.
    /// Without a path nothing is kept.
    ///
    /// # Errors
    /// Where the file can't be used, another process has it, or a complete line in it is no record.
    pub fn open(path: Option<&Path>) -> Result<(Self, Vec<R>), JournalError> {
        let Some(path) = path else {
            return Ok((Self { keep: Keep::Nowhere, records: PhantomData }, Vec::new()));
        };
        let broken = |reason: io::Error| JournalError::Io { path: path.to_owned(), reason };

        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(broken)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(broken)?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => JournalError::InUse { path: path.to_owned() },
            TryLockError::Error(reason) => broken(reason),
        })?;

        let mut records = Vec::new();
        let mut complete: u64 = 0;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(broken)?;
            let Some(record) = line.strip_suffix(b"\n") else { break };
            let corrupt = |reason| JournalError::Corrupt { path: path.to_owned(), line: number, reason };
            records.push(serde_json::from_slice(record).map_err(corrupt)?);
            complete = complete.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        }

        file.set_len(complete).map_err(broken)?;
        file.seek(SeekFrom::Start(complete)).map_err(broken)?;
        Ok((Self { keep: Keep::File(file), records: PhantomData }, records))
    }

    /// Adds `record`. Its effect may be shown once this has returned.
    ///
    /// # Errors
    /// What the system says. Half a line may be in the file then, so the node has to stop. And after
    /// [`Journal::close`].
    pub fn append(&mut self, record: &R) -> io::Result<()> {
        match &mut self.keep {
            Keep::Nowhere => Ok(()),
            Keep::Closed => Err(io::Error::other("the journal is closed")),
            Keep::File(file) => {
                let mut line = serde_json::to_vec(record)?;
                line.push(b'\n');
                file.write_all(&line)
            }
        }
    }

    /// Gives the file back, whoever still holds the journal. Nothing can be added any more.
    pub fn close(&mut self) {
        self.keep = Keep::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_appended_and_cuts_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper").join("journal");

        let (mut journal, records) = Journal::<(u32, String)>::open(Some(&path)).unwrap();
        assert!(records.is_empty());
        journal.append(&(1, "one\ntwo".into())).unwrap();
        journal.append(&(2, "three".into())).unwrap();
        drop(journal);

        let whole = std::fs::read(&path).unwrap();
        for torn in [&b"["[..], b"[3,\"fo", b"[3,\"four\"]"] {
            std::fs::write(&path, [&whole, torn].concat()).unwrap();
            let (journal, records) = Journal::<(u32, String)>::open(Some(&path)).unwrap();
            assert_eq!(records, [(1, "one\ntwo".into()), (2, "three".into())]);
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }

        let (mut journal, _) = Journal::<(u32, String)>::open(Some(&path)).unwrap();
        journal.append(&(3, "four".into())).unwrap();
        drop(journal);
        assert_eq!(Journal::<(u32, String)>::open(Some(&path)).unwrap().1.len(), 3);
    }

    #[test]
    fn refuses_a_corrupt_line_and_a_second_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        std::fs::write(&path, "1\nx\n2\n").unwrap();
        assert!(matches!(Journal::<u32>::open(Some(&path)), Err(JournalError::Corrupt { line: 2, .. })));

        std::fs::write(&path, "1\n").unwrap();
        let held = Journal::<u32>::open(Some(&path)).unwrap();
        assert!(matches!(Journal::<u32>::open(Some(&path)), Err(JournalError::InUse { .. })));
        drop(held);
        assert!(Journal::<u32>::open(Some(&path)).is_ok());
    }

    #[test]
    fn keeps_nothing_without_a_path() {
        let (mut journal, records) = Journal::<u32>::open(None).unwrap();
        assert!(records.is_empty());
        journal.append(&1).unwrap();
    }
}
