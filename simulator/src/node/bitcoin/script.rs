//! Script verification by Bitcoin Core's own consensus code, and what policy asks of signatures beyond it.
//!
//! The consensus library says yes or no; Core's message is worked out here for the standard output types, and is
//! "Script evaluated without error but finished with a false/empty top stack element" for the rest. Of the policy-only script flags,
//! low S, strict hash types, compressed keys in segwit and minimal pushes in `scriptSig` are checked; clean stack, minimal
//! IF and discouraged opcodes are not.

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Instruction;
use bitcoin::secp256k1::ecdsa;
use bitcoin::{Script, Transaction, TxIn, WPubkeyHash, WScriptHash};

use super::reject::Reject;
use super::rules::Coin;

/// Core's words for a script's failures.
mod words {
    pub(super) const EVAL_FALSE: &str =
        "Script evaluated without error but finished with a false/empty top stack element";
    pub(super) const EQUALVERIFY: &str = "Script failed an OP_EQUALVERIFY operation";
    pub(super) const STACK: &str = "Operation not valid with the current stack size";
    pub(super) const NULLFAIL: &str = "Signature must be zero for failed CHECK(MULTI)SIG operation";
    pub(super) const DER: &str = "Non-canonical DER signature";
    pub(super) const WITNESS_MISMATCH: &str = "Witness program hash mismatch";
    pub(super) const WITNESS_EMPTY: &str = "Witness program was passed an empty witness";
    pub(super) const WITNESS_MALLEATED: &str = "Witness requires empty scriptSig";
    pub(super) const WITNESS_MALLEATED_P2SH: &str = "Witness requires only-redeemscript scriptSig";
    pub(super) const WITNESS_UNEXPECTED: &str = "Witness provided for non-witness script";
    pub(super) const SCHNORR_SIZE: &str = "Invalid Schnorr signature size";
    pub(super) const SCHNORR_HASH_TYPE: &str = "Invalid Schnorr signature hash type";
    pub(super) const SCHNORR: &str = "Invalid Schnorr signature";
    pub(super) const HIGH_S: &str = "Non-canonical signature: S value is unnecessarily high";
    pub(super) const HASH_TYPE: &str = "Signature hash type missing or not understood";
    pub(super) const UNCOMPRESSED: &str = "Using non-compressed keys in segwit";
    pub(super) const MINIMAL: &str = "Data push larger than necessary";
}

/// Verifies all scripts of `tx` under the consensus rules, taproot included. `coins` are those of its inputs, in order.
///
/// # Errors
/// `mandatory-script-verify-flag-failed (…)` with Core's words.
pub fn verify(tx: &Transaction, coins: &[Coin]) -> Result<(), Reject> {
    let bytes = serialize(tx);
    let mut spent = Vec::with_capacity(coins.len());
    for coin in coins {
        let script = coin.output.script_pubkey.as_bytes();
        let (Ok(script_pubkey_len), Ok(value)) =
            (u32::try_from(script.len()), i64::try_from(coin.output.value.to_sat()))
        else {
            return Err(Reject::new("bad-txns-inputvalues-outofrange"));
        };
        spent.push(bitcoinconsensus::Utxo { script_pubkey: script.as_ptr(), script_pubkey_len, value });
    }
    for (index, (input, coin)) in tx.input.iter().zip(coins).enumerate() {
        let script = coin.output.script_pubkey.as_script();
        let value = coin.output.value.to_sat();
        if bitcoinconsensus::verify(script.as_bytes(), value, &bytes, Some(&spent), index).is_err() {
            let why = why_failed(input, script);
            return Err(Reject::new(format!("mandatory-script-verify-flag-failed ({why})")));
        }
    }
    Ok(())
}

/// Checks what relay policy asks of the signatures of a transaction whose scripts are valid.
///
/// # Errors
/// `non-mandatory-script-verify-flag (…)` with Core's words.
pub fn verify_policy(tx: &Transaction, coins: &[Coin]) -> Result<(), Reject> {
    for (input, coin) in tx.input.iter().zip(coins) {
        if let Some(why) = unwelcome(input, &coin.output.script_pubkey) {
            return Err(Reject::new(format!("non-mandatory-script-verify-flag ({why})")));
        }
    }
    Ok(())
}

