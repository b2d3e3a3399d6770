//! Where in the rule table to look: by wallet, by who asks, by asset, address, function and program, the rules that can be meant,
//! as places in the table.
//!
//! It follows from the rules, is no part of what a policy says, and decides nothing: the rules that it has for a key are those that
//! a scan of the table with the [`Rule`]'s own predicate finds, in the same order. So a verdict takes its time for the rules that are
//! for its effects, and not for all that the wallet has.

use std::collections::BTreeMap;
use std::sync::Arc;

use chains::account::WalletId;
use chains::address::Address;
use chains::asset::Asset;
use chains::effects::{Call, Effects, ProgramCall};
use chains::ethereum::function::{Argument, Function, Place};

use super::Selector;
use super::rule::{Form, Rule};
use crate::roster::CredentialId;

mod places;

pub(super) use places::Places;

/// The places of a table's rules, by what the rules name.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(Arc<Keys>);

#[derive(Debug, Default)]
struct Keys {
    wallets: Keyed<WalletId>,
    initiators: Keyed<CredentialId>,
    assets: Keyed<Asset>,
    addresses: Keyed<Address>,
    functions: BTreeMap<(Address, Selector), Callers>,
    programs: Keyed<Address>,
    /// The rules that hold at some hours only, by the zone of these.
    zones: BTreeMap<String, Places>,
    denying: Places,
    /// The rules that name no contract and no program.
    naming_no_call: Places,
    /// The rules that deny anything whatever.
    denying_anything: Places,
}

/// Rules by something that they name.
#[derive(Debug)]
struct Keyed<K> {
    naming: BTreeMap<K, Places>,
    /// The rules that are for any.
    any: Places,
}

/// The rules that name a function, by what they demand of its arguments.
#[derive(Debug, Default)]
struct Callers {
    all: Places,
    /// Those that don't mind the arguments.
    free: Places,
    /// Those that don't demand one of some values, whichever form is looked at.
    open: Places,
    /// Those that do.
    bound: Vec<Bound>,
}

/// Rules that demand values at a place of a function's arguments.
#[derive(Debug)]
struct Bound {
    function: Function,
    at: Place,
    /// The rules by the values, as they are encoded.
    values: BTreeMap<Vec<u8>, Places>,
    /// Those of them that deny: they are for arguments that can't be read, too.
    denying: Places,
}

impl Index {
    /// The index of a table.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut keys = Keys::default();
        rules.iter().enumerate().for_each(|(place, rule)| keys.add(place, rule));
        Self(Arc::new(keys))
    }

    /// The rules of a wallet.
    pub(super) fn of_wallet(&self, wallet: &WalletId) -> Places {
        self.0.wallets.naming.get(wallet).cloned().unwrap_or_default()
    }

    /// Of these rules, those that are for who asks.
    pub(super) fn for_initiator(&self, places: &Places, initiator: &CredentialId) -> Places {
        self.0.initiators.narrow(places, initiator)
    }

    /// Of these rules, those that don't hold at all times, each zone's for themselves.
    pub(super) fn timed(&self, places: &Places) -> impl Iterator<Item = Places> {
        self.0.zones.values().map(|timed| places.and(timed)).filter(|timed| !timed.is_empty())
    }

    /// Of these rules, those that deny, and those that don't.
    pub(super) fn by_effect(&self, places: &Places) -> (Places, Places) {
        (places.and(&self.0.denying), places.without(&self.0.denying))
    }

    /// Of these rules, those that are for an asset.
    pub(super) fn for_asset(&self, places: &Places, asset: Asset) -> Places {
        self.0.assets.narrow(places, &asset)
    }

    /// Of these rules, those that are for an address.
    pub(super) fn for_address(&self, places: &Places, address: &Address) -> Places {
        self.0.addresses.narrow(places, address)
    }

    /// Of these rules, those that name an address.
    pub(super) fn naming_address(&self, places: &Places, address: &Address) -> Places {
        self.0.addresses.naming(places, address)
    }

    /// Of these rules, those that name a call's contract with its function.
    pub(super) fn naming_call(&self, places: &Places, call: &Call) -> Places {
        self.callers(call).map(|callers| places.and(&callers.all)).unwrap_or_default()
    }

    /// Of these rules, those that name a call's contract with its function and don't mind the arguments.
    pub(super) fn naming_call_with_any_arguments(&self, places: &Places, call: &Call) -> Places {
        self.callers(call).map(|callers| places.and(&callers.free)).unwrap_or_default()
    }

    /// Of these rules, those that may be for a call, by its arguments. No other one is.
    pub(super) fn fitting_call(&self, places: &Places, call: &Call) -> Places {
        let callers = self.callers(call).filter(|_| !places.is_empty());
        let Some(Callers { open, bound, .. }) = callers else { return Places::default() };
        let fitting = bound.iter().filter_map(|bound| bound.demanding(call));
        places.and(&fitting.fold(open.clone(), |all, some| all.or(some)))
    }

    fn callers(&self, call: &Call) -> Option<&Callers> {
        self.0.functions.get(&(Address::Ethereum(call.contract), Selector(call.selector.0)))
    }

    /// Of these rules, those that name a call's program, by whichever instruction.
    pub(super) fn naming_program(&self, places: &Places, call: &ProgramCall) -> Places {
        self.0.programs.naming(places, &Address::Solana(call.program))
    }

    /// Of these rules, all of them denying ones, those that may deny one of the effects. No other one does.
    pub(super) fn touched_by(&self, denying: &Places, effects: &Effects) -> Places {
        let mut touched = denying.and(&self.0.denying_anything);
        if denying.is_empty() {
            return touched;
        }
        let mut add = |places: Places| touched = touched.or(&places);
        let of_payments = denying.and(&self.0.naming_no_call);
        let transfers = effects.transfers.iter().map(|transfer| (transfer.asset, &transfer.to));
        let allowances = effects.allowances.iter().map(|grant| (grant.asset, &grant.spender));
        for (asset, to) in transfers.chain(allowances) {
            add(self.for_address(&self.for_asset(&of_payments, asset), to));
        }
        for call in &effects.calls {
            add(self.fitting_call(denying, call));
            add(self.naming_address(denying, &Address::Ethereum(call.contract)));
        }
        for call in &effects.programs {
            add(self.naming_program(denying, call));
            add(self.naming_address(denying, &Address::Solana(call.program)));
        }
        effects.proceeds.iter().for_each(|proceeds| add(self.naming_address(denying, &proceeds.to)));
        touched
    }
}

