//! Threshold schemes behind one trait: [`ecdsa`] (DKLs23), [`taproot`] and [`ed25519`] (both FROST).
//!
//! Each makes a key by a distributed key generation, derives the group's public key along a path, and signs with any t of
//! the n shares. [`verify()`] checks what comes out with a stock verifier that knows nothing of shares.

pub(crate) mod ecdsa;
pub(crate) mod ed25519;
pub(crate) mod enroll;
mod frost;
pub(crate) mod taproot;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use bitcoin::{CompressedPublicKey, XOnlyPublicKey};
use chains::account::{KeyPath, PublicKey};
use chains::derive::ExtendedKey;
use chains::payload::{Message, Signature};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::protocol::{Fault, PartyIndex, Run};
use enroll::{Enrollment, Part, Point};
#[cfg(test)]
pub(crate) use frost::OneTimeNonces;
pub(crate) use verify::verify;
#[cfg(test)]
use verify::{VerifyError, schnorr};

/// A threshold signature scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemeId {
    /// Threshold ECDSA on secp256k1 by DKLs23 (<https://eprint.iacr.org/2023/765>): Ethereum and Bitcoin P2WPKH.
    Ecdsa,
    /// FROST with BIP-340 signatures under a BIP-341 key-path tweak: Bitcoin P2TR.
    Taproot,
    /// FROST(Ed25519, SHA-512) of RFC 9591: Solana.
    Ed25519,
}

/// One party's share of a key, as a scheme sees it.
pub(crate) trait Scheme: Sized + Send + Sync + 'static {
    /// Starts a distributed key generation.
    fn generate(setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError>;

    /// The group's public key.
    fn group(&self) -> GroupKey;

    /// Starts a signature of `message` under the child at `path` by the parties of `setup`, exactly the threshold's
    /// number of them.
    fn sign(
        &self,
        setup: &Setup,
        session: [u8; 32],
        path: &KeyPath,
        message: &Message,
    ) -> Result<Run<Signature>, SchemeError>;

    /// Starts a refresh by all holders: other shares of the same key, of no use together with the present ones.
    fn refresh(&self, setup: &Setup, session: [u8; 32]) -> Result<Run<Self>, SchemeError>;

    /// Starts a reshare: the dealers among the old holders share the key anew among the new ones, as many as may be, with
    /// another threshold if need be. `old` is this party's old share, where it has one; it yields a share to the new
    /// holders alone.
    fn reshare(old: Option<&Self>, resharing: &Resharing, session: [u8; 32]) -> Result<Run<Option<Self>>, SchemeError>;

    /// Splits a key that was whole until here: its secret scalar as the curve's library writes it, and its BIP-32 chain
    /// code where the scheme has one. The shares come in the order of the parties.
    fn split(secret: &[u8; 32], chain_code: [u8; 32], threshold: u8, parties: u8) -> Result<Vec<Self>, SchemeError>;

    /// Starts this holder's help in making one more share of the sharing, for a `place` that nobody has. It takes as many
    /// helpers as it takes to sign. A `session` never comes twice.
    fn enroll(&self, helpers: &Setup, place: PartyIndex, session: [u8; 32]) -> Result<Run<Part>, SchemeError>;

    /// The share that the helpers' parts add up to. It can be [reshared](Scheme::reshare) from, not signed with.
    fn assemble(public: &Enrollment, parts: BTreeMap<PartyIndex, Zeroizing<Vec<u8>>>) -> Result<Self, Fault>;

    /// The public half of this share.
    fn public_half(&self) -> Result<Point, Fault>;

    /// Whether the shares with these public halves make the key by themselves.
    fn make_key(group: GroupKey, points: &BTreeMap<PartyIndex, Point>) -> bool;

    /// This share for a reshare beside the one that was made, if both are of one sharing.
    fn beside(&self, public: &Enrollment) -> Result<Self, Fault>;

    /// The share as bytes, to be sealed.
    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, SchemeError>;

    /// The inverse of [`Scheme::encode`].
    fn decode(bytes: &[u8]) -> Result<Self, SchemeError>;
}

