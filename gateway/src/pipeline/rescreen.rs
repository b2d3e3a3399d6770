//! Screening again what is parked: when a list has changed, and when an override begins or ends. A payment that was cleared
//! waits for people or for its slot with the clearance of its day; T3 screens it once more, but nobody should be asked to approve
//! what can't be paid.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chains::address::{Address, UncheckedAddress};
use signer::approval::Approval;
use signer::request::SignedRequest;
use tokio::time::MissedTickBehavior;

use super::Pipeline;
use crate::record::{Record, State};
use crate::screening::waiver::Waiver;
use crate::store::pages::Pages;
use crate::store::{PaperKind, StoreError};

/// How often overrides are read again: those that another gateway has taken in.
const WAIVERS: Duration = Duration::from_secs(2);
/// How long the turn of a record that waits for people is waited for.
const TURN: Duration = Duration::from_secs(1);

impl Record {
    /// Every party that its transaction touched when it was judged.
    fn parties(&self) -> BTreeSet<Address> {
        let told = self.history.iter().rev().find_map(|event| event.detail.as_ref()?.get("parties").cloned());
        let told: Vec<UncheckedAddress> =
            told.and_then(|parties| serde_json::from_value(parties).ok()).unwrap_or_default();
        told.iter().filter_map(|party| party.require_network(self.network).ok()).collect()
    }
}

impl Pipeline {
    /// Reads the lists again whenever their files were written, for as long as the pipeline runs.
    pub(super) async fn keep_lists(self: Arc<Self>, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let lists = Arc::clone(&self.screening);
            match tokio::task::spawn_blocking(move || lists.reload()).await {
                Ok(Ok(changed)) if changed.is_empty() => {}
                Ok(Ok(changed)) => {
                    tracing::info!(?changed, "screening lists have changed");
                    self.rescreen().await;
                }
                // Told where it happened; the list's age blocks in time. Others may have changed.
                Ok(Err(_)) => self.rescreen().await,
                Err(error) => tracing::error!(%error, "reading the screening lists broke off"),
            }
        }
    }

    /// Reads the overrides that the store has, from time to time.
    pub(super) async fn keep_waivers(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(WAIVERS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.load_waivers().await {
                tracing::warn!(%error, "the overrides of the screening can't be read; those known stand until their time");
            }
        }
    }

    /// Reads the overrides that the store has, each verified against the roster.
    ///
    /// # Errors
    /// Where the store fails.
    pub(crate) async fn load_waivers(&self) -> Result<(), StoreError> {
        if self.screening.override_require().is_none() {
            return Ok(());
        }
        let _one_at_a_time = self.reading.lock().await;
        let words = self.store.papers(PaperKind::OverrideWord).await?;
        let mut waivers = Vec::new();
        for paper in self.store.papers(PaperKind::Override).await? {
            let Ok(request) = serde_json::from_str::<SignedRequest>(&paper.content) else { continue };
            match Waiver::read(request, &self.roster) {
                Ok(mut waiver) if waiver.id().to_string() == paper.name => {
                    let about = format!("{}/", paper.name);
                    let words = words.iter().filter(|word| word.name.starts_with(&about));
                    for word in words.filter_map(|word| serde_json::from_str::<Approval>(&word.content).ok()) {
                        waiver.hear(word, &self.roster);
                    }
                    waivers.push(waiver);
                }
                Ok(_) => tracing::error!(name = paper.name, "an override of the screening isn't what its name says"),
                Err(error) => tracing::warn!(name = paper.name, %error, "an override of the screening doesn't count"),
            }
        }
        self.screening.set_waivers(waivers);
        Ok(())
    }

    /// Looks up every party of every record of this gateway that is parked, and ends those that hit. What waits to be tried again
    /// is tried at once.
    pub(crate) async fn rescreen(self: &Arc<Self>) {
        for state in [State::AwaitingApproval, State::Queued] {
            if let Err(error) = self.rescreen_in(state).await {
                tracing::warn!(%error, %state, "parked payments can't be screened again; each is before it is signed");
            }
        }
        self.again.notify_waiters();
    }

    async fn rescreen_in(self: &Arc<Self>, state: State) -> Result<(), StoreError> {
        let mut pages = Pages::in_state(self.store.as_ref(), state);
        while let Some(records) = pages.next().await? {
            for record in &records {
                self.rescreen_one(record).await;
            }
        }
        Ok(())
    }

    /// Looks up every party of a parked record, and ends it where one hits.
    pub(super) async fn rescreen_one(self: &Arc<Self>, record: &Record) {
        let refusal = match self.screening.look_up_again(&record.parties()) {
            Err(refusal) if !refusal.is_transient() => refusal,
            _ => return,
        };
        // Without the lease it is another gateway's, which has lists of its own.
        let Ok(hold) = self.hold(record.id) else { return };
        let turn = match record.state {
            // Whoever looks at it will soon have done so; should it take longer, the next look comes.
            State::AwaitingApproval => tokio::time::timeout(TURN, self.turn(record.id)).await.ok(),
            // On its way to be signed, before which it is screened.
            _ => self.begin(record.id),
        };
        let Some(_turn) = turn else { return };
        tracing::info!(id = %record.id, %refusal, "a parked payment is blocked");
        match self.store.abandon(hold, record.state, State::Blocked, refusal.into(), self.clock.unix_millis()).await {
            Ok(()) => self.let_go(hold),
            Err(StoreError::Stale { .. } | StoreError::Fenced(_)) => {} // somebody else has moved it
            Err(error) => {
                let id = record.id;
                tracing::warn!(%id, %error, "a parked payment can't be blocked just now; it is screened before it is signed");
            }
        }
    }
}
