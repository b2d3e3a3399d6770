//! Coin selection: the cheapest set of coins, by the branch-and-bound search of `bdk_coin_select`, or else the largest
//! coins first.
//!
//! The metric is this module's own, in integers. The crate's `LowestFee` computes whole amounts in `f32`, which holds
//! 24 bits: above some 0.2 BTC its rounding exceeds a fee, and it asserts that it doesn't.

use bdk_coin_select::float::Ordf32;
use bdk_coin_select::{BnbMetric, Candidate, CoinSelector};
use bitcoin::{FeeRate, VarInt, Weight};

/// Coins times rounds of the search: it ends within some 10 ms.
const SEARCH_BUDGET: usize = 50_000;
/// The most rounds of the search, however few the coins.
const MAX_ROUNDS: usize = 1_000;
/// At what rate a change output is thought to be spent one day, sat/vB. Above it, rates come down again.
const LONG_TERM_RATE: FeeRate = FeeRate::from_sat_per_vb_u32(10);

/// A coin that can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coin {
    /// The caller's name for it.
    pub(super) index: usize,
    /// Satoshi.
    pub(super) value: u64,
}

/// What inputs and outputs cost. All coins are of one account, so all inputs weigh the same.
#[derive(Clone, Copy, Debug)]
pub(in crate::bitcoin) struct Costs {
    /// Fee per virtual byte.
    pub(in crate::bitcoin) rate: FeeRate,
    /// Weight units of a signed input.
    pub(in crate::bitcoin) input: u64,
    /// Weight units of the payment's output.
    pub(in crate::bitcoin) payment: u64,
    /// Weight units of a change output.
    pub(in crate::bitcoin) change: u64,
    /// The least change that is relayed, satoshi.
    pub(in crate::bitcoin) dust: u64,
}

/// Which coins are spent and where the surplus goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// [`Coin::index`] of each.
    pub(super) coins: Vec<usize>,
    /// What miners get, satoshi.
    pub(super) fee: u64,
    /// What comes back, satoshi; `None` where it would be dust.
    pub(super) change: Option<u64>,
}

/// The coins don't suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short {
    /// Amount and fee, satoshi.
    pub(super) needed: u64,
    /// All coins that are worth more than spending them costs, satoshi.
    pub(super) available: u64,
}

impl Costs {
    /// The weight of the signed transaction.
    pub(in crate::bitcoin) fn weight(&self, inputs: usize, with_change: bool) -> u64 {
        let count = u64::try_from(inputs).unwrap_or(u64::MAX);
        let varint = |n: u64| u64::try_from(VarInt(n).size()).unwrap_or(u64::MAX).saturating_mul(4);
        let (outputs, change) = if with_change { (2, self.change) } else { (1, 0) };
        const VERSION_AND_LOCK_TIME: u64 = 4 * (4 + 4);
        const SEGWIT_MARKER_AND_FLAG: u64 = 2;
        (VERSION_AND_LOCK_TIME + SEGWIT_MARKER_AND_FLAG)
            .saturating_add(varint(count))
            .saturating_add(self.input.saturating_mul(count))
            .saturating_add(varint(outputs))
            .saturating_add(self.payment)
            .saturating_add(change)
    }

    /// What it costs to spend a coin, satoshi.
    pub(in crate::bitcoin) fn own_cost(&self) -> u64 {
        self.rate.fee_wu(Weight::from_wu(self.input)).unwrap_or(bitcoin::Amount::MAX).to_sat()
    }

    /// The fee of the signed transaction, by whole virtual bytes as nodes reckon it.
    fn fee(&self, inputs: usize, with_change: bool) -> u64 {
        fee(self.rate, self.weight(inputs, with_change))
    }

    /// What becomes of the surplus of `total` over `amount`; `None` where `total` is too little.
    fn settle(&self, amount: u64, total: u64, inputs: usize) -> Option<(u64, Option<u64>)> {
        let surplus = total.checked_sub(amount)?;
        let change = surplus.checked_sub(self.fee(inputs, true)).filter(|change| *change >= self.dust);
        match change {
            Some(change) => Some((surplus.checked_sub(change)?, Some(change))),
            None if surplus >= self.fee(inputs, false) => Some((surplus, None)),
            None => None,
        }
    }

