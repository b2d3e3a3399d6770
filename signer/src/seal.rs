//! Sealing: how a signer's secrets are protected at rest.
//!
//! A [`Seal`] wraps short secrets (the 32-byte data keys of the vault) with a key that it never gives out:
//! [`software`] keeps that key in a file under a passphrase. Hardware implements the same trait.

pub mod software;
#[cfg(test)]
pub(crate) mod testing;

use std::path::PathBuf;

use zeroize::Zeroizing;

/// Wraps and unwraps short secrets.
pub trait Seal: Send + Sync {
    /// Seals `secret` into an opaque blob.
    ///
    /// # Errors
    /// Where the sealing device fails.
    fn seal(&self, secret: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what [`Seal::seal`] made.
    ///
    /// # Errors
    /// [`SealError::Refused`] where the blob was not sealed by this key or was altered.
    fn open(&self, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// Why sealing failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// A file could not be read or written.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The passphrase file holds nothing.
    #[error("the passphrase file {0} is empty; write the passphrase on its first line")]
    EmptyPassphrase(PathBuf),
    /// The passphrase doesn't open the key file.
    #[error("the passphrase does not open {0}; use the one that it was made with")]
    WrongPassphrase(PathBuf),
    /// The key file is not what was written.
    #[error("the key file {0} is damaged; restore it from a backup")]
    Damaged(PathBuf),
    /// The blob was sealed by another key, or altered.
    #[error("the blob was not sealed by this key, or it was altered")]
    Refused,
    /// The sealing device failed.
    #[error("the sealing device failed: {0}")]
    Device(String),
}
