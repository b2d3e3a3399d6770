//! `eth_simulateV1`: blocks of calls on top of a block, which change nothing
//! (<https://github.com/ethereum/execution-apis/pull/484>; what it leaves open follows geth's `internal/ethapi/simulate.go`).
//!
//! Without validation a call that names no price sees a base fee of zero, whatever the block's is. Precompiles can't be moved, and
//! withdrawals can't be given.

mod tracer;

use alloy::consensus::{Header, Transaction as _};
use alloy::primitives::{Address, Bytes, Log as RawLog, TxKind, U256};
use alloy::rpc::types::simulate::{MAX_SIMULATE_BLOCKS, SimBlock, SimCallResult, SimulateError, SimulatePayload};
use alloy::rpc::types::state::StateOverride;
use alloy::rpc::types::{BlockOverrides, Log, TransactionRequest};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::{Database, InspectCommitEvm, MainBuilder, MainContext};
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;

use self::tracer::Tracer;
use super::answer;
use super::block::{Block, Outcome, Transaction, next_base_fee, template};
use super::call::{self, CallError, FAILED, GAS_CAP, Place};
use super::executor::{Draft, config, environment, receipt};
use crate::rpc::{INTERNAL_ERROR, INVALID_PARAMS, RpcError};

/// The time between two blocks, in seconds, where it isn't given.
const BLOCK_TIME: u64 = 12;

/// The codes of the specification.
mod code {
    pub(super) const NONCE_TOO_LOW: i64 = -38010;
    pub(super) const NONCE_TOO_HIGH: i64 = -38011;
    pub(super) const INTRINSIC_GAS: i64 = -38013;
    pub(super) const INSUFFICIENT_FUNDS: i64 = -38014;
    pub(super) const BLOCK_GAS_LIMIT: i64 = -38015;
    pub(super) const BLOCK_NUMBER: i64 = -38020;
    pub(super) const BLOCK_TIME: i64 = -38021;
    pub(super) const INIT_CODE_SIZE: i64 = -38025;
    pub(super) const TOO_MUCH: i64 = -38026;
}

/// A block to be made: its header as far as it is known beforehand, and what runs in it.
struct Plan {
    /// Without a base fee where none is given.
    header: Header,
    blob_base_fee: Option<u128>,
    overrides: StateOverride,
    calls: Vec<TransactionRequest>,
}

/// What is the same for all blocks.
struct Simulator<'a> {
    place: Place<'a>,
    chain_id: u64,
    /// What is left of the gas that all calls may use.
    gas: u64,
    transfers: bool,
    validation: bool,
    whole: bool,
}

/// What came of a call, as the block and as the client see it.
struct Done {
    transaction: Transaction,
    outcome: Outcome,
    result: SimCallResult,
    logs: Vec<RawLog>,
}

/// Runs the blocks on top of `place`, and shows each with what came of its calls.
///
/// # Errors
/// By the specification's codes, where the blocks aren't in order or too many, or a call can't be run.
pub(crate) fn simulate(place: Place<'_>, payload: SimulatePayload, chain_id: u64) -> Result<Vec<Value>, RpcError> {
    let SimulatePayload { block_state_calls, trace_transfers, validation, return_full_transactions } = payload;
    if block_state_calls.is_empty() {
        return Err(RpcError::new(INVALID_PARAMS, "empty input"));
    }
    let plans = plan(&place.header, block_state_calls)?;
    let mut parent = place.header.clone();
    let (gas, transfers, whole) = (GAS_CAP, trace_transfers, return_full_transactions);
    let mut simulator = Simulator { place, chain_id, gas, transfers, validation, whole };
    let mut shown = Vec::new();
    for plan in plans {
        let (header, block) = simulator.block(plan, &parent)?;
        parent = header;
        shown.push(block);
    }
    Ok(shown)
}

/// The blocks with all that can be told of them before one is run, and empty ones where numbers are left out.
fn plan(base: &Header, blocks: Vec<SimBlock>) -> Result<Vec<Plan>, RpcError> {
    let too_many = || RpcError::new(code::TOO_MUCH, "too many blocks");
    let last = base.number.saturating_add(MAX_SIMULATE_BLOCKS);
    let mut plans: Vec<Plan> = Vec::new();
    let mut push = |number, block| {
        let previous = plans.last().map_or(base, |plan| &plan.header);
        let plan = planned(previous, number, block)?;
        plans.push(plan);
        Ok::<_, RpcError>(())
    };
    let mut newest = base.number;
    for block in blocks {
        let next = newest.saturating_add(1);
        let number = match block.block_number_override() {
            Some(number) => u64::try_from(number).map_err(|_| too_many())?,
            None => next,
        };
        if number <= newest {
            let text = format!("block numbers must be in order: {number} <= {newest}");
            return Err(RpcError::new(code::BLOCK_NUMBER, text));
        }
        if number > last {
            return Err(too_many());
        }
        for empty in next..number {
            push(empty, SimBlock::default())?;
        }
        push(number, block)?;
        newest = number;
    }
    Ok(plans)
}

