//! Blocks: how one is checked before its transactions are looked at, how one is put together, and regtest's proof of work.

use std::collections::HashSet;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, Script, ScriptBuf, Sequence, Target, Transaction, TxIn,
    TxMerkleNode, TxOut, Witness, transaction,
};

use super::reject::Reject;
use super::rules::{MAX_BLOCK_WEIGHT, check_transaction};

/// Regtest's target, which every second hash meets. It never changes there.
const BITS: u32 = 0x207f_ffff;
/// The version of a mined block: BIP-9 with no bit set.
const VERSION: i32 = 0x2000_0000;
/// What a witness commitment's output starts with (BIP-141).
const COMMITMENT_HEADER: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What a block is made of besides its transactions.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// The parent's hash.
    pub parent: BlockHash,
    /// The block's height.
    pub height: u32,
    /// The block's time, in seconds since the Unix epoch.
    pub time: u32,
    /// Tells coinbases apart that are otherwise equal.
    pub extra_nonce: u64,
    /// Who is paid.
    pub to: &'a Script,
    /// What they are paid: subsidy and fees, in satoshis.
    pub reward: u64,
}

/// Puts a block together and finds its nonce.
pub fn mine(plan: Plan<'_>, transactions: impl IntoIterator<Item = Transaction>) -> Block {
    let mut block = Block {
        header: Header {
            version: Version::from_consensus(VERSION),
            prev_blockhash: plan.parent,
            merkle_root: TxMerkleNode::all_zeros(),
            time: plan.time,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        },
        txdata: std::iter::once(coinbase(plan)).chain(transactions).collect(),
    };
    commit_to_witnesses(&mut block);
    block.header.merkle_root = block.compute_merkle_root().unwrap_or_else(TxMerkleNode::all_zeros);
    solve(&mut block.header);
    block
}

/// The coinbase, whose second output is to be filled with the witness commitment.
fn coinbase(plan: Plan<'_>) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: height_script(plan.height).push_slice(plan.extra_nonce.to_le_bytes()).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0_u8; 32]]),
        }],
        output: vec![
            TxOut { value: Amount::from_sat(plan.reward), script_pubkey: plan.to.to_owned() },
            TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() },
        ],
    }
}

/// What a coinbase's script starts with (BIP-34).
fn height_script(height: u32) -> Builder {
    Builder::new().push_int(i64::from(height))
}

fn commit_to_witnesses(block: &mut Block) {
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let mut script = COMMITMENT_HEADER.to_vec();
    script.extend_from_slice(commitment.as_byte_array());
    if let Some(output) = block.txdata.first_mut().and_then(|coinbase| coinbase.output.last_mut()) {
        output.script_pubkey = ScriptBuf::from_bytes(script);
    }
}

fn target() -> Target {
    Target::from_compact(CompactTarget::from_consensus(BITS))
}

fn solve(header: &mut Header) {
    let target = target();
    for nonce in 0..=u32::MAX {
        header.nonce = nonce;
        if target.is_met_by(header.block_hash()) {
            return;
        }
    }
}

/// Checks what can be told from the block and its place: proof of work, time, Merkle root, coinbase, witness commitment, weight
/// and each transaction by itself (Core: `CheckBlock`, `ContextualCheckBlock`).
///
/// `median_time` is the median time past of the parent.
///
/// # Errors
/// Core's reason.
pub fn check(block: &Block, height: u32, median_time: u32) -> Result<(), Reject> {
    let header = &block.header;
    if header.bits.to_consensus() != BITS {
        return Err(Reject::with("bad-diffbits", "incorrect proof of work"));
    }
    if !target().is_met_by(header.block_hash()) {
        return Err(Reject::with("high-hash", "proof of work failed"));
    }
    if header.time <= median_time {
        return Err(Reject::with("time-too-old", "block's timestamp is too early"));
    }
    if header.version.to_consensus() < 4 {
        let version = header.version.to_consensus();
        return Err(Reject::with(
            format!("bad-version(0x{version:08x})"),
            format!("rejected nVersion=0x{version:08x} block"),
        ));
    }
    if !block.check_merkle_root() {
        return Err(Reject::with("bad-txnmrklroot", "hashMerkleRoot mismatch"));
    }
    let mut seen = HashSet::new();
    if !block.txdata.iter().all(|tx| seen.insert(tx.compute_txid())) {
        return Err(Reject::with("bad-txns-duplicate", "duplicate transaction"));
    }
    let Some((coinbase, rest)) = block.txdata.split_first() else {
        return Err(Reject::with("bad-blk-length", "size limits failed"));
    };
    if !coinbase.is_coinbase() {
        return Err(Reject::with("bad-cb-missing", "first tx is not coinbase"));
    }
    if rest.iter().any(Transaction::is_coinbase) {
        return Err(Reject::with("bad-cb-multiple", "more than one coinbase"));
    }
    for tx in &block.txdata {
        check_transaction(tx)?;
    }
    let expected = height_script(height).into_script();
    let script = coinbase.input.first().map_or(Script::new(), |input| &input.script_sig);
    if !script.as_bytes().starts_with(expected.as_bytes()) {
        return Err(Reject::with("bad-cb-height", "block height mismatch in coinbase"));
    }
    if !block.check_witness_commitment() {
        return Err(Reject::with(
            "bad-witness-merkle-match",
            "check_witness_commitment : witness merkle commitment mismatch",
        ));
    }
    if block.weight().to_wu() > MAX_BLOCK_WEIGHT {
        return Err(Reject::with("bad-blk-weight", "ContextualCheckBlock : weight limit failed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(to: &Script, height: u32) -> Plan<'_> {
        Plan { parent: BlockHash::all_zeros(), height, time: 1_000, extra_nonce: 7, to, reward: 50 }
    }

    #[test]
    fn a_mined_block_passes() {
        let to = ScriptBuf::from_hex("51").unwrap();
        for height in [1, 16, 17, 128, 40_000] {
            let block = mine(plan(&to, height), []);
            assert_eq!(check(&block, height, 999), Ok(()));
            if height > 16 {
                assert_eq!(block.bip34_block_height().unwrap(), u64::from(height));
            }
        }
    }

    #[test]
    fn a_damaged_block_does_not() {
        let to = ScriptBuf::from_hex("51").unwrap();
        let good = mine(plan(&to, 20), []);
        let reason = |block: &Block| check(block, 20, 999).unwrap_err().reason;

        assert_eq!(check(&good, 20, 1_000).unwrap_err().reason, "time-too-old");
        assert_eq!(check(&good, 21, 999).unwrap_err().reason, "bad-cb-height");

        let mut unsolved = good.clone();
        while target().is_met_by(unsolved.block_hash()) {
            unsolved.header.nonce += 1;
        }
        assert_eq!(reason(&unsolved), "high-hash");

        let mut bits = good.clone();
        bits.header.bits = CompactTarget::from_consensus(0x1d00_ffff);
        assert_eq!(reason(&bits), "bad-diffbits");

        let mut richer = good.clone();
        richer.txdata[0].output[0].value = Amount::from_sat(51);
        assert_eq!(reason(&richer), "bad-txnmrklroot");

        let mut uncommitted = good;
        uncommitted.txdata[0].output[1].script_pubkey = ScriptBuf::from_hex("6a").unwrap();
        uncommitted.header.merkle_root = uncommitted.compute_merkle_root().unwrap();
        solve(&mut uncommitted.header);
        assert_eq!(reason(&uncommitted), "bad-witness-merkle-match");
    }
}
