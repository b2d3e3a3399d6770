//! The rules of one wallet over the effects of one transaction.

use std::collections::BTreeSet;

use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Allowance, Call, Effects, ProgramCall, Transfer};

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
    let of_wallet: Vec<&Rule> = policy.rules_of(account.wallet()).collect();
    let refused = |reason| Refused { nearest: None, reason };
    if of_wallet.is_empty() {
        return Err(refused(Denial::NoRule { wallet: account.wallet().clone() }));
    }
    let (denying, permitting): (Vec<&Rule>, Vec<&Rule>) =
        of_wallet.into_iter().filter(|rule| rule.is_for(account, circumstances)).partition(|rule| rule.denies());
    let desk = Desk { rules: permitting, account, effects };
    if let Some(rule) = denying.into_iter().find(|rule| desk.is_denied_by(rule)) {
        return Err(Refused { nearest: Some(rule), reason: Denial::DeniedByRule { rule: rule.id.clone() } });
    }
    if desk.rules.is_empty() {
        let (wallet, initiator) = (account.wallet().clone(), circumstances.initiator.clone());
        return Err(refused(Denial::NoRuleNow { wallet, initiator }));
    }
    desk.permit_all()
}

/// The rule of the wallet that lets a transaction which moves nothing have its fee, whoever asks and whenever.
pub(super) fn permit_fee<'a>(
    policy: &'a Policy,
    account: &'a Account,
    effects: &'a Effects,
) -> Result<&'a Rule, Refused<'a>> {
    let rules: Vec<&Rule> = policy.rules_of(account.wallet()).filter(|rule| !rule.denies()).collect();
    if rules.is_empty() {
        let reason = Denial::NoRule { wallet: account.wallet().clone() };
        return Err(Refused { nearest: None, reason });
    }
    let desk = Desk { rules, account, effects };
    desk.within_fee(&desk.rules)?.first().copied().ok_or(Refused { nearest: None, reason: Denial::NoEffect })
}

/// Whether a denying rule fits any of the effects.
pub(super) fn is_denied_by(rule: &Rule, account: &Account, effects: &Effects) -> bool {
    Desk { rules: Vec::new(), account, effects }.is_denied_by(rule)
}

struct Desk<'a> {
    /// The rules that permit, with approval or without.
    rules: Vec<&'a Rule>,
    account: &'a Account,
    effects: &'a Effects,
}

/// The rules that each permit an effect; never empty.
type Permits<'a> = Result<Vec<&'a Rule>, Refused<'a>>;

