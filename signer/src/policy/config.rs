//! The policy as people write it, and its compilation: every address is parsed for the network of the wallets that it is
//! for, so that nothing is left to be found out when a payment waits.
//!
//! ```toml
//! [policy]
//! denied_addresses = ["0x098B716B8Aaf21512996dC57EB0615e2383E2f96"]
//!
//! [[policy.rules]]
//! id = "usdc-payees"
//! wallets = ["treasury-eth"]
//! assets = ["erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"]
//! addresses = ["0x52908400098527886E0F7030069857D2E4169EE7"]
//! contracts = [{ address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", selectors = ["0xa9059cbb"] }]
//! max_amount = "25000000000"
//! max_fee = "3000000000000000"
//! ```

use std::collections::{BTreeMap, BTreeSet};

use chains::account::WalletId;
use chains::address::{Address, AddressError, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::network::{Family, Network};
use serde::{Deserialize, Serialize};

use super::denylist::Denylist;
use super::limit::{Limit, LimitConfig, LimitError};
use super::{Policy, Rule, Selector};

/// The policy's section of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Addresses that nothing may touch, of any chain that a wallet is on. They beat every rule.
    #[serde(default)]
    pub denied_addresses: Vec<UncheckedAddress>,
    /// What wallets may do. What no rule allows is denied.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// How much and how often, over time. What no limit is for is bounded by the rules alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitConfig>,
}

/// One thing that wallets of one network may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, which verdicts give.
    pub id: String,
    /// The wallets that it is for, all of one network.
    pub wallets: Vec<WalletId>,
    /// What may move: the chain's own coin, unless others are named.
    #[serde(default = "native_only")]
    pub assets: Vec<Asset>,
    /// Who may receive it, and who may be given an allowance of it.
    #[serde(default)]
    pub addresses: Vec<UncheckedAddress>,
    /// What may be called.
    #[serde(default)]
    pub contracts: Vec<ContractConfig>,
    /// The most per transfer or allowance, in base units of the rule's one asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<Amount>,
    /// The most that a transaction may cost, in native base units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee: Option<Amount>,
}

/// Functions of one contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractConfig {
    /// The contract.
    pub address: UncheckedAddress,
    /// The functions that may be called.
    pub selectors: Vec<Selector>,
}

/// Why a policy doesn't compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A denied address that is none on any chain that a wallet is on.
    #[error("denied address {0:?} is an address of no chain that a wallet is on")]
    DeniedAddress(UncheckedAddress),
    /// A rule without a name, or with the name of another.
    #[error("rule {0:?}: give every rule a name of its own")]
    Id(String),
    /// A rule for no wallet.
    #[error("rule {rule}: name the wallets that it is for")]
    NoWallet {
        /// The rule.
        rule: String,
    },
    /// A wallet that doesn't exist.
    #[error("rule {rule}: there is no wallet {wallet}")]
    UnknownWallet {
        /// The rule.
        rule: String,
        /// The wallet that it names.
        wallet: WalletId,
    },
    /// Wallets of two networks, on which one address may have two owners.
    #[error("rule {rule}: its wallets are on {first} and {second}; write a rule for each network")]
    Networks {
        /// The rule.
        rule: String,
        /// The network of its first wallet.
        first: Network,
        /// Another one.
        second: Network,
    },
    /// An asset that doesn't exist on the wallets' chain.
    #[error("rule {rule}: {asset} doesn't exist on {network}")]
    Asset {
        /// The rule.
        rule: String,
        /// The asset that it names.
        asset: Asset,
        /// The network of its wallets.
        network: Network,
    },
    /// An address that is none of the wallets' network.
    #[error("rule {rule}: {source}")]
    Address {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// Contracts on a chain that has none to call, or a contract without a function.
    #[error("rule {rule}: contracts are called on EVM networks, by the selectors that the rule names")]
    Contracts {
        /// The rule.
        rule: String,
    },
    /// One limit for amounts of different units.
    #[error("rule {rule}: max_amount counts the base units of one asset; write a rule for each asset")]
    LimitOfMany {
        /// The rule.
        rule: String,
    },
    /// A limit that can't mean anything.
    #[error("limit {limit:?}: {source}")]
    Limit {
        /// The limit.
        limit: String,
        /// What is wrong with it.
        source: LimitError,
    },
}

