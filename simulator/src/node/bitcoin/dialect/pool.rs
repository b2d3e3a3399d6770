//! The mempool, and fee estimates from what blocks took out of it.

use bitcoin::Txid;
use serde_json::{Map, Value, json};

use super::args::Args;
use super::{Answer, code};
use crate::node::bitcoin::amount::btc;
use crate::node::bitcoin::chain::Chain;
use crate::node::bitcoin::engine::Engine;
use crate::node::bitcoin::mempool::{Entry, Mempool};
use crate::rpc::RpcError;

/// Blocks that a fee estimate looks back at, at least.
const ESTIMATE_WINDOW: u32 = 6;
/// Transactions that a fee estimate needs.
const ESTIMATE_SAMPLES: usize = 10;

pub(super) fn content(engine: &Engine, args: &Args<'_>) -> Answer {
    let mempool = engine.mempool();
    match (args.flag_or(0, false)?, args.flag_or(1, false)?) {
        (true, true) => {
            Err(RpcError::new(code::INVALID_PARAMETER, "Verbose results cannot contain mempool sequence values."))
        }
        (true, false) => {
            let shown = mempool.entries().map(|entry| (entry.txid.to_string(), shown(mempool, entry)));
            Ok(Value::Object(shown.collect()))
        }
        (false, true) => Ok(json!({ "txids": txids(mempool), "mempool_sequence": mempool.sequence() })),
        (false, false) => Ok(json!(txids(mempool))),
    }
}

fn txids(mempool: &Mempool) -> Vec<Txid> {
    mempool.entries().map(|entry| entry.txid).collect()
}

pub(super) fn entry(engine: &Engine, args: &Args<'_>) -> Answer {
    let txid: Txid = args.hash(0)?;
    let mempool = engine.mempool();
    let entry = mempool.get(&txid);
    let entry = entry.ok_or_else(|| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool"))?;
    Ok(shown(mempool, entry))
}

fn shown(mempool: &Mempool, entry: &Entry) -> Value {
    let ancestors = mempool.ancestors(&entry.parents);
    let replaceable = entry.signals_replacement()
        || ancestors.iter().filter_map(|txid| mempool.get(txid)).any(Entry::signals_replacement);
    let above = mempool.totals(ancestors.iter().chain([&entry.txid]));
    let below = mempool.totals(&mempool.descendants(&entry.txid));
    json!({
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "descendantcount": below.count,
        "descendantsize": below.vsize,
        "ancestorcount": above.count,
        "ancestorsize": above.vsize,
        "wtxid": entry.wtxid,
        "fees": {
            "base": btc(entry.fee),
            "modified": btc(entry.fee),
            "ancestor": btc(above.fees),
            "descendant": btc(below.fees),
        },
        "depends": entry.parents,
        "spentby": entry.children,
        "bip125-replaceable": replaceable,
        "unbroadcast": false,
    })
}

pub(super) fn info(engine: &Engine, _: &Args<'_>) -> Answer {
    let (mempool, policy) = (engine.mempool(), engine.policy());
    let sum = |of: fn(&Entry) -> u64| mempool.entries().fold(0_u64, |sum, entry| sum.saturating_add(of(entry)));
    Ok(json!({
        "loaded": true,
        "size": mempool.len(),
        "bytes": sum(|entry| entry.vsize),
        "usage": sum(|entry| entry.weight),
        "total_fee": btc(sum(|entry| entry.fee)),
        "maxmempool": 300_000_000,
        "mempoolminfee": btc(engine.min_fee_rate()),
        "minrelaytxfee": btc(policy.min_relay_fee),
        "incrementalrelayfee": btc(policy.incremental_fee),
        "unbroadcastcount": 0,
        "fullrbf": policy.full_rbf,
    }))
}

/// The median fee rate of what the latest blocks confirmed: simpler than bitcoind's estimator, and like it without an answer until it has
/// seen enough.
pub(super) fn estimate_fee(engine: &Engine, args: &Args<'_>) -> Answer {
    let target = match u32::try_from(args.integer(0)?) {
        Ok(target @ 1..=1008) => target,
        _ => {
            let message = "Invalid conf_target, must be between 1 and 1008";
            return Err(RpcError::new(code::INVALID_PARAMETER, message));
        }
    };
    if let Some(mode) = args.opt_text(1)?
        && !["unset", "economical", "conservative"].contains(&mode.to_ascii_lowercase().as_str())
    {
        let message = "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
        return Err(RpcError::new(code::INVALID_PARAMETER, message));
    }
    // Core never answers for the very next block.
    let blocks = target.max(2);
    let mut object = Map::new();
    let mut rates = confirmed_rates(engine.chain(), blocks.max(ESTIMATE_WINDOW));
    rates.sort_unstable();
    let median = rates.get(rates.len() / 2).copied().filter(|_| rates.len() >= ESTIMATE_SAMPLES);
    match median.or_else(|| engine.is_dear().then(|| engine.min_fee_rate())) {
        Some(rate) => object.insert("feerate".into(), btc(rate.max(engine.min_fee_rate()))),
        None => object.insert("errors".into(), json!(["Insufficient data or no feerate found"])),
    };
    // Core tells the target that it could answer for: none while it can't.
    object.insert("blocks".into(), if object.contains_key("feerate") { blocks } else { 0 }.into());
    Ok(Value::Object(object))
}

/// Fee rates of the transactions in the latest blocks, in satoshis per 1000 virtual bytes.
fn confirmed_rates(chain: &Chain, blocks: u32) -> Vec<u64> {
    let tip = chain.tip().height;
    let mut rates = Vec::new();
    for known in (tip.saturating_sub(blocks)..=tip).filter_map(|height| chain.at(height)) {
        let transactions = known.block.txdata.iter().skip(1);
        for (tx, coins) in transactions.zip(known.spent.iter().flatten()) {
            let spent = coins.iter().fold(0_u64, |sum, coin| sum.saturating_add(coin.output.value.to_sat()));
            let paid = tx.output.iter().fold(0_u64, |sum, output| sum.saturating_add(output.value.to_sat()));
            let vsize = u64::try_from(tx.vsize()).unwrap_or(u64::MAX);
            rates.push(spent.saturating_sub(paid).saturating_mul(1000).checked_div(vsize).unwrap_or(0));
        }
    }
    rates
}
