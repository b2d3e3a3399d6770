//! What a transaction does, decoded from its fields.

use alloy::primitives::{Address, FixedBytes};

use super::Unsigned;
use super::erc20::{self, TokenCall};
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::{Allowance, Call, Effects, Transfer};

/// Decodes the fields of `unsigned`.
///
/// A token call is told twice: as the call that it is, and as the transfer or allowance that it means if the contract is an
/// ERC-20 token. Any other call is told as a call; whether it may be made is for an allowlist to say. An
/// `increaseAllowance` is told with what it adds; what was allowed before is not in the bytes.
pub(super) fn effects(unsigned: &Unsigned) -> Result<Effects, DecodeError> {
    let (from, to) = (unsigned.from(), unsigned.to());
    let value = Amount::from_base_units(unsigned.value());
    let max_fee = unsigned.gas_limit().cost(unsigned.max_gas_price());
    let mut effects = Effects {
        transfers: Vec::new(),
        allowances: Vec::new(),
        calls: Vec::new(),
        change: Amount::ZERO,
        max_fee,
        touches: unsigned.access_list().iter().map(|item| ChainAddress::Ethereum(item.address)).collect(),
        upkeep: None,
    };

    if !value.is_zero() {
        effects.transfers.push(transfer(Asset::Native, from, to, value));
    }
    match unsigned.input().split_first_chunk::<4>() {
        Some((selector, arguments)) => {
            token_effects(&mut effects, from, to, erc20::decode(*selector, arguments)?);
            let arguments = arguments.to_vec().into();
            effects.calls.push(Call { contract: to, selector: FixedBytes(*selector), arguments, value });
        }
        None if !unsigned.input().is_empty() => {
            return Err(DecodeError::Undecodable("calldata shorter than a selector".to_owned()));
        }
        // A payment of nothing still names somebody.
        None if value.is_zero() => effects.touches.push(ChainAddress::Ethereum(to)),
        None => {}
    }
    effects.touches.sort_unstable();
    effects.touches.dedup();
    Ok(effects)
}

fn token_effects(effects: &mut Effects, caller: Address, token: Address, call: Option<TokenCall>) {
    let asset = Asset::Erc20(token);
    match call {
        Some(TokenCall::Transfer { to, amount }) => {
            effects.transfers.push(transfer(asset, caller, to, Amount::from_base_units(amount)));
        }
        Some(TokenCall::TransferFrom { from, to, amount }) => {
            effects.transfers.push(transfer(asset, from, to, Amount::from_base_units(amount)));
        }
        Some(TokenCall::Allow { spender, amount }) => {
            let (spender, amount) = (ChainAddress::Ethereum(spender), Amount::from_base_units(amount));
            effects.allowances.push(Allowance { asset, spender, amount });
        }
        None => {}
    }
}

fn transfer(asset: Asset, from: Address, to: Address, amount: Amount) -> Transfer {
    Transfer { asset, from: ChainAddress::Ethereum(from), to: ChainAddress::Ethereum(to), amount }
}
