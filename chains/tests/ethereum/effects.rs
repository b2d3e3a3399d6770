//! What the bytes do is what was asked for, and what can't be decoded is never passed over.

use alloy::primitives::{Address, Bytes, FixedBytes, U256, hex};
use chains::address::Address as ChainAddress;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{Chain, DecodeError};
use chains::effects::{Allowance, Call, Effects, Transfer};
use chains::ethereum::Ethereum;
use chains::intent::{Action, Intent};
use proptest::prelude::*;

use crate::fixture::{CHAIN, CHAIN_ID, account, alice, alice_key, call, evm_address, key, state, transfer};

const BOB: Address = Address::repeat_byte(0xb0);
const CAROL: Address = Address::repeat_byte(0xca);
const TOKEN: Address = Address::repeat_byte(0x70);

fn effects_of(intent: &Intent) -> Result<Effects, DecodeError> {
    let unsigned = CHAIN.build(intent, &alice(), &state()).expect("it can be built");
    CHAIN.effects(&alice(), &unsigned)
}

fn word(address: Address) -> [u8; 32] {
    address.into_word().0
}

fn calldata(selector: &str, words: &[[u8; 32]]) -> Vec<u8> {
    [hex::decode(selector).expect("hex"), words.concat()].concat()
}

fn paid(asset: Asset, from: Address, to: Address, amount: u64) -> Transfer {
    let amount = Amount::from_base_units(U256::from(amount));
    Transfer { asset, from: ChainAddress::Ethereum(from), to: ChainAddress::Ethereum(to), amount }
}

#[test]
fn token_calls_are_told_as_what_they_mean() {
    let alice = evm_address(&alice());
    let five = U256::from(5).to_be_bytes();
    let token = Asset::Erc20(TOKEN);
    let allowance = Allowance { asset: token, spender: ChainAddress::Ethereum(CAROL), amount: Amount::from_wei(5) };

    let cases = [
        (calldata("a9059cbb", &[word(BOB), five]), vec![paid(token, alice, BOB, 5)], vec![]),
        (calldata("23b872dd", &[word(CAROL), word(BOB), five]), vec![paid(token, CAROL, BOB, 5)], vec![]),
        (calldata("095ea7b3", &[word(CAROL), five]), vec![], vec![allowance.clone()]),
        (calldata("39509351", &[word(CAROL), five]), vec![], vec![allowance]),
        (calldata("deadbeef", &[word(CAROL), five]), vec![], vec![]),
    ];
    for (data, transfers, allowances) in cases {
        let effects = effects_of(&call(TOKEN, data.clone(), Amount::ZERO)).expect("decodable");
        assert_eq!(effects.transfers, transfers);
        assert_eq!(effects.allowances, allowances);
        let (selector, arguments) = data.split_first_chunk::<4>().expect("a selector");
        let arguments = Bytes::copy_from_slice(arguments);
        let selector = FixedBytes(*selector);
        assert_eq!(
            effects.calls,
            [Call { caller: alice, depth: 0, contract: TOKEN, selector, arguments, value: Amount::ZERO }]
        );
    }
}

#[test]
fn coins_sent_with_a_call_are_a_transfer_too() {
    let me = evm_address(&alice());
    let data = calldata("a9059cbb", &[word(BOB), U256::from(5).to_be_bytes()]);
    let effects = effects_of(&call(TOKEN, data, Amount::from_wei(3))).expect("decodable");
    assert_eq!(effects.transfers, [paid(Asset::Native, me, TOKEN, 3), paid(Asset::Erc20(TOKEN), me, BOB, 5)]);
    assert_eq!(effects.calls.first().map(|call| call.value), Some(Amount::from_wei(3)));
}

#[test]
fn paying_oneself_is_paying() {
    let me = evm_address(&alice());
    let effects = effects_of(&transfer(Asset::Native, me, Amount::from_wei(3))).expect("decodable");
    assert_eq!(effects.transfers, [paid(Asset::Native, me, me, 3)]);
    assert_eq!(effects.change, Amount::ZERO);
}

#[test]
fn everybody_named_is_a_party() {
    let data = calldata("23b872dd", &[word(CAROL), word(BOB), [0; 32]]);
    let effects = effects_of(&call(TOKEN, data, Amount::ZERO)).expect("decodable");
    for party in [CAROL, BOB, TOKEN] {
        assert!(effects.parties().any(|found| found == ChainAddress::Ethereum(party)), "{party}");
    }
}

#[test]
fn a_payment_of_nothing_still_names_its_receiver() {
    let me = alice();
    let unsigned = CHAIN.build(&transfer(Asset::Native, BOB, Amount::from_wei(1)), &me, &state()).expect("built");
    let bytes = CHAIN.encode_unsigned(&unsigned);
    // The value 1 (0x01) follows the receiver; zero is spelled 0x80 in RLP.
    let mut zero = bytes.clone();
    let value = bytes.windows(21).position(|w| w == [BOB.as_slice(), &[1]].concat()).expect("receiver and value") + 20;
    zero[value] = 0x80;
    let unsigned = CHAIN.decode_unsigned(&zero).expect("well-formed");
    let effects = CHAIN.effects(&me, &unsigned).expect("decodable");
    assert_eq!(effects.transfers, []);
    assert_eq!(effects.touches, [ChainAddress::Ethereum(BOB)]);
}

