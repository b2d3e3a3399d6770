//! Calls in calls: whatever a batch, a Safe or a router hides is seen, and what can't be seen is refused.

use alloy::primitives::{Address, Bytes, FixedBytes, U160, U256, address, aliases::U24, aliases::U48, hex};
use alloy::sol_types::{SolCall, SolValue};
use chains::address::Address as ChainAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{Chain, DecodeError};
use chains::effects::Effects;
use proptest::prelude::*;

use crate::fixture::{CHAIN, alice, call, evm_address, state};

mod abi {
    //! Written anew from the contracts' own interfaces, not taken from the decoder.
    alloy::sol! {
        function transfer(address to, uint256 amount);
        function transferFrom(address from, address to, uint256 amount);
        function approve(address spender, uint256 amount);
        function decreaseAllowance(address spender, uint256 amount);
        function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s);
        function setApprovalForAll(address operator, bool approved);
        function multicall(bytes[] data);
        interface Nft {
            function safeTransferFrom(address from, address to, uint256 id);
        }
        interface Multi {
            function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes data);
            function safeBatchTransferFrom(address from, address to, uint256[] ids, uint256[] values, bytes data);
        }
        interface Multicall3 {
            struct Call3Value { address target; bool allowFailure; uint256 value; bytes callData; }
            function aggregate3Value(Call3Value[] calls);
        }
        interface Safe {
            function execTransaction(address to, uint256 value, bytes data, uint8 operation, uint256 safeTxGas, uint256 baseGas, uint256 gasPrice, address gasToken, address refundReceiver, bytes signatures);
            function multiSend(bytes transactions);
        }
        interface Permit2 {
            struct Details { address token; uint160 amount; uint48 expiration; uint48 nonce; }
            struct Single { Details details; address spender; uint256 sigDeadline; }
            function approve(address token, address spender, uint160 amount, uint48 expiration);
            function permit(address owner, Single permitSingle, bytes signature);
            function transferFrom(address from, address to, uint160 amount, address token);
        }
        interface V2 {
            function swapExactTokensForETH(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline);
        }
        interface V3 {
            struct Single { address tokenIn; address tokenOut; uint24 fee; address recipient; uint256 amountIn; uint256 amountOutMinimum; uint160 sqrtPriceLimitX96; }
            struct Path { bytes path; address recipient; uint256 amountIn; uint256 amountOutMinimum; }
            function exactInputSingle(Single params);
            function exactInput(Path params);
            function exactOutput(Path params);
            function unwrapWETH9(uint256 amountMinimum, address recipient);
            function unwrapWETH9WithFee(uint256 amountMinimum, address recipient, uint256 feeBips, address feeRecipient);
            function sweepToken(address token, uint256 amountMinimum, address recipient);
        }
        interface Own {
            function unwrapWETH9(uint256 amountMinimum);
            function sweepToken(address token, uint256 amountMinimum);
        }
        interface Universal {
            function execute(bytes commands, bytes[] inputs, uint256 deadline);
        }
    }
}

const CONTRACT: Address = Address::repeat_byte(0xcc);
const BOB: Address = Address::repeat_byte(0xb0);
const TOKEN: Address = Address::repeat_byte(0x70);
/// Wrapped ether on Ethereum.
const WETH: Address = address!("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2");
/// What routers take for themselves.
const ITSELF: Address = address!("0x0000000000000000000000000000000000000002");
const MULTI_SEND: Address = address!("0x40A2aCCbd92BCA938b02010E17A5b8929b49130D");

fn effects_of(data: impl Into<Bytes>) -> Result<Effects, DecodeError> {
    let intent = call(CONTRACT, data.into().to_vec(), Amount::ZERO);
    let unsigned = CHAIN.build(&intent, &alice(), &state()).expect("it can be built");
    CHAIN.effects(&alice(), &unsigned)
}

fn one() -> U256 {
    U256::from(1)
}

fn transfer(to: Address) -> Bytes {
    abi::transferCall { to, amount: one() }.abi_encode().into()
}

fn safe(to: Address, data: Bytes, operation: u8) -> Vec<u8> {
    abi::Safe::execTransactionCall {
        to,
        value: U256::ZERO,
        data,
        operation,
        safeTxGas: U256::ZERO,
        baseGas: U256::ZERO,
        gasPrice: U256::ZERO,
        gasToken: Address::ZERO,
        refundReceiver: Address::ZERO,
        signatures: Bytes::from_static(&[1; 65]),
    }
    .abi_encode()
}

