//! FROST nonces made ahead of time, each for one signature.
//!
//! A nonce that signs two messages gives its share away (RFC 9591 section 5), so there must be no way to meet one twice:
//!
//! - a nonce lives in this process's memory alone, in the [`Stock`] of its share, which is of one key, epoch and signer.
//!   No type here can be copied or written out, so none survives a restart, gets into a backup, or outlives its epoch;
//! - it is taken out by value: what has left the stock is in one run, and the run's signature consumes it;
//! - it has an id, and the [`NonceJournal`] has burned the id on the disk before the nonce exists. Ids are reserved in
//!   batches, so that this costs one sync of the disk in [`RESERVED`] nonces.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::disk;

#[cfg(test)]
mod tests;

/// How many ids one write burns beyond those that are needed at once.
pub(crate) const RESERVED: u64 = 256;
/// How many nonces a stock holds when it is full.
pub(crate) const FULL: usize = 64;
/// How many nonces are too few to wait for a quiet moment before more are made.
pub(crate) const LOW: usize = FULL / 2;

/// Which nonces' ids a signer has burned: all those below a mark that only rises.
pub(crate) struct NonceJournal {
    path: PathBuf,
    ids: Mutex<Ids>,
}

struct Ids {
    /// The next id to be given out.
    next: u64,
    /// The mark on the disk: every id below it is burned.
    burned: u64,
}

/// The name of one nonce of one signer; no two are the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NonceId(u64);

/// The nonces of one share, `N` being a nonce.
pub(crate) struct Stock<N> {
    journal: OnceLock<Arc<NonceJournal>>,
    ready: Mutex<VecDeque<(NonceId, N)>>,
}

impl NonceJournal {
    /// The journal in `path`. Every id that was burned stays so, used or not.
    ///
    /// # Errors
    /// Where the file cannot be read or holds something else than a mark.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let burned = match disk::read(path)? {
            None => 0,
            Some(bytes) => {
                let mark = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
                mark.and_then(|mark| mark.parse().ok()).ok_or_else(|| {
                    let what = "the nonce journal is damaged; write the highest number that it may have held into it";
                    io::Error::new(io::ErrorKind::InvalidData, what)
                })?
            }
        };
        Ok(Self { path: path.to_owned(), ids: Mutex::new(Ids { next: burned, burned }) })
    }

    /// Burns one id: when this returns, the disk says that it is used.
    ///
    /// # Errors
    /// Where that cannot be written down. Then there is no id, and so no nonce.
    pub(crate) fn burn(&self) -> io::Result<NonceId> {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let exhausted = || io::Error::other("the nonce ids are used up");
        let next = ids.next.checked_add(1).ok_or_else(exhausted)?;
        if next > ids.burned {
            let mark = next.checked_add(RESERVED).ok_or_else(exhausted)?;
            disk::write_atomic(&self.path, format!("{mark}\n").as_bytes())?;
            ids.burned = mark;
        }
        Ok(NonceId(std::mem::replace(&mut ids.next, next)))
    }
}

impl<N> Stock<N> {
    /// Has the ids of this share's nonces burned in `journal`. The first journal stays.
    pub(crate) fn keep_in(&self, journal: &Arc<NonceJournal>) {
        self.journal.get_or_init(|| journal.clone());
    }

    /// Takes a nonce out for good, one that `make` makes where none is ready.
    ///
    /// # Errors
    /// Where the id of a nonce cannot be burned.
    pub(crate) fn take(&self, make: impl FnOnce() -> N) -> io::Result<N> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match (ready, self.journal.get()) {
            (Some((id, nonce)), _) => {
                tracing::trace!(?id, "a nonce is taken");
                Ok(nonce)
            }
            (None, Some(journal)) => {
                let id = journal.burn()?;
                tracing::trace!(?id, "a nonce is made and taken");
                Ok(make())
            }
            // A share of no signer's directory: its nonces wait nowhere.
            (None, None) => Ok(make()),
        }
    }

    /// Makes nonces until the stock is full, `most` at a time.
    ///
    /// # Errors
    /// Where the id of a nonce cannot be burned; then it is not made.
    pub(crate) fn fill(&self, most: usize, make: impl Fn() -> N) -> io::Result<()> {
        let Some(journal) = self.journal.get() else { return Ok(()) };
        for _ in 0..most {
            if self.depth() >= FULL {
                break;
            }
            let id = journal.burn()?;
            let nonce = make();
            self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back((id, nonce));
        }
        Ok(())
    }

    /// How many nonces are ready.
    pub(crate) fn depth(&self) -> usize {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

// Not derived: a nonce has no default.
impl<N> Default for Stock<N> {
    fn default() -> Self {
        Self { journal: OnceLock::new(), ready: Mutex::default() }
    }
}
