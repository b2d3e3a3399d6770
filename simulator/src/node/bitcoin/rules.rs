//! The consensus rules of a transaction, other than its scripts, and of the subsidy.

use std::collections::HashSet;

use bitcoin::{OutPoint, Transaction, TxOut};

use super::reject::Reject;

/// The weight limit of a block (BIP-141).
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// The limit of a block's signature operations' cost (BIP-141).
pub const MAX_BLOCK_SIGOPS_COST: u64 = 80_000;
/// Blocks after which a coinbase output may be spent.
pub const COINBASE_MATURITY: u32 = 100;
/// Blocks between halvings on regtest (150; mainnet has 210,000).
const HALVING_INTERVAL: u32 = 150;
/// The first subsidy: 50 BTC.
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
/// The most that can ever exist, in satoshis.
const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

/// A transaction output that is not spent, with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Amount and script.
    pub output: TxOut,
    /// Height of the block that made it. For a coin of a mempool transaction: that of the next block.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
}

/// What a block at `height` may create, in satoshis.
pub fn subsidy(height: u32) -> u64 {
    FIRST_SUBSIDY.checked_shr(height / HALVING_INTERVAL).unwrap_or(0)
}

/// The rules that need nothing but the transaction (Bitcoin Core: `CheckTransaction`).
///
/// # Errors
/// Core's reason.
pub fn check_transaction(tx: &Transaction) -> Result<(), Reject> {
    if tx.input.is_empty() {
        return Err(Reject::new("bad-txns-vin-empty"));
    }
    if tx.output.is_empty() {
        return Err(Reject::new("bad-txns-vout-empty"));
    }
    let stripped = u64::try_from(tx.base_size()).unwrap_or(u64::MAX);
    if stripped.saturating_mul(4) > MAX_BLOCK_WEIGHT {
        return Err(Reject::new("bad-txns-oversize"));
    }
    let mut total: u64 = 0;
    for output in &tx.output {
        let value = output.value.to_sat();
        if i64::try_from(value).is_err() {
            return Err(Reject::new("bad-txns-vout-negative"));
        }
        if value > MAX_MONEY {
            return Err(Reject::new("bad-txns-vout-toolarge"));
        }
        total = total.saturating_add(value);
        if total > MAX_MONEY {
            return Err(Reject::new("bad-txns-txouttotal-toolarge"));
        }
    }
    let mut seen = HashSet::new();
    if !tx.input.iter().all(|input| seen.insert(input.previous_output)) {
        return Err(Reject::new("bad-txns-inputs-duplicate"));
    }
    if tx.is_coinbase() {
        let length = tx.input.first().map_or(0, |input| input.script_sig.len());
        if !(2..=100).contains(&length) {
            return Err(Reject::new("bad-cb-length"));
        }
    } else if tx.input.iter().any(|input| input.previous_output == OutPoint::null()) {
        return Err(Reject::new("bad-txns-prevout-null"));
    }
    Ok(())
}

/// Whether the lock time allows `tx` in a block at `height` whose parents' median time is `median_time` (BIP-113).
pub fn is_final(tx: &Transaction, height: u32, median_time: u32) -> bool {
    const LOCKTIME_THRESHOLD: u32 = 500_000_000;
    let lock = tx.lock_time.to_consensus_u32();
    let passed = if lock < LOCKTIME_THRESHOLD { height } else { median_time };
    lock == 0 || lock < passed || tx.input.iter().all(|input| input.sequence.0 == u32::MAX)
}

/// Whether the relative locks (BIP-68) allow `tx` in a block at `height` whose parents' median time is `median_time`.
/// `coins` are those of the inputs, in order; `median_at` tells the median time past of the block at a height.
pub fn relative_locks_passed(
    tx: &Transaction,
    coins: &[Coin],
    height: u32,
    median_time: u32,
    median_at: impl Fn(u32) -> u32,
) -> bool {
    const DISABLED: u32 = 1 << 31;
    const BY_TIME: u32 = 1 << 22;
    if tx.version.0.cast_unsigned() < 2 {
        return true;
    }
    tx.input.iter().zip(coins).all(|(input, coin)| {
        let sequence = input.sequence.0;
        let lock = u64::from(sequence & 0xffff);
        if sequence & DISABLED != 0 {
            true
        } else if sequence & BY_TIME != 0 {
            let since = u64::from(median_at(coin.height.saturating_sub(1)));
            u64::from(median_time) >= since.saturating_add(lock << 9)
        } else {
            u64::from(height) >= u64::from(coin.height).saturating_add(lock)
        }
    })
}

