//! Scripts and addresses as bitcoind shows them.

use std::str::FromStr;

use bitcoin::address::NetworkUnchecked;
use bitcoin::opcodes::all::{OP_CLTV, OP_CSV};
use bitcoin::script::Instruction;
use bitcoin::{Address, Network, Script, ecdsa};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::{Answer, descriptor};
use crate::node::bitcoin::engine::Engine;
use crate::node::bitcoin::policy::OutputType;

/// An output's script with everything that follows from it (Core: `ScriptToUniv`).
pub(super) fn output_script(script: &Script) -> Value {
    let kind = OutputType::of(script);
    let mut object = Map::new();
    object.insert("asm".into(), asm(script, false).into());
    object.insert("desc".into(), descriptor::of(script).into());
    object.insert("hex".into(), script.to_hex_string().into());
    // A bare key has an address by rust-bitcoin's reckoning too; bitcoind gives it none.
    if kind != OutputType::PubKey
        && let Ok(address) = Address::from_script(script, Network::Regtest)
    {
        object.insert("address".into(), address.to_string().into());
    }
    object.insert("type".into(), kind.name().into());
    Value::Object(object)
}

/// A script in Core's assembly (`ScriptToAsmStr`). In a `scriptSig` the hash type of a signature is spelt out.
pub(super) fn asm(script: &Script, signatures: bool) -> String {
    let mut words = Vec::new();
    for instruction in script.instructions() {
        words.push(match instruction {
            Err(_) => "[error]".into(),
            Ok(Instruction::PushBytes(push)) if push.len() <= 4 => script_number(push.as_bytes()).to_string(),
            Ok(Instruction::PushBytes(push)) => pushed(push.as_bytes(), signatures),
            Ok(Instruction::Op(op)) => match (op, op.to_u8()) {
                (_, 0x4f) => "-1".into(),
                (_, small @ 0x51..=0x60) => (small - 0x50).to_string(),
                (OP_CLTV, _) => "OP_CHECKLOCKTIMEVERIFY".into(),
                (OP_CSV, _) => "OP_CHECKSEQUENCEVERIFY".into(),
                _ => op.to_string(),
            },
        });
    }
    words.join(" ")
}

fn pushed(bytes: &[u8], signatures: bool) -> String {
    let signature = signatures.then(|| ecdsa::Signature::from_slice(bytes).ok()).flatten();
    match (signature, bytes.split_last()) {
        (Some(signature), Some((_, der))) => {
            let hash_type = signature.sighash_type.to_string().trim_start_matches("SIGHASH_").to_owned();
            format!("{}[{hash_type}]", hex::encode(der))
        }
        _ => hex::encode(bytes),
    }
}

/// A number as scripts write it: little-endian, the highest bit is the sign.
fn script_number(bytes: &[u8]) -> i64 {
    let Some((last, rest)) = bytes.split_last() else { return 0 };
    let magnitude = rest.iter().rev().fold(i64::from(last & 0x7f), |sum, byte| (sum << 8) | i64::from(*byte));
    if last & 0x80 == 0 { magnitude } else { -magnitude }
}

pub(super) fn validate_address(_: &Engine, args: &Args<'_>) -> Answer {
    let text = args.text(0)?;
    let parsed = Address::<NetworkUnchecked>::from_str(text);
    let address = match parsed.map(|address| address.require_network(Network::Regtest)) {
        Ok(Ok(address)) => address,
        Ok(Err(_)) => {
            let error = "Invalid or unsupported Segwit (Bech32) or Base58 encoding.";
            return Ok(json!({ "isvalid": false, "error_locations": [], "error": error }));
        }
        Err(error) => return Ok(json!({ "isvalid": false, "error_locations": [], "error": error.to_string() })),
    };
    let script = address.script_pubkey();
    let mut object = Map::new();
    object.insert("isvalid".into(), true.into());
    object.insert("address".into(), address.to_string().into());
    object.insert("scriptPubKey".into(), script.to_hex_string().into());
    object.insert("isscript".into(), (script.is_p2sh() || script.is_p2wsh() || script.is_p2tr()).into());
    object.insert("iswitness".into(), script.is_witness_program().into());
    if let Some(program) = address.witness_program() {
        object.insert("witness_version".into(), program.version().to_num().into());
        object.insert("witness_program".into(), hex::encode(program.program().as_bytes()).into());
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;

    #[test]
    fn assembly_as_core_writes_it() {
        let key = "02".repeat(33);
        for (hex, expected) in [
            (format!("0014{}", "11".repeat(20)), format!("0 {}", "11".repeat(20))),
            (format!("5120{}", "11".repeat(32)), format!("1 {}", "11".repeat(32))),
            (
                format!("76a914{}88ac", "11".repeat(20)),
                format!("OP_DUP OP_HASH160 {} OP_EQUALVERIFY OP_CHECKSIG", "11".repeat(20)),
            ),
            ("6a0401020384".into(), "OP_RETURN -67305985".into()),
            ("02e803b175".into(), "1000 OP_CHECKLOCKTIMEVERIFY OP_DROP".into()),
            ("4f5160b2".into(), "-1 1 16 OP_CHECKSEQUENCEVERIFY".into()),
            (format!("21{key}ac"), format!("{key} OP_CHECKSIG")),
            ("0511".into(), "[error]".into()),
        ] {
            assert_eq!(asm(&ScriptBuf::from_hex(&hex).unwrap(), false), expected, "{hex}");
        }
    }

    #[test]
    fn a_bare_key_has_no_address() {
        let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        let shown = output_script(&ScriptBuf::from_hex(&format!("21{key}ac")).unwrap());
        assert_eq!(shown["type"], "pubkey");
        assert!(shown.get("address").is_none());
    }
}