    /// The fee, and what it will cost to spend the change.
    fn score(&self, amount: u64, total: u64, inputs: usize) -> Option<u64> {
        let (fee_paid, change) = self.settle(amount, total, inputs)?;
        let later = change.map_or(0, |_| fee(self.rate.min(LONG_TERM_RATE), self.input));
        Some(fee_paid.saturating_add(later))
    }
}

fn fee(rate: FeeRate, weight: u64) -> u64 {
    rate.fee_vb(weight.div_ceil(4)).unwrap_or(bitcoin::Amount::MAX).to_sat()
}

/// The cheapest of the selections that were found. `coins` come largest first.
pub(super) fn select(costs: &Costs, amount: u64, coins: &[Coin]) -> Result<Selection, Short> {
    let own_cost = costs.own_cost();
    let coins: Vec<Coin> = coins.iter().copied().filter(|coin| coin.value > own_cost).collect();

    let largest = largest_first(costs, amount, &coins)?;
    let found = branch_and_bound(costs, amount, &coins).filter(|found| found.0 < largest.0);
    Ok(found.unwrap_or(largest).1)
}

/// The largest coins until they suffice, with their score.
fn largest_first(costs: &Costs, amount: u64, coins: &[Coin]) -> Result<(u64, Selection), Short> {
    let mut total: u64 = 0;
    let mut chosen = Vec::new();
    for coin in coins {
        total = total.saturating_add(coin.value);
        chosen.push(coin.index);
        if let Some(scored) = scored(costs, amount, total, &chosen) {
            return Ok(scored);
        }
    }
    Err(Short { needed: amount.saturating_add(costs.fee(chosen.len().max(1), false)), available: total })
}

/// The best selection within the budget, with its score.
fn branch_and_bound(costs: &Costs, amount: u64, coins: &[Coin]) -> Option<(u64, Selection)> {
    let candidates: Vec<Candidate> = coins
        .iter()
        .map(|coin| Candidate { value: coin.value, weight: costs.input, input_count: 1, is_segwit: true })
        .collect();
    let rounds = SEARCH_BUDGET.checked_div(coins.len())?.min(MAX_ROUNDS);
    let mut selector = CoinSelector::new(&candidates);
    selector.run_bnb(Cheapest { costs, amount }, rounds).ok()?;
    let chosen: Vec<usize> = selector.apply_selection(coins).map(|coin| coin.index).collect();
    scored(costs, amount, selector.selected_value(), &chosen)
}

fn scored(costs: &Costs, amount: u64, total: u64, chosen: &[usize]) -> Option<(u64, Selection)> {
    let score = costs.score(amount, total, chosen.len())?;
    let (fee, change) = costs.settle(amount, total, chosen.len())?;
    Some((score, Selection { coins: chosen.to_vec(), fee, change }))
}

/// The lowest score of [`Costs::score`].
struct Cheapest<'a> {
    costs: &'a Costs,
    amount: u64,
}

impl Cheapest<'_> {
    fn is_enough(&self, total: u64, inputs: usize) -> bool {
        total >= self.amount.saturating_add(self.costs.fee(inputs, false))
    }
}

impl BnbMetric for Cheapest<'_> {
    fn score(&mut self, selector: &CoinSelector<'_>) -> Option<Ordf32> {
        let inputs = selector.selected_indices().len();
        self.costs.score(self.amount, selector.selected_value(), inputs).map(rank)
    }

    /// No selection with further coins scores lower than this.
    fn bound(&mut self, selector: &CoinSelector<'_>) -> Option<Ordf32> {
        let mut total = selector.selected_value();
        let mut inputs = selector.selected_indices().len();
        if self.is_enough(total, inputs) {
            let score = self.costs.score(self.amount, total, inputs)?;
            let (_, change) = self.costs.settle(self.amount, total, inputs)?;
            return Some(rank(match change {
                // Every further coin adds to the fee and to the change.
                Some(_) => score,
                // One coin more may turn the surplus into change.
                None => score.min(self.costs.fee(inputs.saturating_add(1), false)),
            }));
        }
        for (_, candidate) in selector.unselected() {
            total = total.saturating_add(candidate.value);
            inputs = inputs.saturating_add(1);
            if self.is_enough(total, inputs) {
                return Some(rank(self.costs.fee(inputs, false)));
            }
        }
        None
    }

    fn requires_ordering_by_descending_value_pwu(&self) -> bool {
        true
    }
}