impl PolicyConfig {
    /// Compiles the policy for these wallets.
    ///
    /// # Errors
    /// [`PolicyError`], for the first thing in it that can't mean anything.
    pub fn compile(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Policy, PolicyError> {
        let families: BTreeSet<Family> = wallets.values().map(|network| network.family()).collect();
        let mut denied = Denylist::default();
        for address in &self.denied_addresses {
            if !denied.insert(address, &families) {
                return Err(PolicyError::DeniedAddress(address.clone()));
            }
        }
        let mut ids = BTreeSet::new();
        if let Some(rule) = self.rules.iter().find(|rule| rule.id.trim().is_empty() || !ids.insert(&rule.id)) {
            return Err(PolicyError::Id(rule.id.clone()));
        }
        let rules = self.rules.iter().map(|rule| rule.compile(wallets)).collect::<Result<_, _>>()?;
        Ok(Policy { denied, rules, limits: self.compile_limits(wallets)? })
    }

    fn compile_limits(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Vec<Limit>, PolicyError> {
        let mut ids = BTreeSet::new();
        let compile = |limit: &LimitConfig| {
            let fault = |source| PolicyError::Limit { limit: limit.id.clone(), source };
            if ids.insert(limit.id.clone()) {
                limit.compile(wallets).map_err(fault)
            } else {
                Err(fault(LimitError::Id))
            }
        };
        self.limits.iter().map(compile).collect()
    }
}

impl RuleConfig {
    fn compile(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Rule, PolicyError> {
        let id = || self.id.clone();
        let network = self.network(wallets)?;
        let address = |unchecked: &UncheckedAddress| {
            unchecked.require_network(network).map_err(|source| PolicyError::Address { rule: id(), source })
        };
        if let Some(asset) = self.assets.iter().find(|asset| !asset.exists_on(network.family())) {
            return Err(PolicyError::Asset { rule: id(), asset: *asset, network });
        }
        let assets: BTreeSet<Asset> = self.assets.iter().copied().collect();
        if self.max_amount.is_some() && assets.len() > 1 {
            return Err(PolicyError::LimitOfMany { rule: id() });
        }
        let mut contracts: BTreeMap<Address, BTreeSet<Selector>> = BTreeMap::new();
        for contract in &self.contracts {
            if network.family() != Family::Ethereum || contract.selectors.is_empty() {
                return Err(PolicyError::Contracts { rule: id() });
            }
            contracts.entry(address(&contract.address)?).or_default().extend(&contract.selectors);
        }
        Ok(Rule {
            id: id(),
            wallets: self.wallets.iter().cloned().collect(),
            assets,
            addresses: self.addresses.iter().map(address).collect::<Result<_, _>>()?,
            contracts,
            max_amount: self.max_amount,
            max_fee: self.max_fee,
        })
    }

    /// The one network of the rule's wallets.
    fn network(&self, wallets: &BTreeMap<WalletId, Network>) -> Result<Network, PolicyError> {
        let rule = || self.id.clone();
        let mut networks = self.wallets.iter().map(|wallet| {
            let known = wallets.get(wallet).copied();
            known.ok_or_else(|| PolicyError::UnknownWallet { rule: rule(), wallet: wallet.clone() })
        });
        let first = networks.next().ok_or_else(|| PolicyError::NoWallet { rule: rule() })??;
        for second in networks {
            let second = second?;
            if second != first {
                return Err(PolicyError::Networks { rule: rule(), first, second });
            }
        }
        Ok(first)
    }
}

fn native_only() -> Vec<Asset> {
    vec![Asset::Native]
}
