//! The two transaction types and their bytes: a PSBT (BIP-174, BIP-371) before signing, a network transaction after.

use std::collections::BTreeSet;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode;
use bitcoin::psbt::{self, Psbt};
use bitcoin::transaction::Version;
use bitcoin::{Amount as Sats, OutPoint, Transaction, TxOut, Witness, XOnlyPublicKey};

use super::address;
use super::build::SEQUENCE;
use crate::chain::DecodeError;
use crate::network::BitcoinNetwork;

/// A transaction to be signed: a PSBT that holds what signing needs and nothing else. Every value of this type has
/// passed the same checks, whether it was built here or read from bytes:
///
/// - version 2, sequences that signal replaceability, a lock time that is a height, no input twice;
/// - each P2WPKH input comes with its whole previous transaction, whose id and output are the input's, so that no
///   amount can be lied about; each P2TR input with the internal key that its script is made of (its signature commits
///   to the amounts of all inputs by itself, BIP-341);
/// - no signature, sighash type, key or unknown field besides;
/// - outputs and fee add up to the inputs, within 21 million bitcoin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    psbt: Psbt,
    spent: Vec<TxOut>,
    fee: Sats,
}

/// A transaction with all its signatures, each of them verified where it was assembled here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed(Transaction);

fn malformed(what: impl Into<String>) -> DecodeError {
    DecodeError::Malformed(what.into())
}

impl Unsigned {
    /// The transaction with what is known of its inputs, checked.
    pub(super) fn new(tx: Transaction, inputs: Vec<psbt::Input>) -> Result<Self, DecodeError> {
        let mut psbt = Psbt::from_unsigned_tx(tx).map_err(|e| malformed(e.to_string()))?;
        psbt.inputs = inputs;
        Self::check(psbt)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.psbt.serialize()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let psbt = Psbt::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
        let unsigned = Self::check(psbt)?;
        // One transaction has one spelling; this also finds a tail.
        if unsigned.encode() != bytes {
            return Err(malformed("the PSBT isn't in its canonical form, or has a tail"));
        }
        Ok(unsigned)
    }

    fn check(psbt: Psbt) -> Result<Self, DecodeError> {
        let tx = &psbt.unsigned_tx;
        check_transaction(tx)?;
        let plain = Psbt { inputs: psbt.inputs.clone(), ..Psbt::from_unsigned_tx(tx.clone()).map_err(psbt_error)? };
        if plain != psbt {
            return Err(malformed("the PSBT has fields of its own or of its outputs that signing doesn't need"));
        }
        if tx.input.len() != psbt.inputs.len() {
            return Err(malformed("the PSBT tells of more or fewer inputs than the transaction has"));
        }
        let pairs = tx.input.iter().zip(&psbt.inputs).enumerate();
        let spent = pairs
            .map(|(index, (txin, input))| check_input(index, txin.previous_output, input))
            .collect::<Result<Vec<_>, _>>()?;

        let paid = total(&tx.output).ok_or_else(|| malformed("the outputs are above 21 million bitcoin"))?;
        let funds = total(&spent).ok_or_else(|| malformed("the inputs are above 21 million bitcoin"))?;
        let fee = funds.checked_sub(paid).ok_or_else(|| malformed("the outputs are above the inputs"))?;
        Ok(Self { psbt, spent, fee })
    }

    /// The PSBT.
    pub fn psbt(&self) -> &Psbt {
        &self.psbt
    }

    /// The transaction without its signatures.
    pub fn transaction(&self) -> &Transaction {
        &self.psbt.unsigned_tx
    }

    /// The outputs that it spends, in the order of its inputs.
    pub fn spent(&self) -> &[TxOut] {
        &self.spent
    }

    /// What miners get.
    pub fn fee(&self) -> Sats {
        self.fee
    }
}

fn psbt_error(e: psbt::Error) -> DecodeError {
    malformed(e.to_string())
}

