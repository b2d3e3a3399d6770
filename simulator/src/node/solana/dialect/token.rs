//! Token accounts and mints, of both token programs.

use serde::Deserialize;
use serde_json::{Map, Number, Value, json};
use solana_sdk::account::{AccountSharedData, ReadableAccount};
use solana_sdk::program_option::COption;
use solana_sdk::pubkey::Pubkey;
use spl_token_interface::state::{Account, AccountState, Mint};

use super::account::AccountConfig;
use super::error::invalid_params;
use super::params::{Args, BlockContext, pubkey};
use super::{Answer, with_context};
use crate::node::solana::engine::Engine;
use crate::node::solana::genesis::TOKEN;
use crate::node::solana::ledger::Slot;
use crate::node::solana::token::{is_token_program, mint, token_account};
use crate::node::solana::validator::Validator;
use crate::rpc::RpcError;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Of {
    Mint(String),
    ProgramId(String),
}

pub(super) fn account_balance(validator: &Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let engine = validator.engine();
    let slot = args.optional::<BlockContext>(1)?.commitment.unwrap_or_default().slot(engine);
    let account = found(engine, &address, slot)?;
    let state = token_account(&account).ok_or_else(|| invalid_params("Invalid param: not a Token account"))?;
    let decimals = decimals(engine, &state.mint, slot)?;
    Ok(with_context(slot, ui_amount(state.amount, decimals)))
}

pub(super) fn supply(validator: &Validator, args: &Args<'_>) -> Answer {
    let address = args.pubkey(0)?;
    let engine = validator.engine();
    let slot = args.optional::<BlockContext>(1)?.commitment.unwrap_or_default().slot(engine);
    let account = found(engine, &address, slot)?;
    if !is_token_program(account.owner()) {
        return Err(invalid_params("Invalid param: not a Token mint"));
    }
    let mint = mint(&account).ok_or_else(|| invalid_params("Invalid param: mint could not be unpacked"))?;
    Ok(with_context(slot, ui_amount(mint.supply, mint.decimals)))
}

pub(super) fn accounts_by_owner(validator: &Validator, args: &Args<'_>) -> Answer {
    let owner = args.pubkey(0)?;
    let of: Of = args.required(1)?;
    let config: AccountConfig = args.optional(2)?;
    let engine = validator.engine();
    let slot = config.context.slot(engine)?;
    let (program, only) = match of {
        Of::Mint(text) => {
            let address = pubkey(&text)?;
            let account = engine.account(&address, slot);
            let account = account.ok_or_else(|| invalid_params("Invalid param: could not find mint"))?;
            mint(&account).ok_or_else(|| invalid_params("Invalid param: not a Token mint"))?;
            (*account.owner(), Some(address))
        }
        Of::ProgramId(text) => (pubkey(&text)?, None),
    };
    if !is_token_program(&program) {
        return Err(invalid_params("Invalid param: unrecognized Token program id"));
    }
    let accounts = engine.accounts(slot).into_iter().filter(|(_, account)| *account.owner() == program);
    let wanted = accounts.filter(|(_, account)| {
        token_account(account).is_some_and(|state| state.owner == owner && only.is_none_or(|mint| mint == state.mint))
    });
    let encoded = wanted.map(|(address, account)| {
        let account = config.encode(engine, slot, &account)?;
        Ok(json!({ "pubkey": address.to_string(), "account": account }))
    });
    Ok(with_context(slot, Value::Array(encoded.collect::<Result<_, RpcError>>()?)))
}

/// A token account or mint by its fields, as `jsonParsed` has it. Token-2022 extensions are not listed.
pub(super) fn parsed(engine: &Engine, slot: Slot, account: &AccountSharedData) -> Option<Value> {
    let (kind, info) = if let Some(state) = token_account(account) {
        ("account", account_info(engine, &state, slot)?)
    } else {
        ("mint", mint_info(&mint(account)?))
    };
    let program = if *account.owner() == TOKEN { "spl-token" } else { "spl-token-2022" };
    Some(json!({ "program": program, "parsed": { "info": info, "type": kind }, "space": account.data().len() }))
}

/// An amount in base units and in whole tokens.
pub(super) fn ui_amount(amount: u64, decimals: u8) -> Value {
    let text = whole_tokens(amount, decimals);
    // The number is a float in JSON, as agave's is; the text is what to count on.
    let number: Option<Number> = serde_json::from_str(&text).ok();
    let number = match number.as_ref().and_then(Number::as_u64) {
        Some(_) => serde_json::from_str(&format!("{text}.0")).ok(),
        None => number,
    };
    json!({ "amount": amount.to_string(), "decimals": decimals, "uiAmount": number, "uiAmountString": text })
}

fn account_info(engine: &Engine, state: &Account, slot: Slot) -> Option<Value> {
    let decimals = decimals(engine, &state.mint, slot).ok()?;
    let mut info = Map::new();
    info.insert("isNative".into(), state.is_native().into());
    info.insert("mint".into(), state.mint.to_string().into());
    info.insert("owner".into(), state.owner.to_string().into());
    let name = match state.state {
        AccountState::Uninitialized => "uninitialized",
        AccountState::Initialized => "initialized",
        AccountState::Frozen => "frozen",
    };
    info.insert("state".into(), name.into());
    info.insert("tokenAmount".into(), ui_amount(state.amount, decimals));
    if let COption::Some(delegate) = state.delegate {
        info.insert("delegate".into(), delegate.to_string().into());
        info.insert("delegatedAmount".into(), ui_amount(state.delegated_amount, decimals));
    }
    if let COption::Some(reserve) = state.is_native {
        info.insert("rentExemptReserve".into(), ui_amount(reserve, decimals));
    }
    if let COption::Some(authority) = state.close_authority {
        info.insert("closeAuthority".into(), authority.to_string().into());
    }
    Some(Value::Object(info))
}

fn mint_info(mint: &Mint) -> Value {
    let key = |key: COption<Pubkey>| Option::<Pubkey>::from(key).map(|key| key.to_string());
    json!({
        "mintAuthority": key(mint.mint_authority),
        "supply": mint.supply.to_string(),
        "decimals": mint.decimals,
        "isInitialized": mint.is_initialized,
        "freezeAuthority": key(mint.freeze_authority),
    })
}

fn found(engine: &Engine, address: &Pubkey, slot: Slot) -> Result<AccountSharedData, RpcError> {
    engine.account(address, slot).ok_or_else(|| invalid_params("Invalid param: could not find account"))
}

fn decimals(engine: &Engine, address: &Pubkey, slot: Slot) -> Result<u8, RpcError> {
    let account = engine.account(address, slot);
    let mint = account.as_ref().and_then(mint);
    mint.map(|mint| mint.decimals).ok_or_else(|| invalid_params("Invalid param: could not find mint"))
}

/// `amount` base units with the decimal point in place, without needless zeros.
fn whole_tokens(amount: u64, decimals: u8) -> String {
    let places = usize::from(decimals);
    let digits = format!("{amount:0>width$}", width = places.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_text() {
        for (amount, decimals, text) in [
            (0, 0, "0"),
            (0, 6, "0"),
            (1, 6, "0.000001"),
            (1_500_000, 6, "1.5"),
            (1_000_000, 6, "1"),
            (u64::MAX, 9, "18446744073.709551615"),
            (7, 0, "7"),
            (70, 0, "70"),
            (1, 20, "0.00000000000000000001"),
        ] {
            assert_eq!(ui_amount(amount, decimals)["uiAmountString"], text);
            assert!(ui_amount(amount, decimals)["uiAmount"].is_f64());
        }
    }
}
