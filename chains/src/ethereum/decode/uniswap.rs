//! Uniswap's routers: who receives what is bought. What is sold was allowed before, or is sent along.
//!
//! A router may be told to keep what it buys for a later step of the same multicall or program, which sweeps or unwraps it to
//! somebody. Without such a step, the call can't be decoded ([`super::held`]).

use alloy::primitives::{Address, Bytes, U160, U256, address};
use alloy::sol_types::SolCall;

use self::abi::{Router02, RouterV2, RouterV3, Universal};
use super::held::{Held, Kept};
use super::permit2::abi::IAllowance::{AllowanceTransferDetails, PermitBatch, PermitSingle};
use super::{Frame, Known, allow, pay, permit2, receive, strict, strict_values, touch, undecodable};
use crate::asset::Asset;
use crate::chain::DecodeError;
use crate::effects::Effects;

mod abi {
    alloy::sol! {
        interface RouterV2 {
            function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
            function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to, uint256 deadline) external;
            function swapExactETHForTokens(uint256 amountOutMin, address[] path, address to, uint256 deadline) external payable;
            function swapTokensForExactETH(uint256 amountOut, uint256 amountInMax, address[] path, address to, uint256 deadline) external;
            function swapExactTokensForETH(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
            function swapETHForExactTokens(uint256 amountOut, address[] path, address to, uint256 deadline) external payable;
            function swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
            function swapExactETHForTokensSupportingFeeOnTransferTokens(uint256 amountOutMin, address[] path, address to, uint256 deadline) external payable;
            function swapExactTokensForETHSupportingFeeOnTransferTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external;
        }
        interface RouterV3 {
            struct ExactInputSingle { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 deadline; uint256 amountIn; uint256 amountOutMinimum; uint160 sqrtPriceLimitX96; }
            struct ExactInput { bytes path; address recipient; uint256 deadline; uint256 amountIn; uint256 amountOutMinimum; }
            struct ExactOutputSingle { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 deadline; uint256 amountOut; uint256 amountInMaximum; uint160 sqrtPriceLimitX96; }
            struct ExactOutput { bytes path; address recipient; uint256 deadline; uint256 amountOut; uint256 amountInMaximum; }
            function exactInputSingle(ExactInputSingle params) external payable;
            function exactInput(ExactInput params) external payable;
            function exactOutputSingle(ExactOutputSingle params) external payable;
            function exactOutput(ExactOutput params) external payable;
            function unwrapWETH9(uint256 amountMinimum, address recipient) external payable;
            function unwrapWETH9WithFee(uint256 amountMinimum, address recipient, uint256 feeBips, address feeRecipient) external payable;
            function sweepToken(address token, uint256 amountMinimum, address recipient) external payable;
            function sweepTokenWithFee(address token, uint256 amountMinimum, address recipient, uint256 feeBips, address feeRecipient) external payable;
            function refundETH() external payable;
            function selfPermit(address token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external payable;
            function selfPermitIfNecessary(address token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external payable;
        }
        interface Router02 {
            struct ExactInputSingle { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 amountIn; uint256 amountOutMinimum; uint160 sqrtPriceLimitX96; }
            struct ExactInput { bytes path; address recipient; uint256 amountIn; uint256 amountOutMinimum; }
            struct ExactOutputSingle { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 amountOut; uint256 amountInMaximum; uint160 sqrtPriceLimitX96; }
            struct ExactOutput { bytes path; address recipient; uint256 amountOut; uint256 amountInMaximum; }
            function exactInputSingle(ExactInputSingle params) external payable;
            function exactInput(ExactInput params) external payable;
            function exactOutputSingle(ExactOutputSingle params) external payable;
            function exactOutput(ExactOutput params) external payable;
            function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to) external payable;
            function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to) external payable;
            function unwrapWETH9(uint256 amountMinimum) external payable;
            function sweepToken(address token, uint256 amountMinimum) external payable;
            function wrapETH(uint256 value) external payable;
            function pull(address token, uint256 value) external payable;
        }
        interface Universal {
            function execute(bytes commands, bytes[] inputs, uint256 deadline) external payable;
            function execute(bytes commands, bytes[] inputs) external payable;
        }
    }
}

/// What the second generation of routers takes for the caller, and for the router itself (Uniswap's `Constants`).
const CALLER: Address = address!("0x0000000000000000000000000000000000000001");
const ITSELF: Address = address!("0x0000000000000000000000000000000000000002");

