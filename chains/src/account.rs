//! Accounts: the public side of a wallet.

use std::fmt;
use std::str::FromStr;

use bitcoin::bip32::ChildNumber;

use crate::address::Address;
use crate::network::Network;
use crate::text::string_serde;

/// The name of a wallet, 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WalletId(String);

/// The name of a key that the signers hold together, 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// A string that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name; use 1 to 64 characters of a-z, 0-9, - and _")]
pub struct NameError(String);

fn parse_name(text: &str) -> Result<String, NameError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(NameError(text.chars().take(100).collect()))
    }
}

macro_rules! name {
    ($($name:ident),+) => {$(
        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                parse_name(text).map(Self)
            }
        }
    )+};
}

name!(WalletId, KeyId);
string_serde!(WalletId, KeyId, KeyPath);

/// A path of non-hardened BIP-32 steps from a key to a child: `m`, `m/0/7`. Hardened steps would need the whole private
/// key, which exists nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<u32>);

/// A string that is no path of non-hardened steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no key path; write m or m/0/7, without hardened steps (a threshold key has no whole private key)")]
pub struct KeyPathError(String);

impl KeyPath {
    /// The key itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The steps, each below 2^31.
    pub fn steps(&self) -> &[u32] {
        &self.0
    }

    /// The steps as `bitcoin` has them.
    pub fn child_numbers(&self) -> Vec<ChildNumber> {
        self.0.iter().map(|index| ChildNumber::Normal { index: *index }).collect()
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("m")?;
        self.0.iter().try_for_each(|step| write!(f, "/{step}"))
    }
}

impl FromStr for KeyPath {
    type Err = KeyPathError;

    fn from_str(text: &str) -> Result<Self, KeyPathError> {
        let bad = || KeyPathError(text.chars().take(100).collect());
        let mut parts = text.split('/');
        if parts.next() != Some("m") {
            return Err(bad());
        }
        let steps = parts.map(|part| match part.parse::<u32>() {
            Ok(step) if step < 1 << 31 && step.to_string() == part => Ok(step),
            _ => Err(bad()),
        });
        steps.collect::<Result<Vec<_>, _>>().map(Self)
    }
}

/// The public key of a wallet, at the wallet's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// A compressed secp256k1 key for ECDSA: Ethereum and Bitcoin P2WPKH.
    Ecdsa(bitcoin::CompressedPublicKey),
    /// The *internal* key of a Taproot output (BIP-341), before the tap tweak.
    Taproot(bitcoin::XOnlyPublicKey),
    /// An Ed25519 key: Solana.
    Ed25519([u8; 32]),
}

/// Everything public about a wallet: which key at which path, on which network, with which address.
///
/// [`Account::new`] derives the address, so an account whose address is not its key's cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    wallet: WalletId,
    network: Network,
    key: KeyId,
    path: KeyPath,
    public_key: PublicKey,
    address: Address,
}

/// A key that cannot serve an account of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wallet {wallet}: a {scheme} key has no address on {network}")]
pub struct AccountError {
    wallet: WalletId,
    scheme: &'static str,
    network: Network,
}

impl Account {
    /// The account of `public_key` (already derived along `path` from the key named `key`) on `network`: P2WPKH for an
    /// ECDSA key on Bitcoin, P2TR for a Taproot key, EIP-55 and base58 addresses elsewhere.
    ///
    /// # Errors
    /// Where the network's chain has no address for such a key.
    pub fn new(
        wallet: WalletId,
        network: Network,
        key: KeyId,
        path: KeyPath,
        public_key: PublicKey,
    ) -> Result<Self, AccountError> {
        let address = match (network, &public_key) {
            (Network::Bitcoin(network), PublicKey::Ecdsa(public)) => {
                Address::Bitcoin(crate::bitcoin::address::p2wpkh(public, network))
            }
            (Network::Bitcoin(network), PublicKey::Taproot(internal)) => {
                Address::Bitcoin(crate::bitcoin::address::p2tr(*internal, network))
            }
            (Network::Ethereum(_), PublicKey::Ecdsa(public)) => {
                Address::Ethereum(crate::ethereum::address::of_public_key(public))
            }
            (Network::Solana(_), PublicKey::Ed25519(public)) => {
                Address::Solana(solana_sdk::pubkey::Pubkey::new_from_array(*public))
            }
            (_, PublicKey::Ecdsa(_)) => return Err(AccountError { wallet, scheme: "ECDSA", network }),
            (_, PublicKey::Taproot(_)) => return Err(AccountError { wallet, scheme: "Taproot", network }),
            (_, PublicKey::Ed25519(_)) => return Err(AccountError { wallet, scheme: "Ed25519", network }),
        };
        Ok(Self { wallet, network, key, path, public_key, address })
    }

    /// The wallet's name.
    pub fn wallet(&self) -> &WalletId {
        &self.wallet
    }

    /// The network it lives on.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The key it is derived from.
    pub fn key(&self) -> &KeyId {
        &self.key
    }

    /// The way from the key to this account.
    pub fn path(&self) -> &KeyPath {
        &self.path
    }

    /// The public key at that path.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The address that receives for this wallet and that its change goes to.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_hardened_step() {
        assert_eq!("m/0/7".parse::<KeyPath>().map(|p| p.to_string()), Ok("m/0/7".to_owned()));
        assert_eq!("m".parse(), Ok(KeyPath::root()));
        for bad in ["", "0/7", "m/", "m/0'", "m/0h", "m/2147483648", "m/-1", "m/01", "m//1"] {
            assert!(bad.parse::<KeyPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert!("treasury-eth_1".parse::<WalletId>().is_ok());
        for bad in ["", "A", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<WalletId>().is_err(), "{bad:?}");
        }
    }
}
