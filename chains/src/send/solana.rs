//! What agave says to `sendTransaction`. Its codes are of `rpc-client-api/src/custom_error.rs`. A failed preflight (-32002)
//! carries the transaction error in `data.err`, by its name in `solana-transaction-error`: `"BlockhashNotFound"`, or
//! `{"InstructionError": [2, {"Custom": 1}]}`.

use serde_json::Value;

use super::SendClass::{self, *};
use super::{Row, look_up, row};

/// `JSON_RPC_SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE`.
const PREFLIGHT_FAILURE: i64 = -32002;

/// The class of agave's answer.
pub(crate) fn class(code: i64, message: &str, data: Option<&Value>) -> SendClass {
    look_up(&ROWS, code, words(message, data))
}

/// The transaction error's name where there is one, else the message.
pub(super) fn words<'a>(message: &'a str, data: Option<&'a Value>) -> &'a str {
    let name = data.and_then(|data| data.get("err")).and_then(|err| match err {
        Value::String(name) => Some(name.as_str()),
        Value::Object(fields) => fields.keys().next().map(String::as_str),
        _ => None,
    });
    name.unwrap_or(message)
}

pub(super) const ROWS: [Row; 36] = [
    // solana-transaction-error src/lib.rs: the cluster has it
    row(PREFLIGHT_FAILURE, "AlreadyProcessed", AlreadyKnown),
    // The same: no such blockhash, or a durable nonce's value that has moved on
    row(PREFLIGHT_FAILURE, "BlockhashNotFound", Expired),
    // The same: the payer's account, or what it would leave behind
    row(PREFLIGHT_FAILURE, "AccountNotFound", InsufficientFunds),
    row(PREFLIGHT_FAILURE, "InsufficientFundsForFee", InsufficientFunds),
    row(PREFLIGHT_FAILURE, "InsufficientFundsForRent", InsufficientFunds),
    row(PREFLIGHT_FAILURE, "InvalidRentPayingAccount", InsufficientFunds),
    // The same: an instruction failed
    row(PREFLIGHT_FAILURE, "InstructionError", Reverted),
    row(PREFLIGHT_FAILURE, "ProgramAccountNotFound", Reverted),
    row(PREFLIGHT_FAILURE, "InvalidProgramForExecution", Reverted),
    row(PREFLIGHT_FAILURE, "MaxLoadedAccountsDataSizeExceeded", Reverted),
    // The same: the bank has no room, or no time
    row(PREFLIGHT_FAILURE, "AccountInUse", Busy),
    row(PREFLIGHT_FAILURE, "ClusterMaintenance", Busy),
    row(PREFLIGHT_FAILURE, "WouldExceedMaxBlockCostLimit", Busy),
    row(PREFLIGHT_FAILURE, "WouldExceedMaxAccountCostLimit", Busy),
    row(PREFLIGHT_FAILURE, "WouldExceedAccountDataBlockLimit", Busy),
    row(PREFLIGHT_FAILURE, "ProgramExecutionTemporarilyRestricted", Busy),
    row(PREFLIGHT_FAILURE, "ProgramCacheHitMaxLimit", Busy),
    // The same: not a transaction that can be valid
    row(PREFLIGHT_FAILURE, "SanitizeFailure", Invalid),
    row(PREFLIGHT_FAILURE, "SignatureFailure", Invalid),
    row(PREFLIGHT_FAILURE, "MissingSignatureForFee", Invalid),
    row(PREFLIGHT_FAILURE, "InvalidAccountForFee", Invalid),
    row(PREFLIGHT_FAILURE, "InvalidAccountIndex", Invalid),
    row(PREFLIGHT_FAILURE, "InvalidWritableAccount", Invalid),
    row(PREFLIGHT_FAILURE, "AccountLoadedTwice", Invalid),
    row(PREFLIGHT_FAILURE, "UnsupportedVersion", Invalid),
    row(PREFLIGHT_FAILURE, "TooManyAccountLocks", Invalid),
    row(PREFLIGHT_FAILURE, "DuplicateInstruction", Invalid),
    // agave rpc-client-api/src/custom_error.rs, TransactionSignatureVerificationFailure
    row(-32003, "*", Invalid),
    // The same, NodeUnhealthy: it is behind
    row(-32005, "*", Busy),
    // The same, TransactionPrecompileVerificationFailure
    row(-32006, "*", Invalid),
    // The same, TransactionSignatureLenMismatch
    row(-32013, "*", Invalid),
    // The same, BlockStatusNotAvailableYet
    row(-32014, "*", Busy),
    // The same, UnsupportedTransactionVersion
    row(-32015, "*", Invalid),
    // The same, MinContextSlotNotReached
    row(-32016, "*", Busy),
    // agave rpc/src/rpc.rs, decode_and_deserialize: not decodable, or too long
    row(-32602, "*", Invalid),
    // Rate limits of providers
    row(429, "*", Busy),
];
