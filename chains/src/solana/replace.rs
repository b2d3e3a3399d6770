//! Replacement: another message under the same durable nonce value, of which the cluster includes at most one.
//!
//! A message under a blockhash has nothing in common with another that could exclude it, so it is never replaced
//! (`docs/adr/0008-solana-replacement.md`).

use super::build::{self, State};
use super::fee::{ComputeBudget, MAX_COMPUTE_UNITS, MicroLamports};
use super::instruction;
use super::nonce::{Nonce, Validity};
use super::wire::Unsigned;
use crate::account::Account;
use crate::chain::{BuildError, Replacement};
use crate::intent::Intent;
use crate::network::Cluster;

/// By how many hundredths the price of a compute unit is raised at least. The cluster asks for nothing: leaders put first what
/// pays most for each unit.
const LEAST_RAISE: u64 = 10;

/// The nonce under which every one of `previous` is.
pub(super) fn nonce_of(previous: &[Unsigned]) -> Result<Nonce, BuildError> {
    let mut found: Option<Nonce> = None;
    for unsigned in previous {
        let Validity::Nonce(nonce) = unsigned.validity() else {
            return Err(BuildError::NotReplaceable(
                "a payment under a blockhash can't be replaced; it expires by itself when the blockhash is too old",
            ));
        };
        if found.is_some_and(|found| !found.excludes(nonce)) {
            return Err(BuildError::NotReplaceable("the attempts are under different nonces"));
        }
        found = Some(*nonce);
    }
    found.ok_or(BuildError::NotReplaceable("there is no attempt to replace"))
}

/// The least that must be offered to go before every one of `previous`: a tenth more for each unit, for at least as many
/// units, so that the fee rises as well.
pub(super) fn least(previous: &[Unsigned]) -> Result<ComputeBudget, BuildError> {
    let price = previous.iter().map(|one| instruction::unit_price(one.message())).max().unwrap_or_default().get();
    let raise = price.div_ceil(100 / LEAST_RAISE).max(1);
    let price = price.checked_add(raise).ok_or(BuildError::NotReplaceable("no higher price can be offered"))?;
    let limits = previous.iter().map(|one| instruction::unit_limit(one.message()).unwrap_or(MAX_COMPUTE_UNITS));
    Ok(ComputeBudget {
        unit_limit: limits.max().unwrap_or_default().min(MAX_COMPUTE_UNITS),
        unit_price: MicroLamports::new(price),
    })
}

/// Builds what takes the place of `previous`, at the market's price where the cap permits it, else at the least that is possible.
pub(super) fn replace(
    cluster: Cluster,
    intent: &Intent,
    account: &Account,
    previous: &[Unsigned],
    purpose: Replacement,
    state: &State,
) -> Result<Unsigned, BuildError> {
    let nonce = nonce_of(previous)?;
    match &state.validity {
        Validity::Nonce(found) if found.excludes(&nonce) => {}
        _ => return Err(BuildError::NotReplaceable("the nonce has moved on; one of the attempts may be included")),
    }
    let least = least(previous)?;
    let market = state.compute.unit_price.max(least.unit_price);
    let at = |unit_price| {
        let unit_limit = state.compute.unit_limit.max(least.unit_limit);
        let state = State { compute: ComputeBudget { unit_limit, unit_price }, ..state.clone() };
        match purpose {
            Replacement::SpeedUp => build::build(cluster, intent, account, &state),
            Replacement::Cancel => build::cancel(cluster, intent, account, &state),
        }
    };
    match at(market) {
        Err(BuildError::FeeAboveCap { .. }) if market > least.unit_price => at(least.unit_price),
        built => built,
    }
}
