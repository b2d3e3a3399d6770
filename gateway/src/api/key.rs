//! `key_*`: the keys that the signers hold together.

use chains::account::KeyId;
use serde::{Deserialize, Serialize};
use signer::pool::{KeyStatus, SignerId};
use signer::roster::Role;

use super::{Context, params};
use crate::auth::Asked;
use crate::ceremonies::Job;
use crate::error::ApiError;

#[derive(Clone, Serialize)]
pub(super) struct KeyView {
    #[serde(flatten)]
    status: KeyStatus,
    /// The last ceremony.
    job: Option<Job>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    key: KeyId,
}

/// `key_list`.
pub(super) async fn list(context: &Context, asked: &Asked) -> Result<Vec<KeyView>, ApiError> {
    asked.caller()?;
    let ceremonies = context.pipeline.ceremonies();
    let view = |status: KeyStatus| KeyView { job: ceremonies.job(&status.key), status };
    Ok(ceremonies.keys().await.into_iter().map(view).collect())
}

/// `key_status {key}`.
pub(super) async fn status(context: &Context, asked: &Asked) -> Result<KeyView, ApiError> {
    asked.caller()?;
    let Named { key } = params(asked)?;
    let ceremonies = context.pipeline.ceremonies();
    let status = ceremonies.keys().await.into_iter().find(|status| status.key == key);
    let status = status.ok_or_else(|| unknown(&key))?;
    Ok(KeyView { job: ceremonies.job(&key), status })
}

/// `key_refresh {key}`: starts a refresh, or answers the one that is under way. `key_status` shows how far it is.
pub(super) async fn refresh(context: &Context, asked: &Asked) -> Result<Job, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    let Named { key } = params(asked)?;
    let ceremonies = context.pipeline.ceremonies();
    if !ceremonies.keys().await.iter().any(|status| status.key == key) {
        return Err(unknown(&key));
    }
    ceremonies.use_token(&caller.claims)?;
    tracing::info!(%key, credential = %caller.id, "a refresh is asked for");
    ceremonies.refresh(&key, Some(caller.id.clone()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reshare {
    key: KeyId,
    holders: Vec<SignerId>,
}

/// `key_reshare {key, holders}`: shares the key anew among these signers, with the configured threshold. Each signer deals
/// to the members of its own configuration alone.
pub(super) async fn reshare(context: &Context, asked: &Asked) -> Result<Job, ApiError> {
    let caller = asked.caller_as(Role::Operator)?;
    let Reshare { key, holders } = params(asked)?;
    let ceremonies = context.pipeline.ceremonies();
    if !ceremonies.keys().await.iter().any(|status| status.key == key) {
        return Err(unknown(&key));
    }
    ceremonies.use_token(&caller.claims)?;
    tracing::info!(%key, ?holders, credential = %caller.id, "a reshare is asked for");
    ceremonies.reshare(&key, caller.id.clone(), holders)
}

fn unknown(key: &KeyId) -> ApiError {
    ApiError::new("unknown_key", format!("there is no key {key}"))
}
