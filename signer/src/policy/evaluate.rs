//! The rules of one wallet over the effects of one transaction.

use std::collections::BTreeSet;

use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, ProgramCall, Transfer};

use super::index::Places;
use super::quorum::Quorum;
use super::rule::Rule;
use super::{Circumstances, Denial, Discriminator, Policy, Selector};

/// What the rules say to a transaction that none of them denies.
#[derive(Debug, Default)]
pub(super) struct Permission<'a> {
    /// The rule that permits the first effect; none where there is no effect.
    pub(super) rule: Option<&'a Rule>,
    /// What has to be approved, each quorum for itself.
    pub(super) quorums: BTreeSet<Quorum>,
}

/// A rule's no, or that none says yes.
#[derive(Debug)]
pub(super) struct Refused<'a> {
    /// The rule that said it, or came nearest.
    pub(super) nearest: Option<&'a Rule>,
    pub(super) reason: Denial,
}

/// Judges every effect: no rule may deny it, and some rule must permit it.
pub(super) fn permit<'a>(
    policy: &'a Policy,
    account: &'a Account,
    circumstances: &Circumstances<'_>,
    effects: &'a Effects,
) -> Result<Permission<'a>, Refused<'a>> {
    let permitting = undenied(policy, account, circumstances, effects)?;
    Desk { policy, permitting, account, effects }.permit_all()
}

/// The rules in force that permit something, never none, of a transaction that no rule in force denies.
fn undenied<'a>(
    policy: &'a Policy,
    account: &'a Account,
    circumstances: &Circumstances<'_>,
    effects: &'a Effects,
) -> Result<Places, Refused<'a>> {
    let of_wallet = policy.index.of_wallet(account.wallet());
    let refused = |reason| Refused { nearest: None, reason };
    if of_wallet.is_empty() {
        return Err(refused(Denial::NoRule { wallet: account.wallet().clone() }));
    }
    let (denying, permitting) = policy.index.by_effect(&in_force(policy, &of_wallet, circumstances));
    let touched = policy.rules_at(&policy.index.touched_by(&denying, effects));
    if let Some(rule) = touched.into_iter().find(|rule| is_denied_by(rule, account, effects)) {
        return Err(Refused { nearest: Some(rule), reason: Denial::DeniedByRule { rule: rule.id.clone() } });
    }
    if permitting.is_empty() {
        let (wallet, initiator) = (account.wallet().clone(), circumstances.initiator.clone());
        return Err(refused(Denial::NoRuleNow { wallet, initiator }));
    }
    Ok(permitting)
}

/// Of these rules, those that are for who asks, and hold when it is asked.
pub(super) fn in_force(policy: &Policy, places: &Places, circumstances: &Circumstances<'_>) -> Places {
    let asked = policy.index.for_initiator(places, circumstances.initiator);
    policy.index.timed(&asked).fold(asked.clone(), |in_force, of_zone| {
        let hours = of_zone.iter().find_map(|place| policy.rules.get(place)?.hours.as_ref());
        let clock = hours.and_then(|hours| hours.clock(circumstances.at));
        let closed = policy.keep(&of_zone, |rule| !clock.is_some_and(|clock| rule.is_open(clock)));
        in_force.without(&closed)
    })
}

/// The rule in force that lets a transaction which moves nothing have its fee.
pub(super) fn permit_upkeep<'a>(
    policy: &'a Policy,
    account: &'a Account,
    circumstances: &Circumstances<'_>,
    effects: &'a Effects,
) -> Result<&'a Rule, Refused<'a>> {
    let permitting = undenied(policy, account, circumstances, effects)?;
    first_within_fee(policy, &permitting, effects)
}

/// The rule of the wallet that lets a transaction which moves nothing have its fee, whoever asks and whenever.
pub(super) fn permit_cancel<'a>(
    policy: &'a Policy,
    account: &'a Account,
    effects: &'a Effects,
) -> Result<&'a Rule, Refused<'a>> {
    let (_, permitting) = policy.index.by_effect(&policy.index.of_wallet(account.wallet()));
    if permitting.is_empty() {
        let reason = Denial::NoRule { wallet: account.wallet().clone() };
        return Err(Refused { nearest: None, reason });
    }
    first_within_fee(policy, &permitting, effects)
}

fn first_within_fee<'a>(
    policy: &'a Policy,
    permitting: &Places,
    effects: &'a Effects,
) -> Result<&'a Rule, Refused<'a>> {
    let within = within_fee(policy.rules_at(permitting), effects)?;
    within.first().copied().ok_or(Refused { nearest: None, reason: Denial::NoEffect })
}

