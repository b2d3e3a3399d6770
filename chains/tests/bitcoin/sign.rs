//! Payloads and assembly, judged by Bitcoin Core's script interpreter.

use bitcoin::hashes::Hash;
use chains::bitcoin::Unsigned;
use chains::chain::{AssembleError, Chain, DecodeError};
use chains::payload::{Message, Signature};

use crate::fixture::{CHAIN, DESTINATIONS, Wallet, consensus_accepts, transfer};

fn two_inputs(wallet: &Wallet) -> Unsigned {
    let state = wallet.state(&[60_000, 70_000]);
    CHAIN.build(&transfer(DESTINATIONS[1], 100_000), &wallet.account, &state).expect("enough")
}

fn signatures(wallet: &Wallet, unsigned: &Unsigned) -> Vec<Signature> {
    let payloads = CHAIN.payloads(&wallet.account, unsigned).expect("the account's");
    payloads.iter().map(|payload| wallet.sign(payload)).collect()
}

#[test]
fn one_payload_for_each_input_of_the_right_kind() {
    let [p2wpkh, p2tr] = Wallet::both();
    let payloads = CHAIN.payloads(&p2wpkh.account, &two_inputs(&p2wpkh)).expect("the account's");
    assert_eq!(payloads.len(), 2);
    assert!(payloads.iter().all(|payload| matches!(payload.message(), Message::Ecdsa(_))));
    assert!(payloads.iter().all(|payload| payload.path() == p2wpkh.account.path()));
    assert_ne!(payloads[0], payloads[1]);
    let payloads = CHAIN.payloads(&p2tr.account, &two_inputs(&p2tr)).expect("the account's");
    assert!(payloads.iter().all(|payload| matches!(payload.message(), Message::Taproot(_))));
}

#[test]
fn what_is_assembled_is_valid_and_round_trips() {
    for wallet in Wallet::both() {
        let unsigned = two_inputs(&wallet);
        let signed = CHAIN
            .assemble(&wallet.account, &unsigned, &signatures(&wallet, &unsigned))
            .expect("signatures that verify");
        assert!(consensus_accepts(signed.transaction(), unsigned.spent()));
        assert_eq!(CHAIN.id(&signed).as_str(), unsigned.transaction().compute_txid().to_string());

        let bytes = CHAIN.encode_signed(&signed);
        assert_eq!(CHAIN.decode_signed(&bytes), Ok(signed.clone()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(CHAIN.decode_signed(&longer), Err(DecodeError::Malformed(_))));
        assert!(matches!(CHAIN.decode_signed(&bytes[..bytes.len() - 1]), Err(DecodeError::Malformed(_))));
        let unsigned_bytes = bitcoin::consensus::serialize(unsigned.transaction());
        assert!(matches!(CHAIN.decode_signed(&unsigned_bytes), Err(DecodeError::Malformed(_))));

        // The judge does judge: another amount, another verdict.
        let mut spent = unsigned.spent().to_vec();
        spent[0].value += bitcoin::Amount::ONE_SAT;
        assert!(!consensus_accepts(signed.transaction(), &spent));
    }
}

#[test]
fn a_signature_that_does_not_verify_is_named() {
    for wallet in Wallet::both() {
        let unsigned = two_inputs(&wallet);
        let good = signatures(&wallet, &unsigned);
        let assemble = |signatures: &[Signature]| CHAIN.assemble(&wallet.account, &unsigned, signatures);

        assert_eq!(assemble(&good[..1]), Err(AssembleError::Count { expected: 2, found: 1 }));
        assert_eq!(assemble(&[]), Err(AssembleError::Count { expected: 2, found: 0 }));
        assert_eq!(assemble(&[good[1], good[0]]), Err(AssembleError::Invalid(0)));
        assert_eq!(assemble(&[good[0], good[0]]), Err(AssembleError::Invalid(1)));
        assert_eq!(assemble(&[good[0], Signature::Ed25519([1; 64])]), Err(AssembleError::Invalid(1)));
        for kind in [Signature::Schnorr([0; 64]), Signature::Ecdsa { rs: [0; 64], recovery_id: 0 }] {
            assert_eq!(assemble(&[good[0], kind]), Err(AssembleError::Invalid(1)));
        }
        let stranger = match wallet.sign(&CHAIN.payloads(&wallet.account, &unsigned).expect("the account's")[0]) {
            Signature::Ecdsa { .. } => Wallet::p2wpkh(7),
            _ => Wallet::p2tr(7),
        };
        let payloads = CHAIN.payloads(&wallet.account, &unsigned).expect("the account's");
        assert_eq!(assemble(&[stranger.sign(&payloads[0]), good[1]]), Err(AssembleError::Invalid(0)));
    }
}

#[test]
fn another_account_has_nothing_to_sign_here() {
    let [p2wpkh, p2tr] = Wallet::both();
    let unsigned = two_inputs(&p2wpkh);
    for stranger in [&p2tr, &Wallet::p2wpkh(7)] {
        assert!(matches!(CHAIN.payloads(&stranger.account, &unsigned), Err(DecodeError::WrongAccount(_))));
        assert!(matches!(CHAIN.effects(&stranger.account, &unsigned), Err(DecodeError::WrongAccount(_))));
        let assembled = CHAIN.assemble(&stranger.account, &unsigned, &signatures(&p2wpkh, &unsigned));
        assert!(matches!(assembled, Err(AssembleError::Decode(DecodeError::WrongAccount(_)))));
    }
}

/// Every bit of what is spent and paid is in the hash.
#[test]
fn the_payload_changes_with_what_is_signed() {
    for wallet in Wallet::both() {
        let build = |amount: u64| {
            let state = wallet.state(&[60_000, 70_000]);
            CHAIN.build(&transfer(DESTINATIONS[1], amount), &wallet.account, &state).expect("enough")
        };
        let messages = |amount: u64| -> Vec<Message> {
            let payloads = CHAIN.payloads(&wallet.account, &build(amount)).expect("the account's");
            payloads.iter().map(|payload| payload.message().clone()).collect()
        };
        assert_ne!(messages(100_000), messages(100_001));
        assert_eq!(messages(100_000), messages(100_000));
        assert_ne!(build(100_000).transaction().compute_txid().to_byte_array(), [0; 32]);
    }
}
