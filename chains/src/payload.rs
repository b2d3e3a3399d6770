//! What exactly is signed. It is not always a digest: Ed25519 signs the whole message, ECDSA a 32-byte prehash, Taproot
//! a 32-byte BIP-340 message under a tweaked key, and Bitcoin needs one signature per input.

use crate::account::KeyPath;

/// One thing to be signed, made by a chain adapter from an unsigned transaction; outside of this crate nothing can make
/// one, so nothing else can be put before the signers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    path: KeyPath,
    message: Message,
}

/// The message of a [`Payload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A 32-byte hash to sign with ECDSA on secp256k1: Keccak-256 (Ethereum) or double SHA-256 (BIP-143).
    Ecdsa([u8; 32]),
    /// A BIP-341 key-path signature hash, signed by BIP-340 under the internal key tweaked without a script tree.
    Taproot([u8; 32]),
    /// A whole message for Ed25519 (RFC 8032).
    Ed25519(Vec<u8>),
}

/// A signature over one [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// ECDSA: `r || s`, `s` in the lower half (BIP-62, EIP-2), and the recovery id (0 to 3).
    Ecdsa {
        /// `r || s`, 32 bytes each, big-endian.
        rs: [u8; 64],
        /// 0 to 3: bit 0 is the parity of R's y, bit 1 whether R's x overflowed the group order.
        recovery_id: u8,
    },
    /// BIP-340: `R || s`.
    Schnorr([u8; 64]),
    /// RFC 8032: `R || S`.
    Ed25519([u8; 64]),
}

impl Payload {
    pub(crate) const fn new(path: KeyPath, message: Message) -> Self {
        Self { path, message }
    }

    /// The way from the wallet's key to the child that signs.
    pub const fn path(&self) -> &KeyPath {
        &self.path
    }

    /// What is signed.
    pub const fn message(&self) -> &Message {
        &self.message
    }
}
