//! Whether the policy lets anything be done that a question describes, and a transaction for it where it does.
//!
//! A rule's predicates are intervals and finite sets, so that endlessly many transactions fall into finitely many kinds,
//! of which every rule says the same: a value that some rule names, or any other one; an amount from one rule's bound up to
//! the next. [`prove`] tries one transaction of each kind that the question admits, and the answer is
//! [`evaluate`](fn@super::evaluate)'s own.
//!
//! The transactions have one effect, or one call with one receiver of what it brings in: each effect of a transaction has to be permitted for itself, so what no such
//! transaction does none does, with these exceptions, which are not looked at: payments out of the funds of others, and
//! token payments by other calls than the token's own `transfer`, `transferFrom` and `approve`. A call is asked about for
//! itself: what it moves is a question of its own. Instructions of Solana programs that their effects explain are looked at for these
//! effects alone. Nothing is read from lookup tables: what reads one passes only where the same without it does.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::{Account, WalletId};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, Proceeds, Transfer};
use chains::ethereum::function::{Argument, ArgumentType, Place};
use chains::network::Network;
use serde::{Deserialize, Serialize};

use super::rule::{Demand, Effect, Form, Rule};
use super::{Circumstances, Policy, Selector, Verdict, evaluate, program, token};
use crate::roster::CredentialId;

/// How many transactions are tried at most.
const MAX_CASES: u64 = 1_000_000;
/// How many of them there may be for one rule, asker and time.
const MAX_DEEDS: usize = 200_000;
/// How far a question without an end looks ahead: a year, and some days for the calendars' feasts.
const SPAN_MS: u64 = 400 * 24 * 60 * 60 * 1000;

/// Whether anything is allowed that fits all of this. What is left out may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Question {
    /// What is done; anything, where it names nothing.
    pub acts: BTreeSet<Act>,
    /// The wallets that do it.
    pub wallets: Among<WalletId>,
    /// Who asks for it.
    pub initiators: Among<CredentialId>,
    /// What is paid, or may be spent.
    pub assets: Among<Asset>,
    /// Who is paid, may spend, or receives what a call brings in.
    pub addresses: Among<UncheckedAddress>,
    /// The contracts or programs that are called.
    pub contracts: Among<UncheckedAddress>,
    /// The functions that are called.
    pub selectors: Among<Selector>,
    /// The least amount of the payment or allowance, in base units; 1, if left out.
    pub min_amount: Option<Amount>,
    /// The highest, in base units.
    pub max_amount: Option<Amount>,
    /// The least that the transaction may cost, in native base units; 0, if left out.
    pub min_fee: Amount,
    /// The first instant, in milliseconds since 1970.
    pub from: u64,
    /// The last; 400 days later, if left out.
    pub until: Option<u64>,
    /// Whether nobody may have to approve it, neither by a rule nor as a party of a deal.
    pub without_approval: bool,
}

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// It pays.
    Pay,
    /// It lets somebody spend a token.
    Approve,
    /// It calls a contract.
    Call,
    /// It calls a contract, and somebody receives what the call buys or takes out.
    Collect,
}

/// Which values a question admits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Among<T> {
    /// All.
    #[default]
    Any,
    /// These.
    OneOf(Vec<T>),
    /// All but these.
    NoneOf(Vec<T>),
}

/// A transaction that the policy allows, and that fits the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// The wallet that does it.
    pub wallet: WalletId,
    /// Who asks.
    pub initiator: CredentialId,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What it does.
    pub effects: Effects,
    /// What the policy says to it.
    pub verdict: Verdict,
    /// Whether it is allowed as a leg of a deal alone, which waits for the deal's parties besides.
    pub deal: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// An address of no network that a wallet is on.
    #[error("{0} is an address of no network that a wallet is on")]
    Address(UncheckedAddress),
    /// More kinds of transactions than can be tried.
    #[error("there are more than 1000000 cases; ask about one wallet, or about less")]
    TooManyCases,
    /// Rules that constrain a value and something inside of it.
    #[error("rules constrain {function} both at {outer} and inside of it; constrain either")]
    Nested {
        /// The function.
        function: String,
        /// The place of the outer value.
        outer: String,
    },
}