fn check_transaction(tx: &Transaction) -> Result<(), DecodeError> {
    if tx.version != Version::TWO {
        return Err(malformed(format!("version {}, not 2", tx.version)));
    }
    if tx.input.is_empty() || tx.output.is_empty() {
        return Err(malformed("a transaction without inputs or outputs"));
    }
    if tx.input.iter().any(|input| input.sequence != SEQUENCE) {
        return Err(malformed("a sequence other than 0xfffffffd"));
    }
    if !matches!(tx.lock_time, LockTime::Blocks(_)) {
        return Err(malformed("a lock time that is no height"));
    }
    let outpoints: BTreeSet<OutPoint> = tx.input.iter().map(|input| input.previous_output).collect();
    if outpoints.len() != tx.input.len() {
        return Err(malformed("an input twice"));
    }
    Ok(())
}

/// What the input spends, proven as far as its kind of signature needs it.
fn check_input(index: usize, outpoint: OutPoint, input: &psbt::Input) -> Result<TxOut, DecodeError> {
    if input.final_script_sig.is_some() || input.final_script_witness.is_some() {
        return Err(malformed(format!("input {index} is finalised already")));
    }
    if input.sighash_type.is_some() {
        return Err(malformed(format!("input {index} names a sighash type; only the default is signed")));
    }
    let Some(txout) = &input.witness_utxo else {
        return Err(malformed(format!("input {index} doesn't say what it spends")));
    };
    let expected = if txout.script_pubkey.is_p2wpkh() {
        let previous = input.non_witness_utxo.as_ref();
        let previous = previous.ok_or_else(|| malformed(format!("input {index} lacks its previous transaction")))?;
        if previous.compute_txid() != outpoint.txid {
            return Err(malformed(format!("input {index} comes with another transaction than it spends")));
        }
        let output = usize::try_from(outpoint.vout).ok().and_then(|vout| previous.output.get(vout));
        if output != Some(txout) {
            return Err(malformed(format!("input {index} lies about the output that it spends")));
        }
        p2wpkh_input(txout.clone(), previous)
    } else if txout.script_pubkey.is_p2tr() {
        let internal = input.tap_internal_key;
        let internal = internal.ok_or_else(|| malformed(format!("input {index} lacks its internal key")))?;
        // The script is the same on every network.
        if address::p2tr(internal, BitcoinNetwork::Bitcoin).script_pubkey() != txout.script_pubkey {
            return Err(malformed(format!("input {index} isn't locked to its internal key alone")));
        }
        p2tr_input(txout.clone(), internal)
    } else {
        return Err(DecodeError::Undecodable(format!("input {index} is neither P2WPKH nor P2TR")));
    };
    if *input != expected {
        return Err(malformed(format!("input {index} has fields that signing doesn't need")));
    }
    Ok(txout.clone())
}

/// What a PSBT tells of a P2WPKH input. The previous transaction goes without its witnesses: its id doesn't commit to
/// them, so nodes may disagree on them, and nobody here needs them.
pub(super) fn p2wpkh_input(txout: TxOut, previous: &Transaction) -> psbt::Input {
    let mut previous = previous.clone();
    for input in &mut previous.input {
        input.witness = Witness::new();
    }
    psbt::Input { witness_utxo: Some(txout), non_witness_utxo: Some(previous), ..psbt::Input::default() }
}

/// What a PSBT tells of a P2TR input that is spent by key path.
pub(super) fn p2tr_input(txout: TxOut, internal: XOnlyPublicKey) -> psbt::Input {
    psbt::Input { witness_utxo: Some(txout), tap_internal_key: Some(internal), ..psbt::Input::default() }
}

/// The sum, or `None` above 21 million bitcoin.
fn total(outputs: &[TxOut]) -> Option<Sats> {
    let mut values = outputs.iter().map(|output| output.value);
    let sum = values.try_fold(Sats::ZERO, |sum, value| sum.checked_add(value));
    sum.filter(|sum| *sum <= Sats::MAX_MONEY)
}

impl Signed {
    pub(super) fn new(tx: Transaction) -> Self {
        Self(tx)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        encode::serialize(&self.0)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let tx: Transaction = encode::deserialize(bytes).map_err(|e| malformed(e.to_string()))?;
        if tx.input.is_empty() || tx.input.iter().any(|input| input.witness.is_empty()) {
            return Err(malformed("an input without a signature"));
        }
        Ok(Self(tx))
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.0
    }
}
