//! Transactions: shown, found, sent and tried.

use std::sync::Arc;

use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::{BlockHash, OutPoint, Transaction, TxIn, Txid};
use serde_json::{Map, Value, json};

use super::args::{Args, decode as decode_hex};
use super::blocks::confirmations;
use super::scripts::{asm, output_script};
use super::{Answer, code};
use crate::node::bitcoin::Node;
use crate::node::bitcoin::amount::btc;
use crate::node::bitcoin::engine::Engine;
use crate::node::bitcoin::mempool::Candidate;
use crate::node::bitcoin::reject::{Reject, RejectKind};
use crate::node::bitcoin::rules::Coin;
use crate::rpc::RpcError;

/// Highest fee rate accepted where none is given, in satoshis per 1000 virtual bytes: 0.10 BTC.
const DEFAULT_MAX_FEE_RATE: u64 = 10_000_000;
/// The fee rate from which on a limit is taken for a mistake: 1 BTC per 1000 virtual bytes.
const ABSURD_FEE_RATE: u64 = 100_000_000;
/// Most transactions tried at once.
const MAX_PACKAGE: usize = 25;

/// How much is shown of a transaction whose coins are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing of the coins.
    Plain,
    /// The fee.
    Fee,
    /// The fee, and the coin that each input spends.
    Prevouts,
}

/// A transaction as bitcoind shows it (Core: `TxToUniv`).
pub(super) fn transaction(tx: &Transaction, coins: Option<&[Coin]>, detail: Detail) -> Map<String, Value> {
    let raw = serialize(tx);
    let mut object = Map::new();
    object.insert("txid".into(), json!(tx.compute_txid()));
    object.insert("hash".into(), json!(tx.compute_wtxid()));
    object.insert("version".into(), tx.version.0.cast_unsigned().into());
    object.insert("size".into(), raw.len().into());
    object.insert("vsize".into(), tx.vsize().into());
    object.insert("weight".into(), tx.weight().to_wu().into());
    object.insert("locktime".into(), tx.lock_time.to_consensus_u32().into());
    let coin = |index: usize| coins?.get(index).filter(|_| detail == Detail::Prevouts);
    let inputs = tx.input.iter().enumerate();
    object.insert("vin".into(), inputs.map(|(index, input)| self::input(tx, input, coin(index))).collect());
    let outputs = tx.output.iter().enumerate().map(|(n, output)| {
        json!({ "value": btc(output.value.to_sat()), "n": n, "scriptPubKey": output_script(&output.script_pubkey) })
    });
    object.insert("vout".into(), outputs.collect());
    if let Some(coins) = coins.filter(|_| detail != Detail::Plain) {
        let spent = coins.iter().fold(0_u64, |sum, coin| sum.saturating_add(coin.output.value.to_sat()));
        let paid = tx.output.iter().fold(0_u64, |sum, output| sum.saturating_add(output.value.to_sat()));
        object.insert("fee".into(), btc(spent.saturating_sub(paid)));
    }
    object.insert("hex".into(), hex::encode(raw).into());
    object
}

fn input(tx: &Transaction, input: &TxIn, coin: Option<&Coin>) -> Value {
    let mut object = Map::new();
    if tx.is_coinbase() {
        object.insert("coinbase".into(), input.script_sig.to_hex_string().into());
    } else {
        object.insert("txid".into(), json!(input.previous_output.txid));
        object.insert("vout".into(), input.previous_output.vout.into());
        let script = json!({ "asm": asm(&input.script_sig, true), "hex": input.script_sig.to_hex_string() });
        object.insert("scriptSig".into(), script);
    }
    if !input.witness.is_empty() {
        object.insert("txinwitness".into(), input.witness.iter().map(hex::encode).collect());
    }
    if let Some(coin) = coin {
        let prevout = json!({
            "generated": coin.coinbase,
            "height": coin.height,
            "value": btc(coin.output.value.to_sat()),
            "scriptPubKey": output_script(&coin.output.script_pubkey),
        });
        object.insert("prevout".into(), prevout);
    }
    object.insert("sequence".into(), input.sequence.0.into());
    Value::Object(object)
}

pub(super) fn decode(_: &Engine, args: &Args<'_>) -> Answer {
    let tx: Transaction = decode_hex(args.text(0)?, "TX decode failed")?;
    let mut object = transaction(&tx, None, Detail::Plain);
    object.remove("hex");
    Ok(Value::Object(object))
}

