//! What to offer for gas.

use super::Options;
use super::node::{Node, malformed};
use crate::ethereum::{Fees, GasPrice};
use crate::rpc::RpcError;

/// How many blocks are looked back at for their tips.
const BLOCKS: u64 = 10;

/// The fees to offer: by `eth_feeHistory` where the network has a base fee, by `eth_gasPrice` elsewhere.
pub(super) async fn fees(node: &Node, options: &Options) -> Result<Fees, RpcError> {
    if !node.best_block().await?.has_base_fee() {
        return Ok(Fees::Legacy { gas_price: node.gas_price().await? });
    }
    let history = node.fee_history(BLOCKS, options.priority_fee_percentile.min(100)).await?;
    let unusable = |reason: &str| malformed("eth_feeHistory", reason);
    let base_fee = history.next_base_fee().ok_or_else(|| unusable("no base fee, though the best block has one"))?;
    offer(base_fee, history.tips().collect(), options).ok_or_else(|| unusable("fees above 2^128 - 1 wei"))
}

/// The median of `tips`, at least the configured one, and on top of it the configured share of the base fee; `None` where
/// that is no 128-bit number.
fn offer(base_fee: GasPrice, mut tips: Vec<GasPrice>, options: &Options) -> Option<Fees> {
    tips.sort_unstable();
    let median = tips.get(tips.len() / 2).copied().unwrap_or_default();
    let tip = median.max(options.min_priority_fee);
    let max_fee_per_gas = base_fee.checked_percent(options.base_fee_percent)?.checked_add(tip)?;
    Some(Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas: tip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(base_fee: u128, tips: &[u128]) -> Option<(u128, u128)> {
        let options = Options { min_priority_fee: GasPrice::from_wei(5), base_fee_percent: 200, ..Options::default() };
        let tips = tips.iter().copied().map(GasPrice::from_wei).collect();
        match offer(GasPrice::from_wei(base_fee), tips, &options)? {
            Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas } => {
                Some((max_fee_per_gas.wei(), max_priority_fee_per_gas.wei()))
            }
            Fees::Legacy { .. } => None,
        }
    }

    #[test]
    fn twice_the_base_fee_and_the_median_tip() {
        assert_eq!(offered(100, &[30, 10, 20]), Some((220, 20)));
        assert_eq!(offered(100, &[]), Some((205, 5)), "the least tip, where nobody paid one");
        assert_eq!(offered(0, &[1]), Some((5, 5)), "a network whose base fee is zero still has one");
    }

    #[test]
    fn absurd_fees_are_no_offer() {
        assert_eq!(offered(u128::MAX, &[1]), None);
        assert_eq!(offered(100, &[u128::MAX]), None);
    }
}
