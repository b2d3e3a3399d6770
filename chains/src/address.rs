//! Addresses: parsed first, then checked against a network.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::Address as EvmAddress;
use serde::{Deserialize, Serialize};
use solana_sdk::pubkey::Pubkey;

use crate::network::Network;

/// The longest string that is looked at as an address: a bech32 string has at most 90 characters (BIP-173).
const MAX_LEN: usize = 90;

/// What a client wrote where an address is wanted. It becomes an [`Address`] only through
/// [`UncheckedAddress::require_network`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UncheckedAddress(String);

/// An address that is well formed, carries a right checksum where its kind has one, and belongs to the network asked
/// for. Its `Display` is the kind's canonical spelling: lower-case bech32, EIP-55, base58.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A Bitcoin address, which knows its network.
    Bitcoin(bitcoin::Address),
    /// A 20-byte account or contract of an EVM network.
    Ethereum(EvmAddress),
    /// A 32-byte Solana account.
    Solana(Pubkey),
}

/// Why a string is no address of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not an address of this chain at all: wrong alphabet, length, checksum or bech32 variant.
    #[error("{address:?} is no {chain} address: {reason}")]
    Malformed {
        /// What was given, cut to 100 characters.
        address: String,
        /// The chain it was read for.
        chain: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A Bitcoin address of another network.
    #[error("{address} is not an address of {network}")]
    WrongNetwork {
        /// What was given.
        address: String,
        /// The network that was asked for.
        network: Network,
    },
}

impl UncheckedAddress {
    /// Takes any string; nothing is looked at yet.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What the client wrote.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the string as an address of `network`.
    ///
    /// # Errors
    /// [`AddressError::Malformed`] where it is no address of the chain, [`AddressError::WrongNetwork`] where it is one of
    /// another network of the same chain.
    pub fn require_network(&self, network: Network) -> Result<Address, AddressError> {
        let text = self.0.as_str();
        let malformed = |chain: &'static str, reason: String| AddressError::Malformed {
            address: text.chars().take(100).collect(),
            chain,
            reason,
        };
        if text.len() > MAX_LEN {
            return Err(malformed(network.family().name(), format!("longer than {MAX_LEN} bytes")));
        }
        match network {
            Network::Bitcoin(bitcoin_network) => {
                let address = bitcoin::Address::from_str(text).map_err(|e| malformed("bitcoin", e.to_string()))?;
                address
                    .require_network(bitcoin_network)
                    .map(Address::Bitcoin)
                    .map_err(|_| AddressError::WrongNetwork { address: text.to_owned(), network })
            }
            Network::Ethereum(_) => crate::ethereum::address::parse(text)
                .map(Address::Ethereum)
                .map_err(|reason| malformed("ethereum", reason.to_string())),
            Network::Solana(_) => crate::solana::address::parse(text)
                .map(Address::Solana)
                .map_err(|reason| malformed("solana", reason.to_string())),
        }
    }
}

impl fmt::Display for UncheckedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Address> for UncheckedAddress {
    fn from(address: &Address) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bitcoin(address) => address.fmt(f),
            Self::Ethereum(address) => address.fmt(f),
            Self::Solana(address) => address.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