pub(super) fn get(engine: &Engine, args: &Args<'_>) -> Answer {
    let txid: Txid = args.hash(0)?;
    let verbosity = args.verbosity_or(1, 0)?;
    let (chain, mempool) = (engine.chain(), engine.mempool());
    let not_found = |message: &str| {
        RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("{message}. Use gettransaction for wallet transactions."))
    };
    if chain.at(0).is_some_and(|genesis| genesis.txids.contains(&txid)) {
        let message = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved";
        return Err(RpcError::new(code::INVALID_ADDRESS_OR_KEY, message));
    }

    let given: Option<BlockHash> = args.opt_hash(2)?;
    let place = match given {
        Some(hash) => {
            let known = chain.get(&hash);
            let known = known.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block hash not found"))?;
            let index = known.txids.iter().position(|other| *other == txid);
            Some((known, index.ok_or_else(|| not_found("No such transaction found in the provided block"))?))
        }
        None => chain.position(&txid),
    };
    let tx = match place {
        Some((known, index)) => known.block.txdata.get(index),
        None => mempool.get(&txid).map(|entry| &*entry.tx),
    };
    let tx = tx.ok_or_else(|| not_found("No such mempool or blockchain transaction"))?;
    if verbosity <= 0 {
        return Ok(serialize_hex(tx).into());
    }

    // What a transaction spends is kept with its block, so bitcoind doesn't tell it of one that waits.
    let coins = place.and_then(|(known, index)| known.spent.as_ref()?.get(index.checked_sub(1)?).cloned());
    let detail = if verbosity == 1 || place.is_none() { Detail::Plain } else { Detail::Prevouts };
    let mut object = transaction(tx, coins.as_deref(), detail);
    if let Some((known, _)) = place {
        if given.is_some() {
            object.insert("in_active_chain".into(), chain.is_active(known).into());
        }
        object.insert("blockhash".into(), json!(known.hash));
        if chain.is_active(known) {
            object.insert("confirmations".into(), confirmations(chain, known).into());
            object.insert("time".into(), known.block.header.time.into());
            object.insert("blocktime".into(), known.block.header.time.into());
        } else {
            object.insert("confirmations".into(), 0.into());
        }
    }
    Ok(Value::Object(object))
}

/// The highest fee rate that the caller accepts, in satoshis per 1000 virtual bytes. `None`: any.
fn max_fee_rate(args: &Args<'_>, index: usize) -> Result<Option<u64>, RpcError> {
    let rate = args.opt_btc(index)?.unwrap_or(DEFAULT_MAX_FEE_RATE);
    if rate >= ABSURD_FEE_RATE {
        let message = "Fee rates larger than or equal to 1BTC/kvB are not accepted";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    Ok(Some(rate).filter(|rate| *rate > 0))
}

pub(super) fn send(node: &Node, args: &Args<'_>) -> Answer {
    let complaint = "TX decode failed. Make sure the tx has at least one input.";
    let tx: Transaction = decode_hex(args.text(0)?, complaint)?;
    let max_rate = max_fee_rate(args, 1)?;
    let max_burn = args.opt_btc(2)?.unwrap_or(0);
    let burns = |output: &bitcoin::TxOut| output.script_pubkey.is_op_return() && output.value.to_sat() > max_burn;
    if tx.output.iter().any(burns) {
        let message = "Unspendable output exceeds maximum configured by user (maxburnamount)";
        return Err(RpcError::new(code::VERIFY_ERROR, message));
    }
    let txid = tx.compute_txid();
    let (confirmed, waiting) = node.read(|engine| {
        let mut outputs = (0_u32..).zip(&tx.output);
        let confirmed = outputs.any(|(vout, _)| engine.chain().coin(&OutPoint::new(txid, vout)).is_some());
        (confirmed, engine.mempool().get(&txid).is_some())
    })?;
    if confirmed {
        return Err(RpcError::new(code::VERIFY_ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set"));
    }
    // Sending what waits already is no error: bitcoind announces it again.
    if !waiting {
        node.submit(tx, max_rate)?;
    }
    Ok(json!(txid))
}

/// The answer to a transaction that is accepted, without a look at it.
pub(super) fn pretend(args: &Args<'_>) -> Answer {
    let tx: Transaction = decode_hex(args.text(0)?, "TX decode failed. Make sure the tx has at least one input.")?;
    Ok(json!(tx.compute_txid()))
}

pub(super) fn test(node: &Node, args: &Args<'_>) -> Answer {
    let list = args.list(0)?;
    if list.is_empty() || list.len() > MAX_PACKAGE {
        let message = format!("Array must contain between 1 and {MAX_PACKAGE} transactions.");
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    let max_rate = max_fee_rate(args, 1)?;
    let mut transactions = Vec::with_capacity(list.len());
    for raw in list {
        let raw = raw.as_str().ok_or_else(|| RpcError::new(code::TYPE_ERROR, "rawtxs must be strings"))?;
        let complaint = format!("TX decode failed: {raw} Make sure the tx has at least one input.");
        transactions.push(Arc::new(decode_hex::<Transaction>(raw, &complaint)?));
    }
    let now = node.clock.unix_seconds();
    let results = node.read(|engine| match transactions.as_slice() {
        [tx] => vec![engine.check(Arc::clone(tx), now)],
        _ => engine.check_all(transactions.clone(), now),
    })?;
    Ok(transactions.iter().zip(results).map(|(tx, result)| verdict(tx, result, max_rate)).collect())
}

fn verdict(tx: &Transaction, result: Result<Candidate, Reject>, max_rate: Option<u64>) -> Value {
    let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
    let refused = |reason: &str| json!({ "txid": txid, "wtxid": wtxid, "allowed": false, "reject-reason": reason });
    match result {
        Ok(candidate) if max_rate.is_some_and(|rate| candidate.pays_more_than(rate)) => refused("max-fee-exceeded"),
        Ok(candidate) => {
            let entry = &candidate.entry;
            let rate = entry.fee.saturating_mul(1000).checked_div(entry.vsize).unwrap_or(0);
            json!({
                "txid": txid,
                "wtxid": wtxid,
                "allowed": true,
                "vsize": entry.vsize,
                "fees": {
                    "base": btc(entry.fee),
                    "effective-feerate": btc(rate),
                    "effective-includes": [wtxid],
                },
            })
        }
        Err(reject) if reject.kind == RejectKind::MissingInputs => refused("missing-inputs"),
        Err(reject) => refused(&reject.reason),
    }
}