fn packed(kind: u8, to: Address, data: &[u8]) -> Vec<u8> {
    let length = U256::from(data.len()).to_be_bytes::<32>();
    [&[kind][..], to.as_slice(), &[0; 32], &length, data].concat()
}

fn multi_send(transactions: Vec<u8>) -> Bytes {
    abi::Safe::multiSendCall { transactions: transactions.into() }.abi_encode().into()
}

/// The selectors as block explorers show them.
#[test]
fn selectors_are_those_of_the_deployed_contracts() {
    let known = [
        ("a9059cbb", abi::transferCall::SELECTOR),
        ("d505accf", abi::permitCall::SELECTOR),
        ("a22cb465", abi::setApprovalForAllCall::SELECTOR),
        ("42842e0e", abi::Nft::safeTransferFromCall::SELECTOR),
        ("f242432a", abi::Multi::safeTransferFromCall::SELECTOR),
        ("2eb2c2d6", abi::Multi::safeBatchTransferFromCall::SELECTOR),
        ("ac9650d8", abi::multicallCall::SELECTOR),
        ("174dea71", abi::Multicall3::aggregate3ValueCall::SELECTOR),
        ("6a761202", abi::Safe::execTransactionCall::SELECTOR),
        ("8d80ff0a", abi::Safe::multiSendCall::SELECTOR),
        ("87517c45", abi::Permit2::approveCall::SELECTOR),
        ("36c78516", abi::Permit2::transferFromCall::SELECTOR),
        ("18cbafe5", abi::V2::swapExactTokensForETHCall::SELECTOR),
        ("04e45aaf", abi::V3::exactInputSingleCall::SELECTOR),
        ("b858183f", abi::V3::exactInputCall::SELECTOR),
        ("49404b7c", abi::V3::unwrapWETH9Call::SELECTOR),
        ("df2ab5bb", abi::V3::sweepTokenCall::SELECTOR),
        ("3593564c", abi::Universal::executeCall::SELECTOR),
    ];
    for (hex, selector) in known {
        assert_eq!(hex::encode(selector), hex);
    }
}

#[test]
fn a_call_inside_of_a_batch_is_told_with_what_it_does() {
    let inner = abi::approveCall { spender: BOB, amount: U256::MAX }.abi_encode();
    let middle = abi::Multicall3::aggregate3ValueCall {
        calls: vec![abi::Multicall3::Call3Value {
            target: TOKEN,
            allowFailure: true,
            value: one(),
            callData: inner.into(),
        }],
    };
    let outer = abi::multicallCall { data: vec![transfer(BOB), middle.abi_encode().into()] };
    let effects = effects_of(outer.abi_encode()).unwrap();

    let alice = evm_address(&alice());
    let told: Vec<_> = effects.calls.iter().map(|call| (call.depth, call.caller, call.contract)).collect();
    assert_eq!(told, [(0, alice, CONTRACT), (1, alice, CONTRACT), (1, alice, CONTRACT), (2, CONTRACT, TOKEN)]);
    let [paid, sent] = effects.transfers.as_slice() else { panic!("{:?}", effects.transfers) };
    assert_eq!((paid.asset, &paid.to), (Asset::Erc20(CONTRACT), &ChainAddress::Ethereum(BOB)));
    assert_eq!((sent.asset, &sent.from), (Asset::Native, &ChainAddress::Ethereum(CONTRACT)));
    let [allowance] = effects.allowances.as_slice() else { panic!("{:?}", effects.allowances) };
    assert_eq!((allowance.asset, &allowance.spender), (Asset::Erc20(TOKEN), &ChainAddress::Ethereum(BOB)));
}

#[test]
fn a_safe_s_transaction_is_told_down_to_its_last_call() {
    let two = [packed(0, TOKEN, &transfer(BOB)), packed(0, BOB, &[])].concat();
    let effects = effects_of(safe(MULTI_SEND, multi_send(two), 1)).unwrap();
    let [paid] = effects.transfers.as_slice() else { panic!("{:?}", effects.transfers) };
    assert_eq!(paid.from, ChainAddress::Ethereum(CONTRACT), "the Safe pays");
    assert_eq!((paid.asset, &paid.to), (Asset::Erc20(TOKEN), &ChainAddress::Ethereum(BOB)));
    assert!(effects.parties().any(|party| party == ChainAddress::Ethereum(MULTI_SEND)));
}