/// Whether a denying rule fits any of the effects. What the rule doesn't say, it denies in any form.
pub(super) fn is_denied_by(rule: &Rule, account: &Account, effects: &Effects) -> bool {
    let moves = |asset: Asset, to: &Address, amount: Amount| {
        rule.is_for_asset(asset) && rule.is_for_address(to) && rule.min_amount.is_none_or(|least| amount >= least)
    };
    let Effects { transfers, allowances, calls, programs, proceeds, .. } = effects;
    rule.denies_anything()
        || (rule.names_no_call()
            && (transfers.iter().any(|transfer| moves(transfer.asset, &transfer.to, transfer.amount))
                || allowances.iter().any(|grant| moves(grant.asset, &grant.spender, grant.amount))))
        || calls.iter().any(|call| rule.is_for_call(account, call))
        || programs.iter().any(|call| rule.is_for_program(account, call))
        || (rule.addresses.is_some()
            && (proceeds.iter().any(|proceeds| rule.is_for_address(&proceeds.to))
                || calls.iter().any(|call| rule.is_for_address(&Address::Ethereum(call.contract)))
                || programs.iter().any(|call| rule.is_for_address(&Address::Solana(call.program)))))
}

struct Desk<'a> {
    policy: &'a Policy,
    /// The rules in force that permit, with approval or without; never empty.
    permitting: Places,
    account: &'a Account,
    effects: &'a Effects,
}

/// The rules that each permit an effect; never empty.
type Permits<'a> = Result<Vec<&'a Rule>, Refused<'a>>;

impl<'a> Desk<'a> {
    fn permit_all(&self) -> Result<Permission<'a>, Refused<'a>> {
        let mut permission = Permission::default();
        for transfer in &self.effects.transfers {
            permission.add(self.transfer(transfer)?, transfer.amount);
        }
        for allowance in &self.effects.allowances {
            permission.add(self.allowance(allowance)?, allowance.amount);
        }
        for call in &self.effects.calls {
            // What the call moves was weighed above: up to a step-up amount, a call needs nobody.
            permission.add(self.call(call)?, call.value);
        }
        for call in self.effects.programs.iter().filter(|call| !call.explained) {
            permission.add(self.program(call)?, Amount::ZERO);
        }
        self.effects.proceeds.iter().try_for_each(|proceeds| self.recipient(&proceeds.to))?;
        if permission.rule.is_none() && !self.effects.programs.is_empty() {
            // Instructions that move nothing, a memo or the end of an allowance, need no more than their fee.
            permission.add(within_fee(self.policy.rules_at(&self.permitting), self.effects)?, Amount::ZERO);
        }
        Ok(permission)
    }

