//! PSBTs from elsewhere: what is not exactly a payment of an account is not decoded.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::psbt::{Psbt, PsbtSighashType, raw};
use bitcoin::transaction::Version;
use bitcoin::{Amount as Sats, ScriptBuf, Sequence, TxOut, Txid, Witness};
use chains::chain::{Chain, DecodeError};
use proptest::prelude::*;

use crate::fixture::{CHAIN, DESTINATIONS, Wallet, pay, transfer};

fn psbt(wallet: &Wallet) -> Psbt {
    let state = wallet.state(&[60_000, 70_000]);
    let built = CHAIN.build(&transfer(DESTINATIONS[2], 100_000), &wallet.account, &state).expect("enough");
    built.psbt().clone()
}

/// What decoding says of the PSBT after `change`.
fn decoded(wallet: &Wallet, change: impl FnOnce(&mut Psbt)) -> Result<(), DecodeError> {
    let mut psbt = psbt(wallet);
    change(&mut psbt);
    CHAIN.decode_unsigned(&psbt.serialize()).map(drop)
}

#[track_caller]
fn assert_malformed(wallet: &Wallet, words: &str, change: impl FnOnce(&mut Psbt)) {
    match decoded(wallet, change) {
        Err(DecodeError::Malformed(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_built_is_decoded() {
    for wallet in Wallet::both() {
        assert_eq!(decoded(&wallet, |_| {}), Ok(()));
    }
}

#[test]
fn the_fee_attack_on_segwit_v0_is_seen() {
    let wallet = Wallet::p2wpkh(1);
    // The amount alone.
    assert_malformed(&wallet, "lies about the output", |psbt| {
        psbt.inputs[0].witness_utxo.as_mut().expect("an output").value = Sats::from_sat(10_000);
    });
    // The amount, and a previous transaction to go with it.
    assert_malformed(&wallet, "another transaction", |psbt| {
        psbt.inputs[0].witness_utxo.as_mut().expect("an output").value = Sats::from_sat(10_000);
        psbt.inputs[0].non_witness_utxo.as_mut().expect("a transaction").output[0].value = Sats::from_sat(10_000);
    });
    assert_malformed(&wallet, "lacks its previous transaction", |psbt| psbt.inputs[1].non_witness_utxo = None);
    assert_malformed(&wallet, "lies about the output", |psbt| {
        psbt.unsigned_tx.input[0].previous_output.vout = 1;
    });
    assert_malformed(&wallet, "another transaction", |psbt| {
        psbt.unsigned_tx.input[0].previous_output.txid = Txid::from_byte_array([9; 32]);
    });
}

#[test]
fn a_taproot_output_is_its_internal_keys_alone() {
    let wallet = Wallet::p2tr(2);
    assert_malformed(&wallet, "lacks its internal key", |psbt| psbt.inputs[0].tap_internal_key = None);
    assert_malformed(&wallet, "isn't locked to", |psbt| {
        let other = Wallet::p2tr(3).account.public_key().to_owned();
        let chains::account::PublicKey::Taproot(other) = other else { panic!("a Taproot key") };
        psbt.inputs[0].tap_internal_key = Some(other);
    });
    // BIP-341 signs all amounts, so a lie about one only spoils the signature; it must still add up.
    assert_malformed(&wallet, "above the inputs", |psbt| {
        psbt.inputs[0].witness_utxo.as_mut().expect("an output").value = Sats::ONE_SAT;
    });
}

#[test]
fn surplus_is_refused() {
    for wallet in Wallet::both() {
        assert_malformed(&wallet, "finalised", |psbt| psbt.inputs[0].final_script_witness = Some(Witness::new()));
        assert_malformed(&wallet, "finalised", |psbt| psbt.inputs[0].final_script_sig = Some(ScriptBuf::new()));
        for sighash in [0, 1, 2, 3, 0x81, 0x82, 0x83, 0xff] {
            assert_malformed(&wallet, "sighash", |psbt| {
                psbt.inputs[1].sighash_type = Some(PsbtSighashType::from_u32(sighash));
            });
        }
        assert_malformed(&wallet, "doesn't say", |psbt| psbt.inputs[0].witness_utxo = None);
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.inputs[0].redeem_script = Some(ScriptBuf::new());
        });
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.inputs[0].witness_script = Some(ScriptBuf::new());
        });
        let key = raw::Key { type_value: 0xe0, key: vec![1] };
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.inputs[0].unknown.insert(key.clone(), vec![1]);
        });
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.outputs[0].unknown.insert(key.clone(), vec![1]);
        });
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.unknown.insert(key.clone(), vec![1]);
        });
        assert_malformed(&wallet, "signing doesn't need", |psbt| {
            psbt.outputs[0].redeem_script = Some(ScriptBuf::new());
        });
    }
    assert_malformed(&Wallet::p2wpkh(1), "signing doesn't need", |psbt| {
        let previous = psbt.inputs[0].non_witness_utxo.as_mut().expect("a transaction");
        previous.input[0].witness = Witness::from_slice(&[[1; 8]]);
    });
}