#[test]
fn code_under_somebody_else_s_name_is_refused() {
    let refused = [
        safe(BOB, transfer(BOB), 1),
        safe(BOB, transfer(BOB), 2),
        safe(MULTI_SEND, transfer(BOB), 1),
        safe(MULTI_SEND, Bytes::new(), 1),
        safe(MULTI_SEND, multi_send(packed(1, TOKEN, &transfer(BOB))), 1),
        safe(MULTI_SEND, multi_send(packed(0, Address::ZERO, &transfer(BOB))), 1),
        safe(MULTI_SEND, multi_send(packed(0, TOKEN, &transfer(BOB)).split_at(100).0.to_vec()), 1),
    ];
    for data in refused {
        assert!(matches!(effects_of(data.clone()), Err(DecodeError::Undecodable(_))), "{}", hex::encode(data));
    }
}

/// A Safe pays for all the gas that is used, whatever `safeTxGas` says: of no gas at a price, too.
#[test]
fn a_safe_s_refund_of_gas_is_refused() {
    let refund = |gas: U256, base_gas: U256, price: U256, token: Address| {
        let call = abi::Safe::execTransactionCall {
            to: BOB,
            value: U256::ZERO,
            data: Bytes::new(),
            operation: 0,
            safeTxGas: gas,
            baseGas: base_gas,
            gasPrice: price,
            gasToken: token,
            refundReceiver: BOB,
            signatures: Bytes::new(),
        };
        effects_of(call.abi_encode())
    };
    for (gas, base_gas) in [(U256::ZERO, U256::ZERO), (one(), U256::ZERO), (U256::ZERO, one())] {
        for token in [Address::ZERO, TOKEN] {
            for price in [one(), U256::MAX] {
                assert_refused(refund(gas, base_gas, price, token), "gasPrice");
            }
            let free = refund(gas, base_gas, U256::ZERO, token).unwrap();
            assert!(free.transfers.is_empty(), "{:?}", free.transfers);
        }
    }
    let inner = abi::Safe::execTransactionCall {
        gasPrice: one(),
        ..abi::Safe::execTransactionCall::abi_decode(&safe(BOB, Bytes::new(), 0)).unwrap()
    };
    assert_refused(effects_of(safe(TOKEN, inner.abi_encode().into(), 0)), "gasPrice");
}

fn assert_refused(found: Result<Effects, DecodeError>, why: &str) {
    assert!(matches!(&found, Err(DecodeError::Undecodable(reason)) if reason.contains(why)), "{found:?}");
}

#[test]
fn calls_too_deep_or_too_many_are_refused() {
    let mut deep = transfer(BOB);
    for _ in 0..8 {
        deep = abi::multicallCall { data: vec![deep] }.abi_encode().into();
    }
    assert!(effects_of(deep.clone()).is_ok());
    let deeper = abi::multicallCall { data: vec![deep] }.abi_encode();
    assert!(matches!(effects_of(deeper), Err(DecodeError::Undecodable(_))));
    let many = abi::multicallCall { data: vec![transfer(BOB); 256] }.abi_encode();
    assert!(matches!(effects_of(many), Err(DecodeError::Undecodable(_))));
}

fn swap(recipient: Address) -> Bytes {
    let params = abi::V3::Single {
        tokenIn: TOKEN,
        tokenOut: TOKEN,
        fee: U24::from(500),
        recipient,
        amountIn: one(),
        amountOutMinimum: one(),
        sqrtPriceLimitX96: U160::ZERO,
    };
    abi::V3::exactInputSingleCall { params }.abi_encode().into()
}

#[test]
fn a_router_s_stand_ins_are_who_they_stand_for() {
    let receivers = |recipient| -> Vec<ChainAddress> {
        effects_of(swap(recipient)).unwrap().proceeds.into_iter().map(|proceeds| proceeds.to).collect()
    };
    let alice = ChainAddress::Ethereum(evm_address(&alice()));
    assert_eq!(receivers(address!("0x0000000000000000000000000000000000000001")), [alice]);
    assert_eq!(receivers(BOB), [ChainAddress::Ethereum(BOB)]);
}

fn multicall(data: &[Bytes]) -> Vec<u8> {
    abi::multicallCall { data: data.to_vec() }.abi_encode()
}

