//! Transactions that wait for a block.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use solana_sdk::signature::Signature;

use super::block::Wired;

/// The most transactions that wait.
pub(super) const MAX_QUEUE: usize = 100_000;

/// Why a transaction is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_QUEUE} transactions are waiting; try again after the next slot")]
pub(super) struct QueueFull;

/// What waits, and what will wait again should its block be lost.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of arrival.
    waiting: VecDeque<Arc<Wired>>,
    /// Their wire forms.
    known: HashSet<String>,
    /// What clients asked the node to send until it is final or its time is over.
    retried: HashMap<Signature, Arc<Wired>>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What waits, in the order of arrival.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<Wired>> {
        self.waiting.iter()
    }

    /// Lets a transaction wait. `false` where it does already.
    ///
    /// # Errors
    /// Where too many are waiting.
    pub(super) fn add(&mut self, wired: &Arc<Wired>) -> Result<bool, QueueFull> {
        if self.waiting.len() >= MAX_QUEUE {
            return Err(QueueFull);
        }
        let new = self.known.insert(wired.wire.clone());
        if new {
            self.waiting.push_back(Arc::clone(wired));
        }
        Ok(new)
    }

    /// Takes out at most `most` transactions that may go into a block, the oldest first.
    pub(super) fn take(&mut self, most: usize, mut may: impl FnMut(&Wired) -> bool) -> Vec<Arc<Wired>> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::new();
        while taken.len() < most
            && let Some(wired) = self.waiting.pop_front()
        {
            if may(&wired) {
                self.known.remove(&wired.wire);
                taken.push(wired);
            } else {
                kept.push_back(wired);
            }
        }
        kept.append(&mut self.waiting);
        self.waiting = kept;
        taken
    }

    /// Takes out what is in somebody's block.
    pub(super) fn drop_included(&mut self, block: &[Arc<Wired>]) {
        let mut some = false;
        for wired in block {
            some |= self.known.remove(&wired.wire);
        }
        if some {
            self.waiting.retain(|wired| self.known.contains(&wired.wire));
        }
    }

    /// Forgets everything. Returns how many transactions were waiting.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.waiting.len();
        *self = Self::default();
        count
    }

    /// Remembers a transaction until [`Self::retain`] ends it.
    pub(super) fn remember(&mut self, wired: &Arc<Wired>) {
        self.retried.insert(wired.signature(), Arc::clone(wired));
    }

    /// What is remembered under a signature.
    pub(super) fn remembered(&self, signature: &Signature) -> Option<&Arc<Wired>> {
        self.retried.get(signature)
    }

    /// Ends what is remembered for nothing any more.
    pub(super) fn retain(&mut self, lives: impl Fn(&Wired) -> bool) {
        self.retried.retain(|_, wired| lives(wired));
    }
}
