//! One line of the rule table: when it is for a transaction, and which of its effects it is for.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::{Account, WalletId};
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Call, ProgramCall};
use chains::ethereum::function::{Argument, Function, Place};
use serde::{Serialize, Serializer};

use super::code::CodeHash;
use super::hours::{Clock, Hours};
use super::program::ProgramForm;
use super::quorum::Quorum;
use super::{Circumstances, Selector};
use crate::roster::CredentialId;

/// Something that wallets of one network may do, may do with approval, or may not do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) wallets: BTreeSet<WalletId>,
    /// Who must have asked; anybody where it is empty.
    pub(super) initiators: BTreeSet<CredentialId>,
    /// When it holds; always without.
    pub(super) hours: Option<Hours>,
    pub(super) effect: Effect,
    /// What moves; without, anything does.
    pub(super) assets: Option<BTreeSet<Asset>>,
    /// Who receives, or may spend; without, anybody.
    pub(super) addresses: Option<BTreeSet<Address>>,
    /// What is called, and with which arguments: any of the forms.
    pub(super) calls: BTreeMap<Address, BTreeMap<Selector, Vec<Form>>>,
    /// Which instructions of which programs, and with which accounts: any of the forms.
    pub(super) programs: BTreeMap<Address, Vec<ProgramForm>>,
    pub(super) min_amount: Option<Amount>,
    pub(super) max_amount: Option<Amount>,
    pub(super) max_fee: Option<Amount>,
}

/// What follows where a rule fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    /// It may be done.
    Allow,
    /// It may be done once a quorum has approved; up to the step-up amount, at once.
    Require { quorum: Quorum, above: Option<Amount> },
    /// It may not be done, whatever other rules say.
    Deny,
}

/// The arguments that a call may have. Without constraints, any.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) function: Option<Function>,
    pub(super) constraints: Vec<Constraint>,
    /// The code that the contract must have, for who can see it.
    pub(super) code_hash: Option<CodeHash>,
}

/// What must be true of one argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constraint {
    pub(super) at: Place,
    pub(super) demand: Demand,
}

/// What is demanded of an argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Demand {
    /// It is one of these.
    OneOf(Vec<Argument>),
    /// It is the wallet's own address.
    Wallet,
    /// It is a number in this range, both ends included.
    Within { min: Option<Amount>, max: Option<Amount> },
}

impl Rule {
    /// Whether the rule is for transactions of this account under these circumstances at all.
    pub(super) fn is_for(&self, account: &Account, circumstances: &Circumstances<'_>) -> bool {
        self.wallets.contains(account.wallet())
            && (self.initiators.is_empty() || self.initiators.contains(circumstances.initiator))
            && self.hours.as_ref().is_none_or(|hours| hours.contains(circumstances.at))
    }