fn buys(tokens: [Address; 2], recipient: Address) -> abi::V3::Path {
    let path = [tokens[0].as_slice(), &[0, 1, 0xf4], tokens[1].as_slice()].concat().into();
    abi::V3::Path { path, recipient, amountIn: one(), amountOutMinimum: one() }
}

fn exact_input(tokens: [Address; 2], recipient: Address) -> Bytes {
    abi::V3::exactInputCall { params: buys(tokens, recipient) }.abi_encode().into()
}

fn sweep(token: Address, recipient: Address) -> Bytes {
    abi::V3::sweepTokenCall { token, amountMinimum: one(), recipient }.abi_encode().into()
}

fn unwrap(recipient: Address) -> Bytes {
    abi::V3::unwrapWETH9Call { amountMinimum: one(), recipient }.abi_encode().into()
}

/// Whoever calls it next can have it.
#[test]
fn a_router_may_keep_what_it_buys_for_a_later_step_alone() {
    let (other, bob) = (Address::repeat_byte(0x71), ChainAddress::Ethereum(BOB));
    let kept = |to| exact_input([other, TOKEN], to);
    let wrapped = || exact_input([TOKEN, WETH], ITSELF);
    let fee = |to, of| {
        let (least, bips) = (one(), one());
        let call =
            abi::V3::unwrapWETH9WithFeeCall { amountMinimum: least, recipient: to, feeBips: bips, feeRecipient: of };
        Bytes::from(call.abi_encode())
    };
    let own = |data: Vec<u8>| Bytes::from(data);
    let own_sweep = own(abi::Own::sweepTokenCall { token: TOKEN, amountMinimum: one() }.abi_encode());
    let own_unwrap = own(abi::Own::unwrapWETH9Call { amountMinimum: one() }.abi_encode());
    // An exact output's path begins with what is bought.
    let output = own(abi::V3::exactOutputCall { params: buys([TOKEN, other], ITSELF) }.abi_encode());

    let alice = ChainAddress::Ethereum(evm_address(&alice()));
    let handed_on: [(&[Bytes], &[&ChainAddress]); 8] = [
        (&[kept(ITSELF), sweep(TOKEN, BOB)], &[&bob]),
        (&[kept(Address::ZERO), sweep(TOKEN, BOB)], &[&bob]),
        (&[kept(CONTRACT), own_sweep], &[&alice]),
        (&[swap(ITSELF), sweep(TOKEN, BOB)], &[&bob]),
        (&[output.clone(), sweep(TOKEN, BOB)], &[&bob]),
        (&[wrapped(), unwrap(BOB)], &[&bob]),
        (&[wrapped(), own_unwrap], &[&alice]),
        (&[wrapped(), fee(BOB, evm_address(&self::alice()))], &[&bob, &alice]),
    ];
    for (steps, receivers) in handed_on {
        let proceeds = effects_of(multicall(steps)).unwrap_or_else(|error| panic!("{error}: {steps:?}")).proceeds;
        assert!(proceeds.iter().map(|proceeds| &proceeds.to).eq(receivers.iter().copied()), "{proceeds:?} {steps:?}");
    }
    let left: [&[Bytes]; 13] = [
        &[kept(ITSELF)],
        &[kept(Address::ZERO)],
        &[kept(CONTRACT)],
        &[swap(ITSELF)],
        &[output.clone(), sweep(other, BOB)],
        // Before it is there, of another token, or to the router itself.
        &[sweep(TOKEN, BOB), kept(ITSELF)],
        &[kept(ITSELF), sweep(other, BOB)],
        &[kept(ITSELF), sweep(TOKEN, ITSELF)],
        &[kept(ITSELF), unwrap(BOB)],
        &[wrapped(), unwrap(Address::ZERO)],
        &[wrapped(), fee(BOB, CONTRACT)],
        &[kept(ITSELF), sweep(TOKEN, BOB), kept(ITSELF)],
        // The second swap needn't take all.
        &[kept(ITSELF), exact_input([TOKEN, WETH], BOB)],
    ];
    for steps in left {
        assert_refused(effects_of(multicall(steps)), "keeps the");
    }
    assert_refused(effects_of(kept(ITSELF)), "keeps the");
    let nested = multicall(&[multicall(&[kept(ITSELF)]).into(), sweep(TOKEN, BOB)]);
    assert!(effects_of(nested).is_ok(), "one for the other");

    // Calls of which one may fail without the other don't stand for each other.
    let apart = |data: Bytes| abi::Multicall3::Call3Value {
        target: BOB,
        allowFailure: true,
        value: U256::ZERO,
        callData: data,
    };
    let calls = vec![apart(kept(ITSELF)), apart(sweep(TOKEN, BOB))];
    assert_refused(effects_of(abi::Multicall3::aggregate3ValueCall { calls }.abi_encode()), "keeps the");
}

