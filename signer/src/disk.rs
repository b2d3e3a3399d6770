//! Files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a file's name ends with while it is being written.
const HALF_WRITTEN: &str = ".tmp";
/// What a file's name ends with while it is being erased.
const HALF_ERASED: &str = ".erased";

/// Writes `bytes` to `path`, readable by its owner alone: to a temporary file first, synced, renamed, the directory
/// synced. A crash leaves the old file or the new one.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, HALF_WRITTEN)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_directory_of(path)
}

/// Overwrites what `path` holds with zeros, and removes it. It loses its name first: a crash leaves the whole file, or one
/// that nobody reads and [`clear_leftovers`] erases.
pub(crate) fn erase(path: &Path) -> io::Result<()> {
    let doomed = beside(path, HALF_ERASED)?;
    match fs::rename(path, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    sync_directory_of(&doomed)?;
    overwrite(&doomed)
}

/// Erases the files of `directory` that a crash left half written or half erased. Nobody else may be writing there.
pub(crate) fn clear_leftovers(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(HALF_WRITTEN) || name.ends_with(HALF_ERASED) {
            overwrite(&entry.path())?;
        }
    }
    Ok(())
}

/// Overwrites a file with zeros, and removes it.
fn overwrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    drop(file);
    fs::remove_file(path)?;
    sync_directory_of(path)
}

/// The path of a file in the same directory whose name goes on with `suffix`.
fn beside(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?.to_owned();
    name.push(suffix);
    Ok(path.with_file_name(name))
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("the path has no directory"))?;
    File::open(directory)?.sync_all()
}

/// What `path` holds, where it exists.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory for its owner alone (mode 0700), parents included.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