/// Finds out whether the policy allows anything that the question describes. `accounts` are the wallets that there are.
///
/// A witness is a transaction that [`evaluate`](fn@super::evaluate) allows, with or without approval, and whose draws every
/// limit has room for while nothing else is drawn. Of a wallet that pays in deals alone it is a deal's leg, which nobody makes
/// without approval. `None` says that there is none, within what the module names.
///
/// # Errors
/// [`ProveError`], where the question can't be answered.
pub fn prove(policy: &Policy, accounts: &[Account], question: &Question) -> Result<Option<Witness>, ProveError> {
    search(&[policy], accounts, question, |account, circumstances, effects| {
        let verdict = passes(policy, account, circumstances, effects)?;
        let needs_nobody = matches!(verdict, Verdict::Allow { .. }) && !policy.pays_in_deals_only(account.wallet());
        (needs_nobody || !question.without_approval).then_some(verdict)
    })
    .map(|found| found.map(|(witness, verdict)| Witness { verdict, ..witness }))
}

/// The verdict, where it isn't no and every limit has room.
pub(super) fn passes(
    policy: &Policy,
    account: &Account,
    circumstances: &Circumstances<'_>,
    effects: &Effects,
) -> Option<Verdict> {
    let verdict = evaluate(policy, account, circumstances, effects);
    let fits = match &verdict {
        Verdict::Allow { draws, .. } | Verdict::Require { draws, .. } => draws.iter().all(super::Draw::fits_alone),
        Verdict::Deny { .. } => false,
    };
    fits.then_some(verdict)
}

/// Tries a transaction of every kind that the first of the policies may permit and any of them may tell apart, until
/// `accept` takes one. The witness comes with a verdict that is still to be filled in by what `accept` says.
pub(super) fn search<T>(
    policies: &[&Policy],
    accounts: &[Account],
    question: &Question,
    mut accept: impl FnMut(&Account, &Circumstances<'_>, &Effects) -> Option<T>,
) -> Result<Option<(Witness, T)>, ProveError> {
    question.check(accounts)?;
    let mut cases = 0_u64;
    for account in accounts.iter().filter(|account| question.wallets.admits(account.wallet())) {
        let cells = Cells::new(policies, account, question);
        for rule in cells.permitting() {
            let deeds = cells.deeds(rule)?;
            if deeds.is_empty() {
                continue;
            }
            for (initiator, at) in cells.circumstances(rule) {
                let circumstances = Circumstances { initiator: &initiator, at };
                for effects in &deeds {
                    cases = cases.saturating_add(1);
                    if cases > MAX_CASES {
                        return Err(ProveError::TooManyCases);
                    }
                    if let Some(found) = accept(account, &circumstances, effects) {
                        let wallet = account.wallet().clone();
                        let verdict = Verdict::Deny { rule: None, reason: super::Denial::NoEffect };
                        let effects = effects.clone();
                        let deal = policies.first().is_some_and(|policy| policy.pays_in_deals_only(&wallet));
                        return Ok(Some((Witness { wallet, initiator, at, effects, verdict, deal }, found)));
                    }
                }
            }
        }
    }
    Ok(None)
}

impl Question {
    /// Whether every address is one somewhere: a question that can't be meant isn't answered with no.
    fn check(&self, accounts: &[Account]) -> Result<(), ProveError> {
        let reads =
            |text: &&UncheckedAddress| accounts.iter().any(|account| text.require_network(account.network()).is_ok());
        let mut all = self.addresses.named().iter().chain(self.contracts.named());
        match all.find(|text| !reads(text)) {
            Some(text) => Err(ProveError::Address(text.clone())),
            None => Ok(()),
        }
    }

    fn does(&self, act: Act) -> bool {
        self.acts.is_empty() || self.acts.contains(&act)
    }

    fn last(&self) -> u64 {
        self.until.unwrap_or_else(|| self.from.saturating_add(SPAN_MS))
    }
}

impl<T: PartialEq> Among<T> {
    /// Whether the value is admitted.
    pub fn admits(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(values) => values.contains(value),
            Self::NoneOf(values) => !values.contains(value),
        }
    }

    fn named(&self) -> &[T] {
        match self {
            Self::Any => &[],
            Self::OneOf(values) | Self::NoneOf(values) => values,
        }
    }
}

impl Among<UncheckedAddress> {
    /// The same of addresses of the network; what reads as none of it is left out.
    fn on(&self, network: Network) -> Among<Address> {
        let read =
            |texts: &[UncheckedAddress]| texts.iter().filter_map(|text| text.require_network(network).ok()).collect();
        match self {
            Self::Any => Among::Any,
            Self::OneOf(texts) => Among::OneOf(read(texts)),
            Self::NoneOf(texts) => Among::NoneOf(read(texts)),
        }
    }
}

