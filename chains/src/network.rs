//! Which network: `bitcoin:mainnet`, `ethereum:1`, `solana:devnet`.

use std::fmt;
use std::str::FromStr;

use crate::text::string_serde;

pub use ::bitcoin::Network as BitcoinNetwork;

/// One network of one chain. Two networks never share a transaction, an address check or a nonce.
///
/// Written `chain:network`: `bitcoin:{mainnet,testnet,testnet4,signet,regtest}`, `ethereum:<chain id>` (EIP-155, decimal; every EVM
/// network), `solana:{mainnet-beta,testnet,devnet,localnet}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// A Bitcoin network.
    Bitcoin(BitcoinNetwork),
    /// An EVM network by its EIP-155 chain id.
    Ethereum(u64),
    /// A Solana cluster.
    Solana(Cluster),
}

/// A Solana cluster. Addresses look alike on all of them; what tells them apart is the blockhash a transaction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cluster {
    /// Production.
    MainnetBeta,
    /// The validators' test network.
    Testnet,
    /// The developers' test network.
    Devnet,
    /// A node of one's own: `solana-test-validator` or the simulator.
    Localnet,
}

/// The chain that a network belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Bitcoin.
    Bitcoin,
    /// Ethereum and every EVM network.
    Ethereum,
    /// Solana.
    Solana,
}

/// A string that names no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write bitcoin:regtest, ethereum:1 or solana:devnet")]
pub struct NetworkError(String);

impl Network {
    /// The chain that this network belongs to.
    pub const fn family(self) -> Family {
        match self {
            Self::Bitcoin(_) => Family::Bitcoin,
            Self::Ethereum(_) => Family::Ethereum,
            Self::Solana(_) => Family::Solana,
        }
    }
}

impl Family {
    /// `bitcoin`, `ethereum` or `solana`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bitcoin => "bitcoin",
            Self::Ethereum => "ethereum",
            Self::Solana => "solana",
        }
    }
}

impl Cluster {
    const ALL: [(Self, &'static str); 4] = [
        (Self::MainnetBeta, "mainnet-beta"),
        (Self::Testnet, "testnet"),
        (Self::Devnet, "devnet"),
        (Self::Localnet, "localnet"),
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::MainnetBeta => "mainnet-beta",
            Self::Testnet => "testnet",
            Self::Devnet => "devnet",
            Self::Localnet => "localnet",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bitcoin(BitcoinNetwork::Bitcoin) => f.write_str("bitcoin:mainnet"),
            Self::Bitcoin(network) => write!(f, "bitcoin:{network}"),
            Self::Ethereum(chain_id) => write!(f, "ethereum:{chain_id}"),
            Self::Solana(cluster) => write!(f, "solana:{}", cluster.as_str()),
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let unknown = || NetworkError(text.chars().take(100).collect());
        let (family, name) = text.split_once(':').ok_or_else(unknown)?;
        match family {
            "bitcoin" => match name {
                "mainnet" => Ok(Self::Bitcoin(BitcoinNetwork::Bitcoin)),
                "testnet" => Ok(Self::Bitcoin(BitcoinNetwork::Testnet)),
                "testnet4" => Ok(Self::Bitcoin(BitcoinNetwork::Testnet4)),
                "signet" => Ok(Self::Bitcoin(BitcoinNetwork::Signet)),
                "regtest" => Ok(Self::Bitcoin(BitcoinNetwork::Regtest)),
                _ => Err(unknown()),
            },
            "ethereum" => match name.parse::<u64>() {
                Ok(id) if id > 0 && id.to_string() == name => Ok(Self::Ethereum(id)),
                _ => Err(unknown()),
            },
            "solana" => Cluster::ALL
                .iter()
                .find(|(_, known)| *known == name)
                .map(|(cluster, _)| Self::Solana(*cluster))
                .ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

string_serde!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "bitcoin:mainnet",
            "bitcoin:testnet",
            "bitcoin:testnet4",
            "bitcoin:signet",
            "bitcoin:regtest",
            "ethereum:1",
            "ethereum:31337",
            "solana:mainnet-beta",
            "solana:testnet",
            "solana:devnet",
            "solana:localnet",
        ] {
            let network: Network = name.parse().expect("a known network");
            assert_eq!(network.to_string(), name);
        }
        for bad in [
            "",
            "bitcoin",
            "bitcoin:",
            "bitcoin:bitcoin",
            "ethereum:0",
            "ethereum:01",
            "ethereum:x",
            "solana:x",
            "Bitcoin:mainnet",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }
}
