//! Why a verdict is what it is: what every rule says to every input, and the nearest change that would pass.
//!
//! The verdict is [`evaluate`](fn@super::evaluate)'s. What would pass is found by trying: a change is named only after the
//! changed transaction was evaluated and not denied.

use std::collections::BTreeSet;

use chains::account::Account;
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::{Call, Effects, ProgramCall};
use serde::Serialize;

use super::evaluate::is_denied_by;
use super::hours::HoursConfig;
use super::quorum::Quorum;
use super::rule::{Effect, Rule};
use super::{Circumstances, Discriminator, Policy, Selector, Verdict, evaluate};
use crate::roster::CredentialId;

mod nearest;

pub use nearest::Nearest;

/// A verdict and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// What the policy says.
    pub verdict: Verdict,
    /// The rules of the wallet, in the order of the table.
    pub rules: Vec<RuleTrace>,
    /// What would pass: the fewest changes, the smallest first. None where it passes as it is, or no change of amounts,
    /// addresses, assets, fee, initiator and time helps.
    pub nearest: Option<Nearest>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleTrace {
    /// The rule.
    pub rule: String,
    /// What follows where it fits.
    pub effect: RuleEffect,
    /// The inputs that it permits, or denies. It does so only where no miss is about the initiator or the time.
    pub fits: Vec<Input>,
    /// What doesn't fit, and what would.
    pub misses: Vec<Miss>,
}

/// What follows where a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEffect {
    /// It may be done.
    Allow,
    /// It may be done with approval.
    Require,
    /// It may not be done.
    Deny,
}

/// Something that a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Who asks.
    Initiator {
        /// The credential.
        initiator: CredentialId,
    },
    /// When.
    Time {
        /// In milliseconds since 1970.
        at: u64,
    },
    /// A transfer.
    Transfer {
        /// Its place among the transfers.
        index: usize,
        /// What moves.
        asset: Asset,
        /// Who is paid.
        to: Address,
        /// How much, in base units.
        amount: Amount,
    },
    /// An allowance.
    Allowance {
        /// Its place among the allowances.
        index: usize,
        /// What may be spent.
        asset: Asset,
        /// By whom.
        spender: Address,
        /// How much, in base units.
        amount: Amount,
    },
    /// A call.
    Call {
        /// Its place among the calls.
        index: usize,
        /// The contract.
        contract: Address,
        /// The function.
        selector: Selector,
    },
    /// An instruction of a Solana program that the other inputs don't explain.
    Program {
        /// Its place among the instructions.
        index: usize,
        /// The program.
        program: Address,
        /// How the instruction's data begins.
        discriminator: Discriminator,
    },
    /// A receiver of what calls bring in.
    Proceeds {
        /// Its place among them.
        index: usize,
        /// Who.
        to: Address,
    },
    /// What the transaction may cost.
    Fee {
        /// In native base units.
        fee: Amount,
    },
    /// The people who approve.
    Approvals,
    /// The deal that it is a leg of.
    Deal,
}

/// An input that doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Miss {
    /// The input.
    #[serde(flatten)]
    pub input: Input,
    /// What would fit.
    pub wanted: Wanted,
}

/// What would fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wanted {
    /// An amount of at most this, in base units.
    AmountAtMost {
        /// The highest.
        amount: Amount,
    },
    /// An amount of at least this, in base units.
    AmountAtLeast {
        /// The lowest.
        amount: Amount,
    },
    /// A fee of at most this, in native base units.
    FeeAtMost {
        /// The highest.
        fee: Amount,
    },
    /// The approval of all of these, one by each quorum.
    Approval {
        /// The quorums.
        quorums: BTreeSet<Quorum>,
    },
    /// A time at which the window is open.
    Hours {
        /// The window.
        hours: HoursConfig,
        /// When it opens next, in milliseconds since 1970; unknown where it doesn't within nine days.
        next: Option<u64>,
    },
    /// A time at which the window of a denying rule is closed.
    OutsideHours {
        /// The window.
        hours: HoursConfig,
        /// When it closes next, in milliseconds since 1970.
        next: Option<u64>,
    },
    /// One of these asks.
    OneOfInitiators {
        /// Who.
        initiators: BTreeSet<CredentialId>,
    },
    /// One of these addresses; where it is empty, the rule is for nobody.
    OneOfAddresses {
        /// The addresses.
        addresses: BTreeSet<Address>,
    },
    /// One of these assets.
    OneOfAssets {
        /// The assets.
        assets: BTreeSet<Asset>,
    },
    /// One of these contracts; where it is empty, the rule is for no call.
    OneOfContracts {
        /// The contracts.
        contracts: BTreeSet<Address>,
    },
    /// One of these functions of the contract.
    OneOfFunctions {
        /// The functions.
        selectors: BTreeSet<Selector>,
    },
    /// One of these programs; where it is empty, the rule is for none.
    OneOfPrograms {
        /// The programs.
        programs: BTreeSet<Address>,
    },
    /// Data that begins with one of these.
    OneOfDiscriminators {
        /// The beginnings.
        discriminators: BTreeSet<Discriminator>,
    },
    /// Other accounts.
    OtherAccounts,
    /// Other arguments.
    OtherArguments,
    /// An input of another kind: the rule says nothing of this one.
    OtherKind,
    /// A deal (`otc_open`): the wallet pays under no other terms. It waits for the deal's parties and for whoever confirms the fiat
    /// leg, whatever the rules ask for.
    Deal,
}

