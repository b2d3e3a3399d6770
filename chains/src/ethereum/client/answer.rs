//! What nodes mean by their errors, where they answer with an error.

use alloy::primitives::{Bytes, hex};
use alloy::sol_types::{Panic, Revert, SolError};
use serde_json::Value;

use crate::client::StateError;
use crate::rpc::RpcError;

/// Revert reasons are cut to so many characters: the contract's author chose them.
const MAX_REASON: usize = 256;

/// The code for a call that was executed and reverted (geth, reth, anvil, Nethermind, erigon).
const EXECUTION_REVERTED: i64 = 3;
/// OpenEthereum's code for the same, which older Nethermind nodes have kept.
const VM_EXECUTION_ERROR: i64 = -32015;
/// The code for whatever goes wrong with a transaction; only revert data tells that it is a revert.
const SERVER_ERROR: i64 = -32000;

/// Turns a node's answer that the call reverted into [`StateError::Reverted`], with the contract's reason.
pub(super) fn reverted(error: RpcError) -> StateError {
    let RpcError::Node { code, message, data, .. } = &error else { return error.into() };
    let data = data.as_ref().and_then(revert_data);
    let reverted = match *code {
        EXECUTION_REVERTED | VM_EXECUTION_ERROR => true,
        SERVER_ERROR => data.is_some(),
        _ => false,
    };
    if !reverted {
        return error.into();
    }
    let reason = match data {
        Some(data) if !data.is_empty() => reason(&data),
        _ => message.clone(),
    };
    StateError::Reverted(cut(&reason))
}

/// A reason, cut to what is shown.
pub(super) fn cut(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}

/// Revert data as nodes send it: `"0x…"`, and Nethermind's `"Reverted 0x…"`.
fn revert_data(data: &Value) -> Option<Bytes> {
    let text = data.as_str()?;
    let digits = text.strip_prefix("Reverted ").unwrap_or(text).strip_prefix("0x")?;
    hex::decode(digits).ok().map(Bytes::from)
}

/// `Error(string)` and `Panic(uint256)` in words (Solidity), everything else in hex.
fn reason(data: &Bytes) -> String {
    if let Ok(error) = Revert::abi_decode(data) {
        error.reason
    } else if let Ok(panic) = Panic::abi_decode(data) {
        panic.to_string()
    } else {
        data.to_string()
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;
    use serde_json::json;

    use super::*;

    fn answer(code: i64, data: Option<Value>) -> StateError {
        reverted(RpcError::Node { method: "eth_estimateGas".to_owned(), code, message: "in words".to_owned(), data })
    }

    fn reason_of(code: i64, data: Option<Value>) -> Option<String> {
        match answer(code, data) {
            StateError::Reverted(reason) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn reverts_tell_the_contracts_reason() {
        let error = Bytes::from(Revert::from("too little").abi_encode());
        let nethermind = format!("Reverted {error}");
        assert_eq!(reason_of(3, Some(json!(error))).as_deref(), Some("too little"));
        assert_eq!(reason_of(-32000, Some(json!(error))).as_deref(), Some("too little"));
        assert_eq!(reason_of(-32015, Some(json!(nethermind))).as_deref(), Some("too little"));
        assert_eq!(reason_of(3, None).as_deref(), Some("in words"));
        assert_eq!(reason_of(3, Some(json!("0x"))).as_deref(), Some("in words"));
        assert_eq!(reason_of(3, Some(json!("0xdeadbeef"))).as_deref(), Some("0xdeadbeef"));

        let panic = Bytes::from(Panic { code: U256::from(0x11) }.abi_encode());
        let words = reason_of(3, Some(json!(panic))).expect("a revert");
        assert!(words.contains("0x11"), "{words:?}");
    }

    #[test]
    fn other_errors_are_not_called_reverts() {
        assert_eq!(reason_of(-32000, None), None, "geth's code for everything");
        assert_eq!(reason_of(-32000, Some(json!({ "gas": 1 }))), None);
        assert_eq!(reason_of(-32602, Some(json!("0x"))), None);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let error = Bytes::from(Revert::from("é".repeat(1000)).abi_encode());
        let reason = reason_of(3, Some(json!(error))).expect("a revert");
        assert_eq!(reason.chars().count(), MAX_REASON);
    }
}
