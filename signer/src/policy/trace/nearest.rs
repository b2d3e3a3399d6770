//! The nearest change that would pass.

use std::collections::BTreeSet;

use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Call, Effects};
use serde::Serialize;

use super::{Input, Miss, Wanted, inputs, only};
use crate::policy::evaluate::is_denied_by;
use crate::policy::rule::Rule;
use crate::policy::{Circumstances, Denial, Policy, Verdict, evaluate, token};
use crate::roster::CredentialId;

/// The highest allowance that isn't unlimited.
fn most_allowance(asset: Asset) -> Amount {
    match asset {
        Asset::Spl(_) => Amount::from_lamports(u64::MAX - 1),
        Asset::Native | Asset::Erc20(_) => Amount::from_wei(u128::MAX),
    }
}

/// What would pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nearest {
    /// What has to change, all of it.
    pub changes: Vec<Miss>,
    /// What the policy says to it then. It isn't no.
    pub verdict: Verdict,
}

/// A transaction on its way to one that passes.
#[derive(Clone)]
struct Draft {
    initiator: CredentialId,
    at: u64,
    effects: Effects,
    changes: Vec<Miss>,
}

/// Fewer changes are nearer, then smaller ones, then amounts that are less far away.
type Distance = (usize, u32, Amount);

pub(super) fn find(
    policy: &Policy,
    account: &Account,
    circumstances: &Circumstances<'_>,
    effects: &Effects,
    verdict: &Verdict,
) -> Option<Nearest> {
    let reason = match verdict {
        Verdict::Allow { .. } => return None,
        Verdict::Require { .. } => return Some(Nearest::new(Vec::new(), verdict.clone())),
        Verdict::Deny { reason, .. } => reason,
    };
    if let Denial::NoRule { .. } | Denial::NoEffect = reason {
        return None;
    }
    let search = Search { policy, account, rules: policy.rules_of(account.wallet()) };
    let begin = Draft {
        initiator: circumstances.initiator.clone(),
        at: circumstances.at,
        effects: effects.clone(),
        changes: Vec::new(),
    };
    let ends = search.circumstances(begin).into_iter().filter_map(|draft| search.complete(draft));
    let (_, draft, verdict) = ends.min_by(|(one, ..), (other, ..)| one.cmp(other))?;
    let changes = draft.changes.iter().map(|miss| search.narrowed(&draft, miss)).collect();
    Some(Nearest::new(changes, verdict))
}

impl Nearest {
    fn new(mut changes: Vec<Miss>, verdict: Verdict) -> Self {
        if let Verdict::Require { quorums, .. } = &verdict {
            let wanted = Wanted::Approval { quorums: quorums.clone() };
            changes.push(Miss { input: Input::Approvals, wanted });
        }
        Self { changes, verdict }
    }

    /// What would pass as a leg of a deal, of which the rules say `said`.
    pub(super) fn of_a_leg(said: Verdict, nearest: Option<Self>) -> Option<Self> {
        let passes = matches!(said, Verdict::Allow { .. }).then(|| Self::new(Vec::new(), said));
        let Self { mut changes, verdict } = nearest.or(passes)?;
        changes.push(Miss { input: Input::Deal, wanted: Wanted::Deal });
        Some(Self { changes, verdict })
    }
}

struct Search<'a> {
    policy: &'a Policy,
    account: &'a Account,
    rules: Vec<&'a Rule>,
}

