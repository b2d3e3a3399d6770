//! `debug_traceCall` with geth's `callTracer`: the calls within a call, and their logs
//! (<https://geth.ethereum.org/docs/developers/evm-tracing/built-in-tracers>).

use alloy::primitives::{Address, Bytes, Log, U64, U256};
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::state::StateOverride;
use revm::context::result::{EVMError, HaltReason};
use revm::context::{ContextTr, TxEnv};
use revm::context_interface::CreateScheme;
use revm::interpreter::{
    CallInputs, CallOutcome, CallScheme, CreateInputs, CreateOutcome, InterpreterResult, SuccessOrHalt,
};
use revm::{InspectEvm, Inspector, MainBuilder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer;
use super::call::{self, FAILED, Place};
use crate::rpc::RpcError;

/// How to trace.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TraceConfig {
    tracer: Option<String>,
    tracer_config: TracerConfig,
    state_overrides: Option<StateOverride>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TracerConfig {
    with_log: bool,
    only_top_call: bool,
}

/// Runs `request` and shows its calls.
///
/// # Errors
/// -32000 where another tracer is asked for, or the call can't be run.
pub(crate) fn trace_call(
    mut place: Place<'_>,
    request: &TransactionRequest,
    config: TraceConfig,
    chain_id: u64,
) -> Result<Value, RpcError> {
    if config.tracer.as_deref() != Some("callTracer") {
        return Err(RpcError::new(FAILED, "this simulated node has the callTracer only; name it as the tracer"));
    }
    if let Some(overrides) = config.state_overrides {
        place.override_state(overrides)?;
    }
    let gas = call::allowance(request);
    let (context, tx) = call::prepared(place, request, chain_id)?;
    let tx = TxEnv { gas_limit: gas, ..tx };
    let base_fee = context.block.basefee;
    let mut evm = context.build_mainnet_with_inspector(Tracer::default());
    let failed = |text: String| RpcError::new(FAILED, format!("tracing failed: {text}"));
    let done = evm.inspect_tx(tx.clone()).map_err(|error| match error {
        EVMError::Transaction(reason) => failed(call::explain(&reason, &tx, base_fee, gas)),
        other => failed(other.to_string()),
    })?;
    let frame = evm.inspector.done.ok_or_else(|| failed("there was no call".to_owned()))?;
    // The outermost frame is the transaction, with what it costs before any code runs.
    let frame = Frame { gas, gas_used: done.result.tx_gas_used(), ..frame };
    Ok(frame.show(config.tracer_config))
}

/// A call, as it goes.
#[derive(Debug)]
struct Frame {
    kind: &'static str,
    from: Address,
    /// None of a creation that made no contract.
    to: Option<Address>,
    value: Option<U256>,
    gas: u64,
    gas_used: u64,
    input: Bytes,
    output: Bytes,
    error: Option<String>,
    calls: Vec<Frame>,
    logs: Vec<Told>,
}

/// A log.
#[derive(Debug)]
struct Told {
    log: Log,
    /// How many calls its frame had made before it.
    position: u64,
    /// How many logs there were before it.
    index: u64,
}

/// Collects the frames of one call.
#[derive(Debug, Default)]
struct Tracer {
    open: Vec<Frame>,
    done: Option<Frame>,
    logs: u64,
}

impl Tracer {
    fn leave(&mut self, result: &InterpreterResult, created: Option<Option<Address>>) {
        let Some(mut frame) = self.open.pop() else { return };
        frame.gas_used = result.gas.total_gas_spent();
        frame.output = result.output.clone();
        frame.error = match SuccessOrHalt::<HaltReason>::from(result.result) {
            SuccessOrHalt::Success(_) => None,
            SuccessOrHalt::Revert => Some("execution reverted".to_owned()),
            SuccessOrHalt::Halt(reason) => Some(call::halt(&reason)),
            SuccessOrHalt::FatalExternalError | SuccessOrHalt::Internal(_) => Some("execution failed".to_owned()),
        };
        if let Some(created) = created {
            frame.to = created.filter(|_| frame.error.is_none());
        }
        if frame.error.is_some() {
            self.logs = self.logs.saturating_sub(frame.undo());
        }
        match self.open.last_mut() {
            Some(outer) => outer.calls.push(frame),
            None => self.done = Some(frame),
        }
    }
}

impl<CTX: ContextTr> Inspector<CTX> for Tracer {
    fn log(&mut self, _context: &mut CTX, log: Log) {
        if let Some(frame) = self.open.last_mut() {
            let position = u64::try_from(frame.calls.len()).unwrap_or(u64::MAX);
            frame.logs.push(Told { log, position, index: self.logs });
            self.logs = self.logs.saturating_add(1);
        }
    }

    fn call(&mut self, context: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        let (kind, from) = match inputs.scheme {
            CallScheme::Call => ("CALL", inputs.caller),
            CallScheme::StaticCall => ("STATICCALL", inputs.caller),
            // The contract that runs foreign code as its own.
            CallScheme::CallCode => ("CALLCODE", inputs.target_address),
            CallScheme::DelegateCall => ("DELEGATECALL", inputs.target_address),
        };
        self.open.push(Frame {
            kind,
            from,
            to: Some(inputs.bytecode_address),
            value: (inputs.scheme != CallScheme::StaticCall).then(|| inputs.call_value()),
            gas: inputs.gas_limit,
            gas_used: 0,
            input: inputs.input.bytes(context),
            output: Bytes::new(),
            error: None,
            calls: Vec::new(),
            logs: Vec::new(),
        });
        None
    }

    fn call_end(&mut self, _context: &mut CTX, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.leave(&outcome.result, None);
    }

    fn create(&mut self, _context: &mut CTX, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.open.push(Frame {
            kind: if matches!(inputs.scheme(), CreateScheme::Create2 { .. }) { "CREATE2" } else { "CREATE" },
            from: inputs.caller(),
            to: None,
            value: Some(inputs.value()),
            gas: inputs.gas_limit(),
            gas_used: 0,
            input: inputs.init_code().clone(),
            output: Bytes::new(),
            error: None,
            calls: Vec::new(),
            logs: Vec::new(),
        });
        None
    }

    fn create_end(&mut self, _context: &mut CTX, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.leave(&outcome.result, Some(outcome.address));
    }
}

impl Frame {
    /// Forgets what it and the calls within have logged. Returns how many logs that were.
    fn undo(&mut self) -> u64 {
        let own = u64::try_from(std::mem::take(&mut self.logs).len()).unwrap_or(u64::MAX);
        self.calls.iter_mut().map(Self::undo).fold(own, u64::saturating_add)
    }

    fn show(&self, config: TracerConfig) -> Value {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("type", self.kind.into());
        set("from", answer::json(&self.from));
        if let Some(to) = self.to {
            set("to", answer::json(&to));
        }
        if let Some(value) = self.value {
            set("value", answer::json(&value));
        }
        set("gas", answer::json(&U64::from(self.gas)));
        set("gasUsed", answer::json(&U64::from(self.gas_used)));
        set("input", answer::json(&self.input));
        if !self.output.is_empty() {
            set("output", answer::json(&self.output));
        }
        if let Some(error) = &self.error {
            set("error", error.as_str().into());
            if let Some(reason) = call::reason(&self.output) {
                set("revertReason", reason.into());
            }
        }
        if config.with_log && !self.logs.is_empty() {
            let show = |Told { log, position, index }: &Told| {
                json!({
                    "address": log.address, "topics": log.topics(), "data": log.data.data,
                    "position": U64::from(*position), "index": U64::from(*index),
                })
            };
            set("logs", self.logs.iter().map(show).collect());
        }
        if !config.only_top_call && !self.calls.is_empty() {
            set("calls", self.calls.iter().map(|call| call.show(config)).collect());
        }
        Value::Object(fields)
    }
}
