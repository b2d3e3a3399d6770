//! The file that a database was opened from: whether it is still there. The system lets a process go on writing to a file
//! that was removed, and everything in it is gone with the process.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// A file, and which one its name stood for when it was opened.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    identity: (u64, u64),
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let identity = identity(path).map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(Self { path: path.to_owned(), identity })
    }

    /// Whether the name still stands for the file that is open.
    pub(super) fn in_place(&self) -> Result<(), StoreError> {
        let gone = |what: &str| {
            StoreError::Database(format!("{} {what}; put it back, or restart with the right one", self.path.display()))
        };
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(gone("is another file than was opened")),
            Err(error) => Err(gone(&format!("can't be found ({})", error.kind()))),
        }
    }
}

/// Device and number of the file.
#[cfg(unix)]
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Other systems don't let an open file be removed.
#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|_| (0, 0))
}
