//! A transaction in the place of an earlier one: the same nonce, for more.
//!
//! Nodes take it only where it raises both prices of gas, the highest one and the tip, by the share that they are
//! configured to ask for: geth's and reth's price bump, 10 %.

use super::build::{self, Plan, Replacing};
use super::{Ethereum, Fees, Gas, GasPrice, Nonce, State, Transaction, Unsigned};
use crate::account::Account;
use crate::amount::Amount;
use crate::chain::{BuildError, Replacement};
use crate::intent::Intent;

/// Builds the transaction that takes the place of `previous`.
///
/// It offers what the market asks, as far as the intent's cap allows, and at least what nodes ask of a replacement.
pub(super) fn replace(
    chain: &Ethereum,
    intent: &Intent,
    account: &Account,
    previous: &[Unsigned],
    purpose: Replacement,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let plan = plan(chain, intent, account, purpose)?;
    let nonce = nonce_of(chain, &plan, previous)?;
    let Some(Replacing { bump }) = state.replacing.filter(|_| state.nonce == nonce) else {
        return Err(BuildError::NotReplaceable("the state was gathered for another transaction; gather it anew"));
    };
    let affordable = intent.max_fee.and_then(|cap| state.gas_limit.affordable(cap));
    let offer = Offer { bump, affordable };
    let fees = offer.fees(previous, state.fees).ok_or(BuildError::Overflow("a gas price of 128 bits"))?;
    let fee = state.gas_limit.cost(fees.max_gas_price());
    if let Some(cap) = intent.max_fee.filter(|cap| fee > *cap) {
        return Err(BuildError::FeeAboveCap { fee, cap });
    }
    plan.check_funds(state.balance, state.token_balance, fee)?;
    Ok(build::transaction(chain, plan, nonce, state.gas_limit, fees))
}

/// What the replacement does: the intent, or a payment of nothing from the wallet to itself.
pub(super) fn plan(
    chain: &Ethereum,
    intent: &Intent,
    account: &Account,
    purpose: Replacement,
) -> Result<Plan, BuildError> {
    match purpose {
        Replacement::SpeedUp => Plan::new(chain, intent, account),
        Replacement::Cancel => Plan::nothing(chain, account),
    }
}

/// The nonce that all of `previous` have, transactions of the plan's sender.
pub(super) fn nonce_of(chain: &Ethereum, plan: &Plan, previous: &[Unsigned]) -> Result<Nonce, BuildError> {
    let first = previous.first().ok_or(BuildError::NotReplaceable("there is no earlier attempt"))?;
    if previous.iter().any(|tx| tx.chain_id() != chain.chain_id() || tx.from() != plan.from) {
        return Err(BuildError::NotReplaceable("an earlier attempt is of another account or network"));
    }
    if previous.iter().any(|tx| tx.nonce() != first.nonce()) {
        return Err(BuildError::NotReplaceable("the earlier attempts don't have one nonce in common"));
    }
    Ok(first.nonce())
}

/// The highest gas limit of `previous`.
pub(super) fn highest_gas_limit(previous: &[Unsigned]) -> Option<Gas> {
    previous.iter().map(Unsigned::gas_limit).max()
}

/// How a replacement's prices come about.
struct Offer {
    bump: super::BasisPoints,
    /// The price that the intent's cap allows.
    affordable: Option<GasPrice>,
}

impl Offer {
    /// The fees of the replacement, of the kind that the market has; `None` above 2^128 - 1 wei.
    fn fees(&self, previous: &[Unsigned], market: Fees) -> Option<Fees> {
        let price = previous.iter().map(Unsigned::max_gas_price).max()?;
        let tip = previous.iter().map(tip).max()?;
        Some(match market {
            Fees::Eip1559 { max_fee_per_gas, max_priority_fee_per_gas } => Fees::Eip1559 {
                max_fee_per_gas: self.above(price, max_fee_per_gas)?,
                max_priority_fee_per_gas: self.above(tip, max_priority_fee_per_gas)?,
            },
            Fees::Legacy { gas_price } => Fees::Legacy { gas_price: self.above(price, gas_price)? },
        })
    }

    /// At least the bump above `earlier`, at most what is affordable where that leaves a choice.
    fn above(&self, earlier: GasPrice, market: GasPrice) -> Option<GasPrice> {
        let least = earlier.checked_bump(self.bump)?;
        Some(least.max(self.affordable.map_or(market, |most| market.min(most))))
    }
}

/// What the transaction offers as a tip; nodes count the one price of a type-1 transaction as both.
fn tip(unsigned: &Unsigned) -> GasPrice {
    match unsigned.transaction() {
        Transaction::Eip1559(tx) => GasPrice::from_wei(tx.max_priority_fee_per_gas),
        Transaction::Eip2930(tx) => GasPrice::from_wei(tx.gas_price),
    }
}

impl Gas {
    /// The highest price at which this much gas costs no more than `cap`; `None` where every price does.
    fn affordable(self, cap: Amount) -> Option<GasPrice> {
        let units = alloy::primitives::U256::from(self.units());
        let price = cap.base_units().checked_div(units)?;
        u128::try_from(price).ok().map(GasPrice::from_wei)
    }
}
