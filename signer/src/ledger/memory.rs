//! What the ledger's lines say, for quick answers.

use std::collections::{BTreeMap, BTreeSet};

use chains::amount::Amount;
use chains::chain::Slot;
use uuid::Uuid;

use super::{Drawn, Entry, LedgerError, MAX_FENCE_STEP};
use crate::policy::limit::{CounterKey, Draw, Usage, Used};
use crate::request::IntentId;

#[derive(Debug, Default)]
pub(super) struct Memory {
    slots: BTreeMap<Slot, Uuid>,
    intents: BTreeMap<IntentId, Uuid>,
    payments: BTreeMap<Uuid, Payment>,
    usage: Usage,
    /// How many entries there are.
    pub(super) entries: u64,
}

#[derive(Debug)]
struct Payment {
    intent: IntentId,
    /// When the first entry was made.
    agreed: u64,
    /// The highest fence of an entry.
    fence: u64,
    attempts: BTreeMap<[u8; 32], BTreeSet<Slot>>,
    /// What its attempts have drawn together.
    drawn: BTreeMap<CounterKey, Amount>,
}

/// Whether an entry has been made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    No,
}

impl Memory {
    /// The highest fence that was seen for a payment.
    pub(super) fn fence(&self, tx: Uuid) -> u64 {
        self.payments.get(&tx).map_or(0, |payment| payment.fence)
    }

    pub(super) fn check(&self, entry: &Entry) -> Result<Known, LedgerError> {
        let tx = entry.tx;
        if entry.slots.is_empty() {
            return Err(LedgerError::NoSlot { tx });
        }
        let (given, seen) = (entry.fence, self.fence(tx));
        match given.checked_sub(seen) {
            None => return Err(LedgerError::StaleFence { given, seen }),
            Some(step) if step > MAX_FENCE_STEP => return Err(LedgerError::WildFence { given, seen }),
            Some(_) => (),
        }
        if let Some(other) = self.intents.get(&entry.intent).filter(|other| **other != tx) {
            return Err(LedgerError::IntentTaken { tx: *other });
        }
        for slot in &entry.slots {
            if let Some(other) = self.slots.get(slot).filter(|other| **other != tx) {
                return Err(LedgerError::SlotTaken { slot: slot.clone(), tx: *other });
            }
        }
        let Some(payment) = self.payments.get(&tx) else {
            return Ok(Known::No);
        };
        if payment.intent != entry.intent {
            return Err(LedgerError::OtherIntent { tx });
        }
        if let Some(slots) = payment.attempts.get(&entry.unsigned) {
            return if *slots == entry.slots { Ok(Known::Yes) } else { Err(LedgerError::SlotsChanged { tx }) };
        }
        match payment.attempts.iter().find(|(_, slots)| slots.is_disjoint(&entry.slots)) {
            Some((earlier, _)) => Err(LedgerError::NoConflict { tx, earlier: *earlier }),
            None => Ok(Known::No),
        }
    }

    /// What is left to draw for a transaction, each counter once: nothing that an earlier attempt of it has drawn.
    ///
    /// # Errors
    /// Where that doesn't fit under a cap.
    pub(super) fn draw(&self, tx: Uuid, draws: &[Draw], at: u64) -> Result<Vec<Draw>, LedgerError> {
        let drawn = self.payments.get(&tx).map(|payment| &payment.drawn);
        let left = draws.iter().filter_map(|draw| match drawn.and_then(|drawn| drawn.get(&draw.counter)) {
            Some(amount) => draw.beyond(*amount),
            None => Some(draw.clone()),
        });
        let left = left.collect::<Vec<_>>();
        self.usage.check(&left, at)?;
        Ok(left)
    }

    /// The time that counts where the clock shows `at`.
    pub(super) fn time(&self, at: u64) -> u64 {
        self.usage.time(at)
    }

    /// When an intent was first agreed to, in milliseconds since the Unix epoch.
    pub(super) fn agreed(&self, intent: IntentId) -> Option<u64> {
        self.payments.get(self.intents.get(&intent)?).map(|payment| payment.agreed)
    }

    pub(super) fn remember(&mut self, entry: Entry) {
        self.entries = self.entries.saturating_add(1);
        self.slots.extend(entry.slots.iter().map(|slot| (slot.clone(), entry.tx)));
        self.intents.insert(entry.intent, entry.tx);
        let payment = self.payments.entry(entry.tx).or_insert_with(|| Payment {
            intent: entry.intent,
            agreed: entry.at,
            fence: 0,
            attempts: BTreeMap::new(),
            drawn: BTreeMap::new(),
        });
        payment.fence = payment.fence.max(entry.fence);
        payment.attempts.insert(entry.unsigned, entry.slots);
        for Drawn { counter, bucket, amount, count } in entry.draws {
            self.usage.add(&counter, bucket, Used { amount, count });
            let total = payment.drawn.entry(counter).or_default();
            *total = total.checked_add(amount).unwrap_or(Amount::MAX);
        }
        self.usage.advance(entry.at);
    }
}
