//! What may be signed: a pure function from a policy and the decoded effects of a transaction to a verdict.
//!
//! Deny wins, and what no rule allows is denied. The gateway evaluates it so that clients get a quick and well-explained
//! answer; every signer evaluates its own copy again before it takes part.
//!
//! - [`config`]: the policy as people write it, and its compilation;
//! - [`limit`]: how much and how often over time; what a transaction draws is said here and counted by the caller;
//! - `denylist`: addresses that nothing may touch, under every spelling of the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use chains::account::{Account, WalletId};
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Transfer};
use serde::{Deserialize, Serialize};

pub mod config;
mod denylist;
pub mod limit;

pub use config::{ContractConfig, PolicyConfig, PolicyError, RuleConfig};
use denylist::Denylist;
use limit::{Draw, Limit};

use crate::roster::CredentialId;

/// A compiled policy: every address in it was parsed for the network that it is for. Made by [`PolicyConfig::compile`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Policy {
    denied: Denylist,
    rules: Vec<Rule>,
    limits: Vec<Limit>,
}

/// Something that wallets of one network may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Rule {
    id: String,
    wallets: BTreeSet<WalletId>,
    assets: BTreeSet<Asset>,
    addresses: BTreeSet<Address>,
    contracts: BTreeMap<Address, BTreeSet<Selector>>,
    max_amount: Option<Amount>,
    max_fee: Option<Amount>,
}

/// The four bytes that name a contract's function: the beginning of the Keccak-256 of its signature, `0xa9059cbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Selector([u8; 4]);

/// A string that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no function selector; write 0x and 8 hexadecimal digits")]
pub struct SelectorError(String);

/// What the policy says to a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[must_use]
pub enum Verdict {
    /// Every effect is permitted by some rule of the wallet.
    Allow {
        /// The rule that permits the first effect.
        rule: String,
        /// What it draws on the counters of the limits. It may be signed only where that fits under every cap and has
        /// been recorded.
        draws: Vec<Draw>,
    },
    /// Something is denied, or permitted by no rule.
    Deny {
        /// The rule that came nearest, where one did.
        rule: Option<String>,
        /// Why.
        reason: Denial,
    },
}

/// Why a transaction is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Denial {
    /// A party is on the denylist.
    #[error("{address} is a denied address")]
    DeniedAddress {
        /// As the transaction spells it.
        address: Address,
    },
    /// The wallet is in no rule.
    #[error("no rule is for wallet {wallet}")]
    NoRule {
        /// The wallet that would pay.
        wallet: WalletId,
    },
    /// The bytes pay nobody, call nothing and grant nothing, so there is nothing that a rule could permit.
    #[error("the transaction does nothing that a rule could permit")]
    NoEffect,
    /// Upkeep of the wallet, a cancelling transaction for one, may pay nobody, call nothing and grant nothing.
    #[error("the transaction does more than upkeep of the wallet may")]
    NotUpkeep,
    /// No rule of the wallet is for the asset.
    #[error("no rule lets this wallet move {asset}")]
    UnlistedAsset {
        /// What would move.
        asset: Asset,
    },
    /// No rule of the wallet that is for the asset names the receiver or spender.
    #[error("no rule lets this wallet pay {asset} to {address}")]
    UnlistedAddress {
        /// Who would receive or could spend.
        address: Address,
        /// What.
        asset: Asset,
    },
    /// No rule of the wallet names the contract with this function.
    #[error("no rule lets this wallet call {selector} of {contract}")]
    UnlistedContract {
        /// The contract.
        contract: Address,
        /// The function.
        selector: Selector,
    },
    /// More than any rule for asset and receiver permits at once.
    #[error("{amount} of {asset} is above the limit of {limit}")]
    AboveLimit {
        /// What would move.
        asset: Asset,
        /// How much, in base units.
        amount: Amount,
        /// The highest limit, in base units.
        limit: Amount,
    },
    /// The fee may be higher than any rule for the effect permits.
    #[error("the fee may be {fee}, above the limit of {limit}")]
    AboveFeeLimit {
        /// The most that the transaction can cost, native base units.
        fee: Amount,
        /// The highest limit, native base units.
        limit: Amount,
    },
    /// An allowance of 2^128 base units or more: unlimited in all but name.
    #[error("{spender} could spend all {asset}; approve the amount that is needed")]
    UnlimitedAllowance {
        /// What could be spent.
        asset: Asset,
        /// By whom.
        spender: Address,
    },
    /// Together with what its window holds already, more than a limit permits.
    #[error("limit {limit} permits {max_amount} within its window, of which {used} is used; {amount} is too much")]
    AboveVelocity {
        /// The limit.
        limit: String,
        /// What the window holds, in base units.
        used: Amount,
        /// What the transaction would draw, in base units.
        amount: Amount,
        /// The most that the window may hold, in base units.
        max_amount: Amount,
    },
    /// One payment more than a limit permits.
    #[error("limit {limit} permits {max_count} payments within its window, of which {used} are used")]
    AboveCount {
        /// The limit.
        limit: String,
        /// The payments that the window holds.
        used: u64,
        /// The most that it may hold.
        max_count: u64,
    },
    /// It spends from somebody else, and no permitted call of the asset's contract covers that.
    #[error("it would spend {asset} of {from}, which isn't this wallet")]
    ForeignFunds {
        /// Who would pay.
        from: Address,
        /// What.
        asset: Asset,
    },
}

