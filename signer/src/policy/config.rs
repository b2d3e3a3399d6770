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
//! require = "2 of finance and 1 of cfo"
//! require_above = "1000000000"
//! ```

mod error;

use std::collections::{BTreeMap, BTreeSet};

use chains::account::WalletId;
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::ethereum::function::{Function, FunctionError, Place, PlaceError};
use chains::holder::Holder;
use chains::network::{Family, Network};
use serde::{Deserialize, Serialize};

use super::age::RequestLifetime;
use super::change::ChangesConfig;
use super::code::CodeHash;
use super::denylist::Denylist;
use super::document::Document;
use super::hours::HoursConfig;
use super::limit::{Limit, LimitConfig, LimitError};
use super::program::{ProgramConfig, ProgramForm};
use super::quorum::Quorum;
use super::rule::{Constraint, Demand, Effect, Form, Rule};
use super::table::{self, TableConfig};
use super::{Policy, Selector};
use crate::roster::CredentialId;

pub use error::PolicyError;

/// The policy's section of a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Addresses that nothing may touch, of any chain that a wallet is on. They beat every rule.
    #[serde(default)]
    pub denied_addresses: Vec<UncheckedAddress>,
    /// Whether calls wait where no node can try them before they are signed. Nodes are asked in any case, and what they say
    /// against a call counts; only whoever asks a node can hold this, so signers don't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub require_simulation: bool,
    /// How long after it was signed a request may first be agreed to. What waits longer for approvals, or for anything else, is
    /// refused.
    #[serde(default, rename = "request_lifetime_hours", skip_serializing_if = "RequestLifetime::is_default")]
    pub request_lifetime: RequestLifetime,
    /// Wallets that pay as legs of deals alone, delivery versus payment (`otc_open`), whatever their rules allow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deals_only: BTreeSet<WalletId>,
    /// Addresses under a name, for rules to name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counterparties: Vec<CounterpartyConfig>,
    /// Address lookup tables that messages on Solana may read, and what stands in them. No other is read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookup_tables: Vec<TableConfig>,
    /// What wallets may do. What no rule allows is denied.
    #[serde(default)]
    pub rules: Vec<RuleConfig>,
    /// How much and how often, over time. What no limit is for is bounded by the rules alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitConfig>,
    /// Who may change the policy while it is in force, and how long that takes; nobody may but in the files, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<ChangesConfig>,
}

/// A counterparty and its addresses, of any of the chains that wallets are on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CounterpartyConfig {
    /// Its name.
    pub id: String,
    /// Its addresses.
    pub addresses: Vec<UncheckedAddress>,
}

/// One thing that wallets of one network may do, or may not do.
///
/// What an allowing rule leaves out, it doesn't allow: without addresses nobody is paid. What a denying rule leaves out, it
/// denies in every form: without addresses nobody may be paid what it names. So it is with what can't be read: arguments that
/// aren't the one canonical encoding of their function's types are allowed by no rule that looks at them, and denied by each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, which verdicts give.
    pub id: String,
    /// Whether it allows or denies. A denying rule beats every allowing one.
    #[serde(default)]
    pub effect: EffectConfig,
    /// The wallets that it is for, all of one network.
    pub wallets: Vec<WalletId>,
    /// The credentials whose requests it is for; all, where it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initiators: Vec<CredentialId>,
    /// When it holds, by the clock of whoever judges; always, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<HoursConfig>,
    /// What may move: the chain's own coin, unless others are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<Vec<Asset>>,
    /// Who may receive it, and who may be given an allowance of it.
    #[serde(default)]
    pub addresses: Vec<UncheckedAddress>,
    /// The counterparties whose addresses on the wallets' network are meant, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counterparties: Vec<String>,
    /// What may be called.
    #[serde(default)]
    pub contracts: Vec<ContractConfig>,
    /// Which instructions of Solana programs may be used. Those whose effects are known, payments and allowances of the token
    /// programs, need no mention here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<ProgramConfig>,
    /// The least per transfer or allowance that it is for, in base units of the rule's one asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_amount: Option<Amount>,
    /// The most per transfer or allowance, in base units of the rule's one asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_amount: Option<Amount>,
    /// The most that a transaction may cost, in native base units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fee: Option<Amount>,
    /// Who has to approve: `2 of finance and 1 of cfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<Quorum>,
    /// Up to this amount per transfer or allowance nobody has to approve, in base units of the rule's one asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_above: Option<Amount>,
}