/// Judges what a transaction of `account` does, as [`evaluate`](super::evaluate()) does, and says why. It is judged as a payment by
/// itself: where the wallet pays as a leg of deals alone, that is denied, and a deal is among what would pass.
///
/// It takes a multiple of the time: it is for people who ask, and not for the way of a payment.
pub fn evaluate_traced(
    policy: &Policy,
    account: &Account,
    circumstances: &Circumstances<'_>,
    effects: &Effects,
) -> Trace {
    let said = evaluate(policy, account, circumstances, effects);
    let rules =
        policy.rules_of(account.wallet()).iter().map(|rule| rule.trace(account, circumstances, effects)).collect();
    let nearest = nearest::find(policy, account, circumstances, effects, &said);
    match policy.require_deal(account.wallet(), false) {
        Ok(()) => Trace { verdict: said, rules, nearest },
        Err(reason) => {
            let nearest = Nearest::of_a_leg(said, nearest);
            Trace { verdict: Verdict::Deny { rule: None, reason }, rules, nearest }
        }
    }
}

impl Rule {
    fn trace(&self, account: &Account, circumstances: &Circumstances<'_>, effects: &Effects) -> RuleTrace {
        let mut misses = self.circumstance_misses(circumstances);
        let mut fits = Vec::new();
        for input in inputs(effects) {
            let found = if self.denies() {
                self.denial_misses(account, effects, &input)
            } else {
                self.misses(account, effects, &input)
            };
            match found.is_empty() {
                true => fits.push(input),
                false => misses.extend(found.into_iter().map(|wanted| Miss { input: input.clone(), wanted })),
            }
        }
        if let Some(limit) = self.max_fee.filter(|limit| effects.max_fee > *limit) {
            misses.push(Miss { input: Input::Fee { fee: effects.max_fee }, wanted: Wanted::FeeAtMost { fee: limit } });
        }
        let effect = match &self.effect {
            Effect::Allow => RuleEffect::Allow,
            Effect::Require { .. } => RuleEffect::Require,
            Effect::Deny => RuleEffect::Deny,
        };
        RuleTrace { rule: self.id.clone(), effect, fits, misses }
    }

    /// What keeps the rule out of force.
    fn circumstance_misses(&self, circumstances: &Circumstances<'_>) -> Vec<Miss> {
        let mut misses = Vec::new();
        if !self.initiators.is_empty() && !self.initiators.contains(circumstances.initiator) {
            let input = Input::Initiator { initiator: circumstances.initiator.clone() };
            misses.push(Miss { input, wanted: Wanted::OneOfInitiators { initiators: self.initiators.clone() } });
        }
        if let Some(hours) = self.hours.as_ref().filter(|hours| !hours.contains(circumstances.at)) {
            let wanted = Wanted::Hours { hours: hours.config().clone(), next: hours.next(true, circumstances.at) };
            misses.push(Miss { input: Input::Time { at: circumstances.at }, wanted });
        }
        misses
    }

