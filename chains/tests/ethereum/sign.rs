//! Only the account's own signature, in its one form, makes a signed transaction.

use alloy::primitives::Address;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{AssembleError, Chain, DecodeError};
use chains::ethereum::Unsigned;
use chains::payload::{Message, Signature};
use k256::elliptic_curve::PrimeField;
use k256::{FieldBytes, Scalar};

use crate::fixture::{CHAIN, CHAIN_ID, account, alice, alice_key, key, sign, signed, state, transfer};

fn unsigned() -> Unsigned {
    let intent = transfer(Asset::Native, Address::repeat_byte(0xb0), Amount::from_wei(1));
    CHAIN.build(&intent, &alice(), &state()).expect("it can be built")
}

fn good_signature(unsigned: &Unsigned) -> ([u8; 64], u8) {
    let payloads = CHAIN.payloads(&alice(), unsigned).expect("the account's own");
    let payload = payloads.first().expect("one signature");
    match sign(&alice_key(), payload) {
        Signature::Ecdsa { rs, recovery_id } => (rs, recovery_id),
        other => unreachable!("{other:?} on Ethereum"),
    }
}

fn assembled(rs: [u8; 64], recovery_id: u8) -> Result<(), AssembleError> {
    CHAIN.assemble(&alice(), &unsigned(), &[Signature::Ecdsa { rs, recovery_id }]).map(|_| ())
}

#[test]
fn one_hash_is_signed_with_the_accounts_key() {
    let unsigned = unsigned();
    let payloads = CHAIN.payloads(&alice(), &unsigned).expect("the account's own");
    let [payload] = payloads.as_slice() else { panic!("one signature") };
    assert_eq!(payload.path(), alice().path());
    assert_eq!(payload.message(), &Message::Ecdsa(unsigned.signature_hash().0));
}

#[test]
fn the_accounts_signature_is_put_in_place() {
    let unsigned = unsigned();
    let signed = signed(&CHAIN, &alice_key(), &unsigned);
    assert_eq!(signed.unsigned(), &unsigned);
    let raw = CHAIN.encode_signed(&signed);
    assert_eq!(signed.hash(), alloy::primitives::keccak256(&raw));
    assert_eq!(CHAIN.id(&signed).as_str(), signed.hash().to_string());
    assert_eq!(CHAIN.decode_signed(&raw), Ok(signed));
}

#[test]
fn the_other_half_of_the_order_is_refused() {
    let unsigned = unsigned();
    let (rs, recovery_id) = good_signature(&unsigned);
    let (r, s) = rs.split_at(32);
    let high = -Scalar::from_repr(*FieldBytes::from_slice(s)).expect("a scalar");
    let malleated = [r, high.to_repr().as_slice()].concat().try_into().expect("64 bytes");
    // The same signature for plain ECDSA, with the parity flipped: EIP-2 is what forbids it.
    assert_eq!(assembled(malleated, recovery_id ^ 1), Err(AssembleError::Invalid(0)));
    assert_eq!(assembled(malleated, recovery_id), Err(AssembleError::Invalid(0)));
    assert_eq!(assembled(rs, recovery_id), Ok(()));

    let low = CHAIN.encode_signed(&signed(&CHAIN, &alice_key(), &unsigned));
    let s_start = low.len() - 32;
    let mut raw = [&low[..s_start], high.to_repr().as_slice()].concat();
    let parity = raw.len() - 67;
    assert!(matches!(raw[parity], 0x80 | 0x01), "the parity stands before r and s");
    raw[parity] ^= 0x81;
    assert!(matches!(CHAIN.decode_signed(&raw), Err(DecodeError::Malformed(_))));
}

#[test]
fn what_is_no_signature_of_the_account_is_refused() {
    let (rs, recovery_id) = good_signature(&unsigned());
    for other in (0..=u8::MAX).filter(|other| *other != recovery_id) {
        assert_eq!(assembled(rs, other), Err(AssembleError::Invalid(0)), "recovery id {other}");
    }
    for byte in 0..64 {
        let mut wrong = rs;
        wrong[byte] ^= 1;
        assert_eq!(assembled(wrong, recovery_id), Err(AssembleError::Invalid(0)), "byte {byte}");
    }
    for bad in [[0; 64], [0xff; 64]] {
        assert_eq!(assembled(bad, 0), Err(AssembleError::Invalid(0)));
    }

    let stranger = key(&"01".repeat(32));
    let payload = CHAIN.payloads(&alice(), &unsigned()).expect("the account's own").remove(0);
    let forged = sign(&stranger, &payload);
    assert_eq!(CHAIN.assemble(&alice(), &unsigned(), &[forged]), Err(AssembleError::Invalid(0)));
    let result = CHAIN.assemble(&account(&stranger, CHAIN_ID), &unsigned(), &[forged]);
    assert!(matches!(result, Err(AssembleError::Decode(DecodeError::WrongAccount(_)))), "{result:?}");
}

#[test]
fn one_signature_of_the_right_kind_is_needed() {
    let (rs, recovery_id) = good_signature(&unsigned());
    let good = Signature::Ecdsa { rs, recovery_id };
    let assemble = |signatures: &[Signature]| CHAIN.assemble(&alice(), &unsigned(), signatures).map(|_| ());
    assert_eq!(assemble(&[]), Err(AssembleError::Count { expected: 1, found: 0 }));
    assert_eq!(assemble(&[good, good]), Err(AssembleError::Count { expected: 1, found: 2 }));
    assert_eq!(assemble(&[Signature::Schnorr(rs)]), Err(AssembleError::Invalid(0)));
    assert_eq!(assemble(&[Signature::Ed25519(rs)]), Err(AssembleError::Invalid(0)));
}
