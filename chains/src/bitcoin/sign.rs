//! What exactly is signed, and the signed transaction: BIP-143 for P2WPKH, BIP-341's key path for P2TR.

use std::borrow::Borrow;

use bitcoin::hashes::Hash;
use bitcoin::key::{TapTweak, TweakedPublicKey};
use bitcoin::secp256k1::{self, Secp256k1, Verification};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{
    CompressedPublicKey, EcdsaSighashType, TapSighashType, Transaction, TxOut, Witness, XOnlyPublicKey, ecdsa, taproot,
};

use super::address::OwnerKey;
use super::effects::spender;
use super::wire::{Signed, Unsigned};
use crate::account::Account;
use crate::chain::{AssembleError, DecodeError};
use crate::network::BitcoinNetwork;
use crate::payload::{Message, Payload, Signature};

/// One payload for each input, in the order of the inputs.
pub(super) fn payloads(
    network: BitcoinNetwork,
    account: &Account,
    unsigned: &Unsigned,
) -> Result<Vec<Payload>, DecodeError> {
    spender(network, account, unsigned)?;
    let messages = messages(unsigned)?;
    Ok(messages.into_iter().map(|message| Payload::new(account.path().clone(), message)).collect())
}

/// Puts a signature on each input. Every one is verified first.
pub(super) fn assemble(
    network: BitcoinNetwork,
    account: &Account,
    unsigned: &Unsigned,
    signatures: &[Signature],
) -> Result<Signed, AssembleError> {
    let owner = spender(network, account, unsigned)?;
    let messages = messages(unsigned)?;
    if messages.len() != signatures.len() {
        return Err(AssembleError::Count { expected: messages.len(), found: signatures.len() });
    }
    let secp = Secp256k1::verification_only();
    let mut tx = unsigned.transaction().clone();
    let inputs = tx.input.iter_mut().zip(messages.iter().zip(signatures));
    for (index, (input, (message, signature))) in inputs.enumerate() {
        let witness = match owner.key {
            OwnerKey::P2wpkh(key) => p2wpkh_witness(&secp, &key, message, signature),
            OwnerKey::P2tr(internal) => {
                let (output_key, _) = internal.tap_tweak(&secp, None);
                p2tr_witness(&secp, output_key, message, signature)
            }
        };
        input.witness = witness.ok_or(AssembleError::Invalid(index))?;
    }
    Ok(Signed::new(tx))
}

fn messages(unsigned: &Unsigned) -> Result<Vec<Message>, DecodeError> {
    let mut cache = SighashCache::new(unsigned.transaction());
    (0..unsigned.spent().len()).map(|index| message(&mut cache, unsigned.spent(), index)).collect()
}

/// The hash that the signature of input `index` commits to: with sighash type `ALL` for P2WPKH, `DEFAULT` (the same
/// meaning, one byte less) for P2TR.
fn message<T: Borrow<Transaction>>(
    cache: &mut SighashCache<T>,
    spent: &[TxOut],
    index: usize,
) -> Result<Message, DecodeError> {
    let output = spent.get(index).ok_or_else(|| DecodeError::Malformed(format!("input {index} spends nothing")))?;
    let script = &output.script_pubkey;
    if script.is_p2wpkh() {
        let hash = cache.p2wpkh_signature_hash(index, script, output.value, EcdsaSighashType::All);
        hash.map(|hash| Message::Ecdsa(hash.to_byte_array())).map_err(|e| DecodeError::Malformed(e.to_string()))
    } else if script.is_p2tr() {
        let all = Prevouts::All(spent);
        let hash = cache.taproot_key_spend_signature_hash(index, &all, TapSighashType::Default);
        hash.map(|hash| Message::Taproot(hash.to_byte_array())).map_err(|e| DecodeError::Malformed(e.to_string()))
    } else {
        Err(DecodeError::Undecodable(format!("input {index} is neither P2WPKH nor P2TR")))
    }
}

/// `None` where the signature is of another kind, has a high S (BIP-146), or doesn't verify.
fn p2wpkh_witness<C: Verification>(
    secp: &Secp256k1<C>,
    key: &CompressedPublicKey,
    message: &Message,
    signature: &Signature,
) -> Option<Witness> {
    let (Message::Ecdsa(hash), Signature::Ecdsa { rs, .. }) = (message, signature) else {
        return None;
    };
    let signature = secp256k1::ecdsa::Signature::from_compact(rs).ok()?;
    // libsecp256k1 verifies low S only.
    secp.verify_ecdsa(&secp256k1::Message::from_digest(*hash), &signature, &key.0).ok()?;
    Some(Witness::p2wpkh(&ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All }, &key.0))
}

/// `None` where the signature is of another kind or doesn't verify under the tweaked output key.
fn p2tr_witness<C: Verification>(
    secp: &Secp256k1<C>,
    output_key: TweakedPublicKey,
    message: &Message,
    signature: &Signature,
) -> Option<Witness> {
    let (Message::Taproot(hash), Signature::Schnorr(rs)) = (message, signature) else {
        return None;
    };
    let signature = secp256k1::schnorr::Signature::from_slice(rs).ok()?;
    let output_key: XOnlyPublicKey = output_key.to_x_only_public_key();
    secp.verify_schnorr(&signature, &secp256k1::Message::from_digest(*hash), &output_key).ok()?;
    Some(Witness::p2tr_key_spend(&taproot::Signature { signature, sighash_type: TapSighashType::Default }))
}

#[cfg(test)]
mod tests;
