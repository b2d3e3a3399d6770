//! What a node's error to `sendTransaction` says about the transaction.

use serde_json::Value;

use crate::client::BroadcastError;
use crate::rpc::RpcError;
use crate::send;

/// The outcome of a broadcast that was answered with `error`.
pub(super) fn of(error: RpcError) -> Result<(), BroadcastError> {
    let RpcError::Node { code, message, data, .. } = error else { return Err(error.into()) };
    let class = send::solana::class(code, &message, data.as_ref());
    if class.is_taken() {
        return Ok(());
    }
    // The node's words for a failed instruction are general; the name is in the data.
    let err = data.as_ref().and_then(|data| data.get("err")).filter(|err| !err.is_null());
    let message = err.map_or_else(|| message.clone(), |err: &Value| format!("{message}: {err}"));
    Err(BroadcastError::Rejected { class, code, message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::SendClass;

    fn outcome(code: i64, data: Option<Value>) -> Result<(), BroadcastError> {
        of(RpcError::Node { method: "sendTransaction".to_owned(), code, message: "words".to_owned(), data })
    }

    #[test]
    fn a_transaction_that_the_cluster_has_is_a_success() {
        assert!(outcome(-32002, Some(json!({ "err": "AlreadyProcessed", "logs": [] }))).is_ok());
        assert!(outcome(-32005, Some(json!({ "err": "AlreadyProcessed" }))).is_err(), "under its own code only");
    }

    #[test]
    fn a_refusal_tells_the_transaction_error() {
        let told = outcome(-32002, Some(json!({ "err": "BlockhashNotFound" }))).expect_err("refused");
        assert!(matches!(told, BroadcastError::Rejected { class: SendClass::Expired, code: -32002, .. }), "{told:?}");
        assert!(told.to_string().ends_with(r#"words: "BlockhashNotFound""#), "{told}");
    }

    #[test]
    fn what_is_no_answer_is_no_refusal() {
        let timeout = of(RpcError::Timeout { method: "sendTransaction".to_owned() });
        assert!(matches!(timeout, Err(BroadcastError::Rpc(RpcError::Timeout { .. }))));
    }
}
