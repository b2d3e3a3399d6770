//! What outlives every gateway: the cluster, the reference, the clock, and the store's file, with a store that every gateway sees
//! through glass: each write is shown to the reference, and may be cut off before or after it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chains::chain::{Replacement, Slot};
use chains::network::Network;
use gateway::clock::Clock;
use gateway::record::{Event, Reason, Record, RecordId, SignedBytes, State};
use gateway::store::sqlite::SqliteStore;
use gateway::store::{
    Accepted, Cancelling, Filter, GatewayId, Hold, Judgement, NewIntent, Paper, PaperKind, Sight, SlotRow, Store,
    StoreError, Usage,
};
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::request::{Claims, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;

use super::chain::{self, Ledger};
use super::house::{Gate, Side};
use super::reference::{Reference, draw};

/// What outlives every gateway.
pub(crate) struct Town {
    ledger: Mutex<Ledger>,
    reference: tokio::sync::Mutex<Reference>,
    millis: AtomicU64,
}

impl Town {
    pub(crate) fn new(ledger: Ledger) -> Arc<Self> {
        let reference = tokio::sync::Mutex::default();
        Arc::new(Self { ledger: Mutex::new(ledger), reference, millis: AtomicU64::new(1_800_000_000_000) })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        chain::lock(&self.ledger)
    }

    pub(crate) async fn reference(&self) -> tokio::sync::MutexGuard<'_, Reference> {
        self.reference.lock().await
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Town {
    fn unix_millis(&self) -> u64 {
        self.millis.load(Ordering::SeqCst)
    }
}

/// A gateway's store.
pub(crate) struct Glass {
    pub(crate) town: Arc<Town>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) inner: Arc<SqliteStore>,
}

/// The arguments of a write, owned, so that it goes on when its caller is gone.
macro_rules! write {
    ($glass:expr, $name:literal, |$store:ident| $call:expr, |$reference:ident, $ledger:ident, $answer:ident| $learn:expr) => {
        $glass
            .write(
                $name,
                move |$store| async move { $call.await },
                move |$reference: &mut Reference, $ledger: &Ledger, $answer| $learn,
            )
            .await
    };
}

impl Glass {
    /// Does a write under the reference's lock, so that the reference hears of writes in the order in which they became durable, and
    /// of every one that does, even of a gateway that was stopped while it waited.
    async fn write<T, F>(
        &self,
        name: &'static str,
        call: impl FnOnce(Arc<SqliteStore>) -> F + Send + 'static,
        learn: impl FnOnce(&mut Reference, &Ledger, &Result<T, StoreError>) + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + std::fmt::Debug + 'static,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        self.gate.pass().await?;
        let fault = self.gate.strike();
        if let Some(fault) = fault.filter(|fault| fault.side == Side::Before) {
            return Err(self.gate.fall(fault));
        }
        let (town, store, gateway) = (Arc::clone(&self.town), Arc::clone(&self.inner), self.gate.name);
        let job = tokio::spawn(async move {
            let mut reference = town.reference().await;
            let answer = call(store).await;
            let ledger = town.ledger();
            let line: String = format!("{gateway} {name}: {answer:?}").chars().take(300).collect();
            if !line.ends_with("claim: Ok([])") {
                reference.log.push(line);
            }
            learn(&mut reference, &ledger, &answer);
            answer
        });
        let answer = job.await.map_err(|error| StoreError::Database(error.to_string()))?;
        if let Some(fault) = fault {
            return Err(self.gate.fall(fault));
        }
        self.gate.pass().await?; // whoever was paused in between reads the answer when it wakes
        answer
    }
}

#[async_trait]
impl Store for Glass {
    async fn accept(&self, intent: NewIntent) -> Result<Accepted, StoreError> {
        let asked = intent.clone();
        write!(self, "accept", |store| store.accept(intent), |reference, _ledger, answer| reference
            .accepted(&asked, answer))
    }

    async fn judge(&self, hold: Hold, steps: Vec<Event>, mut verdict: Judgement) -> Result<(), StoreError> {
        // The policy has no limits over time, so the test reserves for it.
        let goes_on = verdict.state == State::Queued;
        if goes_on && let Some(record) = self.inner.get(hold.id).await? {
            verdict.draws.push(draw(&record.intent));
        }
        let to = verdict.state;
        write!(self, "judge", |store| store.judge(hold, steps, verdict), |reference, _ledger, answer| reference
            .judged(hold, to, goes_on, answer))
    }

    // The policy of the model asks nobody.
    async fn approve(
        &self,
        id: RecordId,
        approval: Approval,
        decision: Decision,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError> {
        self.inner.approve(id, approval, decision, claims, at).await
    }

    async fn approved(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        self.inner.approved(hold, at).await
    }

    // Nor are there deals, data that travels, or papers.
    async fn let_deal_go(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<(), StoreError> {
        self.inner.let_deal_go(id, claims, request, at).await
    }

    async fn attach_travel(
        &self,
        id: RecordId,
        data: String,
        detail: Value,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError> {
        self.inner.attach_travel(id, data, detail, claims, at).await
    }

    async fn keep(&self, paper: Paper, claims: Claims, at: u64) -> Result<(), StoreError> {
        self.inner.keep(paper, claims, at).await
    }

    async fn papers(&self, kind: PaperKind) -> Result<Vec<Paper>, StoreError> {
        self.inner.papers(kind).await
    }

    async fn paper(&self, kind: PaperKind, name: &str) -> Result<Option<Paper>, StoreError> {
        self.inner.paper(kind, name).await
    }

    async fn freeze(&self, hold: Hold, unsigned: Vec<u8>, slots: BTreeSet<Slot>, at: u64) -> Result<u32, StoreError> {
        let (bytes, taken) = (unsigned.clone(), slots.clone());
        write!(self, "freeze", |store| store.freeze(hold, unsigned, slots, at), |reference, ledger, answer| reference
            .frozen(hold, &bytes, &taken, answer, ledger))
    }

    async fn thaw(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        write!(self, "thaw", |store| store.thaw(hold, at), |reference, _ledger, answer| if answer.is_ok() {
            reference.thawed(hold);
        })
    }

    async fn burn(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        write!(self, "burn", |store| store.burn(hold, at), |reference, _ledger, answer| if answer.is_ok() {
            reference.burned(hold);
        })
    }

    async fn replace(
        &self,
        hold: Hold,
        purpose: Replacement,
        unsigned: Vec<u8>,
        slots: BTreeSet<Slot>,
        at: u64,
    ) -> Result<u32, StoreError> {
        let (bytes, taken) = (unsigned.clone(), slots.clone());
        write!(
            self,
            "replace",
            |store| store.replace(hold, purpose, unsigned, slots, at),
            |reference, ledger, answer| {
                if answer.is_ok() {
                    reference.replaced(hold, purpose, &bytes, &taken, ledger);
                }
            }
        )
    }

    async fn signed(
        &self,
        hold: Hold,
        number: u32,
        signed: SignedBytes,
        detail: Value,
        at: u64,
    ) -> Result<(), StoreError> {
        let kept = signed.clone();
        write!(self, "signed", |store| store.signed(hold, number, signed, detail, at), |reference, _ledger, answer| {
            if answer.is_ok() {
                reference.signed(hold, number, &kept);
            }
        })
    }

    async fn give_up(&self, hold: Hold, number: u32, reason: Reason, at: u64) -> Result<(), StoreError> {
        write!(self, "give_up", |store| store.give_up(hold, number, reason, at), |reference, _ledger, answer| {
            if answer.is_ok() {
                reference.given_up(hold, number);
            }
        })
    }

    async fn sending(&self, hold: Hold, number: u32, at: u64) -> Result<(), StoreError> {
        write!(self, "sending", |store| store.sending(hold, number, at), |reference, _ledger, answer| {
            if answer.is_ok() {
                reference.sending(hold, number);
            }
        })
    }

    async fn observed(&self, hold: Hold, sight: Sight) -> Result<(), StoreError> {
        let seen = sight.clone();
        write!(self, "observed", |store| store.observed(hold, sight), |reference, ledger, answer| {
            if answer.is_ok() {
                reference.log.push(format!("  {} {} -> {} ({:?})", hold.id, seen.from, seen.to, seen.exposure));
                reference.observed(hold, &seen, ledger);
            }
        })
    }

    async fn abandon(&self, hold: Hold, from: State, to: State, reason: Reason, at: u64) -> Result<(), StoreError> {
        write!(self, "abandon", |store| store.abandon(hold, from, to, reason, at), |reference, _ledger, answer| {
            if answer.is_ok() {
                reference.abandoned(hold, to);
            }
        })
    }

    async fn cancel(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<Cancelling, StoreError> {
        write!(self, "cancel", |store| store.cancel(id, claims, request, at), |reference, _ledger, answer| {
            if let Ok(outcome) = answer {
                reference.cancelled(id, *outcome);
            }
        })
    }

    async fn use_token(&self, claims: Claims, at: u64) -> Result<(), StoreError> {
        write!(self, "use_token", |store| store.use_token(claims, at), |_reference, _ledger, _answer| ())
    }

    async fn note(&self, hold: Hold, reason: Option<Reason>, at: u64) -> Result<(), StoreError> {
        let waits = reason.is_some();
        write!(self, "note", |store| store.note(hold, reason, at), |reference, _ledger, answer| if answer.is_ok() {
            reference.noted(hold, waits);
        })
    }

    async fn claim(
        &self,
        owner: &GatewayId,
        network: Network,
        at: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<Hold>, StoreError> {
        let owner = owner.clone();
        write!(self, "claim", |store| store.claim(&owner, network, at, until, limit), |reference, _ledger, answer| {
            if let Ok(holds) = answer {
                reference.claimed(holds);
            }
        })
    }

    async fn renew(&self, holds: Vec<Hold>, until: u64) -> Result<Vec<Hold>, StoreError> {
        self.gate.pass().await?;
        self.inner.renew(holds, until).await
    }

    async fn release(&self, holds: Vec<Hold>) -> Result<(), StoreError> {
        let released = holds.clone();
        write!(self, "release", |store| store.release(holds), |reference, _ledger, answer| if answer.is_ok() {
            reference.released(&released);
        })
    }

    async fn get(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.gate.pass().await?;
        self.inner.get(id).await
    }

    async fn by_key(&self, client: &CredentialId, key: &IdempotencyKey) -> Result<Option<Record>, StoreError> {
        self.gate.pass().await?;
        self.inner.by_key(client, key).await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError> {
        self.gate.pass().await?;
        self.inner.list(filter).await
    }

    async fn active(&self, network: Network) -> Result<Vec<RecordId>, StoreError> {
        self.gate.pass().await?;
        self.inner.active(network).await
    }

    async fn busy(&self, network: Network) -> Result<BTreeSet<Slot>, StoreError> {
        self.gate.pass().await?;
        self.inner.busy(network).await
    }

    async fn slots(&self, network: Network, prefix: &str) -> Result<Vec<SlotRow>, StoreError> {
        self.gate.pass().await?;
        self.inner.slots(network, prefix).await
    }

    async fn usage(&self, counter: &str, from: u64, to: u64) -> Result<Usage, StoreError> {
        self.gate.pass().await?;
        self.inner.usage(counter, from, to).await
    }

    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError> {
        self.gate.pass().await?;
        self.inner.save_chain_changes(network, node, changes).await
    }

    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.gate.pass().await?;
        self.inner.chain_changes(network, node).await
    }
}
