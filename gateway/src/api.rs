//! The methods: thin. Each parses its parameters, calls, and answers.

pub mod approval;
pub mod delegation;
mod gw;
mod key;
pub mod otc;
pub mod policy;
pub mod screen;
pub mod travel;
mod tx;
pub mod view;
mod wallet;

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::{Extensions, RpcModule};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::auth::Asked;
use crate::clock::Clock;
use crate::error::ApiError;
use crate::pipeline::Pipeline;

/// What the methods work with.
pub(crate) struct Context {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Every method of the gateway.
pub(crate) fn module(pipeline: Arc<Pipeline>, clock: Arc<dyn Clock>) -> RpcModule<Context> {
    let mut module = RpcModule::new(Context { pipeline, clock });
    macro_rules! methods {
        ($($name:literal => $function:path),+ $(,)?) => {$(
            module
                .register_async_method($name, |_, context, extensions| async move {
                    match asked(&extensions) {
                        Ok(asked) => $function(&context, &asked).await.map_err(ErrorObjectOwned::from),
                        Err(error) => Err(error.into()),
                    }
                })
                .expect("every method is named once");
        )+};
    }
    methods! {
        "tx_submit" => tx::submit,
        "tx_get" => tx::get,
        "tx_getByKey" => tx::get_by_key,
        "tx_list" => tx::list,
        "tx_speedUp" => tx::speed_up,
        "tx_cancel" => tx::cancel,
        "wallet_list" => wallet::list,
        "wallet_balance" => wallet::balance,
        "wallet_nonces" => wallet::nonces,
        "wallet_freeze" => wallet::freeze,
        "wallet_unfreeze" => wallet::unfreeze,
        "key_list" => key::list,
        "key_status" => key::status,
        "key_refresh" => key::refresh,
        "key_reshare" => key::reshare,
        "approval_list" => approval::list,
        "approval_get" => approval::get,
        "approval_submit" => approval::submit,
        "approval_delegate" => delegation::delegate,
        "approval_delegations" => delegation::list,
        "approval_revoke" => delegation::revoke,
        "otc_open" => otc::open,
        "otc_get" => otc::get,
        "otc_list" => otc::list,
        "otc_confirmLeg" => otc::confirm_leg,
        "otc_release" => otc::release,
        "otc_abort" => otc::abort,
        "policy_get" => policy::get,
        "policy_evaluate" => policy::evaluate,
        "policy_propose" => policy::change::propose,
        "policy_rollback" => policy::change::propose,
        "policy_approve" => policy::change::approve,
        "policy_reject" => policy::change::reject,
        "policy_activate" => policy::change::activate,
        "policy_versions" => policy::change::versions,
        "policy_diff" => policy::ask::diff,
        "policy_prove" => policy::ask::prove,
        "policy_replay" => policy::ask::replay,
        "policy_usage" => policy::ask::usage,
        "screen_status" => screen::status,
        "screen_address" => screen::address,
        "screen_reload" => screen::reload,
        "screen_override" => screen::propose,
        "screen_overrides" => screen::overrides,
        "screen_approveOverride" => screen::approve,
        "travel_attach" => travel::attach,
        "travel_status" => travel::status,
        "gw_health" => gw::health,
        "gw_alerts" => gw::alerts,
    }
    module
}

fn asked(extensions: &Extensions) -> Result<Asked, ApiError> {
    // The layer puts it there; a server without the layer must not serve.
    extensions.get::<Asked>().cloned().ok_or_else(|| ApiError::new("internal", "the request was not read"))
}

/// Reads the call's parameters, by name, unknown ones refused by `T`.
fn params<T: DeserializeOwned>(asked: &Asked) -> Result<T, ApiError> {
    let params = match &asked.call.params {
        Value::Null => Value::Object(serde_json::Map::new()),
        params => params.clone(),
    };
    if !params.is_object() {
        return Err(ApiError::new("invalid_params", "parameters are given by name, as an object"));
    }
    serde_json::from_value(params).map_err(|error| ApiError::new("invalid_params", error.to_string()))
}
