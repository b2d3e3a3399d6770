//! Tokens: ERC-20 with its extensions, ERC-721, ERC-1155.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;

use self::abi::{
    approveCall, decreaseAllowanceCall, increaseAllowanceCall, permitCall, safeBatchTransferFromCall,
    safeTransferFrom_0Call, safeTransferFrom_1Call, safeTransferFrom_2Call, setApprovalForAllCall, transferCall,
    transferFromCall,
};
use super::{Frame, Known, allow, pay, strict, touch};
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::Effects;

mod abi {
    alloy::sol! {
        // ERC-20 (EIP-20), OpenZeppelin's extensions, ERC-2612
        function transfer(address to, uint256 amount) external returns (bool);
        function transferFrom(address from, address to, uint256 amount) external returns (bool);
        function approve(address spender, uint256 amount) external returns (bool);
        function increaseAllowance(address spender, uint256 added) external returns (bool);
        function decreaseAllowance(address spender, uint256 taken) external returns (bool);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;
        // ERC-721 (EIP-721); its `transferFrom` and `approve` have the selectors of ERC-20's
        function safeTransferFrom(address from, address to, uint256 id) external;
        function safeTransferFrom(address from, address to, uint256 id, bytes data) external;
        function setApprovalForAll(address operator, bool approved) external;
        // ERC-1155 (EIP-1155)
        function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes data) external;
        function safeBatchTransferFrom(address from, address to, uint256[] ids, uint256[] values, bytes data) external;
    }
}

/// The calldata of `transfer(to, amount)`.
pub(in crate::ethereum) fn transfer(to: Address, amount: U256) -> Bytes {
    transferCall { to, amount }.abi_encode().into()
}

/// A token call is told twice: as the call that it is, and as the transfer or allowance that it means if the contract is a
/// token. Of an ERC-721 token, the amount is the token's number. An `increaseAllowance` is told with what it adds; what was
/// allowed before is not in the bytes.
pub(super) fn read(
    effects: &mut Effects,
    frame: Frame<'_>,
    selector: [u8; 4],
    arguments: &[u8],
) -> Result<Known, DecodeError> {
    let token = frame.to;
    let asset = Asset::Erc20(token);
    match selector {
        transferCall::SELECTOR => {
            let transferCall { to, amount } = strict(arguments)?;
            pay(effects, asset, frame.caller, to, amount);
        }
        transferFromCall::SELECTOR => {
            let transferFromCall { from, to, amount } = strict(arguments)?;
            pay(effects, asset, from, to, amount);
        }
        safeTransferFrom_0Call::SELECTOR => {
            let safeTransferFrom_0Call { from, to, id } = strict(arguments)?;
            pay(effects, asset, from, to, id);
        }
        safeTransferFrom_1Call::SELECTOR => {
            let safeTransferFrom_1Call { from, to, id, data: _ } = strict(arguments)?;
            pay(effects, asset, from, to, id);
        }
        safeTransferFrom_2Call::SELECTOR => {
            let safeTransferFrom_2Call { from, to, id: _, value, data: _ } = strict(arguments)?;
            pay(effects, asset, from, to, value);
        }
        safeBatchTransferFromCall::SELECTOR => {
            let safeBatchTransferFromCall { from, to, ids, values, data: _ } = strict(arguments)?;
            if ids.len() != values.len() {
                return Err(super::undecodable("a batch of tokens with more numbers than amounts, or fewer"));
            }
            values.into_iter().for_each(|value| pay(effects, asset, from, to, value));
        }
        approveCall::SELECTOR => {
            let approveCall { spender, amount } = strict(arguments)?;
            allow(effects, token, spender, amount);
        }
        increaseAllowanceCall::SELECTOR => {
            let increaseAllowanceCall { spender, added } = strict(arguments)?;
            allow(effects, token, spender, added);
        }
        decreaseAllowanceCall::SELECTOR => {
            let decreaseAllowanceCall { spender, taken: _ } = strict(arguments)?;
            touch(effects, spender);
        }
        permitCall::SELECTOR => {
            let permitCall { owner, spender, value, .. } = strict(arguments)?;
            touch(effects, owner);
            allow(effects, token, spender, value);
        }
        setApprovalForAllCall::SELECTOR => {
            let setApprovalForAllCall { operator, approved } = strict(arguments)?;
            if approved { allow(effects, token, operator, U256::MAX) } else { touch(effects, operator) }
        }
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}
