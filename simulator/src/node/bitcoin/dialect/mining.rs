//! Blocks on demand, the faucet, and what the node tells about itself.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Block, ScriptBuf, Transaction, Txid};
use serde_json::{Value, json};

use super::args::{Args, decode};
use super::blocks::difficulty_number;
use super::{Answer, code, descriptor};
use crate::node::bitcoin::amount::btc;
use crate::node::bitcoin::engine::Engine;
use crate::node::bitcoin::{BitcoinError, Node, script_of};
use crate::rpc::RpcError;

/// Most blocks that one call makes.
const MAX_BLOCKS: u32 = 10_000;
/// What the node calls itself.
const SUBVERSION: &str = "/Satoshi:28.0.0(portcullis-simulator)/";

pub(super) fn info(engine: &Engine, _: &Args<'_>) -> Answer {
    Ok(json!({
        "blocks": engine.chain().tip().height,
        "difficulty": difficulty_number(),
        "networkhashps": 0,
        "pooledtx": engine.mempool().len(),
        "chain": "regtest",
        "warnings": [],
    }))
}

/// The number of blocks asked for.
fn block_count(blocks: i64) -> Result<u32, RpcError> {
    let message = format!("nblocks must be between 0 and {MAX_BLOCKS}");
    let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks <= MAX_BLOCKS);
    blocks.ok_or_else(|| RpcError::new(code::INVALID_PARAMETER, message))
}

pub(super) fn generate_to_address(node: &Node, args: &Args<'_>) -> Answer {
    let blocks = block_count(args.integer(0)?)?;
    let to = script_of(args.text(1)?)?;
    Ok(json!(node.mine(blocks, Some(&to))?))
}

pub(super) fn generate_block(node: &Node, args: &Args<'_>) -> Answer {
    let output = args.text(0)?;
    let to: ScriptBuf = match script_of(output) {
        Ok(script) => script,
        Err(_) => descriptor::parse(output)
            .map_err(|_| RpcError::new(code::INVALID_ADDRESS_OR_KEY, "Error: Invalid address or descriptor"))?,
    };
    let submit = args.flag_or(2, true)?;
    let mut transactions = Vec::new();
    for item in args.list(1)? {
        let text = item.as_str().ok_or_else(|| RpcError::new(code::TYPE_ERROR, "transactions must be strings"))?;
        transactions.push(match text.parse::<Txid>() {
            Ok(txid) => {
                let waiting =
                    node.read(|engine| engine.mempool().get(&txid).map(|entry| Transaction::clone(&entry.tx)))?;
                waiting.ok_or_else(|| {
                    RpcError::new(code::INVALID_ADDRESS_OR_KEY, format!("Transaction {text} not in mempool."))
                })?
            }
            Err(_) => {
                let complaint =
                    format!("Transaction decode failed for {text}. Make sure the tx has at least one input.");
                decode(text, &complaint)?
            }
        });
    }
    let invalid = |error| match error {
        BitcoinError::Rejected(reject) => {
            RpcError::new(code::VERIFY_ERROR, format!("TestBlockValidity failed: {reject}"))
        }
        other => other.into(),
    };
    if submit {
        let hash = node.mine_exactly(to, transactions).map_err(invalid)?;
        return Ok(json!({ "hash": hash }));
    }
    let now = node.clock.unix_seconds();
    let block = node.read(|engine| {
        let block = engine.assemble(&engine.plan_exactly(to, now, transactions));
        engine.test(&block).map(|()| block).map_err(BitcoinError::Rejected)
    })?;
    let block = block.map_err(invalid)?;
    Ok(json!({ "hash": block.block_hash(), "hex": serialize_hex(&block) }))
}

pub(super) fn submit_block(node: &Node, args: &Args<'_>) -> Answer {
    let block: Block = decode(args.text(0)?, "Block decode failed")?;
    match node.submit_block(block) {
        Ok(true) => Ok(Value::Null),
        Ok(false) => Ok("inconclusive".into()),
        // What is wrong with a block is the result, not an error.
        Err(BitcoinError::Rejected(reject)) => Ok(reject.reason.into()),
        Err(other) => Err(other.into()),
    }
}

