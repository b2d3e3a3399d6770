//! Taproot: FROST(secp256k1, SHA-256) with BIP-340 signatures, by `frost-secp256k1-tr`.
//!
//! The library's key generation already commits its result to an unspendable script path (BIP-341 recommends it). That
//! result is taken as the *internal* key here, and every signature is made under its key-path tweak without a script
//! tree, so the output key is the one that any wallet computes from the internal key.

use std::collections::BTreeMap;

use bitcoin::XOnlyPublicKey;
use chains::payload::{Message, Signature};
use frost_secp256k1_tr::keys::{KeyPackage, PublicKeyPackage};
use frost_secp256k1_tr::round1::SigningNonces;
use frost_secp256k1_tr::round2::{self, SignatureShare};
use frost_secp256k1_tr::{Error, Identifier, Secp256K1Sha256TR, SigningPackage, aggregate_with_tweak};

use super::frost::{FrostShare, Suite};
use super::{GroupKey, SchemeId};

/// A share of a Taproot key.
pub(crate) type KeyShare = FrostShare<Secp256K1Sha256TR>;

impl Suite for Secp256K1Sha256TR {
    const SCHEME: SchemeId = SchemeId::Taproot;

    fn message(message: &Message) -> Option<&[u8]> {
        match message {
            Message::Taproot(hash) => Some(hash),
            Message::Ecdsa(_) | Message::Ed25519(_) => None,
        }
    }

    fn group(public: &PublicKeyPackage) -> Option<GroupKey> {
        let compressed = public.verifying_key().serialize().ok()?;
        let x = compressed.get(1..)?;
        XOnlyPublicKey::from_slice(x).ok().map(GroupKey::Taproot)
    }

    fn sign(package: &SigningPackage, nonces: &SigningNonces, key: &KeyPackage) -> Result<SignatureShare, Error> {
        round2::sign_with_tweak(package, nonces, key, None)
    }

    fn aggregate(
        package: &SigningPackage,
        shares: &BTreeMap<Identifier, SignatureShare>,
        public: &PublicKeyPackage,
    ) -> Result<frost_secp256k1_tr::Signature, Error> {
        aggregate_with_tweak(package, shares, public, None)
    }

    fn signature(bytes: [u8; 64]) -> Signature {
        Signature::Schnorr(bytes)
    }
}