fn planned(previous: &Header, number: u64, block: SimBlock) -> Result<Plan, RpcError> {
    let SimBlock { block_overrides, state_overrides, calls } = block;
    let BlockOverrides {
        time,
        gas_limit,
        coinbase,
        random,
        base_fee,
        difficulty,
        blob_base_fee,
        beacon_root,
        block_hash,
        ..
    } = block_overrides.unwrap_or_default();
    if block_hash.is_some() {
        return Err(RpcError::new(INVALID_PARAMS, "blockHash is not supported"));
    }
    let timestamp = time.unwrap_or(previous.timestamp.saturating_add(BLOCK_TIME));
    if timestamp <= previous.timestamp {
        let text = format!("block timestamps must be in order: {timestamp} <= {}", previous.timestamp);
        return Err(RpcError::new(code::BLOCK_TIME, text));
    }
    let header = Header {
        number,
        timestamp,
        gas_limit: gas_limit.unwrap_or(previous.gas_limit),
        beneficiary: coinbase.unwrap_or(previous.beneficiary),
        mix_hash: random.unwrap_or_default(),
        difficulty: difficulty.unwrap_or(previous.difficulty),
        base_fee_per_gas: base_fee.map(|fee| fee.saturating_to()),
        parent_beacon_block_root: Some(beacon_root.unwrap_or_default()),
        extra_data: Bytes::new(),
        ..template()
    };
    let blob_base_fee = blob_base_fee.map(|fee| fee.saturating_to());
    Ok(Plan { header, blob_base_fee, overrides: state_overrides.unwrap_or_default(), calls })
}

impl Simulator<'_> {
    /// Runs a block, and shows it with what came of its calls.
    fn block(&mut self, plan: Plan, parent: &Header) -> Result<(Header, Value), RpcError> {
        let Plan { mut header, blob_base_fee, overrides, calls } = plan;
        header.parent_hash = parent.hash_slow();
        // Without validation a call need not name a price, so none is asked for.
        let base_fee = header.base_fee_per_gas.unwrap_or(if self.validation { next_base_fee(parent) } else { 0 });
        header.base_fee_per_gas = Some(base_fee);
        self.place.db.cache.block_hashes.insert(U256::from(parent.number), header.parent_hash);
        self.place.override_state(overrides)?;

        let mut draft = Draft::empty(header);
        let mut results: Vec<(SimCallResult, Vec<RawLog>)> = Vec::new();
        let mut first_log = 0_u64;
        for request in calls {
            let block = self.environment(&draft.header, blob_base_fee);
            let Done { transaction, mut outcome, result, logs } = self.call(request, &draft.header, block)?;
            outcome.first_log = first_log;
            first_log = first_log.saturating_add(outcome.logs());
            draft.header.gas_used = draft.header.gas_used.saturating_add(outcome.gas_used);
            draft.transactions.push(Arc::new(transaction));
            draft.outcomes.push(outcome);
            results.push((result, logs));
        }
        draft.header.state_root = self.place.db.db.root_with(&self.place.db.cache);
        let Draft { header, transactions, outcomes, balances, .. } = draft.committed();
        let block = Block::new(header, transactions, outcomes, balances);
        let mut shown = answer::block(&block, self.whole);
        if let Value::Object(fields) = &mut shown {
            fields.insert("calls".to_owned(), answer::json(&placed(&block, results)));
        }
        Ok((block.header.into_inner(), shown))
    }

    fn environment(&self, header: &Header, blob_base_fee: Option<u128>) -> BlockEnv {
        let mut block = environment(header);
        if let Some(blob_gasprice) = blob_base_fee {
            block.blob_excess_gas_and_price = Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice });
        }
        block
    }

    /// Runs one call as the next one of the block with this header.
    fn call(
        &mut self,
        mut request: TransactionRequest,
        header: &Header,
        mut block: BlockEnv,
    ) -> Result<Done, RpcError> {
        let left = header.gas_limit.saturating_sub(header.gas_used);
        let gas = request.gas.unwrap_or(left);
        if gas > left {
            let text = format!("block gas limit reached: {} >= {}", header.gas_used, header.gas_limit);
            return Err(RpcError::new(code::BLOCK_GAS_LIMIT, text));
        }
        let gas = gas.min(self.gas);
        let sender = request.from.unwrap_or_default();
        let Ok(account) = self.place.db.basic(sender);
        let nonce = request.nonce.unwrap_or(account.map(|account| account.nonce).unwrap_or_default());
        request.gas = Some(gas);
        request.nonce = Some(nonce);
        let tx = TxEnv { gas_limit: gas, nonce, ..call::transaction(&request, self.chain_id)? };
        let transaction = unsigned(request, sender, self.chain_id)?;
        if !self.validation && tx.gas_price == 0 {
            block.basefee = 0;
        }

        let mut cfg = config(self.chain_id);
        cfg.disable_nonce_check = !self.validation;
        cfg.disable_eip3607 = true;
        cfg.disable_block_gas_limit = true;
        let base_fee = block.basefee;
        let evm = Context::mainnet().with_db(&mut self.place.db).with_cfg(cfg).with_block(block);
        let mut evm = evm.build_mainnet_with_inspector(Tracer::new(self.transfers));
        let result = match evm.inspect_tx_commit(tx.clone()) {
            Ok(result) => result,
            Err(EVMError::<Infallible>::Transaction(reason)) => {
                let text = format!("err: {} (supplied gas {gas})", call::explain(&reason, &tx, base_fee, gas));
                return Err(RpcError::new(code_of(&reason), text));
            }
            Err(other) => return Err(RpcError::new(INTERNAL_ERROR, other.to_string())),
        };
        let logs = evm.inspector.take();
        let gas_used = result.tx_gas_used();
        self.gas = self.gas.saturating_sub(gas_used);
        let outcome = Outcome {
            effective_gas_price: transaction.effective_gas_price(header.base_fee_per_gas),
            contract_address: transaction.to().is_none().then(|| sender.create(nonce)),
            gas_used,
            first_log: 0,
            receipt: receipt(transaction.tx_type(), header.gas_used.saturating_add(gas_used), result.clone()),
        };
        Ok(Done { transaction, outcome, result: told(result, gas_used), logs })
    }
}

