//! What may be signed: a pure function from a policy and the decoded effects of a transaction to a verdict.
//!
//! Deny wins, and what no rule allows is denied. The gateway evaluates it so that clients get a quick and well-explained
//! answer; every signer evaluates its own copy again before it takes part.
//!
//! - [`config`]: the policy as people write it, and its compilation; [`document`]: its exact bytes, and their digest;
//! - [`change`]: how it is changed, by whom; [`versions`]: which version is in force at a signer;
//! - `rule`, `index`, `evaluate`: the rule table, where to look in it, and how it is asked;
//! - [`quorum`]: who has to approve; [`hours`]: when a rule holds;
//! - `age`: how old a request may be;
//! - [`limit`]: how much and how often over time; what a transaction draws is said here and counted by the caller;
//! - [`trace`]: why a verdict is what it is, and the nearest change that would pass; [`mod@prove`]: whether any rule allows
//!   something; [`mod@diff`]: what another policy would change;
//! - [`code`]: what code a called contract must have, for who can ask a node;
//! - [`program`]: which instructions of Solana programs a rule is for; [`table`]: which lookup tables messages may read;
//! - `denylist`: addresses that nothing may touch, under every spelling of the same key.

use std::collections::BTreeSet;

use chains::account::{Account, WalletId};
use chains::address::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::effects::Effects;
use serde::Serialize;

mod age;
pub mod change;
pub mod code;
pub mod config;
mod denylist;
pub mod diff;
pub mod document;
mod evaluate;
pub mod hours;
mod index;
pub mod limit;
pub mod program;
pub mod prove;
pub mod quorum;
mod rule;
mod selector;
pub mod table;
mod token;
pub mod trace;
pub mod versions;

pub use age::RequestLifetime;
use change::ChangesConfig;
pub use config::{ContractConfig, PolicyConfig, PolicyError, RuleConfig};
use denylist::Denylist;
pub use diff::diff;
use document::{Document, PolicyDigest};
use evaluate::{Permission, Refused};
use index::{Index, Places};
use limit::{Draw, Limit};
pub use program::Discriminator;
pub use prove::prove;
use quorum::Quorum;
use rule::Rule;
pub use selector::{Selector, SelectorError};
pub use trace::evaluate_traced;

use crate::roster::CredentialId;

/// A compiled policy: every address in it was parsed for the network that it is for. Made by [`PolicyConfig::compile`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Policy {
    denied: Denylist,
    rules: Vec<Rule>,
    limits: Vec<Limit>,
    /// Who may change it; nobody over the wire, without.
    changes: Option<ChangesConfig>,
    /// Whether the gateway signs nothing that a node hasn't tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    require_simulation: bool,
    /// How old a request may be.
    #[serde(rename = "request_lifetime_hours", skip_serializing_if = "RequestLifetime::is_default")]
    lifetime: RequestLifetime,
    /// The wallets that pay as legs of deals alone.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    deals_only: BTreeSet<WalletId>,
    /// The lookup tables that messages may read.
    #[serde(rename = "lookup_tables", skip_serializing_if = "Vec::is_empty")]
    tables: Vec<table::Pin>,
    /// What it was compiled from.
    #[serde(skip)]
    document: Document,
    /// Where in the rules to look. It follows from them.
    #[serde(skip)]
    index: Index,
}

