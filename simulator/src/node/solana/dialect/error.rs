//! Agave's own errors (`rpc-client-api/src/custom_error.rs`).

use serde_json::{Value, json};

use crate::node::solana::ledger::Slot;
use crate::rpc::{INVALID_PARAMS, RpcError};

const PREFLIGHT_FAILURE: i64 = -32002;
const SIGNATURE_VERIFICATION_FAILURE: i64 = -32003;
const BLOCK_NOT_AVAILABLE: i64 = -32004;
const NODE_UNHEALTHY: i64 = -32005;
const SLOT_SKIPPED: i64 = -32007;
const UNSUPPORTED_TRANSACTION_VERSION: i64 = -32015;
const MIN_CONTEXT_SLOT_NOT_REACHED: i64 = -32016;

pub(super) fn invalid_params(message: impl Into<String>) -> RpcError {
    RpcError::new(INVALID_PARAMS, message)
}

/// `data` is the result of the simulation, as `simulateTransaction` has it.
pub(super) fn preflight_failure(error: impl std::fmt::Display, data: Value) -> RpcError {
    RpcError::new(PREFLIGHT_FAILURE, format!("Transaction simulation failed: {error}")).with_data(data)
}

pub(super) fn signature_verification_failure() -> RpcError {
    RpcError::new(SIGNATURE_VERIFICATION_FAILURE, "Transaction signature verification failure")
}

pub(super) fn block_not_available(slot: Slot) -> RpcError {
    RpcError::new(BLOCK_NOT_AVAILABLE, format!("Block not available for slot {slot}"))
}

pub(super) fn slot_skipped(slot: Slot) -> RpcError {
    let message = format!("Slot {slot} was skipped, or missing due to ledger jump to recent snapshot");
    RpcError::new(SLOT_SKIPPED, message)
}

pub(super) fn node_unhealthy() -> RpcError {
    RpcError::new(NODE_UNHEALTHY, "Node is unhealthy").with_data(json!({ "numSlotsBehind": null }))
}

pub(super) fn unsupported_transaction_version(version: u8) -> RpcError {
    let message = format!(
        "Transaction version ({version}) is not supported by the requesting client. Please try the request again with the \
         following configuration parameter: \"maxSupportedTransactionVersion\": {version}"
    );
    RpcError::new(UNSUPPORTED_TRANSACTION_VERSION, message)
}

pub(super) fn min_context_slot_not_reached(context_slot: Slot) -> RpcError {
    RpcError::new(MIN_CONTEXT_SLOT_NOT_REACHED, "Minimum context slot has not been reached")
        .with_data(json!({ "contextSlot": context_slot }))
}
