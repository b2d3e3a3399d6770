//! The naive reference: the life of a transaction as `ARCHITECTURE.md` tells it, in maps and lists. It is told of every write that the store
//! has accepted, in the order in which they became durable, and says which of them no rule allows.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::{Replacement, Slot};
use chains::intent::Intent;
use gateway::record::{Exposure, Purpose, Record, RecordId, SignedBytes, State};
use gateway::store::{Accepted, Cancelling, Draw, Hold, NewIntent, Sight, SlotRow, StoreError, Usage};

use super::chain::{Ledger, Life};

/// The limit that every payment draws from, in lamports: enough for four of them.
pub(crate) const LIMIT: u64 = 4_500_000;

/// The reservation of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drawn {
    Nothing,
    Pending,
    Posted,
    GivenBack,
}

/// One try at bringing a payment on chain, or at keeping it off.
struct Try {
    purpose: Purpose,
    slots: BTreeSet<Slot>,
    life: Life,
    signed: Option<SignedBytes>,
    given_up: bool,
    sent: bool,
}

/// What is known of one record.
pub(crate) struct Entry {
    pub(crate) key: String,
    intent: Intent,
    pub(crate) state: State,
    exposure: Exposure,
    cancel: bool,
    /// The fence of the lease that stands, and the highest that there was.
    fence: Option<u64>,
    top: u64,
    tries: Vec<Try>,
    burned: bool,
    drawn: Drawn,
    /// Whether it says why it waits.
    waits: bool,
    /// Whether it was set aside because an attempt that can't be looked up may have been sent by somebody else.
    for_a_person: bool,
}

/// Everything that the store should hold, and what was wrong on the way.
#[derive(Default)]
pub(crate) struct Reference {
    pub(crate) entries: BTreeMap<RecordId, Entry>,
    keys: BTreeMap<String, RecordId>,
    slots: BTreeMap<Slot, (RecordId, bool)>,
    tokens: BTreeSet<String>,
    pub(crate) wrong: Vec<String>,
    pub(crate) log: Vec<String>,
}

impl Entry {
    fn amount(&self) -> u64 {
        amount(&self.intent)
    }

    /// Whether it ended by a refusal before any signer was asked: then its key serves the same intent again.
    fn is_refused(&self) -> bool {
        self.state.is_terminal() && self.state != State::Cancelled && !self.burned
    }

    /// Whether nothing is to be expected of it any more. What is set aside to be cancelled goes on.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.is_terminal() && (self.state != State::Quarantined || self.for_a_person)
    }

    /// Whether only a person can say what has become of it.
    pub(crate) fn is_for_a_person(&self) -> bool {
        self.state == State::Quarantined && self.for_a_person
    }

    /// Whether a step is under way that needs nobody: what a test waits for before it goes on.
    pub(crate) fn is_busy(&self) -> bool {
        let early =
            [State::Received, State::Queued, State::Signing, State::Signed, State::Quarantined].contains(&self.state);
        let half = self.state.is_on_its_way()
            && self.tries.iter().any(|one| !one.given_up && (one.signed.is_none() || !one.sent));
        (early || half) && !self.waits && !self.has_ended()
    }

    /// How many tries there were.
    pub(crate) fn attempts(&self) -> usize {
        self.tries.len()
    }

    fn signed(&self, purposes: &[Purpose]) -> impl Iterator<Item = &SignedBytes> {
        let tries = self.tries.iter().filter(|one| purposes.contains(&one.purpose));
        tries.filter_map(|one| one.signed.as_ref())
    }

    fn is_paid(&self, ledger: &Ledger) -> bool {
        self.signed(&[Purpose::Pay, Purpose::SpeedUp]).any(|signed| ledger.holds(&signed.bytes))
    }

    /// Whether this can never move money, as the chain has it.
    fn is_safe(&self, ledger: &Ledger) -> bool {
        !self.is_paid(ledger) && self.tries.iter().all(|one| ledger.is_dead(&one.life))
    }

    fn open(&self) -> bool {
        matches!(self.state, State::Broadcasting | State::InMempool)
    }
}

