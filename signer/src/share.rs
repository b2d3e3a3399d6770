//! A party's share of a key: the secret that never leaves this crate.
//!
//! It has no `Clone` and no `Serialize`, prints nothing of itself, and wipes its memory when it is dropped.

use std::fmt;

use chains::account::KeyPath;
use chains::payload::{Message, Signature};
use zeroize::Zeroizing;

use crate::protocol::{Run, map};
use crate::scheme::{GroupKey, Scheme, SchemeError, SchemeId, Setup, ecdsa, ed25519, taproot};

/// A share of a key of any scheme.
pub(crate) enum Share {
    /// Of an ECDSA key.
    Ecdsa(ecdsa::KeyShare),
    /// Of a Taproot key.
    Taproot(taproot::KeyShare),
    /// Of an Ed25519 key.
    Ed25519(ed25519::KeyShare),
}

impl Share {
    /// Starts a distributed key generation.
    pub(crate) fn generate(scheme: SchemeId, setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        Ok(match scheme {
            SchemeId::Ecdsa => map(ecdsa::KeyShare::generate(setup, session)?, Self::Ecdsa),
            SchemeId::Taproot => map(taproot::KeyShare::generate(setup, session)?, Self::Taproot),
            SchemeId::Ed25519 => map(ed25519::KeyShare::generate(setup, session)?, Self::Ed25519),
        })
    }

    /// The group's public key.
    pub(crate) fn group(&self) -> GroupKey {
        match self {
            Self::Ecdsa(share) => share.group(),
            Self::Taproot(share) => share.group(),
            Self::Ed25519(share) => share.group(),
        }
    }

    /// Starts a signature; see [`Scheme::sign`].
    pub(crate) fn sign(
        &self,
        setup: &Setup,
        session: [u8; 32],
        path: &KeyPath,
        message: &Message,
    ) -> Result<Run<Signature>, SchemeError> {
        match self {
            Self::Ecdsa(share) => share.sign(setup, session, path, message),
            Self::Taproot(share) => share.sign(setup, session, path, message),
            Self::Ed25519(share) => share.sign(setup, session, path, message),
        }
    }

    /// The share as bytes, to be sealed.
    pub(crate) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
        match self {
            Self::Ecdsa(share) => share.encode(),
            Self::Taproot(share) => share.encode(),
            Self::Ed25519(share) => share.encode(),
        }
    }

    /// The inverse of [`Share::encode`].
    pub(crate) fn decode(scheme: SchemeId, bytes: &[u8]) -> Result<Self, SchemeError> {
        Ok(match scheme {
            SchemeId::Ecdsa => Self::Ecdsa(ecdsa::KeyShare::decode(bytes)?),
            SchemeId::Taproot => Self::Taproot(taproot::KeyShare::decode(bytes)?),
            SchemeId::Ed25519 => Self::Ed25519(ed25519::KeyShare::decode(bytes)?),
        })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("group", &self.group().to_string()).finish_non_exhaustive()
    }
}
