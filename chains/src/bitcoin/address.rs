//! Addresses of a wallet's own keys, and the scripts behind them.

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Address, AddressType, CompressedPublicKey, Network, Script, ScriptBuf, XOnlyPublicKey};

use crate::account::{Account, PublicKey};
use crate::network::Network as AnyNetwork;

/// The P2WPKH address of a key (BIP-84's script, BIP-173's bech32).
pub fn p2wpkh(key: &CompressedPublicKey, network: Network) -> Address {
    Address::p2wpkh(key, network)
}

/// The P2TR address of an internal key, tweaked without a script tree (BIP-86's output, BIP-350's bech32m).
pub fn p2tr(internal: XOnlyPublicKey, network: Network) -> Address {
    Address::p2tr(&Secp256k1::verification_only(), internal, None, network)
}

/// The Bitcoin side of an account: the script that all its outputs carry and the key that unlocks it.
pub(super) struct Owner {
    pub(super) script: ScriptBuf,
    pub(super) key: OwnerKey,
}

/// The key of an [`Owner`], which decides how its outputs are spent.
#[derive(Clone, Copy)]
pub(super) enum OwnerKey {
    /// Spends P2WPKH outputs with ECDSA.
    P2wpkh(CompressedPublicKey),
    /// Spends P2TR outputs by key path: the internal key, before the tap tweak.
    P2tr(XOnlyPublicKey),
}

impl Owner {
    /// The owner behind `account`, or `None` where the account isn't of `network`.
    pub(super) fn of(account: &Account, network: Network) -> Option<Self> {
        if account.network() != AnyNetwork::Bitcoin(network) {
            return None;
        }
        match *account.public_key() {
            PublicKey::Ecdsa(key) => {
                Some(Self { script: p2wpkh(&key, network).script_pubkey(), key: OwnerKey::P2wpkh(key) })
            }
            PublicKey::Taproot(internal) => {
                Some(Self { script: p2tr(internal, network).script_pubkey(), key: OwnerKey::P2tr(internal) })
            }
            PublicKey::Ed25519(_) => None,
        }
    }
}

/// The address of an output that every node relays and whose spending rules exist: P2PKH, P2SH, P2WPKH, P2WSH, P2TR.
/// `None` for bare scripts, `OP_RETURN`, anchors and undefined witness versions, whose coins anybody may take.
pub(super) fn standard(script: &Script, network: Network) -> Option<Address> {
    let address = Address::from_script(script, network).ok()?;
    match address.address_type()? {
        AddressType::P2pkh | AddressType::P2sh | AddressType::P2wpkh | AddressType::P2wsh | AddressType::P2tr => {
            Some(address)
        }
        _ => None,
    }
}
