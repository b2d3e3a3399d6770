//! `gw_*`: the gateway itself.

use std::collections::BTreeMap;

use chains::client::Tip;
use futures::future::join_all;
use serde::Serialize;

use super::Context;
use crate::auth::Asked;
use crate::error::ApiError;
use crate::pipeline::alerts::Alert;

#[derive(Clone, Serialize)]
pub(super) struct HealthView {
    /// `ok`, or `degraded` where something needed doesn't answer.
    status: &'static str,
    version: &'static str,
    networks: BTreeMap<String, NetworkView>,
    signers: SignersView,
    /// How many alerts stand; `gw_alerts` tells them.
    alerts: usize,
}

#[derive(Clone, Serialize)]
struct NetworkView {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tip: Option<Tip>,
}

#[derive(Clone, Serialize)]
struct SignersView {
    up: usize,
    needed: usize,
}

/// `gw_health`: needs no credential and tells no secret.
pub(super) async fn health(context: &Context, _: &Asked) -> Result<HealthView, ApiError> {
    let tips = join_all(context.pipeline.lanes().map(|lane| async move {
        let tip = lane.tip().await.ok();
        (lane.network().to_string(), NetworkView { ok: tip.is_some(), tip })
    }));
    let (networks, signers) = futures::join!(tips, context.pipeline.signers());
    let networks: BTreeMap<_, _> = networks.into_iter().collect();
    let (up, needed) = signers;
    let well = up >= needed && networks.values().all(|network| network.ok);
    Ok(HealthView {
        status: if well { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        networks,
        signers: SignersView { up, needed },
        alerts: context.pipeline.alerts().len(),
    })
}

/// `gw_alerts`: what somebody should look at.
pub(super) async fn alerts(context: &Context, asked: &Asked) -> Result<Vec<Alert>, ApiError> {
    asked.caller()?;
    Ok(context.pipeline.alerts())
}