impl<'a> Desk<'a> {
    /// Whether a denying rule fits any effect. What the rule doesn't say, it denies in any form.
    fn is_denied_by(&self, rule: &Rule) -> bool {
        let moves = |asset: Asset, to: &Address, amount: Amount| {
            rule.is_for_asset(asset) && rule.is_for_address(to) && rule.min_amount.is_none_or(|least| amount >= least)
        };
        let names_no_call = rule.calls.is_empty() && rule.programs.is_empty();
        let anything = names_no_call && rule.assets.is_none() && rule.addresses.is_none() && rule.min_amount.is_none();
        let Effects { transfers, allowances, calls, programs, proceeds, .. } = self.effects;
        anything
            || (names_no_call
                && (transfers.iter().any(|transfer| moves(transfer.asset, &transfer.to, transfer.amount))
                    || allowances.iter().any(|grant| moves(grant.asset, &grant.spender, grant.amount))))
            || calls.iter().any(|call| rule.is_for_call(self.account, call))
            || programs.iter().any(|call| rule.is_for_program(self.account, call))
            || (rule.addresses.is_some()
                && (proceeds.iter().any(|proceeds| rule.is_for_address(&proceeds.to))
                    || calls.iter().any(|call| rule.is_for_address(&Address::Ethereum(call.contract)))
                    || programs.iter().any(|call| rule.is_for_address(&Address::Solana(call.program)))))
    }

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
            permission.add(self.within_fee(&self.rules)?, Amount::ZERO);
        }
        Ok(permission)
    }

    /// What the calls bring in goes to the wallet itself, or to somebody whom it may pay.
    fn recipient(&self, to: &Address) -> Result<(), Refused<'a>> {
        if to == self.account.address()
            || self.rules.iter().any(|rule| rule.addresses.as_ref().is_some_and(|addresses| addresses.contains(to)))
        {
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
        let (contract, selector) = (Address::Ethereum(call.contract), Selector(call.selector.0));
        let mut rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.names_call(call)).copied().collect();
        let Some(nearest) = rules.first().copied() else {
            return Err(Refused { nearest: None, reason: Denial::UnlistedContract { contract, selector } });
        };
        rules.retain(|rule| rule.is_for_call(self.account, call));
        if rules.is_empty() {
            let reason = Denial::UnlistedArguments { contract, selector };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        self.within_fee(&rules)
    }

    fn program(&self, call: &ProgramCall) -> Permits<'a> {
        let (program, discriminator) = (Address::Solana(call.program), Discriminator::of(call));
        let mut rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.names_program(call)).copied().collect();
        let Some(nearest) = rules.first().copied() else {
            return Err(Refused { nearest: None, reason: Denial::UnlistedProgram { program, discriminator } });
        };
        rules.retain(|rule| rule.is_for_program(self.account, call));
        if rules.is_empty() {
            let reason = Denial::UnlistedAccounts { program, discriminator };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        self.within_fee(&rules)
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
        let mut rules = self.rules.clone();
        rules.retain(|rule| rule.is_for_asset(asset));
        if rules.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAsset { asset } });
        }
        rules.retain(|rule| rule.is_for_address(to));
        if rules.is_empty() {
            return Err(Refused { nearest: None, reason: Denial::UnlistedAddress { address: to.clone(), asset } });
        }
        let (over, under) = (highest(&rules, |rule| rule.max_amount), lowest(&rules, |rule| rule.min_amount));
        rules.retain(|rule| rule.max_amount.is_none_or(|limit| amount <= limit));
        if let (Some((nearest, limit)), true) = (over, rules.is_empty()) {
            let reason = Denial::AboveLimit { asset, amount, limit };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        rules.retain(|rule| rule.min_amount.is_none_or(|least| amount >= least));
        if let (Some((nearest, least)), true) = (under, rules.is_empty()) {
            let reason = Denial::BelowMinimum { asset, amount, least };
            return Err(Refused { nearest: Some(nearest), reason });
        }
        self.within_fee(&rules)
    }

    /// Of some rules that each permit an effect, those that permit the transaction's fee as well.
    fn within_fee(&self, rules: &[&'a Rule]) -> Permits<'a> {
        let fee = self.effects.max_fee;
        let within: Vec<&Rule> =
            rules.iter().filter(|rule| rule.max_fee.is_none_or(|limit| fee <= limit)).copied().collect();
        if within.is_empty() {
            let (nearest, limit) = highest(rules, |rule| rule.max_fee).unzip();
            return Err(Refused { nearest, reason: Denial::AboveFeeLimit { fee, limit: limit.unwrap_or_default() } });
        }
        Ok(within)
    }
}

impl<'a> Permission<'a> {
    /// Adds an effect that each of `rules` permits. Where one of them asks for nobody's approval, nobody's is needed; else
    /// any one rule's quorum will do.
    fn add(&mut self, rules: Vec<&'a Rule>, amount: Amount) {
        self.rule = self.rule.or_else(|| rules.first().copied());
        let quorums: Option<Vec<&Quorum>> = rules.iter().map(|rule| rule.quorum(amount)).collect();
        if let Some((first, others)) = quorums.as_deref().and_then(<[&Quorum]>::split_first) {
            let quorum = others.iter().fold((*first).clone(), |either, other| either.or(other));
            self.quorums.insert(quorum);
        }
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
