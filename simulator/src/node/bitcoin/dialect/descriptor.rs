//! Output descriptors (BIP-380, BIP-385), as far as `scantxoutset` and the `desc` fields need them: `addr()` and `raw()`.

use std::collections::BTreeSet;
use std::str::FromStr;

use bitcoin::script::Instruction;
use bitcoin::{Address, Network, Script, ScriptBuf};
use serde_json::{Value, json};

use super::args::Args;
use super::{Answer, code};
use crate::node::bitcoin::amount::btc;
use crate::node::bitcoin::engine::Engine;
use crate::node::bitcoin::policy::OutputType;
use crate::rpc::RpcError;

const INPUT_CHARSET: &[u8] =
    b"0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ";
const CHECKSUM_CHARSET: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u64; 5] = [0xf5_dee5_1989, 0xa9_fdca_3312, 0x1b_ab10_e32d, 0x37_06b1_677a, 0x64_4d62_6ffd];

/// The descriptor that bitcoind infers for a script of which it knows no more.
pub(super) fn of(script: &Script) -> String {
    let bytes = script.as_bytes();
    let kind = OutputType::of(script);
    let key = |from: usize, to: usize| hex::encode(bytes.get(from..to).unwrap_or_default());
    let body = match kind {
        OutputType::PubKey => format!("pk({})", key(1, bytes.len().saturating_sub(1))),
        OutputType::MultiSig(_) => multisig(script).unwrap_or_else(|| format!("raw({})", script.to_hex_string())),
        OutputType::WitnessV1Taproot => format!("rawtr({})", key(2, bytes.len())),
        _ => match Address::from_script(script, Network::Regtest) {
            Ok(address) => format!("addr({address})"),
            Err(_) => format!("raw({})", script.to_hex_string()),
        },
    };
    match checksum(&body) {
        Some(checksum) => format!("{body}#{checksum}"),
        None => body,
    }
}

/// Bare multisig by its keys (BIP-383). `None` where one of them can't be a key; that it is on the curve, bitcoind doesn't ask.
fn multisig(script: &Script) -> Option<String> {
    let required = script.as_bytes().first()?.checked_sub(0x50)?;
    let mut body = format!("multi({required}");
    for instruction in script.instructions() {
        if let Instruction::PushBytes(key) = instruction.ok()? {
            let key = key.as_bytes();
            matches!((key.first()?, key.len()), (2 | 3, 33) | (4, 65)).then_some(())?;
            body.push_str(&format!(",{}", hex::encode(key)));
        }
    }
    Some(body + ")")
}

/// A descriptor's checksum (BIP-380). `None` where it has a character that descriptors don't have.
fn checksum(body: &str) -> Option<String> {
    let mut symbols = Vec::new();
    let mut groups = Vec::new();
    for byte in body.bytes() {
        let position = u64::try_from(INPUT_CHARSET.iter().position(|known| *known == byte)?).ok()?;
        symbols.push(position & 31);
        groups.push(position >> 5);
        if let [a, b, c] = groups.as_slice() {
            symbols.push(a * 9 + b * 3 + c);
            groups.clear();
        }
    }
    match groups.as_slice() {
        [a] => symbols.push(*a),
        [a, b] => symbols.push(a * 3 + b),
        _ => {}
    }
    symbols.extend([0; 8]);
    let mut state: u64 = 1;
    for symbol in symbols {
        let top = state >> 35;
        state = ((state & 0x7_ffff_ffff) << 5) ^ symbol;
        for (bit, generator) in GENERATOR.iter().enumerate() {
            if (top >> bit) & 1 == 1 {
                state ^= generator;
            }
        }
    }
    state ^= 1;
    let digit = |place: u32| CHECKSUM_CHARSET.get(usize::try_from((state >> (5 * (7 - place))) & 31).ok()?);
    (0..8).map(|place| digit(place).copied().map(char::from)).collect()
}