impl Reference {
    fn fail(&mut self, rule: &str, what: impl std::fmt::Display) {
        self.wrong.push(format!("{rule}: {what}"));
    }

    fn require(&mut self, holds: bool, rule: &str, what: impl std::fmt::Display) {
        if !holds {
            self.fail(rule, what);
        }
    }

    /// The entry of a write under a hold, which must be the one that stands.
    fn under(&mut self, hold: Hold, what: &str) -> Option<&mut Entry> {
        let fence = self.entries.get(&hold.id).and_then(|entry| entry.fence);
        self.require(fence == Some(hold.fence), "fence", format!("{what} under {hold:?}, but {fence:?} stands"));
        let entry = self.entries.get_mut(&hold.id);
        if entry.is_none() {
            self.fail("record", format!("{what} of an unknown record"));
        }
        let entry = self.entries.get_mut(&hold.id)?;
        entry.waits = false;
        Some(entry)
    }

    fn pending(&self) -> u64 {
        let counts = |entry: &&Entry| matches!(entry.drawn, Drawn::Pending | Drawn::Posted);
        self.entries.values().filter(counts).map(Entry::amount).sum()
    }

    /// Takes slots, none of which another record may have (I4).
    fn take(&mut self, id: RecordId, slots: &BTreeSet<Slot>, burned: bool) {
        for slot in slots {
            let holder = self.slots.get(slot).copied();
            self.require(holder.is_none_or(|(holder, _)| holder == id), "I4", format!("{slot} of {holder:?} for {id}"));
            if holder.is_none() {
                self.slots.insert(slot.clone(), (id, burned));
            }
        }
    }

    fn free(&mut self, id: RecordId) {
        self.slots.retain(|_, (holder, burned)| *holder != id || *burned);
    }

    pub(crate) fn accepted(&mut self, asked: &NewIntent, answer: &Result<Accepted, StoreError>) {
        let key = asked.idempotency_key.as_str().to_owned();
        let known = self.keys.get(&key).copied();
        let (same, fresh) = known
            .and_then(|id| self.entries.get(&id))
            .map_or((true, true), |entry| (entry.intent == asked.intent, entry.is_refused()));
        let replayed = self.tokens.contains(&asked.claims.jti);
        let used = if answer.is_ok() { !self.tokens.insert(asked.claims.jti.clone()) } else { false };
        self.require(!used, "token", format!("a request of {key} is taken twice"));
        match answer {
            Err(StoreError::TokenReplayed) => {
                self.require(replayed, "token", format!("a request of {key} is said to be repeated"));
            }
            Ok(Accepted::New(hold)) => {
                self.require(same && fresh, "I1", format!("{key} begins {}, and is {known:?}", hold.id));
                let entry = Entry {
                    key: key.clone(),
                    intent: asked.intent.clone(),
                    state: State::Received,
                    exposure: Exposure::None,
                    cancel: false,
                    fence: Some(hold.fence),
                    top: hold.fence,
                    tries: Vec::new(),
                    burned: false,
                    drawn: Drawn::Nothing,
                    waits: false,
                    for_a_person: false,
                };
                self.entries.insert(hold.id, entry);
                self.keys.insert(key, hold.id);
            }
            Ok(Accepted::Known(id)) => {
                self.require(Some(*id) == known && same && !fresh, "I1", format!("{key} is {id}, not {known:?}"));
            }
            Err(StoreError::IdempotencyConflict(_)) => {
                self.require(!same, "I1", format!("{key} is said to name another intent"));
            }
            Err(_) => {}
        }
    }

