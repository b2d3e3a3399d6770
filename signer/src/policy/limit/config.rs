//! Limits as people write them, and their compilation.
//!
//! ```toml
//! [[policy.limits]]
//! id = "eth-daily"
//! wallets = ["treasury-eth"]
//! asset = "native"
//! per = "destination"
//! window = "24h"
//! max_amount = "50000000000000000000"
//! max_count = 200
//! ```

use std::collections::BTreeMap;

use chains::account::WalletId;
use chains::address::{AddressError, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::network::Network;
use serde::{Deserialize, Serialize};

use super::{Limit, Per, Window};
use crate::roster::CredentialId;

/// How much of one asset wallets of one network may move, or how often, within a window. Whatever several limits are for
/// has to fit under each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Its name, which denials give: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
    pub id: String,
    /// The wallets that it is for, all of one network.
    pub wallets: Vec<WalletId>,
    /// The asset that it counts.
    pub asset: Asset,
    /// The destinations that it is for; all, where it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<UncheckedAddress>,
    /// The credentials whose requests it is for; all, where it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initiators: Vec<CredentialId>,
    /// What has a counter of its own; by default all that the limit is for shares one.
    #[serde(default)]
    pub per: Per,
    /// The time over which it counts.
    pub window: Window,
    /// The most that may move within the window, in the asset's base units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<Amount>,
    /// The most payments within the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_count: Option<u64>,
}

/// What is wrong with a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A name that no counter can be named by, or one that another limit has.
    #[error("give every limit a name of its own, of 1 to 64 characters of a-z, 0-9, - and _")]
    Id,
    /// A limit for no wallet.
    #[error("name the wallets that it is for")]
    NoWallet,
    /// A wallet that doesn't exist.
    #[error("there is no wallet {0}")]
    UnknownWallet(WalletId),
    /// Wallets of two networks, whose assets differ.
    #[error("its wallets are on {first} and {second}; write a limit for each network")]
    Networks {
        /// The network of its first wallet.
        first: Network,
        /// Another one.
        second: Network,
    },
    /// An asset that doesn't exist on the wallets' chain.
    #[error("{asset} doesn't exist on {network}")]
    Asset {
        /// The asset that it names.
        asset: Asset,
        /// The network of its wallets.
        network: Network,
    },
    /// An address that is none of the wallets' network.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nothing that it limits.
    #[error("give it a max_amount, a max_count, or both")]
    NoCap,
}

impl LimitConfig {
    /// Compiles the limit for these wallets.
    pub(in crate::policy) fn compile(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Limit, LimitError> {
        // A counter's name begins with the limit's; wallets are named in the same way.
        if self.id.parse::<WalletId>().is_err() {
            return Err(LimitError::Id);
        }
        if self.max_amount.is_none() && self.max_count.is_none() {
            return Err(LimitError::NoCap);
        }
        let network = self.network(wallets)?;
        if !self.asset.exists_on(network.family()) {
            return Err(LimitError::Asset { asset: self.asset, network });
        }
        let addresses = self.addresses.iter().map(|address| address.require_network(network));
        Ok(Limit {
            id: self.id.clone(),
            wallets: self.wallets.iter().cloned().collect(),
            asset: self.asset,
            addresses: addresses.collect::<Result<_, _>>()?,
            initiators: self.initiators.iter().cloned().collect(),
            per: self.per,
            window: self.window,
            max_amount: self.max_amount,
            max_count: self.max_count,
        })
    }

    /// The one network of the limit's wallets.
    fn network(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Network, LimitError> {
        let mut first = None;
        for wallet in &self.wallets {
            let second = *wallets.get(wallet).ok_or_else(|| LimitError::UnknownWallet(wallet.clone()))?;
            let first = *first.get_or_insert(second);
            if first != second {
                return Err(LimitError::Networks { first, second });
            }
        }
        first.ok_or(LimitError::NoWallet)
    }
}
