//! What the ledger's lines say, for quick answers.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::Slot;
use uuid::Uuid;

use super::hearsay::{Draws, Hearsay, Told, listed};
use super::{Drawn, Entry, LedgerError, MAX_FENCE_STEP};
use crate::policy::limit::{Draw, Usage, Used};
use crate::request::IntentId;

#[derive(Debug, Default)]
pub(super) struct Memory {
    slots: BTreeMap<Slot, Uuid>,
    intents: BTreeMap<IntentId, Uuid>,
    payments: BTreeMap<Uuid, Payment>,
    hearsay: Hearsay,
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
    draws: Draws,
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

    /// Whether an entry may be made. One that was made by this signer before may be made again, whatever others tell.
    pub(super) fn check(&self, entry: &Entry) -> Result<Known, LedgerError> {
        let known = self.check_own(entry)?;
        if known == Known::No {
            self.hearsay.check(entry)?;
        }
        Ok(known)
    }

    fn check_own(&self, entry: &Entry) -> Result<Known, LedgerError> {
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

    /// What is left to draw for a transaction, each counter once: nothing that an earlier attempt has drawn at this signer.
    ///
    /// # Errors
    /// Where that doesn't fit under a cap.
    pub(super) fn draw(&self, tx: Uuid, draws: &[Draw], at: u64) -> Result<Vec<Draw>, LedgerError> {
        let own = self.payments.get(&tx).map(|payment| &payment.draws);
        let left = draws.iter().filter_map(|draw| match own.and_then(|own| own.get(&draw.counter)) {
            Some(buckets) => {
                let drawn = buckets.values().fold(Used::default(), |sum, used| sum.plus(*used));
                draw.beyond(drawn.amount)
            }
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
        self.usage.advance(entry.at);
        if entry.learnt.is_some() {
            for drawn in &entry.draws {
                let own = self.own(entry.tx, drawn);
                let before = own.most(self.hearsay.drawn(entry.tx, &drawn.counter, drawn.bucket));
                self.usage.add(&drawn.counter, drawn.bucket, drawn.used().beyond(before));
            }
            self.hearsay.remember(&entry);
            return;
        }
        self.slots.extend(entry.slots.iter().map(|slot| (slot.clone(), entry.tx)));
        self.intents.insert(entry.intent, entry.tx);
        for drawn in &entry.draws {
            let own = self.own(entry.tx, drawn);
            let told = self.hearsay.drawn(entry.tx, &drawn.counter, drawn.bucket);
            let after = own.plus(drawn.used()).most(told);
            self.usage.add(&drawn.counter, drawn.bucket, after.beyond(own.most(told)));
        }
        let payment = self.payments.entry(entry.tx).or_insert_with(|| Payment {
            intent: entry.intent,
            agreed: entry.at,
            fence: 0,
            attempts: BTreeMap::new(),
            draws: BTreeMap::new(),
        });
        payment.fence = payment.fence.max(entry.fence);
        payment.attempts.insert(entry.unsigned, entry.slots);
        for drawn in entry.draws {
            let used = drawn.used();
            let own = payment.draws.entry(drawn.counter).or_default().entry(drawn.bucket).or_default();
            *own = own.plus(used);
        }
    }

    /// What this signer itself let a payment draw on the same counter in the same bucket.
    fn own(&self, tx: Uuid, drawn: &Drawn) -> Used {
        let buckets = self.payments.get(&tx).and_then(|payment| payment.draws.get(&drawn.counter));
        buckets.and_then(|buckets| buckets.get(&drawn.bucket)).copied().unwrap_or_default()
    }

    /// Whether what an entry tells is known already, by what this signer did or by what it was told.
    pub(super) fn knows(&self, entry: &Entry) -> bool {
        let own = self.payments.get(&entry.tx).filter(|payment| payment.intent == entry.intent);
        let own = own.and_then(|payment| payment.attempts.get(&entry.unsigned));
        let counted = entry.draws.iter().all(|drawn| {
            let known = self.own(entry.tx, drawn).most(self.hearsay.drawn(entry.tx, &drawn.counter, drawn.bucket));
            drawn.used().beyond(known) == Used::default()
        });
        counted && (own == Some(&entry.slots) || self.hearsay.knows(entry))
    }

    /// All that is known, for a signer that has forgotten.
    pub(super) fn tell(&self) -> Vec<Told> {
        let own = self.payments.iter().map(|(tx, payment)| Told {
            tx: *tx,
            intent: payment.intent,
            attempts: payment.attempts.iter().map(|(unsigned, slots)| (*unsigned, slots.clone())).collect(),
            draws: listed(&payment.draws),
        });
        own.chain(self.hearsay.tell()).collect()
    }
}