/// The script that an `addr()` or `raw()` descriptor stands for.
pub(super) fn parse(descriptor: &str) -> Result<ScriptBuf, RpcError> {
    let invalid = |message: String| RpcError::new(code::INVALID_ADDRESS_OR_KEY, message);
    let (body, given) = match descriptor.split_once('#') {
        Some((body, given)) => (body, Some(given)),
        None => (descriptor, None),
    };
    let computed = checksum(body).ok_or_else(|| invalid("Invalid characters in payload".into()))?;
    if let Some(given) = given.filter(|given| *given != computed) {
        return Err(invalid(format!("Provided checksum '{given}' does not match computed checksum '{computed}'")));
    }
    let inner = |name: &str| body.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(text) = inner("addr") {
        let address = Address::from_str(text).ok().and_then(|address| address.require_network(Network::Regtest).ok());
        return address.map(|address| address.script_pubkey()).ok_or_else(|| invalid("Address is not valid".into()));
    }
    if let Some(text) = inner("raw") {
        return ScriptBuf::from_hex(text).map_err(|_| invalid("Raw script is not hex".into()));
    }
    Err(invalid(format!("'{body}' is not a valid descriptor function; this node scans for addr() and raw() only")))
}

pub(super) fn scan(engine: &Engine, args: &Args<'_>) -> Answer {
    match args.text(0)? {
        // A scan is over before it is answered, so there is never one to tell about or to stop.
        "status" => return Ok(Value::Null),
        "abort" => return Ok(false.into()),
        "start" => {}
        other => return Err(RpcError::new(code::INVALID_PARAMETER, format!("Invalid action '{other}'"))),
    }
    if args.get(1).is_none() {
        let message = "scanobjects argument is required for the start action";
        return Err(RpcError::new(code::MISC_ERROR, message));
    }
    let mut wanted = BTreeSet::new();
    for object in args.list(1)? {
        let descriptor = object.as_str().or_else(|| object.get("desc")?.as_str());
        let message = "Scan object needs to be either a string or an object";
        wanted.insert(parse(descriptor.ok_or_else(|| RpcError::new(code::INVALID_PARAMETER, message))?)?);
    }

    let chain = engine.chain();
    let tip = chain.tip();
    let mut coins: Vec<_> = chain.coins().filter(|(_, coin)| wanted.contains(&coin.output.script_pubkey)).collect();
    coins.sort_unstable_by_key(|(outpoint, _)| **outpoint);
    let total = coins.iter().fold(0_u64, |sum, (_, coin)| sum.saturating_add(coin.output.value.to_sat()));
    let unspents: Vec<_> = coins
        .into_iter()
        .map(|(outpoint, coin)| {
            json!({
                "txid": outpoint.txid,
                "vout": outpoint.vout,
                "scriptPubKey": coin.output.script_pubkey.to_hex_string(),
                "desc": of(&coin.output.script_pubkey),
                "amount": btc(coin.output.value.to_sat()),
                "coinbase": coin.coinbase,
                "height": coin.height,
                "blockhash": chain.at(coin.height).map(|known| known.hash),
                "confirmations": tip.height.saturating_sub(coin.height).saturating_add(1),
            })
        })
        .collect();
    Ok(json!({
        "success": true,
        "txouts": chain.coins().count(),
        "height": tip.height,
        "bestblock": tip.hash,
        "unspents": unspents,
        "total_amount": btc(total),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_bip_380() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../../../tests/vectors/bip-0380-checksum.json")).unwrap();
        let list = |name: &str| vectors[name].as_array().unwrap().clone();
        assert_eq!((list("valid").len(), list("invalid").len()), (2, 6));
        for valid in list("valid") {
            assert_eq!(parse(valid.as_str().unwrap()).unwrap().to_hex_string(), "deadbeef", "{valid}");
        }
        for invalid in list("invalid") {
            assert!(parse(invalid.as_str().unwrap()).is_err(), "{invalid}");
        }
    }

    #[test]
    fn inferred_descriptors_can_be_parsed() {
        let taproot = format!("5120{}", "11".repeat(32));
        for hex in [format!("0014{}", "11".repeat(20)), "51".into(), "6a0401020304".into()] {
            let script = ScriptBuf::from_hex(&hex).unwrap();
            assert_eq!(parse(&of(&script)), Ok(script), "{hex}");
        }
        assert!(of(&ScriptBuf::from_hex(&taproot).unwrap()).starts_with("rawtr(1111"));
        for bad in ["raw(x)", "addr(x)", "wpkh(x)", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
