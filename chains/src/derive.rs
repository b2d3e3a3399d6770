//! Public child keys by BIP-32: what a threshold key can derive, since no whole private key exists.

use bitcoin::bip32::{ChainCode, ChildNumber, Fingerprint, Xpub};
use bitcoin::secp256k1::{self, Secp256k1};
use bitcoin::{CompressedPublicKey, NetworkKind};

use crate::account::KeyPath;

/// A secp256k1 public key with the chain code that its children are derived with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKey {
    /// The compressed public key.
    pub public_key: CompressedPublicKey,
    /// BIP-32's chain code.
    pub chain_code: [u8; 32],
}

impl ExtendedKey {
    /// The child at `path`, by BIP-32's CKDpub at every step.
    ///
    /// # Errors
    /// With probability below 2^-127 a step has no valid child.
    pub fn derive(&self, path: &KeyPath) -> Result<Self, bitcoin::bip32::Error> {
        let root = Xpub {
            network: NetworkKind::Main, // plays no part in the derivation
            depth: 0,
            parent_fingerprint: Fingerprint::default(),
            child_number: ChildNumber::Normal { index: 0 },
            public_key: self.public_key.0,
            chain_code: ChainCode::from(self.chain_code),
        };
        let child = root.derive_pub(&Secp256k1::verification_only(), &path.child_numbers())?;
        Ok(Self { public_key: CompressedPublicKey(child.public_key), chain_code: child.chain_code.to_bytes() })
    }

    /// The key as x-only, for Taproot (BIP-340: the point with this x and even y).
    pub fn x_only(&self) -> secp256k1::XOnlyPublicKey {
        self.public_key.0.x_only_public_key().0
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use serde::Deserialize;

    use super::*;

    /// BIP-32's test vectors, steps that a public key can take.
    #[derive(Deserialize)]
    struct Vectors {
        steps: Vec<Step>,
    }

    #[derive(Deserialize)]
    struct Step {
        parent: String,
        path: KeyPath,
        child: String,
    }

    fn extended(xpub: &str) -> ExtendedKey {
        let xpub = Xpub::from_str(xpub).expect("an extended public key");
        ExtendedKey { public_key: CompressedPublicKey(xpub.public_key), chain_code: xpub.chain_code.to_bytes() }
    }

    #[test]
    fn bip_32_vectors() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../tests/vectors/bip-0032.json")).expect("the vectors");
        assert_eq!(vectors.steps.len(), 7);
        for Step { parent, path, child } in vectors.steps {
            assert_eq!(extended(&parent).derive(&path), Ok(extended(&child)), "{path}");
        }
    }

    #[test]
    fn the_root_is_the_key_itself() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../tests/vectors/bip-0032.json")).expect("the vectors");
        let key = extended(&vectors.steps[0].parent);
        assert_eq!(key.derive(&KeyPath::root()), Ok(key));
        assert_ne!(key.derive(&"m/0".parse().expect("a path")), Ok(key));
    }
}