    /// Why a permitting rule doesn't permit an input, the fee aside.
    fn misses(&self, account: &Account, effects: &Effects, input: &Input) -> Vec<Wanted> {
        match input {
            Input::Transfer { asset, to, amount, .. } | Input::Allowance { asset, spender: to, amount, .. } => {
                self.payment_misses(*asset, to, *amount)
            }
            Input::Call { index, .. } => {
                effects.calls.get(*index).map(|call| self.call_misses(account, call)).unwrap_or_default()
            }
            Input::Program { index, .. } => {
                effects.programs.get(*index).map(|call| self.program_misses(account, call)).unwrap_or_default()
            }
            Input::Proceeds { to, .. } if to != account.address() => self.address_miss(to).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn address_miss(&self, to: &Address) -> Option<Wanted> {
        let addresses = self.addresses.as_ref().filter(|addresses| !addresses.contains(to))?;
        Some(Wanted::OneOfAddresses { addresses: addresses.clone() })
    }

    fn payment_misses(&self, asset: Asset, to: &Address, amount: Amount) -> Vec<Wanted> {
        let assets = self.assets.as_ref().filter(|assets| !assets.contains(&asset));
        let least = self.min_amount.filter(|least| amount < *least);
        let most = self.max_amount.filter(|most| amount > *most);
        [
            assets.map(|assets| Wanted::OneOfAssets { assets: assets.clone() }),
            self.address_miss(to),
            least.map(|amount| Wanted::AmountAtLeast { amount }),
            most.map(|amount| Wanted::AmountAtMost { amount }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn call_misses(&self, account: &Account, call: &Call) -> Vec<Wanted> {
        let wanted = if self.is_for_call(account, call) {
            None
        } else if self.names_call(call) {
            Some(Wanted::OtherArguments)
        } else if let Some(functions) = self.calls.get(&Address::Ethereum(call.contract)) {
            Some(Wanted::OneOfFunctions { selectors: functions.keys().copied().collect() })
        } else {
            Some(Wanted::OneOfContracts { contracts: self.calls.keys().cloned().collect() })
        };
        wanted.into_iter().collect()
    }

    fn program_misses(&self, account: &Account, call: &ProgramCall) -> Vec<Wanted> {
        let wanted = if self.is_for_program(account, call) {
            None
        } else if self.names_program(call) {
            Some(Wanted::OtherAccounts)
        } else if let Some(forms) = self.programs.get(&Address::Solana(call.program)) {
            let discriminators = forms.iter().map(|form| form.discriminator.clone()).collect();
            Some(Wanted::OneOfDiscriminators { discriminators })
        } else {
            Some(Wanted::OneOfPrograms { programs: self.programs.keys().cloned().collect() })
        };
        wanted.into_iter().collect()
    }

    /// Why a denying rule doesn't deny an input; empty exactly where it does.
    fn denial_misses(&self, account: &Account, effects: &Effects, input: &Input) -> Vec<Wanted> {
        if is_denied_by(self, account, &only(effects, input)) {
            return Vec::new();
        }
        let wanted = match input {
            Input::Call { .. } if self.calls.is_empty() => Vec::new(),
            Input::Program { .. } if self.programs.is_empty() => Vec::new(),
            Input::Call { .. } | Input::Program { .. } => self.misses(account, effects, input),
            _ if !self.calls.is_empty() || !self.programs.is_empty() => Vec::new(),
            Input::Proceeds { to, .. } => self.address_miss(to).into_iter().collect(),
            _ => self.misses(account, effects, input),
        };
        if wanted.is_empty() { vec![Wanted::OtherKind] } else { wanted }
    }
}

/// Everything that the rules have to say something to.
fn inputs(effects: &Effects) -> impl Iterator<Item = Input> + '_ {
    let transfers = effects.transfers.iter().enumerate();
    let transfers =
        transfers.map(|(index, of)| Input::Transfer { index, asset: of.asset, to: of.to.clone(), amount: of.amount });
    let allowances = effects.allowances.iter().enumerate();
    let allowances = allowances.map(|(index, of)| Input::Allowance {
        index,
        asset: of.asset,
        spender: of.spender.clone(),
        amount: of.amount,
    });
    let calls = effects.calls.iter().enumerate().map(|(index, call)| Input::Call {
        index,
        contract: Address::Ethereum(call.contract),
        selector: Selector(call.selector.0),
    });
    let proceeds = effects.proceeds.iter().enumerate().map(|(index, of)| Input::Proceeds { index, to: of.to.clone() });
    let programs = effects.programs.iter().enumerate().filter(|(_, call)| !call.explained);
    let programs = programs.map(|(index, call)| Input::Program {
        index,
        program: Address::Solana(call.program),
        discriminator: Discriminator::of(call),
    });
    transfers.chain(allowances).chain(calls).chain(programs).chain(proceeds)
}

/// The effects with nothing in them but the input.
fn only(effects: &Effects, input: &Input) -> Effects {
    let mut only = Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        programs: Vec::new(),
        proceeds: Vec::new(),
        touches: Vec::new(),
        ..effects.clone()
    };
    match input {
        Input::Transfer { index, .. } => only.transfers.extend(effects.transfers.get(*index).cloned()),
        Input::Allowance { index, .. } => only.allowances.extend(effects.allowances.get(*index).cloned()),
        Input::Call { index, .. } => only.calls.extend(effects.calls.get(*index).cloned()),
        Input::Program { index, .. } => only.programs.extend(effects.programs.get(*index).cloned()),
        Input::Proceeds { index, .. } => only.proceeds.extend(effects.proceeds.get(*index).cloned()),
        Input::Initiator { .. } | Input::Time { .. } | Input::Fee { .. } | Input::Approvals | Input::Deal => {}
    }
    only
}
