//! The calls of ERC-20 tokens: encoded for building, decoded strictly for screening.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;

use self::abi::{approveCall, balanceOfCall, increaseAllowanceCall, transferCall, transferFromCall};
use crate::chain::DecodeError;

mod abi {
    //! ERC-20 (EIP-20), and OpenZeppelin's `increaseAllowance`.
    alloy::sol! {
        function transfer(address to, uint256 amount) external returns (bool);
        function transferFrom(address from, address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function increaseAllowance(address spender, uint256 added) external returns (bool);
        function balanceOf(address owner) external view returns (uint256);
    }
}

/// A call that moves a token, or lets somebody move it.
pub(super) enum TokenCall {
    /// `transfer(to, amount)`: the caller pays.
    Transfer { to: Address, amount: U256 },
    /// `transferFrom(from, to, amount)`: somebody pays who has allowed it.
    TransferFrom { from: Address, to: Address, amount: U256 },
    /// `approve(spender, amount)` or `increaseAllowance(spender, added)`.
    Allow { spender: Address, amount: U256 },
}

/// The calldata of `transfer(to, amount)`.
pub(super) fn transfer(to: Address, amount: U256) -> Bytes {
    transferCall { to, amount }.abi_encode().into()
}

/// The calldata of `balanceOf(owner)`.
pub(super) fn balance_of(owner: Address) -> Bytes {
    balanceOfCall { owner }.abi_encode().into()
}

/// Decodes the arguments of a token call; `None` for every other selector.
///
/// Only the canonical encoding is taken: an address with dirt in its upper 12 bytes, a missing byte or a tail would be read
/// in one way here and perhaps in another by a contract.
///
/// # Errors
/// [`DecodeError::Undecodable`] where the selector is a token call's and the arguments are not canonical.
pub(super) fn decode(selector: [u8; 4], arguments: &[u8]) -> Result<Option<TokenCall>, DecodeError> {
    Ok(Some(match selector {
        transferCall::SELECTOR => {
            let transferCall { to, amount } = strict(arguments)?;
            TokenCall::Transfer { to, amount }
        }
        transferFromCall::SELECTOR => {
            let transferFromCall { from, to, amount } = strict(arguments)?;
            TokenCall::TransferFrom { from, to, amount }
        }
        approveCall::SELECTOR => {
            let approveCall { spender, amount } = strict(arguments)?;
            TokenCall::Allow { spender, amount }
        }
        increaseAllowanceCall::SELECTOR => {
            let increaseAllowanceCall { spender, added } = strict(arguments)?;
            TokenCall::Allow { spender, amount: added }
        }
        _ => return Ok(None),
    }))
}

fn strict<C: SolCall>(arguments: &[u8]) -> Result<C, DecodeError> {
    let undecodable = |why: &str| DecodeError::Undecodable(format!("{} with {why}", C::SIGNATURE));
    let call = C::abi_decode_raw(arguments).map_err(|_| undecodable("arguments that can't be read"))?;
    let mut canonical = Vec::with_capacity(arguments.len());
    call.abi_encode_raw(&mut canonical);
    if canonical == arguments { Ok(call) } else { Err(undecodable("arguments that are not canonical ABI encoding")) }
}
