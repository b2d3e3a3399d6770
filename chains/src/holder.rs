//! Who is behind an address: what screening and denylists compare, instead of spellings.
//!
//! - Bitcoin: the `scriptPubKey`, on every Bitcoin network; and the public key hash, since the holder of a key is paid as
//!   well by P2PKH as by P2WPKH (BIP-141) or by P2WPKH nested in P2SH (BIP-49).
//! - EVM: the 20 bytes, which have the same holder on every EVM network.
//! - Solana: the 32 bytes of the account.

use bitcoin::hashes::Hash as _;
use bitcoin::{PubkeyHash, ScriptBuf, WPubkeyHash};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::address::{Address, UncheckedAddress};
use crate::network::{BitcoinNetwork, Cluster, Family, Network};

/// One name under which a holder can be met. An address has one or several; two addresses with a name in common have the
/// same holder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Holder {
    /// Whoever can spend from the script.
    Script(ScriptBuf),
    /// Whoever has the secp256k1 key with this HASH160.
    PublicKeyHash([u8; 20]),
    /// Whoever controls the account.
    Account(Address),
}

impl Holder {
    /// Every name under which the holder of `address` can be met; never empty.
    pub fn names(address: &Address) -> Vec<Self> {
        let Address::Bitcoin(address) = address else {
            return vec![Self::Account(address.clone())];
        };
        let mut names = vec![Self::Script(address.script_pubkey())];
        if let Some(hash) = public_key_hash(address) {
            let nested = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash));
            names.push(Self::Script(nested.to_p2sh()));
            names.push(Self::PublicKeyHash(hash));
        }
        names
    }

    /// Reads an address for any network of the chain, since who is listed on one is listed on all.
    pub fn read(address: &UncheckedAddress, family: Family) -> Option<Address> {
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

    /// The first 128 bits of a SHA-256 over the name: small enough to keep ten million of, and an address that collides with
    /// another's would cost 2^128 tries to find.
    pub fn fingerprint(&self) -> u128 {
        let mut hash = Sha256::new();
        match self {
            Self::Script(script) => {
                hash.update(b"script\0");
                hash.update(script.as_bytes());
            }
            Self::PublicKeyHash(key) => {
                hash.update(b"key hash\0");
                hash.update(key);
            }
            Self::Account(Address::Bitcoin(address)) => {
                hash.update(b"script\0");
                hash.update(address.script_pubkey().as_bytes());
            }
            Self::Account(Address::Ethereum(account)) => {
                hash.update(b"evm\0");
                hash.update(account);
            }
            Self::Account(Address::Solana(account)) => {
                hash.update(b"solana\0");
                hash.update(account);
            }
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
        u128::from_be_bytes(*first)
    }
}

/// The hash of the public key that the address pays to, where it pays to one.
fn public_key_hash(address: &bitcoin::Address) -> Option<[u8; 20]> {
    let legacy = address.pubkey_hash().map(PubkeyHash::to_byte_array);
    legacy.or_else(|| {
        let program = address.witness_program().filter(|program| program.is_p2wpkh())?;
        program.program().as_bytes().try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn read(text: &str, family: Family) -> Address {
        Holder::read(&UncheckedAddress::new(text), family).unwrap()
    }

    fn names(text: &str, family: Family) -> BTreeSet<Holder> {
        Holder::names(&read(text, family)).into_iter().collect()
    }

    /// The three spellings of one key: BIP-173's example key as P2PKH, P2WPKH, and nested (BIP-49).
    #[test]
    fn one_key_has_one_holder_in_every_spelling() {
        let segwit = names("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Family::Bitcoin);
        let upper = names("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", Family::Bitcoin);
        let legacy = names("1BgGZ9tcN4rm9KBzDn7KprQz87SZ26SAMH", Family::Bitcoin);
        let nested = names("3JvL6Ymt8MVWiCNHC7oWU6nLeHNJKLZGLN", Family::Bitcoin);
        let regtest = names("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", Family::Bitcoin);
        assert_eq!(segwit, upper);
        assert_eq!(segwit, regtest);
        assert!(!segwit.is_disjoint(&legacy));
        assert!(!segwit.is_disjoint(&nested));
        let other = names("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", Family::Bitcoin);
        assert!(segwit.is_disjoint(&other));
    }

    #[test]
    fn fingerprints_differ_where_names_do() {
        let texts = [
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", Family::Bitcoin),
            ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", Family::Bitcoin),
            ("0x52908400098527886E0F7030069857D2E4169EE7", Family::Ethereum),
            ("7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q", Family::Solana),
        ];
        let all: Vec<_> = texts.iter().flat_map(|(text, family)| Holder::names(&read(text, *family))).collect();
        let prints: BTreeSet<_> = all.iter().map(Holder::fingerprint).collect();
        assert_eq!(prints.len(), all.iter().collect::<BTreeSet<_>>().len());
    }
}