#[test]
fn token_calls_that_are_not_canonical_are_undecodable() {
    let five = U256::from(5).to_be_bytes();
    let calls = [
        calldata("a9059cbb", &[word(BOB), five]),
        calldata("23b872dd", &[word(CAROL), word(BOB), five]),
        calldata("095ea7b3", &[word(CAROL), five]),
        calldata("39509351", &[word(CAROL), five]),
    ];
    let undecodable = |data: Vec<u8>| {
        let result = effects_of(&call(TOKEN, data.clone(), Amount::ZERO));
        assert!(matches!(result, Err(DecodeError::Undecodable(_))), "{}: {result:?}", hex::encode(data));
    };
    for good in calls {
        assert!(effects_of(&call(TOKEN, good.clone(), Amount::ZERO)).is_ok());
        for length in 4..good.len() {
            undecodable(good[..length].to_vec());
        }
        undecodable([good.as_slice(), &[0]].concat());
        undecodable([good.as_slice(), &[0; 32]].concat());
        let addresses = (good.len() - 4) / 32 - 1; // all words but the last, which is the amount
        for dirty in (0..addresses).flat_map(|argument| (0..12).map(move |byte| 4 + 32 * argument + byte)) {
            let mut data = good.clone();
            data[dirty] = 1;
            undecodable(data);
        }
    }
}

#[test]
fn only_the_accounts_own_bytes_are_read() {
    let unsigned = CHAIN.build(&transfer(Asset::Native, BOB, Amount::from_wei(1)), &alice(), &state()).expect("built");
    let stranger = account(&key(&"01".repeat(32)), CHAIN_ID);
    assert!(matches!(CHAIN.effects(&stranger, &unsigned), Err(DecodeError::WrongAccount(_))));
    assert!(matches!(CHAIN.payloads(&stranger, &unsigned), Err(DecodeError::WrongAccount(_))));

    let mainnet = Ethereum::new(1);
    let there = account(&alice_key(), 1);
    assert!(matches!(mainnet.effects(&there, &unsigned), Err(DecodeError::WrongNetwork { .. })));
    assert!(matches!(mainnet.payloads(&there, &unsigned), Err(DecodeError::WrongNetwork { .. })));
    assert!(matches!(CHAIN.effects(&there, &unsigned), Err(DecodeError::WrongAccount(_))), "same key, other network");
}

fn any_address() -> impl Strategy<Value = Address> {
    any::<[u8; 20]>().prop_map(Address::from)
}

fn any_intent() -> impl Strategy<Value = Intent> {
    let asset = prop_oneof![Just(Asset::Native), any_address().prop_map(Asset::Erc20)];
    let amount = (1..u128::MAX).prop_map(Amount::from_wei);
    let pay = (asset, any_address(), amount).prop_map(|(asset, to, amount)| transfer(asset, to, amount));
    let data = prop::collection::vec(any::<u8>(), 4..200);
    let calls = (any_address(), data, any::<u64>())
        .prop_map(|(contract, data, value)| call(contract, data, Amount::from_wei(value.into())));
    prop_oneof![pay, calls]
}

proptest! {
    #[test]
    fn the_bytes_do_what_was_asked_for(intent in any_intent()) {
        let me = alice();
        let unsigned = CHAIN.build(&intent, &me, &state()).expect("it can be built");
        let decoded = CHAIN.decode_unsigned(&CHAIN.encode_unsigned(&unsigned)).expect("just encoded");
        prop_assert_eq!(&decoded, &unsigned);
        let effects = CHAIN.effects(&me, &decoded).expect("decodable");
        let address = |text: &chains::address::UncheckedAddress| {
            text.require_network(CHAIN.network()).expect("it was built")
        };
        match &intent.action {
            Action::Transfer { asset, to, amount } => {
                let from = me.address().clone();
                prop_assert_eq!(&effects.transfers, &[Transfer { asset: *asset, from, to: address(to), amount: *amount }]);
                prop_assert_eq!(effects.calls.len(), usize::from(*asset != Asset::Native));
            }
            Action::Call { contract, data, value } => {
                let [made] = effects.calls.as_slice() else { panic!("one call") };
                prop_assert_eq!(ChainAddress::Ethereum(made.contract), address(contract));
                prop_assert_eq!([made.selector.as_slice(), &made.arguments].concat(), data.to_vec());
                prop_assert_eq!(made.value, *value);
                prop_assert_eq!(effects.transfers.len(), usize::from(!value.is_zero()));
            }
            other => panic!("no such intent is made: {other:?}"),
        }
        prop_assert_eq!(effects.max_fee, Amount::from_wei(100_000 * 30_000_000_000));
        prop_assert!(effects.allowances.is_empty());
        prop_assert_eq!(effects.change, Amount::ZERO);
    }
}
