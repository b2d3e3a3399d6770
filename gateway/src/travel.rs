//! The Travel Rule (FATF recommendation 16): above a threshold, a transfer to somebody else's address waits until the data that
//! has to go with it is there and keeps the standard's constraints ([`ivms101`]).
//!
//! A payment is measured by what its bytes transfer: per asset, everything that goes to addresses that are neither the house's own
//! wallets nor exempt. The data is kept in the store and shown to auditors; the record has its digest. Handing it to the other
//! institution is somebody else's.

pub mod ivms101;

use std::collections::{BTreeMap, BTreeSet};

use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::Effects;
use chains::holder::Holder;
use chains::network::{Family, Network};
use serde::{Deserialize, Serialize};

use self::ivms101::TravelData;

/// From which amounts on data is wanted. Without thresholds, never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TravelConfig {
    /// One for each asset that the rule is for.
    pub thresholds: Vec<Threshold>,
    /// Addresses of counterparties that need no data, on whatever chain they read as one.
    pub exempt: Vec<UncheckedAddress>,
}

/// The most of an asset that may be paid without data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The network.
    pub network: Network,
    /// What is paid.
    pub asset: Asset,
    /// Above this amount data is wanted, base units.
    pub above: Amount,
}

/// Why a configuration makes no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TravelError {
    /// An exempt address that reads on no chain.
    #[error("the exempt address {0:?} is an address of no chain")]
    Exempt(UncheckedAddress),
    /// An asset that the network doesn't have.
    #[error("the travel rule's threshold: {asset} doesn't exist on {network}")]
    Asset {
        /// As configured.
        asset: Asset,
        /// The network.
        network: Network,
    },
    /// Two thresholds for one thing.
    #[error("the travel rule has two thresholds for {asset} on {network}")]
    Twice {
        /// The asset.
        asset: Asset,
        /// The network.
        network: Network,
    },
}

/// The thresholds and the exempt, compiled.
#[derive(Clone, Debug, Default)]
pub struct TravelRule {
    thresholds: BTreeMap<(Network, Asset), Amount>,
    exempt: BTreeSet<Holder>,
}

/// What a payment wants data for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// What is paid.
    pub asset: Asset,
    /// How much in all, base units.
    pub amount: Amount,
    /// Above which amount data is wanted.
    pub above: Amount,
    /// To whom: each is an account number of the beneficiary.
    pub to: Vec<UncheckedAddress>,
}

impl TravelConfig {
    /// Compiles it.
    ///
    /// # Errors
    /// For the first thing in it that can't mean anything.
    pub fn compile(&self) -> Result<TravelRule, TravelError> {
        let mut rule = TravelRule::default();
        for Threshold { network, asset, above } in &self.thresholds {
            let (network, asset) = (*network, *asset);
            if !asset.exists_on(network.family()) {
                return Err(TravelError::Asset { asset, network });
            }
            if rule.thresholds.insert((network, asset), *above).is_some() {
                return Err(TravelError::Twice { asset, network });
            }
        }
        for address in &self.exempt {
            let readings: Vec<Address> = [Family::Bitcoin, Family::Ethereum, Family::Solana]
                .into_iter()
                .filter_map(|family| Holder::read(address, family))
                .collect();
            if readings.is_empty() {
                return Err(TravelError::Exempt(address.clone()));
            }
            rule.exempt.extend(readings.iter().flat_map(Holder::names));
        }
        Ok(rule)
    }
}

impl TravelRule {
    /// What a payment wants data for; `own` says which addresses are the house's.
    pub fn demand(&self, network: Network, effects: &Effects, own: impl Fn(&Address) -> bool) -> Option<Demand> {
        let mut paid: BTreeMap<Asset, (Amount, Vec<UncheckedAddress>)> = BTreeMap::new();
        for transfer in &effects.transfers {
            if own(&transfer.to) || Holder::names(&transfer.to).iter().any(|name| self.exempt.contains(name)) {
                continue;
            }
            let (sum, to) = paid.entry(transfer.asset).or_default();
            *sum = sum.checked_add(transfer.amount).unwrap_or(Amount::MAX);
            let address = UncheckedAddress::from(&transfer.to);
            if !to.contains(&address) {
                to.push(address);
            }
        }
        let wanted = paid.into_iter().filter_map(|(asset, (amount, to))| {
            let above = *self.thresholds.get(&(network, asset))?;
            (amount > above).then_some(Demand { asset, amount, above, to })
        });
        // One payment, one set of data: whoever is above any threshold is named in it.
        wanted.reduce(|mut first, other| {
            first.to.extend(other.to.into_iter().filter(|address| !first.to.contains(address)).collect::<Vec<_>>());
            first
        })
    }
}