/// Who takes part in a run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    me: PartyIndex,
    peers: Vec<PartyIndex>,
    threshold: u8,
}

/// Who takes part in a reshare. The new holders are the session's first parties, in the order of their new shares; the
/// old holders that are none of them come after.
#[derive(Clone, Debug)]
pub(crate) struct Resharing {
    me: PartyIndex,
    dealers: BTreeMap<PartyIndex, PartyIndex>,
    threshold: u8,
    parties: u8,
    group: GroupKey,
}

/// Why a run cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SchemeError {
    #[error("{threshold} of {parties} parties is no threshold; it takes at least 2, and no more than there are")]
    Threshold { threshold: u8, parties: usize },
    #[error("a {scheme} key cannot sign this kind of message")]
    WrongMessage { scheme: SchemeId },
    #[error("a {scheme} key has no child at {path}; use the path m")]
    Path { scheme: SchemeId, path: KeyPath },
    #[error("the share is damaged: {0}")]
    Damaged(&'static str),
    #[error("the id of a nonce cannot be burned: {0}")]
    Nonce(String),
    #[error("{0}")]
    Library(String),
}

/// What the world knows of a key: enough to derive every public key from it. Written `ecdsa:<public key><chain code>`,
/// `taproot:<x-only internal key>` or `ed25519:<public key>`, all in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKey {
    /// A secp256k1 key and its BIP-32 chain code.
    Ecdsa(ExtendedKey),
    /// The internal key of Taproot outputs (BIP-341).
    Taproot(XOnlyPublicKey),
    /// An Ed25519 key.
    Ed25519([u8; 32]),
}

/// A public key that cannot be had from a group's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {scheme} key has no child at {path}")]
pub struct PathError {
    scheme: SchemeId,
    path: KeyPath,
}

/// A string that is no group key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no group key")]
pub struct GroupKeyError;

impl SchemeId {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ecdsa, Self::Taproot, Self::Ed25519];

    /// `ecdsa`, `taproot` or `ed25519`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Taproot => "taproot",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for SchemeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Setup {
    /// `me` among `parties`, who are all different.
    pub(crate) fn new(me: PartyIndex, parties: &[PartyIndex], threshold: u8) -> Result<Self, SchemeError> {
        let mut all = parties.to_vec();
        all.sort_unstable();
        all.dedup();
        let wrong = all.len() != parties.len() || !all.contains(&me) || u8::try_from(all.len()).is_err();
        if wrong || threshold < 2 || usize::from(threshold) > all.len() {
            return Err(SchemeError::Threshold { threshold, parties: parties.len() });
        }
        let peers = all.into_iter().filter(|party| *party != me).collect();
        Ok(Self { me, peers, threshold })
    }

    /// This party.
    pub(crate) const fn me(&self) -> PartyIndex {
        self.me
    }

    /// The others, in order.
    pub(crate) fn peers(&self) -> &[PartyIndex] {
        &self.peers
    }

    /// How many it takes to sign.
    pub(crate) const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many take part in this run.
    pub(crate) fn size(&self) -> u8 {
        // `new` made sure that they fit.
        u8::try_from(self.peers.len()).map_or(u8::MAX, |peers| peers.saturating_add(1))
    }
}

impl Resharing {
    /// A reshare of `group` to `parties` holders, `threshold` of whom sign. `dealers` are the parties that share the key
    /// anew, each with its place among the old holders.
    pub(crate) fn new(
        me: PartyIndex,
        dealers: BTreeMap<PartyIndex, PartyIndex>,
        threshold: u8,
        parties: u8,
        group: GroupKey,
    ) -> Result<Self, SchemeError> {
        let places = dealers.values().collect::<BTreeSet<_>>();
        if threshold < 2 || threshold > parties || dealers.len() < 2 || places.len() != dealers.len() {
            return Err(SchemeError::Threshold { threshold, parties: parties.into() });
        }
        Ok(Self { me, dealers, threshold, parties, group })
    }