/// Whether a rule allows or denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectConfig {
    /// It allows, with the approval that it requires.
    #[default]
    Allow,
    /// It denies.
    Deny,
}

/// Functions of one contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractConfig {
    /// The contract.
    pub address: UncheckedAddress,
    /// The Keccak-256 of the code that it must have; any, if left out. The gateway asks a node before it has a call signed;
    /// signers can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_hash: Option<CodeHash>,
    /// The functions that may be called with any arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selectors: Vec<Selector>,
    /// The functions whose arguments matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionConfig>,
}

/// A function, and what its arguments must be. Where one is named several times, any of the forms will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionConfig {
    /// `transfer(address,uint256)`. Left out where the function is looked up in `abi_file`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signature: String,
    /// A contract's ABI, or a compiler's artifact that has one, as JSON; read where the configuration is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abi_file: Option<String>,
    /// The function's name in the ABI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What must be true of its arguments, all of it.
    #[serde(default)]
    pub arguments: Vec<ArgumentConfig>,
}

/// What must be true of one argument: one of `one_of`, `wallet`, or `min` and `max`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgumentConfig {
    /// Where it is: `0` for the first, `1.3` for the fourth member of the second.
    pub at: String,
    /// It is one of these values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// It is the wallet's own address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wallet: bool,
    /// It is at least this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Amount>,
    /// It is at most this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
}

impl PolicyConfig {
    /// Puts what a rule's files say into the rule: signatures for functions that an ABI names, discriminators for instructions
    /// that an IDL names. `read` gets the text of a file by the name that the rule gives.
    ///
    /// # Errors
    /// [`PolicyError`], for the first file that can't be read or doesn't have what the rule wants of it.
    pub fn read_files(&mut self, mut read: impl FnMut(&str) -> Result<String, String>) -> Result<(), PolicyError> {
        for rule in &mut self.rules {
            for program in &mut rule.programs {
                let fault = |reason| PolicyError::Programs { rule: rule.id.clone(), reason };
                program.look_up(&mut read).map_err(fault)?;
            }
            for function in rule.contracts.iter_mut().flat_map(|contract| &mut contract.functions) {
                let fault = |reason| PolicyError::Function { rule: rule.id.clone(), reason };
                function.look_up(&mut read).map_err(fault)?;
            }
        }
        Ok(())
    }

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
        let mut names = BTreeSet::new();
        for CounterpartyConfig { id, addresses } in &self.counterparties {
            let reads =
                |address: &UncheckedAddress| families.iter().any(|family| Holder::read(address, *family).is_some());
            if id.trim().is_empty() || !names.insert(id) || addresses.is_empty() || !addresses.iter().all(reads) {
                return Err(PolicyError::Counterparty(id.clone()));
            }
        }
        let compile = |rule: &RuleConfig| rule.compile(wallets, &self.counterparties);
        let rules = self.rules.iter().map(compile).collect::<Result<_, _>>()?;
        let policy = Policy::new(denied, rules, self.compile_limits(wallets)?);
        let (changes, document) = (self.changes.clone(), Document::of(self));
        let deals_only = self.deals_only.clone();
        if let Some(unknown) = deals_only.iter().find(|wallet| !wallets.contains_key(*wallet)) {
            return Err(PolicyError::DealsOnly(unknown.clone()));
        }
        let tables = table::compile(&self.lookup_tables, wallets)
            .map_err(|(table, reason)| PolicyError::LookupTable { table, reason })?;
        let (require_simulation, lifetime) = (self.require_simulation, self.request_lifetime);
        Ok(Policy { changes, document, deals_only, tables, require_simulation, lifetime, ..policy })
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
    fn compile(
        &self,
        wallets: &BTreeMap<WalletId, Network>,
        counterparties: &[CounterpartyConfig],
    ) -> Result<Rule, PolicyError> {
        let id = || self.id.clone();
        let network = self.network(wallets)?;
        let denies = self.effect == EffectConfig::Deny;
        let assets = match &self.assets {
            None if denies => None,
            None => Some(BTreeSet::from([Asset::Native])),
            Some(assets) => Some(assets.iter().copied().collect::<BTreeSet<_>>()),
        };
        if let Some(asset) = assets.iter().flatten().find(|asset| !asset.exists_on(network.family())) {
            return Err(PolicyError::Asset { rule: id(), asset: *asset, network });
        }
        let one_asset = assets.as_ref().is_some_and(|assets| assets.len() <= 1);
        let amounts = [self.min_amount, self.max_amount, self.require_above];
        if amounts.iter().any(Option::is_some) && !one_asset {
            return Err(PolicyError::LimitOfMany { rule: id() });
        }
        if let (Some(least), Some(most)) = (self.min_amount, self.max_amount)
            && least > most
        {
            return Err(PolicyError::Range { rule: id() });
        }
        let addresses = self.all_addresses(network, counterparties)?;
        Ok(Rule {
            id: id(),
            wallets: self.wallets.iter().cloned().collect(),
            initiators: self.initiators.iter().cloned().collect(),
            hours: self
                .hours
                .as_ref()
                .map(|hours| hours.compile().map_err(|source| PolicyError::Hours { rule: id(), source }))
                .transpose()?,
            effect: self.compile_effect()?,
            assets,
            addresses: if denies && addresses.is_empty() { None } else { Some(addresses) },
            calls: self.calls(network)?,
            programs: self.programs(network)?,
            min_amount: self.min_amount,
            max_amount: self.max_amount,
            max_fee: self.max_fee,
        })
    }