/// Judges what a transaction of `account` does, for which the credential `initiator` asked.
///
/// Denied addresses come first, the wallet's own included. Then every single effect must be permitted by some rule of the
/// wallet: a transfer and an allowance by asset, address and amount; a call by contract and selector.
///
/// It keeps no count of what was paid before: an allowed transaction comes with its draws, for the caller's counters.
pub fn evaluate(policy: &Policy, account: &Account, initiator: &CredentialId, effects: &Effects) -> Verdict {
    match evaluate_rules(policy, account, effects) {
        Verdict::Allow { rule, .. } => {
            Verdict::Allow { rule, draws: limit::draws(&policy.limits, account, initiator, effects) }
        }
        denied @ Verdict::Deny { .. } => denied,
    }
}

/// The same by denylist and rules alone, without draws.
fn evaluate_rules(policy: &Policy, account: &Account, effects: &Effects) -> Verdict {
    let denied = policy.denied.find(account.address()).or_else(|| screen(policy, effects));
    if let Some(address) = denied {
        return Verdict::Deny { rule: None, reason: Denial::DeniedAddress { address } };
    }
    let rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.wallets.contains(account.wallet())).collect();
    if rules.is_empty() {
        return Verdict::Deny { rule: None, reason: Denial::NoRule { wallet: account.wallet().clone() } };
    }
    let desk = Desk { rules, account, effects };
    match desk.permit_all() {
        Ok(Some(rule)) => Verdict::Allow { rule: rule.id.clone(), draws: Vec::new() },
        Ok(None) => Verdict::Deny { rule: None, reason: Denial::NoEffect },
        Err(Refused { nearest, reason }) => Verdict::Deny { rule: nearest.map(|rule| rule.id.clone()), reason },
    }
}

/// Judges a transaction of `account` that only looks after the wallet: it pays nobody, calls nothing and grants nothing, and
/// keeps another transaction off the chain or hurries it on.
///
/// Denied addresses come first. Then some rule of the wallet must admit the fee; whom and what the rule is for doesn't matter,
/// because nothing moves.
pub fn evaluate_upkeep(policy: &Policy, account: &Account, effects: &Effects) -> Verdict {
    let denied = policy.denied.find(account.address()).or_else(|| screen(policy, effects));
    if let Some(address) = denied {
        return Verdict::Deny { rule: None, reason: Denial::DeniedAddress { address } };
    }
    if !(effects.transfers.is_empty() && effects.allowances.is_empty() && effects.calls.is_empty()) {
        return Verdict::Deny { rule: None, reason: Denial::NotUpkeep };
    }
    let rules: Vec<&Rule> = policy.rules.iter().filter(|rule| rule.wallets.contains(account.wallet())).collect();
    if rules.is_empty() {
        return Verdict::Deny { rule: None, reason: Denial::NoRule { wallet: account.wallet().clone() } };
    }
    let desk = Desk { rules: rules.clone(), account, effects };
    match desk.within_fee(&rules) {
        Ok(rule) => Verdict::Allow { rule: rule.id.clone(), draws: Vec::new() },
        Err(Refused { nearest, reason }) => Verdict::Deny { rule: nearest.map(|rule| rule.id.clone()), reason },
    }
}

/// The first party of the effects that is on the denylist, if any is.
pub fn screen(policy: &Policy, effects: &Effects) -> Option<Address> {
    effects.parties().find_map(|address| policy.denied.find(&address))
}

/// The rules of one wallet over the effects of one transaction.
struct Desk<'a> {
    rules: Vec<&'a Rule>,
    account: &'a Account,
    effects: &'a Effects,
}

struct Refused<'a> {
    nearest: Option<&'a Rule>,
    reason: Denial,
}

type Permit<'a> = Result<&'a Rule, Refused<'a>>;