    /// This party.
    pub(crate) const fn me(&self) -> PartyIndex {
        self.me
    }

    /// The dealers, each with its place among the old holders.
    pub(crate) const fn dealers(&self) -> &BTreeMap<PartyIndex, PartyIndex> {
        &self.dealers
    }

    /// The dealers but for this party.
    pub(crate) fn other_dealers(&self) -> Vec<PartyIndex> {
        self.dealers.keys().copied().filter(|dealer| *dealer != self.me).collect()
    }

    /// This party's place among the old holders, where it deals.
    pub(crate) fn place(&self) -> Option<PartyIndex> {
        self.dealers.get(&self.me).copied()
    }

    /// Whether this party deals.
    pub(crate) fn deals(&self) -> bool {
        self.dealers.contains_key(&self.me)
    }

    /// Whether this party is to hold a share.
    pub(crate) const fn receives(&self) -> bool {
        self.me.get() <= self.parties
    }

    /// How many it takes to sign from then on.
    pub(crate) const fn threshold(&self) -> u8 {
        self.threshold
    }

    /// How many hold a share from then on.
    pub(crate) const fn parties(&self) -> u8 {
        self.parties
    }

    /// The key, which stays the same.
    pub(crate) const fn group(&self) -> GroupKey {
        self.group
    }
}

impl GroupKey {
    /// The scheme that it belongs to.
    pub const fn scheme(&self) -> SchemeId {
        match self {
            Self::Ecdsa(_) => SchemeId::Ecdsa,
            Self::Taproot(_) => SchemeId::Taproot,
            Self::Ed25519(_) => SchemeId::Ed25519,
        }
    }

    /// The public key at `path`: by BIP-32 for ECDSA; the other schemes have the root only.
    ///
    /// # Errors
    /// Where the scheme has no such child.
    pub fn at(&self, path: &KeyPath) -> Result<PublicKey, PathError> {
        let none = || PathError { scheme: self.scheme(), path: path.clone() };
        match self {
            Self::Ecdsa(key) => key.derive(path).map(|child| PublicKey::Ecdsa(child.public_key)).map_err(|_| none()),
            Self::Taproot(key) if path.steps().is_empty() => Ok(PublicKey::Taproot(*key)),
            Self::Ed25519(key) if path.steps().is_empty() => Ok(PublicKey::Ed25519(*key)),
            Self::Taproot(_) | Self::Ed25519(_) => Err(none()),
        }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdsa(key) => write!(f, "ecdsa:{}{}", key.public_key, hex::encode(key.chain_code)),
            Self::Taproot(key) => write!(f, "taproot:{key}"),
            Self::Ed25519(key) => write!(f, "ed25519:{}", hex::encode(key)),
        }
    }
}

impl FromStr for GroupKey {
    type Err = GroupKeyError;

    fn from_str(text: &str) -> Result<Self, GroupKeyError> {
        let (scheme, key) = text.split_once(':').ok_or(GroupKeyError)?;
        let key = hex::decode(key).map_err(|_| GroupKeyError)?;
        match scheme {
            "ecdsa" => {
                let (public_key, chain_code) = key.split_at_checked(33).ok_or(GroupKeyError)?;
                let public_key = CompressedPublicKey::from_slice(public_key).map_err(|_| GroupKeyError)?;
                let chain_code = chain_code.try_into().map_err(|_| GroupKeyError)?;
                Ok(Self::Ecdsa(ExtendedKey { public_key, chain_code }))
            }
            "taproot" => XOnlyPublicKey::from_slice(&key).map(Self::Taproot).map_err(|_| GroupKeyError),
            "ed25519" => key.try_into().map(Self::Ed25519).map_err(|_| GroupKeyError),
            _ => Err(GroupKeyError),
        }
    }
}

impl Serialize for GroupKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for GroupKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests;
