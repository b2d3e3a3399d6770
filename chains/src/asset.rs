//! What moves: a chain's own coin or a token on it.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::Address as EvmAddress;
use solana_sdk::pubkey::Pubkey;

use crate::network::Family;
use crate::text::string_serde;

/// An asset of the wallet's chain, written `native`, `erc20:0x…` or `spl:<mint>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asset {
    /// The chain's own coin: satoshi, wei or lamports.
    Native,
    /// An ERC-20 token, by its contract.
    Erc20(EvmAddress),
    /// An SPL token (SPL Token or Token-2022), by its mint.
    Spl(Pubkey),
}

/// A string that names no asset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no asset; write native, erc20:0x… or spl:<mint>")]
pub struct AssetError(String);

impl Asset {
    /// Whether a chain of this family can carry the asset.
    pub const fn exists_on(self, family: Family) -> bool {
        matches!(
            (self, family),
            (Self::Native, _) | (Self::Erc20(_), Family::Ethereum) | (Self::Spl(_), Family::Solana)
        )
    }
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Erc20(contract) => write!(f, "erc20:{contract}"),
            Self::Spl(mint) => write!(f, "spl:{mint}"),
        }
    }
}

impl FromStr for Asset {
    type Err = AssetError;

    fn from_str(text: &str) -> Result<Self, AssetError> {
        let unknown = || AssetError(text.chars().take(100).collect());
        match text.split_once(':') {
            None if text == "native" => Ok(Self::Native),
            Some(("erc20", contract)) => {
                crate::ethereum::address::parse(contract).map(Self::Erc20).map_err(|_| unknown())
            }
            Some(("spl", mint)) => crate::solana::address::parse(mint).map(Self::Spl).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

string_serde!(Asset);
