//! What is signed, and the signature put in place.

use ed25519_dalek::{Signature as DalekSignature, VerifyingKey};
use solana_sdk::signature::Signature as SolanaSignature;
use solana_sdk::transaction::VersionedTransaction;

use super::wire::{Lifetime, Signed, Unsigned};
use crate::account::Account;
use crate::chain::{AssembleError, DecodeError};
use crate::network::Cluster;
use crate::payload::{Message, Payload, Signature};

/// The whole message, signed once by the payer.
pub(super) fn payloads(cluster: Cluster, account: &Account, unsigned: &Unsigned) -> Result<Vec<Payload>, DecodeError> {
    unsigned.require_payer(cluster, account)?;
    Ok(vec![Payload::new(account.path().clone(), Message::Ed25519(unsigned.message_bytes()))])
}

/// Puts the payer's signature in place, after verifying it.
pub(super) fn assemble(
    cluster: Cluster,
    account: &Account,
    unsigned: &Unsigned,
    signatures: &[Signature],
) -> Result<Signed, AssembleError> {
    let payer = unsigned.require_payer(cluster, account)?;
    let [signature] = signatures else {
        return Err(AssembleError::Count { expected: 1, found: signatures.len() });
    };
    let Signature::Ed25519(signature) = signature else { return Err(AssembleError::Invalid(0)) };
    if !verify(payer.as_array(), &unsigned.message_bytes(), signature) {
        return Err(AssembleError::Invalid(0));
    }
    let transaction = VersionedTransaction {
        signatures: vec![SolanaSignature::from(*signature)],
        message: unsigned.message().clone(),
    };
    Ok(Signed::new(cluster, transaction, Lifetime::from(unsigned.validity()))?)
}

/// Verifies an Ed25519 signature (RFC 8032) as strictly as the cluster does: no small-order key or `R`, no second
/// encoding of `s`.
pub(super) fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let signature = DalekSignature::from_bytes(signature);
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
        #[serde(with = "hex::serde")]
        message: Vec<u8>,
        #[serde(with = "hex::serde")]
        signature: [u8; 64],
    }

    fn vectors() -> Vec<Vector> {
        let text = include_str!("../../../tests/vectors/rfc8032-ed25519.json");
        serde_json::from_str::<Vectors>(text).expect("the vectors are JSON").vectors
    }

    #[test]
    fn rfc_8032() {
        assert_eq!(vectors().len(), 5);
        for Vector { name, public_key, message, signature } in vectors() {
            assert!(verify(&public_key, &message, &signature), "{name}");

            let mut longer = message.clone();
            longer.push(0);
            assert!(!verify(&public_key, &longer, &signature), "{name}: another message");
            for bit in [0, 255, 256, 511] {
                let mut bent = signature;
                bent[bit / 8] ^= 1 << (bit % 8);
                assert!(!verify(&public_key, &message, &bent), "{name}: bit {bit} of the signature");
            }
            let mut other = public_key;
            other[7] ^= 1;
            assert!(!verify(&other, &message, &signature), "{name}: another key");
        }
    }

    /// The neutral element as key and `R` makes `s = 0` fit every message where small orders are let through.
    #[test]
    fn small_orders_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&neutral, b"any message", &signature));
    }

    /// `s + L` is `s` modulo the group order, but no valid encoding (RFC 8032, 5.1.7).
    #[test]
    fn a_signature_has_one_encoding() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        for Vector { name, public_key, message, mut signature } in vectors() {
            let mut carry = 0;
            for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
            assert!(!verify(&public_key, &message, &signature), "{name}");
        }
    }
}
