//! Addresses of a wallet's own keys.

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, CompressedPublicKey, Network, XOnlyPublicKey};

/// The P2WPKH address of a key (BIP-84's script, BIP-173's bech32).
pub fn p2wpkh(key: &CompressedPublicKey, network: Network) -> Address {
    Address::p2wpkh(key, network)
}

/// The P2TR address of an internal key, tweaked without a script tree (BIP-86's output, BIP-350's bech32m).
pub fn p2tr(internal: XOnlyPublicKey, network: Network) -> Address {
    Address::p2tr(&Secp256k1::verification_only(), internal, None, network)
}
