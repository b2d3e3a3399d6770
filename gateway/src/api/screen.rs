//! `screen_*`: the lists and providers that parties are looked up in, and overrides of what they say.

use std::sync::Arc;

use chains::address::UncheckedAddress;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use signer::approval::{Approval, Decision};
use signer::request::SignedRequest;
use signer::roster::{CredentialId, Role};

use super::{Context, params};
use crate::auth::{Asked, Caller};
use crate::error::ApiError;
use crate::screening::waiver::{MAX_SECONDS, Proposal, Waiver, WaiverId};
use crate::screening::{Clearance, ListStatus};
use crate::store::{Paper, PaperKind};

/// `screen_status`: the lists with their digests and ages.
pub(super) async fn status(context: &Context, asked: &Asked) -> Result<Vec<ListStatus>, ApiError> {
    asked.caller()?;
    Ok(context.pipeline.screening.status())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lookup {
    address: UncheckedAddress,
    network: Network,
}

#[derive(Clone, Serialize)]
pub(super) struct Looked {
    /// Whether nothing is known against it.
    clear: bool,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What it was looked up in.
    #[serde(skip_serializing_if = "Option::is_none")]
    clearance: Option<Clearance>,
}

/// `screen_address {address, network}`: looks up one address as a payment's party would be.
pub(super) async fn address(context: &Context, asked: &Asked) -> Result<Looked, ApiError> {
    asked.caller()?;
    let Lookup { address, network } = params(asked)?;
    let address =
        address.require_network(network).map_err(|error| ApiError::new("invalid_address", error.to_string()))?;
    Ok(match context.pipeline.screening.clear_address(&address).await {
        Ok(clearance) => Looked { clear: true, kind: None, message: None, clearance: Some(clearance) },
        Err(refusal) => {
            Looked { clear: false, kind: Some(refusal.kind()), message: Some(refusal.to_string()), clearance: None }
        }
    })
}

#[derive(Clone, Serialize)]
pub(super) struct Reloaded {
    /// The lists that changed.
    changed: Vec<String>,
    lists: Vec<ListStatus>,
}

/// `screen_reload`: reads the lists whose files were written since. By an operator.
pub(super) async fn reload(context: &Context, asked: &Asked) -> Result<Reloaded, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    context.pipeline.store().use_token(caller.claims.clone(), context.clock.unix_millis()).await?;
    let screening = Arc::clone(&context.pipeline.screening);
    let read = tokio::task::spawn_blocking(move || screening.reload()).await;
    let read = read.map_err(|_| ApiError::new("internal", "reading the lists broke off"))?;
    context.pipeline.rescreen().await; // of several lists, some may have changed
    let changed = read.map_err(|error| ApiError::new("screening_unavailable", error.to_string()))?;
    Ok(Reloaded { changed, lists: context.pipeline.screening.status() })
}

/// An override of the screening, as `screen_overrides` answers it. What approvers need is the request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OverrideView {
    /// Its name: the SHA-256 of the body that asked for it, hex.
    #[serde(rename = "override")]
    pub id: WaiverId,
    /// Where it stands.
    pub state: OverrideState,
    /// The request as the operator signed it: the JWT, and the raw body in base64.
    pub request: SignedRequest,
    /// What was asked for, as the body says it.
    pub proposal: Proposal,
    /// Who asked.
    pub proposed_by: CredentialId,
    /// What has to be met.
    pub quorum: String,
    /// How many more people it takes at least.
    pub missing: usize,
    /// The words that hold.
    pub words: Vec<Approval>,
}

/// Where an override stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverrideState {
    /// It waits for people.
    Proposed,
    /// It clears the address.
    Standing,
    /// Somebody said no.
    Rejected,
    /// Its time is over.
    Expired,
}