/// The universal router's commands (Uniswap's `Commands.sol`), without the flag that lets a command fail.
mod command {
    pub(super) const MASK: u8 = 0x7f;
    pub(super) const MAY_FAIL: u8 = 0x80;
    pub(super) const V3_SWAP_EXACT_IN: u8 = 0x00;
    pub(super) const V3_SWAP_EXACT_OUT: u8 = 0x01;
    pub(super) const PERMIT2_TRANSFER_FROM: u8 = 0x02;
    pub(super) const PERMIT2_PERMIT_BATCH: u8 = 0x03;
    pub(super) const SWEEP: u8 = 0x04;
    pub(super) const TRANSFER: u8 = 0x05;
    pub(super) const PAY_PORTION: u8 = 0x06;
    pub(super) const V2_SWAP_EXACT_IN: u8 = 0x08;
    pub(super) const V2_SWAP_EXACT_OUT: u8 = 0x09;
    pub(super) const PERMIT2_PERMIT: u8 = 0x0a;
    pub(super) const WRAP_ETH: u8 = 0x0b;
    pub(super) const UNWRAP_WETH: u8 = 0x0c;
    pub(super) const PERMIT2_TRANSFER_FROM_BATCH: u8 = 0x0d;
}

/// Reads the swaps whose call has a `path` of tokens and a `to`. They buy the path's last token, or coin.
macro_rules! swaps_by_path {
    ($effects:ident, $held:ident, $frame:ident, $selector:ident, $arguments:ident, $buys:ident; $($call:path),+ $(,)?) => {
        $(if $selector == <$call as SolCall>::SELECTOR {
            let call = strict::<$call>($arguments)?;
            bought($effects, $held, $frame, call.to, $buys(&call.path));
            call.path.iter().for_each(|token| touch($effects, *token));
            return Ok(Known::Yes);
        })+
    };
}

/// Reads the swaps of one pool.
macro_rules! swaps_of_one_pool {
    ($effects:ident, $held:ident, $frame:ident, $selector:ident, $arguments:ident; $($call:path),+ $(,)?) => {
        $(if $selector == <$call as SolCall>::SELECTOR {
            let call = strict::<$call>($arguments)?;
            bought($effects, $held, $frame, call.params.recipient, Kept::of(call.params.tokenOut));
            touch($effects, call.params.tokenIn);
            touch($effects, call.params.tokenOut);
            return Ok(Known::Yes);
        })+
    };
}

/// Reads the swaps along a packed path of pools. It ends with what is bought; for an exact output, it begins with it.
macro_rules! swaps_by_pools {
    ($effects:ident, $held:ident, $frame:ident, $selector:ident, $arguments:ident, $end:ident; $($call:path),+ $(,)?) => {
        $(if $selector == <$call as SolCall>::SELECTOR {
            let call = strict::<$call>($arguments)?;
            let ends = touch_pools($effects, &call.params.path)?;
            bought($effects, $held, $frame, call.params.recipient, Kept::of(ends.$end));
            return Ok(Known::Yes);
        })+
    };
}

