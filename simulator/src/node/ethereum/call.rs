//! Execution that changes nothing: `eth_call` and `eth_estimateGas`, as geth answers them.

use alloy::consensus::Header;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, hex};
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy::sol_types::{Panic, Revert, SolError};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction};
use revm::context::{Context, TxEnv};
use revm::database::CacheDB;
use revm::handler::MainnetContext;
use revm::state::Bytecode;
use revm::{Database, DatabaseRef, ExecuteEvm, MainBuilder, MainContext, MainnetEvm};
use serde_json::Value;
use std::convert::Infallible;

use super::executor::{Ground, config, environment};
use crate::rpc::{INVALID_PARAMS, RpcError};

/// The most gas that a call may use (geth's `rpc.gascap`).
pub const GAS_CAP: u64 = 50_000_000;
/// What a plain transfer costs.
const TRANSFER_GAS: u64 = 21_000;
/// What a call that carries value hands to its target for free.
const CALL_STIPEND: u64 = 2_300;
/// The code of geth's answer to a call that reverted.
const REVERTED: i64 = 3;
/// The code of geth's other errors.
pub(crate) const FAILED: i64 = -32000;

/// A state to execute on, and the header that contracts see.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) db: CacheDB<Ground<'a>>,
    pub(crate) header: Header,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallError {
    /// The call ran and reverted with this data.
    Reverted(Bytes),
    /// The call ran into an error of the machine.
    Halted(HaltReason),
    /// The transaction couldn't be run at all.
    Invalid(InvalidTransaction),
    /// The engine failed.
    Engine(String),
}

