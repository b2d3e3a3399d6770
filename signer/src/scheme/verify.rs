//! Stock verifiers: libsecp256k1 for ECDSA and BIP-340, ed25519-dalek for Ed25519. They share no code with the schemes.

use bitcoin::key::TapTweak;
use bitcoin::secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature as EcdsaSignature};
use bitcoin::secp256k1::{self, Secp256k1, XOnlyPublicKey, schnorr as bip340};
use chains::account::PublicKey;
use chains::payload::{Message, Signature};

/// A signature that is not one of the message under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub(crate) struct VerifyError;

impl From<secp256k1::Error> for VerifyError {
    fn from(_: secp256k1::Error) -> Self {
        Self
    }
}

/// Checks `signature` as a node of the chain would: ECDSA with low s (BIP-62, EIP-2) and a recovery id that gives the key
/// back; BIP-340 under the internal key's output key (BIP-341, no script tree); Ed25519 strictly (RFC 8032, no
/// small-order keys).
pub(crate) fn verify(public_key: &PublicKey, message: &Message, signature: &Signature) -> Result<(), VerifyError> {
    match (public_key, message, signature) {
        (PublicKey::Ecdsa(key), Message::Ecdsa(hash), Signature::Ecdsa { rs, recovery_id }) => {
            let (secp, hash) = (Secp256k1::verification_only(), secp256k1::Message::from_digest(*hash));
            // libsecp256k1 refuses a high s.
            secp.verify_ecdsa(&hash, &EcdsaSignature::from_compact(rs)?, &key.0)?;
            let id = RecoveryId::from_i32(i32::from(*recovery_id))?;
            let recovered = secp.recover_ecdsa(&hash, &RecoverableSignature::from_compact(rs, id)?)?;
            if recovered == key.0 { Ok(()) } else { Err(VerifyError) }
        }
        (PublicKey::Taproot(internal), Message::Taproot(hash), Signature::Schnorr(bytes)) => {
            let (output, _) = internal.tap_tweak(&Secp256k1::verification_only(), None);
            schnorr(&output.to_x_only_public_key(), *hash, bytes)
        }
        (PublicKey::Ed25519(key), Message::Ed25519(message), Signature::Ed25519(bytes)) => {
            let key = ed25519_dalek::VerifyingKey::from_bytes(key).map_err(|_| VerifyError)?;
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(bytes)).map_err(|_| VerifyError)
        }
        _ => Err(VerifyError),
    }
}

/// BIP-340 under `key` as it is.
pub(crate) fn schnorr(key: &XOnlyPublicKey, hash: [u8; 32], signature: &[u8]) -> Result<(), VerifyError> {
    let signature = bip340::Signature::from_slice(signature)?;
    let hash = secp256k1::Message::from_digest(hash);
    Ok(Secp256k1::verification_only().verify_schnorr(&signature, &hash, key)?)
}