/// What the rules of one wallet tell apart.
struct Cells<'a> {
    policies: &'a [&'a Policy],
    account: &'a Account,
    question: &'a Question,
    /// Every policy's rules of the wallet.
    rules: Vec<&'a Rule>,
    addresses: Among<Address>,
    contracts: Among<Address>,
    /// Every initiator that a rule or limit names, and one that none does, as far as the question admits them.
    initiators: BTreeSet<CredentialId>,
    /// An instant for every set of rules that may be in force at once.
    moments: Vec<u64>,
}

impl<'a> Cells<'a> {
    fn new(policies: &'a [&'a Policy], account: &'a Account, question: &'a Question) -> Self {
        let rules: Vec<&Rule> = policies.iter().flat_map(|policy| policy.rules_of(account.wallet())).collect();
        let limits = policies.iter().flat_map(|policy| &policy.limits);
        let mut initiators: BTreeSet<CredentialId> =
            rules.iter().flat_map(|rule| rule.initiators.iter().cloned()).collect();
        initiators.extend(limits.flat_map(|limit| limit.initiators().iter().cloned()));
        initiators.extend(question.initiators.named().iter().cloned());
        let fresh = (0_u32..).filter_map(|number| format!("somebody-{number}").parse::<CredentialId>().ok());
        initiators.extend({ fresh }.find(|name| !initiators.contains(name)));
        initiators.retain(|name| question.initiators.admits(name));
        let (addresses, contracts) =
            (question.addresses.on(account.network()), question.contracts.on(account.network()));
        let moments = moments(&rules, question);
        Self { policies, account, question, rules, addresses, contracts, initiators, moments }
    }

    /// The rules of the first policy that permit.
    fn permitting(&self) -> impl Iterator<Item = &'a Rule> + use<'a> {
        let first = self.policies.first().copied();
        let wallet = self.account.wallet();
        first.into_iter().flat_map(move |policy| policy.rules_of(wallet)).filter(|rule| !rule.denies())
    }

    /// Who may ask, and when, for a rule to be in force.
    fn circumstances(&self, rule: &Rule) -> Vec<(CredentialId, u64)> {
        let asks = |initiator: &&CredentialId| rule.initiators.is_empty() || rule.initiators.contains(initiator);
        let open = |at: &&u64| rule.hours.as_ref().is_none_or(|hours| hours.contains(**at));
        let moments: Vec<u64> = self.moments.iter().filter(open).copied().collect();
        let pairs = self.initiators.iter().filter(asks);
        pairs.flat_map(|initiator| moments.iter().map(|at| (initiator.clone(), *at))).collect()
    }

    /// Everything that a rule may permit for itself.
    fn deeds(&self, rule: &Rule) -> Result<Vec<Effects>, ProveError> {
        let mut deeds = Vec::new();
        for max_fee in self.fees(rule) {
            let nothing = Effects { max_fee, ..Effects::default() };
            self.payments(rule, &nothing, &mut deeds)?;
            if self.question.does(Act::Call) || self.question.does(Act::Collect) {
                self.calls(rule, &nothing, &mut deeds)?;
                self.programs(rule, &nothing, &mut deeds)?;
            }
        }
        Ok(deeds)
    }

    fn payments(&self, rule: &Rule, nothing: &Effects, deeds: &mut Vec<Effects>) -> Result<(), ProveError> {
        let (account, question) = (self.account, self.question);
        // A rule that permits names both.
        let assets = rule.assets.iter().flatten().filter(|asset| question.assets.admits(asset));
        for asset in assets.copied() {
            let contract = match asset {
                Asset::Erc20(contract) => Some(Address::Ethereum(contract)),
                Asset::Native | Asset::Spl(_) => None,
            };
            for to in rule.addresses.iter().flatten().filter(|address| self.addresses.admits(address)) {
                for amount in self.amounts(rule, asset, to) {
                    if deeds.len() > MAX_DEEDS {
                        return Err(ProveError::TooManyCases);
                    }
                    if question.does(Act::Pay) {
                        let transfer = Transfer { asset, from: account.address().clone(), to: to.clone(), amount };
                        let pays = |calls| Effects { transfers: vec![transfer.clone()], calls, ..nothing.clone() };
                        match &contract {
                            Some(token) => deeds.extend(
                                token::pays(account, token, to, amount).into_iter().map(|call| pays(vec![call])),
                            ),
                            None => deeds.push(pays(Vec::new())),
                        }
                    }
                    if question.does(Act::Approve) && asset != Asset::Native {
                        let allowances = vec![Allowance { asset, spender: to.clone(), amount }];
                        let calls = contract.as_ref().map(|token| token::approves(account, token, to, amount));
                        deeds.push(Effects { allowances, calls: calls.unwrap_or_default(), ..nothing.clone() });
                    }
                }
            }
        }
        Ok(())
    }

    /// The first amount of every interval that the rules tell apart, of those that the rule permits.
    fn amounts(&self, rule: &Rule, asset: Asset, to: &Address) -> BTreeSet<Amount> {
        let one = Amount::from_sat(1);
        let least = self.question.min_amount.unwrap_or(one).max(rule.min_amount.unwrap_or_default());
        let most = self.question.max_amount.unwrap_or(Amount::MAX).min(rule.max_amount.unwrap_or(Amount::MAX));
        let after = |amount: Amount| amount.checked_add(one);
        let mut starts = BTreeSet::from([least]);
        for rule in self.rules.iter().filter(|rule| rule.is_for_asset(asset) && rule.is_for_address(to)) {
            let above = match &rule.effect {
                Effect::Require { above, .. } => *above,
                Effect::Allow | Effect::Deny => None,
            };
            starts.extend(rule.min_amount);
            starts.extend(rule.max_amount.into_iter().chain(above).filter_map(after));
        }
        let limits = self.policies.iter().flat_map(|policy| &policy.limits);
        starts.extend(limits.filter_map(|limit| limit.cap(asset)).filter_map(after));
        // From here on an allowance is unlimited.
        starts.extend(after(Amount::from_wei(u128::MAX)));
        if let Asset::Spl(_) = asset {
            starts.insert(Amount::from_lamports(u64::MAX));
        }
        if let Asset::Erc20(contract) = asset {
            let contract = Address::Ethereum(contract);
            let forms =
                self.rules.iter().filter_map(|rule| rule.calls.get(&contract)).flat_map(BTreeMap::values).flatten();
            for constraint in forms.flat_map(|form| &form.constraints) {
                starts.extend(constraint.demand.starts());
            }
        }
        starts.retain(|amount| (least..=most).contains(amount));
        starts
    }

    /// The least fee, and the first above every bound of another policy: a lower one is never refused by the same policy.
    fn fees(&self, rule: &Rule) -> BTreeSet<Amount> {
        let mut starts = BTreeSet::from([self.question.min_fee]);
        let others = self.policies.iter().skip(1).flat_map(|policy| policy.rules_of(self.account.wallet()));
        starts.extend(others.filter_map(|rule| rule.max_fee?.checked_add(Amount::from_sat(1))));
        starts.retain(|fee| *fee >= self.question.min_fee && rule.max_fee.is_none_or(|most| *fee <= most));
        starts
    }

    fn calls(&self, rule: &Rule, nothing: &Effects, deeds: &mut Vec<Effects>) -> Result<(), ProveError> {
        for (contract, functions) in rule.calls.iter().filter(|(contract, _)| self.contracts.admits(contract)) {
            for selector in functions.keys().filter(|selector| self.question.selectors.admits(selector)) {
                for arguments in self.arguments(contract, *selector)? {
                    let call: Option<Call> = token::call(self.account, contract, selector.0, arguments);
                    let calls: Vec<Call> = call.into_iter().collect();
                    if self.question.does(Act::Collect) {
                        let with =
                            |to| Effects { calls: calls.clone(), proceeds: vec![Proceeds { to }], ..nothing.clone() };
                        deeds.extend(self.collectors().into_iter().map(with));
                    }
                    if self.question.does(Act::Call) {
                        deeds.push(Effects { calls, ..nothing.clone() });
                    }
                    if deeds.len() > MAX_DEEDS {
                        return Err(ProveError::TooManyCases);
                    }
                }
            }
        }
        Ok(())
    }

    /// Instructions of Solana programs that a rule may permit. The programs are asked about as contracts are.
    fn programs(&self, rule: &Rule, nothing: &Effects, deeds: &mut Vec<Effects>) -> Result<(), ProveError> {
        let selects = matches!(self.question.selectors, Among::OneOf(_));
        for program in rule.programs.keys().filter(|program| self.contracts.admits(program) && !selects) {
            let forms: Vec<_> = self.rules.iter().filter_map(|rule| rule.programs.get(program)).flatten().collect();
            let mut calls = Vec::new();
            for form in rule.programs.get(program).into_iter().flatten() {
                let more = program::examples(self.account, program, form, &forms);
                calls.extend(more.ok_or(ProveError::TooManyCases)?);
            }
            for call in calls {
                let programs = vec![call];
                if self.question.does(Act::Collect) {
                    let with =
                        |to| Effects { programs: programs.clone(), proceeds: vec![Proceeds { to }], ..nothing.clone() };
                    deeds.extend(self.collectors().into_iter().map(with));
                }
                if self.question.does(Act::Call) {
                    deeds.push(Effects { programs, ..nothing.clone() });
                }
                if deeds.len() > MAX_DEEDS {
                    return Err(ProveError::TooManyCases);
                }
            }
        }
        Ok(())
    }

    /// Who may receive what a call brings in: the wallet itself, and whom a rule names that permits.
    fn collectors(&self) -> BTreeSet<Address> {
        let named = self.permitting().filter_map(|rule| rule.addresses.as_ref()).flatten();
        named.chain([self.account.address()]).filter(|address| self.addresses.admits(address)).cloned().collect()
    }

    /// The arguments of a function that the rules tell apart: every value that one names and one that none does, at every
    /// place that one names; and some that aren't the function's.
    fn arguments(&self, contract: &Address, selector: Selector) -> Result<Vec<Vec<u8>>, ProveError> {
        let named = self.rules.iter().filter_map(|rule| rule.calls.get(contract)?.get(&selector));
        let forms: Vec<&Form> = named.flatten().collect();
        let Some(function) = forms.iter().find_map(|form| form.function.as_ref()) else { return Ok(vec![Vec::new()]) };
        let mut places: BTreeMap<&Place, (ArgumentType, Vec<Argument>)> = BTreeMap::new();
        for constraint in forms.iter().flat_map(|form| &form.constraints) {
            let Some(kind) = function.type_at(&constraint.at) else { continue };
            let (kind, values) = places.entry(&constraint.at).or_insert((kind, Vec::new()));
            values.extend(constraint.demand.values(self.account, kind));
        }
        let texts: Vec<String> = places.keys().map(ToString::to_string).collect();
        let inside = |outer: &&String| texts.iter().any(|text| text.starts_with(&format!("{outer}.")));
        if let Some(outer) = texts.iter().find(inside) {
            return Err(ProveError::Nested { function: function.to_string(), outer: outer.clone() });
        }
        let mut all: Vec<Vec<(Place, Argument)>> = vec![Vec::new()];
        for (place, (kind, mut values)) in places {
            values.extend(kind.other(&values));
            all = all
                .iter()
                .flat_map(|chosen| {
                    let with = |value: &Argument| [chosen.clone(), vec![(place.clone(), value.clone())]].concat();
                    values.iter().map(with).collect::<Vec<_>>()
                })
                .collect();
            if all.len() > 100_000 {
                return Err(ProveError::TooManyCases);
            }
        }
        Ok(all.iter().filter_map(|values| function.example(values)).chain([Vec::new()]).collect())
    }
}

