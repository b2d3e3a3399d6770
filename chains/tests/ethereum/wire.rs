//! One transaction, one spelling.

use std::collections::BTreeSet;

use alloy::primitives::{Address, hex};
use chains::account::Account;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{Chain, DecodeError};
use chains::ethereum::{Ethereum, Fees, GasPrice, State, Unsigned};
use proptest::prelude::*;

use crate::fixture::{CHAIN, CHAIN_ID, alice, call, evm_address, signed_transfer, state, transfer};

fn samples() -> Vec<Unsigned> {
    let bob = Address::repeat_byte(0xb0);
    let legacy = State { fees: Fees::Legacy { gas_price: GasPrice::from_gwei(2) }, ..state() };
    let intents = [
        transfer(Asset::Native, bob, Amount::from_wei(1_000_000_007)),
        transfer(Asset::Erc20(Address::repeat_byte(0x70)), bob, Amount::from_wei(1_000_000_007)),
        call(bob, vec![0xde, 0xad, 0xbe, 0xef], Amount::from_wei(9)),
    ];
    let me = alice();
    let build = |intent, state: &State| CHAIN.build(intent, &me, state).expect("it can be built");
    intents.iter().flat_map(|intent| [state(), legacy.clone()].map(|state| build(intent, &state))).collect()
}

/// Other bytes are no transaction, or another one: they never pass for the same.
fn must_differ(original: &Unsigned, account: &Account, bytes: &[u8]) {
    let Ok(decoded) = CHAIN.decode_unsigned(bytes) else { return };
    assert_eq!(CHAIN.encode_unsigned(&decoded), bytes, "two spellings of one transaction");
    let _never_panics = CHAIN.effects(account, &decoded);
    match CHAIN.payloads(account, &decoded) {
        Ok(payloads) => assert_ne!(payloads, CHAIN.payloads(account, original).expect("the account's own")),
        Err(error) => assert!(matches!(error, DecodeError::WrongAccount(_)), "{error}"),
    }
}

#[test]
fn unsigned_bytes_are_the_sender_and_what_is_signed() {
    for unsigned in samples() {
        let bytes = CHAIN.encode_unsigned(&unsigned);
        let (from, signed_part) = bytes.split_at(20);
        assert_eq!(from, evm_address(&alice()).as_slice());
        assert_eq!(alloy::primitives::keccak256(signed_part), unsigned.signature_hash());
        assert_eq!(CHAIN.decode_unsigned(&bytes), Ok(unsigned));
    }
}

#[test]
fn every_bit_counts() {
    let me = alice();
    for unsigned in samples() {
        let bytes = CHAIN.encode_unsigned(&unsigned);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            must_differ(&unsigned, &me, &flipped);
        }
        for length in 0..bytes.len() {
            assert!(CHAIN.decode_unsigned(&bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
        }
        for tail in 0..=u8::MAX {
            assert!(CHAIN.decode_unsigned(&[bytes.as_slice(), &[tail]].concat()).is_err(), "a tail of {tail:#04x}");
        }
    }
}

#[test]
fn another_network_is_named() {
    for unsigned in samples() {
        let bytes = CHAIN.encode_unsigned(&unsigned);
        let error = Ethereum::new(1).decode_unsigned(&bytes).expect_err("another network");
        let expected = Ethereum::new(1).network();
        assert_eq!(error, DecodeError::WrongNetwork { expected, found: format!("ethereum:{CHAIN_ID}") });
    }
    let raw = CHAIN.encode_signed(&signed_transfer());
    assert!(matches!(Ethereum::new(1).decode_signed(&raw), Err(DecodeError::WrongNetwork { .. })));
}

/// `from`, a type byte and the RLP list of the hex fields.
fn raw(kind: u8, fields: &[&str]) -> Vec<u8> {
    let fields = hex::decode(fields.concat()).expect("hex");
    let length = u8::try_from(fields.len()).expect("short");
    let header = if length < 56 { vec![0xc0 + length] } else { vec![0xf8, length] };
    [evm_address(&alice()).as_slice(), &[kind], &header, &fields].concat()
}

#[test]
fn rlp_that_is_not_canonical_is_refused() {
    let to = &format!("94{}", "b0".repeat(20));
    // chain id, nonce, tip, price, gas, to, value, data, access list
    let good = ["827a69", "07", "01", "02", "825208", to, "05", "80", "c0"];
    assert!(CHAIN.decode_unsigned(&raw(2, &good)).is_ok());
    let with = |place: usize, field| {
        let mut fields = good;
        fields[place] = field;
        raw(2, &fields)
    };
    let cases = [
        ("a leading zero", with(1, "820007")),
        ("zero as a byte", with(1, "00")),
        ("a byte behind a header", with(1, "8107")),
        ("a long header for a short string", with(6, "b80105")),
        ("a nonce of nine bytes", with(1, "89010000000000000000")),
        ("a list for a number", with(1, "c0")),
        ("an access list of strings", with(8, "c101")),
        ("a contract creation", with(5, "80")),
        ("a receiver of 19 bytes", with(5, "93b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0")),
        ("a tip above the price", with(2, "03")),
        ("a legacy transaction", raw(0, &good)),
        ("a blob transaction", raw(3, &good)),
        ("too few fields", raw(2, &good[..8])),
        ("too many fields", raw(2, &[good.as_slice(), &["80"]].concat())),
        ("nothing at all", Vec::new()),
        ("a sender alone", evm_address(&alice()).to_vec()),
    ];
    for (what, bytes) in cases {
        assert!(CHAIN.decode_unsigned(&bytes).is_err(), "{what}: {}", hex::encode(&bytes));
    }
}

#[test]
fn a_creation_is_undecodable_rather_than_malformed() {
    let creation = raw(2, &["827a69", "07", "01", "02", "825208", "80", "05", "80", "c0"]);
    assert!(matches!(CHAIN.decode_unsigned(&creation), Err(DecodeError::Undecodable(_))));
}

#[test]
fn the_slot_is_sender_and_nonce() {
    let me = alice();
    let spelled = format!("ethereum:{CHAIN_ID}/{}/7", me.address());
    let expected: BTreeSet<_> = [spelled.parse().expect("a slot")].into();
    for unsigned in samples() {
        assert_eq!(CHAIN.slots(&me, &unsigned), expected);
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_u8..4) {
        let _ = CHAIN.decode_unsigned(&bytes);
        let _ = CHAIN.decode_signed(&bytes);
        let _ = CHAIN.decode_signed(&[&[kind], bytes.as_slice()].concat());
        let _ = CHAIN.decode_unsigned(&[[0; 20].as_slice(), &[kind], &bytes].concat());
    }

    #[test]
    fn mutated_bytes_are_another_transaction(
        sample in 0_usize..6,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let unsigned = samples().swap_remove(sample);
        let original = CHAIN.encode_unsigned(&unsigned);
        let mut bytes = original.clone();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        prop_assume!(bytes != original);
        must_differ(&unsigned, &alice(), &bytes);
    }

    #[test]
    fn mutated_signed_bytes_are_not_the_accounts(place: prop::sample::Index, byte in 1_u8..) {
        let signed = signed_transfer();
        let mut bytes = CHAIN.encode_signed(&signed);
        let place = place.index(bytes.len());
        bytes[place] ^= byte;
        if let Ok(decoded) = CHAIN.decode_signed(&bytes) {
            prop_assert_eq!(CHAIN.encode_signed(&decoded), bytes);
            prop_assert_ne!(decoded.unsigned().from(), signed.unsigned().from());
        }
    }
}