/// `screen_override {address, network, reason, expires}`: asks that an address which is listed or identified may be touched until
/// `expires`. By an operator; it takes the quorum of `[screening] override_require`.
pub(super) async fn propose(context: &Context, asked: &Asked) -> Result<OverrideView, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    let pipeline = &context.pipeline;
    let Proposal { address, network, expires, .. } = Proposal::from_call(&asked.call)?;
    let address =
        address.require_network(network).map_err(|error| ApiError::new("invalid_address", error.to_string()))?;
    if pipeline.screening.override_require().is_none() {
        return Err(ApiError::new("override_impossible", "no quorum for overrides is configured"));
    }
    if pipeline.screening.denies(&address) {
        return Err(ApiError::new("override_impossible", "the policy itself denies the address; no override helps"));
    }
    let at = context.clock.unix_millis();
    if expires <= at / 1000 || expires.saturating_sub(at / 1000) > MAX_SECONDS {
        let message = "an override ends in the future, within 90 days; `expires` is in seconds since 1970";
        return Err(ApiError::new("invalid_params", message));
    }
    let id = WaiverId::of(&caller.request.body);
    tracing::info!(override_id = %id, %address, credential = %caller.id, "an override of the screening is asked for");
    keep(context, PaperKind::Override, id.to_string(), &*caller.request, caller).await?;
    one(context, id)
}

/// `screen_overrides {}`: every override, and where it stands.
pub(super) async fn overrides(context: &Context, asked: &Asked) -> Result<Vec<OverrideView>, ApiError> {
    asked.caller()?;
    let waivers = context.pipeline.screening.waivers();
    Ok(waivers.iter().filter_map(|waiver| view(context, waiver)).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    #[serde(rename = "override")]
    id: WaiverId,
    approval: Approval,
}

/// `screen_approveOverride {override, approval}`: an approver's signed word. A rejection ends the override, at any time. Anybody with a
/// credential may hand it in.
pub(super) async fn approve(context: &Context, asked: &Asked) -> Result<OverrideView, ApiError> {
    let caller = asked.caller()?;
    let Approve { id, approval } = params(asked)?;
    let waivers = context.pipeline.screening.waivers();
    let waiver = waivers.iter().find(|waiver| waiver.id() == id).ok_or_else(|| unknown(id))?;
    let checked = waiver.check(&approval, &context.pipeline.roster);
    let (word, _) = checked.map_err(|error| ApiError::new("invalid_approval", error.to_string()))?;
    let (approver, rejects) = (approval.approver.clone(), word.decision == Decision::Reject);
    if waiver.rejected_by().is_some() {
        return Err(ApiError::new("override_impossible", "the override was rejected; ask for another"));
    }
    // A rejection has a name of its own, which no later approval takes.
    let name = format!("{id}/{approver}{}", if rejects { "/no" } else { "" });
    keep(context, PaperKind::OverrideWord, name, &approval, caller).await?;
    tracing::info!(override_id = %id, %approver, decision = ?word.decision, "an approver has decided on an override");
    if rejects {
        context.pipeline.rescreen().await;
    }
    one(context, id)
}

async fn keep(
    context: &Context,
    kind: PaperKind,
    name: String,
    content: &impl Serialize,
    caller: &Caller,
) -> Result<(), ApiError> {
    let content = serde_json::to_string(content).map_err(|error| ApiError::new("internal", error.to_string()))?;
    let paper = Paper { kind, name, content };
    context.pipeline.store().keep(paper, caller.claims.clone(), context.clock.unix_millis()).await?;
    Ok(context.pipeline.load_waivers().await?)
}

fn one(context: &Context, id: WaiverId) -> Result<OverrideView, ApiError> {
    let waivers = context.pipeline.screening.waivers();
    let found = waivers.iter().find(|waiver| waiver.id() == id);
    found.and_then(|waiver| view(context, waiver)).ok_or_else(|| unknown(id))
}

fn unknown(id: WaiverId) -> ApiError {
    ApiError::new("unknown_override", format!("there is no override {id}"))
}

/// None where no quorum is configured: then there are no overrides.
fn view(context: &Context, waiver: &Waiver) -> Option<OverrideView> {
    let quorum = context.pipeline.screening.override_require()?;
    let at = context.clock.unix_millis();
    let state = if waiver.rejected_by().is_some() {
        OverrideState::Rejected
    } else if waiver.is_over(at) {
        OverrideState::Expired
    } else if waiver.stands(quorum, at) {
        OverrideState::Standing
    } else {
        OverrideState::Proposed
    };
    Some(OverrideView {
        id: waiver.id(),
        state,
        request: waiver.request().clone(),
        proposal: waiver.proposal().clone(),
        proposed_by: waiver.by().clone(),
        quorum: quorum.to_string(),
        missing: waiver.missing(quorum),
        words: waiver.words().to_vec(),
    })
}
