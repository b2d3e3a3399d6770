//! `travel_*`: the data that the Travel Rule wants to go with a payment.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use signer::request::IdempotencyKey;
use signer::roster::Role;

use super::approval::not_waiting;
use super::{Context, params};
use crate::auth::{Asked, Caller};
use crate::error::ApiError;
use crate::record::{Record, RecordId, State};
use crate::store::{PaperKind, StoreError};
use crate::travel::Demand;
use crate::travel::ivms101::{Payload, TravelData};

/// How a payment stands with the Travel Rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TravelView {
    /// The record.
    pub tx_id: RecordId,
    /// Where it stands.
    pub state: State,
    /// What data is wanted for, if any is.
    pub demand: Option<Demand>,
    /// Whether the payment waits for it.
    pub missing: bool,
    /// The SHA-256 of the attached data's JSON, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Who attached it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_by: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attached_at: Option<u64>,
    /// The data, for auditors alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ivms101: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    tx_id: Option<RecordId>,
    key: Option<IdempotencyKey>,
    ivms101: Payload,
}

/// `travel_attach {tx_id | key, ivms101}`: the data for a payment that waits for approval, which then goes on. By its initiator or an
/// operator; the key is the initiator's own.
pub(super) async fn attach(context: &Context, asked: &Asked) -> Result<TravelView, ApiError> {
    let caller = asked.caller()?;
    if !matches!(caller.role, Role::Initiator | Role::Operator) {
        let message = format!("this needs the payment's initiator or an operator; {} has {}", caller.id, caller.role);
        return Err(ApiError::new("forbidden", message));
    }
    let Attach { tx_id, key, ivms101 } = params(asked)?;
    let record = find(context, caller, tx_id, key).await?;
    let at = context.clock.unix_millis();
    let data = TravelData::new(ivms101, at)
        .map_err(|fault| ApiError::new("invalid_ivms101", fault.to_string()).about(&record))?;
    let demand = record.travel_demand();
    let demand = demand.ok_or_else(|| ApiError::new("travel_not_wanted", "nothing is wanted for it").about(&record))?;
    if let Some(unnamed) = demand.unnamed(&data, record.network) {
        let message = format!("beneficiary.accountNumber has no {unnamed}, which the payment goes to");
        return Err(ApiError::new("invalid_ivms101", message).about(&record));
    }
    let content = data.to_json();
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let detail = json!({ "travel_by": caller.id, "travel_digest": digest, "travel_for": demand.to });
    let kept = context.pipeline.store().attach_travel(record.id, content, detail, caller.claims.clone(), at).await;
    kept.map_err(|error| not_waiting(error, &record))?;
    tracing::info!(tx_id = %record.id, credential = %caller.id, digest, "travel data is attached");
    context.pipeline.look_at(&record);
    let record = context.pipeline.store().get(record.id).await?.ok_or(StoreError::NoRecord(record.id))?;
    view(context, caller, record).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    tx_id: Option<RecordId>,
    key: Option<IdempotencyKey>,
}

/// `travel_status {tx_id | key}`: what is wanted and what is there. The data itself is shown to auditors.
pub(super) async fn status(context: &Context, asked: &Asked) -> Result<TravelView, ApiError> {
    let caller = asked.caller()?;
    let Status { tx_id, key } = params(asked)?;
    let record = find(context, caller, tx_id, key).await?;
    view(context, caller, record).await
}

/// The record, for somebody who may see it: an initiator sees its own.
async fn find(
    context: &Context,
    caller: &Caller,
    tx_id: Option<RecordId>,
    key: Option<IdempotencyKey>,
) -> Result<Record, ApiError> {
    let store = context.pipeline.store();
    let record = match (tx_id, key) {
        (Some(id), None) => store.get(id).await?,
        (None, Some(key)) => store.by_key(&caller.id, &key).await?,
        _ => return Err(ApiError::new("invalid_params", "name the payment by tx_id or by key, one of them")),
    };
    let record = record.filter(|record| caller.role != Role::Initiator || record.client == caller.id);
    record.ok_or_else(|| ApiError::new("unknown_record", "there is no such record"))
}

async fn view(context: &Context, caller: &Caller, record: Record) -> Result<TravelView, ApiError> {
    let attached = record.travel_attached();
    let paper = match caller.role {
        Role::Auditor => context.pipeline.store().paper(PaperKind::Travel, &record.id.to_string()).await?,
        _ => None,
    };
    let ivms101 = paper.map(|paper| serde_json::from_str(&paper.content)).transpose();
    let ivms101 = ivms101.map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let (digest, attached_by, attached_at) = match attached {
        Some((attached, at)) => (Some(attached.digest), Some(attached.by), Some(at)),
        None => (None, None, None),
    };
    Ok(TravelView {
        tx_id: record.id,
        state: record.state,
        demand: record.travel_demand(),
        missing: record.waits_for_travel(),
        digest,
        attached_by,
        attached_at,
        ivms101,
    })
}
