//! What happened: signatures, transactions, blocks.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::Signature;

use super::error::{block_not_available, invalid_params, min_context_slot_not_reached, slot_skipped};
use super::params::{Args, BlockContext, Commitment, MAX_SIGNATURE_STATUSES, limited, signature};
use super::transaction::{Encoding, parsed_keys, status_of, with_meta};
use super::{Answer, parsed, with_context};
use crate::node::solana::engine::Engine;
use crate::node::solana::ledger::{Executed, MAX_AGE, Slot};
use crate::node::solana::validator::Validator;
use crate::rpc::RpcError;

/// The most slots that `getBlocks` looks at.
const MAX_BLOCKS: u64 = 500_000;

/// The most signatures that `getSignaturesForAddress` answers with.
const MAX_SIGNATURES: usize = 1_000;

/// For how many slots a status is known without searching the history (agave: `MAX_RECENT_BLOCKHASHES`).
const STATUS_SLOTS: u64 = MAX_AGE * 2;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusConfig {
    search_transaction_history: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddressConfig {
    before: Option<String>,
    until: Option<String>,
    limit: Option<usize>,
    min_context_slot: Option<Slot>,
    #[serde(flatten)]
    context: BlockContext,
}

/// An encoding alone is the older form.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TransactionParam {
    Encoding(Encoding),
    Config(TransactionConfig),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransactionConfig {
    encoding: Option<Encoding>,
    max_supported_transaction_version: Option<u8>,
    #[serde(flatten)]
    context: BlockContext,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Details {
    #[default]
    Full,
    Accounts,
    Signatures,
    None,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockConfig {
    transaction_details: Option<Details>,
    rewards: Option<bool>,
    #[serde(flatten)]
    transaction: TransactionConfig,
}

/// The last slot of a range, or what would come after it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum EndParam {
    Slot(Slot),
    Config(BlockContext),
}

pub(super) fn signature_statuses(validator: &Validator, args: &Args<'_>) -> Answer {
    let texts = limited(args.required::<Vec<String>>(0)?, MAX_SIGNATURE_STATUSES)?;
    let signatures = texts.iter().map(|text| signature(text)).collect::<Result<Vec<_>, _>>()?;
    let everything = args.optional::<StatusConfig>(1)?.search_transaction_history;
    let engine = validator.engine();
    let (ledger, tip) = (engine.ledger(), engine.processed());
    let status = |signature: &Signature| {
        let executed = ledger.transaction(signature).filter(|executed| executed.slot <= tip)?;
        let depth = ledger.height_of(tip).saturating_sub(ledger.height_of(executed.slot));
        if !everything && depth > STATUS_SLOTS {
            return None;
        }
        let level = Commitment::of(executed.slot, engine);
        let confirmations = if level == Commitment::Finalized { Value::Null } else { json!(depth) };
        Some(json!({
            "slot": executed.slot,
            "confirmations": confirmations,
            "status": status_of(&executed.outcome),
            "err": executed.outcome.error,
            "confirmationStatus": level.name(),
        }))
    };
    let statuses: Value = signatures.iter().map(|signature| status(signature).unwrap_or(Value::Null)).collect();
    Ok(with_context(tip, statuses))
}

/// Newest first.
pub(super) fn signatures_for_address(validator: &Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let config: AddressConfig = args.optional(1)?;
    let engine = validator.engine();
    let newest = config.context.slot(engine)?;
    if config.min_context_slot.is_some_and(|wanted| newest < wanted) {
        return Err(min_context_slot_not_reached(newest));
    }
    let limit = config.limit.unwrap_or(MAX_SIGNATURES);
    if limit == 0 || limit > MAX_SIGNATURES {
        return Err(invalid_params(format!("Invalid limit; max {MAX_SIGNATURES}")));
    }
    let before = config.before.as_deref().map(signature).transpose()?;
    let until = config.until.as_deref().map(signature).transpose()?;

    let seen = engine.ledger().of(&address).iter().rev().filter(|executed| executed.slot <= newest);
    let mut skipping = before.is_some();
    let wanted = seen
        .take_while(|executed| Some(executed.signature()) != until)
        .filter(|executed| {
            let skipped = skipping;
            skipping = skipping && Some(executed.signature()) != before;
            !skipped
        })
        .take(limit);
    Ok(wanted.map(|executed| listed(engine, executed)).collect())
}

pub(super) fn transaction(validator: &Validator, args: &Args<'_>) -> Answer {
    let signature = args.signature(0)?;
    let config = match args.optional::<Option<TransactionParam>>(1)? {
        Some(TransactionParam::Config(config)) => config,
        Some(TransactionParam::Encoding(encoding)) => {
            TransactionConfig { encoding: Some(encoding), ..Default::default() }
        }
        None => TransactionConfig::default(),
    };
    let engine = validator.engine();
    let newest = config.context.slot(engine)?;
    let Some(executed) = engine.ledger().transaction(&signature).filter(|executed| executed.slot <= newest) else {
        return Ok(Value::Null);
    };
    let mut fields =
        with_meta(executed, config.encoding.unwrap_or_default(), config.max_supported_transaction_version)?;
    fields.insert("slot".into(), executed.slot.into());
    fields.insert("blockTime".into(), time(engine, executed.slot));
    Ok(Value::Object(fields))
}

pub(super) fn block(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot: Slot = args.required(0)?;
    let config: BlockConfig = args.optional(1)?;
    let engine = validator.engine();
    let newest = config.transaction.context.slot(engine)?;
    let ledger = engine.ledger();
    if slot > newest {
        return Err(block_not_available(slot));
    }
    let info = ledger.slot(slot).ok_or_else(|| slot_skipped(slot))?;
    let height = ledger.height_of(slot);
    let parent = height.checked_sub(1).and_then(|below| ledger.at(below));
    let previous = parent.map_or_else(Default::default, |parent| parent.blockhash);
    let parent = parent.map_or(0, |parent| parent.slot);

    let mut fields = Map::new();
    fields.insert("blockhash".into(), info.blockhash.to_string().into());
    fields.insert("previousBlockhash".into(), previous.to_string().into());
    fields.insert("parentSlot".into(), parent.into());
    fields.insert("blockHeight".into(), height.into());
    fields.insert("blockTime".into(), time(engine, slot));
    let executed = engine.ledger().block(slot);
    let encoding = config.transaction.encoding.unwrap_or_default();
    let newest = config.transaction.max_supported_transaction_version;
    match config.transaction_details.unwrap_or_default() {
        Details::Full => {
            let transactions = executed.iter().map(|executed| with_meta(executed, encoding, newest).map(Value::Object));
            fields.insert("transactions".into(), transactions.collect::<Result<_, RpcError>>()?);
        }
        Details::Accounts => {
            let transactions = executed.iter().map(|executed| accounts_only(executed, newest));
            fields.insert("transactions".into(), transactions.collect::<Result<_, RpcError>>()?);
        }
        Details::Signatures => {
            let signatures = executed.iter().map(|executed| executed.signature().to_string());
            fields.insert("signatures".into(), signatures.collect());
        }
        Details::None => {}
    }
    if config.rewards.unwrap_or(true) {
        fields.insert("rewards".into(), json!([]));
    }
    Ok(Value::Object(fields))
}

pub(super) fn blocks(validator: &Validator, args: &Args<'_>) -> Answer {
    let start: Slot = args.required(0)?;
    let (end, context) = match args.optional::<Option<EndParam>>(1)? {
        Some(EndParam::Slot(end)) => (Some(end), args.optional::<BlockContext>(2)?),
        Some(EndParam::Config(context)) => (None, context),
        None => (None, args.optional::<BlockContext>(2)?),
    };
    let newest = context.slot(validator.engine())?;
    let end = end.unwrap_or_else(|| newest.min(start.saturating_add(MAX_BLOCKS)));
    if end.saturating_sub(start) > MAX_BLOCKS {
        return Err(invalid_params(format!("Slot range too large; max {MAX_BLOCKS}")));
    }
    let found = validator.engine().ledger().between(start, end.min(newest));
    Ok(found.map(|info| Value::from(info.slot)).collect())
}

pub(super) fn blocks_with_limit(validator: &Validator, args: &Args<'_>) -> Answer {
    let start: Slot = args.required(0)?;
    let limit: u64 = args.required(1)?;
    let newest = args.optional::<BlockContext>(2)?.slot(validator.engine())?;
    if limit > MAX_BLOCKS {
        return Err(invalid_params(format!("Limit too large; max {MAX_BLOCKS}")));
    }
    let found = validator.engine().ledger().between(start, newest).take(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(found.map(|info| Value::from(info.slot)).collect())
}

pub(super) fn block_time(validator: &Validator, args: &Args<'_>) -> Answer {
    let slot: Slot = args.required(0)?;
    let engine = validator.engine();
    if slot > engine.processed() {
        return Err(block_not_available(slot));
    }
    if engine.ledger().slot(slot).is_none() {
        return Err(slot_skipped(slot));
    }
    Ok(time(engine, slot))
}

fn listed(engine: &Engine, executed: &Arc<Executed>) -> Value {
    json!({
        "signature": executed.signature().to_string(),
        "slot": executed.slot,
        "err": executed.outcome.error,
        "memo": memos(executed),
        "blockTime": time(engine, executed.slot),
        "confirmationStatus": Commitment::of(executed.slot, engine).name(),
    })
}

/// All memos of a transaction in one line, each with its length.
fn memos(executed: &Executed) -> Option<String> {
    let keys: Vec<Pubkey> = executed.keys().copied().collect();
    let memos = executed.transaction.message.instructions().iter().filter_map(|one| parsed::memo(one, &keys));
    let memos: Vec<String> = memos.map(|memo| format!("[{}] {memo}", memo.len())).collect();
    (!memos.is_empty()).then(|| memos.join("; "))
}

fn accounts_only(executed: &Executed, newest: Option<u8>) -> Answer {
    let mut fields = with_meta(executed, Encoding::Json, newest)?;
    let signatures: Vec<String> = executed.transaction.signatures.iter().map(ToString::to_string).collect();
    fields.insert("transaction".into(), json!({ "signatures": signatures, "accountKeys": parsed_keys(executed) }));
    if let Some(meta) = fields.get_mut("meta").and_then(Value::as_object_mut) {
        meta.retain(|name, _| {
            !["innerInstructions", "logMessages", "loadedAddresses", "returnData"].contains(&name.as_str())
        });
    }
    Ok(Value::Object(fields))
}

/// The time of a slot in seconds since the Unix epoch.
fn time(engine: &Engine, slot: Slot) -> Value {
    json!(engine.ledger().slot(slot).map(|info| info.millis / 1000))
}
