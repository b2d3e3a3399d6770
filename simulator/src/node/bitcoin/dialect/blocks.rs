//! Blocks, the chain and its coins.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, OutPoint, Txid};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::scripts::output_script;
use super::transactions::{Detail, transaction};
use super::{Answer, code};
use crate::node::bitcoin::Node;
use crate::node::bitcoin::amount::{btc, decimal};
use crate::node::bitcoin::chain::{Chain, Known};
use crate::node::bitcoin::engine::Engine;
use crate::rpc::RpcError;

/// Regtest's difficulty, as bitcoind writes it.
const DIFFICULTY: &str = "4.656542373906925e-10";

pub(super) fn difficulty_number() -> Value {
    decimal(DIFFICULTY)
}

/// The block that a parameter names.
fn named<'a>(chain: &'a Chain, args: &Args<'_>, index: usize) -> Result<&'a Known, RpcError> {
    let hash: BlockHash = args.hash(index)?;
    chain.get(&hash).ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Block not found"))
}

/// Blocks from this one to the tip, both included; -1 off the active branch.
pub(super) fn confirmations(chain: &Chain, known: &Known) -> i64 {
    if !chain.is_active(known) {
        return -1;
    }
    i64::from(chain.tip().height.saturating_sub(known.height)).saturating_add(1)
}

/// All work up to a height. On regtest each block adds two hashes' work.
fn chain_work(height: u32) -> String {
    format!("{:064x}", u64::from(height).saturating_add(1).saturating_mul(2))
}

pub(super) fn best_hash(engine: &Engine, _: &Args<'_>) -> Answer {
    Ok(json!(engine.chain().tip().hash))
}

pub(super) fn count(engine: &Engine, _: &Args<'_>) -> Answer {
    Ok(engine.chain().tip().height.into())
}

pub(super) fn difficulty(_: &Engine, _: &Args<'_>) -> Answer {
    Ok(difficulty_number())
}

pub(super) fn hash_at(engine: &Engine, args: &Args<'_>) -> Answer {
    let height = u32::try_from(args.integer(0)?).ok();
    match height.and_then(|height| engine.chain().at(height)) {
        Some(known) => Ok(json!(known.hash)),
        None => Err(RpcError::new(code::INVALID_PARAMETER, "Block height out of range")),
    }
}

pub(super) fn chain_info(engine: &Engine, _: &Args<'_>) -> Answer {
    let chain = engine.chain();
    let tip = chain.tip();
    Ok(json!({
        "chain": "regtest",
        "blocks": tip.height,
        "headers": tip.height,
        "bestblockhash": tip.hash,
        "difficulty": difficulty_number(),
        "time": tip.block.header.time,
        "mediantime": chain.median_time(&tip.hash),
        "verificationprogress": 1,
        "initialblockdownload": false,
        "chainwork": chain_work(tip.height),
        "size_on_disk": chain.bytes(),
        "pruned": false,
        "warnings": [],
    }))
}

fn header_object(chain: &Chain, known: &Known) -> Map<String, Value> {
    let header = &known.block.header;
    let mut object = Map::new();
    let version = header.version.to_consensus();
    object.insert("hash".into(), json!(known.hash));
    object.insert("confirmations".into(), confirmations(chain, known).into());
    object.insert("height".into(), known.height.into());
    object.insert("version".into(), version.into());
    object.insert("versionHex".into(), format!("{version:08x}").into());
    object.insert("merkleroot".into(), json!(header.merkle_root));
    object.insert("time".into(), header.time.into());
    object.insert("mediantime".into(), chain.median_time(&known.hash).into());
    object.insert("nonce".into(), header.nonce.into());
    object.insert("bits".into(), format!("{:08x}", header.bits.to_consensus()).into());
    object.insert("difficulty".into(), difficulty_number());
    object.insert("chainwork".into(), chain_work(known.height).into());
    object.insert("nTx".into(), known.txids.len().into());
    if known.height > 0 {
        object.insert("previousblockhash".into(), json!(header.prev_blockhash));
    }
    if let Some(next) = chain.at(known.height.saturating_add(1)).filter(|_| chain.is_active(known)) {
        object.insert("nextblockhash".into(), json!(next.hash));
    }
    object
}

pub(super) fn header(engine: &Engine, args: &Args<'_>) -> Answer {
    let known = named(engine.chain(), args, 0)?;
    if args.flag_or(1, true)? {
        Ok(Value::Object(header_object(engine.chain(), known)))
    } else {
        Ok(serialize_hex(&known.block.header).into())
    }
}

pub(super) fn block(engine: &Engine, args: &Args<'_>) -> Answer {
    let chain = engine.chain();
    let known = named(chain, args, 0)?;
    let verbosity = args.verbosity_or(1, 1)?;
    if verbosity <= 0 {
        return Ok(serialize_hex(&*known.block).into());
    }
    let mut object = header_object(chain, known);
    let weight = known.block.weight().to_wu();
    let size = u64::try_from(known.block.total_size()).unwrap_or(u64::MAX);
    object.insert("size".into(), size.into());
    // Weight is three times the stripped size and once the whole (BIP-141).
    object.insert("strippedsize".into(), (weight.saturating_sub(size) / 3).into());
    object.insert("weight".into(), weight.into());
    let transactions: Vec<Value> = if verbosity == 1 {
        known.txids.iter().map(|txid| json!(txid)).collect()
    } else {
        let detail = if verbosity == 2 { Detail::Fee } else { Detail::Prevouts };
        let spent = known.spent.iter().flatten().map(|coins| Some(coins.as_slice()));
        let coins = std::iter::once(None).chain(spent).chain(std::iter::repeat(None));
        let shown = known.block.txdata.iter().zip(coins);
        shown.map(|(tx, coins)| Value::Object(transaction(tx, coins, detail))).collect()
    };
    object.insert("tx".into(), transactions.into());
    Ok(Value::Object(object))
}

pub(super) fn tips(engine: &Engine, _: &Args<'_>) -> Answer {
    let tips = engine.tips();
    let shown = tips.iter().map(
        |tip| json!({ "height": tip.height, "hash": tip.hash, "branchlen": tip.branch_length, "status": tip.status }),
    );
    Ok(shown.collect())
}

pub(super) fn unspent_output(engine: &Engine, args: &Args<'_>) -> Answer {
    let txid: Txid = args.hash(0)?;
    let Ok(vout) = u32::try_from(args.integer(1)?) else { return Ok(Value::Null) };
    let (chain, mempool) = (engine.chain(), engine.mempool());
    let outpoint = OutPoint::new(txid, vout);
    let with_mempool = args.flag_or(2, true)?;
    if with_mempool && mempool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    let tip = chain.tip();
    let confirmed = chain.coin(&outpoint).cloned();
    let coin = confirmed.or_else(|| mempool.coin(&outpoint, chain.next_height()).filter(|_| with_mempool));
    let Some(coin) = coin else { return Ok(Value::Null) };
    Ok(json!({
        "bestblock": tip.hash,
        // A coin of the mempool has the height of the next block.
        "confirmations": tip.height.saturating_add(1).saturating_sub(coin.height),
        "value": btc(coin.output.value.to_sat()),
        "scriptPubKey": output_script(&coin.output.script_pubkey),
        "coinbase": coin.coinbase,
    }))
}

pub(super) fn invalidate(node: &Node, args: &Args<'_>) -> Answer {
    node.invalidate(args.hash(0)?)?;
    Ok(Value::Null)
}

pub(super) fn reconsider(node: &Node, args: &Args<'_>) -> Answer {
    node.reconsider(args.hash(0)?)?;
    Ok(Value::Null)
}
