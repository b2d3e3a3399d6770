//! What to pay: `eth_gasPrice`, `eth_maxPriorityFeePerGas` and `eth_feeHistory`, as geth computes them.

use alloy::consensus::Transaction as _;
use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::FeeHistory;

use super::block::Block;
use super::call::FAILED;
use super::sight::Sight;
use crate::rpc::RpcError;

/// How many blocks the suggestion looks at.
const BLOCKS: usize = 20;
/// How many tips of each, from the cheapest on.
const SAMPLES: usize = 3;
/// Which of the sorted tips is suggested, in percent.
const PERCENTILE: usize = 60;
/// Tips below this don't count, in wei per gas.
const IGNORED: u128 = 2;
/// The highest suggestion: 500 gwei.
const MAX_TIP: u128 = 500_000_000_000;
/// What is suggested while nobody has paid anything: 1 gwei.
const DEFAULT_TIP: u128 = 1_000_000_000;
/// The most blocks that one history covers.
const MAX_HISTORY: u64 = 1024;
/// The most percentiles that one history gives.
const MAX_PERCENTILES: usize = 100;

/// The priority fee that gets a transaction into one of the next blocks, in wei per gas.
pub(crate) fn suggested_tip(engine: Sight<'_>) -> u128 {
    let mut tips = Vec::new();
    for block in engine.newest().take(BLOCKS) {
        let mut paid: Vec<u128> = tips_of(block).filter(|tip| *tip >= IGNORED).collect();
        paid.sort_unstable();
        tips.extend(paid.into_iter().take(SAMPLES));
    }
    tips.sort_unstable();
    let place = tips.len().saturating_sub(1).saturating_mul(PERCENTILE) / 100;
    tips.get(place).copied().unwrap_or(DEFAULT_TIP).min(MAX_TIP)
}

/// The gas price that a legacy transaction should offer, in wei.
pub(crate) fn gas_price(engine: Sight<'_>) -> u128 {
    suggested_tip(engine).saturating_add(engine.head().base_fee().into())
}

fn tips_of(block: &Block) -> impl Iterator<Item = u128> {
    block.transactions.iter().filter_map(|tx| tx.effective_tip_per_gas(block.base_fee()))
}

/// `eth_feeHistory`: base fees, fullness and percentiles of tips of up to `count` blocks up to `newest`.
///
/// # Errors
/// -32000 where a percentile is no percentage, they aren't in order, or the newest block isn't there yet.
pub(crate) fn history(
    engine: Sight<'_>,
    count: u64,
    newest: BlockNumberOrTag,
    percentiles: Option<&[f64]>,
) -> Result<FeeHistory, RpcError> {
    let failed = |text: String| RpcError::new(FAILED, text);
    let percentiles = percentiles.unwrap_or_default();
    if percentiles.len() > MAX_PERCENTILES {
        return Err(failed(format!("invalid reward percentile: over the query limit {MAX_PERCENTILES}")));
    }
    for (index, percentile) in percentiles.iter().enumerate() {
        if !(0.0..=100.0).contains(percentile) {
            return Err(failed(format!("invalid reward percentile: {percentile:.6}")));
        }
        let before = index.checked_sub(1).and_then(|before| percentiles.get(before));
        if before.is_some_and(|before| before >= percentile) {
            return Err(failed(format!("invalid reward percentile: #{index}:{percentile:.6} is out of order")));
        }
    }
    let head = engine.head().header.number;
    let newest = engine.resolve(newest).unwrap_or(head);
    if newest > head {
        return Err(failed(format!("request beyond head block: requested {newest}, head {head}")));
    }
    let count = count.min(MAX_HISTORY).min(newest.saturating_add(1));
    if count == 0 {
        return Ok(FeeHistory::default());
    }
    let oldest = newest.saturating_add(1).saturating_sub(count);
    let blocks: Vec<&Block> = (oldest..=newest).filter_map(|number| engine.block(number)).collect();

    let mut base_fees: Vec<u128> = blocks.iter().map(|block| block.base_fee().into()).collect();
    let after = engine.block(newest.saturating_add(1)).map_or_else(|| engine.next_base_fee(), Block::base_fee);
    base_fees.push(after.into());
    let shares: Vec<u64> = percentiles.iter().map(|percentile| millionths(*percentile)).collect();
    Ok(FeeHistory {
        gas_used_ratio: blocks.iter().map(|block| ratio(block.header.gas_used, block.header.gas_limit)).collect(),
        base_fee_per_blob_gas: vec![1; base_fees.len()],
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        base_fee_per_gas: base_fees,
        oldest_block: oldest,
        reward: (!shares.is_empty()).then(|| blocks.iter().map(|block| rewards(block, &shares)).collect()),
    })
}

/// The tips at which the given shares (in millionths of a percent) of the block's gas were bought, the cheapest first.
fn rewards(block: &Block, shares: &[u64]) -> Vec<u128> {
    let mut paid: Vec<(u128, u64)> = block
        .transactions
        .iter()
        .zip(&block.outcomes)
        .map(|(tx, outcome)| (tx.effective_tip_per_gas(block.base_fee()).unwrap_or_default(), outcome.gas_used))
        .collect();
    paid.sort_unstable();
    let reward = |share: &u64| {
        let threshold = u128::from(block.header.gas_used).saturating_mul((*share).into()) / 100_000_000;
        let mut sum: u128 = 0;
        let reached = paid.iter().find(|(_, gas)| {
            sum = sum.saturating_add((*gas).into());
            sum >= threshold
        });
        reached.or(paid.last()).map(|(tip, _)| *tip).unwrap_or_default()
    };
    shares.iter().map(reward).collect()
}

/// A percentage between 0 and 100 in millionths. By way of text, since amounts are never computed in floating point.
fn millionths(percentile: f64) -> u64 {
    format!("{percentile:.6}").replace('.', "").parse().unwrap_or_default()
}

/// `part / whole` for JSON, to nine places.
fn ratio(part: u64, whole: u64) -> f64 {
    let billionths = u128::from(part).saturating_mul(1_000_000_000).checked_div(whole.into()).unwrap_or_default();
    format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are exact")]
    fn converts_without_arithmetic() {
        assert_eq!(millionths(0.0), 0);
        assert_eq!(millionths(12.5), 12_500_000);
        assert_eq!(millionths(100.0), 100_000_000);
        assert_eq!(ratio(0, 30), 0.0);
        assert_eq!(ratio(15, 30), 0.5);
        assert_eq!(ratio(30, 30), 1.0);
        assert_eq!(ratio(1, 0), 0.0);
    }
}
