//! Standardness: what Bitcoin Core 28 relays of what consensus allows (`policy/policy.cpp`).

use bitcoin::opcodes::all::OP_CHECKMULTISIG;
use bitcoin::script::Instruction;
use bitcoin::{Script, Transaction, Witness};

use super::reject::Reject;
use super::rules::Coin;
use super::script::redeem_script;

/// Highest transaction version relayed.
const MAX_VERSION: i32 = 3;
/// Highest weight relayed, in weight units.
pub const MAX_STANDARD_WEIGHT: u64 = 400_000;
/// Longest `scriptSig` relayed, in bytes.
const MAX_SCRIPT_SIG: usize = 1_650;
/// Longest OP_RETURN script relayed, in bytes.
const MAX_DATA_CARRIER: usize = 83;
/// Smallest stripped size relayed: 64-byte transactions can be mistaken for inner Merkle nodes.
const MIN_STRIPPED_SIZE: usize = 65;
/// Highest cost of signature operations relayed.
const MAX_SIGOPS_COST: u64 = 16_000;
/// Most signature operations in a P2SH redeem script.
const MAX_P2SH_SIGOPS: usize = 15;
/// Bytes that a signature operation's cost counts for in the virtual size.
const BYTES_PER_SIGOP: u64 = 20;

/// What a node relays and mines; the rest of the policy is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least fee rate relayed, in satoshis per 1000 virtual bytes (`-minrelaytxfee`).
    pub min_relay_fee: u64,
    /// What a replacement pays for its own relay, in satoshis per 1000 virtual bytes (`-incrementalrelayfee`).
    pub incremental_fee: u64,
    /// Whether transactions that do not signal BIP-125 can be replaced too (`-mempoolfullrbf`, on since Core 28).
    pub full_rbf: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { min_relay_fee: 1_000, incremental_fee: 1_000, full_rbf: true }
    }
}

/// The fee of `vsize` virtual bytes at a rate in satoshis per 1000 virtual bytes, rounded up.
pub fn fee_at(sats_per_kvb: u64, vsize: u64) -> u64 {
    sats_per_kvb.saturating_mul(vsize).div_ceil(1000)
}

/// The virtual size that policy counts: BIP-141's, or more where signature operations are crowded.
pub fn policy_vsize(weight: u64, sigops_cost: u64) -> u64 {
    weight.max(sigops_cost.saturating_mul(BYTES_PER_SIGOP)).div_ceil(4)
}

/// The kinds of output that Core tells apart (`Solver`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputType {
    /// P2PK.
    PubKey,
    /// P2PKH.
    PubKeyHash,
    /// P2SH.
    ScriptHash,
    /// Bare multisig with this many keys.
    MultiSig(usize),
    /// OP_RETURN and pushes.
    NullData,
    /// Pay to anchor.
    Anchor,
    /// P2WPKH.
    WitnessV0KeyHash,
    /// P2WSH.
    WitnessV0ScriptHash,
    /// P2TR.
    WitnessV1Taproot,
    /// A witness program of a version without meaning yet.
    WitnessUnknown,
    /// Anything else.
    NonStandard,
}

impl OutputType {
    /// The kind of `script`.
    pub fn of(script: &Script) -> Self {
        const ANCHOR: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];
        if script.is_p2sh() {
            Self::ScriptHash
        } else if script.is_p2wpkh() {
            Self::WitnessV0KeyHash
        } else if script.is_p2wsh() {
            Self::WitnessV0ScriptHash
        } else if script.is_p2tr() {
            Self::WitnessV1Taproot
        } else if script.as_bytes() == ANCHOR {
            Self::Anchor
        } else if script.is_witness_program() {
            // Version 0 with a length of neither kind can't be spent at all.
            if script.as_bytes().first() == Some(&0) { Self::NonStandard } else { Self::WitnessUnknown }
        } else if script.is_op_return() && Script::from_bytes(script.as_bytes().get(1..).unwrap_or(&[])).is_push_only()
        {
            Self::NullData
        } else if script.is_p2pk() {
            Self::PubKey
        } else if script.is_p2pkh() {
            Self::PubKeyHash
        } else {
            multisig_keys(script).map_or(Self::NonStandard, Self::MultiSig)
        }
    }

    /// bitcoind's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PubKey => "pubkey",
            Self::PubKeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::MultiSig(_) => "multisig",
            Self::NullData => "nulldata",
            Self::Anchor => "anchor",
            Self::WitnessV0KeyHash => "witness_v0_keyhash",
            Self::WitnessV0ScriptHash => "witness_v0_scripthash",
            Self::WitnessV1Taproot => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
            Self::NonStandard => "nonstandard",
        }
    }
}