impl Place<'_> {
    /// An account's balance in wei.
    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.info(address).map(|(balance, _, _)| balance).unwrap_or_default()
    }

    /// The nonce of an account's next transaction.
    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.info(address).map(|(_, nonce, _)| nonce).unwrap_or_default()
    }

    /// An account's code.
    pub(crate) fn code(&self, address: Address) -> Bytes {
        let Some((_, _, hash)) = self.info(address) else { return Bytes::new() };
        let Ok(code) = self.db.code_by_hash_ref(hash);
        code.original_bytes()
    }

    /// A storage slot of an account.
    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        let Ok(value) = self.db.storage_ref(address, slot);
        value
    }

    fn info(&self, address: Address) -> Option<(U256, u64, B256)> {
        let Ok(info) = self.db.basic_ref(address);
        info.map(|info| (info.balance, info.nonce, info.code_hash))
    }

    /// Replaces parts of the state for one call (geth's third parameter of `eth_call`).
    ///
    /// # Errors
    /// `-32602` where both all of the storage and a part of it are given, or a precompile should move.
    pub(crate) fn override_state(&mut self, overrides: StateOverride) -> Result<(), RpcError> {
        for (address, change) in overrides {
            self.override_account(address, change)?;
        }
        Ok(())
    }

    fn override_account(&mut self, address: Address, change: AccountOverride) -> Result<(), RpcError> {
        let refuse = |text: String| RpcError::new(INVALID_PARAMS, text);
        if change.move_precompile_to.is_some() {
            return Err(refuse("movePrecompileToAddress is not supported".to_owned()));
        }
        let Ok(info) = self.db.basic(address);
        let mut info = info.unwrap_or_default();
        if let Some(balance) = change.balance {
            info.balance = balance;
        }
        if let Some(nonce) = change.nonce {
            info.nonce = nonce;
        }
        if let Some(code) = change.code {
            let code = Bytecode::new_raw(code);
            info.code_hash = code.hash_slow();
            info.code = Some(code);
        }
        self.db.insert_account_info(address, info);
        match (change.state, change.state_diff) {
            (Some(_), Some(_)) => Err(refuse(format!("account {address} has both 'state' and 'stateDiff'"))),
            (Some(slots), None) => {
                let slots = slots.into_iter().map(|(slot, value)| (slot.into(), value.into())).collect();
                let Ok(()) = self.db.replace_account_storage(address, slots);
                Ok(())
            }
            (None, Some(slots)) => {
                for (slot, value) in slots {
                    let Ok(()) = self.db.insert_account_storage(address, slot.into(), value.into());
                }
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}

/// `eth_call`: runs `request` and returns its output.
///
/// # Errors
/// As geth: code 3 with the data where it reverted, -32000 where it couldn't run.
pub(crate) fn call(place: Place<'_>, request: &TransactionRequest, chain_id: u64) -> Result<Bytes, RpcError> {
    let gas = allowance(request);
    let mut run = Run::new(place, request, chain_id)?;
    let failure = match run.execute(gas) {
        Ok(result) => match failure(&result) {
            None => return Ok(result.into_output().unwrap_or_default()),
            Some(failure) => failure,
        },
        Err(CallError::Invalid(reason)) => {
            let text = format!("err: {} (supplied gas {gas})", run.explain(&reason, gas));
            return Err(RpcError::new(FAILED, text));
        }
        Err(other) => other,
    };
    Err(answer(&failure))
}

/// `eth_estimateGas`: the least gas limit that `request` succeeds with, within 1.5 %, found as geth finds it.
///
/// # Errors
/// As geth: code 3 with the data where it reverts however much gas it gets, -32000 where it can't run.
pub(crate) fn estimate(place: Place<'_>, request: &TransactionRequest, chain_id: u64) -> Result<u64, RpcError> {
    let failed = |text: String| RpcError::new(FAILED, text);
    let fee_cap = request.gas_price.or(request.max_fee_per_gas).unwrap_or_default();
    let sender = request.from.unwrap_or_default();
    let value = request.value.unwrap_or_default();

    let mut high = request.gas.filter(|gas| *gas >= TRANSFER_GAS).unwrap_or(place.header.gas_limit);
    if fee_cap != 0 {
        let balance = place.balance(sender);
        if !value.is_zero() && value >= balance {
            return Err(failed("insufficient funds for transfer".to_owned()));
        }
        let allowance = balance.saturating_sub(value) / U256::from(fee_cap);
        high = high.min(allowance.saturating_to());
    }
    high = high.min(GAS_CAP);

    let plain = request.input.input().is_none_or(|input| input.is_empty());
    let target = request.to.and_then(|to| to.into_to());
    let to_external = target.is_some_and(|target| place.code(target).is_empty());
    let mut run = Run::new(place, request, chain_id)?;

    if plain && to_external && run.succeeds(TRANSFER_GAS)?.is_ok() {
        return Ok(TRANSFER_GAS);
    }
    let used = match run.succeeds(high)? {
        Ok(used) => used,
        Err(None | Some(CallError::Halted(HaltReason::OutOfGas(_)))) => {
            return Err(failed(format!("gas required exceeds allowance ({high})")));
        }
        Err(Some(failure)) => return Err(answer(&failure)),
    };
    let mut low = used.charged.saturating_sub(1);
    let optimistic = used.peak.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
    if optimistic < high {
        match run.succeeds(optimistic)? {
            Ok(_) => high = optimistic,
            Err(_) => low = optimistic,
        }
    }
    while low.saturating_add(1) < high {
        let gap = high.saturating_sub(low);
        if gap.saturating_mul(1000) < high.saturating_mul(15) {
            break;
        }
        // Most transactions need little more than they use, so the first guess is low.
        let middle = low.saturating_add(gap / 2).min(low.saturating_mul(2));
        match run.succeeds(middle)? {
            Ok(_) => high = middle,
            Err(_) => low = middle,
        }
    }
    Ok(high)
}

/// What a successful run used.
struct Used {
    /// After refunds.
    charged: u64,
    /// Before refunds.
    peak: u64,
}

/// One request, ready to be run with several gas limits.
struct Run<'a> {
    evm: MainnetEvm<MainnetContext<CacheDB<Ground<'a>>>>,
    tx: TxEnv,
}

impl<'a> Run<'a> {
    fn new(place: Place<'a>, request: &TransactionRequest, chain_id: u64) -> Result<Self, RpcError> {
        let (context, tx) = prepared(place, request, chain_id)?;
        Ok(Self { evm: context.build_mainnet(), tx })
    }

    fn execute(&mut self, gas: u64) -> Result<ExecutionResult, CallError> {
        let tx = TxEnv { gas_limit: gas, ..self.tx.clone() };
        match self.evm.transact(tx) {
            Ok(done) => Ok(done.result),
            Err(EVMError::<Infallible>::Transaction(reason)) => Err(CallError::Invalid(reason)),
            Err(other) => Err(CallError::Engine(other.to_string())),
        }
    }

    /// Whether the request succeeds with this gas limit; if not, how it failed (`None`: not even the intrinsic gas was there).
    fn succeeds(&mut self, gas: u64) -> Result<Result<Used, Option<CallError>>, RpcError> {
        match self.execute(gas) {
            Ok(result) => Ok(match failure(&result) {
                None => Ok(Used { charged: result.tx_gas_used(), peak: result.gas().total_gas_spent() }),
                Some(failure) => Err(Some(failure)),
            }),
            Err(CallError::Invalid(
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            )) => Ok(Err(None)),
            Err(CallError::Invalid(reason)) => {
                Err(RpcError::new(FAILED, format!("failed with {gas} gas: {}", self.explain(&reason, gas))))
            }
            Err(other) => Err(answer(&other)),
        }
    }

    fn explain(&self, reason: &InvalidTransaction, gas: u64) -> String {
        explain(reason, &self.tx, self.evm.ctx.block.basefee, gas)
    }
}

/// Where a call runs, and the call in the engine's form but for its gas limit.
pub(crate) fn prepared<'a>(
    place: Place<'a>,
    request: &TransactionRequest,
    chain_id: u64,
) -> Result<(MainnetContext<CacheDB<Ground<'a>>>, TxEnv), RpcError> {
    let tx = transaction(request, chain_id)?;
    let mut block = environment(&place.header);
    if tx.gas_price == 0 {
        // As in geth, a call that names no price isn't held to the base fee.
        block.basefee = 0;
    }
    let mut cfg = config(chain_id);
    cfg.disable_nonce_check = true;
    cfg.disable_eip3607 = true;
    cfg.disable_block_gas_limit = true;
    Ok((Context::mainnet().with_db(place.db).with_cfg(cfg).with_block(block), tx))
}