/// Who asks, and when: what a rule may depend on beside the transaction itself.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The credential that asked for the payment.
    pub initiator: &'a CredentialId,
    /// The judge's own time, in milliseconds since the Unix epoch.
    pub at: u64,
}

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
    /// Every effect is permitted, once people have approved.
    Require {
        /// The rule that permits the first effect.
        rule: String,
        /// Each must be met. One person's approval counts for all of them, and once within each.
        quorums: BTreeSet<Quorum>,
        /// As of an allowed one.
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
    /// A rule forbids it.
    #[error("rule {rule} forbids it")]
    DeniedByRule {
        /// The rule.
        rule: String,
    },
    /// The wallet has rules, and none of them is for who asks, at this time.
    #[error("no rule lets {initiator} use wallet {wallet} at this time")]
    NoRuleNow {
        /// The wallet that would pay.
        wallet: WalletId,
        /// Who asks.
        initiator: CredentialId,
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
    /// The function may be called, but not with these arguments.
    #[error("no rule lets this wallet call {selector} of {contract} with these arguments")]
    UnlistedArguments {
        /// The contract.
        contract: Address,
        /// The function.
        selector: Selector,
    },
    /// No rule of the wallet names the program with this instruction.
    #[error("no rule lets this wallet call {discriminator} of program {program}")]
    UnlistedProgram {
        /// The program.
        program: Address,
        /// How the instruction's data begins.
        discriminator: Discriminator,
    },
    /// The instruction may be used, but not with these accounts.
    #[error("no rule lets this wallet call {discriminator} of program {program} with these accounts")]
    UnlistedAccounts {
        /// The program.
        program: Address,
        /// How the instruction's data begins.
        discriminator: Discriminator,
    },
    /// The transaction reads accounts from a lookup table that the policy doesn't name.
    #[error("the policy names no lookup table {table}")]
    UnlistedTable {
        /// The table.
        table: Address,
    },
    /// What is said to stand in a lookup table isn't what the policy says of it.
    #[error("the first {length} entries of lookup table {table} aren't those that the policy names")]
    OtherTable {
        /// The table.
        table: Address,
        /// How many entries the policy names.
        length: u16,
    },
    /// The transaction reads an entry of a lookup table that the policy doesn't name.
    #[error("the policy names {length} entries of lookup table {table}; {index} is behind them")]
    UnlistedEntry {
        /// The table.
        table: Address,
        /// The entry, from 0 on.
        index: u8,
        /// How many entries the policy names.
        length: u16,
    },
    /// A call would hand what it buys or takes out to somebody whom no rule of the wallet names.
    #[error("no rule lets this wallet's calls pay out to {address}")]
    UnlistedRecipient {
        /// Who would receive it.
        address: Address,
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
    /// Less than any rule for asset and receiver is for.
    #[error("{amount} of {asset} is below the least of {least}")]
    BelowMinimum {
        /// What would move.
        asset: Asset,
        /// How much, in base units.
        amount: Amount,
        /// The lowest bound, in base units.
        least: Amount,
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
    /// The wallet pays as a leg of deals alone.
    #[error("wallet {wallet} pays under a deal alone; ask by otc_open")]
    NoDeal {
        /// The wallet that would pay.
        wallet: WalletId,
    },
    /// The request was signed too long ago.
    #[error("the request was signed at {asked_at} (seconds since 1970), more than {hours} hours ago; ask again")]
    RequestTooOld {
        /// When it was signed, in seconds since 1970.
        asked_at: u64,
        /// How long a request lives.
        hours: u32,
    },
    /// It spends from somebody else, and no permitted call of the asset's contract, or of the payer's, covers that.
    #[error("it would spend {asset} of {from}, which isn't this wallet")]
    ForeignFunds {
        /// Who would pay.
        from: Address,
        /// What.
        asset: Asset,
    },
}

/// Judges what a transaction of `account` does.
///
/// Denied addresses come first, the wallet's own included; then lookup tables, which have to be what the policy says of them; then
/// rules that deny. Then every single effect must be permitted
/// by some rule of the wallet: a transfer and an allowance by asset, address and amount; a call, and every call in it, by
/// contract, selector and arguments; an instruction of a Solana program that the effects don't explain, by program,
/// discriminator and accounts.
///
/// It keeps no count of what was paid before, and of no approvals: what it allows comes with its draws, for the caller's
/// counters, and with the quorums that the caller has to see met.
pub fn evaluate(policy: &Policy, account: &Account, circumstances: &Circumstances<'_>, effects: &Effects) -> Verdict {
    match judge(policy, account, circumstances, effects) {
        Ok(Permission { rule: None, .. }) => Verdict::Deny { rule: None, reason: Denial::NoEffect },
        Ok(Permission { rule: Some(rule), quorums }) => {
            let draws = limit::draws(&policy.limits, account, circumstances.initiator, effects);
            let rule = rule.id.clone();
            if quorums.is_empty() { Verdict::Allow { rule, draws } } else { Verdict::Require { rule, quorums, draws } }
        }
        Err(Refused { nearest, reason }) => Verdict::Deny { rule: nearest.map(|rule| rule.id.clone()), reason },
    }
}

fn judge<'a>(
    policy: &'a Policy,
    account: &'a Account,
    circumstances: &Circumstances<'_>,
    effects: &'a Effects,
) -> Result<Permission<'a>, Refused<'a>> {
    let denied = policy.denied.find(account.address()).or_else(|| screen(policy, effects));
    match denied {
        Some(address) => Err(Refused { nearest: None, reason: Denial::DeniedAddress { address } }),
        None => {
            let tables = table::require(&policy.tables, account, effects);
            tables.map_err(|reason| Refused { nearest: None, reason })?;
            evaluate::permit(policy, account, circumstances, effects)
        }
    }
}

/// Judges a transaction of `account` that only looks after the wallet, and that somebody asks for by itself: it pays nobody, calls
/// nothing and grants nothing, and hurries another transaction on or opens a nonce.
///
/// Denied addresses come first, then rules that deny whatever is done. Then some rule that is for who asks, and holds when it is asked,
/// must admit the fee; whom and what the rule is for doesn't matter, because nothing moves, and nobody has to approve. Limits don't
/// count fees.
pub fn evaluate_upkeep(
    policy: &Policy,
    account: &Account,
    circumstances: &Circumstances<'_>,
    effects: &Effects,
) -> Verdict {
    judge_idle(policy, account, effects, || evaluate::permit_upkeep(policy, account, circumstances, effects))
}

/// Judges a transaction of `account` that keeps a payment off the chain: it pays nobody, calls nothing and grants nothing.
///
/// Denied addresses come first. Then some rule of the wallet must admit the fee; whom, what and when the rule is for doesn't
/// matter: who may ask for it, the payment says.
pub fn evaluate_cancel(policy: &Policy, account: &Account, effects: &Effects) -> Verdict {
    judge_idle(policy, account, effects, || evaluate::permit_cancel(policy, account, effects))
}

/// Judges what mustn't move anything, by the rule that permits it.
fn judge_idle<'a>(
    policy: &Policy,
    account: &Account,
    effects: &Effects,
    permitted: impl FnOnce() -> Result<&'a Rule, Refused<'a>>,
) -> Verdict {
    let denied = policy.denied.find(account.address()).or_else(|| screen(policy, effects));
    if let Some(address) = denied {
        return Verdict::Deny { rule: None, reason: Denial::DeniedAddress { address } };
    }
    let moves_nothing = effects.transfers.is_empty() && effects.allowances.is_empty();
    let calls_nothing = effects.calls.is_empty() && effects.programs.is_empty();
    if !(moves_nothing && calls_nothing && effects.proceeds.is_empty() && effects.tables.is_empty()) {
        return Verdict::Deny { rule: None, reason: Denial::NotUpkeep };
    }
    match permitted() {
        Ok(rule) => Verdict::Allow { rule: rule.id.clone(), draws: Vec::new() },
        Err(Refused { nearest, reason }) => Verdict::Deny { rule: nearest.map(|rule| rule.id.clone()), reason },
    }
}

/// The first party of the effects that is on the denylist, if any is.
pub fn screen(policy: &Policy, effects: &Effects) -> Option<Address> {
    effects.parties().find_map(|address| policy.denied.find(&address))
}

impl Policy {
    fn new(denied: Denylist, rules: Vec<Rule>, limits: Vec<Limit>) -> Self {
        let index = Index::new(&rules);
        Self {
            denied,
            rules,
            limits,
            changes: None,
            require_simulation: false,
            lifetime: RequestLifetime::default(),
            deals_only: BTreeSet::new(),
            tables: Vec::new(),
            document: Document::default(),
            index,
        }
    }

    /// What it was compiled from.
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// Its name for good: the SHA-256 of its document.
    pub const fn digest(&self) -> PolicyDigest {
        self.document.digest()
    }

    /// Who may change it, and how long that takes; none where it can't be changed over the wire.
    pub const fn changes(&self) -> Option<&ChangesConfig> {
        self.changes.as_ref()
    }

    /// Each limit: its name, and the most that a window of it may hold, in base units and in payments.
    pub fn caps(&self) -> impl Iterator<Item = (&str, Option<Amount>, Option<u64>)> {
        self.limits.iter().map(Limit::caps)
    }

    /// The quorums that rules ask for, each with its rule.
    fn quorums(&self) -> impl Iterator<Item = (&str, &Quorum)> {
        self.rules.iter().filter_map(|rule| match &rule.effect {
            rule::Effect::Require { quorum, .. } => Some((rule.id.as_str(), quorum)),
            rule::Effect::Allow | rule::Effect::Deny => None,
        })
    }

    /// The credentials that rules are for, each with its rule.
    fn initiators(&self) -> impl Iterator<Item = (&str, &CredentialId)> {
        self.rules.iter().flat_map(|rule| rule.initiators.iter().map(|initiator| (rule.id.as_str(), initiator)))
    }

    /// Whether nothing may be signed that a node hasn't tried.
    pub const fn requires_simulation(&self) -> bool {
        self.require_simulation
    }

    /// Whether a request that was signed at `asked_at`, in seconds since 1970, may first be agreed to at `at`, in milliseconds since
    /// 1970. Whoever judges asks this besides the rules.
    ///
    /// # Errors
    /// [`Denial::RequestTooOld`], where its time is over.
    pub fn require_recent(&self, asked_at: u64, at: u64) -> Result<(), Denial> {
        self.lifetime.require(asked_at, at)
    }

    /// Whether a payment of the wallet may be made as it was asked for, as a deal's leg or by itself. The rules know nothing of
    /// deals: whoever judges asks this besides.
    ///
    /// # Errors
    /// [`Denial::NoDeal`], where the wallet pays under deals alone and this is none.
    pub fn require_deal(&self, wallet: &WalletId, is_deal: bool) -> Result<(), Denial> {
        if is_deal || !self.pays_in_deals_only(wallet) {
            Ok(())
        } else {
            Err(Denial::NoDeal { wallet: wallet.clone() })
        }
    }

    /// Whether whatever the wallet pays has to be a leg of a deal.
    fn pays_in_deals_only(&self, wallet: &WalletId) -> bool {
        self.deals_only.contains(wallet)
    }

    /// The rules of a wallet, in the order of the table.
    fn rules_of(&self, wallet: &WalletId) -> Vec<&Rule> {
        self.rules_at(&self.index.of_wallet(wallet))
    }

    /// The rules at some places, in the order of the table.
    fn rules_at(&self, places: &Places) -> Vec<&Rule> {
        places.iter().filter_map(|place| self.rules.get(place)).collect()
    }

    /// Of the rules at some places, the places of those that a predicate takes.
    fn keep<'a>(&'a self, places: &Places, mut takes: impl FnMut(&'a Rule) -> bool) -> Places {
        places.iter().filter(|place| self.rules.get(*place).is_some_and(&mut takes)).collect()
    }
}

impl Verdict {
    /// Whether it is no.
    pub const fn is_denial(&self) -> bool {
        matches!(self, Self::Deny { .. })
    }
}

/// The address itself, where its holder is on the denylist.
pub fn screen_address(policy: &Policy, address: &Address) -> Option<Address> {
    policy.denied.find(address)
}

impl Denial {
    /// Which of the denials it is, as its JSON's `kind` says it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DeniedAddress { .. } => "denied_address",
            Self::NoRule { .. } => "no_rule",
            Self::DeniedByRule { .. } => "denied_by_rule",
            Self::NoRuleNow { .. } => "no_rule_now",
            Self::NoEffect => "no_effect",
            Self::NotUpkeep => "not_upkeep",
            Self::UnlistedAsset { .. } => "unlisted_asset",
            Self::UnlistedAddress { .. } => "unlisted_address",
            Self::UnlistedContract { .. } => "unlisted_contract",
            Self::UnlistedArguments { .. } => "unlisted_arguments",
            Self::UnlistedProgram { .. } => "unlisted_program",
            Self::UnlistedAccounts { .. } => "unlisted_accounts",
            Self::UnlistedTable { .. } => "unlisted_table",
            Self::OtherTable { .. } => "other_table",
            Self::UnlistedEntry { .. } => "unlisted_entry",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::UnlistedRecipient { .. } => "unlisted_recipient",
            Self::AboveLimit { .. } => "above_limit",
            Self::AboveFeeLimit { .. } => "above_fee_limit",
            Self::UnlimitedAllowance { .. } => "unlimited_allowance",
            Self::AboveVelocity { .. } => "above_velocity",
            Self::AboveCount { .. } => "above_count",
            Self::ForeignFunds { .. } => "foreign_funds",
            Self::NoDeal { .. } => "no_deal",
            Self::RequestTooOld { .. } => "request_too_old",
        }
    }
}