    fn compile_effect(&self) -> Result<Effect, PolicyError> {
        let rule = || self.id.clone();
        match (self.effect, &self.require) {
            (EffectConfig::Deny, None) if self.max_amount.or(self.max_fee).or(self.require_above).is_none() => {
                Ok(Effect::Deny)
            }
            (EffectConfig::Deny, _) => Err(PolicyError::Deny { rule: rule() }),
            (EffectConfig::Allow, None) if self.require_above.is_some() => Err(PolicyError::StepUp { rule: rule() }),
            (EffectConfig::Allow, None) => Ok(Effect::Allow),
            (EffectConfig::Allow, Some(quorum)) => {
                Ok(Effect::Require { quorum: quorum.clone(), above: self.require_above })
            }
        }
    }

    /// The rule's own addresses, and those of its counterparties on the network.
    fn all_addresses(
        &self,
        network: Network,
        counterparties: &[CounterpartyConfig],
    ) -> Result<BTreeSet<Address>, PolicyError> {
        let mut addresses = BTreeSet::new();
        for unchecked in &self.addresses {
            addresses.insert(self.address(network, unchecked)?);
        }
        for name in &self.counterparties {
            let known = counterparties.iter().find(|counterparty| counterparty.id == *name);
            let here = known.iter().flat_map(|known| &known.addresses);
            let here: Vec<Address> = here.filter_map(|address| address.require_network(network).ok()).collect();
            if here.is_empty() {
                let (rule, counterparty) = (self.id.clone(), name.clone());
                return Err(PolicyError::UnknownCounterparty { rule, counterparty, network });
            }
            addresses.extend(here);
        }
        Ok(addresses)
    }

    fn address(&self, network: Network, unchecked: &UncheckedAddress) -> Result<Address, PolicyError> {
        let rule = || self.id.clone();
        unchecked.require_network(network).map_err(|source| PolicyError::Address { rule: rule(), source })
    }

