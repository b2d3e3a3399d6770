//! Topologically restricted until confirmation: version 3 transactions (BIP-431, Core's `policy/truc_policy.cpp`).

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::{Entry, Mempool};
use crate::node::bitcoin::reject::Reject;

/// Largest virtual size of a version 3 transaction.
const MAX_VSIZE: u64 = 10_000;
/// Largest virtual size of one with an unconfirmed parent.
const MAX_CHILD_VSIZE: u64 = 1_000;

/// Checks the version 3 rules: at most one unconfirmed parent and one unconfirmed child, and no mixing with other versions.
pub(super) fn check(pool: &Mempool, entry: &Entry, replaced: &BTreeSet<Txid>) -> Result<(), Reject> {
    let is_truc = |entry: &Entry| entry.tx.version.0 == 3;
    let name = |entry: &Entry| format!("tx {} (wtxid={})", entry.txid, entry.wtxid);
    let violation = |detail: String| Err(Reject::with("TRUC-violation", detail));

    for parent in entry.parents.iter().filter_map(|txid| pool.get(txid)) {
        match (is_truc(entry), is_truc(parent)) {
            (true, false) => {
                return violation(format!(
                    "version=3 {} cannot spend from non-version=3 {}",
                    name(entry),
                    name(parent)
                ));
            }
            (false, true) => {
                return violation(format!(
                    "non-version=3 {} cannot spend from version=3 {}",
                    name(entry),
                    name(parent)
                ));
            }
            _ => {}
        }
    }
    if !is_truc(entry) {
        return Ok(());
    }
    if entry.vsize > MAX_VSIZE {
        return violation(format!("version=3 {} is too big: {} > {MAX_VSIZE} virtual bytes", name(entry), entry.vsize));
    }
    if entry.parents.is_empty() {
        return Ok(());
    }
    if pool.ancestors(&entry.parents).len() > 1 {
        return violation(format!("{} would have too many ancestors", name(entry)));
    }
    if entry.vsize > MAX_CHILD_VSIZE {
        return violation(format!(
            "version=3 child {} is too big: {} > {MAX_CHILD_VSIZE} virtual bytes",
            name(entry),
            entry.vsize
        ));
    }
    for parent in entry.parents.iter().filter_map(|txid| pool.get(txid)) {
        if parent.children.difference(replaced).next().is_some() {
            return violation(format!("{} would exceed descendant count limit", name(parent)));
        }
    }
    Ok(())
}
