//! What bitcoind says to `sendrawtransaction`. Its codes are of `src/rpc/protocol.h`: -22 can't be decoded, -25 fails, -26 is
//! refused by the mempool, -27 is in the chain, -28 is no answer yet. What the mempool refuses it for stands in the words alone,
//! as `reason` or `reason, details` (`ValidationState::ToString`, `src/consensus/validation.h`).

use super::SendClass::{self, *};
use super::{Row, look_up, row};

/// The class of bitcoind's answer.
pub(crate) fn class(code: i64, message: &str) -> SendClass {
    look_up(&ROWS, code, words(message))
}

/// The reason without its details.
pub(super) fn words(message: &str) -> &str {
    message.split_once(", ").map_or(message, |(reason, _)| reason).trim()
}

pub(super) const ROWS: [Row; 37] = [
    // src/rpc/protocol.h, RPC_VERIFY_ALREADY_IN_UTXO_SET; src/common/messages.cpp
    row(-27, "*", AlreadyIncluded),
    // src/validation.cpp, MemPoolAccept::PreChecks: the same witness; another witness, the same id; its outputs exist
    row(-26, "txn-already-in-mempool", AlreadyKnown),
    row(-26, "txn-same-nonwitness-data-in-mempool", AlreadyKnown),
    row(-26, "txn-already-known", AlreadyIncluded),
    // src/validation.cpp, PreChecks; src/node/transaction.cpp turns TX_MISSING_INPUTS into -25
    row(-25, "bad-txns-inputs-missingorspent", SlotUsed),
    row(-26, "bad-txns-inputs-missingorspent", SlotUsed),
    // src/rpc/rawtransaction.cpp until 0.18
    row(-25, "Missing inputs", SlotUsed),
    // src/validation.cpp, PreChecks: what has the input doesn't signal replaceability
    row(-26, "txn-mempool-conflict", SlotUsed),
    // src/validation.cpp, ReplacementChecks; src/policy/rbf.cpp; since 31 by its feerate diagram
    row(-26, "insufficient fee", ReplacementUnderpriced),
    row(-26, "replacement-failed", ReplacementUnderpriced),
    row(-26, "too many potential replacements", Invalid),
    row(-26, "replacement-adds-unconfirmed", Invalid),
    row(-26, "bad-txns-spends-conflicting-tx", Invalid),
    // src/validation.cpp, CheckFeeRate
    row(-26, "min relay fee not met", Underpriced),
    row(-26, "mempool min fee not met", Underpriced),
    // src/validation.cpp: it was the least of a full mempool
    row(-26, "mempool full", Busy),
    // src/validation.cpp, PreChecks: too many that wait before it; since 31 around it
    row(-26, "too-long-mempool-chain", Busy),
    row(-26, "too-large-cluster", Busy),
    // src/validation.cpp, PreChecks; src/consensus/tx_verify.cpp: blocks are missing
    row(-26, "non-final", Busy),
    row(-26, "non-BIP68-final", Busy),
    row(-26, "bad-txns-premature-spend-of-coinbase", Busy),
    // src/common/messages.cpp, PRIVATE_BROADCAST_FULL
    row(-25, "Private broadcast queue is full", Busy),
    // src/rpc/protocol.h, RPC_IN_WARMUP
    row(-28, "*", Busy),
    // src/consensus/tx_verify.cpp
    row(-26, "bad-txns-in-belowout", Invalid),
    // src/policy/policy.cpp, IsStandardTx and IsWitnessStandard; src/validation.cpp, PreChecks
    row(-26, "dust", Invalid),
    row(-26, "scriptpubkey", Invalid),
    row(-26, "tx-size", Invalid),
    row(-26, "tx-size-small", Invalid),
    row(-26, "version", Invalid),
    row(-26, "bad-witness-nonstandard", Invalid),
    row(-26, "bad-txns-nonstandard-inputs", Invalid),
    row(-26, "bad-txns-too-many-sigops", Invalid),
    // src/validation.cpp, CheckInputScripts, until 29 and since 30
    row(-26, "mandatory-script-verify-flag-failed*", Invalid),
    row(-26, "non-mandatory-script-verify-flag*", Invalid),
    row(-26, "mempool-script-verify-flag-failed*", Invalid),
    // src/common/messages.cpp, MAX_FEE_EXCEEDED
    row(-25, "Fee exceeds maximum configured by user*", Invalid),
    // src/rpc/mempool.cpp, sendrawtransaction
    row(-22, "TX decode failed*", Invalid),
];