/// The gas that a call may use, by its own word.
pub(crate) fn allowance(request: &TransactionRequest) -> u64 {
    request.gas.filter(|gas| *gas != 0).unwrap_or(GAS_CAP).min(GAS_CAP)
}

/// geth's words for a transaction that can't be run.
pub(crate) fn explain(reason: &InvalidTransaction, tx: &TxEnv, base_fee: u64, gas: u64) -> String {
    let (caller, price) = (tx.caller, tx.gas_price);
    match reason {
        InvalidTransaction::NonceTooHigh { tx, state } => {
            format!("nonce too high: address {caller}, tx: {tx} state: {state}")
        }
        InvalidTransaction::NonceTooLow { tx, state } => {
            format!("nonce too low: address {caller}, tx: {tx} state: {state}")
        }
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: address {caller} have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => format!(
            "max fee per gas less than block base fee: address {caller}, maxFeePerGas: {price}, baseFee: {base_fee}"
        ),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => format!(
            "max priority fee per gas higher than max fee per gas: address {caller}, maxPriorityFeePerGas: {}, \
             maxFeePerGas: {price}",
            tx.gas_priority_fee.unwrap_or_default()
        ),
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, .. } => {
            format!("intrinsic gas too low: have {gas}, want {initial_gas}")
        }
        InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, .. } => {
            format!("insufficient gas for floor data gas cost: have {gas}, want {gas_floor}")
        }
        InvalidTransaction::CreateInitCodeSizeLimit => {
            format!("max initcode size exceeded: code size {} limit 49152", tx.data.len())
        }
        other => other.to_string(),
    }
}