impl<'a> Desk<'a> {
    /// The rule that permits the first effect, where every effect has one.
    fn permit_all(&self) -> Result<Option<&'a Rule>, Refused<'a>> {
        let transfers = self.effects.transfers.iter().map(|transfer| self.transfer(transfer));
        let allowances = self.effects.allowances.iter().map(|allowance| self.allowance(allowance));
        let calls = self.effects.calls.iter().map(|call| self.call(call));
        let permits = transfers.chain(allowances).chain(calls).collect::<Result<Vec<_>, _>>()?;
        Ok(permits.first().copied())
    }

    fn transfer(&self, transfer: &Transfer) -> Permit<'a> {
        if transfer.from != *self.account.address() && !self.covers(transfer.asset) {
            let reason = Denial::ForeignFunds { from: transfer.from.clone(), asset: transfer.asset };
            return Err(Refused { nearest: None, reason });
        }
        self.payment(transfer.asset, &transfer.to, transfer.amount)
    }

    fn allowance(&self, allowance: &Allowance) -> Permit<'a> {
        let rule = self.payment(allowance.asset, &allowance.spender, allowance.amount)?;
        if allowance.amount.to_u128().is_none() {
            let reason = Denial::UnlimitedAllowance { asset: allowance.asset, spender: allowance.spender.clone() };
            return Err(Refused { nearest: Some(rule), reason });
        }
        Ok(rule)
    }

    fn call(&self, call: &Call) -> Permit<'a> {
        let contract = Address::Ethereum(call.contract);
        let selector = Selector(call.selector.0);
        let listed = |rule: &&&Rule| rule.contracts.get(&contract).is_some_and(|known| known.contains(&selector));
        let rules: Vec<&Rule> = self.rules.iter().filter(listed).copied().collect();
        if rules.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedContract { contract, selector } });
        }
        self.within_fee(&rules)
    }

    /// Whether a permitted call of the asset's own contract explains that the asset moves.
    fn covers(&self, asset: Asset) -> bool {
        self.effects.calls.iter().any(|call| Asset::Erc20(call.contract) == asset && self.call(call).is_ok())
    }

    fn payment(&self, asset: Asset, to: &Address, amount: Amount) -> Permit<'a> {
        let mut rules = self.rules.clone();
        rules.retain(|rule| rule.assets.contains(&asset));
        if rules.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAsset { asset } });
        }
        rules.retain(|rule| rule.addresses.contains(to));
        if rules.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAddress { address: to.clone(), asset } });
        }
        let over = highest(&rules, |rule| rule.max_amount);
        rules.retain(|rule| rule.max_amount.is_none_or(|limit| amount <= limit));
        match over {
            Some((nearest, limit)) if rules.is_empty() => {
                Err(Refused { nearest: Some(nearest), reason: Denial::AboveLimit { asset, amount, limit } })
            }
            _ => self.within_fee(&rules),
        }
    }

    /// The first of some rules that each permit an effect, and the transaction's fee as well.
    fn within_fee(&self, rules: &[&'a Rule]) -> Permit<'a> {
        let fee = self.effects.max_fee;
        let within = rules.iter().find(|rule| rule.max_fee.is_none_or(|limit| fee <= limit));
        within.copied().ok_or_else(|| {
            let (nearest, limit) = highest(rules, |rule| rule.max_fee).unzip();
            Refused { nearest, reason: Denial::AboveFeeLimit { fee, limit: limit.unwrap_or_default() } }
        })
    }
}

/// The rule with the highest of the limits that there are.
fn highest<'a>(rules: &[&'a Rule], limit: impl Fn(&Rule) -> Option<Amount>) -> Option<(&'a Rule, Amount)> {
    rules.iter().filter_map(|rule| Some((*rule, limit(rule)?))).max_by_key(|(_, limit)| *limit)
}

impl Denial {
    /// Which of the denials it is, as its JSON's `kind` says it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DeniedAddress { .. } => "denied_address",
            Self::NoRule { .. } => "no_rule",
            Self::NoEffect => "no_effect",
            Self::NotUpkeep => "not_upkeep",
            Self::UnlistedAsset { .. } => "unlisted_asset",
            Self::UnlistedAddress { .. } => "unlisted_address",
            Self::UnlistedContract { .. } => "unlisted_contract",
            Self::AboveLimit { .. } => "above_limit",
            Self::AboveFeeLimit { .. } => "above_fee_limit",
            Self::UnlimitedAllowance { .. } => "unlimited_allowance",
            Self::AboveVelocity { .. } => "above_velocity",
            Self::AboveCount { .. } => "above_count",
            Self::ForeignFunds { .. } => "foreign_funds",
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut bytes = [0; 4];
        let digits = text.strip_prefix("0x").unwrap_or_default();
        hex::decode_to_slice(digits, &mut bytes)
            .map(|()| Self(bytes))
            .map_err(|_| SelectorError(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}
