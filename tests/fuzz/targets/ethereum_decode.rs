//! Ethereum: transactions as bytes, and calldata in a transaction that is well formed.

#![no_main]

use alloy::consensus::{SignableTransaction, TxEip1559};
use alloy::primitives::{Address, TxKind, U256};
use chains::address::Address as ChainAddress;
use chains::ethereum::Ethereum;
use fuzz::{ethereum, unsigned};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (chain, account) = (Ethereum::new(1), ethereum());
    let ChainAddress::Ethereum(from) = account.address() else { return };
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 4 == 0 {
        unsigned(&chain, &account, &[from.as_slice(), rest].concat());
        return;
    }
    let Some((to, input)) = rest.split_first_chunk::<20>() else { return };
    let value = if kind % 4 == 1 { U256::ZERO } else { U256::from(*kind) };
    let transaction = TxEip1559 {
        chain_id: 1,
        nonce: 7,
        gas_limit: 21_000,
        max_fee_per_gas: 2,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::from(*to)),
        value,
        input: input.to_vec().into(),
        ..TxEip1559::default()
    };
    let mut bytes = from.to_vec();
    transaction.encode_for_signing(&mut bytes);
    let Some(effects) = unsigned(&chain, &account, &bytes) else { return };
    let parties: Vec<ChainAddress> = effects.parties().collect();
    assert!(parties.contains(&ChainAddress::Ethereum(Address::from(*to))), "who is called is a party");
    if let Some((selector, arguments)) = input.split_first_chunk::<4>() {
        let first = effects.calls.first().expect("the transaction's own call");
        assert_eq!((first.selector.0, first.arguments.to_vec(), first.depth), (*selector, arguments.to_vec(), 0));
        assert!(effects.calls.iter().skip(1).all(|call| call.depth > 0));
    } else {
        assert!(effects.calls.is_empty() && input.is_empty());
    }
    // Whom a plain transfer of a token pays, the bytes say.
    if let [0xa9, 0x05, 0x9c, 0xbb, arguments @ ..] = input {
        let receiver = Address::from_slice(arguments.get(12..32).expect("canonical arguments"));
        assert!(parties.contains(&ChainAddress::Ethereum(receiver)));
    }
});