/// The number of keys of a bare `m <keys> n OP_CHECKMULTISIG`, at most sixteen.
fn multisig_keys(script: &Script) -> Option<usize> {
    let mut keys = 0_usize;
    let mut numbers = Vec::new();
    let mut instructions = script.instructions();
    for instruction in instructions.by_ref() {
        match instruction.ok()? {
            Instruction::PushBytes(key) if numbers.len() == 1 && matches!(key.len(), 33 | 65) => keys += 1,
            Instruction::Op(OP_CHECKMULTISIG) => break,
            Instruction::Op(op) if numbers.len() < 2 => match op.to_u8() {
                number @ 0x51..=0x60 => numbers.push(usize::from(number - 0x50)),
                _ => return None,
            },
            Instruction::PushBytes(_) | Instruction::Op(_) => return None,
        }
    }
    match (numbers.as_slice(), instructions.next()) {
        ([required, total], None) if *total == keys && (1..=keys).contains(required) => Some(keys),
        _ => None,
    }
}

/// What can be told from the transaction alone (Core: `IsStandardTx`).
///
/// # Errors
/// Core's reason.
pub fn check_standard(tx: &Transaction) -> Result<(), Reject> {
    if !(1..=MAX_VERSION).contains(&tx.version.0) {
        return Err(Reject::new("version"));
    }
    if tx.weight().to_wu() > MAX_STANDARD_WEIGHT {
        return Err(Reject::new("tx-size"));
    }
    for input in &tx.input {
        if input.script_sig.len() > MAX_SCRIPT_SIG {
            return Err(Reject::new("scriptsig-size"));
        }
        if !input.script_sig.is_push_only() {
            return Err(Reject::new("scriptsig-not-pushonly"));
        }
    }
    let mut data_outputs = 0;
    for output in &tx.output {
        let script = output.script_pubkey.as_script();
        match OutputType::of(script) {
            OutputType::NonStandard => return Err(Reject::new("scriptpubkey")),
            OutputType::MultiSig(keys) if keys > 3 => return Err(Reject::new("scriptpubkey")),
            OutputType::NullData if script.len() > MAX_DATA_CARRIER => return Err(Reject::new("scriptpubkey")),
            OutputType::NullData => data_outputs += 1,
            _ if output.value < script.minimal_non_dust() => return Err(Reject::new("dust")),
            _ => {}
        }
    }
    if data_outputs > 1 {
        return Err(Reject::new("multi-op-return"));
    }
    if tx.base_size() < MIN_STRIPPED_SIZE {
        return Err(Reject::new("tx-size-small"));
    }
    Ok(())
}

/// What can be told once the spent coins are known (Core: `AreInputsStandard`, `IsWitnessStandard`).
///
/// # Errors
/// Core's reason.
pub fn check_standard_inputs(tx: &Transaction, coins: &[Coin]) -> Result<(), Reject> {
    for (input, coin) in tx.input.iter().zip(coins) {
        let script = coin.output.script_pubkey.as_script();
        let redeem = redeem_script(input, script);
        match OutputType::of(script) {
            OutputType::NonStandard | OutputType::WitnessUnknown => {
                return Err(Reject::new("bad-txns-nonstandard-inputs"));
            }
            OutputType::ScriptHash if redeem.is_none_or(|script| script.count_sigops() > MAX_P2SH_SIGOPS) => {
                return Err(Reject::new("bad-txns-nonstandard-inputs"));
            }
            _ => {}
        }
        if !standard_witness(&input.witness, redeem.unwrap_or(script)) {
            return Err(Reject::new("bad-witness-nonstandard"));
        }
    }
    Ok(())
}

