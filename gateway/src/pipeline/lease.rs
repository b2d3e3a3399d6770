//! Who works on which record: leases, so that several gateways share a store and each record is one gateway's at a time.
//!
//! A lease is a [`Hold`]: the record and a fence. Every write carries it, so that a gateway that was thought dead and has lost
//! a record writes nothing more to it, however late it wakes.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use chains::network::Network;
use tokio::time::MissedTickBehavior;

use super::Pipeline;
use crate::record::RecordId;
use crate::store::{GatewayId, Hold, StoreError};

/// How many records are claimed by one transaction.
const BATCH: u32 = 500;

/// Under which name, and for how long at a time, a gateway holds its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// The gateway's name. Two that run at once never have the same.
    pub owner: GatewayId,
    /// After how long without a sign of life others may take its records over.
    pub lease: Duration,
}

/// A record that this gateway holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) fence: u64,
    pub(super) network: Network,
    /// Whether its driver has stopped for an error that doesn't pass.
    pub(super) halted: bool,
}

impl Pipeline {
    /// Takes up what nobody else holds, until told otherwise. The first round is done when this returns.
    pub(super) async fn take_up(self: &Arc<Self>) -> Result<(), StoreError> {
        for network in self.networks.keys() {
            let taken = self.claim(*network).await?;
            if taken > 0 {
                tracing::info!(%network, records = taken, "taking up unfinished records");
            }
        }
        let pipeline = Arc::clone(self);
        self.keep(tokio::spawn(async move { pipeline.keep_leases().await }).abort_handle());
        Ok(())
    }

    async fn keep_leases(self: Arc<Self>) {
        let mut ticks = tokio::time::interval((self.tenure.lease / 3).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await; // the first is at once, and everything has just been claimed
        loop {
            ticks.tick().await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the leases can't be renewed");
            }
            for network in self.networks.keys() {
                match self.claim(*network).await {
                    Ok(0) => {}
                    Ok(records) => tracing::info!(%network, records, "taking over records that nobody works on"),
                    Err(error) => tracing::warn!(%network, %error, "no records can be claimed"),
                }
            }
        }
    }

    /// Claims every record of the network that is free, and works on it. Answers how many there were.
    pub(super) async fn claim(self: &Arc<Self>, network: Network) -> Result<usize, StoreError> {
        let mut taken = 0_usize;
        loop {
            let (at, until) = self.term();
            let holds = self.store.claim(&self.tenure.owner, network, at, until, BATCH).await?;
            let last = holds.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            taken = taken.saturating_add(holds.len());
            for hold in holds {
                self.hold_and_drive(hold, network, None);
            }
            if last {
                return Ok(taken);
            }
        }
    }

    /// Extends every lease that still stands, and lets go of the others.
    async fn renew(&self) -> Result<(), StoreError> {
        let mine: Vec<Hold> = self.holds().iter().map(|(id, held)| Hold { id: *id, fence: held.fence }).collect();
        if mine.is_empty() {
            return Ok(());
        }
        let (_, until) = self.term();
        let kept = self.store.renew(mine.clone(), until).await?;
        for lost in mine.into_iter().filter(|hold| !kept.contains(hold)) {
            self.let_go(lost);
        }
        Ok(())
    }

    /// When it is, and when a lease that begins now runs out, in milliseconds since the Unix epoch.
    pub(crate) fn term(&self) -> (u64, u64) {
        let at = self.clock.unix_millis();
        (at, at.saturating_add(u64::try_from(self.tenure.lease.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The lease of a record, where this gateway has it.
    pub(super) fn hold(&self, id: RecordId) -> Result<Hold, StoreError> {
        let fence = self.holds().get(&id).map(|held| held.fence);
        fence.map(|fence| Hold { id, fence }).ok_or(StoreError::Fenced(id))
    }

    /// Notes a lease.
    pub(super) fn take(&self, hold: Hold, network: Network) {
        let mut holds = self.holds();
        let held = holds.entry(hold.id).or_insert(Held { fence: hold.fence, network, halted: false });
        if held.fence < hold.fence {
            *held = Held { fence: hold.fence, network, halted: false };
        }
    }

    /// Forgets a lease that was lost, or whose record is at its end; a later one of the same record stays.
    pub(super) fn let_go(&self, hold: Hold) {
        let mut holds = self.holds();
        if holds.get(&hold.id).is_some_and(|held| held.fence <= hold.fence) {
            holds.remove(&hold.id);
            drop(holds);
            self.due().remove(&hold.id);
            self.later().remove(&hold.id);
            self.alerts.settle(&hold.id.to_string());
        }
    }

    /// The records of a network that this gateway holds, oldest first.
    pub(super) fn held(&self, network: Network) -> Vec<RecordId> {
        self.holds().iter().filter(|(_, held)| held.network == network).map(|(id, _)| *id).collect()
    }

    pub(super) fn holds(&self) -> MutexGuard<'_, BTreeMap<RecordId, Held>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of everything, so that another gateway needn't wait until the leases run out. What is under way goes on where it
    /// is taken up next.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
        }
        let mine = std::mem::take(&mut *self.holds());
        let mine: Vec<Hold> = mine.into_iter().map(|(id, held)| Hold { id, fence: held.fence }).collect();
        if mine.is_empty() {
            return;
        }
        if let Err(error) = self.store.release(mine).await {
            tracing::warn!(%error, "the leases can't be given back; they run out by themselves");
        }
    }
}
