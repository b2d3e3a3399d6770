//! Ed25519: FROST(Ed25519, SHA-512) of RFC 9591, by `frost-ed25519`. The signatures are plain RFC 8032.

use std::collections::BTreeMap;

use chains::payload::{Message, Signature};
use frost_ed25519::keys::{KeyPackage, PublicKeyPackage};
use frost_ed25519::round1::SigningNonces;
use frost_ed25519::round2::{self, SignatureShare};
use frost_ed25519::{Ed25519Sha512, Error, Identifier, SigningPackage, aggregate};

use super::frost::{FrostShare, Suite};
use super::{GroupKey, SchemeId};

/// A share of an Ed25519 key.
pub(crate) type KeyShare = FrostShare<Ed25519Sha512>;

impl Suite for Ed25519Sha512 {
    const SCHEME: SchemeId = SchemeId::Ed25519;

    fn message(message: &Message) -> Option<&[u8]> {
        match message {
            Message::Ed25519(message) => Some(message),
            Message::Ecdsa(_) | Message::Taproot(_) => None,
        }
    }

    fn group(public: &PublicKeyPackage) -> Option<GroupKey> {
        let bytes = public.verifying_key().serialize().ok()?;
        bytes.try_into().ok().map(GroupKey::Ed25519)
    }

    fn sign(package: &SigningPackage, nonces: &SigningNonces, key: &KeyPackage) -> Result<SignatureShare, Error> {
        round2::sign(package, nonces, key)
    }

    fn aggregate(
        package: &SigningPackage,
        shares: &BTreeMap<Identifier, SignatureShare>,
        public: &PublicKeyPackage,
    ) -> Result<frost_ed25519::Signature, Error> {
        aggregate(package, shares, public)
    }

    fn signature(bytes: [u8; 64]) -> Signature {
        Signature::Ed25519(bytes)
    }
}
