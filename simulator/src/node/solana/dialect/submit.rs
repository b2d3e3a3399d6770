//! Transactions on their way in: fees, simulation, sending; the faucet and slots on demand.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bincode::Options;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use solana_sdk::message::VersionedMessage;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::{TransactionError, VersionedTransaction};

use super::account::{Encoding as AccountEncoding, encode};
use super::error::{invalid_params, node_unhealthy, preflight_failure, signature_verification_failure};
use super::params::{Args, Commitment, ContextConfig, pubkey};
use super::{Answer, transaction, with_context};
use crate::node::solana::engine::Simulation;
use crate::node::solana::faucet::FaucetError;
use crate::node::solana::ledger::{MAX_AGE, Slot};
use crate::node::solana::queue::QueueFull;
use crate::node::solana::validator::{ProduceError, Validator};
use crate::rpc::{INTERNAL_ERROR, RpcError};

/// The most bytes of a transaction (agave: `PACKET_DATA_SIZE`).
const PACKET_BYTES: usize = 1232;
/// The most characters of those bytes in base58 and base64.
const MAX_BASE58: usize = 1683;
const MAX_BASE64: usize = 1644;

/// The most slots that one `sim_mine` makes.
const MAX_MINED: u32 = 500_000;

/// What agave calls the type in its messages.
const TRANSACTION: &str = "solana_transaction::versioned::VersionedTransaction";
const MESSAGE: &str = "solana_message::versions::VersionedMessage";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum WireEncoding {
    #[default]
    #[serde(rename = "base58")]
    Base58,
    #[serde(rename = "base64")]
    Base64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SendConfig {
    skip_preflight: bool,
    preflight_commitment: Option<Commitment>,
    encoding: Option<WireEncoding>,
    min_context_slot: Option<Slot>,
    max_retries: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SimulateConfig {
    sig_verify: bool,
    replace_recent_blockhash: bool,
    encoding: Option<WireEncoding>,
    accounts: Option<SimulateAccounts>,
    inner_instructions: bool,
    #[serde(flatten)]
    context: ContextConfig,
}

#[derive(Debug, Deserialize)]
struct SimulateAccounts {
    encoding: Option<AccountEncoding>,
    addresses: Vec<String>,
}

pub(super) fn fee_for_message(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let message: VersionedMessage = decode(&args.required::<String>(0)?, WireEncoding::Base64, MESSAGE)?;
    let slot = args.optional::<ContextConfig>(1)?.slot(validator.engine())?;
    message.sanitize().map_err(|e| invalid_params(format!("invalid transaction message: {e}")))?;
    let fee = validator.engine_mut().fee(message, slot);
    Ok(with_context(slot, json!(fee)))
}

pub(super) fn simulate(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let text: String = args.required(0)?;
    let config: SimulateConfig = args.optional(1)?;
    if config.sig_verify && config.replace_recent_blockhash {
        return Err(invalid_params("sigVerify may not be used with replaceRecentBlockhash"));
    }
    let mut transaction = decode_transaction(&text, config.encoding.unwrap_or_default())?;
    let slot = config.context.slot(validator.engine())?;
    let replacement = config.replace_recent_blockhash.then(|| {
        let ledger = validator.engine().ledger();
        let info = ledger.slot(slot).unwrap_or_else(|| ledger.latest());
        transaction.message.set_recent_blockhash(info.blockhash);
        let last = ledger.height_of(slot).saturating_add(MAX_AGE);
        json!({ "blockhash": info.blockhash.to_string(), "lastValidBlockHeight": last })
    });
    if config.sig_verify && !signatures_are_good(&transaction) {
        return Err(signature_verification_failure());
    }
    let wanted = config.accounts.as_ref().map(|wanted| check_wanted(wanted, &transaction)).transpose()?;

    let simulation = validator.engine_mut().simulate(transaction, slot);
    let inner = config.inner_instructions.then(|| transaction::inner_instructions(&simulation.inner));
    let mut result = simulation_result(&simulation, inner.unwrap_or(Value::Null));
    if let (Some(object), Some(replacement)) = (result.as_object_mut(), replacement) {
        object.insert("replacementBlockhash".into(), replacement);
    }
    if let (Some(object), Some((addresses, encoding))) = (result.as_object_mut(), wanted) {
        let engine = validator.engine();
        let after = |address| {
            if simulation.error.is_some() {
                return Ok(Value::Null);
            }
            let written =
                simulation.accounts.iter().find(|(key, _)| key == address).map(|(_, account)| account.clone());
            match written.or_else(|| engine.account(address, slot)) {
                Some(account) => encode(engine, slot, &account, encoding, None),
                None => Ok(Value::Null),
            }
        };
        let accounts = addresses.iter().map(after).collect::<Result<Vec<_>, _>>()?;
        object.insert("accounts".into(), Value::Array(accounts));
    }
    Ok(with_context(slot, result))
}

pub(super) fn send(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let text: String = args.required(0)?;
    let config: SendConfig = args.optional(1)?;
    let transaction = decode_transaction(&text, config.encoding.unwrap_or_default())?;
    let level = if config.skip_preflight { Some(Commitment::Processed) } else { config.preflight_commitment };
    let context = ContextConfig { commitment: level, min_context_slot: config.min_context_slot };
    let slot = context.slot(validator.engine())?;

    if !config.skip_preflight {
        if !signatures_are_good(&transaction) {
            return Err(signature_verification_failure());
        }
        if !validator.is_healthy() {
            return Err(node_unhealthy());
        }
        let simulation = validator.engine_mut().simulate(transaction.clone(), slot);
        if let Some(error) = &simulation.error {
            return Err(preflight_failure(error, simulation_result(&simulation, Value::Null)));
        }
    }
    let retried = config.max_retries != Some(0);
    let signature = validator.submit(transaction, retried).map_err(|full @ QueueFull| internal(full))?;
    Ok(json!(signature.to_string()))
}

/// The answer to [`send`] of a node that forgets the transaction at once.
pub(super) fn pretend(args: &Args<'_>) -> Answer {
    let config: SendConfig = args.optional(1)?;
    let transaction = decode_transaction(&args.required::<String>(0)?, config.encoding.unwrap_or_default())?;
    Ok(json!(transaction.signatures.first().map(ToString::to_string)))
}

pub(super) fn request_airdrop(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let lamports: u64 = args.required(1)?;
    args.optional::<ContextConfig>(2)?;
    let signature = validator.fund(&address, lamports).map_err(faucet_failed)?;
    Ok(json!(signature.to_string()))
}

/// `[address, amount]` in lamports or `[owner, amount, mint]` in base units. The amount is a decimal string or a
/// number.
pub(super) fn fund(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let amount = match args.required::<Value>(1)? {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64(),
    };
    let amount =
        amount.ok_or_else(|| invalid_params("Invalid params: the amount is not a number of base units below 2^64."))?;
    let signature = match args.optional::<Option<String>>(2)? {
        Some(mint) => validator.fund_token(&address, &pubkey(&mint)?, amount),
        None => validator.fund(&address, amount),
    };
    Ok(json!(signature.map_err(faucet_failed)?.to_string()))
}

/// `[slots]`, 1 if missing. Answers with the newest slot.
pub(super) fn mine(validator: &mut Validator, args: &Args<'_>) -> Answer {
    let slots = args.optional::<Option<u32>>(0)?.unwrap_or(1);
    if slots > MAX_MINED {
        return Err(invalid_params(format!("Invalid params: at most {MAX_MINED} slots at once.")));
    }
    let tip = validator.mine(slots).map_err(|error: ProduceError| internal(error))?;
    Ok(json!(tip))
}

/// Makes every blockhash so far too old, by as many empty slots. Answers with the newest slot.
pub(super) fn expire_blockhashes(validator: &mut Validator) -> Answer {
    let tip = validator.expire_blockhashes().map_err(|error: ProduceError| internal(error))?;
    Ok(json!(tip))
}

fn decode_transaction(text: &str, encoding: WireEncoding) -> Result<VersionedTransaction, RpcError> {
    let transaction: VersionedTransaction = decode(text, encoding, TRANSACTION)?;
    if matches!(transaction.message, VersionedMessage::V1(_)) {
        return Err(invalid_params("invalid transaction: Transaction version is unsupported"));
    }
    transaction
        .sanitize()
        .map_err(|e| invalid_params(format!("invalid transaction: {}", TransactionError::from(e))))?;
    Ok(transaction)
}

fn decode<T: DeserializeOwned>(text: &str, encoding: WireEncoding, what: &str) -> Result<T, RpcError> {
    let (name, most) = match encoding {
        WireEncoding::Base58 => ("base58", MAX_BASE58),
        WireEncoding::Base64 => ("base64", MAX_BASE64),
    };
    if text.len() > most {
        return Err(invalid_params(format!(
            "{name} encoded {what} too large: {} bytes (max: encoded/raw {most}/{PACKET_BYTES})",
            text.len()
        )));
    }
    let bytes = match encoding {
        WireEncoding::Base58 => bs58::decode(text).into_vec().map_err(|e| format!("{e:?}")),
        WireEncoding::Base64 => BASE64_STANDARD.decode(text).map_err(|e| format!("{e:?}")),
    };
    let bytes = bytes.map_err(|e| invalid_params(format!("invalid {name} encoding: {e}")))?;
    if bytes.len() > PACKET_BYTES {
        return Err(invalid_params(format!(
            "decoded {what} too large: {} bytes (max: {PACKET_BYTES} bytes)",
            bytes.len()
        )));
    }
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .allow_trailing_bytes()
        .deserialize(&bytes)
        .map_err(|e| invalid_params(format!("failed to deserialize {what}: {e}")))
}

fn signatures_are_good(transaction: &VersionedTransaction) -> bool {
    transaction.verify_with_results().iter().all(|good| *good)
}

/// The addresses whose state after the simulation is asked for.
fn check_wanted(
    wanted: &SimulateAccounts,
    transaction: &VersionedTransaction,
) -> Result<(Vec<Pubkey>, AccountEncoding), RpcError> {
    let encoding = wanted.encoding.unwrap_or(AccountEncoding::Base64);
    if matches!(encoding, AccountEncoding::Binary | AccountEncoding::Base58) {
        return Err(invalid_params("base58 encoding not supported"));
    }
    let lookups = transaction.message.address_table_lookups().unwrap_or_default();
    let looked_up =
        lookups.iter().map(|table| table.writable_indexes.len().saturating_add(table.readonly_indexes.len()));
    let most = looked_up.fold(transaction.message.static_account_keys().len(), usize::saturating_add);
    if wanted.addresses.len() > most {
        return Err(invalid_params(format!("Too many accounts provided; max {most}")));
    }
    let addresses = wanted.addresses.iter().map(|text| pubkey(text)).collect::<Result<_, _>>()?;
    Ok((addresses, encoding))
}

fn simulation_result(simulation: &Simulation, inner: Value) -> Value {
    json!({
        "err": simulation.error,
        "logs": simulation.logs,
        "accounts": null,
        "unitsConsumed": simulation.units_consumed,
        "returnData": transaction::return_data(simulation.returned.as_ref()),
        "innerInstructions": inner,
        "replacementBlockhash": null,
        "fee": simulation.fee,
    })
}

fn faucet_failed(error: FaucetError) -> RpcError {
    match error {
        FaucetError::Address(_) | FaucetError::Mint { .. } => invalid_params(format!("Invalid param: {error}")),
        FaucetError::Refused { .. } | FaucetError::QueueFull => internal(error),
    }
}

fn internal(error: impl std::fmt::Display) -> RpcError {
    RpcError::new(INTERNAL_ERROR, error.to_string())
}