impl Demand {
    /// The first number of every interval that the demand tells apart.
    fn starts(&self) -> Vec<Amount> {
        let after = |amount: Amount| amount.checked_add(Amount::from_sat(1));
        match self {
            Self::OneOf(values) => {
                let numbers = values.iter().filter_map(Argument::as_uint);
                numbers.flat_map(|number| [Some(number), after(number)]).flatten().collect()
            }
            Self::Wallet => Vec::new(),
            Self::Within { min, max } => [*min, max.and_then(after)].into_iter().flatten().collect(),
        }
    }

    /// The values of a type that the demand tells apart, beside any that it doesn't name.
    fn values(&self, account: &Account, kind: &ArgumentType) -> Vec<Argument> {
        let mut values = match self {
            Self::OneOf(values) => values.clone(),
            Self::Wallet => kind.read(&account.address().to_string()).into_iter().collect(),
            Self::Within { .. } => Vec::new(),
        };
        if kind.is_uint() {
            let starts = self.starts().into_iter().chain([Amount::ZERO]);
            values.extend(starts.filter_map(|number| kind.read(&number.to_string())));
        }
        values
    }
}

/// An instant of the question's span for every set of the rules that may be in force at once.
fn moments(rules: &[&Rule], question: &Question) -> Vec<u64> {
    let (from, until) = (question.from, question.last());
    let mut windows: Vec<_> = Vec::new();
    for hours in rules.iter().filter_map(|rule| rule.hours.as_ref()) {
        if !windows.contains(&hours) {
            windows.push(hours);
        }
    }
    let mut instants: BTreeSet<u64> = windows.iter().flat_map(|hours| hours.edges(from, until)).collect();
    instants.insert(from);
    let mut seen = BTreeSet::new();
    instants
        .retain(|at| *at <= until && seen.insert(windows.iter().map(|hours| hours.contains(*at)).collect::<Vec<_>>()));
    instants.into_iter().collect()
}
