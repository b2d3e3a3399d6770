//! `screen_*`: the lists and providers that parties are looked up in.

use std::sync::Arc;

use chains::address::UncheckedAddress;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use signer::roster::Role;

use super::{Context, params};
use crate::auth::Asked;
use crate::error::ApiError;
use crate::screening::{Clearance, ListStatus};

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
    let changed = read.map_err(|error| ApiError::new("screening_unavailable", error.to_string()))?;
    Ok(Reloaded { changed, lists: context.pipeline.screening.status() })
}
