//! What EVM nodes say to `eth_sendRawTransaction`. EIP-1474 names some codes; geth answers nearly everything with -32000, and the
//! others each in their own way.

use super::SendClass::{self, *};
use super::{Row, look_up, row};

/// The class of an EVM node's answer.
pub(crate) fn class(code: i64, message: &str) -> SendClass {
    look_up(&ROWS, code, message.trim())
}

pub(super) const ROWS: [Row; 90] = [
    // geth core/txpool/errors.go, ErrAlreadyKnown; reth crates/rpc/rpc-eth-types/src/error/mod.rs, RpcPoolError::AlreadyKnown
    row(-32000, "already known", AlreadyKnown),
    // erigon txnprovider/txpool/grpc_server.go, ImportResult and DiscardReason
    row(-32000, "ALREADY_EXISTS: *", AlreadyKnown),
    row(-32000, "INTERNAL_ERROR: existing txn with same hash", AlreadyKnown),
    // anvil crates/anvil/src/eth/error.rs, PoolError::AlreadyImported
    row(-32003, "transaction already imported", AlreadyKnown),
    // nethermind src/Nethermind/Nethermind.TxPool/AcceptTxResult.cs: names until 2025, TxPoolErrorMessages since
    row(-32010, "AlreadyKnown*", AlreadyKnown),
    row(-32010, "already known*", AlreadyKnown),
    // besu .../jsonrpc/internal/response/RpcErrorType.java, ETH_SEND_TX_ALREADY_KNOWN
    row(-32000, "Known transaction", AlreadyKnown),
    // geth core/error.go, ErrNonceTooLow, with both nonces; reth RpcInvalidTransactionError::NonceTooLow
    row(-32000, "nonce too low*", SlotUsed),
    // anvil InvalidTransactionError::NonceTooLow
    row(-32003, "nonce too low", SlotUsed),
    // nethermind AcceptTxResult.OldNonce
    row(-32010, "OldNonce*", SlotUsed),
    row(-32010, "nonce too low*", SlotUsed),
    // besu NONCE_TOO_LOW
    row(-32001, "Nonce too low", SlotUsed),
    // erigon DiscardReason NonceTooLow, Mined
    row(-32000, "INTERNAL_ERROR: nonce too low", SlotUsed),
    row(-32000, "INTERNAL_ERROR: mined", SlotUsed),
    // geth ErrReplaceUnderpriced; reth RpcPoolError::ReplaceUnderpriced; besu ETH_SEND_TX_REPLACEMENT_UNDERPRICED
    row(-32000, "replacement transaction underpriced", ReplacementUnderpriced),
    // anvil PoolError::ReplacementUnderpriced
    row(-32003, "replacement transaction underpriced", ReplacementUnderpriced),
    // nethermind AcceptTxResult.ReplacementNotAllowed
    row(-32010, "ReplacementNotAllowed*", ReplacementUnderpriced),
    row(-32010, "replacement transaction underpriced*", ReplacementUnderpriced),
    // erigon DiscardReason ReplaceUnderpriced, NotReplaced
    row(-32000, "FEE_TOO_LOW: replacement transaction underpriced", ReplacementUnderpriced),
    row(-32000, "INTERNAL_ERROR: could not replace existing tx", ReplacementUnderpriced),
    // geth core/txpool/errors.go, ErrUnderpriced, and ErrTxGasPriceTooLow in core/txpool/validation.go; reth RpcPoolError::Underpriced
    row(-32000, "transaction underpriced*", Underpriced),
    row(-32000, "transaction gas price below minimum*", Underpriced),
    // geth core/error.go, ErrFeeCapTooLow; reth and anvil FeeCapTooLow
    row(-32000, "max fee per gas less than block base fee*", Underpriced),
    row(-32003, "max fee per gas less than block base fee", Underpriced),
    // reth RpcInvalidTransactionError::PriorityFeeBelowMinimum
    row(-32003, "transaction priority fee below minimum required priority fee*", Underpriced),
    // nethermind AcceptTxResult.FeeTooLow, FeeTooLowToCompete
    row(-32010, "FeeTooLow*", Underpriced),
    row(-32010, "transaction underpriced*", Underpriced),
    // besu GAS_PRICE_TOO_LOW, GAS_PRICE_BELOW_CURRENT_BASE_FEE
    row(-32009, "Gas price below*", Underpriced),
    // erigon DiscardReason UnderPriced, FeeTooLow
    row(-32000, "FEE_TOO_LOW: *", Underpriced),
    // geth core/error.go, ErrInsufficientFunds with the sums, ErrInsufficientFundsForTransfer
    row(-32000, "insufficient funds for gas * price + value*", InsufficientFunds),
    row(-32000, "insufficient funds for transfer*", InsufficientFunds),
    // reth and anvil, the same errors
    row(-32003, "insufficient funds for gas * price + value*", InsufficientFunds),
    row(-32003, "insufficient funds for transfer", InsufficientFunds),
    // nethermind AcceptTxResult.InsufficientFunds
    row(-32010, "InsufficientFunds*", InsufficientFunds),
    row(-32010, "insufficient funds for gas * price + value*", InsufficientFunds),
    // besu TRANSACTION_UPFRONT_COST_EXCEEDS_BALANCE
    row(-32004, "Upfront cost exceeds account balance", InsufficientFunds),
    // erigon DiscardReason InsufficientFunds
    row(-32000, "INTERNAL_ERROR: insufficient funds", InsufficientFunds),
    // geth core/txpool/legacypool/legacypool.go, ErrTxPoolOverflow; reth RpcPoolError::TxPoolOverflow
    row(-32000, "txpool is full", Busy),
    row(-32003, "txpool is full", Busy),
    // geth core/txpool/errors.go: the account's other payments stand in the way, or the one before is missing
    row(-32000, "account limit exceeded*", Busy),
    row(-32000, "address already reserved", Busy),
    row(-32000, "future transaction tries to replace pending", Busy),
    row(-32000, "gapped-nonce tx from delegated accounts", Busy),
    row(-32000, "in-flight transaction limit reached for delegated accounts", Busy),
    row(-32000, "nonce too high*", Busy),
    // anvil InvalidTransactionError::NonceTooHigh
    row(-32003, "Nonce too high", Busy),
    // nethermind AcceptTxResult.NonceGap, NonceTooFarInFuture, Syncing
    row(-32010, "NonceGap*", Busy),
    row(-32010, "nonce too high*", Busy),
    row(-32010, "NonceTooFarInFuture*", Busy),
    row(-32010, "nonce too far in future*", Busy),
    row(-32010, "Syncing*", Busy),
    row(-32010, "node is syncing*", Busy),
    // besu NONCE_TOO_HIGH, NONCE_TOO_FAR_IN_FUTURE_FOR_SENDER, LOWER_NONCE_INVALID_TRANSACTION_EXISTS
    row(-32006, "Nonce too high", Busy),
    row(-32000, "Transaction nonce is too distant from current sender nonce", Busy),
    row(-32000, "An invalid transaction with a lower nonce exists", Busy),
    // besu TX_POOL_DISABLED, CHAIN_HEAD_WORLD_STATE_NOT_AVAILABLE
    row(-32002, "Transaction pool not enabled*", Busy),
    row(-32008, "Initial sync is still in progress", Busy),
    // erigon DiscardReason PendingPoolOverflow, BaseFeePoolOverflow, QueuedPoolOverflow, Spammer
    row(-32000, "INTERNAL_ERROR: pending sub-pool is full", Busy),
    row(-32000, "INTERNAL_ERROR: baseFee sub-pool is full", Busy),
    row(-32000, "INTERNAL_ERROR: queued sub-pool is full", Busy),
    row(-32000, "INTERNAL_ERROR: spammer", Busy),
    // besu EXCEEDS_BLOCK_GAS_LIMIT, before EIP-1474's meaning of its code
    row(-32005, "Transaction gas limit exceeds block gas limit", Invalid),
    // EIP-1474, "limit exceeded": rate limits of providers
    row(-32005, "*", Busy),
    row(429, "*", Busy),
    // geth core/error.go and core/txpool/validation.go; reth and anvil in the same words
    row(-32000, "intrinsic gas too low*", Invalid),
    row(-32000, "insufficient gas for floor data gas cost*", Invalid),
    row(-32000, "exceeds block gas limit", Invalid),
    row(-32000, "transaction gas limit too high*", Invalid),
    row(-32000, "oversized data*", Invalid),
    row(-32000, "invalid sender*", Invalid),
    row(-32000, "max priority fee per gas higher than max fee per gas*", Invalid),
    row(-32000, "nonce has max value", Invalid),
    row(-32000, "transaction type not supported*", Invalid),
    row(-32000, "tx fee (*", Invalid),
    // reth RpcInvalidTransactionError, with two codes; RpcPoolError::MaxTxGasLimitExceeded
    row(-32000, "intrinsic gas too high*", Invalid),
    row(-32000, "invalid chain ID", Invalid),
    row(-32000, "exceeds max transaction gas limit", Invalid),
    row(-32003, "max priority fee per gas higher than max fee per gas", Invalid),
    row(-32003, "invalid chain id for signer", Invalid),
    // nethermind AcceptTxResult.Invalid, GasLimitExceeded, MaxTxSizeExceeded
    row(-32010, "Invalid*", Invalid),
    row(-32010, "transaction invalid*", Invalid),
    row(-32010, "GasLimitExceeded*", Invalid),
    row(-32010, "gas limit reached*", Invalid),
    row(-32010, "transaction too large*", Invalid),
    // besu WRONG_CHAIN_ID, TX_FEECAP_EXCEEDED, INTRINSIC_GAS_EXCEEDS_LIMIT
    row(-32000, "Wrong chainId", Invalid),
    row(-32000, "Transaction fee cap exceeded", Invalid),
    row(-32003, "Intrinsic gas exceeds gas limit", Invalid),
    // erigon ImportResult INVALID
    row(-32000, "INVALID: *", Invalid),
    // JSON-RPC 2.0, invalid params: reth and anvil for what they can't decode
    row(-32602, "*", Invalid),
    // EIP-1474's extension for a revert, where a node executes before it takes
    row(3, "execution reverted*", Reverted),
];