/// The transaction that a call stands for, which nobody has signed.
fn unsigned(mut request: TransactionRequest, sender: Address, chain_id: u64) -> Result<Transaction, RpcError> {
    request.to.get_or_insert(TxKind::Create);
    request.chain_id = Some(chain_id);
    if request.gas_price.is_none() {
        request.max_fee_per_gas.get_or_insert_default();
        request.max_priority_fee_per_gas.get_or_insert_default();
    }
    let built = request.build_typed_simulate_transaction();
    let transaction = built.map_err(|error| RpcError::new(FAILED, error.to_string()))?;
    Ok(Transaction::new_unchecked(transaction.into(), sender))
}

/// What came of a call, without its logs.
fn told(result: ExecutionResult, gas_used: u64) -> SimCallResult {
    let error = call::failure(&result).map(|failure| {
        let RpcError { code, message, data } = call::answer(&failure);
        let data = data.and_then(|data| serde_json::from_value(data).ok());
        let code = match failure {
            CallError::Reverted(_) => i32::try_from(code).unwrap_or(SimulateError::EXECUTION_REVERTED_CODE),
            _ => SimulateError::VM_EXECUTION_ERROR_CODE,
        };
        SimulateError { code, message, data }
    });
    SimCallResult {
        status: result.is_success(),
        max_used_gas: Some(result.gas().total_gas_spent().max(gas_used)),
        return_data: result.into_output().unwrap_or_default(),
        logs: Vec::new(),
        gas_used,
        error,
    }
}

/// The calls' results with their logs, where these stand in the block.
fn placed(block: &Block, results: Vec<(SimCallResult, Vec<RawLog>)>) -> Vec<SimCallResult> {
    let mut numbers = 0_u64..;
    let each = results.into_iter().zip(&block.transactions).zip(0_u64..);
    let placed = each.map(|(((result, logs), transaction), index)| {
        let log = |(inner, number)| Log {
            inner,
            block_hash: Some(block.hash()),
            block_number: Some(block.header.number),
            block_timestamp: Some(block.header.timestamp),
            transaction_hash: Some(*transaction.tx_hash()),
            transaction_index: Some(index),
            log_index: Some(number),
            removed: false,
        };
        SimCallResult { logs: logs.into_iter().zip(numbers.by_ref()).map(log).collect(), ..result }
    });
    placed.collect()
}

fn code_of(reason: &InvalidTransaction) -> i64 {
    match reason {
        InvalidTransaction::NonceTooHigh { .. } => code::NONCE_TOO_HIGH,
        InvalidTransaction::NonceTooLow { .. } => code::NONCE_TOO_LOW,
        InvalidTransaction::CallGasCostMoreThanGasLimit { .. } => code::INTRINSIC_GAS,
        InvalidTransaction::LackOfFundForMaxFee { .. } => code::INSUFFICIENT_FUNDS,
        InvalidTransaction::CreateInitCodeSizeLimit => code::INIT_CODE_SIZE,
        InvalidTransaction::GasPriceLessThanBasefee | InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            INVALID_PARAMS
        }
        _ => INTERNAL_ERROR,
    }
}