fn standard_witness(witness: &Witness, program: &Script) -> bool {
    const ANNEX: u8 = 0x50;
    const MAX_WITNESS_SCRIPT: usize = 3_600;
    const MAX_WITNESS_ITEMS: usize = 100;
    const MAX_WITNESS_ITEM: usize = 80;
    if witness.is_empty() {
        return true;
    }
    if !program.is_witness_program() {
        return false;
    }
    if program.is_p2wsh() {
        let items = witness.len().saturating_sub(1);
        return witness.last().is_some_and(|script| script.len() <= MAX_WITNESS_SCRIPT)
            && items <= MAX_WITNESS_ITEMS
            && witness.iter().take(items).all(|item| item.len() <= MAX_WITNESS_ITEM);
    }
    if program.is_p2tr() {
        if witness.len() >= 2 && witness.last().is_some_and(|item| item.first() == Some(&ANNEX)) {
            return false;
        }
        let items = witness.len().saturating_sub(2);
        let tapscript = witness.len() >= 2
            && witness.last().and_then(|control| control.first()).is_some_and(|leaf| leaf & 0xfe == 0xc0);
        return !tapscript || witness.iter().take(items).all(|item| item.len() <= MAX_WITNESS_ITEM);
    }
    OutputType::of(program) != OutputType::Anchor
}

/// Checks the cost of a transaction's signature operations.
///
/// # Errors
/// `bad-txns-too-many-sigops`.
pub fn check_sigops(cost: u64) -> Result<(), Reject> {
    if cost > MAX_SIGOPS_COST { Err(Reject::with("bad-txns-too-many-sigops", cost.to_string())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;

    #[test]
    fn output_types_by_their_scripts() {
        let key = "02".repeat(33);
        for (hex, kind) in [
            (format!("21{key}ac"), OutputType::PubKey),
            (format!("76a914{}88ac", "11".repeat(20)), OutputType::PubKeyHash),
            (format!("a914{}87", "11".repeat(20)), OutputType::ScriptHash),
            (format!("5121{key}21{key}52ae"), OutputType::MultiSig(2)),
            (format!("51{}52ae", format!("21{key}").repeat(300)), OutputType::NonStandard),
            (format!("5321{key}21{key}52ae"), OutputType::NonStandard),
            (format!("5121{key}52"), OutputType::NonStandard),
            ("6a0401020304".into(), OutputType::NullData),
            ("6a".into(), OutputType::NullData),
            ("6a61".into(), OutputType::NonStandard),
            ("51024e73".into(), OutputType::Anchor),
            (format!("0014{}", "11".repeat(20)), OutputType::WitnessV0KeyHash),
            (format!("0020{}", "11".repeat(32)), OutputType::WitnessV0ScriptHash),
            (format!("5120{}", "11".repeat(32)), OutputType::WitnessV1Taproot),
            (format!("5220{}", "11".repeat(32)), OutputType::WitnessUnknown),
            (format!("0015{}", "11".repeat(21)), OutputType::NonStandard),
            ("51".into(), OutputType::NonStandard),
        ] {
            assert_eq!(OutputType::of(&ScriptBuf::from_hex(&hex).unwrap()), kind, "{hex}");
        }
    }

    #[test]
    fn fees_round_up() {
        assert_eq!(fee_at(1_000, 141), 141);
        assert_eq!(fee_at(1_001, 141), 142);
        assert_eq!(policy_vsize(561, 1), 141);
        assert_eq!(policy_vsize(400, 80), 400);
    }
}
