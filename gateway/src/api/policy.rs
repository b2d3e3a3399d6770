//! `policy_*`: what is allowed, and what would be said to an intent.
//!
//! - [`change`]: how the policy is changed; `ask`: what a policy, in force or not, would say and has said.

pub(super) mod ask;
pub mod change;
mod told;

use chains::amount::Amount;
use chains::effects::Effects;
use chains::intent::Intent;
use serde::{Deserialize, Serialize};
use signer::policy::change::Version;
use signer::policy::trace::{Trace, evaluate_traced};
use signer::policy::{self, Circumstances, Policy, Verdict};
use signer::roster::{CredentialId, Role};

use self::change::DocumentView;
use super::{Context, params};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::pipeline::StepError;
use crate::pipeline::evaluate::refusal;
use crate::screening::Clearance;

/// A version of the policy.
#[derive(Clone, Serialize)]
pub(super) struct PolicyView {
    /// The rules, limits and denied holders as they were compiled.
    policy: Policy,
    /// The version with its documents.
    #[serde(flatten)]
    document: DocumentView,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    version: Option<Version>,
}

/// `policy_get {version?}`: a version, or the policy in force: its document, and the rules, limits and denied holders as they were
/// compiled.
pub(super) async fn get(context: &Context, asked: &Asked) -> Result<PolicyView, ApiError> {
    asked.caller()?;
    let Get { version } = params(asked)?;
    let governance = context.pipeline.governance();
    let document = change::document(governance, version).await?;
    let policy = governance.policy_of(document.version.version).await?;
    Ok(PolicyView { policy: (*policy).clone(), document })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evaluate {
    intent: Intent,
    initiator: Option<CredentialId>,
}

/// What would be said to an intent. Nothing is stored for it, and nothing reserved.
#[derive(Clone, Serialize)]
pub(super) struct Evaluation {
    /// What its transaction would do on the chain's present state.
    effects: Effects,
    /// What its parties were looked up in; none where something stands against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    clearance: Option<Clearance>,
    /// What stands against it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
    /// What the policy says, and why; of upkeep only what it says.
    #[serde(flatten)]
    judged: Judged,
    /// What it would draw, beside what is drawn already.
    draws: Vec<DrawView>,
}

#[derive(Clone, Serialize)]
struct Refused {
    kind: &'static str,
    message: String,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "snake_case")]
enum Judged {
    Trace(Trace),
    Upkeep(Verdict),
}

#[derive(Clone, Serialize)]
struct DrawView {
    counter: String,
    amount: Amount,
    used_amount: Amount,
    used_count: u64,
    max_amount: Option<Amount>,
    max_count: Option<u64>,
}

/// `policy_evaluate {intent, initiator?}`: a dry run: builds, decodes, screens and judges, as the caller would ask for it or, asked by
/// anybody but an initiator, as `initiator` would.
pub(super) async fn evaluate(context: &Context, asked: &Asked) -> Result<Evaluation, ApiError> {
    let caller = asked.caller()?;
    let Evaluate { intent, initiator } = params(asked)?;
    let initiator = match (caller.role, initiator) {
        (Role::Initiator, Some(other)) if other != caller.id => {
            return Err(ApiError::new("forbidden", "an initiator asks for itself"));
        }
        (Role::Initiator, _) => caller.id.clone(),
        (_, Some(initiator)) => initiator,
        (_, None) => return Err(ApiError::new("invalid_params", "name the initiator who would ask for it")),
    };
    let network = super::tx::check(context, &intent)?;
    let pipeline = &context.pipeline;
    let unknown = || ApiError::new("unknown_wallet", format!("there is no wallet {}", intent.wallet));
    let account = pipeline.account(&intent.wallet).ok_or_else(unknown)?;
    let lane = pipeline.lane(network).ok_or_else(unknown)?;
    let busy = pipeline.store().busy(network).await?;
    let draft = match lane.build(&intent, account, &busy).await {
        Ok(draft) => draft,
        Err(error) => {
            return Err(match refusal(error) {
                Ok((_, reason)) => ApiError::new(&reason.kind, reason.message),
                Err(StepError::Retry(reason)) => ApiError::new(&reason.kind, reason.message).retry_after(1_000),
                Err(StepError::Store(error)) => error.into(),
            });
        }
    };
    let effects = draft.effects().clone();
    let (clearance, refused) = match pipeline.screening.clear(&effects).await {
        Ok(clearance) => (Some(clearance), None),
        Err(refusal) => (None, Some(Refused { kind: refusal.kind(), message: refusal.to_string() })),
    };
    let (at, policy) = (context.clock.unix_millis(), pipeline.governance().policy());
    let circumstances = Circumstances { initiator: &initiator, at };
    let judged = if intent.action.is_upkeep() {
        Judged::Upkeep(policy::evaluate_upkeep(&policy, account, &circumstances, &effects))
    } else {
        Judged::Trace(evaluate_traced(&policy, account, &circumstances, &effects))
    };
    let verdict = match &judged {
        Judged::Trace(trace) => &trace.verdict,
        Judged::Upkeep(verdict) => verdict,
    };
    let mut draws = Vec::new();
    if let Verdict::Allow { draws: drawn, .. } | Verdict::Require { draws: drawn, .. } = verdict {
        for draw in drawn {
            let counted = draw.window.buckets_counted(at);
            let since = u64::try_from(counted.start().get()).unwrap_or_default();
            // Later buckets count too, as where it is reserved.
            let used = pipeline.store().usage(draw.counter.as_str(), since, u64::MAX).await?;
            draws.push(DrawView {
                counter: draw.counter.as_str().to_owned(),
                amount: draw.amount,
                used_amount: used.amount,
                used_count: used.count,
                max_amount: draw.max_amount,
                max_count: draw.max_count,
            });
        }
    }
    Ok(Evaluation { effects, clearance, refused, judged, draws })
}
