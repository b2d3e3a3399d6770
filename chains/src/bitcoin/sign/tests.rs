//! Signature hashes against the vectors of BIP-143 and BIP-341.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::FromHex;
use bitcoin::{Amount as Sats, ScriptBuf};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Bip143 {
    unsigned: String,
    spent: Vec<Spent>,
    input: usize,
    public_key: String,
    sighash: String,
    signature_der: String,
    signed: String,
}

#[derive(Deserialize)]
struct Spent {
    #[serde(alias = "scriptPubKey")]
    script_pubkey: ScriptBuf,
    #[serde(alias = "amountSats")]
    sat: u64,
}

fn outputs(spent: Vec<Spent>) -> Vec<TxOut> {
    spent.into_iter().map(|s| TxOut { value: Sats::from_sat(s.sat), script_pubkey: s.script_pubkey }).collect()
}

fn hash(hex: &str) -> [u8; 32] {
    FromHex::from_hex(hex).expect("32 bytes of hex")
}

#[test]
fn bip_143_native_p2wpkh() {
    let vector: Bip143 =
        serde_json::from_str(include_str!("../../../../tests/vectors/bip-0143.json")).expect("the vector");
    let tx: Transaction = deserialize_hex(&vector.unsigned).expect("a transaction");
    let message = message(&mut SighashCache::new(&tx), &outputs(vector.spent), vector.input);
    assert_eq!(message, Ok(Message::Ecdsa(hash(&vector.sighash))));

    let message = message.expect("a message");
    let key: CompressedPublicKey = vector.public_key.parse().expect("a key");
    let der = Vec::from_hex(&vector.signature_der).expect("hex");
    let rs = secp256k1::ecdsa::Signature::from_der(&der).expect("a signature").serialize_compact();
    let secp = Secp256k1::verification_only();
    let witness = p2wpkh_witness(&secp, &key, &message, &Signature::Ecdsa { rs, recovery_id: 0 });
    let signed: Transaction = deserialize_hex(&vector.signed).expect("a transaction");
    assert_eq!(witness.as_ref(), Some(&signed.input[vector.input].witness));

    // The other S of the same signature is valid to the curve and to nobody's mempool.
    let mut high =
        secp256k1::Scalar::from_be_bytes(rs[32..].try_into().expect("32 bytes")).expect("a scalar").to_be_bytes();
    high = secp256k1::SecretKey::from_slice(&high).expect("not zero").negate().secret_bytes();
    let mut high_s = rs;
    high_s[32..].copy_from_slice(&high);
    assert_eq!(p2wpkh_witness(&secp, &key, &message, &Signature::Ecdsa { rs: high_s, recovery_id: 1 }), None);
    assert_eq!(p2wpkh_witness(&secp, &key, &message, &Signature::Schnorr(rs)), None);
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bip341 {
    key_path_spending: Vec<KeyPathSpending>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyPathSpending {
    given: Given,
    input_spending: Vec<InputSpending>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    raw_unsigned_tx: String,
    utxos_spent: Vec<Spent>,
}

#[derive(Deserialize)]
struct InputSpending {
    given: InputGiven,
    intermediary: Intermediary,
    expected: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputGiven {
    txin_index: usize,
    hash_type: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intermediary {
    sig_hash: String,
}

#[derive(Deserialize)]
struct Expected {
    witness: Vec<String>,
}

/// The vectors sign one transaction with every sighash type; one input has the type that is signed here.
#[test]
fn bip_341_key_path_with_the_default_sighash() {
    let vectors: Bip341 =
        serde_json::from_str(include_str!("../../../../tests/vectors/bip-0341-wallet.json")).expect("the vectors");
    let secp = Secp256k1::verification_only();
    let mut checked = 0;
    for spending in vectors.key_path_spending {
        let tx: Transaction = deserialize_hex(&spending.given.raw_unsigned_tx).expect("a transaction");
        let spent = outputs(spending.given.utxos_spent);
        let mut cache = SighashCache::new(&tx);
        for input in spending.input_spending.iter().filter(|input| input.given.hash_type == 0) {
            let index = input.given.txin_index;
            let expected = Message::Taproot(hash(&input.intermediary.sig_hash));
            assert_eq!(message(&mut cache, &spent, index), Ok(expected.clone()));

            let signature: [u8; 64] = FromHex::from_hex(&input.expected.witness[0]).expect("64 bytes of hex");
            let output_key = XOnlyPublicKey::from_slice(&spent[index].script_pubkey.as_bytes()[2..]).expect("a key");
            let output_key = TweakedPublicKey::dangerous_assume_tweaked(output_key);
            let witness = p2tr_witness(&secp, output_key, &expected, &Signature::Schnorr(signature));
            assert_eq!(witness.expect("the signature verifies").to_vec(), [signature.to_vec()]);

            let other = Message::Taproot([7; 32]);
            assert_eq!(p2tr_witness(&secp, output_key, &other, &Signature::Schnorr(signature)), None);
            let wrong_kind = Signature::Ecdsa { rs: signature, recovery_id: 0 };
            assert_eq!(p2tr_witness(&secp, output_key, &expected, &wrong_kind), None);
            checked += 1;
        }
        // Every other type has another hash.
        for input in spending.input_spending.iter().filter(|input| input.given.hash_type != 0) {
            let other = Message::Taproot(hash(&input.intermediary.sig_hash));
            assert_ne!(message(&mut cache, &spent, input.given.txin_index), Ok(other));
        }
    }
    assert_eq!(checked, 1);
}

#[test]
fn what_is_neither_is_not_signed() {
    let vector: Bip143 =
        serde_json::from_str(include_str!("../../../../tests/vectors/bip-0143.json")).expect("the vector");
    let tx: Transaction = deserialize_hex(&vector.unsigned).expect("a transaction");
    let spent = outputs(vector.spent);
    let mut cache = SighashCache::new(&tx);
    assert!(matches!(message(&mut cache, &spent, 0), Err(DecodeError::Undecodable(_))));
    assert!(matches!(message(&mut cache, &spent, 2), Err(DecodeError::Malformed(_))));
}