fn unwelcome(input: &TxIn, script: &Script) -> Option<&'static str> {
    if script.is_p2tr() {
        // Schnorr signatures have one encoding only.
        return None;
    }
    if input.script_sig.instructions_minimal().any(|instruction| instruction.is_err()) {
        return Some(words::MINIMAL);
    }
    let redeem = redeem_script(input, script);
    let program = redeem.unwrap_or(script);
    if program.is_p2wpkh() && input.witness.nth(1).is_some_and(|key| key.len() != 33) {
        return Some(words::UNCOMPRESSED);
    }
    let mut candidates = pushes(&input.script_sig);
    candidates.extend(input.witness.iter());
    candidates.into_iter().find_map(|push| {
        let (hash_type, der) = push.split_last()?;
        let signature = ecdsa::Signature::from_der(der).ok()?;
        let mut low = signature;
        low.normalize_s();
        if !matches!(hash_type & !0x80, 1..=3) {
            Some(words::HASH_TYPE)
        } else if low != signature {
            Some(words::HIGH_S)
        } else {
            None
        }
    })
}

/// Why Core would say that this input's script failed.
fn why_failed(input: &TxIn, script: &Script) -> &'static str {
    if script.is_witness_program() && !input.script_sig.is_empty() {
        return words::WITNESS_MALLEATED;
    }
    if script.is_p2tr() {
        return why_taproot(input);
    }
    let redeem = redeem_script(input, script);
    let program = redeem.unwrap_or(script);
    if program.is_witness_program() && redeem.is_some() && pushes(&input.script_sig).len() != 1 {
        return words::WITNESS_MALLEATED_P2SH;
    }
    if program.is_p2wpkh() {
        let (Some(signature), Some(key), None) = (input.witness.nth(0), input.witness.nth(1), input.witness.nth(2))
        else {
            return words::WITNESS_MISMATCH;
        };
        let hash = WPubkeyHash::hash(key);
        return if program.as_bytes().ends_with(hash.as_byte_array()) {
            why_signature(signature)
        } else {
            words::EQUALVERIFY
        };
    }
    if program.is_p2wsh() {
        let Some(witness_script) = input.witness.last() else { return words::WITNESS_EMPTY };
        let hash = WScriptHash::hash(witness_script);
        if !program.as_bytes().ends_with(hash.as_byte_array()) {
            return words::WITNESS_MISMATCH;
        }
        return words::EVAL_FALSE;
    }
    if !input.witness.is_empty() {
        return words::WITNESS_UNEXPECTED;
    }
    if script.is_p2pkh() {
        let pushes = pushes(&input.script_sig);
        let [.., signature, key] = pushes.as_slice() else { return words::STACK };
        let hash = bitcoin::PubkeyHash::hash(key);
        return match script.as_bytes().get(3..23) {
            Some(expected) if expected == hash.as_byte_array() => why_signature(signature),
            _ => words::EQUALVERIFY,
        };
    }
    words::EVAL_FALSE
}

fn why_signature(signature: &[u8]) -> &'static str {
    match signature.split_last() {
        None => words::EVAL_FALSE,
        Some((_, der)) if ecdsa::Signature::from_der(der).is_err() => words::DER,
        Some(_) => words::NULLFAIL,
    }
}

fn why_taproot(input: &TxIn) -> &'static str {
    if input.witness.is_empty() {
        return words::WITNESS_EMPTY;
    }
    if input.witness.len() > 1 {
        // A script path; its control block is the only thing that is looked at.
        return words::WITNESS_MISMATCH;
    }
    match input.witness.nth(0) {
        Some(signature) if signature.len() == 64 => words::SCHNORR,
        Some([_, .., 1..=3 | 0x81..=0x83]) if input.witness.nth(0).is_some_and(|s| s.len() == 65) => words::SCHNORR,
        Some(signature) if signature.len() == 65 => words::SCHNORR_HASH_TYPE,
        _ => words::SCHNORR_SIZE,
    }
}

/// The script that a P2SH input reveals.
pub(super) fn redeem_script<'a>(input: &'a TxIn, script: &Script) -> Option<&'a Script> {
    if !script.is_p2sh() {
        return None;
    }
    match input.script_sig.instructions().last()? {
        Ok(Instruction::PushBytes(push)) => Some(Script::from_bytes(push.as_bytes())),
        _ => None,
    }
}

fn pushes(script: &Script) -> Vec<&[u8]> {
    script
        .instructions()
        .filter_map(|instruction| match instruction {
            Ok(Instruction::PushBytes(push)) => Some(push.as_bytes()),
            _ => None,
        })
        .collect()
}
