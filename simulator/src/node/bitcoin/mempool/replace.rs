//! Replacement (BIP-125 and Core's `policy/rbf.cpp`): what a transaction must pay to push others out.

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::{Entry, Mempool};
use crate::node::bitcoin::amount::{fee_rate, money};
use crate::node::bitcoin::policy::{Policy, fee_at};
use crate::node::bitcoin::reject::Reject;

/// Most transactions that one replacement may push out.
const MAX_REPLACED: usize = 100;

/// Checks the replacement of `conflicts` (and with them all of `replaced`) by `entry`.
pub(super) fn check(
    pool: &Mempool,
    entry: &Entry,
    conflicts: &BTreeSet<Txid>,
    replaced: &BTreeSet<Txid>,
    policy: &Policy,
) -> Result<(), Reject> {
    if conflicts.is_empty() {
        return Ok(());
    }
    let txid = entry.txid;
    let insufficient = |detail: String| Err(Reject::with("insufficient fee", detail));

    if let Some(conflict) = pool.ancestors(&entry.parents).intersection(conflicts).next() {
        return Err(Reject::with(
            "bad-txns-spends-conflicting-tx",
            format!("{txid} spends conflicting transaction {conflict}"),
        ));
    }
    let rate = rate(entry.fee, entry.vsize);
    for conflict in conflicts.iter().filter_map(|txid| pool.get(txid)) {
        let old = self::rate(conflict.fee, conflict.vsize);
        if rate <= old {
            return insufficient(format!(
                "rejecting replacement {txid}; new feerate {} <= old feerate {}",
                fee_rate(rate),
                fee_rate(old)
            ));
        }
    }
    if replaced.len() > MAX_REPLACED {
        return Err(Reject::with(
            "too many potential replacements",
            format!(
                "rejecting replacement {txid}; too many potential replacements ({} > {MAX_REPLACED})\n",
                replaced.len()
            ),
        ));
    }
    let old_parents: BTreeSet<_> =
        conflicts.iter().filter_map(|txid| pool.get(txid)).flat_map(|entry| &entry.parents).collect();
    for (index, input) in entry.tx.input.iter().enumerate() {
        let parent = input.previous_output.txid;
        if entry.parents.contains(&parent) && !old_parents.contains(&parent) {
            return Err(Reject::with(
                "replacement-adds-unconfirmed",
                format!("replacement {txid} adds unconfirmed input, idx {index}"),
            ));
        }
    }
    let old_fees = pool.totals(replaced).fees;
    let Some(additional) = entry.fee.checked_sub(old_fees) else {
        return insufficient(format!(
            "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
            money(entry.fee),
            money(old_fees)
        ));
    };
    let relay = fee_at(policy.incremental_fee, entry.vsize);
    if additional < relay {
        return insufficient(format!(
            "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
            money(additional),
            money(relay)
        ));
    }
    Ok(())
}

/// A fee rate in satoshis per 1000 virtual bytes, rounded down.
fn rate(fee: u64, vsize: u64) -> u64 {
    fee.saturating_mul(1000).checked_div(vsize).unwrap_or(0)
}
