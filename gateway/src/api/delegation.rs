//! `approval_delegate`, `approval_delegations`, `approval_revoke`: approvers who act for others.

use serde::{Deserialize, Serialize};
use signer::approval::Approval;
use signer::approval::delegation::{Delegation, DelegationId};
use signer::roster::{CredentialId, Role};

use super::{Context, params};
use crate::auth::{Asked, Caller};
use crate::error::ApiError;
use crate::store::{Paper, PaperKind};

/// A delegation, as `approval_delegations` answers it. A delegate puts the envelope into the statement that they sign.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DelegationView {
    /// Its name: the SHA-256 of its payload, hex.
    pub id: DelegationId,
    /// Who has delegated.
    pub delegator: CredentialId,
    /// To whom, for how long, for what.
    pub terms: Delegation,
    /// Where it stands.
    pub state: DelegationState,
    /// The delegation as its delegator signed it.
    pub envelope: Approval,
}

/// Where a delegation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelegationState {
    /// Its time hasn't come.
    Later,
    /// The delegate may act.
    Standing,
    /// Its time is over.
    Over,
    /// It was taken back.
    Revoked,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delegate {
    delegation: Approval,
}

/// `approval_delegate {delegation}`: keeps an approver's signed delegation, so that its delegate finds it. Anybody with a credential may
/// hand it in: it is the delegator's signature that counts.
pub(super) async fn delegate(context: &Context, asked: &Asked) -> Result<DelegationView, ApiError> {
    let caller = asked.caller()?;
    let Delegate { delegation: envelope } = params(asked)?;
    let invalid = |message: String| ApiError::new("invalid_approval", message);
    let read = Delegation::read(&envelope, &context.pipeline.roster);
    let (terms, _) = read.map_err(|error| invalid(error.to_string()))?;
    if terms.until < context.clock.unix_seconds() {
        return Err(invalid("the delegation is over already".to_owned()));
    }
    tracing::info!(delegator = %envelope.approver, delegate = %terms.delegate, until = terms.until, "an approver delegates");
    let id = DelegationId::of(&envelope);
    keep(context, caller, PaperKind::Delegation, id, &envelope).await?;
    Ok(view(context, envelope, terms))
}

/// `approval_delegations {}`: every delegation, and where it stands.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<DelegationView>, ApiError> {
    asked.caller()?;
    let papers = context.pipeline.store().papers(PaperKind::Delegation).await?;
    let views = papers.into_iter().filter_map(|paper| {
        let envelope: Approval = serde_json::from_str(&paper.content).ok()?;
        // One that doesn't hold under the present roster delegates nothing.
        let (terms, _) = Delegation::read(&envelope, &context.pipeline.roster).ok()?;
        Some(view(context, envelope, terms))
    });
    Ok(views.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    id: DelegationId,
}

/// `approval_revoke {id}`: this gateway counts nothing under the delegation any more. By the person who gave it, or an operator.
pub(super) async fn revoke(context: &Context, asked: &Asked) -> Result<DelegationView, ApiError> {
    let caller = asked.caller()?;
    let Revoke { id } = params(asked)?;
    let unknown = || ApiError::new("unknown_delegation", format!("there is no delegation {id}"));
    let paper = context.pipeline.store().paper(PaperKind::Delegation, &id.to_string()).await?;
    let envelope: Approval = serde_json::from_str(&paper.ok_or_else(unknown)?.content).map_err(|_| unknown())?;
    let roster = &context.pipeline.roster;
    let (terms, delegator) = Delegation::read(&envelope, roster).map_err(|_| unknown())?;
    let own = roster.approver(&caller.id).is_some_and(|approver| approver.person == delegator.person);
    if !own && caller.role != Role::Operator {
        let message = "a delegation is revoked by whoever gave it, or an operator";
        return Err(ApiError::new("forbidden", message));
    }
    tracing::info!(%id, credential = %caller.id, "a delegation is revoked");
    keep(context, caller, PaperKind::Revocation, id, &*caller.request).await?;
    context.pipeline.load_revocations().await?;
    Ok(view(context, envelope, terms))
}

async fn keep(
    context: &Context,
    caller: &Caller,
    kind: PaperKind,
    id: DelegationId,
    content: &impl Serialize,
) -> Result<(), ApiError> {
    let content = serde_json::to_string(content).map_err(|error| ApiError::new("internal", error.to_string()))?;
    let paper = Paper { kind, name: id.to_string(), content };
    Ok(context.pipeline.store().keep(paper, caller.claims.clone(), context.clock.unix_millis()).await?)
}

fn view(context: &Context, envelope: Approval, terms: Delegation) -> DelegationView {
    let (id, at) = (DelegationId::of(&envelope), context.clock.unix_millis());
    let state = if context.pipeline.revoked().contains(&id) {
        DelegationState::Revoked
    } else if terms.holds_at(at) {
        DelegationState::Standing
    } else if terms.from > at / 1000 {
        DelegationState::Later
    } else {
        DelegationState::Over
    };
    DelegationView { id, delegator: envelope.approver.clone(), terms, state, envelope }
}
