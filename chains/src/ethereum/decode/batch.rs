//! Calls that make other calls: `multicall`, Multicall3, Safe with its MultiSend, ERC-4337's simplest accounts.

use alloy::primitives::{Address, Bytes, U256, address};
use alloy::sol_types::SolCall;

use self::abi::{
    IMulticall3::{
        aggregate3Call, aggregate3ValueCall, aggregateCall, blockAndAggregateCall, tryAggregateCall,
        tryBlockAndAggregateCall,
    },
    ISafe::{execTransactionCall, multiSendCall},
    IWallet::{executeBatch_0Call, executeBatch_1Call, executeCall},
    multicall_0Call, multicall_1Call, multicall_2Call,
};
use super::{Frame, Held, Known, read as read_call, read_step, strict, touch, undecodable};
use crate::chain::DecodeError;
use crate::effects::Effects;

mod abi {
    alloy::sol! {
        // Uniswap's and OpenZeppelin's Multicall: calls of the contract to itself that keep the caller
        function multicall(bytes[] data) external payable returns (bytes[] memory results);
        function multicall(uint256 deadline, bytes[] data) external payable returns (bytes[] memory results);
        function multicall(bytes32 previousBlockhash, bytes[] data) external payable returns (bytes[] memory results);
        interface IMulticall3 {
            struct Call { address target; bytes callData; }
            struct Call3 { address target; bool allowFailure; bytes callData; }
            struct Call3Value { address target; bool allowFailure; uint256 value; bytes callData; }
            function aggregate(Call[] calls) external payable;
            function tryAggregate(bool requireSuccess, Call[] calls) external payable;
            function blockAndAggregate(Call[] calls) external payable;
            function tryBlockAndAggregate(bool requireSuccess, Call[] calls) external payable;
            function aggregate3(Call3[] calls) external payable;
            function aggregate3Value(Call3Value[] calls) external payable;
        }
        interface ISafe {
            function execTransaction(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, uint256 gasPrice, address gasToken, address refundReceiver, bytes signatures) external payable returns (bool success);
            function multiSend(bytes transactions) external payable;
        }
        interface IWallet {
            function execute(address dest, uint256 value, bytes func) external;
            function executeBatch(address[] dest, bytes[] func) external;
            function executeBatch(address[] dest, uint256[] value, bytes[] func) external;
        }
    }
}

/// Safe's MultiSend and MultiSendCallOnly, versions 1.3.0, 1.4.1 and 1.5.0 (safe-deployments): the only code that a Safe is let run
/// under its own name.
const MULTI_SENDS: [Address; 6] = [
    address!("0xA238CBeb142c10Ef7Ad8442C6D1f9E89e07e7761"),
    address!("0x40A2aCCbd92BCA938b02010E17A5b8929b49130D"),
    address!("0x38869bf66a61cF6bDB996A6aE40D5853Fd43B526"),
    address!("0x9641d764fc13c8B624c04430C7356C1C7C8102e2"),
    address!("0x218543288004CD07832472D464648173c77D7eB7"),
    address!("0xA83c336B20401Af773B6219BA5027174338D1836"),
];

/// Safe's kinds of operation.
const CALL: u8 = 0;
const DELEGATE_CALL: u8 = 1;

pub(super) fn read(
    effects: &mut Effects,
    held: &mut Held,
    frame: Frame<'_>,
    selector: [u8; 4],
    arguments: &[u8],
) -> Result<Known, DecodeError> {
    match selector {
        multicall_0Call::SELECTOR => {
            let multicall_0Call { data } = strict(arguments)?;
            to_itself(effects, held, frame, &data)?;
        }
        multicall_1Call::SELECTOR => {
            let multicall_1Call { data, .. } = strict(arguments)?;
            to_itself(effects, held, frame, &data)?;
        }
        multicall_2Call::SELECTOR => {
            let multicall_2Call { data, .. } = strict(arguments)?;
            to_itself(effects, held, frame, &data)?;
        }
        aggregateCall::SELECTOR => {
            let aggregateCall { calls } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, U256::ZERO, &call.callData)))?;
        }
        blockAndAggregateCall::SELECTOR => {
            let blockAndAggregateCall { calls } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, U256::ZERO, &call.callData)))?;
        }
        tryAggregateCall::SELECTOR => {
            let tryAggregateCall { calls, .. } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, U256::ZERO, &call.callData)))?;
        }
        tryBlockAndAggregateCall::SELECTOR => {
            let tryBlockAndAggregateCall { calls, .. } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, U256::ZERO, &call.callData)))?;
        }
        aggregate3Call::SELECTOR => {
            let aggregate3Call { calls } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, U256::ZERO, &call.callData)))?;
        }
        aggregate3ValueCall::SELECTOR => {
            let aggregate3ValueCall { calls } = strict(arguments)?;
            onward(effects, frame, calls.iter().map(|call| (call.target, call.value, &call.callData)))?;
        }
        execTransactionCall::SELECTOR => {
            let call: execTransactionCall = strict(arguments)?;
            safe(effects, frame, &call.into())?;
        }
        // Called rather than delegated to, it would spend what it has itself.
        multiSendCall::SELECTOR => {
            let multiSendCall { transactions } = strict(arguments)?;
            multi_send(effects, Frame { caller: frame.to, ..frame }, &transactions)?;
        }
        executeCall::SELECTOR => {
            let executeCall { dest, value, func } = strict(arguments)?;
            onward(effects, frame, [(dest, value, &func)])?;
        }
        executeBatch_0Call::SELECTOR => {
            let executeBatch_0Call { dest, func } = strict(arguments)?;
            if dest.len() != func.len() {
                return Err(undecodable("a batch with more receivers than calls, or fewer"));
            }
            onward(effects, frame, dest.into_iter().zip(&func).map(|(to, data)| (to, U256::ZERO, data)))?;
        }
        executeBatch_1Call::SELECTOR => {
            let executeBatch_1Call { dest, value, func } = strict(arguments)?;
            // An empty list of values stands for nothing sent along.
            let values = if value.is_empty() { vec![U256::ZERO; dest.len()] } else { value };
            if dest.len() != func.len() || dest.len() != values.len() {
                return Err(undecodable("a batch with more receivers than calls, or fewer"));
            }
            let calls = dest.into_iter().zip(values).zip(&func).map(|((to, value), data)| (to, value, data));
            onward(effects, frame, calls)?;
        }
        _ => return Ok(Known::No),
    }
    Ok(Known::Yes)
}