/// The connections to and from the node, as `(inbound, outbound)`: of two nodes the later one has called the earlier.
fn connections(node: &Node) -> (usize, usize) {
    let own = node.seat.id.index;
    let peers = node.peers();
    let inbound = peers.iter().filter(|peer| **peer > own).count();
    (inbound, peers.len().saturating_sub(inbound))
}

pub(super) fn connection_count(node: &Node, _: &Args<'_>) -> Answer {
    Ok(node.peers().len().into())
}

/// What is known of peers; what isn't (pings, traffic) is left out.
pub(super) fn peers(node: &Node, _: &Args<'_>) -> Answer {
    let own = node.seat.id.index;
    let height = node.read(|engine| engine.chain().tip().height)?;
    let shown = node.peers().into_iter().map(|peer| {
        let inbound = peer > own;
        json!({
            "id": peer.0,
            // Addresses of the simulated network: nobody listens there.
            "addr": format!("10.0.0.{}:18444", peer.0.saturating_add(1)),
            "addrbind": format!("10.0.0.{}:18444", own.0.saturating_add(1)),
            "network": "ipv4",
            "services": "0000000000000409",
            "servicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
            "relaytxes": true,
            "conntime": node.started,
            "timeoffset": 0,
            "version": 70_016,
            "subver": SUBVERSION,
            "inbound": inbound,
            "bip152_hb_to": false,
            "bip152_hb_from": false,
            "startingheight": height,
            "synced_headers": height,
            "synced_blocks": height,
            "inflight": [],
            "permissions": [],
            "minfeefilter": btc(0),
            "connection_type": if inbound { "inbound" } else { "outbound-full-relay" },
            "transport_protocol_type": "v2",
            "session_id": "",
        })
    });
    Ok(shown.collect())
}

/// The networks that bitcoind knows: the nodes' own is like IPv4.
fn networks() -> Value {
    let network = |name: &str| {
        let reachable = name == "ipv4";
        json!({
            "name": name,
            "limited": !reachable,
            "reachable": reachable,
            "proxy": "",
            "proxy_randomize_credentials": false,
        })
    };
    ["ipv4", "ipv6", "onion", "i2p", "cjdns"].into_iter().map(network).collect()
}

pub(super) fn network_info(node: &Node, _: &Args<'_>) -> Answer {
    let policy = node.read(|engine| *engine.policy())?;
    let (inbound, outbound) = connections(node);
    Ok(json!({
        "version": 280_000,
        "subversion": SUBVERSION,
        "protocolversion": 70_016,
        "localservices": "0000000000000409",
        "localservicesnames": ["NETWORK", "WITNESS", "NETWORK_LIMITED"],
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": true,
        "connections": inbound.saturating_add(outbound),
        "connections_in": inbound,
        "connections_out": outbound,
        "networks": networks(),
        "relayfee": btc(policy.min_relay_fee),
        "incrementalfee": btc(policy.incremental_fee),
        "localaddresses": [],
        "warnings": [],
    }))
}

pub(super) fn uptime(node: &Node, _: &Args<'_>) -> Answer {
    Ok(node.clock.unix_seconds().saturating_sub(node.started).into())
}

pub(super) fn sim_mine(node: &Node, args: &Args<'_>) -> Answer {
    let blocks = block_count(args.opt_integer(0)?.unwrap_or(1))?;
    Ok(json!(node.mine(blocks, None)?))
}

/// Pays an address from the faucet and confirms it. The amount is in satoshis, a number or a decimal string.
pub(super) fn sim_fund(node: &Node, args: &Args<'_>) -> Answer {
    let sats = match args.get(1) {
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64(),
        _ => None,
    };
    let sats: u64 = sats
        .filter(|sats| *sats <= Amount::MAX_MONEY.to_sat())
        .ok_or_else(|| RpcError::new(code::INVALID_PARAMETER, "sats must be a whole number of satoshis"))?;
    Ok(json!(node.fund(args.text(0)?, Amount::from_sat(sats))?))
}
