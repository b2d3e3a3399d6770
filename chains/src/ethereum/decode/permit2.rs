//! Uniswap's Permit2: allowances and transfers of many tokens by one contract.

use alloy::primitives::U256;
use alloy::sol_types::SolCall;

use self::abi::{
    IAllowance::{
        PermitBatch, PermitSingle, approveCall, permit_0Call, permit_1Call, transferFrom_0Call, transferFrom_1Call,
    },
    ISignature::{permitTransferFrom_0Call, permitTransferFrom_1Call},
};
use super::{Frame, Known, allow, pay, strict, touch};
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::Effects;

pub(super) mod abi {
    alloy::sol! {
        // IAllowanceTransfer
        interface IAllowance {
            struct PermitDetails { address token; uint160 amount; uint48 expiration; uint48 nonce; }
            struct PermitSingle { PermitDetails details; address spender; uint256 sigDeadline; }
            struct PermitBatch { PermitDetails[] details; address spender; uint256 sigDeadline; }
            struct AllowanceTransferDetails { address from; address to; uint160 amount; address token; }
            function approve(address token, address spender, uint160 amount, uint48 expiration) external;
            function permit(address owner, PermitSingle permitSingle, bytes signature) external;
            function permit(address owner, PermitBatch permitBatch, bytes signature) external;
            function transferFrom(address from, address to, uint160 amount, address token) external;
            function transferFrom(AllowanceTransferDetails[] transferDetails) external;
        }
        // ISignatureTransfer
        interface ISignature {
            struct TokenPermissions { address token; uint256 amount; }
            struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
            struct PermitBatchTransferFrom { TokenPermissions[] permitted; uint256 nonce; uint256 deadline; }
            struct SignatureTransferDetails { address to; uint256 requestedAmount; }
            function permitTransferFrom(PermitTransferFrom permit, SignatureTransferDetails transferDetails, address owner, bytes signature) external;
            function permitTransferFrom(PermitBatchTransferFrom permit, SignatureTransferDetails[] transferDetails, address owner, bytes signature) external;
        }
    }
}

pub(super) fn read(
    effects: &mut Effects,
    _frame: Frame<'_>,
    selector: [u8; 4],
    arguments: &[u8],
) -> Result<Known, DecodeError> {
    match selector {
        approveCall::SELECTOR => {
            let approveCall { token, spender, amount, .. } = strict(arguments)?;
            allow(effects, token, spender, U256::from(amount));
        }
        permit_0Call::SELECTOR => {
            let permit_0Call { owner, permitSingle, .. } = strict(arguments)?;
            touch(effects, owner);
            permit_single(effects, &permitSingle);
        }
        permit_1Call::SELECTOR => {
            let permit_1Call { owner, permitBatch, .. } = strict(arguments)?;
            touch(effects, owner);
            permit_batch(effects, &permitBatch);
        }
        transferFrom_0Call::SELECTOR => {
            let transferFrom_0Call { from, to, amount, token } = strict(arguments)?;
            pay(effects, Asset::Erc20(token), from, to, U256::from(amount));
        }
        transferFrom_1Call::SELECTOR => {
            let transferFrom_1Call { transferDetails } = strict(arguments)?;
            for transfer in transferDetails {
                pay(effects, Asset::Erc20(transfer.token), transfer.from, transfer.to, U256::from(transfer.amount));
            }
        }
        permitTransferFrom_0Call::SELECTOR => {
            let permitTransferFrom_0Call { permit, transferDetails, owner, .. } = strict(arguments)?;
            let asset = Asset::Erc20(permit.permitted.token);
            pay(effects, asset, owner, transferDetails.to, transferDetails.requestedAmount);
        }
        permitTransferFrom_1Call::SELECTOR => {
            let permitTransferFrom_1Call { permit, transferDetails, owner, .. } = strict(arguments)?;
            if permit.permitted.len() != transferDetails.len() {
                return Err(super::undecodable("a batch of permits with more transfers than tokens, or fewer"));
            }
            for (permitted, transfer) in permit.permitted.iter().zip(transferDetails) {
                pay(effects, Asset::Erc20(permitted.token), owner, transfer.to, transfer.requestedAmount);
            }
        }
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

/// Who may spend what by a signed permit of one token.
pub(super) fn permit_single(effects: &mut Effects, permit: &PermitSingle) {
    allow(effects, permit.details.token, permit.spender, U256::from(permit.details.amount));
}

/// The same of several tokens.
pub(super) fn permit_batch(effects: &mut Effects, permit: &PermitBatch) {
    for details in &permit.details {
        allow(effects, details.token, permit.spender, U256::from(details.amount));
    }
}