/// Calls that the contract makes to itself in its caller's name, all or none. What was sent along was told with the outer call.
fn to_itself(effects: &mut Effects, held: &mut Held, frame: Frame<'_>, calls: &[Bytes]) -> Result<(), DecodeError> {
    let depth = frame.depth.saturating_add(1);
    calls.iter().try_for_each(|input| read_step(effects, held, Frame { value: U256::ZERO, input, depth, ..frame }))
}

/// Calls that the contract makes in its own name.
fn onward<'c>(
    effects: &mut Effects,
    frame: Frame<'_>,
    calls: impl IntoIterator<Item = (Address, U256, &'c Bytes)>,
) -> Result<(), DecodeError> {
    let depth = frame.depth.saturating_add(1);
    let caller = frame.to;
    calls.into_iter().try_for_each(|(to, value, input)| read_call(effects, Frame { caller, to, value, input, depth }))
}

/// What the owners of a Safe sign.
#[derive(Clone, Debug)]
pub(in crate::ethereum) struct SafeTransaction {
    pub(in crate::ethereum) to: Address,
    pub(in crate::ethereum) value: U256,
    pub(in crate::ethereum) data: Bytes,
    pub(in crate::ethereum) operation: u8,
    pub(in crate::ethereum) gas_price: U256,
    pub(in crate::ethereum) gas_token: Address,
    pub(in crate::ethereum) refund_receiver: Address,
}

impl From<execTransactionCall> for SafeTransaction {
    fn from(call: execTransactionCall) -> Self {
        Self {
            to: call.to,
            value: call.value,
            data: call.data,
            operation: call.operation,
            gas_price: call.gasPrice,
            gas_token: call.gasToken,
            refund_receiver: call.refundReceiver,
        }
    }
}

/// A transaction of a Safe: its owners have signed it, and whoever brings it has it carried out.
///
/// One that refunds gas can't be told: the Safe pays `(gas used + baseGas) * gasPrice` (its `handlePayment`), `safeTxGas` doesn't
/// bound the gas that is used, and of a token the price has no cap.
pub(super) fn safe(effects: &mut Effects, frame: Frame<'_>, call: &SafeTransaction) -> Result<(), DecodeError> {
    if !call.gas_price.is_zero() {
        return Err(undecodable("a Safe that refunds gas, as much as is used; write a gasPrice of 0"));
    }
    touch(effects, call.refund_receiver);
    touch(effects, call.gas_token);
    match call.operation {
        CALL => onward(effects, frame, [(call.to, call.value, &call.data)]),
        DELEGATE_CALL if MULTI_SENDS.contains(&call.to) => {
            let (selector, arguments) =
                call.data.split_first_chunk::<4>().ok_or_else(|| undecodable("a Safe that delegates nothing"))?;
            if *selector != multiSendCall::SELECTOR {
                return Err(undecodable("a Safe that delegates another call than multiSend"));
            }
            touch(effects, call.to);
            let multiSendCall { transactions } = strict(arguments)?;
            multi_send(effects, Frame { caller: frame.to, ..frame }, &transactions)
        }
        DELEGATE_CALL => Err(undecodable(format!("a Safe that runs the code of {} under its own name", call.to))),
        other => Err(undecodable(format!("a Safe's operation {other}"))),
    }
}

/// MultiSend's own packing: for each operation 1 byte its kind, 20 its receiver, 32 its value, 32 its data's length, and the
/// data.
fn multi_send(effects: &mut Effects, frame: Frame<'_>, packed: &[u8]) -> Result<(), DecodeError> {
    let cut = || undecodable("a multiSend that is cut off");
    let depth = frame.depth.saturating_add(1);
    let mut rest = packed;
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<85>().ok_or_else(cut)?;
        let (kind, head) = head.split_first().ok_or_else(cut)?;
        let (to, numbers) = head.split_first_chunk::<20>().ok_or_else(cut)?;
        let (value, length) = numbers.split_first_chunk::<32>().ok_or_else(cut)?;
        let length = usize::try_from(U256::from_be_slice(length)).map_err(|_| cut())?;
        let (input, tail) = tail.split_at_checked(length).ok_or_else(cut)?;
        if *kind != CALL {
            return Err(undecodable("a multiSend that runs other code under the Safe's name"));
        }
        let to = Address::from(*to);
        if to.is_zero() {
            // Version 1.5.0 takes it for the Safe itself, earlier ones for an address.
            return Err(undecodable("a multiSend to the zero address, which its versions read differently"));
        }
        let value = U256::from_be_bytes(*value);
        read_call(effects, Frame { caller: frame.caller, to, value, input, depth })?;
        rest = tail;
    }
    Ok(())
}