/// Checks that `coins` may be spent at `height` and cover the outputs (Core: `CheckTxInputs`), and returns the fee in satoshis.
///
/// # Errors
/// Core's reason.
pub fn check_inputs(tx: &Transaction, coins: &[Coin], height: u32) -> Result<u64, Reject> {
    let mut spent: u64 = 0;
    for coin in coins {
        let depth = height.saturating_sub(coin.height);
        if coin.coinbase && depth < COINBASE_MATURITY {
            return Err(Reject::with(
                "bad-txns-premature-spend-of-coinbase",
                format!("tried to spend coinbase at depth {depth}"),
            ));
        }
        spent = spent.saturating_add(coin.output.value.to_sat());
        if spent > MAX_MONEY {
            return Err(Reject::new("bad-txns-inputvalues-outofrange"));
        }
    }
    // No overflow: `check_transaction` bounds the sum.
    let paid: u64 = tx.output.iter().fold(0, |sum, output| sum.saturating_add(output.value.to_sat()));
    spent.checked_sub(paid).ok_or_else(|| {
        use super::amount::money;
        Reject::with("bad-txns-in-belowout", format!("value in ({}) < value out ({})", money(spent), money(paid)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Amount;
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{ScriptBuf, Sequence, TxIn};

    fn spend(sequence: u32, lock: u32) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock),
            input: vec![TxIn { sequence: Sequence(sequence), ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
        }
    }

    fn coin(height: u32) -> Coin {
        Coin { output: TxOut { value: Amount::from_sat(5), script_pubkey: ScriptBuf::new() }, height, coinbase: false }
    }

    #[test]
    fn the_subsidy_halves_every_150_blocks() {
        assert_eq!(subsidy(0), 5_000_000_000);
        assert_eq!(subsidy(149), 5_000_000_000);
        assert_eq!(subsidy(150), 2_500_000_000);
        assert_eq!(subsidy(150 * 33), 0);
        assert_eq!(subsidy(u32::MAX), 0);
    }

    #[test]
    fn lock_time_is_final_one_block_later() {
        assert!(!is_final(&spend(0, 100), 100, 0));
        assert!(is_final(&spend(0, 100), 101, 0));
        assert!(is_final(&spend(u32::MAX, 100), 1, 0));
        assert!(!is_final(&spend(0, 500_000_000), 1_000, 500_000_000));
        assert!(is_final(&spend(0, 500_000_000), 1_000, 500_000_001));
    }

    #[test]
    fn relative_locks_count_from_the_coin() {
        let passed = |sequence, height, time| {
            relative_locks_passed(&spend(sequence, 0), &[coin(10)], height, time, |h| 1_000 + h)
        };
        assert!(!passed(5, 14, 0));
        assert!(passed(5, 15, 0));
        // Two units of 512 seconds after the median time at height 9.
        assert!(!passed((1 << 22) | 2, 0, 1_009 + 1_023));
        assert!(passed((1 << 22) | 2, 0, 1_009 + 1_024));
        assert!(passed((1 << 31) | 5, 0, 0));
    }

    #[test]
    fn inputs_cover_outputs_and_coinbases_mature() {
        assert_eq!(check_inputs(&spend(0, 0), &[coin(1)], 2), Ok(4));
        let mut poor = spend(0, 0);
        poor.output[0].value = Amount::from_sat(6);
        assert_eq!(check_inputs(&poor, &[coin(1)], 2).unwrap_err().reason, "bad-txns-in-belowout");
        let fresh = Coin { coinbase: true, ..coin(1) };
        assert!(check_inputs(&spend(0, 0), std::slice::from_ref(&fresh), 100).is_err());
        assert!(check_inputs(&spend(0, 0), &[fresh], 101).is_ok());
    }
}