/// A score as the search wants it. Only the order of selections hangs on it, no amount.
fn rank(score: u64) -> Ordf32 {
    Ordf32(score as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn costs(rate: u32) -> Costs {
        Costs { rate: FeeRate::from_sat_per_vb_u32(rate), input: 272, payment: 124, change: 124, dust: 294 }
    }

    fn coins(values: &[u64]) -> Vec<Coin> {
        let mut values = values.to_vec();
        values.sort_unstable_by_key(|value| std::cmp::Reverse(*value));
        values.iter().enumerate().map(|(index, value)| Coin { index, value: *value }).collect()
    }

    #[test]
    fn an_exact_match_needs_no_change() {
        let costs = costs(10);
        let exact = 50_000 + costs.fee(2, false);
        let coins = coins(&[1_000_000, exact - 20_000, 20_000, 900]);
        let selection = select(&costs, 50_000, &coins).expect("enough");
        assert_eq!((selection.coins, selection.change), (vec![1, 2], None));
        assert_eq!(selection.fee, costs.fee(2, false));
    }

    #[test]
    fn change_below_dust_goes_to_the_fee() {
        let costs = costs(1);
        let with_change = costs.fee(1, true);
        let at = |total: u64| select(&costs, 10_000, &coins(&[total])).expect("enough");
        assert_eq!(at(10_000 + with_change + 294).change, Some(294));
        let below = at(10_000 + with_change + 293);
        assert_eq!((below.change, below.fee), (None, with_change + 293));
    }

    #[test]
    fn one_satoshi_short_is_short() {
        let costs = costs(7);
        let needed = 10_000 + costs.fee(2, false);
        assert_eq!(
            select(&costs, 10_000, &coins(&[needed - 6_000, 5_999])),
            Err(Short { needed, available: needed - 1 })
        );
        assert!(select(&costs, 10_000, &coins(&[needed - 6_000, 6_000])).is_ok());
        assert_eq!(select(&costs, 1, &[]).map_err(|short| short.available), Err(0));
    }

    #[test]
    fn a_coin_that_costs_more_than_it_brings_stays() {
        let selection = select(&costs(100), 10_000, &coins(&[6_800, 100_000])).expect("enough");
        assert_eq!(selection.coins, [0]);
        assert_eq!(select(&costs(100), 1_000, &coins(&[6_800])).map_err(|short| short.available), Err(0));
    }

    /// Amounts at which `f32` cannot tell a fee.
    #[test]
    fn whole_fortunes_are_counted_to_the_satoshi() {
        let costs = costs(1);
        let amount = 999_999_999_999_850;
        let selection = select(&costs, amount, &coins(&[1_000_000_000_000_000, 99, 5_000])).expect("enough");
        assert_eq!(selection.coins, [0]);
        assert_eq!((selection.change, selection.fee), (None, 150));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_rate_is_met(
            values in prop::collection::vec(1u64..100_000_000_000, 0..60),
            amount in 294u64..200_000_000_000,
            rate in 1u32..500,
        ) {
            let costs = costs(rate);
            let coins = coins(&values);
            match select(&costs, amount, &coins) {
                Ok(selection) => {
                    let total: u64 = selection.coins.iter().map(|index| coins[*index].value).sum();
                    let change = selection.change.unwrap_or(0);
                    prop_assert_eq!(total, amount + selection.fee + change);
                    prop_assert!(selection.fee >= costs.fee(selection.coins.len(), selection.change.is_some()));
                    prop_assert!(selection.change.is_none_or(|change| change >= costs.dust));
                    let unique: std::collections::BTreeSet<_> = selection.coins.iter().collect();
                    prop_assert_eq!(unique.len(), selection.coins.len());
                    // Never dearer than the largest coins first.
                    let score = costs.score(amount, total, selection.coins.len()).expect("a selection has a score");
                    let effective: Vec<Coin> = coins
                        .iter()
                        .copied()
                        .filter(|coin| coin.value > fee(costs.rate, costs.input))
                        .collect();
                    prop_assert!(score <= largest_first(&costs, amount, &effective).expect("enough").0);
                }
                Err(short) => prop_assert!(short.available < short.needed),
            }
        }
    }
}