    pub(crate) fn judged(&mut self, hold: Hold, to: State, drew: bool, answer: &Result<(), StoreError>) {
        let before = self.pending();
        if let Err(StoreError::LimitExceeded { .. }) = answer {
            let amount = self.entries.get(&hold.id).map_or(0, Entry::amount);
            self.require(before + amount > LIMIT, "I5", format!("{amount} beside {before} is refused"));
        }
        if answer.is_err() {
            return;
        }
        let Some(entry) = self.under(hold, "judge") else { return };
        let from = std::mem::replace(&mut entry.state, to);
        if drew {
            entry.drawn = Drawn::Pending;
        }
        self.require(from == State::Received, "I8", format!("{from} is judged"));
        let after = self.pending();
        self.require(after <= LIMIT, "I5", format!("{after} are drawn of {LIMIT}"));
        if to.is_terminal() {
            self.end(hold.id);
        }
    }

    pub(crate) fn frozen(
        &mut self,
        hold: Hold,
        unsigned: &[u8],
        slots: &BTreeSet<Slot>,
        answer: &Result<u32, StoreError>,
        ledger: &Ledger,
    ) {
        if let Err(StoreError::SlotTaken(slot)) = answer {
            let holder = self.slots.get(slot).copied();
            self.require(holder.is_some_and(|(id, _)| id != hold.id), "slot", format!("{slot} is free"));
        }
        let Ok(number) = answer else { return };
        self.take(hold.id, slots, false);
        let life = ledger.life(unsigned);
        let Some(entry) = self.under(hold, "freeze") else { return };
        entry.tries.push(Try {
            purpose: Purpose::Pay,
            slots: slots.clone(),
            life,
            signed: None,
            given_up: false,
            sent: false,
        });
        let fine = entry.state == State::Queued && entry.tries.len() == 1 && *number == 1;
        self.require(fine && !slots.is_empty(), "T3", format!("{} is frozen as {number}", hold.id));
    }

    pub(crate) fn thawed(&mut self, hold: Hold) {
        let Some(entry) = self.under(hold, "thaw") else { return };
        entry.tries.clear();
        let fine = entry.state == State::Queued && !entry.burned;
        self.require(fine, "I4", format!("{} is thawed", hold.id));
        self.free(hold.id);
    }

    pub(crate) fn burned(&mut self, hold: Hold) {
        let Some(entry) = self.under(hold, "burn") else { return };
        let from = std::mem::replace(&mut entry.state, State::Signing);
        (entry.exposure, entry.burned) = (Exposure::Possible, true);
        let fine = from == State::Queued && entry.tries.len() == 1 && !entry.cancel;
        self.require(fine, "T4", format!("{from} is burned"));
        let mine = self.slots.values_mut().filter(|(holder, _)| *holder == hold.id);
        mine.for_each(|(_, burned)| *burned = true);
    }

    pub(crate) fn replaced(
        &mut self,
        hold: Hold,
        purpose: Replacement,
        unsigned: &[u8],
        slots: &BTreeSet<Slot>,
        ledger: &Ledger,
    ) {
        self.take(hold.id, slots, true);
        let life = ledger.life(unsigned);
        let Some(entry) = self.under(hold, "replace") else { return };
        let open = entry.open() || entry.state == State::Quarantined;
        // A first one that was cancelled before it was signed waits for nothing.
        let waiting = entry.tries.iter().skip(1).any(|one| one.signed.is_none() && !one.given_up);
        let apart = entry.tries.iter().any(|one| one.slots.is_disjoint(slots));
        if entry.state == State::Quarantined {
            (entry.state, entry.exposure) = (State::Broadcasting, Exposure::Possible);
        }
        let purpose = match purpose {
            Replacement::SpeedUp => Purpose::SpeedUp,
            Replacement::Cancel => Purpose::Cancel,
        };
        entry.tries.push(Try { purpose, slots: slots.clone(), life, signed: None, given_up: false, sent: false });
        self.require(open && !waiting, "T3", format!("{} is replaced", hold.id));
        self.require(!apart, "I2", format!("{} has attempts that don't conflict", hold.id));
    }

