//! What only a simulated node can do: blocks on demand, money from nowhere, time travel. Where anvil and Hardhat have a name for it, that
//! name works too.

use alloy::primitives::{Address, U64, U256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::json as value;
use super::args::Args;
use super::faucet::Coin;
use super::host::Host;
use crate::rpc::{INVALID_PARAMS, RpcError};

/// The most blocks that one call makes.
const MAX_BLOCKS: u64 = 100_000;

/// Answers the methods of this module, `None` for any other one.
pub(crate) fn answer(host: &Host, method: &str, args: Args<'_>) -> Option<Result<Value, RpcError>> {
    Some(match method {
        "sim_mine" => mine(host, args).map(|head| value(&U64::from(head))),
        "anvil_mine" | "hardhat_mine" => mine(host, args).map(|_| Value::Null),
        "evm_mine" => evm_mine(host, args),
        "sim_fund" => fund(host, args),
        "anvil_setBalance" | "hardhat_setBalance" => set_balance(host, args),
        "evm_increaseTime" => args.required(0).map(|Number(seconds)| host.move_ahead(seconds).into()),
        _ => return None,
    })
}

/// A whole number as JSON number, as quantity or as decimal string.
#[derive(Clone, Copy, Debug)]
struct Number(u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Amount(number) = Amount::deserialize(deserializer)?;
        number.try_into().map(Self).map_err(|_| serde::de::Error::custom("the number is too large"))
    }
}

/// An amount in base units, written as [`Number`] is.
#[derive(Clone, Copy, Debug)]
struct Amount(U256);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => return Err(serde::de::Error::custom("write a whole number")),
        };
        let (digits, radix) = text.strip_prefix("0x").map_or((text.as_str(), 10), |digits| (digits, 16));
        if digits.is_empty() {
            return Err(serde::de::Error::custom("write a whole number"));
        }
        U256::from_str_radix(digits, radix).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `sim_mine [blocks]`, one by default.
fn mine(host: &Host, args: Args<'_>) -> Result<u64, RpcError> {
    let Number(blocks) = args.optional(0)?.unwrap_or(Number(1));
    mine_many(host, blocks)
}

fn mine_many(host: &Host, blocks: u64) -> Result<u64, RpcError> {
    let few = u32::try_from(blocks).ok().filter(|_| blocks <= MAX_BLOCKS);
    let few = few.ok_or_else(|| RpcError::new(INVALID_PARAMS, format!("at most {MAX_BLOCKS} blocks at a time")))?;
    host.mine(few)?;
    Ok(host.engine()?.chain().head().header.number)
}

/// `evm_mine [timestamp or {"blocks": n, "timestamp": t}]`.
fn evm_mine(host: &Host, args: Args<'_>) -> Result<Value, RpcError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Option {
        Many { blocks: Number },
        At(Number),
    }
    match args.optional(0)? {
        Some(Option::Many { blocks: Number(blocks) }) => mine_many(host, blocks)?,
        Some(Option::At(Number(at))) => host.seal(Some(at))?.header.number,
        None => host.seal(None)?.header.number,
    };
    Ok("0x0".into())
}

/// `sim_fund [address, amount, asset]`: the amount in wei or the token's base units; the asset is `native` (the default) or a
/// token's contract. The payment is in a block when the answer comes.
fn fund(host: &Host, args: Args<'_>) -> Result<Value, RpcError> {
    let to: Address = args.required(0)?;
    let Amount(amount) = args.required(1)?;
    let coin = match args.optional::<String>(2)? {
        None => Coin::Ether,
        Some(text) => {
            text.parse().map_err(|error| RpcError::new(INVALID_PARAMS, format!("invalid argument 2: {error}")))?
        }
    };
    Ok(json!(host.fund(to, amount, coin)?))
}

/// `anvil_setBalance [address, wei]`.
fn set_balance(host: &Host, args: Args<'_>) -> Result<Value, RpcError> {
    let Amount(wei) = args.required(1)?;
    host.set_balance(args.required(0)?, wei)?;
    Ok(Value::Null)
}