impl Keys {
    /// Adds the next rule of the table.
    fn add(&mut self, place: usize, rule: &Rule) {
        self.wallets.add(place, Some(&rule.wallets));
        self.initiators.add(place, Some(&rule.initiators).filter(|initiators| !initiators.is_empty()));
        self.assets.add(place, rule.assets.as_ref());
        self.addresses.add(place, rule.addresses.as_ref());
        self.programs.add(place, Some(rule.programs.keys()));
        for (contract, functions) in &rule.calls {
            for (selector, forms) in functions {
                self.functions.entry((contract.clone(), *selector)).or_default().add(place, forms, rule.denies());
            }
        }
        if let Some(hours) = &rule.hours {
            self.zones.entry(hours.zone().to_owned()).or_default().push(place);
        }
        for (does, places) in [
            (rule.denies(), &mut self.denying),
            (rule.names_no_call(), &mut self.naming_no_call),
            (rule.denies_anything(), &mut self.denying_anything),
        ] {
            if does {
                places.push(place);
            }
        }
    }
}

impl Callers {
    /// Adds the next rule of the table that names the function.
    fn add(&mut self, place: usize, forms: &[Form], denies: bool) {
        self.all.push(place);
        if forms.iter().any(Form::takes_any_arguments) {
            self.free.push(place);
        }
        match forms.iter().map(Form::demanded_values).collect::<Option<Vec<_>>>() {
            None => self.open.push(place),
            Some(demanded) => {
                for (function, at, values) in demanded {
                    let Some(bound) = self.bound_at(function, at) else { continue };
                    values.iter().for_each(|value| bound.values.entry(value.encoded()).or_default().push(place));
                    if denies {
                        bound.denying.push(place);
                    }
                }
            }
        }
    }

    /// The rules of which some form demands values at a place of the function's arguments; always some.
    fn bound_at(&mut self, function: &Function, at: &Place) -> Option<&mut Bound> {
        let same = |bound: &Bound| bound.function == *function && bound.at == *at;
        let known = self.bound.iter().position(same).unwrap_or(self.bound.len());
        if known == self.bound.len() {
            let (function, at) = (function.clone(), at.clone());
            self.bound.push(Bound { function, at, values: BTreeMap::new(), denying: Places::default() });
        }
        self.bound.get_mut(known)
    }
}

impl Bound {
    /// The rules that demand the value which a call has, or deny what can't be read.
    fn demanding(&self, call: &Call) -> Option<&Places> {
        let Ok(arguments) = self.function.arguments(&call.arguments) else { return Some(&self.denying) };
        self.values.get(&Argument::at(&arguments, &self.at)?.encoded())
    }
}

impl<K: Clone + Ord> Keyed<K> {
    /// Adds the next rule of the table by its keys; by none, where it is for any.
    fn add<'k>(&mut self, place: usize, keys: Option<impl IntoIterator<Item = &'k K>>)
    where
        K: 'k,
    {
        match keys {
            None => self.any.push(place),
            Some(keys) => {
                keys.into_iter().for_each(|key| self.naming.entry(key.clone()).or_default().push(place));
            }
        }
    }

    /// Of these rules, those that name the key.
    fn naming(&self, places: &Places, key: &K) -> Places {
        self.naming.get(key).map(|naming| places.and(naming)).unwrap_or_default()
    }

    /// Of these rules, those that are for the key: that name it, or are for any.
    fn narrow(&self, places: &Places, key: &K) -> Places {
        self.naming(places, key).or(&places.and(&self.any))
    }
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self { naming: BTreeMap::new(), any: Places::default() }
    }
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]
mod tests;