impl Search<'_> {
    /// The draft, and for every rule one in which the rule is in force if it permits, and isn't if it denies.
    fn circumstances(&self, begin: Draft) -> Vec<Draft> {
        let mut seen = BTreeSet::from([(begin.initiator.clone(), begin.at)]);
        let mut drafts = vec![begin.clone()];
        for rule in &self.rules {
            let mut draft = begin.clone();
            let possible = if rule.denies() { draft.leave(rule) } else { draft.enter(rule) };
            if possible.is_some() && seen.insert((draft.initiator.clone(), draft.at)) {
                drafts.push(draft);
            }
        }
        drafts
    }

    /// Changes whatever isn't permitted, each input by the nearest change that a rule in force would permit.
    fn complete(&self, mut draft: Draft) -> Option<(Distance, Draft, Verdict)> {
        let initiator = draft.initiator.clone();
        let circumstances = Circumstances { initiator: &initiator, at: draft.at };
        let (denying, permitting): (Vec<&Rule>, Vec<&Rule>) =
            self.rules.iter().filter(|rule| rule.is_for(self.account, &circumstances)).partition(|rule| rule.denies());
        for input in inputs(&draft.effects.clone()) {
            let options = permitting.iter().map(|rule| self.wanted(rule, &draft.effects, &input));
            let nearest = options.filter_map(|misses| {
                let mut effects = draft.effects.clone();
                for miss in &misses {
                    self.apply(&mut effects, miss, &denying)?;
                }
                Some((distance(&misses), misses, effects))
            });
            let (_, misses, effects) = nearest.min_by(|(one, ..), (other, ..)| one.cmp(other))?;
            draft.effects = effects;
            draft.changes.extend(misses);
        }
        let mut verdict = self.judge(&draft);
        for _ in &denying {
            let Verdict::Deny { reason: Denial::DeniedByRule { rule }, .. } = &verdict else { break };
            let rule = denying.iter().find(|denying| denying.id == *rule)?;
            self.lower(&mut draft, rule)?;
            verdict = self.judge(&draft);
        }
        (!verdict.is_denial()).then(|| (distance(&draft.changes), draft, verdict))
    }

    fn judge(&self, draft: &Draft) -> Verdict {
        let circumstances = Circumstances { initiator: &draft.initiator, at: draft.at };
        evaluate(self.policy, self.account, &circumstances, &draft.effects)
    }

    /// Everything that keeps a rule from permitting an input.
    fn wanted(&self, rule: &Rule, effects: &Effects, input: &Input) -> Vec<Miss> {
        let mut wanted = rule.misses(self.account, effects, input);
        let bounded = wanted.iter().any(|wanted| matches!(wanted, Wanted::AmountAtMost { .. }));
        if let Input::Allowance { asset, amount, .. } = input
            && *amount > most_allowance(*asset)
            && !bounded
        {
            wanted.push(Wanted::AmountAtMost { amount: most_allowance(*asset) });
        }
        let mut misses: Vec<Miss> = wanted.into_iter().map(|wanted| Miss { input: input.clone(), wanted }).collect();
        let proceeds = matches!(input, Input::Proceeds { .. });
        if let Some(fee) = rule.max_fee.filter(|limit| effects.max_fee > *limit && !proceeds) {
            misses.push(Miss { input: Input::Fee { fee: effects.max_fee }, wanted: Wanted::FeeAtMost { fee } });
        }
        misses
    }

    /// Lowers whatever a rule denies for its amount.
    fn lower(&self, draft: &mut Draft, rule: &Rule) -> Option<()> {
        let below = rule.min_amount?.checked_sub(Amount::from_sat(1))?;
        let denied: Vec<Input> = inputs(&draft.effects)
            .filter(|input| is_denied_by(rule, self.account, &only(&draft.effects, input)))
            .collect();
        for input in denied {
            let miss = Miss { input, wanted: Wanted::AmountAtMost { amount: below } };
            self.apply(&mut draft.effects, &miss, &[])?;
            // A lower bound takes the place of a higher one.
            let place = self::place(&miss.input);
            draft.changes.retain(|other| {
                self::place(&other.input) != place || !matches!(other.wanted, Wanted::AmountAtMost { .. })
            });
            draft.changes.push(miss);
        }
        Some(())
    }

    /// Makes a change, by the first value that will do; `None` for what isn't to be changed: another call is another thing.
    fn apply(&self, effects: &mut Effects, miss: &Miss, denying: &[&Rule]) -> Option<()> {
        let suits = |effects: &Effects| {
            let alone = only(effects, &miss.input);
            crate::policy::screen(self.policy, &alone).is_none()
                && !denying.iter().any(|rule| is_denied_by(rule, self.account, &alone))
        };
        match &miss.wanted {
            Wanted::AmountAtMost { amount } | Wanted::AmountAtLeast { amount } => {
                self.set(effects, &miss.input, |_, _, of| *of = *amount)
            }
            Wanted::FeeAtMost { fee } => {
                effects.max_fee = *fee;
                Some(())
            }
            Wanted::OneOfAddresses { addresses } => {
                let with = |address: &Address| {
                    let mut changed = effects.clone();
                    self.set(&mut changed, &miss.input, |_, to, _| *to = address.clone()).map(|()| changed)
                };
                let all: Vec<Effects> = addresses.iter().filter_map(with).collect();
                *effects = all.iter().find(|effects| suits(effects)).or(all.first())?.clone();
                Some(())
            }
            Wanted::OneOfAssets { assets } => {
                let asset = *assets.iter().find(|asset| is_alike(&miss.input, asset))?;
                self.set(effects, &miss.input, |of, _, _| *of = asset)
            }
            _ => None,
        }
    }

    /// Changes a payment, and with it the token's own call that makes it.
    fn set(
        &self,
        effects: &mut Effects,
        input: &Input,
        change: impl Fn(&mut Asset, &mut Address, &mut Amount),
    ) -> Option<()> {
        let calls = |asset: Asset, to: &Address, amount, allowance: bool| -> Vec<Call> {
            let Asset::Erc20(contract) = asset else { return Vec::new() };
            let token = Address::Ethereum(contract);
            let of = if allowance { token::approves } else { token::pays };
            of(self.account, &token, to, amount)
        };
        let (before, after) = match input {
            Input::Transfer { index, .. } => {
                let of = effects.transfers.get_mut(*index)?;
                let before = calls(of.asset, &of.to, of.amount, false);
                change(&mut of.asset, &mut of.to, &mut of.amount);
                (before, calls(of.asset, &of.to, of.amount, false))
            }
            Input::Allowance { index, .. } => {
                let of = effects.allowances.get_mut(*index)?;
                let before = calls(of.asset, &of.spender, of.amount, true);
                change(&mut of.asset, &mut of.spender, &mut of.amount);
                (before, calls(of.asset, &of.spender, of.amount, true))
            }
            Input::Proceeds { index, .. } => {
                let of = effects.proceeds.get_mut(*index)?;
                change(&mut Asset::Native.clone(), &mut of.to, &mut Amount::ZERO.clone());
                return Some(());
            }
            _ => return None,
        };
        for (before, after) in before.iter().zip(after) {
            if let Some(call) = effects.calls.iter_mut().find(|call| same(call, before)) {
                (call.contract, call.arguments) = (after.contract, after.arguments);
                break;
            }
        }
        Some(())
    }

    /// A change with those of its values that pass, all else being as in the draft.
    fn narrowed(&self, draft: &Draft, miss: &Miss) -> Miss {
        let passes = |draft: &Draft| !self.judge(draft).is_denial();
        let wanted = match &miss.wanted {
            Wanted::OneOfAddresses { addresses } => {
                let passes = |address: &&Address| {
                    let mut draft = draft.clone();
                    let set = self.set(&mut draft.effects, &miss.input, |_, to, _| *to = (*address).clone());
                    set.is_some() && passes(&draft)
                };
                Wanted::OneOfAddresses { addresses: addresses.iter().filter(passes).cloned().collect() }
            }
            Wanted::OneOfAssets { assets } => {
                let passes = |asset: &&Asset| {
                    let mut draft = draft.clone();
                    let set = self.set(&mut draft.effects, &miss.input, |of, _, _| *of = **asset);
                    is_alike(&miss.input, asset) && set.is_some() && passes(&draft)
                };
                Wanted::OneOfAssets { assets: assets.iter().filter(passes).copied().collect() }
            }
            Wanted::OneOfInitiators { initiators } => {
                let passes =
                    |initiator: &&CredentialId| passes(&Draft { initiator: (*initiator).clone(), ..draft.clone() });
                Wanted::OneOfInitiators { initiators: initiators.iter().filter(passes).cloned().collect() }
            }
            other => other.clone(),
        };
        Miss { input: miss.input.clone(), wanted }
    }
}