/// A call in the engine's form. What it leaves out is zero.
pub(crate) fn transaction(request: &TransactionRequest, chain_id: u64) -> Result<TxEnv, RpcError> {
    let refuse = |text: &str| RpcError::new(FAILED, text);
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return Err(refuse("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data)
        && input != data
    {
        return Err(refuse(
            "both \"data\" and \"input\" are set and not equal. Please use \"input\" to pass transaction call data",
        ));
    }
    if request.chain_id.is_some_and(|id| id != chain_id) {
        let text =
            format!("chainId does not match node's (have={}, want={chain_id})", request.chain_id.unwrap_or_default());
        return Err(RpcError::new(FAILED, text));
    }
    if request.blob_versioned_hashes.is_some() {
        return Err(refuse("transaction type not supported"));
    }
    let mut env = TxEnv {
        tx_type: 0,
        caller: request.from.unwrap_or_default(),
        gas_price: request.gas_price.or(request.max_fee_per_gas).unwrap_or_default(),
        gas_priority_fee: dynamic.then(|| request.max_priority_fee_per_gas.unwrap_or_default()),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: request.input.input().cloned().unwrap_or_default(),
        chain_id: Some(chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        ..TxEnv::default()
    };
    env.set_signed_authorization(request.authorization_list.clone().unwrap_or_default());
    env.derive_tx_type().map_err(|error| RpcError::new(FAILED, error.to_string()))?;
    Ok(env)
}

/// How a call that ran has failed.
pub(crate) fn failure(result: &ExecutionResult) -> Option<CallError> {
    match result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(CallError::Reverted(output.clone())),
        ExecutionResult::Halt { reason, .. } => Some(CallError::Halted(reason.clone())),
    }
}

/// geth's answer where a call has failed.
pub(crate) fn answer(error: &CallError) -> RpcError {
    match error {
        CallError::Reverted(data) => {
            let message = match reason(data) {
                Some(reason) => format!("execution reverted: {reason}"),
                None => "execution reverted".to_owned(),
            };
            RpcError::new(REVERTED, message).with_data(Value::String(hex::encode_prefixed(data)))
        }
        CallError::Halted(reason) => RpcError::new(FAILED, halt(reason)),
        CallError::Invalid(reason) => RpcError::new(FAILED, reason.to_string()),
        CallError::Engine(reason) => RpcError::new(FAILED, reason.clone()),
    }
}

/// The reason that Solidity encoded into revert data: `Error(string)` or `Panic(uint256)`, in geth's words.
pub(crate) fn reason(data: &[u8]) -> Option<String> {
    if let Ok(Revert { reason }) = Revert::abi_decode(data) {
        return Some(reason);
    }
    let Panic { code } = Panic::abi_decode(data).ok()?;
    let known = match code.saturating_to::<u64>() {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return Some(format!("unknown panic code: {code:#x}")),
    };
    Some(known.to_owned())
}

/// geth's words for an error of the machine.
pub(crate) fn halt(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(_) => "out of gas",
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode",
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID",
        HaltReason::InvalidJump => "invalid jump destination",
        HaltReason::StackUnderflow => "stack underflow",
        HaltReason::StackOverflow => "stack limit reached 1024",
        HaltReason::OutOfOffset => "return data out of bounds",
        HaltReason::CreateCollision => "contract address collision",
        HaltReason::NonceOverflow => "nonce uint64 overflow",
        HaltReason::CreateContractSizeLimit => "max code size exceeded",
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef",
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded",
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => "write protection",
        HaltReason::OutOfFunds => "insufficient balance for transfer",
        HaltReason::CallTooDeep => "max call depth exceeded",
        other => return other.to_string(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_reason_of_a_revert() {
        let text = Revert { reason: "no".into() }.abi_encode();
        assert_eq!(reason(&text).as_deref(), Some("no"));
        let panic = Panic { code: U256::from(0x11) }.abi_encode();
        assert_eq!(reason(&panic).as_deref(), Some("arithmetic underflow or overflow"));
        let panic = Panic { code: U256::from(0x77) }.abi_encode();
        assert_eq!(reason(&panic).as_deref(), Some("unknown panic code: 0x77"));
        assert_eq!(reason(&[]), None);
        assert_eq!(reason(&[1, 2, 3, 4]), None);
    }
}
