//! A transaction and its outcome as JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use solana_sdk::inner_instruction::InnerInstructionsList;
use solana_sdk::message::VersionedMessage;
use solana_sdk::message::compiled_instruction::CompiledInstruction;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::transaction::VersionedTransaction;

use super::error::unsupported_transaction_version;
use super::parsed;
use super::token::ui_amount;
use crate::node::solana::ledger::{Executed, Outcome, TokenBalance, is_writable};
use crate::rpc::RpcError;

/// How a transaction is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Encoding {
    /// Base58 without saying so: the oldest form.
    #[serde(rename = "binary")]
    Binary,
    #[serde(rename = "base58")]
    Base58,
    #[serde(rename = "base64")]
    Base64,
    /// By fields; instructions by indices and bytes.
    #[default]
    #[serde(rename = "json")]
    Json,
    /// By fields; well-known instructions too.
    #[serde(rename = "jsonParsed")]
    JsonParsed,
}

/// The fields `transaction`, `meta` and `version` that `getTransaction` and `getBlock` share.
///
/// # Errors
/// Where the transaction's version is higher than `newest`.
pub(super) fn with_meta(
    executed: &Executed,
    encoding: Encoding,
    newest: Option<u8>,
) -> Result<Map<String, Value>, RpcError> {
    let version = match &executed.transaction.message {
        VersionedMessage::Legacy(_) => None,
        VersionedMessage::V0(_) => Some(0),
        VersionedMessage::V1(_) => Some(1),
    };
    if let Some(version) = version.filter(|version| newest.is_none_or(|newest| *version > newest)) {
        return Err(unsupported_transaction_version(version));
    }
    let mut fields = Map::new();
    fields.insert("transaction".into(), encode(executed, encoding));
    fields.insert("meta".into(), meta(executed, encoding));
    if newest.is_some() {
        fields.insert("version".into(), version.map_or_else(|| json!("legacy"), |version| json!(version)));
    }
    Ok(fields)
}

/// Inner instructions by indices, grouped by the instruction that made them.
pub(super) fn inner_instructions(inner: &InnerInstructionsList) -> Value {
    inner_by(inner, raw_instruction)
}

/// What a program returned, or null.
pub(super) fn return_data(returned: Option<&(Pubkey, Vec<u8>)>) -> Value {
    returned.map_or(
        Value::Null,
        |(program, data)| json!({ "programId": program.to_string(), "data": [BASE64_STANDARD.encode(data), "base64"] }),
    )
}

/// Success or failure in the older form.
pub(super) fn status_of(outcome: &Outcome) -> Value {
    match &outcome.error {
        Some(error) => json!({ "Err": error }),
        None => json!({ "Ok": null }),
    }
}

/// The account keys with their roles, as `jsonParsed` has them.
pub(super) fn parsed_keys(executed: &Executed) -> Value {
    let transaction = &executed.transaction;
    let own = transaction.message.static_account_keys().len();
    let key = |(index, key): (usize, &Pubkey)| {
        json!({
            "pubkey": key.to_string(),
            "signer": transaction.message.is_signer(index),
            "source": if index < own { "transaction" } else { "lookupTable" },
            "writable": is_writable(transaction, &executed.loaded, index),
        })
    };
    executed.keys().enumerate().map(key).collect()
}

fn encode(executed: &Executed, encoding: Encoding) -> Value {
    let transaction = &executed.transaction;
    match encoding {
        Encoding::Binary => json!(bs58::encode(wire(transaction)).into_string()),
        Encoding::Base58 => json!([bs58::encode(wire(transaction)).into_string(), "base58"]),
        Encoding::Base64 => json!([BASE64_STANDARD.encode(wire(transaction)), "base64"]),
        Encoding::Json => json!({ "signatures": signatures(transaction), "message": raw_message(transaction) }),
        Encoding::JsonParsed => json!({ "signatures": signatures(transaction), "message": parsed_message(executed) }),
    }
}

fn wire(transaction: &VersionedTransaction) -> Vec<u8> {
    bincode::serialize(transaction).expect("a transaction that was decoded can be encoded")
}

