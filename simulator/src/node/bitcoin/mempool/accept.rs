//! What the pool takes in (Core: `MemPoolAccept`), with the checks in Core's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

use super::{Entry, Mempool, replace, truc};
use crate::node::bitcoin::chain::{Chain, sigops_cost};
use crate::node::bitcoin::policy::{Policy, check_sigops, check_standard, check_standard_inputs, fee_at, policy_vsize};
use crate::node::bitcoin::reject::Reject;
use crate::node::bitcoin::rules::{Coin, check_inputs, check_transaction};
use crate::node::bitcoin::script;

/// Most unconfirmed ancestors or descendants, the transaction included.
const MAX_FAMILY: u64 = 25;
/// Largest virtual size of unconfirmed ancestors or descendants, the transaction included.
const MAX_FAMILY_VSIZE: u64 = 101_000;

/// Where a transaction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From outside: everything is checked.
    Relay,
    /// From the journal: it was accepted in this very state before.
    Replay,
    /// From a block or the pool, after a reorganisation: it was valid once, fees are not asked for again and nothing is replaced.
    Reorg,
}

/// A transaction that may enter the pool as it is.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What is added.
    pub entry: Entry,
    /// What leaves for it, descendants included.
    pub replaced: BTreeSet<Txid>,
}

impl Candidate {
    /// Whether the fee is above `rate`, in satoshis per 1000 virtual bytes.
    pub fn pays_more_than(&self, rate: u64) -> bool {
        let vsize = u64::try_from(self.entry.tx.vsize()).unwrap_or(u64::MAX);
        self.entry.fee > fee_at(rate, vsize)
    }
}

impl Mempool {
    /// Checks whether `tx` may enter at `time` (seconds since the Unix epoch).
    ///
    /// # Errors
    /// Core's reason.
    pub fn check(
        &self,
        tx: Arc<Transaction>,
        chain: &Chain,
        policy: &Policy,
        time: u64,
        mode: Mode,
    ) -> Result<Candidate, Reject> {
        check_transaction(&tx)?;
        if tx.is_coinbase() {
            return Err(Reject::new("coinbase"));
        }
        if mode == Mode::Relay {
            check_standard(&tx)?;
        }
        // The lock time needs no coins, and Core reports it before anything that does.
        chain.check_locks(&tx, &[])?;

        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        if self.wtxids.contains_key(&wtxid) {
            return Err(Reject::new("txn-already-in-mempool"));
        }
        if self.entries.contains_key(&txid) {
            return Err(Reject::new("txn-same-nonwitness-data-in-mempool"));
        }
        let conflicts = self.conflicts(&tx, policy, mode)?;
        let coins = self.spent_coins(&tx, &txid, chain)?;
        chain.check_locks(&tx, &coins)?;
        let fee = check_inputs(&tx, &coins, chain.next_height())?;
        let sigops = sigops_cost(&tx, &coins);
        if mode == Mode::Relay {
            check_standard_inputs(&tx, &coins)?;
            check_sigops(sigops)?;
        }

        let weight = tx.weight().to_wu();
        let vsize = policy_vsize(weight, sigops);
        let parents = tx.input.iter().map(|input| input.previous_output.txid);
        let entry = Entry {
            txid,
            wtxid,
            fee,
            weight,
            vsize,
            sigops,
            time,
            height: chain.tip().height,
            order: 0,
            parents: parents.filter(|txid| self.entries.contains_key(txid)).collect(),
            children: BTreeSet::new(),
            tx,
        };
        let replaced: BTreeSet<_> = conflicts.iter().flat_map(|txid| self.descendants(txid)).collect();
        if mode == Mode::Relay {
            let least = fee_at(policy.min_relay_fee, vsize);
            if fee < least {
                return Err(Reject::with("min relay fee not met", format!("{fee} < {least}")));
            }
            truc::check(self, &entry, &replaced)?;
            self.check_family(&entry, &replaced)?;
            replace::check(self, &entry, &conflicts, &replaced, policy)?;
            script::verify(&entry.tx, &coins)?;
            script::verify_policy(&entry.tx, &coins)?;
        }
        Ok(Candidate { entry, replaced })
    }

    /// The transactions in the pool that spend the same coins.
    fn conflicts(&self, tx: &Transaction, policy: &Policy, mode: Mode) -> Result<BTreeSet<Txid>, Reject> {
        let mut conflicts = BTreeSet::new();
        for input in &tx.input {
            let Some(other) = self.spender(&input.previous_output).and_then(|txid| self.get(&txid)) else { continue };
            let replaceable = match mode {
                Mode::Relay => policy.full_rbf || other.tx.version.0 == 3 || other.signals_replacement(),
                Mode::Replay => true,
                Mode::Reorg => false,
            };
            if !replaceable {
                return Err(Reject::new("txn-mempool-conflict"));
            }
            conflicts.insert(other.txid);
        }
        Ok(conflicts)
    }

    fn spent_coins(&self, tx: &Transaction, txid: &Txid, chain: &Chain) -> Result<Vec<Coin>, Reject> {
        let height = chain.next_height();
        let coin = |outpoint: &OutPoint| chain.coin(outpoint).cloned().or_else(|| self.coin(outpoint, height));
        let coins: Option<Vec<_>> = tx.input.iter().map(|input| coin(&input.previous_output)).collect();
        coins.ok_or_else(|| {
            let confirmed =
                (0_u32..).zip(&tx.output).any(|(vout, _)| chain.coin(&OutPoint::new(*txid, vout)).is_some());
            if confirmed { Reject::new("txn-already-known") } else { Reject::missing_inputs() }
        })
    }

    /// Limits chains of unconfirmed transactions.
    fn check_family(&self, entry: &Entry, replaced: &BTreeSet<Txid>) -> Result<(), Reject> {
        let too_long = |detail: String| Err(Reject::with("too-long-mempool-chain", detail));
        let ancestors = self.ancestors(&entry.parents);
        let above = self.totals(&ancestors);
        if above.vsize.saturating_add(entry.vsize) > MAX_FAMILY_VSIZE {
            return too_long(format!("exceeds ancestor size limit [limit: {MAX_FAMILY_VSIZE}]"));
        }
        if above.count >= MAX_FAMILY {
            return too_long(format!("too many unconfirmed ancestors [limit: {MAX_FAMILY}]"));
        }
        for ancestor in &ancestors {
            let below = self.totals(self.descendants(ancestor).difference(replaced));
            if below.vsize.saturating_add(entry.vsize) > MAX_FAMILY_VSIZE {
                return too_long(format!(
                    "exceeds descendant size limit for tx {ancestor} [limit: {MAX_FAMILY_VSIZE}]"
                ));
            }
            if below.count >= MAX_FAMILY {
                return too_long(format!("too many descendants for tx {ancestor} [limit: {MAX_FAMILY}]"));
            }
        }
        Ok(())
    }
}
