//! `policy_diff`, `policy_prove`, `policy_replay` and `policy_usage`: what a policy, in force or not, would say and has said.

use std::collections::BTreeMap;
use std::sync::Arc;

use chains::account::Account;
use chains::amount::Amount;
use chains::effects::Effects;
use serde::{Deserialize, Serialize};
use signer::policy::change::{Version, check_roster};
use signer::policy::document::Document;
use signer::policy::limit::{CounterKey, Usage};
use signer::policy::prove::{Question, Witness};
use signer::policy::{self, Circumstances, Policy, Verdict};

use super::told::told_effects;
use super::{Context, params};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::record::{Record, RecordId, State};
use crate::store::pages::Pages;

/// How many records a replay goes over at most.
const MOST: usize = 100_000;
/// How many changed verdicts a replay lists at most.
const LISTED: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compared {
    from: Option<Version>,
    to: Option<Version>,
    document: Option<String>,
}

/// What another policy changes.
#[derive(Clone, Serialize)]
pub(in crate::api) struct DiffView {
    #[serde(flatten)]
    diff: policy::diff::Diff,
    /// Whether another quorum or another delay changes the policy from then on.
    changes: bool,
}

/// `policy_diff {from?, to | document}`: what a version or a document changes of another version, or of the one in force.
pub(in crate::api) async fn diff(context: &Context, asked: &Asked) -> Result<DiffView, ApiError> {
    asked.caller()?;
    let Compared { from, to, document } = params(asked)?;
    let governance = context.pipeline.governance();
    let before = governance.policy_of(from.unwrap_or_else(|| governance.in_force().version)).await?;
    let after = match (to, document) {
        (Some(version), None) => governance.policy_of(version).await?,
        (None, Some(text)) => drafted(context, text)?,
        _ => return Err(ApiError::new("invalid_params", "name a version in `to`, or give a `document`")),
    };
    let (accounts, at) = (accounts(context), context.clock.unix_millis());
    let changes = before.changes() != after.changes();
    let diff = blocking(move || policy::diff(&before, &after, &accounts, at)).await?;
    let diff = diff.map_err(|error| ApiError::new("invalid_params", error.to_string()))?;
    Ok(DiffView { diff, changes })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prove {
    question: Question,
    version: Option<Version>,
    document: Option<String>,
}

/// Whether anything is allowed that a question describes.
#[derive(Clone, Serialize)]
pub(in crate::api) struct Proof {
    /// Whether there is such a transaction.
    allowed: bool,
    /// One of them.
    witness: Option<Witness>,
}

/// `policy_prove {question, version? | document?}`: whether the policy in force, a version or a document allows anything that the
/// question describes, with a transaction for it.
pub(in crate::api) async fn prove(context: &Context, asked: &Asked) -> Result<Proof, ApiError> {
    asked.caller()?;
    let Prove { question, version, document } = params(asked)?;
    let governance = context.pipeline.governance();
    let policy = match (version, document) {
        (None, None) => governance.policy(),
        (Some(version), None) => governance.policy_of(version).await?,
        (None, Some(text)) => drafted(context, text)?,
        _ => return Err(ApiError::new("invalid_params", "name a version, or give a document")),
    };
    let accounts = accounts(context);
    let found = blocking(move || policy::prove(&policy, &accounts, &question)).await?;
    let witness = found.map_err(|error| ApiError::new("invalid_params", error.to_string()))?;
    Ok(Proof { allowed: witness.is_some(), witness })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    document: String,
    from: Option<u64>,
    to: Option<u64>,
}

/// What a draft would have said to past payments.
#[derive(Clone, Default, Serialize)]
pub(in crate::api) struct Replayed {
    /// How many records were judged.
    records: u64,
    /// How many could not be: nothing tells what their transactions would have done.
    unknown: u64,
    /// How many say the same.
    same: u64,
    /// How often one verdict became another: `allow -> deny`.
    changes: BTreeMap<String, u64>,
    /// The records whose verdict changes, the oldest first, at most 1000.
    changed: Vec<ReplayedRecord>,
}

/// A record whose verdict changes.
#[derive(Clone, Serialize)]
struct ReplayedRecord {
    tx_id: RecordId,
    at: u64,
    /// What the policy in force says.
    before: Verdict,
    /// What the draft says.
    after: Verdict,
}

/// A policy with the counters that it would have kept.
struct Judge {
    policy: Arc<Policy>,
    usage: Usage,
}

/// `policy_replay {document, from?, to?}`: a draft over the payments that were asked for from one time to another, in milliseconds
/// since the Unix epoch, against the policy in force. Each is judged as of when it was asked for, by what its bytes did or, where it had
/// none yet, by what it was decoded to do then. Limits are counted anew for both, from the first payment on, over those that weren't
/// refused.
pub(in crate::api) async fn replay(context: &Context, asked: &Asked) -> Result<Replayed, ApiError> {
    asked.caller()?;
    let Replay { document, from, to } = params(asked)?;
    let fresh = |policy| Judge { policy, usage: Usage::default() };
    let (mut before, mut after) = (fresh(context.pipeline.governance().policy()), fresh(drafted(context, document)?));
    let mut replayed = Replayed::default();
    for id in asked_between(context, from.unwrap_or(0), to.unwrap_or(u64::MAX)).await? {
        let Some(record) = context.pipeline.store().get(id).await? else { continue };
        let Some(at) = record.history.first().map(|event| event.at) else { continue };
        let known = context.pipeline.account(&record.intent.wallet).zip(effects(context, &record));
        let Some((account, effects)) = known else {
            replayed.unknown = replayed.unknown.saturating_add(1);
            continue;
        };
        replayed.records = replayed.records.saturating_add(1);
        let (before, after) = (before.say(&record, account, &effects, at), after.say(&record, account, &effects, at));
        let (was, is) = (word(&before), word(&after));
        if was == is && quorums(&before) == quorums(&after) {
            replayed.same = replayed.same.saturating_add(1);
            continue;
        }
        let count = replayed.changes.entry(format!("{was} -> {is}")).or_default();
        *count = count.saturating_add(1);
        if replayed.changed.len() < LISTED {
            replayed.changed.push(ReplayedRecord { tx_id: record.id, at, before, after });
        }
    }
    Ok(replayed)
}

impl Judge {
    /// The verdict on a payment, and what it draws counted, where it isn't no.
    fn say(&mut self, record: &Record, account: &Account, effects: &Effects, at: u64) -> Verdict {
        let circumstances = Circumstances { initiator: &record.client, at };
        if record.intent.action.is_upkeep() {
            return policy::evaluate_upkeep(&self.policy, account, &circumstances, effects);
        }
        if let Err(reason) = self.policy.require_deal(account.wallet(), record.deal.is_some()) {
            return Verdict::Deny { rule: None, reason };
        }
        let verdict = policy::evaluate(&self.policy, account, &circumstances, effects);
        let draws = match &verdict {
            Verdict::Allow { draws, .. } | Verdict::Require { draws, .. } => draws,
            Verdict::Deny { .. } => return verdict,
        };
        if let Err(reason) = self.usage.check(draws, at) {
            return Verdict::Deny { rule: None, reason };
        }
        let paid = !matches!(record.state, State::Rejected | State::Blocked | State::Expired | State::Cancelled);
        if paid {
            self.usage.record(draws, at);
        }
        verdict
    }
}

/// The records that were asked for in this time, the oldest first.
async fn asked_between(context: &Context, from: u64, to: u64) -> Result<Vec<RecordId>, ApiError> {
    let mut found = Vec::new();
    let mut pages = Pages::of_all(context.pipeline.store().as_ref());
    while let Some(records) = pages.next().await? {
        let asked_at = |record: &Record| record.history.first().map_or(0, |event| event.at);
        found.extend(records.iter().filter(|record| (from..=to).contains(&asked_at(record))).map(|record| record.id));
        if found.len() > MOST {
            let message = format!("there are more than {MOST} records; name a shorter time");
            return Err(ApiError::new("invalid_params", message));
        }
        // Ids sort by time, so everything further on is older still.
        if records.last().is_some_and(|last| asked_at(last) < from) {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

/// What a record's transaction does: as its first bytes say it, or else as it was decoded when it was judged.
fn effects(context: &Context, record: &Record) -> Option<Effects> {
    let account = context.pipeline.account(&record.intent.wallet)?;
    let lane = context.pipeline.lane(record.network)?;
    let frozen = record.attempts.first().and_then(|attempt| lane.decode(account, attempt.unsigned.clone()).ok());
    match frozen {
        Some(draft) => Some(draft.effects().clone()),
        None => {
            let told = record.history.iter().rev().find_map(|event| event.detail.as_ref()?.get("effects"));
            told_effects(told?, record.network)
        }
    }
}

const fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow { .. } => "allow",
        Verdict::Require { .. } => "require",
        Verdict::Deny { .. } => "deny",
    }
}

fn quorums(verdict: &Verdict) -> Option<Vec<String>> {
    match verdict {
        Verdict::Require { quorums, .. } => Some(quorums.iter().map(ToString::to_string).collect()),
        _ => None,
    }
}

/// A limit's counter.
#[derive(Clone, Serialize)]
pub(in crate::api) struct UsageView {
    limit: String,
    /// Its window as the policy writes it; none of a limit that nothing has been drawn from.
    counter: Option<String>,
    /// What its present window holds, reserved and paid, in base units and payments.
    used_amount: Amount,
    used_count: u64,
    max_amount: Option<Amount>,
    max_count: Option<u64>,
}

/// `policy_usage`: every limit of the policy in force, with what is drawn from each of its counters.
pub(in crate::api) async fn usage(context: &Context, asked: &Asked) -> Result<Vec<UsageView>, ApiError> {
    asked.caller()?;
    let (store, policy) = (context.pipeline.store(), context.pipeline.governance().policy());
    let at = context.clock.unix_millis();
    let counters: Vec<CounterKey> = store.counters().await?.iter().filter_map(|name| name.parse().ok()).collect();
    let mut views = Vec::new();
    for (limit, max_amount, max_count) in policy.caps() {
        let mut empty = true;
        for counter in counters.iter().filter(|counter| counter.limit() == limit) {
            let since = u64::try_from(counter.window().buckets_counted(at).start().get()).unwrap_or_default();
            let used = store.usage(counter.as_str(), since, u64::MAX).await?;
            empty = false;
            views.push(UsageView {
                limit: limit.to_owned(),
                counter: Some(counter.to_string()),
                used_amount: used.amount,
                used_count: used.count,
                max_amount,
                max_count,
            });
        }
        if empty {
            let (used_amount, used_count) = (Amount::ZERO, 0);
            views.push(UsageView {
                limit: limit.to_owned(),
                counter: None,
                used_amount,
                used_count,
                max_amount,
                max_count,
            });
        }
    }
    Ok(views)
}

/// A draft that could come into force.
fn drafted(context: &Context, document: String) -> Result<Arc<Policy>, ApiError> {
    let policy = context.pipeline.governance().compile(&Document::new(document.into_bytes()))?;
    check_roster(&policy, &context.pipeline.roster)
        .map_err(|error| ApiError::new("invalid_policy", error.to_string()))?;
    Ok(Arc::new(policy))
}

fn accounts(context: &Context) -> Vec<Account> {
    context.pipeline.accounts().cloned().collect()
}

/// Runs what may take a while off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::new("internal", error.to_string()))
}
