//! The denylist: addresses that nothing may touch, compared by what they stand for and not by how they are spelled.
//!
//! - Bitcoin: by `scriptPubKey`, on every Bitcoin network; and by public key hash, since the holder of a key is paid as
//!   well by P2PKH as by P2WPKH (BIP-141) or by P2WPKH nested in P2SH (BIP-49).
//! - EVM: by the 20 bytes, which have the same holder on every EVM network.
//! - Solana: by the 32 bytes of the account.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash as _;
use bitcoin::{PubkeyHash, ScriptBuf, WPubkeyHash};
use chains::address::{Address, UncheckedAddress};
use chains::network::{BitcoinNetwork, Cluster, Family, Network};
use serde::Serialize;

/// Denied addresses, by every key under which they can be met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Denylist(BTreeSet<Key>);

/// What identifies the holder behind an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum Key {
    Script(ScriptBuf),
    /// HASH160 of a compressed or uncompressed secp256k1 key.
    PublicKeyHash([u8; 20]),
    Account(Address),
}

impl Denylist {
    /// Adds an address to every one of the chains on which it reads as one; `false` where it reads on none.
    pub(super) fn insert(&mut self, address: &UncheckedAddress, families: &BTreeSet<Family>) -> bool {
        let readings: Vec<Address> = families.iter().filter_map(|family| read(address, *family)).collect();
        self.0.extend(readings.iter().flat_map(keys));
        !readings.is_empty()
    }

    /// The address itself, where its holder is denied.
    pub(super) fn find(&self, address: &Address) -> Option<Address> {
        keys(address).iter().any(|key| self.0.contains(key)).then(|| address.clone())
    }
}

/// Reads an address for any network of the chain: a holder who is denied on one is denied on all.
fn read(address: &UncheckedAddress, family: Family) -> Option<Address> {
    let networks: &[Network] = match family {
        Family::Bitcoin => &[
            Network::Bitcoin(BitcoinNetwork::Bitcoin),
            Network::Bitcoin(BitcoinNetwork::Testnet), // testnet4 and signet spell alike
            Network::Bitcoin(BitcoinNetwork::Regtest),
        ],
        Family::Ethereum => &[Network::Ethereum(1)],
        Family::Solana => &[Network::Solana(Cluster::MainnetBeta)],
    };
    networks.iter().find_map(|network| address.require_network(*network).ok())
}

fn keys(address: &Address) -> Vec<Key> {
    let Address::Bitcoin(address) = address else {
        return vec![Key::Account(address.clone())];
    };
    let mut keys = vec![Key::Script(address.script_pubkey())];
    if let Some(hash) = public_key_hash(address) {
        let nested = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash));
        keys.push(Key::Script(nested.to_p2sh()));
        keys.push(Key::PublicKeyHash(hash));
    }
    keys
}

/// The hash of the public key that the address pays to, where it pays to one.
fn public_key_hash(address: &bitcoin::Address) -> Option<[u8; 20]> {
    let legacy = address.pubkey_hash().map(PubkeyHash::to_byte_array);
    legacy.or_else(|| {
        let program = address.witness_program().filter(|program| program.is_p2wpkh())?;
        program.program().as_bytes().try_into().ok()
    })
}