    fn calls(&self, network: Network) -> Result<BTreeMap<Address, BTreeMap<Selector, Vec<Form>>>, PolicyError> {
        let mut calls: BTreeMap<Address, BTreeMap<Selector, Vec<Form>>> = BTreeMap::new();
        for contract in &self.contracts {
            let nothing = contract.selectors.is_empty() && contract.functions.is_empty();
            if network.family() != Family::Ethereum || nothing {
                return Err(PolicyError::Contracts { rule: self.id.clone() });
            }
            let functions = calls.entry(self.address(network, &contract.address)?).or_default();
            for selector in &contract.selectors {
                functions.entry(*selector).or_default().push(Form {
                    function: None,
                    constraints: Vec::new(),
                    code_hash: contract.code_hash,
                });
            }
            for function in &contract.functions {
                let (selector, form) =
                    function.compile().map_err(|reason| PolicyError::Function { rule: self.id.clone(), reason })?;
                functions.entry(selector).or_default().push(Form { code_hash: contract.code_hash, ..form });
            }
        }
        Ok(calls)
    }

    fn programs(&self, network: Network) -> Result<BTreeMap<Address, Vec<ProgramForm>>, PolicyError> {
        let mut programs: BTreeMap<Address, Vec<ProgramForm>> = BTreeMap::new();
        for config in &self.programs {
            let fault = |reason| PolicyError::Programs { rule: self.id.clone(), reason };
            let forms = config.compile(network).map_err(fault)?;
            programs.entry(self.address(network, &config.address)?).or_default().extend(forms);
        }
        Ok(programs)
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

impl FunctionConfig {
    /// Looks the function up in the ABI, which `read` reads; nothing is left of either.
    fn look_up(&mut self, read: &mut dyn FnMut(&str) -> Result<String, String>) -> Result<(), String> {
        match (self.abi_file.take(), self.name.take()) {
            (None, None) => Ok(()),
            (Some(file), Some(name)) if self.signature.is_empty() => {
                let found = Function::of_abi(&read(&file)?, &name).map_err(|why| format!("{file}: {why}"))?;
                self.signature = found.to_string();
                Ok(())
            }
            _ => Err("name a function by its signature, or by abi_file and name".to_owned()),
        }
    }

    fn compile(&self) -> Result<(Selector, Form), String> {
        if self.abi_file.is_some() || self.name.is_some() {
            return Err("an ABI is read from a configuration file; write the function's signature here".to_owned());
        }
        let function: Function = self.signature.parse().map_err(|error: FunctionError| error.to_string())?;
        let constraints = self.arguments.iter().map(|argument| argument.compile(&function));
        let constraints = constraints.collect::<Result<_, _>>()?;
        Ok((Selector(function.selector()), Form { function: Some(function), constraints, code_hash: None }))
    }
}

impl ArgumentConfig {
    fn compile(&self, function: &Function) -> Result<Constraint, String> {
        let at: Place = self.at.parse().map_err(|error: PlaceError| error.to_string())?;
        let Some(kind) = function.type_at(&at) else {
            return Err(format!("{function} has no argument at {at}"));
        };
        let range = self.min.is_some() || self.max.is_some();
        let demand = match (self.one_of.as_slice(), self.wallet, range) {
            ([_, ..], false, false) => {
                let read = |text: &String| {
                    kind.read(text).ok_or_else(|| format!("{text:?} is no value of the argument at {at} of {function}"))
                };
                Demand::OneOf(self.one_of.iter().map(read).collect::<Result<_, _>>()?)
            }
            ([], true, false) if kind.is_address() => Demand::Wallet,
            ([], false, true) if kind.is_uint() => Demand::Within { min: self.min, max: self.max },
            _ => {
                return Err(format!(
                    "say of the argument at {at} of {function} one thing: one_of, of an address wallet, of a number min \
                     and max"
                ));
            }
        };
        Ok(Constraint { at, demand })
    }
}
