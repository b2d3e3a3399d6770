//! Import of a key that exists: it is split in the memory of whoever holds it, and each signer seals its share at once.
//!
//! A key that was whole once may have copies that no ceremony can find: an imported key is as safe as its safest copy was
//! unsafe. Generate keys where you can, and move the funds of an imported key to a generated one when you can.

use std::fmt;

use bitcoin::CompressedPublicKey;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use ed25519_dalek::SigningKey;
use rand_core::{OsRng, RngCore};
use zeroize::Zeroizing;

use crate::scheme::{GroupKey, SchemeId};
use crate::share::Share;

/// A whole key, to be split and forgotten. It wipes itself when it is dropped, and prints nothing of itself.
pub enum ImportedKey {
    /// A secp256k1 scalar, 32 bytes, big-endian: of an ECDSA or a Taproot key (there the *internal* key of the outputs).
    Secp256k1 {
        /// The scalar.
        secret: Zeroizing<[u8; 32]>,
        /// The BIP-32 chain code that children are derived with. A random one where there is none; only ECDSA keys have
        /// children.
        chain_code: Option<[u8; 32]>,
    },
    /// An Ed25519 seed (RFC 8032, section 5.1.5), 32 bytes: what most wallets export.
    Ed25519Seed(Zeroizing<[u8; 32]>),
    /// An Ed25519 scalar, 32 bytes, little-endian, below the group's order.
    Ed25519Scalar(Zeroizing<[u8; 32]>),
}

/// Why a key cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is a key of another curve.
    #[error("this is no key for the scheme {0}; import it under a scheme of its curve")]
    WrongCurve(SchemeId),
    /// It is no key.
    #[error("this is no secret key: {0}")]
    Malformed(String),
}

impl fmt::Debug for ImportedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secp256k1 { .. } => "Secp256k1(<redacted>)",
            Self::Ed25519Seed(_) => "Ed25519Seed(<redacted>)",
            Self::Ed25519Scalar(_) => "Ed25519Scalar(<redacted>)",
        })
    }
}

/// Splits a key. The shares come in the order of the parties; each belongs to the key's own public key, which is computed
/// by another library than the one that splits, where there is one.
pub(crate) fn split(
    scheme: SchemeId,
    key: &ImportedKey,
    threshold: u8,
    parties: u8,
) -> Result<(GroupKey, Vec<Share>), ImportError> {
    let malformed = |error: &dyn fmt::Display| ImportError::Malformed(error.to_string());
    let mut chain = [0; 32];
    let (secret, expected) = match (scheme, key) {
        (SchemeId::Ecdsa | SchemeId::Taproot, ImportedKey::Secp256k1 { secret, chain_code }) => {
            OsRng.fill_bytes(&mut chain);
            chain = chain_code.unwrap_or(chain);
            let key = SecretKey::from_slice(secret.as_slice()).map_err(|error| malformed(&error))?;
            let public = key.public_key(&Secp256k1::new());
            let expected = match scheme {
                SchemeId::Taproot => GroupKey::Taproot(public.x_only_public_key().0),
                _ => GroupKey::Ecdsa(chains::derive::ExtendedKey {
                    public_key: CompressedPublicKey(public),
                    chain_code: chain,
                }),
            };
            (secret.clone(), Some(expected))
        }
        (SchemeId::Ed25519, ImportedKey::Ed25519Seed(seed)) => {
            let key = SigningKey::from_bytes(seed);
            let secret = Zeroizing::new(key.to_scalar().to_bytes());
            (secret, Some(GroupKey::Ed25519(key.verifying_key().to_bytes())))
        }
        (SchemeId::Ed25519, ImportedKey::Ed25519Scalar(scalar)) => (scalar.clone(), None),
        _ => return Err(ImportError::WrongCurve(scheme)),
    };
    let shares = Share::split(scheme, &secret, chain, threshold, parties).map_err(|error| malformed(&error))?;
    let group = shares.first().map(Share::group).ok_or_else(|| malformed(&"it splits into nothing"))?;
    if expected.is_some_and(|expected| expected != group) || shares.iter().any(|share| share.group() != group) {
        return Err(malformed(&"its shares belong to another public key"));
    }
    Ok((group, shares))
}
