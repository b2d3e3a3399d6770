//! How lines reach the disk: those of several signings by one `fsync`, while the signers compute.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::LedgerError;

/// Brings what was written to the disk.
#[derive(Debug)]
pub(super) struct Flush {
    path: PathBuf,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// So many entries were written.
    written: u64,
    /// So many of them are on the disk.
    settled: u64,
    /// Whether somebody waits for the disk at present.
    syncing: bool,
    /// Whether the disk failed: what is on it is then unknown.
    failed: bool,
}

/// An entry that was written and may not be on the disk. Nothing that depends on it leaves the signer before [`Written::settle`].
#[derive(Debug)]
#[must_use = "what was written counts once it is settled"]
pub(crate) struct Written {
    entries: u64,
    flush: Arc<Flush>,
}

impl Written {
    /// How many entries the ledger has with it.
    pub(crate) const fn entries(&self) -> u64 {
        self.entries
    }

    /// Waits until it is on the disk, with every entry before it. One wait of the disk serves all who wait meanwhile.
    ///
    /// # Errors
    /// Where the disk failed.
    pub(crate) fn settle(&self) -> Result<(), LedgerError> {
        self.flush.settle(self.entries)
    }
}

impl Flush {
    /// For a file whose `entries` are on the disk.
    pub(super) fn new(path: &Path, file: File, entries: u64) -> Self {
        let state = State { written: entries, settled: entries, syncing: false, failed: false };
        Self { path: path.to_owned(), file, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// There are so many entries by now.
    pub(super) fn wrote(self: &Arc<Self>, entries: u64) -> Written {
        let mut state = self.state();
        state.written = state.written.max(entries);
        Written { entries, flush: Arc::clone(self) }
    }

    /// How many entries are on the disk.
    pub(super) fn settled(&self) -> u64 {
        self.state().settled
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    fn settle(&self, entries: u64) -> Result<(), LedgerError> {
        let mut state = self.state();
        while state.settled < entries {
            if state.failed {
                return Err(LedgerError::Broken { path: self.path.clone() });
            }
            if state.syncing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let written = state.written;
            drop(state);
            let synced = self.file.sync_data();
            state = self.state();
            state.syncing = false;
            self.changed.notify_all();
            synced.map_err(|source| self.fail(&mut state, source))?;
            state.settled = state.settled.max(written);
        }
        Ok(())
    }

    fn fail(&self, state: &mut State, source: io::Error) -> LedgerError {
        state.failed = true;
        LedgerError::Io { path: self.path.clone(), source }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
