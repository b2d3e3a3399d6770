//! What another policy changes: in its text, and in what may be done.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::{Account, WalletId};
use serde::Serialize;
use serde_json::Value;

use super::prove::{ProveError, Question, Witness, passes, search};
use super::quorum::Quorum;
use super::table::Pin;
use super::{Policy, RequestLifetime, Verdict, evaluate};

/// What another policy changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Its rules against the old ones.
    pub rules: Changes,
    /// Its limits.
    pub limits: Changes,
    /// The lookup tables that may be read, by their addresses.
    pub lookup_tables: Changes,
    /// Whether the rules that both have stand in another order, which no verdict depends on.
    pub reordered: bool,
    /// Whether an address is denied that wasn't.
    pub more_denied: bool,
    /// Whether an address was denied and isn't.
    pub fewer_denied: bool,
    /// Wallets that paid under deals alone and may pay otherwise.
    pub freed_of_deals: BTreeSet<WalletId>,
    /// How long a request lives before and after, where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_lifetime_hours: Option<[RequestLifetime; 2]>,
    /// A transaction that it lets through more easily; none where there is no such.
    pub loosened: Option<Step>,
    /// A transaction that it lets through less easily; none where there is no such.
    pub tightened: Option<Step>,
}

/// Entries of a table, by their names, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Those that only the other policy has.
    pub added: Vec<String>,
    /// Those that only the old one has.
    pub removed: Vec<String>,
    /// Those that differ, with the fields in which they do.
    pub changed: BTreeMap<String, Vec<String>>,
}

/// A transaction that two policies see differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The transaction, with the verdict of the policy that lets it through more easily.
    pub witness: Witness,
    /// What the other policy says to it.
    pub otherwise: Verdict,
}

/// What `new` changes of `old` for these wallets, and for transactions from `from` on, in milliseconds since 1970.
///
/// A transaction gets through more easily where it was denied, or needed approval, or needed approval that what it needs
/// doesn't include. What [`prove`](super::prove()) doesn't look at, this doesn't either.
///
/// # Errors
/// [`ProveError`], where there are too many cases.
pub fn diff(old: &Policy, new: &Policy, accounts: &[Account], from: u64) -> Result<Diff, ProveError> {
    let names = |policy: &Policy| policy.rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>();
    let (before, after) = (names(old), names(new));
    let common =
        |some: &[String], others: &[String]| some.iter().filter(|id| others.contains(id)).cloned().collect::<Vec<_>>();
    Ok(Diff {
        rules: changes(old.rules.iter().map(|rule| (&*rule.id, rule)), new.rules.iter().map(|rule| (&*rule.id, rule))),
        limits: changes(
            old.limits.iter().map(|limit| (limit.id(), limit)),
            new.limits.iter().map(|limit| (limit.id(), limit)),
        ),
        lookup_tables: tables(old, new),
        reordered: common(&before, &after) != common(&after, &before),
        more_denied: !old.denied.covers(&new.denied),
        fewer_denied: !new.denied.covers(&old.denied),
        freed_of_deals: old.deals_only.difference(&new.deals_only).cloned().collect(),
        request_lifetime_hours: (old.lifetime != new.lifetime).then_some([old.lifetime, new.lifetime]),
        loosened: eased(old, new, accounts, from)?,
        tightened: eased(new, old, accounts, from)?,
    })
}

/// A transaction that `strict` lets through less easily than `lax`, if there is one.
fn eased(strict: &Policy, lax: &Policy, accounts: &[Account], from: u64) -> Result<Option<Step>, ProveError> {
    let question = Question { from, ..Question::default() };
    let found = search(&[lax, strict], accounts, &question, |account, circumstances, effects| {
        let by_itself = lax.require_deal(account.wallet(), false);
        let lax = passes(lax, account, circumstances, effects)?;
        if let (Ok(()), Err(reason)) = (by_itself, strict.require_deal(account.wallet(), false)) {
            return Some((lax, Verdict::Deny { rule: None, reason }));
        }
        let eased = match (&lax, passes(strict, account, circumstances, effects)) {
            (_, None) => true,
            (Verdict::Allow { .. }, Some(Verdict::Require { .. })) => true,
            (Verdict::Require { quorums: needed, .. }, Some(Verdict::Require { quorums, .. })) => {
                !include(needed, &quorums)
            }
            _ => false,
        };
        eased.then(|| (lax, evaluate(strict, account, circumstances, effects)))
    })?;
    Ok(found.map(|(witness, (verdict, otherwise))| Step { witness: Witness { verdict, ..witness }, otherwise }))
}

fn tables(old: &Policy, new: &Policy) -> Changes {
    let named = |policy: &Policy| policy.tables.iter().map(|pin| pin.name()).collect::<Vec<_>>();
    let (before, after) = (named(old), named(new));
    fn each<'a>(names: &'a [String], policy: &'a Policy) -> impl Iterator<Item = (&'a str, &'a Pin)> {
        names.iter().map(String::as_str).zip(&policy.tables)
    }
    changes(each(&before, old), each(&after, new))
}

/// Whether whoever fulfils all of these fulfils all of the others.
fn include(needed: &BTreeSet<Quorum>, others: &BTreeSet<Quorum>) -> bool {
    others.iter().all(|other| needed.iter().any(|quorum| quorum.implies(other)))
}

fn changes<'a, T: Serialize + 'a>(
    old: impl Iterator<Item = (&'a str, &'a T)>,
    new: impl Iterator<Item = (&'a str, &'a T)>,
) -> Changes {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.collect(), new.collect());
    let only = |some: &BTreeMap<&str, &T>, others: &BTreeMap<&str, &T>| {
        some.keys().filter(|id| !others.contains_key(*id)).map(|id| (*id).to_owned()).collect::<Vec<_>>()
    };
    let differs = |(id, before): (&&str, &&'a T)| {
        let fields = fields(before, new.get(id)?);
        (!fields.is_empty()).then(|| ((*id).to_owned(), fields))
    };
    Changes { added: only(&new, &old), removed: only(&old, &new), changed: old.iter().filter_map(differs).collect() }
}

/// The fields in which two entries differ, as their JSON names them.
fn fields<T: Serialize>(before: &T, after: &T) -> Vec<String> {
    // An entry has only text, numbers and lists of them: it always has a JSON.
    let json = |entry: &T| serde_json::to_value(entry).unwrap_or_default();
    match (json(before), json(after)) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
        }
        _ => Vec::new(),
    }
}