    /// What the calls bring in goes to the wallet itself, or to somebody whom it may pay.
    fn recipient(&self, to: &Address) -> Result<(), Refused<'a>> {
        if to == self.account.address() || !self.policy.index.naming_address(&self.permitting, to).is_empty() {
            return Ok(());
        }
        Err(Refused { nearest: None, reason: Denial::UnlistedRecipient { address: to.clone() } })
    }

    fn transfer(&self, transfer: &Transfer) -> Permits<'a> {
        if transfer.from != *self.account.address() && !self.covers(transfer) {
            let reason = Denial::ForeignFunds { from: transfer.from.clone(), asset: transfer.asset };
            return Err(Refused { nearest: None, reason });
        }
        self.payment(transfer.asset, &transfer.to, transfer.amount)
    }

    fn allowance(&self, allowance: &Allowance) -> Permits<'a> {
        let rules = self.payment(allowance.asset, &allowance.spender, allowance.amount)?;
        if is_unlimited(allowance.asset, allowance.amount) {
            let reason = Denial::UnlimitedAllowance { asset: allowance.asset, spender: allowance.spender.clone() };
            return Err(Refused { nearest: rules.first().copied(), reason });
        }
        Ok(rules)
    }

    fn call(&self, call: &Call) -> Permits<'a> {
        let Policy { index, .. } = self.policy;
        let (contract, selector) = (Address::Ethereum(call.contract), Selector(call.selector.0));
        let named = index.naming_call(&self.permitting, call);
        if named.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedContract { contract, selector } });
        }
        let free = index.naming_call_with_any_arguments(&named, call);
        let bound = index.fitting_call(&named.without(&free), call);
        let bound = self.policy.keep(&bound, |rule| rule.is_for_call(self.account, call));
        let rules = self.policy.rules_at(&free.or(&bound));
        if rules.is_empty() {
            let nearest = self.policy.rules_at(&named).first().copied();
            return Err(Refused { nearest, reason: Denial::UnlistedArguments { contract, selector } });
        }
        within_fee(rules, self.effects)
    }

    fn program(&self, call: &ProgramCall) -> Permits<'a> {
        let (program, discriminator) = (Address::Solana(call.program), Discriminator::of(call));
        let mut rules = self.policy.rules_at(&self.policy.index.naming_program(&self.permitting, call));
        rules.retain(|rule| rule.names_program(call));
        let Some(nearest) = rules.first().copied() else {
            return Err(Refused { nearest: None, reason: Denial::UnlistedProgram { program, discriminator } });
        };
        rules.retain(|rule| rule.is_for_program(self.account, call));
        if rules.is_empty() {
            let reason = Denial::UnlistedAccounts { program, discriminator };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        within_fee(rules, self.effects)
    }

    /// Whether a permitted call explains that somebody else's funds move: one of the asset's own contract, or one of the
    /// contract that pays (a Safe that the wallet operates).
    fn covers(&self, transfer: &Transfer) -> bool {
        let explains = |call: &&Call| {
            Asset::Erc20(call.contract) == transfer.asset || Address::Ethereum(call.contract) == transfer.from
        };
        self.effects.calls.iter().filter(explains).any(|call| self.call(call).is_ok())
    }

    fn payment(&self, asset: Asset, to: &Address, amount: Amount) -> Permits<'a> {
        let Policy { index, .. } = self.policy;
        let of_asset = index.for_asset(&self.permitting, asset);
        if of_asset.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAsset { asset } });
        }
        let listed = self.policy.rules_at(&index.for_address(&of_asset, to));
        if listed.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAddress { address: to.clone(), asset } });
        }
        let mut rules = listed.clone();
        rules.retain(|rule| rule.max_amount.is_none_or(|limit| amount <= limit));
        if rules.is_empty()
            && let Some((nearest, limit)) = highest(&listed, |rule| rule.max_amount)
        {
            let reason = Denial::AboveLimit { asset, amount, limit };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        rules.retain(|rule| rule.min_amount.is_none_or(|least| amount >= least));
        if rules.is_empty()
            && let Some((nearest, least)) = lowest(&listed, |rule| rule.min_amount)
        {
            let reason = Denial::BelowMinimum { asset, amount, least };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        within_fee(rules, self.effects)
    }
}

/// Of some rules that each permit an effect, those that permit the transaction's fee as well.
fn within_fee<'a>(rules: Vec<&'a Rule>, effects: &Effects) -> Permits<'a> {
    let fee = effects.max_fee;
    let within: Vec<&Rule> =
        rules.iter().filter(|rule| rule.max_fee.is_none_or(|limit| fee <= limit)).copied().collect();
    if within.is_empty() {
        let (nearest, limit) = highest(&rules, |rule| rule.max_fee).unzip();
        return Err(Refused { nearest, reason: Denial::AboveFeeLimit { fee, limit: limit.unwrap_or_default() } });
    }
    Ok(within)
}

impl<'a> Permission<'a> {
    /// Adds an effect that each of `rules` permits. Where one of them asks for nobody's approval, nobody's is needed; else
    /// any one rule's quorum will do.
    fn add(&mut self, rules: Vec<&'a Rule>, amount: Amount) {
        self.rule = self.rule.or_else(|| rules.first().copied());
        let quorums: Option<BTreeSet<&Quorum>> = rules.iter().map(|rule| rule.quorum(amount)).collect();
        self.quorums.extend(quorums.into_iter().flatten().cloned().reduce(|either, other| either.or(&other)));
    }
}

/// Whether an allowance is unlimited in all but name: 2^128 base units or more, and of an SPL token, whose amounts have 64 bits, all
/// of them.
fn is_unlimited(asset: Asset, amount: Amount) -> bool {
    match asset {
        Asset::Spl(_) => amount.to_u64().is_none_or(|amount| amount == u64::MAX),
        Asset::Native | Asset::Erc20(_) => amount.to_u128().is_none(),
    }
}

/// The rule with the highest of the limits that there are.
fn highest<'a>(rules: &[&'a Rule], limit: impl Fn(&Rule) -> Option<Amount>) -> Option<(&'a Rule, Amount)> {
    rules.iter().filter_map(|rule| Some((*rule, limit(rule)?))).max_by_key(|(_, limit)| *limit)
}

/// The rule with the lowest.
fn lowest<'a>(rules: &[&'a Rule], limit: impl Fn(&Rule) -> Option<Amount>) -> Option<(&'a Rule, Amount)> {
    rules.iter().filter_map(|rule| Some((*rule, limit(rule)?))).min_by_key(|(_, limit)| *limit)
}
