//! Sealing: how a signer's secrets are protected at rest.
//!
//! A [`Seal`] wraps short secrets (the 32-byte data keys of the vault) with a key that it never gives out:
//! [`software`] keeps that key in a file under a passphrase, `pkcs11` in a hardware security module. [`deferred`] opens
//! either of them at its first use, so that a device which is away keeps one signer out and not the whole pool.

pub mod deferred;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
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

    /// Whether the seal could be used at this moment: a device may have been taken away. Cheap enough to be asked before
    /// every signing.
    ///
    /// # Errors
    /// What stands in the way.
    fn ready(&self) -> Result<(), SealError> {
        Ok(())
    }
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
    /// The library that drives the device cannot be used.
    #[error("the PKCS#11 module {path} cannot be used: {reason}; name the library that came with the device")]
    Module {
        /// The library.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No slot holds the token: it was never there, or was taken away.
    #[error("the token {0} is in no slot; insert it, or correct the label")]
    TokenAbsent(String),
    /// The token is there and does not do its work, over no session.
    #[error("the token {token} does not answer: {reason}")]
    TokenLost {
        /// The token's label.
        token: String,
        /// What the device said.
        reason: String,
    },
    /// Two tokens go by one label.
    #[error("several tokens are labelled {0}; give each a label of its own")]
    AmbiguousToken(String),
    /// There is no PIN where it should be.
    #[error("there is no PIN in {0}; write it there")]
    NoPin(String),
    /// The token refuses the PIN. It is not tried again until it changes, for a token locks itself after a few tries.
    #[error("the token {0} refuses the PIN; correct it (it is not tried again until it changes)")]
    WrongPin(String),
    /// The token allows one more try, which is left to a person.
    #[error("the token {0} allows one more try of the PIN; log in by hand once, which resets its count")]
    LastTry(String),
    /// Too many wrong PINs.
    #[error("the PIN of token {0} is locked; have its security officer unlock it")]
    PinLocked(String),
    /// The token doesn't hold the key.
    #[error("the token {token} holds no key {key}; correct the label, or allow that the key is made")]
    KeyAbsent {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
    },
    /// The key is there but must not or cannot be used to seal.
    #[error("the key {key} of token {token} is unfit to seal with: {reason}")]
    UnfitKey {
        /// The token's label.
        token: String,
        /// The key's label.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}