    pub(crate) fn signed(&mut self, hold: Hold, number: u32, signed: &SignedBytes) {
        let Some(entry) = self.under(hold, "signed") else { return };
        let from = entry.state;
        if number == 1 && from == State::Signing {
            entry.state = State::Signed;
        }
        let Some(one) = entry.tries.get_mut(number as usize - 1) else { return };
        let again = one.signed.as_ref() == Some(signed);
        let fine = !one.given_up && (again || one.signed.is_none());
        one.signed = Some(signed.clone());
        let fine = fine && (again || if number == 1 { from == State::Signing } else { from.is_on_its_way() });
        self.require(fine, "T5", format!("attempt {number} of {} is signed, {from}", hold.id));
    }

    pub(crate) fn given_up(&mut self, hold: Hold, number: u32) {
        let Some(entry) = self.under(hold, "give_up") else { return };
        let Some(one) = entry.tries.get_mut(number as usize - 1) else { return };
        one.given_up = true;
        let fine = number > 1 && one.signed.is_none();
        self.require(fine, "give up", format!("attempt {number} of {}", hold.id));
    }

    pub(crate) fn sending(&mut self, hold: Hold, number: u32) {
        let Some(entry) = self.under(hold, "sending") else { return };
        if entry.state == State::Signed {
            entry.state = State::Broadcasting;
        }
        let Some(one) = entry.tries.get_mut(number as usize - 1) else { return };
        one.sent = true;
        let durable = one.signed.is_some();
        let fine = entry.state.is_on_its_way();
        self.require(durable && fine, "I3", format!("attempt {number} of {} is to be sent", hold.id));
    }

