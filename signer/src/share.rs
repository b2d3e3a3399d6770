//! A party's share of a key: the secret that never leaves this crate.
//!
//! It has no `Clone` and no `Serialize`, prints nothing of itself, and wipes its memory when it is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use chains::account::KeyPath;
use chains::payload::{Message, Signature};
use zeroize::Zeroizing;

use crate::nonces::NonceJournal;
use crate::protocol::{Fault, PartyIndex, Run, map};
use crate::scheme::enroll::{Enrollment, Part, Point};
use crate::scheme::{GroupKey, Resharing, Scheme, SchemeError, SchemeId, Setup, ecdsa, ed25519, taproot};

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

    /// Starts a refresh; see [`Scheme::refresh`].
    pub(crate) fn refresh(&self, setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError> {
        Ok(match self {
            Self::Ecdsa(share) => map(share.refresh(setup, session)?, Self::Ecdsa),
            Self::Taproot(share) => map(share.refresh(setup, session)?, Self::Taproot),
            Self::Ed25519(share) => map(share.refresh(setup, session)?, Self::Ed25519),
        })
    }

    /// Starts a reshare; see [`Scheme::reshare`].
    pub(crate) fn reshare(
        old: Option<&Self>,
        resharing: &Resharing,
        session: [u8; 32],
    ) -> Result<Run<Option<Self>>, SchemeError> {
        Ok(match (resharing.group().scheme(), old) {
            (SchemeId::Ecdsa, None) => {
                map(ecdsa::KeyShare::reshare(None, resharing, session)?, |share| share.map(Self::Ecdsa))
            }
            (SchemeId::Ecdsa, Some(Self::Ecdsa(old))) => {
                map(ecdsa::KeyShare::reshare(Some(old), resharing, session)?, |share| share.map(Self::Ecdsa))
            }
            (SchemeId::Taproot, None) => {
                map(taproot::KeyShare::reshare(None, resharing, session)?, |share| share.map(Self::Taproot))
            }
            (SchemeId::Taproot, Some(Self::Taproot(old))) => {
                map(taproot::KeyShare::reshare(Some(old), resharing, session)?, |share| share.map(Self::Taproot))
            }
            (SchemeId::Ed25519, None) => {
                map(ed25519::KeyShare::reshare(None, resharing, session)?, |share| share.map(Self::Ed25519))
            }
            (SchemeId::Ed25519, Some(Self::Ed25519(old))) => {
                map(ed25519::KeyShare::reshare(Some(old), resharing, session)?, |share| share.map(Self::Ed25519))
            }
            (_, Some(_)) => return Err(SchemeError::Damaged("it is of another scheme")),
        })
    }

    /// Splits a key that was whole until here; see [`Scheme::split`].
    pub(crate) fn split(
        scheme: SchemeId,
        secret: &[u8; 32],
        chain_code: [u8; 32],
        threshold: u8,
        parties: u8,
    ) -> Result<Vec<Self>, SchemeError> {
        Ok(match scheme {
            SchemeId::Ecdsa => {
                let shares = ecdsa::KeyShare::split(secret, chain_code, threshold, parties)?;
                shares.into_iter().map(Self::Ecdsa).collect()
            }
            SchemeId::Taproot => {
                let shares = taproot::KeyShare::split(secret, chain_code, threshold, parties)?;
                shares.into_iter().map(Self::Taproot).collect()
            }
            SchemeId::Ed25519 => {
                let shares = ed25519::KeyShare::split(secret, chain_code, threshold, parties)?;
                shares.into_iter().map(Self::Ed25519).collect()
            }
        })
    }

    /// Starts this holder's help in making one more share; see [`Scheme::enroll`].
    pub(crate) fn enroll(
        &self,
        helpers: &Setup,
        place: PartyIndex,
        session: [u8; 32],
    ) -> Result<Run<Part>, SchemeError> {
        match self {
            Self::Ecdsa(share) => share.enroll(helpers, place, session),
            Self::Taproot(share) => share.enroll(helpers, place, session),
            Self::Ed25519(share) => share.enroll(helpers, place, session),
        }
    }

    /// The share that the helpers' parts add up to; see [`Scheme::assemble`].
    pub(crate) fn assemble(
        public: &Enrollment,
        parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>,
    ) -> Result<Self, Fault> {
        Ok(match public.group.scheme() {
            SchemeId::Ecdsa => Self::Ecdsa(ecdsa::KeyShare::assemble(public, parts)?),
            SchemeId::Taproot => Self::Taproot(taproot::KeyShare::assemble(public, parts)?),
            SchemeId::Ed25519 => Self::Ed25519(ed25519::KeyShare::assemble(public, parts)?),
        })
    }

    /// The public half of this share.
    pub(crate) fn public_half(&self) -> Result<Point, Fault> {
        match self {
            Self::Ecdsa(share) => share.public_half(),
            Self::Taproot(share) => share.public_half(),
            Self::Ed25519(share) => share.public_half(),
        }
    }

    /// Whether the shares with these public halves make the key by themselves.
    pub(crate) fn make_key(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool {
        match group.scheme() {
            SchemeId::Ecdsa => ecdsa::KeyShare::make_key(group, points),
            SchemeId::Taproot => taproot::KeyShare::make_key(group, points),
            SchemeId::Ed25519 => ed25519::KeyShare::make_key(group, points),
        }
    }

    /// This share for a reshare beside the one that was made; see [`Scheme::beside`].
    pub(crate) fn beside(&self, public: &Enrollment) -> Result<Self, Fault> {
        Ok(match self {
            Self::Ecdsa(share) => Self::Ecdsa(share.beside(public)?),
            Self::Taproot(share) => Self::Taproot(share.beside(public)?),
            Self::Ed25519(share) => Self::Ed25519(share.beside(public)?),
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

    /// Keeps the ids of this share's nonces in `journal` from here on.
    pub(crate) fn keep_nonces_in(&self, journal: &Arc<NonceJournal>) {
        match self {
            Self::Ecdsa(_) => (),
            Self::Taproot(share) => share.keep_nonces_in(journal),
            Self::Ed25519(share) => share.keep_nonces_in(journal),
        }
    }

    /// Makes up to `most` nonces ahead of time, until the share's stock is full.
    pub(crate) fn make_nonces(&self, journal: &Arc<NonceJournal>, most: usize) -> io::Result<()> {
        match self {
            Self::Ecdsa(_) => Ok(()),
            Self::Taproot(share) => share.make_nonces(journal, most),
            Self::Ed25519(share) => share.make_nonces(journal, most),
        }
    }

    /// How many nonces are ready; none where the scheme has none to make ahead: DKLs23 signs interactively.
    pub(crate) fn nonces(&self) -> Option<usize> {
        match self {
            Self::Ecdsa(_) => None,
            Self::Taproot(share) => Some(share.nonces()),
            Self::Ed25519(share) => Some(share.nonces()),
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