#[test]
fn a_router_s_program_may_keep_what_it_buys_for_a_later_command_alone() {
    let pools =
        |tokens: [Address; 2]| Bytes::from([tokens[0].as_slice(), &[0, 1, 0xf4], tokens[1].as_slice()].concat());
    let (other, coin) = (Address::repeat_byte(0x71), Address::ZERO);
    let v3 = |command, tokens, to| (command, (to, one(), one(), pools(tokens), true).abi_encode_params());
    let v2 = |token, to| (0x08, (to, one(), one(), vec![other, token], true).abi_encode_params());
    let sweep = |command, token, to| (command, (token, to, one()).abi_encode_params());
    let wrap = |command, to: Address| (command, (to, one()).abi_encode_params());
    let program = |steps: &[(u8, Vec<u8>)]| {
        let (commands, inputs): (Vec<u8>, Vec<Bytes>) =
            steps.iter().map(|(command, input)| (*command, Bytes::from(input.clone()))).unzip();
        effects_of(abi::Universal::executeCall { commands: commands.into(), inputs, deadline: one() }.abi_encode())
    };
    for steps in [
        vec![v3(0x00, [other, TOKEN], ITSELF), sweep(0x04, TOKEN, BOB)],
        vec![v3(0x01, [TOKEN, other], ITSELF), sweep(0x04, TOKEN, BOB)],
        vec![v2(TOKEN, ITSELF), sweep(0x06, TOKEN, BOB), sweep(0x04, TOKEN, BOB)],
        vec![v2(WETH, ITSELF), wrap(0x0c, BOB)],
        vec![v2(WETH, ITSELF), wrap(0x0c, ITSELF), sweep(0x06, coin, BOB), sweep(0x04, coin, BOB)],
        // What is sent along is told as paid to the router.
        vec![wrap(0x0b, ITSELF), v3(0x00, [WETH, TOKEN], BOB)],
    ] {
        assert!(program(&steps).is_ok(), "{steps:?}");
    }
    for steps in [
        vec![v3(0x00, [other, TOKEN], ITSELF)],
        vec![v3(0x80, [other, TOKEN], ITSELF)],
        vec![v3(0x01, [TOKEN, other], ITSELF), sweep(0x04, other, BOB)],
        vec![v2(TOKEN, ITSELF)],
        vec![v2(TOKEN, ITSELF), sweep(0x06, TOKEN, BOB)],
        vec![v2(TOKEN, ITSELF), sweep(0x05, TOKEN, BOB)],
        vec![v2(TOKEN, ITSELF), sweep(0x84, TOKEN, BOB)],
        vec![v2(TOKEN, ITSELF), sweep(0x04, TOKEN, ITSELF)],
        vec![v2(TOKEN, ITSELF), v3(0x00, [TOKEN, WETH], BOB)],
        vec![v2(WETH, ITSELF), wrap(0x8c, BOB)],
        vec![v2(WETH, ITSELF), wrap(0x0c, ITSELF)],
        vec![v2(WETH, ITSELF), wrap(0x0c, ITSELF), sweep(0x84, coin, BOB)],
        vec![v2(WETH, ITSELF), wrap(0x0c, ITSELF), wrap(0x0b, ITSELF), sweep(0x04, coin, BOB)],
    ] {
        assert_refused(program(&steps), "keeps the");
    }
}

fn universal(command: u8, input: Vec<u8>) -> Vec<u8> {
    abi::Universal::executeCall { commands: vec![command].into(), inputs: vec![input.into()], deadline: one() }
        .abi_encode()
}

#[test]
fn an_unknown_command_of_a_router_is_refused() {
    let sweep = (TOKEN, BOB, one()).abi_encode_params();
    assert!(effects_of(universal(0x04, sweep.clone())).is_ok());
    assert!(effects_of(universal(0x84, sweep.clone())).is_ok(), "the flag that lets it fail");
    for command in [0x07, 0x10, 0x21, 0x3f, 0x44] {
        let data = universal(command, sweep.clone());
        assert!(matches!(effects_of(data), Err(DecodeError::Undecodable(_))), "{command:#x}");
    }
    let lonely =
        abi::Universal::executeCall { commands: vec![4, 4].into(), inputs: vec![sweep.into()], deadline: one() };
    assert!(effects_of(lonely.abi_encode()).is_err());
}