    /// Bytes reach a node: they must be durable as signed and as about to be sent.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let durable = self.entries.values().flat_map(|entry| &entry.tries);
        let mut durable = durable.filter(|one| one.sent).filter_map(|one| one.signed.as_ref());
        let known = durable.any(|signed| signed.bytes == bytes);
        self.require(known, "I3", "bytes are sent that aren't durable");
    }

    pub(crate) fn observed(&mut self, hold: Hold, sight: &Sight, ledger: &Ledger) {
        let Some(entry) = self.under(hold, "observed") else { return };
        let from = std::mem::replace(&mut entry.state, sight.to);
        entry.exposure = sight.exposure;
        entry.for_a_person = from != State::Signing;
        let entry = &self.entries[&hold.id];
        let what = format!("{} {from} -> {} ({:?}, {:?})", hold.id, sight.to, sight.exposure, sight.reason);
        let one = entry.tries.get((sight.attempt as usize).saturating_sub(1));
        let bytes = one.and_then(|one| one.signed.as_ref()).map(|signed| &signed.bytes);
        let pays = one.is_some_and(|one| one.purpose != Purpose::Cancel);
        let (safe, asked) = (entry.is_safe(ledger), entry.cancel);
        let untold = entry.tries.iter().any(|one| one.signed.is_none());
        let held = bytes.is_some_and(|bytes| ledger.has_held(bytes));
        let outcome = bytes.and_then(|bytes| ledger.final_outcome(bytes));
        let back = (from, sight.to);
        let back = matches!(back, (State::Included | State::Confirmed, State::InMempool))
            || back == (State::Confirmed, State::Included);

        self.require(from == sight.from, "I8", format!("{what}, said to be {}", sight.from));
        self.require(from.is_on_its_way() || from == State::Signing, "I8", &what);
        self.require(sight.to >= from || back || !from.is_on_its_way(), "I8", format!("backwards: {what}"));
        self.require(!back || ledger.reorged || ledger.lied, "I8", format!("backwards without a reorg: {what}"));
        let right = match sight.to {
            State::Finalized => outcome == Some(true) && pays && sight.exposure == Exposure::Certain,
            State::Failed => outcome == Some(false) && pays && sight.exposure == Exposure::Certain,
            State::Cancelled => outcome.is_some() && !pays && sight.exposure == Exposure::None,
            State::Expired => safe && sight.exposure == Exposure::None,
            State::Included | State::Confirmed => {
                (held || ledger.lied) && sight.exposure == if pays { Exposure::Certain } else { Exposure::Possible }
            }
            State::InMempool => sight.exposure == Exposure::Possible,
            // To be cancelled before it is signed: from here it goes on with the cancelling transaction. Or it is over, but for a
            // try without a signature here, which somebody else may have.
            State::Quarantined => {
                let right = if from == State::Signing { asked } else { safe && untold };
                right && sight.exposure == Exposure::Possible
            }
            _ => false,
        };
        self.require(right, "chain", format!("{what}; in a block once: {held}, final: {outcome:?}, dead: {safe}"));
        self.require(sight.exposure != Exposure::None || safe, "exposure", format!("none, but it may move: {what}"));
        if sight.to.is_terminal() {
            self.end(hold.id);
        }
    }

    pub(crate) fn abandoned(&mut self, hold: Hold, to: State) {
        let Some(entry) = self.under(hold, "abandon") else { return };
        entry.state = to;
        entry.tries.clear();
        let fine = !entry.burned && to.is_terminal();
        self.require(fine, "I6", format!("{} is abandoned as {to}", hold.id));
        self.free(hold.id);
        self.end(hold.id);
    }

    pub(crate) fn cancelled(&mut self, id: RecordId, outcome: Cancelling) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.cancel = true;
        let early = entry.tries.is_empty() && !entry.burned && !entry.state.is_terminal();
        let what = format!("cancelling {id} in {} is {outcome:?}", entry.state);
        if outcome == Cancelling::Done {
            (entry.state, entry.fence) = (State::Cancelled, None);
            self.require(early, "exposure", what);
            self.end(id);
        } else {
            self.require(!early, "cancel", what);
        }
    }

    pub(crate) fn noted(&mut self, hold: Hold, reason: bool) {
        if let Some(entry) = self.under(hold, "note") {
            entry.waits = reason;
        }
    }

    pub(crate) fn claimed(&mut self, holds: &[Hold]) {
        for hold in holds {
            let Some(entry) = self.entries.get_mut(&hold.id) else { continue };
            let (top, state) = (entry.top, entry.state);
            let ended = state.is_terminal() && state != State::Quarantined;
            (entry.fence, entry.top, entry.waits) = (Some(hold.fence), hold.fence, false);
            self.require(hold.fence > top, "fence", format!("{hold:?} after {top}"));
            self.require(!ended, "lease", format!("{hold:?} of what is {state}"));
        }
    }

    pub(crate) fn released(&mut self, holds: &[Hold]) {
        for hold in holds {
            if let Some(entry) = self.entries.get_mut(&hold.id).filter(|entry| entry.fence == Some(hold.fence)) {
                entry.fence = None;
            }
        }
    }

    /// What the end of a record makes of its reservation (I6): it is given back where no signer was asked, or where something
    /// else has used the slot up for good.
    fn end(&mut self, id: RecordId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.drawn == Drawn::Pending {
            entry.drawn = match entry.state {
                State::Finalized | State::Failed => Drawn::Posted,
                State::Quarantined => Drawn::Pending,
                _ => Drawn::GivenBack,
            };
        }
    }

    /// What the store should say of the limit.
    fn usage(&self) -> Usage {
        let counts = |entry: &&Entry| matches!(entry.drawn, Drawn::Pending | Drawn::Posted);
        let count = self.entries.values().filter(counts).count();
        Usage { amount: chains::amount::Amount::from_lamports(self.pending()), count: count as u64 }
    }

    /// Whether the store holds what it should, and the chain moved each payment's money at most once.
    pub(crate) fn compare(&mut self, records: &[Record], slots: &[SlotRow], usage: Usage, ledger: &Ledger) {
        let expected = self.usage();
        self.require(usage == expected, "I7", format!("the store counts {usage:?}, the reference {expected:?}"));
        let found: BTreeMap<_, _> = slots.iter().map(|row| (row.slot.clone(), (row.record, row.burned))).collect();
        self.require(found == self.slots, "I4", format!("slots {found:?}"));
        self.require(records.len() == self.entries.len(), "T1", format!("{} records", records.len()));
        for record in records {
            let Some(wrong) = self.differs(record) else { continue };
            self.fail("record", format!("{} {}: {wrong}", record.id, record.state));
        }
        let mut moved: BTreeMap<u64, u32> = BTreeMap::new();
        for paid in ledger.payments() {
            *moved.entry(key_of(paid)).or_default() += 1;
        }
        for (key, times) in moved.into_iter().filter(|(_, times)| *times > 1) {
            self.fail("once", format!("the payment of key {key} is {times} times in the chain"));
        }
    }

    fn differs(&self, record: &Record) -> Option<&'static str> {
        let Some(entry) = self.entries.get(&record.id) else { return Some("unknown") };
        if (record.state, record.exposure) != (entry.state, entry.exposure) {
            return Some("another state or exposure");
        }
        if record.cancel.is_some() != entry.cancel || record.attempts.len() != entry.tries.len() {
            return Some("another wish or other attempts");
        }
        for (attempt, one) in record.attempts.iter().zip(&entry.tries) {
            let same = attempt.purpose == one.purpose
                && attempt.slots == one.slots
                && attempt.signed == one.signed
                && attempt.given_up.is_some() == one.given_up
                && attempt.sent_at.is_some() == one.sent;
            if !same {
                return Some("another attempt");
            }
            let signed = attempt.signed.iter();
            if signed.into_iter().any(|signed| !is_audited(record, &signed.id)) {
                return Some("I10: a signature without its event");
            }
        }
        let pairs = record.attempts.iter().flat_map(|one| record.attempts.iter().map(move |other| (one, other)));
        if pairs.into_iter().any(|(one, other)| one.slots.is_disjoint(&other.slots)) {
            return Some("I2: attempts that don't conflict");
        }
        None
    }

    /// What must hold when everything has come to rest.
    pub(crate) fn finish(&mut self, ledger: &Ledger) {
        let mut wrong = Vec::new();
        for (id, entry) in &self.entries {
            let times = ledger.payments().filter(|paid| *paid == entry.amount()).count();
            let current = self.keys.get(&entry.key) == Some(id);
            let right = match entry.state {
                State::Finalized | State::Failed => times == 1 && entry.is_paid(ledger),
                State::Quarantined => entry.for_a_person && times == 0,
                state if state.is_terminal() => !current || times == 0,
                _ => false,
            };
            if !right {
                wrong.push(format!("I9: {id} of {} is {}, and paid {times} times", entry.key, entry.state));
            }
            if entry.drawn == Drawn::Pending && !entry.is_for_a_person() {
                wrong.push(format!("I7: {id} of {} is {} and reserves still", entry.key, entry.state));
            }
        }
        self.wrong.extend(wrong);
    }
}

/// Whether the record's history names the signers of the transaction.
fn is_audited(record: &Record, tx_id: &str) -> bool {
    record.history.iter().filter_map(|event| event.detail.as_ref()).any(|detail| {
        let detail = detail.get("signed").unwrap_or(detail);
        let signers = detail.get("signers").and_then(serde_json::Value::as_array);
        detail.get("tx_id").and_then(serde_json::Value::as_str) == Some(tx_id)
            && signers.is_some_and(|signers| signers.len() >= 2)
    })
}

/// What a payment draws from the limit: what it pays.
pub(crate) fn draw(intent: &Intent) -> Draw {
    Draw {
        counter: "model".to_owned(),
        bucket: 0,
        since: 0,
        amount: chains::amount::Amount::from_lamports(amount(intent)),
        max_amount: Some(chains::amount::Amount::from_lamports(LIMIT)),
        max_count: None,
    }
}

/// The lamports that an intent pays.
fn amount(intent: &Intent) -> u64 {
    match &intent.action {
        chains::intent::Action::Transfer { amount, .. } => amount.to_u64().unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// The number of the key whose intents pay so many lamports.
const fn key_of(lamports: u64) -> u64 {
    (lamports - super::house::BASE) / 10
}