fn signatures(transaction: &VersionedTransaction) -> Value {
    transaction.signatures.iter().map(ToString::to_string).collect()
}

fn raw_message(transaction: &VersionedTransaction) -> Value {
    let message = &transaction.message;
    let header = message.header();
    let instructions = message.instructions().iter().map(|instruction| raw_instruction(instruction, 1));
    let mut fields = json!({
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": message.static_account_keys().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "recentBlockhash": message.recent_blockhash().to_string(),
        "instructions": instructions.collect::<Vec<_>>(),
    });
    insert_lookups(&mut fields, message);
    fields
}

fn parsed_message(executed: &Executed) -> Value {
    let message = &executed.transaction.message;
    let keys: Vec<Pubkey> = executed.keys().copied().collect();
    let instructions = message.instructions().iter().map(|instruction| parsed::instruction(instruction, &keys, 1));
    let mut fields = json!({
        "accountKeys": parsed_keys(executed),
        "recentBlockhash": message.recent_blockhash().to_string(),
        "instructions": instructions.collect::<Vec<_>>(),
    });
    insert_lookups(&mut fields, message);
    fields
}

fn insert_lookups(fields: &mut Value, message: &VersionedMessage) {
    let (Some(object), Some(lookups)) = (fields.as_object_mut(), message.address_table_lookups()) else { return };
    let lookups = lookups.iter().map(|lookup| {
        json!({
            "accountKey": lookup.account_key.to_string(),
            "writableIndexes": lookup.writable_indexes,
            "readonlyIndexes": lookup.readonly_indexes,
        })
    });
    object.insert("addressTableLookups".into(), lookups.collect());
}

fn raw_instruction(instruction: &CompiledInstruction, stack_height: u8) -> Value {
    json!({
        "programIdIndex": instruction.program_id_index,
        "accounts": instruction.accounts,
        "data": bs58::encode(&instruction.data).into_string(),
        "stackHeight": stack_height,
    })
}

fn meta(executed: &Executed, encoding: Encoding) -> Value {
    let outcome = &executed.outcome;
    let keys: Vec<Pubkey> = executed.keys().copied().collect();
    let inner = match encoding {
        Encoding::JsonParsed => {
            inner_by(&outcome.inner, |instruction, height| parsed::instruction(instruction, &keys, height))
        }
        _ => inner_instructions(&outcome.inner),
    };
    let addresses = |addresses: &[Pubkey]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut meta = json!({
        "err": outcome.error,
        "status": status_of(outcome),
        "fee": outcome.fee,
        "preBalances": outcome.before,
        "postBalances": outcome.after,
        "innerInstructions": inner,
        "logMessages": outcome.logs,
        "preTokenBalances": token_balances(&outcome.tokens_before),
        "postTokenBalances": token_balances(&outcome.tokens_after),
        "rewards": [],
        "loadedAddresses": {
            "writable": addresses(&executed.loaded.writable),
            "readonly": addresses(&executed.loaded.readonly),
        },
        "computeUnitsConsumed": outcome.units_consumed,
    });
    if let (Some(object), Some(returned)) = (meta.as_object_mut(), &outcome.returned) {
        object.insert("returnData".into(), return_data(Some(returned)));
    }
    meta
}

fn inner_by(inner: &InnerInstructionsList, mut write: impl FnMut(&CompiledInstruction, u8) -> Value) -> Value {
    let groups = inner.iter().enumerate().filter(|(_, group)| !group.is_empty());
    let groups = groups.map(|(index, group)| {
        let instructions: Vec<Value> =
            group.iter().map(|inner| write(&inner.instruction, inner.stack_height)).collect();
        json!({ "index": index, "instructions": instructions })
    });
    groups.collect()
}

fn token_balances(balances: &[TokenBalance]) -> Value {
    let balance = |balance: &TokenBalance| {
        json!({
            "accountIndex": balance.index,
            "mint": balance.mint.to_string(),
            "owner": balance.owner.to_string(),
            "programId": balance.program.to_string(),
            "uiTokenAmount": ui_amount(balance.amount, balance.decimals),
        })
    };
    balances.iter().map(balance).collect()
}
