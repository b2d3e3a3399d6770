//! Transactions that wait for a block, under Bitcoin Core 28's relay policy.
//!
//! The pool has no size limit of its own, so nothing is evicted for room and the least fee rate never rises. Of Core's policy, the
//! CPFP carve-out, package relay and TRUC sibling eviction are left out.

mod accept;
mod replace;
mod select;
mod truc;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

pub use accept::{Candidate, Mode};
pub use select::{Capacity, Selection};

use super::rules::Coin;

/// A transaction in the pool.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The transaction.
    pub tx: Arc<Transaction>,
    /// Its id.
    pub txid: Txid,
    /// Its id with its witnesses.
    pub wtxid: Wtxid,
    /// Its fee, in satoshis.
    pub fee: u64,
    /// Its weight, in weight units.
    pub weight: u64,
    /// Its virtual size as policy counts it.
    pub vsize: u64,
    /// The cost of its signature operations.
    pub sigops: u64,
    /// When it entered, in seconds since the Unix epoch.
    pub time: u64,
    /// The height of the tip when it entered.
    pub height: u32,
    /// Its place in the order of entry: after all its ancestors.
    pub order: u64,
    /// The transactions in the pool that it spends from.
    pub parents: BTreeSet<Txid>,
    /// The transactions in the pool that spend from it.
    pub children: BTreeSet<Txid>,
}

impl Entry {
    /// Whether the transaction itself says that it can be replaced (BIP-125).
    pub fn signals_replacement(&self) -> bool {
        self.tx.input.iter().any(|input| input.sequence.is_rbf())
    }
}

/// Sums over a set of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many.
    pub count: u64,
    /// Their virtual size.
    pub vsize: u64,
    /// Their fees, in satoshis.
    pub fees: u64,
}

/// The transactions that wait for a block.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    entries: BTreeMap<Txid, Entry>,
    wtxids: HashMap<Wtxid, Txid>,
    spenders: HashMap<OutPoint, Txid>,
    entered: u64,
    sequence: u64,
}

impl Mempool {
    /// The entry of a transaction.
    pub fn get(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(txid)
    }

    /// Whether this very transaction, witnesses included, is in the pool.
    pub fn has_verified(&self, wtxid: &Wtxid) -> bool {
        self.wtxids.contains_key(wtxid)
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts additions and removals, from 1 (`mempool_sequence`).
    pub fn sequence(&self) -> u64 {
        self.sequence.saturating_add(1)
    }

    /// The transaction in the pool that spends a coin.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Txid> {
        self.spenders.get(outpoint).copied()
    }

    /// A coin that a transaction in the pool makes, spent there or not. `next_height` is that of the next block.
    pub fn coin(&self, outpoint: &OutPoint, next_height: u32) -> Option<Coin> {
        let entry = self.entries.get(&outpoint.txid)?;
        let output = entry.tx.output.get(usize::try_from(outpoint.vout).ok()?)?;
        Some(Coin { output: output.clone(), height: next_height, coinbase: false })
    }

    /// The unconfirmed ancestors of a transaction with these parents, the parents included.
    pub fn ancestors(&self, parents: &BTreeSet<Txid>) -> BTreeSet<Txid> {
        self.closure(parents.iter().copied(), |entry| &entry.parents)
    }

    /// The unconfirmed descendants of a transaction, itself included.
    pub fn descendants(&self, txid: &Txid) -> BTreeSet<Txid> {
        self.closure([*txid], |entry| &entry.children)
    }

    fn closure<'a>(
        &'a self,
        from: impl IntoIterator<Item = Txid>,
        next: impl Fn(&'a Entry) -> &'a BTreeSet<Txid>,
    ) -> BTreeSet<Txid> {
        let mut found = BTreeSet::new();
        let mut open: Vec<_> = from.into_iter().collect();
        while let Some(txid) = open.pop() {
            let Some(entry) = self.entries.get(&txid) else { continue };
            if found.insert(txid) {
                open.extend(next(entry));
            }
        }
        found
    }

    /// Sums over those of `txids` that are in the pool.
    pub fn totals<'a>(&self, txids: impl IntoIterator<Item = &'a Txid>) -> Totals {
        txids.into_iter().filter_map(|txid| self.entries.get(txid)).fold(Totals::default(), |sum, entry| Totals {
            count: sum.count.saturating_add(1),
            vsize: sum.vsize.saturating_add(entry.vsize),
            fees: sum.fees.saturating_add(entry.fee),
        })
    }

    /// Takes in a transaction that was checked against this very pool, and removes those it replaces.
    pub fn insert(&mut self, candidate: Candidate) {
        let Candidate { mut entry, replaced } = candidate;
        for txid in replaced {
            self.remove(&txid);
        }
        self.entered = self.entered.saturating_add(1);
        self.sequence = self.sequence.saturating_add(1);
        entry.order = self.entered;
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.insert(entry.txid);
            }
        }
        for input in &entry.tx.input {
            self.spenders.insert(input.previous_output, entry.txid);
        }
        self.wtxids.insert(entry.wtxid, entry.txid);
        self.entries.insert(entry.txid, entry);
    }

    /// Takes out what a block has confirmed, and everything that conflicts with it.
    pub fn confirm(&mut self, transactions: &[Transaction]) {
        if self.is_empty() {
            return;
        }
        for tx in transactions {
            self.remove(&tx.compute_txid());
            for input in &tx.input {
                if let Some(loser) = self.spender(&input.previous_output) {
                    for txid in self.descendants(&loser) {
                        self.remove(&txid);
                    }
                }
            }
        }
    }

    /// Empties the pool, keeping its counters. The entries come back in the order that they entered in.
    pub fn drain(&mut self) -> Vec<Entry> {
        let mut entries: Vec<_> = std::mem::take(&mut self.entries).into_values().collect();
        entries.sort_unstable_by_key(|entry| entry.order);
        self.wtxids.clear();
        self.spenders.clear();
        self.sequence = self.sequence.saturating_add(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        entries
    }

    fn remove(&mut self, txid: &Txid) {
        let Some(entry) = self.entries.remove(txid) else { return };
        self.sequence = self.sequence.saturating_add(1);
        self.wtxids.remove(&entry.wtxid);
        for input in &entry.tx.input {
            if self.spenders.get(&input.previous_output) == Some(txid) {
                self.spenders.remove(&input.previous_output);
            }
        }
        for parent in &entry.parents {
            if let Some(parent) = self.entries.get_mut(parent) {
                parent.children.remove(txid);
            }
        }
        for child in &entry.children {
            if let Some(child) = self.entries.get_mut(child) {
                child.parents.remove(txid);
            }
        }
    }
}