/// A call whose bytes name an address in one place.
type Position = fn(Address) -> Vec<u8>;

/// Every position of every known call in which an address stands.
fn positions() -> Vec<(&'static str, Position)> {
    fn details(token: Address) -> abi::Permit2::Details {
        abi::Permit2::Details { token, amount: U160::from(1), expiration: U48::from(1), nonce: U48::ZERO }
    }
    fn permit(owner: Address, token: Address, spender: Address) -> Vec<u8> {
        let single = abi::Permit2::Single { details: details(token), spender, sigDeadline: one() };
        abi::Permit2::permitCall { owner, permitSingle: single, signature: Bytes::from_static(&[1; 65]) }.abi_encode()
    }
    fn path(tokens: [Address; 2], recipient: Address) -> Vec<u8> {
        exact_input(tokens, recipient).to_vec()
    }
    fn hop(path: Vec<Address>, to: Address) -> Vec<u8> {
        abi::V2::swapExactTokensForETHCall { amountIn: one(), amountOutMin: one(), path, to, deadline: one() }
            .abi_encode()
    }
    fn refund(gas_token: Address, receiver: Address) -> Vec<u8> {
        abi::Safe::execTransactionCall {
            to: BOB,
            value: U256::ZERO,
            data: Bytes::new(),
            operation: 0,
            safeTxGas: one(),
            baseGas: one(),
            gasPrice: U256::ZERO,
            gasToken: gas_token,
            refundReceiver: receiver,
            signatures: Bytes::new(),
        }
        .abi_encode()
    }
    vec![
        ("transfer.to", |a| transfer(a).to_vec()),
        ("transferFrom.from", |a| abi::transferFromCall { from: a, to: BOB, amount: one() }.abi_encode()),
        ("transferFrom.to", |a| abi::transferFromCall { from: BOB, to: a, amount: one() }.abi_encode()),
        ("approve.spender", |a| abi::approveCall { spender: a, amount: one() }.abi_encode()),
        ("decreaseAllowance.spender", |a| abi::decreaseAllowanceCall { spender: a, amount: one() }.abi_encode()),
        ("permit.owner", |a| {
            let (v, r, s) = (27, FixedBytes::ZERO, FixedBytes::ZERO);
            abi::permitCall { owner: a, spender: BOB, value: one(), deadline: one(), v, r, s }.abi_encode()
        }),
        ("permit.spender", |a| {
            let (v, r, s) = (27, FixedBytes::ZERO, FixedBytes::ZERO);
            abi::permitCall { owner: BOB, spender: a, value: one(), deadline: one(), v, r, s }.abi_encode()
        }),
        ("setApprovalForAll.operator", |a| abi::setApprovalForAllCall { operator: a, approved: true }.abi_encode()),
        ("setApprovalForAll.revoked", |a| abi::setApprovalForAllCall { operator: a, approved: false }.abi_encode()),
        ("erc721.from", |a| abi::Nft::safeTransferFromCall { from: a, to: BOB, id: one() }.abi_encode()),
        ("erc721.to", |a| abi::Nft::safeTransferFromCall { from: BOB, to: a, id: one() }.abi_encode()),
        ("erc1155.to", |a| {
            let (from, to, id, value, data) = (BOB, a, one(), one(), Bytes::new());
            abi::Multi::safeTransferFromCall { from, to, id, value, data }.abi_encode()
        }),
        ("erc1155.batch.to", |a| {
            let (from, to, ids, values, data) = (BOB, a, vec![one()], vec![one()], Bytes::new());
            abi::Multi::safeBatchTransferFromCall { from, to, ids, values, data }.abi_encode()
        }),
        ("permit2.approve.token", |a| {
            let (amount, expiration) = (U160::from(1), U48::from(1));
            abi::Permit2::approveCall { token: a, spender: BOB, amount, expiration }.abi_encode()
        }),
        ("permit2.approve.spender", |a| {
            let (amount, expiration) = (U160::from(1), U48::from(1));
            abi::Permit2::approveCall { token: TOKEN, spender: a, amount, expiration }.abi_encode()
        }),
        ("permit2.permit.owner", |a| permit(a, TOKEN, BOB)),
        ("permit2.permit.token", |a| permit(BOB, a, BOB)),
        ("permit2.permit.spender", |a| permit(BOB, TOKEN, a)),
        ("permit2.transferFrom.from", |a| {
            let (to, amount, token) = (BOB, U160::from(1), TOKEN);
            abi::Permit2::transferFromCall { from: a, to, amount, token }.abi_encode()
        }),
        ("permit2.transferFrom.to", |a| {
            let (from, amount, token) = (BOB, U160::from(1), TOKEN);
            abi::Permit2::transferFromCall { from, to: a, amount, token }.abi_encode()
        }),
        ("permit2.transferFrom.token", |a| {
            let (from, to, amount) = (BOB, BOB, U160::from(1));
            abi::Permit2::transferFromCall { from, to, amount, token: a }.abi_encode()
        }),
        ("v2.path", |a| hop(vec![TOKEN, a], BOB)),
        ("v2.to", |a| hop(vec![TOKEN, TOKEN], a)),
        ("v3.recipient", |a| swap(a).to_vec()),
        ("v3.path", |a| path([TOKEN, a], BOB)),
        ("v3.path.recipient", |a| path([TOKEN, TOKEN], a)),
        ("v3.unwrap", |a| abi::V3::unwrapWETH9Call { amountMinimum: one(), recipient: a }.abi_encode()),
        ("v3.sweep.token", |a| abi::V3::sweepTokenCall { token: a, amountMinimum: one(), recipient: BOB }.abi_encode()),
        ("v3.sweep.recipient", |a| {
            abi::V3::sweepTokenCall { token: TOKEN, amountMinimum: one(), recipient: a }.abi_encode()
        }),
        ("universal.v3", |a| {
            let path: Bytes = [TOKEN.as_slice(), &[0, 1, 0xf4], TOKEN.as_slice()].concat().into();
            universal(0x00, (a, one(), one(), path, true).abi_encode_params())
        }),
        ("universal.v2", |a| universal(0x08, (a, one(), one(), vec![TOKEN, TOKEN], true).abi_encode_params())),
        ("universal.sweep", |a| universal(0x04, (TOKEN, a, one()).abi_encode_params())),
        ("universal.transfer", |a| universal(0x05, (TOKEN, a, one()).abi_encode_params())),
        ("universal.portion", |a| universal(0x06, (TOKEN, a, one()).abi_encode_params())),
        ("universal.permit2", |a| universal(0x02, (TOKEN, a, U160::from(1)).abi_encode_params())),
        ("universal.unwrap", |a| universal(0x0c, (a, one()).abi_encode_params())),
        ("safe.to", |a| safe(a, Bytes::new(), 0)),
        ("safe.inner", |a| safe(TOKEN, transfer(a), 0)),
        ("safe.multiSend", |a| safe(MULTI_SEND, multi_send(packed(0, a, &[])), 1)),
        ("safe.refundReceiver", |a| refund(TOKEN, a)),
        ("safe.gasToken", |a| refund(a, BOB)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whoever stands anywhere is screened, at the top and three batches deep.
    #[test]
    fn nobody_hides_in_any_position(bytes in any::<[u8; 20]>()) {
        let somebody = Address::from(bytes);
        prop_assume!(somebody != CONTRACT && !somebody.is_zero());
        for (position, data) in positions() {
            let mut data = data(somebody);
            for depth in 0..4 {
                let effects = effects_of(data.clone()).unwrap_or_else(|error| panic!("{position} at {depth}: {error}"));
                let seen = effects.parties().any(|party| party == ChainAddress::Ethereum(somebody));
                prop_assert!(seen, "{position} at {depth}");
                data = abi::multicallCall { data: vec![data.into()] }.abi_encode();
            }
        }
    }

    /// A known call with a bit flipped, a byte cut or a tail is decoded to what the bytes say, or refused; it never panics.
    #[test]
    fn noise_is_refused_or_decoded(position in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let positions = positions();
        let (_, data) = position.get(&positions);
        let mut data = data(BOB);
        let at = at.index(data.len());
        data[at] ^= flip;
        let _ = effects_of(data.clone());
        data.truncate(at.max(4)); // a selector at least, or nothing is built
        let _ = effects_of(data.clone());
        data.push(flip);
        let _ = effects_of(data);
    }
}
