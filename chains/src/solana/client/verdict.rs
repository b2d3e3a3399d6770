//! What a node's error to `sendTransaction` says about the transaction.
//!
//! The codes are those of agave's `rpc-client-api/src/custom_error.rs`. A failed preflight (-32002) carries the
//! transaction error in `data.err`, by name.

use serde_json::Value;

use crate::client::BroadcastError;
use crate::rpc::RpcError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The cluster has it already.
    Known,
    /// The node says no to the transaction itself.
    Refused,
}

/// First match wins. A code that isn't here says nothing about the transaction: an unhealthy node, a method that is
/// missing.
const VERDICTS: [(i64, Option<&str>, Verdict); 6] = [
    (-32002, Some("AlreadyProcessed"), Verdict::Known),
    // Preflight failed otherwise: BlockhashNotFound, InsufficientFundsForRent, an instruction's error.
    (-32002, None, Verdict::Refused),
    // A signature doesn't verify.
    (-32003, None, Verdict::Refused),
    // As many signatures as the message asks for, no more and no less.
    (-32013, None, Verdict::Refused),
    // A message version that the node doesn't take.
    (-32015, None, Verdict::Refused),
    // Not decodable, or too long.
    (-32602, None, Verdict::Refused),
];

fn verdict(code: i64, data: Option<&Value>) -> Option<Verdict> {
    let name = data.and_then(|data| data.get("err")).and_then(Value::as_str);
    let row = VERDICTS.iter().find(|(known, err, _)| *known == code && (err.is_none() || *err == name));
    row.map(|(.., verdict)| *verdict)
}

/// The outcome of a broadcast that was answered with `error`.
pub(super) fn of(error: RpcError) -> Result<(), BroadcastError> {
    let RpcError::Node { code, message, data, .. } = &error else { return Err(error.into()) };
    match verdict(*code, data.as_ref()) {
        Some(Verdict::Known) => Ok(()),
        Some(Verdict::Refused) => {
            // The node's words for a failed instruction are general; the name is in the data.
            let err = data.as_ref().and_then(|data| data.get("err")).map(|err| format!(": {err}")).unwrap_or_default();
            Err(BroadcastError::Rejected { code: *code, message: format!("{message}{err}") })
        }
        None => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(code: i64, data: Option<Value>) -> Result<(), BroadcastError> {
        of(RpcError::Node { method: "sendTransaction".to_owned(), code, message: "words".to_owned(), data })
    }

    #[test]
    fn a_transaction_that_the_cluster_has_is_a_success() {
        assert!(outcome(-32002, Some(json!({ "err": "AlreadyProcessed", "logs": [] }))).is_ok());
    }

    #[test]
    fn what_the_node_refuses() {
        let cases = [
            (-32002, Some(json!({ "err": "BlockhashNotFound" }))),
            (-32002, Some(json!({ "err": { "InstructionError": [2, { "Custom": 1 }] } }))),
            (-32002, None),
            (-32003, None),
            (-32013, None),
            (-32015, Some(json!(0))),
            (-32602, None),
        ];
        for (code, data) in cases {
            let refused = outcome(code, data.clone());
            assert!(matches!(refused, Err(BroadcastError::Rejected { code: c, .. }) if c == code), "{code} {data:?}");
        }
        let told = outcome(-32002, Some(json!({ "err": "BlockhashNotFound" }))).expect_err("refused");
        assert!(told.to_string().ends_with(r#"words: "BlockhashNotFound""#), "{told}");
    }

    #[test]
    fn what_says_nothing_about_the_transaction() {
        for code in [-32005, -32016, -32603, -32601, -32000, 429] {
            assert!(matches!(outcome(code, None), Err(BroadcastError::Rpc(RpcError::Node { .. }))), "{code}");
        }
        let timeout = of(RpcError::Timeout { method: "sendTransaction".to_owned() });
        assert!(matches!(timeout, Err(BroadcastError::Rpc(RpcError::Timeout { .. }))));
        // The name alone is no evidence under another code.
        assert!(outcome(-32005, Some(json!({ "err": "AlreadyProcessed" }))).is_err());
    }
}
