//! `approval_*`: what waits for people, and what they say of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use signer::approval::delegation::{Delegation, DelegationFault};
use signer::approval::{Approval, Approver, Decision, Statement};
use signer::policy::quorum::Quorum;
use signer::request::{IntentId, SignedRequest};
use signer::roster::{CredentialId, Role};

use super::view::TxView;
use super::{Context, params};
use crate::auth::{Asked, Caller};
use crate::error::ApiError;
use crate::pipeline::approve::Needs;
use crate::record::{Record, RecordId, State};
use crate::store::{Filter, StoreError};

/// How many records `approval_list` answers if not told otherwise, and at most.
const PAGE: (u32, u32) = (50, 500);

/// What an approver needs in order to decide, as `approval_get` answers it. Nothing of it has to be believed: the payment is in
/// the request's body, and what is signed is derived from that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalView {
    /// The record.
    pub tx: TxView,
    /// The request as its client signed it: the JWT, and the raw body in base64.
    pub request: SignedRequest,
    /// The SHA-256 of the body, hex.
    pub request_digest: String,
    /// The intent that a statement names.
    pub intent_id: IntentId,
    /// What has to be met.
    pub quorums: Vec<QuorumView>,
    /// Whether it waits for the data that the Travel Rule wants, too.
    #[serde(default)]
    pub travel_missing: bool,
    /// Whose word is kept.
    pub approvals: Vec<Approval>,
    /// When the payment expires, in milliseconds since the Unix epoch.
    pub expires_at: u64,
}

/// One quorum.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuorumView {
    /// `2 of finance and 1 of cfo`.
    pub quorum: String,
    /// How many more people it takes at least.
    pub missing: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    before: Option<RecordId>,
    limit: Option<u32>,
}

/// `approval_list {before?, limit?}`: what waits for approval, newest first.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<ApprovalView>, ApiError> {
    let caller = asked.caller()?;
    let List { before, limit } = params(asked)?;
    let filter = Filter {
        client: (caller.role == Role::Initiator).then(|| caller.id.clone()),
        wallet: None,
        state: Some(State::AwaitingApproval),
        deals: false,
        before,
        limit: limit.unwrap_or(PAGE.0).min(PAGE.1),
    };
    let records = context.pipeline.store().list(filter).await?;
    Ok(records.into_iter().map(|record| view(context, record)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    tx_id: RecordId,
}

/// `approval_get {tx_id}`: the payment as it was asked for, and what is missing.
pub(super) async fn get(context: &Context, asked: &Asked) -> Result<ApprovalView, ApiError> {
    let caller = asked.caller()?;
    let Get { tx_id } = params(asked)?;
    Ok(view(context, shown(context, caller, tx_id).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submit {
    tx_id: RecordId,
    approval: Approval,
}

/// `approval_submit {tx_id, approval}`: an approver's signed statement. Anybody with a credential may hand it in: it is the
/// approver's signature that counts. A rejection ends the payment.
pub(super) async fn submit(context: &Context, asked: &Asked) -> Result<ApprovalView, ApiError> {
    let caller = asked.caller()?;
    let Submit { tx_id, approval } = params(asked)?;
    let record = shown(context, caller, tx_id).await?;
    let (statement, _) = checked(context, &record, &approval)?;
    keep(context, caller, &record, approval, statement.decision).await?;
    Ok(view(context, shown(context, caller, tx_id).await?))
}

/// What an approver says of a record, and who that is, where it holds.
pub(super) fn checked(
    context: &Context,
    record: &Record,
    approval: &Approval,
) -> Result<(Statement, Approver), ApiError> {
    let at = context.clock.unix_millis();
    let invalid = |message: String| ApiError::new("invalid_approval", message).about(record);
    let checked = approval.check(&context.pipeline.roster, &record.subject());
    let (statement, approver) = checked.map_err(|error| invalid(error.to_string()))?;
    if statement.expires < at / 1000 {
        return Err(invalid(format!("the approval of {} has expired, at {}", approval.approver, statement.expires)));
    }
    if let Some(envelope) = &statement.delegation {
        let read = Delegation::read(envelope, &context.pipeline.roster);
        let (delegation, _) = read.map_err(|error| invalid(error.to_string()))?;
        if !delegation.holds_at(at) {
            return Err(invalid(DelegationFault::NotNow.to_string()));
        }
        if context.pipeline.is_revoked(&statement) {
            return Err(invalid(DelegationFault::Revoked.to_string()));
        }
    }
    Ok((statement, approver))
}

/// Keeps what an approver says, and goes on where that was all that was missing.
pub(super) async fn keep(
    context: &Context,
    caller: &Caller,
    record: &Record,
    approval: Approval,
    decision: Decision,
) -> Result<(), ApiError> {
    let (pipeline, at) = (&context.pipeline, context.clock.unix_millis());
    let approver: CredentialId = approval.approver.clone();
    match pipeline.store().approve(record.id, approval, decision, caller.claims.clone(), at).await {
        Ok(()) => {}
        Err(error) => return Err(not_waiting(error, record)),
    }
    tracing::info!(tx_id = %record.id, %approver, ?decision, "an approver has decided");
    pipeline.look_at(record);
    Ok(())
}

/// The error of a step that only a record that waits for approval takes.
pub(super) fn not_waiting(error: StoreError, record: &Record) -> ApiError {
    match error {
        StoreError::Stale { expected: State::AwaitingApproval, .. } => {
            ApiError::new("not_awaiting_approval", error.to_string()).about(record)
        }
        error => error.into(),
    }
}

/// The record, for somebody who may see it: an initiator sees its own.
pub(super) async fn shown(context: &Context, caller: &Caller, id: RecordId) -> Result<Record, ApiError> {
    let record = context.pipeline.store().get(id).await?;
    let record = record.filter(|record| caller.role != Role::Initiator || record.client == caller.id);
    record.ok_or_else(|| ApiError::new("unknown_record", format!("there is no record {id}")))
}

/// What has to be met, for people to read.
pub(super) fn quorums(needs: &Needs) -> Vec<QuorumView> {
    let view = |(quorum, missing): &(Quorum, usize)| QuorumView { quorum: quorum.to_string(), missing: *missing };
    needs.quorums.iter().map(view).collect()
}

fn view(context: &Context, record: Record) -> ApprovalView {
    let needs = context.pipeline.needs(&record);
    ApprovalView {
        request: record.request.clone(),
        request_digest: Sha256::digest(&record.request.body).iter().map(|byte| format!("{byte:02x}")).collect(),
        intent_id: record.intent_id(),
        quorums: quorums(&needs),
        travel_missing: needs.travel,
        approvals: record.approvals.clone(),
        expires_at: needs.expires_at,
        tx: record.into(),
    }
}
