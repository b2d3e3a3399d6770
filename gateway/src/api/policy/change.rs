//! `policy_propose` and what follows: the versions of the policy, and what people say of them.

use serde::{Deserialize, Serialize};
use signer::approval::{Approval, Decision};
use signer::policy::change::{Change, ChangeStatement, Version};
use signer::policy::document::PolicyDigest;
use signer::request::SignedRequest;
use signer::request::proposal::Proposal;
use signer::roster::{CredentialId, Role};

use super::{Context, params};
use crate::api::approval::QuorumView;
use crate::auth::Asked;
use crate::error::ApiError;
use crate::governance::{Governance, SignerPolicy};
use crate::store::policies::{PolicyRecord, PolicyState};

/// A version of the policy, without its document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionView {
    /// Its number.
    pub version: Version,
    /// The SHA-256 of its document.
    pub digest: PolicyDigest,
    /// How far it has come.
    pub state: PolicyState,
    /// Whether the gateway judges by it.
    pub in_force: bool,
    /// The change that makes it; none of the configured policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeView>,
}

/// How a version came to be, or is to come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangeView {
    /// The SHA-256 of the document that it replaces.
    pub previous: PolicyDigest,
    /// Who proposed it.
    pub proposer: CredentialId,
    /// Why, in the proposer's words.
    pub note: String,
    /// When it was proposed, in milliseconds since the Unix epoch.
    pub proposed_at: u64,
    /// When enough people had approved.
    pub approved_at: Option<u64>,
    /// When it came into force.
    pub active_at: Option<u64>,
    /// Who rejected it.
    pub rejected_by: Option<CredentialId>,
    /// What it takes while it is open.
    pub quorum: Option<QuorumView>,
    /// Whose word is kept.
    pub approvals: Vec<Approval>,
}

/// What an approver needs in order to decide, as `policy_get` answers it. Nothing of it has to be believed: what is signed names the
/// digests of these documents, and every signer compares them with what it has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DocumentView {
    /// The version.
    #[serde(flatten)]
    pub version: VersionView,
    /// Its document, in the exact bytes.
    pub document: String,
    /// The document that it replaces; none of the configured policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// The proposer's signed request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<SignedRequest>,
}

/// Every version, and what the signers have in force.
#[derive(Clone, Serialize)]
pub(in crate::api) struct Versions {
    versions: Vec<VersionView>,
    signers: Vec<SignerPolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    version: Version,
    approval: Approval,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    version: Version,
}

/// `policy_propose {document, note?}` and `policy_rollback {version, note?}`: a policy admin's signed request for another policy, which
/// is kept as evidence for the signers.
pub(in crate::api) async fn propose(context: &Context, asked: &Asked) -> Result<DocumentView, ApiError> {
    let caller = asked.caller_as(Role::PolicyAdmin)?;
    Proposal::from_call(&asked.call)?;
    let governance = context.pipeline.governance();
    let record = governance.propose((*caller.request).clone(), caller.claims.clone()).await?;
    view(governance, record).await
}

/// `policy_approve {version, approval}`: an approver's signed word on the open change to that version. Anybody with a credential may
/// hand it in: it is the approver's signature that counts.
pub(in crate::api) async fn approve(context: &Context, asked: &Asked) -> Result<DocumentView, ApiError> {
    say(context, asked, Decision::Approve).await
}

/// `policy_reject {version, approval}`: the same for a rejection, which ends the change, also while it waits for its delay.
pub(in crate::api) async fn reject(context: &Context, asked: &Asked) -> Result<DocumentView, ApiError> {
    say(context, asked, Decision::Reject).await
}

async fn say(context: &Context, asked: &Asked, expected: Decision) -> Result<DocumentView, ApiError> {
    let caller = asked.caller()?;
    let Say { version, approval } = params(asked)?;
    let said = serde_json::from_slice::<ChangeStatement>(&approval.payload).map(|statement| statement.decision);
    if said.ok() != Some(expected) {
        return Err(ApiError::new("invalid_approval", "the statement says something else than the method"));
    }
    let governance = context.pipeline.governance();
    let record = governance.say(version, approval, caller.claims.clone()).await?;
    view(governance, record).await
}

/// `policy_activate {version}`: asks the signers whether the approved change is in force. It comes into force by itself once its delay
/// is over, by each signer's clock; this only saves waiting for the gateway's next look.
pub(in crate::api) async fn activate(context: &Context, asked: &Asked) -> Result<DocumentView, ApiError> {
    let caller = asked.caller()?;
    if !matches!(caller.role, Role::PolicyAdmin | Role::Operator | Role::Approver) {
        return Err(ApiError::new("forbidden", format!("{} has the role {}", caller.id, caller.role)));
    }
    let Named { version } = params(asked)?;
    let governance = context.pipeline.governance();
    let record = governance.activate(version).await?;
    view(governance, record).await
}

/// `policy_versions`: every version and every change, the configured policy first, and what the signers have in force.
pub(in crate::api) async fn versions(context: &Context, asked: &Asked) -> Result<Versions, ApiError> {
    asked.caller()?;
    let governance = context.pipeline.governance();
    let mut versions = vec![configured(governance).await?];
    versions.extend(governance.records().await?.iter().map(|record| version_view(governance, record)));
    Ok(Versions { versions, signers: governance.signers().to_vec() })
}

/// The version, or else the one in force, with its documents.
pub(super) async fn document(governance: &Governance, version: Option<Version>) -> Result<DocumentView, ApiError> {
    match version.unwrap_or_else(|| governance.in_force().version) {
        none if none == Version::default() => {
            let document = text(governance.document(none).await?.bytes());
            Ok(DocumentView { version: configured(governance).await?, document, replaces: None, request: None })
        }
        version => view(governance, governance.record(version).await?).await,
    }
}

async fn view(governance: &Governance, record: PolicyRecord) -> Result<DocumentView, ApiError> {
    let before = record.version().get().checked_sub(1).map(Version::new);
    let replaces = match before {
        Some(before) => Some(text(governance.document(before).await?.bytes())),
        None => None,
    };
    let version = version_view(governance, &record);
    let Change { document, request, .. } = record.change;
    Ok(DocumentView { version, document: text(&document), replaces, request: Some(request) })
}

async fn configured(governance: &Governance) -> Result<VersionView, ApiError> {
    let version = Version::default();
    let digest = governance.document(version).await?.digest();
    let in_force = governance.in_force().version == version;
    Ok(VersionView { version, digest, state: PolicyState::Active, in_force, change: None })
}

fn version_view(governance: &Governance, record: &PolicyRecord) -> VersionView {
    let quorum = governance.missing(record).filter(|_| record.state.is_open());
    let in_force = governance.in_force();
    VersionView {
        version: record.version(),
        digest: record.digest,
        state: record.state,
        in_force: in_force.version == record.version() && in_force.policy.digest() == record.digest,
        change: Some(ChangeView {
            previous: record.change.previous,
            proposer: record.proposer.clone(),
            note: record.note.clone(),
            proposed_at: record.proposed_at,
            approved_at: record.approved_at,
            active_at: record.active_at,
            rejected_by: record.rejected_by.clone(),
            quorum: quorum.map(|(quorum, missing)| QuorumView { quorum, missing }),
            approvals: record.change.approvals.clone(),
        }),
    }
}

/// A document as text. What came in over the wire is; a document that isn't could never have been read.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