#[test]
fn another_shape_of_transaction_is_refused() {
    for wallet in Wallet::both() {
        assert_malformed(&wallet, "version", |psbt| psbt.unsigned_tx.version = Version::ONE);
        assert_malformed(&wallet, "sequence", |psbt| psbt.unsigned_tx.input[1].sequence = Sequence::MAX);
        assert_malformed(&wallet, "lock time", |psbt| {
            psbt.unsigned_tx.lock_time = LockTime::from_time(1_700_000_000).expect("a time");
        });
        assert_malformed(&wallet, "twice", |psbt| {
            psbt.unsigned_tx.input[1] = psbt.unsigned_tx.input[0].clone();
            psbt.inputs[1] = psbt.inputs[0].clone();
        });
        assert_malformed(&wallet, "above 21 million", |psbt| psbt.unsigned_tx.output[0].value = Sats::MAX);
        assert_malformed(&wallet, "above the inputs", |psbt| {
            psbt.unsigned_tx.output[0].value = Sats::from_sat(130_001);
        });
        assert_malformed(&wallet, "without inputs or outputs", |psbt| {
            psbt.unsigned_tx.output.clear();
            psbt.outputs.clear();
        });
        let foreign = decoded(&wallet, |psbt| {
            psbt.inputs[0].witness_utxo =
                Some(TxOut { value: Sats::from_sat(60_000), script_pubkey: ScriptBuf::new() });
        });
        assert!(matches!(foreign, Err(DecodeError::Undecodable(_))));
    }
}

#[test]
fn an_output_without_an_address_is_undecodable() {
    let wallet = Wallet::p2tr(2);
    let other_version = bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V2, &[7; 32]).expect("a program");
    for script in [
        ScriptBuf::new_op_return([1, 2, 3]),
        ScriptBuf::new(),
        ScriptBuf::from_bytes(vec![0x51]),
        ScriptBuf::new_p2a(),
        ScriptBuf::new_witness_program(&other_version),
    ] {
        let mut psbt = psbt(&wallet);
        psbt.unsigned_tx.output[0].script_pubkey = script;
        let decoded = CHAIN.decode_unsigned(&psbt.serialize()).expect("a transaction that adds up");
        let effects = CHAIN.effects(&wallet.account, &decoded);
        assert!(matches!(effects, Err(DecodeError::Undecodable(_))), "{effects:?}");
    }
}

#[test]
fn effects_tell_what_the_bytes_do_not_what_the_intent_said() {
    let wallet = Wallet::p2tr(2);
    let thief = Wallet::p2wpkh(66);
    let mut psbt = psbt(&wallet);
    for output in &mut psbt.unsigned_tx.output {
        if output.script_pubkey == wallet.script() {
            output.script_pubkey = thief.script();
        }
    }
    let decoded = CHAIN.decode_unsigned(&psbt.serialize()).expect("a transaction that adds up");
    let effects = CHAIN.effects(&wallet.account, &decoded).expect("two payments");
    assert!(effects.change.is_zero());
    assert!(effects.transfers.iter().any(|transfer| transfer.to == *thief.account.address()));
    assert!(effects.parties().any(|party| party == *thief.account.address()));
}

#[test]
fn a_tail_and_a_truncation_are_refused() {
    for wallet in Wallet::both() {
        let bytes = psbt(&wallet).serialize();
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(CHAIN.decode_unsigned(&longer), Err(DecodeError::Malformed(_))));
        for len in 0..bytes.len() {
            assert!(matches!(CHAIN.decode_unsigned(&bytes[..len]), Err(DecodeError::Malformed(_))), "{len}");
        }
    }
    let stranger = pay(&[(Wallet::p2tr(2).script(), 1_000)], 1);
    assert!(CHAIN.decode_unsigned(&bitcoin::consensus::serialize(&stranger)).is_err());
}

proptest! {
    /// Nothing panics, and what is decoded still adds up and has one spelling.
    #[test]
    fn mutations_are_decoded_soundly_or_not_at_all(
        taproot: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let wallet = if taproot { Wallet::p2tr(2) } else { Wallet::p2wpkh(1) };
        let mut bytes = psbt(&wallet).serialize();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(unsigned) = CHAIN.decode_unsigned(&bytes) {
            prop_assert_eq!(CHAIN.encode_unsigned(&unsigned), bytes);
            if let Ok(effects) = CHAIN.effects(&wallet.account, &unsigned) {
                let funds: u64 = unsigned.spent().iter().map(|output| output.value.to_sat()).sum();
                let paid: u64 = effects.transfers.iter().filter_map(|transfer| transfer.amount.to_u64()).sum();
                let rest = effects.change.to_u64().zip(effects.max_fee.to_u64()).map(|(change, fee)| change + fee);
                prop_assert_eq!(Some(funds - paid), rest);
            }
            let _ = CHAIN.payloads(&wallet.account, &unsigned);
        }
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(CHAIN.decode_unsigned(&bytes).is_err());
        let mut with_magic = b"psbt\xff".to_vec();
        with_magic.extend(bytes);
        prop_assert!(CHAIN.decode_unsigned(&with_magic).is_err());
        let _ = CHAIN.decode_signed(&with_magic);
    }
}
