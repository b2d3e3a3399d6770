//! Escrow: one more share of a key in the hands of somebody who takes no part in signing, for the day on which too few
//! signers are left.
//!
//! As many signers as it takes to sign make it together (`scheme`, `enroll`), for a place that no signer has. Each
//! encrypts its blinded part to the holder's [age](https://age-encryption.org/v1) key itself; the coordinator bundles
//! ciphertexts. So nobody but the holder ever sees the share. Whom a share may be made for is not the coordinator's to
//! say: a signer helps only for recipients that it was told of by whoever runs it.
//!
//! An escrow is a share like any other: it counts towards the threshold, and it belongs to one epoch. Once the key is
//! refreshed or reshared it is of no use, and another one has to be made.
//!
//! - [`EscrowFile`]: what the holder keeps; an age file;
//! - [`Escrow`]: the same, opened and checked;
//! - [`Recovery`]: escrow and live shares become a pool.

mod file;
mod recover;

use std::path::PathBuf;
use std::str::FromStr;

use chains::account::KeyId;

pub use file::{Escrow, EscrowFile};
pub(crate) use file::{SealedPart, next_place, seal_part};
pub use recover::{Alone, Recovered, Recovery, wipe};

use crate::pool::PoolError;
use crate::transport::SignerId;

/// Whom an escrow is for: an age X25519 recipient, `age1…`.
#[derive(Clone)]
pub struct Recipient(age::x25519::Recipient);

/// The holder's age identity, `AGE-SECRET-KEY-1…`. It prints nothing of itself.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

/// Why an escrow cannot be made, opened or recovered from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EscrowError {
    /// It is no recipient.
    #[error("this is no age recipient: it begins with age1 and comes from age-keygen")]
    Recipient,
    /// It is no identity.
    #[error("there is no age identity in this: a line AGE-SECRET-KEY-1…, as age-keygen writes it")]
    Identity,
    /// The file is for somebody else.
    #[error("the escrow is not for this identity; use the one whose recipient it was made for")]
    WrongIdentity,
    /// The file is not what was written.
    #[error("the escrow file is damaged: {0}; take another copy of it")]
    Damaged(String),
    /// A part of it is not what its signer told the others.
    #[error("the part of {signer} in the escrow is wrong: {reason}; make another escrow while the signers are up")]
    WrongPart {
        /// Whose part.
        signer: SignerId,
        /// What is wrong.
        reason: String,
    },
    /// A live share is of another key.
    #[error("the escrow is of key {escrow}, and {signer} holds no such key but another one of that name")]
    OtherKey {
        /// The escrow's key.
        escrow: KeyId,
        /// Who holds another.
        signer: SignerId,
    },
    /// The key was refreshed or reshared after the escrow was made, or the share is from an old backup.
    #[error(
        "the escrow is of epoch {escrow} of key {key} and the share of {signer} of epoch {live}: they are of no use \
         together; use the escrow that was made after the last refresh"
    )]
    OtherEpoch {
        /// The key.
        key: KeyId,
        /// The escrow's epoch.
        escrow: u32,
        /// Whose share.
        signer: SignerId,
        /// Its epoch.
        live: u32,
    },
    /// Same name, same epoch, but not made together.
    #[error("the share of {signer} and the escrow are not of one sharing of key {key}; take the right backup")]
    OtherSharing {
        /// The key.
        key: KeyId,
        /// Whose share.
        signer: SignerId,
    },
    /// Fewer shares than it takes.
    #[error("there are {have} shares of key {key} and it takes {needed}; add another signer's folder")]
    TooFew {
        /// The key.
        key: KeyId,
        /// How many there are, the escrow counted.
        have: usize,
        /// How many it takes.
        needed: u8,
    },
    /// A signer's folder without the key.
    #[error("signer {signer} has no share of key {key} in {dir}")]
    NoShare {
        /// The key.
        key: KeyId,
        /// Whose folder.
        signer: SignerId,
        /// The folder.
        dir: PathBuf,
    },
    /// There is something where the recovered pool is to be.
    #[error("{dir} holds key {key} already; recover into an empty folder")]
    Occupied {
        /// The key.
        key: KeyId,
        /// The folder.
        dir: PathBuf,
    },
    /// A folder cannot be used.
    #[error("cannot use {path}: {reason}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The pool that was recovered to does not work.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl Recipient {
    pub(crate) const fn age(&self) -> &age::x25519::Recipient {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = EscrowError;

    fn from_str(text: &str) -> Result<Self, EscrowError> {
        text.trim().parse().map(Self).map_err(|_| EscrowError::Recipient)
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl Identity {
    /// The first identity in the text of an identity file: comments and empty lines are passed over.
    ///
    /// # Errors
    /// Where there is none.
    pub fn read(text: &str) -> Result<Self, EscrowError> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        line.and_then(|line| line.parse().ok()).map(Self).ok_or(EscrowError::Identity)
    }

    /// Whom to encrypt to for this identity.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    pub(crate) const fn age(&self) -> &age::x25519::Identity {
        &self.0
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(<redacted>)")
    }
}
