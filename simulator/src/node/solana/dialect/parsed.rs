//! Well-known instructions by their fields, as `jsonParsed` has them: transfers and what surrounds them.
//!
//! Anything else is written by its accounts and bytes, as agave does for programs that it does not know.

use serde_json::{Value, json};
use solana_sdk::message::compiled_instruction::CompiledInstruction;
use solana_sdk::pubkey::Pubkey;
use solana_system_interface::instruction::SystemInstruction;
use spl_token_interface::instruction::TokenInstruction;

use super::token::ui_amount;
use crate::node::solana::genesis::{ASSOCIATED_TOKEN, SYSTEM, TOKEN, TOKEN_2022};

const MEMO: Pubkey = Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
const MEMO_V1: Pubkey = Pubkey::from_str_const("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo");

/// `instruction` with `keys` as its accounts, at `stack_height` (1: the transaction's own).
pub(super) fn instruction(instruction: &CompiledInstruction, keys: &[Pubkey], stack_height: u8) -> Value {
    let program = keys.get(usize::from(instruction.program_id_index)).copied().unwrap_or_default();
    let accounts: Vec<String> = instruction
        .accounts
        .iter()
        .filter_map(|index| keys.get(usize::from(*index)))
        .map(ToString::to_string)
        .collect();
    match parse(&program, &instruction.data, &accounts) {
        Some((name, parsed)) => json!({
            "program": name,
            "programId": program.to_string(),
            "parsed": parsed,
            "stackHeight": stack_height,
        }),
        None => json!({
            "programId": program.to_string(),
            "accounts": accounts,
            "data": bs58::encode(&instruction.data).into_string(),
            "stackHeight": stack_height,
        }),
    }
}

/// The text of a memo instruction.
pub(super) fn memo(instruction: &CompiledInstruction, keys: &[Pubkey]) -> Option<String> {
    let program = keys.get(usize::from(instruction.program_id_index))?;
    if ![MEMO, MEMO_V1].contains(program) {
        return None;
    }
    String::from_utf8(instruction.data.clone()).ok()
}

fn parse(program: &Pubkey, data: &[u8], accounts: &[String]) -> Option<(&'static str, Value)> {
    match *program {
        SYSTEM => Some(("system", system(data, accounts)?)),
        TOKEN => Some(("spl-token", token(data, accounts)?)),
        TOKEN_2022 => Some(("spl-token-2022", token(data, accounts)?)),
        ASSOCIATED_TOKEN => Some(("spl-associated-token-account", associated(data, accounts)?)),
        MEMO | MEMO_V1 => Some(("spl-memo", json!(std::str::from_utf8(data).ok()?))),
        _ => None,
    }
}

fn system(data: &[u8], accounts: &[String]) -> Option<Value> {
    match (bincode::deserialize(data).ok()?, accounts) {
        (SystemInstruction::Transfer { lamports }, [source, destination, ..]) => Some(json!({
            "type": "transfer",
            "info": { "source": source, "destination": destination, "lamports": lamports },
        })),
        (SystemInstruction::CreateAccount { lamports, space, owner }, [source, created, ..]) => Some(json!({
            "type": "createAccount",
            "info": {
                "source": source, "newAccount": created, "lamports": lamports, "space": space, "owner": owner.to_string(),
            },
        })),
        (SystemInstruction::AdvanceNonceAccount, [nonce, hashes, authority, ..]) => Some(json!({
            "type": "advanceNonce",
            "info": { "nonceAccount": nonce, "recentBlockhashesSysvar": hashes, "nonceAuthority": authority },
        })),
        _ => None,
    }
}

fn token(data: &[u8], accounts: &[String]) -> Option<Value> {
    match (TokenInstruction::unpack(data).ok()?, accounts) {
        (TokenInstruction::Transfer { amount }, [source, destination, authority]) => Some(json!({
            "type": "transfer",
            "info": {
                "source": source, "destination": destination, "authority": authority, "amount": amount.to_string(),
            },
        })),
        (TokenInstruction::TransferChecked { amount, decimals }, [source, mint, destination, authority]) => {
            Some(json!({
                "type": "transferChecked",
                "info": {
                    "source": source, "mint": mint, "destination": destination, "authority": authority,
                    "tokenAmount": ui_amount(amount, decimals),
                },
            }))
        }
        (TokenInstruction::MintTo { amount }, [mint, account, authority]) => Some(json!({
            "type": "mintTo",
            "info": { "mint": mint, "account": account, "mintAuthority": authority, "amount": amount.to_string() },
        })),
        (TokenInstruction::CloseAccount, [account, destination, owner]) => Some(json!({
            "type": "closeAccount",
            "info": { "account": account, "destination": destination, "owner": owner },
        })),
        _ => None,
    }
}

fn associated(data: &[u8], accounts: &[String]) -> Option<Value> {
    let kind = match data {
        [] | [0] => "create",
        [1] => "createIdempotent",
        _ => return None,
    };
    let [source, account, wallet, mint, system, program, ..] = accounts else { return None };
    Some(json!({
        "type": kind,
        "info": {
            "source": source, "account": account, "wallet": wallet, "mint": mint, "systemProgram": system,
            "tokenProgram": program,
        },
    }))
}
