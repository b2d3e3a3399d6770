//! Which transactions the next block takes: those that pay most per byte, each together with the ancestors it needs.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use bitcoin::{Transaction, Txid};

use super::{Entry, Mempool, Totals};
use crate::node::bitcoin::policy::fee_at;

/// How much room a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In weight units.
    pub weight: u64,
    /// In the cost of signature operations.
    pub sigops: u64,
    /// The least fee rate that gets in, in satoshis per 1000 virtual bytes.
    pub min_rate: u64,
}

/// What a block takes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The transactions, parents before children.
    pub transactions: Vec<Arc<Transaction>>,
    /// Their fees, in satoshis.
    pub fees: u64,
}

/// A transaction with those of its ancestors that are not selected yet, ordered by fee rate.
#[derive(PartialEq, Eq)]
struct Package {
    txid: Txid,
    totals: Totals,
}

impl Ord for Package {
    fn cmp(&self, other: &Self) -> Ordering {
        let score = |fees: u64, vsize: u64| u128::from(fees) * u128::from(vsize);
        let (own, others) = (score(self.totals.fees, other.totals.vsize), score(other.totals.fees, self.totals.vsize));
        own.cmp(&others).then_with(|| other.txid.cmp(&self.txid))
    }
}

impl PartialOrd for Package {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Mempool {
    /// Fills `capacity`: first with `wanted` and its ancestors, then by ancestor fee rate. A package that doesn't fit is passed over.
    pub fn select(&self, capacity: Capacity, wanted: Option<&Txid>) -> Selection {
        let mut selected = BTreeSet::new();
        let mut selection = Selection::default();
        let mut room = capacity;
        if let Some(txid) = wanted {
            self.take(txid, &mut room, &mut selected, &mut selection);
        }

        let package = |entry: &Entry, selected: &BTreeSet<Txid>| {
            let mut members = self.ancestors(&entry.parents);
            members.insert(entry.txid);
            Package { txid: entry.txid, totals: self.totals(members.difference(selected)) }
        };
        let mut heap: BinaryHeap<_> = self.entries.values().map(|entry| package(entry, &selected)).collect();
        while let Some(best) = heap.pop() {
            let Some(entry) = self.entries.get(&best.txid).filter(|entry| !selected.contains(&entry.txid)) else {
                continue;
            };
            if package(entry, &selected).totals != best.totals {
                // An ancestor was selected since this was scored; the score of then was pushed below.
                continue;
            }
            if best.totals.fees < fee_at(capacity.min_rate, best.totals.vsize) {
                // All others pay even less.
                break;
            }
            let taken = self.take(&best.txid, &mut room, &mut selected, &mut selection);
            let affected: BTreeSet<_> = taken.iter().flat_map(|txid| self.descendants(txid)).collect();
            let left = affected.difference(&selected).filter_map(|txid| self.entries.get(txid));
            heap.extend(left.map(|entry| package(entry, &selected)));
        }
        selection
    }

    /// Selects a transaction and its ancestors, all or none, and returns those newly selected.
    fn take(
        &self,
        txid: &Txid,
        room: &mut Capacity,
        selected: &mut BTreeSet<Txid>,
        selection: &mut Selection,
    ) -> Vec<Txid> {
        let Some(entry) = self.entries.get(txid) else { return Vec::new() };
        let mut members = self.ancestors(&entry.parents);
        members.insert(*txid);
        let mut package: Vec<_> = members.difference(selected).filter_map(|txid| self.entries.get(txid)).collect();
        package.sort_unstable_by_key(|entry| entry.order);

        let sum = |of: fn(&Entry) -> u64| package.iter().fold(0_u64, |sum, entry| sum.saturating_add(of(entry)));
        let (Some(weight), Some(sigops)) =
            (room.weight.checked_sub(sum(|entry| entry.weight)), room.sigops.checked_sub(sum(|entry| entry.sigops)))
        else {
            return Vec::new();
        };
        *room = Capacity { weight, sigops, ..*room };
        for entry in &package {
            selected.insert(entry.txid);
            selection.fees = selection.fees.saturating_add(entry.fee);
            selection.transactions.push(Arc::clone(&entry.tx));
        }
        package.iter().map(|entry| entry.txid).collect()
    }
}