    /// Whether the rule holds when the clock of its hours' zone shows this.
    pub(super) fn is_open(&self, clock: Clock) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.is_open(clock))
    }

    pub(super) fn is_for_asset(&self, asset: Asset) -> bool {
        self.assets.as_ref().is_none_or(|assets| assets.contains(&asset))
    }

    pub(super) fn is_for_address(&self, address: &Address) -> bool {
        self.addresses.as_ref().is_none_or(|addresses| addresses.contains(address))
    }

    /// Whether the rule names the contract with this function.
    pub(super) fn names_call(&self, call: &Call) -> bool {
        self.forms(call).is_some()
    }

    /// Whether the rule names the contract with this function and these arguments. What can't be read is permitted by none that
    /// looks at it, and denied by each.
    pub(super) fn is_for_call(&self, account: &Account, call: &Call) -> bool {
        self.forms(call).is_some_and(|forms| forms.iter().any(|form| form.fits(account, call).unwrap_or(self.denies())))
    }

    /// The code that each form of the rule which permits the call wants of the contract; none where any will do.
    pub(super) fn code_of(&self, account: &Account, call: &Call) -> Vec<Option<CodeHash>> {
        let forms = self.forms(call).into_iter().flatten();
        let forms = forms.filter(|form| form.fits(account, call).unwrap_or(self.denies()));
        forms.map(|form| form.code_hash).collect()
    }

    /// Whether the rule names the program with this instruction.
    pub(super) fn names_program(&self, call: &ProgramCall) -> bool {
        self.programs_of(call).any(|form| form.names(call))
    }

    /// Whether the rule names the program with this instruction and these accounts. A rule that denies minds no others: a program
    /// doesn't, either, and whoever asks could add one.
    pub(super) fn is_for_program(&self, account: &Account, call: &ProgramCall) -> bool {
        self.programs_of(call).any(|form| form.fits(account, call) && (self.denies() || form.has_only_mentioned(call)))
    }

    fn programs_of(&self, call: &ProgramCall) -> impl Iterator<Item = &ProgramForm> {
        self.programs.get(&Address::Solana(call.program)).into_iter().flatten()
    }

    fn forms(&self, call: &Call) -> Option<&Vec<Form>> {
        self.calls.get(&Address::Ethereum(call.contract))?.get(&Selector(call.selector.0))
    }

    /// The quorum that a payment of `amount` needs under this rule; none where it needs nobody.
    pub(super) fn quorum(&self, amount: Amount) -> Option<&Quorum> {
        match &self.effect {
            Effect::Require { quorum, above } if above.is_none_or(|above| amount > above) => Some(quorum),
            _ => None,
        }
    }

    pub(super) fn denies(&self) -> bool {
        self.effect == Effect::Deny
    }

    /// Whether it names no contract and no program: such a denying rule is for payments and allowances.
    pub(super) fn names_no_call(&self) -> bool {
        self.calls.is_empty() && self.programs.is_empty()
    }

    /// Whether it denies whatever a transaction does, because it names nothing.
    pub(super) fn denies_anything(&self) -> bool {
        self.denies()
            && self.names_no_call()
            && self.assets.is_none()
            && self.addresses.is_none()
            && self.min_amount.is_none()
    }
}

impl Form {
    /// Whether every call of the function fits, even one whose arguments can't be read.
    pub(super) fn takes_any_arguments(&self) -> bool {
        self.function.is_none() || self.constraints.is_empty()
    }

    /// The first place of the function's arguments that one of some values is demanded of, with these; none where there is none.
    pub(super) fn demanded_values(&self) -> Option<(&Function, &Place, &[Argument])> {
        let function = self.function.as_ref()?;
        self.constraints.iter().find_map(|constraint| match &constraint.demand {
            Demand::OneOf(values) => Some((function, &constraint.at, values.as_slice())),
            Demand::Wallet | Demand::Within { .. } => None,
        })
    }

    /// Whether a call has the arguments that are demanded; `None` where they can't be read: a contract may read them all the
    /// same, as one that Solidity compiled passes over whatever follows them.
    fn fits(&self, account: &Account, call: &Call) -> Option<bool> {
        let Some(function) = self.function.as_ref().filter(|_| !self.takes_any_arguments()) else { return Some(true) };
        let arguments = function.arguments(&call.arguments).ok()?;
        Some(self.constraints.iter().all(|constraint| {
            Argument::at(&arguments, &constraint.at).is_some_and(|found| constraint.demand.is_met(account, &found))
        }))
    }
}

impl Demand {
    fn is_met(&self, account: &Account, found: &Argument) -> bool {
        match self {
            Self::OneOf(wanted) => wanted.contains(found),
            Self::Wallet => found.as_address().map(Address::Ethereum).as_ref() == Some(account.address()),
            Self::Within { min, max } => found
                .as_uint()
                .is_some_and(|value| min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max)),
        }
    }
}

impl Serialize for Form {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A digest's input: whatever differs must read differently.
        match &self.code_hash {
            None => serializer.collect_str(&format_args!("{:?} {:?}", self.function, self.constraints)),
            Some(code) => serializer.collect_str(&format_args!("{:?} {:?} {code}", self.function, self.constraints)),
        }
    }
}