impl Draft {
    /// Lets somebody ask for whom the rule is, and when it holds.
    fn enter(&mut self, rule: &Rule) -> Option<()> {
        let now = Circumstances { initiator: &self.initiator, at: self.at };
        let misses = rule.circumstance_misses(&now);
        for miss in &misses {
            match &miss.wanted {
                Wanted::OneOfInitiators { initiators } => self.initiator = initiators.first()?.clone(),
                Wanted::Hours { next, .. } => self.at = (*next)?,
                _ => {}
            }
        }
        self.changes.extend(misses);
        Some(())
    }

    /// Waits until the rule doesn't hold.
    fn leave(&mut self, rule: &Rule) -> Option<()> {
        let hours = rule.hours.as_ref().filter(|hours| hours.contains(self.at))?;
        let next = hours.next(false, self.at)?;
        let wanted = Wanted::OutsideHours { hours: hours.config().clone(), next: Some(next) };
        self.changes.push(Miss { input: Input::Time { at: self.at }, wanted });
        self.at = next;
        Some(())
    }
}

/// Whether a call is the other one, whoever makes it and however deep.
fn same(call: &Call, other: &Call) -> bool {
    call.contract == other.contract && call.selector == other.selector && call.arguments == other.arguments
}

/// Whether what an input moves is a token, as the asset is: coin and tokens are paid by different transactions.
const fn is_alike(input: &Input, asset: &Asset) -> bool {
    match input {
        Input::Transfer { asset: moved, .. } | Input::Allowance { asset: moved, .. } => {
            matches!(moved, Asset::Native) == matches!(asset, Asset::Native)
        }
        _ => false,
    }
}

