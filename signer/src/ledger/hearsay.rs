//! What other signers tell of their ledgers, for a signer whose own went back in time.
//!
//! What is told only ever adds to what is refused. It is kept apart from what the signer did itself: it takes slots and
//! names of intents, it asks that later attempts exclude the attempts that are told, and it fills counters. It never
//! stands for an entry of the signer's own, frees a slot, or covers a draw. So a signer that colludes can claim slots that
//! nobody used and block the payments that need them, and it can fill a limit: a denial of service by somebody who is
//! known by name, since each line says who told it. It can't make anything be signed. Where two tell different stories,
//! both count.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::Slot;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Drawn, Entry, LedgerError};
use crate::policy::limit::{BucketId, CounterKey, Used};
use crate::request::IntentId;

/// What a signer tells of one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(super) tx: Uuid,
    pub(super) intent: IntentId,
    pub(super) attempts: Vec<Attempt>,
    /// What all attempts together drew in each bucket.
    pub(super) draws: Vec<Drawn>,
}

/// SHA-256 of the unsigned bytes, and the slots that they use.
pub(super) type Attempt = ([u8; 32], BTreeSet<Slot>);

/// What was drawn, by counter and bucket.
pub(super) type Draws = BTreeMap<CounterKey, BTreeMap<BucketId, Used>>;

/// All that was told.
#[derive(Debug, Default)]
pub(super) struct Hearsay {
    slots: BTreeMap<Slot, BTreeSet<Uuid>>,
    intents: BTreeMap<IntentId, BTreeSet<Uuid>>,
    payments: BTreeMap<Uuid, Payment>,
}

#[derive(Debug, Default)]
struct Payment {
    intents: BTreeSet<IntentId>,
    attempts: BTreeSet<Attempt>,
    draws: Draws,
}

impl Hearsay {
    /// Whether an entry goes together with everything that was told.
    pub(super) fn check(&self, entry: &Entry) -> Result<(), LedgerError> {
        let tx = entry.tx;
        let other = |owners: Option<&BTreeSet<Uuid>>| owners?.iter().find(|owner| **owner != tx).copied();
        if let Some(tx) = other(self.intents.get(&entry.intent)) {
            return Err(LedgerError::IntentTaken { tx });
        }
        for slot in &entry.slots {
            if let Some(tx) = other(self.slots.get(slot)) {
                return Err(LedgerError::SlotTaken { slot: slot.clone(), tx });
            }
        }
        let Some(payment) = self.payments.get(&tx) else { return Ok(()) };
        if payment.intents.iter().any(|intent| *intent != entry.intent) {
            return Err(LedgerError::OtherIntent { tx });
        }
        for (earlier, slots) in &payment.attempts {
            if *earlier == entry.unsigned && *slots != entry.slots {
                return Err(LedgerError::SlotsChanged { tx });
            }
            if slots.is_disjoint(&entry.slots) {
                return Err(LedgerError::NoConflict { tx, earlier: *earlier });
            }
        }
        Ok(())
    }

    /// Whether that attempt of the payment was told before.
    pub(super) fn knows(&self, entry: &Entry) -> bool {
        let payment = self.payments.get(&entry.tx).filter(|payment| payment.intents.contains(&entry.intent));
        payment.is_some_and(|payment| payment.attempts.contains(&(entry.unsigned, entry.slots.clone())))
    }

    /// What was told that a payment drew in a bucket: the most that anybody told.
    pub(super) fn drawn(&self, tx: Uuid, counter: &CounterKey, bucket: BucketId) -> Used {
        let buckets = self.payments.get(&tx).and_then(|payment| payment.draws.get(counter));
        buckets.and_then(|buckets| buckets.get(&bucket)).copied().unwrap_or_default()
    }

    pub(super) fn remember(&mut self, entry: &Entry) {
        for slot in &entry.slots {
            self.slots.entry(slot.clone()).or_default().insert(entry.tx);
        }
        self.intents.entry(entry.intent).or_default().insert(entry.tx);
        let payment = self.payments.entry(entry.tx).or_default();
        payment.intents.insert(entry.intent);
        payment.attempts.insert((entry.unsigned, entry.slots.clone()));
        for Drawn { counter, bucket, amount, count } in &entry.draws {
            let drawn = payment.draws.entry(counter.clone()).or_default().entry(*bucket).or_default();
            *drawn = drawn.most(Used { amount: *amount, count: *count });
        }
    }

    /// What was told, to be passed on.
    pub(super) fn tell(&self) -> impl Iterator<Item = Told> + '_ {
        self.payments.iter().flat_map(|(tx, payment)| {
            payment.intents.iter().map(|intent| Told {
                tx: *tx,
                intent: *intent,
                attempts: payment.attempts.iter().cloned().collect(),
                draws: listed(&payment.draws),
            })
        })
    }
}

/// Draws as a list.
pub(super) fn listed(draws: &Draws) -> Vec<Drawn> {
    let of = |(counter, buckets): (&CounterKey, &BTreeMap<BucketId, Used>)| {
        let counter = counter.clone();
        let drawn = move |(bucket, used): (&BucketId, &Used)| Drawn {
            counter: counter.clone(),
            bucket: *bucket,
            amount: used.amount,
            count: used.count,
        };
        buckets.iter().map(drawn).collect::<Vec<_>>()
    };
    draws.iter().flat_map(of).collect()
}