impl Demand {
    /// The receiver that the data's beneficiary has no account number of, if there is one.
    pub fn unnamed<'d>(&'d self, data: &TravelData, network: Network) -> Option<&'d UncheckedAddress> {
        let names = |address: &UncheckedAddress| -> BTreeSet<Holder> {
            let read = address.require_network(network).ok();
            read.iter().flat_map(Holder::names).collect()
        };
        let accounts = data.payload().beneficiary.account_number.iter();
        let accounts: BTreeSet<Holder> =
            accounts.flat_map(|account| names(&UncheckedAddress::new(account.as_str()))).collect();
        self.to.iter().find(|address| names(address).is_disjoint(&accounts))
    }

    /// Whether data that named these receivers will do for it.
    pub fn is_met_for(&self, named: &[UncheckedAddress]) -> bool {
        self.to.iter().all(|address| named.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use chains::effects::Transfer;
    use serde_json::json;

    use super::*;

    const A: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
    const B: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
    const TOKEN: &str = "erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

    fn network() -> Network {
        "ethereum:1".parse().unwrap()
    }

    fn address(text: &str) -> Address {
        UncheckedAddress::new(text).require_network(network()).unwrap()
    }

    fn effects(transfers: &[(&str, &str, Amount)]) -> Effects {
        let transfer = |(asset, to, amount): &(&str, &str, Amount)| Transfer {
            asset: asset.parse().unwrap(),
            from: address(B),
            to: address(to),
            amount: *amount,
        };
        Effects { transfers: transfers.iter().map(transfer).collect(), ..Effects::default() }
    }

    fn rule(exempt: &[&str]) -> TravelRule {
        let threshold = |asset: &str, above: &str| json!({ "network": "ethereum:1", "asset": asset, "above": above });
        let thresholds = [threshold("native", "100"), threshold(TOKEN, "1000")];
        let config: TravelConfig =
            serde_json::from_value(json!({ "thresholds": thresholds, "exempt": exempt })).unwrap();
        config.compile().unwrap()
    }

    fn amount(units: u64) -> Amount {
        Amount::from_sat(units)
    }

    #[test]
    fn what_goes_to_others_is_summed_up_by_asset() {
        let nobody = |_: &Address| false;
        let wants =
            |rule: &TravelRule, transfers: &[(&str, &str, Amount)]| rule.demand(network(), &effects(transfers), nobody);
        let rule = rule(&[]);
        assert_eq!(wants(&rule, &[("native", A, amount(100))]), None);
        let demand = wants(&rule, &[("native", A, amount(60)), ("native", B, amount(41))]).unwrap();
        assert_eq!((demand.amount, demand.above, demand.to.len()), (amount(101), amount(100), 2));
        assert_eq!(wants(&rule, &[("native", A, amount(60)), (TOKEN, A, amount(1000))]), None, "each has its own");
        // Above any threshold, everybody who is above it is named.
        let both = wants(&rule, &[("native", A, amount(101)), (TOKEN, B, amount(1001))]).unwrap();
        assert_eq!(both.to, [A, B].map(UncheckedAddress::new));
        assert!(
            wants(&rule, &[("native", A, Amount::MAX), ("native", B, amount(1))]).is_some(),
            "a sum beyond 256 bits"
        );
        let elsewhere = rule.demand("ethereum:10".parse().unwrap(), &effects(&[("native", A, amount(101))]), nobody);
        assert_eq!(elsewhere, None, "a threshold is for one network");
    }

    #[test]
    fn the_house_and_the_exempt_need_none_in_any_spelling() {
        let (own, transfers) = (address(A), effects(&[("native", A, amount(101))]));
        assert_eq!(rule(&[]).demand(network(), &transfers, |address| *address == own), None);
        assert_eq!(rule(&[&A.to_lowercase()]).demand(network(), &transfers, |_| false), None);
        assert!(rule(&[B]).demand(network(), &transfers, |_| false).is_some());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let compiled = |config: serde_json::Value| serde_json::from_value::<TravelConfig>(config).unwrap().compile();
        assert!(matches!(compiled(json!({ "exempt": ["0x12"] })), Err(TravelError::Exempt(_))));
        let native = json!({ "network": "ethereum:1", "asset": "native", "above": "1" });
        let twice = compiled(json!({ "thresholds": [native.clone(), native] }));
        assert!(matches!(twice, Err(TravelError::Twice { .. })));
        let foreign = json!({ "network": "bitcoin:mainnet", "asset": TOKEN, "above": "1" });
        assert!(matches!(compiled(json!({ "thresholds": [foreign] })), Err(TravelError::Asset { .. })));
    }
}