/// Which input it is, whatever is in it.
fn place(input: &Input) -> (u8, usize) {
    match input {
        Input::Initiator { .. } => (0, 0),
        Input::Time { .. } => (1, 0),
        Input::Transfer { index, .. } => (2, *index),
        Input::Allowance { index, .. } => (3, *index),
        Input::Call { index, .. } => (4, *index),
        Input::Proceeds { index, .. } => (5, *index),
        Input::Fee { .. } => (6, 0),
        Input::Approvals => (7, 0),
        Input::Program { index, .. } => (8, *index),
        Input::Deal => (9, 0),
    }
}

fn distance(changes: &[Miss]) -> Distance {
    let weight = |miss: &Miss| match miss.wanted {
        Wanted::AmountAtMost { .. } | Wanted::AmountAtLeast { .. } => 1,
        Wanted::FeeAtMost { .. } => 2,
        Wanted::Hours { .. } | Wanted::OutsideHours { .. } => 3,
        Wanted::OneOfInitiators { .. } => 4,
        Wanted::OneOfAddresses { .. } => 5,
        _ => 6,
    };
    let between = |one: Amount, other: Amount| one.checked_sub(other).or(other.checked_sub(one)).unwrap_or_default();
    let far = |miss: &Miss| match (&miss.input, &miss.wanted) {
        (
            Input::Transfer { amount: is, .. } | Input::Allowance { amount: is, .. },
            Wanted::AmountAtMost { amount } | Wanted::AmountAtLeast { amount },
        ) => between(*is, *amount),
        (Input::Fee { fee: is }, Wanted::FeeAtMost { fee }) => between(*is, *fee),
        _ => Amount::ZERO,
    };
    let add = |sum: Amount, miss: &Miss| sum.checked_add(far(miss)).unwrap_or(Amount::MAX);
    (changes.len(), changes.iter().map(weight).sum(), changes.iter().fold(Amount::ZERO, add))
}
