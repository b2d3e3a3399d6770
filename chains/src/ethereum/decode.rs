//! What a call means, down to the calls that it makes: batches, Safe transactions, routers.
//!
//! A call is read by its selector, whatever contract it goes to: that the contract is the one that the selector is known from
//! is for an allowlist to say. A selector that is known here comes with arguments in the one canonical encoding, or nothing is
//! signed. A selector that is not known is told as the call that it is, and no more.

mod batch;
mod held;
mod permit2;
mod token;
mod uniswap;

use alloy::primitives::{Address, FixedBytes, U256};
use alloy::sol_types::abi::TokenSeq;
use alloy::sol_types::{SolCall, SolType, SolValue};

pub(super) use batch::SafeTransaction;
pub(super) use token::transfer;

use self::held::Held;
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Allowance, Call, Effects, Proceeds, Transfer};

/// How deep calls may lie in calls.
const MAX_DEPTH: u8 = 8;
/// How many calls a transaction may make, as far as they are seen.
const MAX_CALLS: usize = 256;

/// One call, the transaction's own or one inside of it.
#[derive(Clone, Copy, Debug)]
struct Frame<'c> {
    caller: Address,
    to: Address,
    value: U256,
    input: &'c [u8],
    /// 0 for the transaction's own.
    depth: u8,
}

/// Tells what a call does, and every call in it.
///
/// # Errors
/// [`DecodeError::Undecodable`] where a known call is not canonically encoded, where code would run under somebody else's
/// name (`DELEGATECALL`), where a Safe would refund gas, where a router would keep what it bought for whoever calls it next, or
/// where calls lie too deep.
pub(super) fn call(
    effects: &mut Effects,
    caller: Address,
    to: Address,
    value: U256,
    input: &[u8],
) -> Result<(), DecodeError> {
    read(effects, Frame { caller, to, value, input, depth: 0 })
}

/// Tells what a transaction of the Safe `safe` does that `owner` signs.
///
/// # Errors
/// As of [`call`].
pub(super) fn safe_transaction(
    effects: &mut Effects,
    owner: Address,
    safe: Address,
    transaction: SafeTransaction,
) -> Result<(), DecodeError> {
    let frame = Frame { caller: owner, to: safe, value: U256::ZERO, input: &[], depth: 0 };
    batch::safe(effects, frame, &transaction)
}

/// A call that succeeds or fails by itself: when it is over, routers may hold nothing for the next.
fn read(effects: &mut Effects, frame: Frame<'_>) -> Result<(), DecodeError> {
    let mut held = Held::default();
    read_step(effects, &mut held, frame)?;
    held.require_nothing()
}

/// A call that the steps after it may finish: if one of these fails, so does it.
fn read_step(effects: &mut Effects, held: &mut Held, frame: Frame<'_>) -> Result<(), DecodeError> {
    if frame.depth > MAX_DEPTH {
        return Err(undecodable(format!("calls in calls, deeper than {MAX_DEPTH}")));
    }
    let value = Amount::from_base_units(frame.value);
    if !value.is_zero() {
        pay(effects, Asset::Native, frame.caller, frame.to, frame.value);
    }
    let Some((selector, arguments)) = frame.input.split_first_chunk::<4>() else {
        if !frame.input.is_empty() {
            return Err(undecodable("calldata shorter than a selector"));
        }
        if value.is_zero() {
            // A payment of nothing still names somebody.
            touch(effects, frame.to);
        }
        return Ok(());
    };
    if effects.calls.len() >= MAX_CALLS {
        return Err(undecodable(format!("more than {MAX_CALLS} calls")));
    }
    effects.calls.push(Call {
        caller: frame.caller,
        depth: frame.depth,
        contract: frame.to,
        selector: FixedBytes(*selector),
        arguments: arguments.to_vec().into(),
        value,
    });
    // The selectors of these groups are disjoint, so the first that knows it tells all.
    for group in [token::read, permit2::read] {
        if group(effects, frame, *selector, arguments)? == Known::Yes {
            return Ok(());
        }
    }
    for group in [uniswap::read, batch::read] {
        if group(effects, held, frame, *selector, arguments)? == Known::Yes {
            break;
        }
    }
    Ok(())
}

/// Whether a group of calls knows a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// The arguments of a call, in the one canonical encoding: an address with dirt in its upper 12 bytes, a missing byte or a
/// tail would be read in one way here and perhaps in another by a contract.
fn strict<C: SolCall>(arguments: &[u8]) -> Result<C, DecodeError> {
    let wrong = |why: &str| undecodable(format!("{} with {why}", C::SIGNATURE));
    let call = C::abi_decode_raw(arguments).map_err(|_| wrong("arguments that can't be read"))?;
    let mut canonical = Vec::with_capacity(arguments.len());
    call.abi_encode_raw(&mut canonical);
    if canonical == arguments { Ok(call) } else { Err(wrong("arguments that are not canonical ABI encoding")) }
}

/// ABI-encoded values inside of a call's arguments, in the one canonical encoding.
fn strict_values<T>(what: &str, bytes: &[u8]) -> Result<T, DecodeError>
where
    T: SolValue + From<<T::SolType as SolType>::RustType>,
    for<'a> <T::SolType as SolType>::Token<'a>: TokenSeq<'a>,
{
    let wrong = || undecodable(format!("{what} that is not canonical ABI encoding"));
    let values = T::abi_decode_params(bytes).map_err(|_| wrong())?;
    if values.abi_encode_params() == bytes { Ok(values) } else { Err(wrong()) }
}

fn pay(effects: &mut Effects, asset: Asset, from: Address, to: Address, amount: U256) {
    effects.transfers.push(Transfer {
        asset,
        from: ChainAddress::Ethereum(from),
        to: ChainAddress::Ethereum(to),
        amount: Amount::from_base_units(amount),
    });
}

fn allow(effects: &mut Effects, token: Address, spender: Address, amount: U256) {
    effects.allowances.push(Allowance {
        asset: Asset::Erc20(token),
        spender: ChainAddress::Ethereum(spender),
        amount: Amount::from_base_units(amount),
    });
}

fn receive(effects: &mut Effects, to: Address) {
    effects.proceeds.push(Proceeds { to: ChainAddress::Ethereum(to) });
}

fn touch(effects: &mut Effects, address: Address) {
    effects.touches.push(ChainAddress::Ethereum(address));
}

fn undecodable(what: impl Into<String>) -> DecodeError {
    DecodeError::Undecodable(what.into())
}