pub(super) fn read(
    effects: &mut Effects,
    held: &mut Held,
    frame: Frame<'_>,
    selector: [u8; 4],
    arguments: &[u8],
) -> Result<Known, DecodeError> {
    swaps_by_path!(effects, held, frame, selector, arguments, last_of;
        RouterV2::swapExactTokensForTokensCall, RouterV2::swapTokensForExactTokensCall,
        RouterV2::swapExactETHForTokensCall, RouterV2::swapETHForExactTokensCall,
        RouterV2::swapExactTokensForTokensSupportingFeeOnTransferTokensCall,
        RouterV2::swapExactETHForTokensSupportingFeeOnTransferTokensCall,
        Router02::swapExactTokensForTokensCall, Router02::swapTokensForExactTokensCall,
    );
    swaps_by_path!(effects, held, frame, selector, arguments, coin;
        RouterV2::swapTokensForExactETHCall, RouterV2::swapExactTokensForETHCall,
        RouterV2::swapExactTokensForETHSupportingFeeOnTransferTokensCall,
    );
    swaps_of_one_pool!(effects, held, frame, selector, arguments;
        RouterV3::exactInputSingleCall, RouterV3::exactOutputSingleCall,
        Router02::exactInputSingleCall, Router02::exactOutputSingleCall,
    );
    swaps_by_pools!(effects, held, frame, selector, arguments, last;
        RouterV3::exactInputCall, Router02::exactInputCall,
    );
    swaps_by_pools!(effects, held, frame, selector, arguments, first;
        RouterV3::exactOutputCall, Router02::exactOutputCall,
    );
    match selector {
        RouterV3::unwrapWETH9Call::SELECTOR => {
            let call = strict::<RouterV3::unwrapWETH9Call>(arguments)?;
            swept(effects, held, frame, &[call.recipient], Kept::Wrapped);
        }
        RouterV3::unwrapWETH9WithFeeCall::SELECTOR => {
            let call = strict::<RouterV3::unwrapWETH9WithFeeCall>(arguments)?;
            swept(effects, held, frame, &[call.recipient, call.feeRecipient], Kept::Wrapped);
        }
        RouterV3::sweepTokenCall::SELECTOR => {
            let call = strict::<RouterV3::sweepTokenCall>(arguments)?;
            touch(effects, call.token);
            swept(effects, held, frame, &[call.recipient], Kept::of(call.token));
        }
        RouterV3::sweepTokenWithFeeCall::SELECTOR => {
            let call = strict::<RouterV3::sweepTokenWithFeeCall>(arguments)?;
            touch(effects, call.token);
            swept(effects, held, frame, &[call.recipient, call.feeRecipient], Kept::of(call.token));
        }
        RouterV3::selfPermitCall::SELECTOR => {
            let call = strict::<RouterV3::selfPermitCall>(arguments)?;
            allow(effects, call.token, frame.to, call.value);
        }
        RouterV3::selfPermitIfNecessaryCall::SELECTOR => {
            let call = strict::<RouterV3::selfPermitIfNecessaryCall>(arguments)?;
            allow(effects, call.token, frame.to, call.value);
        }
        Router02::unwrapWETH9Call::SELECTOR => {
            strict::<Router02::unwrapWETH9Call>(arguments)?;
            swept(effects, held, frame, &[frame.caller], Kept::Wrapped);
        }
        Router02::sweepTokenCall::SELECTOR => {
            let call = strict::<Router02::sweepTokenCall>(arguments)?;
            touch(effects, call.token);
            swept(effects, held, frame, &[frame.caller], Kept::of(call.token));
        }
        Router02::pullCall::SELECTOR => {
            let call = strict::<Router02::pullCall>(arguments)?;
            pay(effects, Asset::Erc20(call.token), frame.caller, frame.to, call.value);
        }
        Universal::execute_0Call::SELECTOR => {
            let Universal::execute_0Call { commands, inputs, .. } = strict(arguments)?;
            execute(effects, held, frame, &commands, &inputs)?;
        }
        Universal::execute_1Call::SELECTOR => {
            let Universal::execute_1Call { commands, inputs } = strict(arguments)?;
            execute(effects, held, frame, &commands, &inputs)?;
        }
        // These keep what they move with the caller or the router, whom it was paid to or who bought it.
        RouterV3::refundETHCall::SELECTOR => {
            strict::<RouterV3::refundETHCall>(arguments)?;
        }
        Router02::wrapETHCall::SELECTOR => {
            strict::<Router02::wrapETHCall>(arguments)?;
            held.turn(Kept::Coin, Kept::Wrapped);
        }
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

/// The universal router's program: one byte a command, one input each.
fn execute(
    effects: &mut Effects,
    held: &mut Held,
    frame: Frame<'_>,
    commands: &[u8],
    inputs: &[Bytes],
) -> Result<(), DecodeError> {
    if commands.len() != inputs.len() {
        return Err(undecodable("a router's program with more commands than inputs, or fewer"));
    }
    for (command, input) in commands.iter().zip(inputs) {
        // What may fail while the rest goes on, takes nothing from the router for sure.
        let may_fail = command & command::MAY_FAIL != 0;
        match command & command::MASK {
            kind @ (command::V3_SWAP_EXACT_IN | command::V3_SWAP_EXACT_OUT) => {
                let (recipient, _, _, path, _): (Address, U256, U256, Bytes, bool) = strict_values("a swap", input)?;
                let Ends { first, last } = touch_pools(effects, &path)?;
                let token = if kind == command::V3_SWAP_EXACT_OUT { first } else { last };
                bought(effects, held, frame, recipient, Kept::of(token));
            }
            command::V2_SWAP_EXACT_IN | command::V2_SWAP_EXACT_OUT => {
                let (recipient, _, _, path, _): (Address, U256, U256, Vec<Address>, bool) =
                    strict_values("a swap", input)?;
                bought(effects, held, frame, recipient, last_of(&path));
                path.iter().for_each(|token| touch(effects, *token));
            }
            command::PERMIT2_TRANSFER_FROM => {
                let (token, recipient, amount): (Address, Address, U160) = strict_values("a transfer", input)?;
                pay(effects, Asset::Erc20(token), frame.caller, place(frame, recipient), U256::from(amount));
            }
            command::PERMIT2_TRANSFER_FROM_BATCH => {
                let (transfers,): (Vec<AllowanceTransferDetails>,) = strict_values("a batch of transfers", input)?;
                for transfer in transfers {
                    pay(effects, Asset::Erc20(transfer.token), transfer.from, transfer.to, U256::from(transfer.amount));
                }
            }
            command::PERMIT2_PERMIT => {
                let (permit, _): (PermitSingle, Bytes) = strict_values("a permit", input)?;
                permit2::permit_single(effects, &permit);
            }
            command::PERMIT2_PERMIT_BATCH => {
                let (permit, _): (PermitBatch, Bytes) = strict_values("a batch of permits", input)?;
                permit2::permit_batch(effects, &permit);
            }
            kind @ (command::SWEEP | command::TRANSFER | command::PAY_PORTION) => {
                let (token, recipient, _): (Address, Address, U256) = strict_values("a sweep", input)?;
                touch(effects, token);
                if kind == command::SWEEP && !may_fail {
                    swept(effects, held, frame, &[recipient], Kept::of(token));
                } else {
                    receivers(frame, &[recipient]).for_each(|to| receive(effects, to));
                }
            }
            command::WRAP_ETH => {
                let (recipient, _): (Address, U256) = strict_values("a wrap", input)?;
                receivers(frame, &[recipient]).for_each(|to| receive(effects, to));
                held.turn(Kept::Coin, Kept::Wrapped);
            }
            command::UNWRAP_WETH => {
                let (recipient, _): (Address, U256) = strict_values("an unwrap", input)?;
                match receivers(frame, &[recipient]).next() {
                    Some(to) => receive(effects, to),
                    None => held.turn(Kept::Wrapped, Kept::Coin),
                }
                if !may_fail {
                    held.release(Kept::Wrapped);
                }
            }
            other => return Err(undecodable(format!("a router's command {other:#04x}"))),
        }
    }
    Ok(())
}

/// Who receives what a swap buys; what the router keeps for its next step, nobody receives yet.
fn bought(effects: &mut Effects, held: &mut Held, frame: Frame<'_>, recipient: Address, what: Kept) {
    match receivers(frame, &[recipient]).next() {
        Some(to) => receive(effects, to),
        None => held.keep(what),
    }
}

/// Who receives all that the router has of something; nothing is swept where the router itself is among them.
fn swept(effects: &mut Effects, held: &mut Held, frame: Frame<'_>, recipients: &[Address], what: Kept) {
    receivers(frame, recipients).for_each(|to| receive(effects, to));
    if receivers(frame, recipients).count() == recipients.len() {
        held.release(what);
    }
}

/// Who is named, but for the router itself. The first generation of routers takes the zero address for it.
fn receivers<'r>(frame: Frame<'r>, recipients: &'r [Address]) -> impl Iterator<Item = Address> + 'r {
    let named = recipients.iter().map(move |recipient| place(frame, *recipient));
    named.filter(move |to| *to != frame.to && !to.is_zero())
}

/// Whom a router takes the address for.
fn place(frame: Frame<'_>, recipient: Address) -> Address {
    match recipient {
        CALLER => frame.caller,
        ITSELF => frame.to,
        other => other,
    }
}

/// What a swap for coin buys, whatever its path.
const fn coin(_: &[Address]) -> Kept {
    Kept::Coin
}

/// The last token of a path, which a swap buys. One along a path of nothing buys nothing.
fn last_of(path: &[Address]) -> Kept {
    Kept::of(path.last().copied().unwrap_or_default())
}

/// Both ends of a path.
#[derive(Clone, Copy, Debug)]
struct Ends {
    first: Address,
    last: Address,
}

/// The tokens of a packed path: 20 bytes a token, 3 bytes of fee between two.
fn touch_pools(effects: &mut Effects, path: &[u8]) -> Result<Ends, DecodeError> {
    let broken = || undecodable("a path of pools that can't be read");
    let (first, mut rest) = path.split_first_chunk::<20>().ok_or_else(broken)?;
    let first = Address::from(*first);
    touch(effects, first);
    let mut ends = Ends { first, last: first };
    while !rest.is_empty() {
        let (pool, tail) = rest.split_first_chunk::<23>().ok_or_else(broken)?;
        let token = pool.last_chunk::<20>().ok_or_else(broken)?;
        ends.last = Address::from(*token);
        touch(effects, ends.last);
        rest = tail;
    }
    Ok(ends)
}
