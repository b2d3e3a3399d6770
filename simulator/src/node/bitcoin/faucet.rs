//! Coins for whoever asks: the node's blocks pay a script that anyone may spend, and the faucet spends it first.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::engine::Engine;
use super::policy::fee_at;
use super::rules::COINBASE_MATURITY;

/// The fee rate that the faucet pays, in satoshis per 1000 virtual bytes.
const FEE_RATE: u64 = 2_000;
/// Coins below this aren't worth spending, and change below this is left to the fee. In satoshis.
const SMALLEST: u64 = 1_000;
/// Into how many shares the coins are divided.
const SHARES: u16 = 4;
/// Most coins spent at once, which keeps the transaction standard.
const MAX_INPUTS: usize = 500;

/// The faucet has not enough coins that are mature and not spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the faucet has {available} to spend, not {wanted}; mine blocks so that more of its coins mature")]
pub struct FaucetEmpty {
    /// What was asked for.
    pub wanted: Amount,
    /// What there is.
    pub available: Amount,
}

/// The witness script: true.
fn witness_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

/// What the node's blocks pay: P2WSH of a script that asks for nothing, so that no key is needed.
pub fn script() -> ScriptBuf {
    witness_script().to_p2wsh()
}

/// A transaction that pays `amount` to `to` from the faucet's confirmed coins, the largest first. Nodes that share a faucet
/// prefer different coins, by their `share`, so that what they pay at the same time doesn't conflict.
///
/// # Errors
/// Where they don't suffice.
pub fn pay(engine: &Engine, to: ScriptBuf, amount: Amount, share: Option<u16>) -> Result<Transaction, FaucetEmpty> {
    let own = script();
    let mut coins = spendable(engine, &own);
    let others = |outpoint: &OutPoint| share.is_some_and(|share| lot(outpoint) != share % SHARES);
    coins.sort_unstable_by_key(|(outpoint, value)| (others(outpoint), std::cmp::Reverse(*value), *outpoint));

    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: Vec::new(),
        output: vec![TxOut { value: amount, script_pubkey: to }, TxOut { value: Amount::ZERO, script_pubkey: own }],
    };
    let mut total = Amount::ZERO;
    for (previous_output, value) in coins.into_iter().take(MAX_INPUTS) {
        tx.input.push(TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[witness_script().as_bytes()]),
        });
        total = total.checked_add(value).unwrap_or(Amount::MAX);
        let fee = Amount::from_sat(fee_at(FEE_RATE, u64::try_from(tx.vsize()).unwrap_or(u64::MAX)));
        let Some(change) = total.checked_sub(amount).and_then(|left| left.checked_sub(fee)) else { continue };
        match tx.output.last_mut() {
            Some(output) if change.to_sat() >= SMALLEST => output.value = change,
            _ => drop(tx.output.pop()),
        }
        return Ok(tx);
    }
    Err(FaucetEmpty { wanted: amount, available: total })
}

/// Whose share of the faucet's coins a coin is.
fn lot(outpoint: &OutPoint) -> u16 {
    u16::from(outpoint.txid.to_byte_array().first().copied().unwrap_or(0)) % SHARES
}

fn spendable(engine: &Engine, own: &ScriptBuf) -> Vec<(OutPoint, Amount)> {
    let (chain, mempool) = (engine.chain(), engine.mempool());
    let height = chain.next_height();
    chain
        .coins()
        .filter(|(outpoint, coin)| {
            let mature = !coin.coinbase || height.saturating_sub(coin.height) >= COINBASE_MATURITY;
            coin.output.script_pubkey == *own
                && mature
                && coin.output.value.to_sat() >= SMALLEST
                && mempool.spender(outpoint).is_none()
        })
        .map(|(outpoint, coin)| (*outpoint, coin.output.value))
        .collect()
}
