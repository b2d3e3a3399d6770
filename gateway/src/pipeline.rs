//! The life of a transaction, one file per arrow:
//!
//! | file | arrow | durable as |
//! |---|---|---|
//! | [`accept`] | request -> `received` | T1: the intent and its key |
//! | [`evaluate`] | `received` -> `queued`, `rejected`, `blocked` | T2: screening and policy |
//! | [`allocate`] | `queued`: the slot is reserved, the bytes are frozen | T3 |
//! | [`sign`] | `queued` -> `signing` -> `signed` | T4: the slot is burned; T5: the signed bytes |
//! | [`broadcast`] | `signed` -> `broadcasting` | before the first send |
//! | [`track`] | `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized` | what the chain says |
//!
//! Each stage between build and signature is a type of its own ([`stage`]) and each step takes it by value, so what was
//! screened and allowed is what is frozen, and what is frozen is what is signed.
//!
//! A record is driven by one task at a time. After a crash every record goes on from its durable state: up to `queued`
//! the steps run again, in `signing` the same frozen bytes are signed again, from `signed` on the same signed bytes are sent
//! again.

pub mod accept;
pub mod allocate;
pub mod broadcast;
pub mod evaluate;
pub mod sign;
pub mod stage;
pub mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::network::Network;
use signer::policy::Policy;
use signer::pool::Pool;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ceremonies::Ceremonies;
use crate::clock::Clock;
use crate::lane::Lane;
use crate::record::{Reason, Record, RecordId, State};
use crate::screening::Screening;
use crate::store::{Store, StoreError};

/// How long a step that failed for a passing reason waits before it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The pipeline with everything it works with.
pub struct Pipeline {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) screening: Screening,
    ceremonies: Arc<Ceremonies>,
    networks: BTreeMap<Network, NetworkLane>,
    wallets: BTreeMap<WalletId, Wallet>,
    driven: Mutex<BTreeSet<RecordId>>,
    /// When this process last sent a record's bytes.
    sent: Mutex<BTreeMap<RecordId, Instant>>,
}

/// A network's lane and how its transactions are followed.
pub struct NetworkLane {
    /// The chain and its nodes.
    pub lane: Arc<dyn Lane>,
    /// When a transaction counts as confirmed and final, and how often the nodes are asked.
    pub tracking: track::Tracking,
}

/// A wallet: its account, and the turn that its payments take to get a slot.
struct Wallet {
    account: Account,
    turn: tokio::sync::Mutex<()>,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// For a passing reason; the record stays and the step is tried again.
    #[error("{}", .0.message)]
    Retry(Reason),
    /// The store failed, or somebody else moved the record.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a step leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look at the record's new state.
    Go,
    /// The record is done, or the tracker's.
    Rest,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("wallets", &self.wallets.keys()).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Puts the parts together. An account whose network has no lane is never paid from.
    pub fn new(
        store: Arc<dyn Store>,
        pool: Arc<Pool>,
        clock: Arc<dyn Clock>,
        policy: Arc<Policy>,
        networks: Vec<NetworkLane>,
        accounts: Vec<Account>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            ceremonies: Ceremonies::new(Arc::clone(&pool), Arc::clone(&clock)),
            pool,
            clock,
            screening: Screening::new(Arc::clone(&policy)),
            policy,
            networks: networks.into_iter().map(|network| (network.lane.network(), network)).collect(),
            wallets: accounts
                .into_iter()
                .map(|account| (account.wallet().clone(), Wallet { account, turn: tokio::sync::Mutex::new(()) }))
                .collect(),
            driven: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// Takes up every record where it was left, and follows the chains from then on.
    ///
    /// # Errors
    /// Where the store can't be read.
    pub async fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        for (network, NetworkLane { lane, .. }) in &self.networks {
            let active = self.store.active(*network).await?;
            if !active.is_empty() {
                tracing::info!(%network, records = active.len(), "taking up unfinished records");
            }
            for id in active {
                self.spawn_drive(id, None);
            }
            tokio::spawn(Arc::clone(self).track_network(Arc::clone(lane)));
        }
        Ok(())
    }

    /// The account of a wallet.
    pub fn account(&self, wallet: &WalletId) -> Option<&Account> {
        self.wallets.get(wallet).map(|wallet| &wallet.account)
    }

    /// Every account, by the wallet's name.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.wallets.values().map(|wallet| &wallet.account)
    }

    /// The lane of a network.
    pub fn lane(&self, network: Network) -> Option<&Arc<dyn Lane>> {
        self.networks.get(&network).map(|network| &network.lane)
    }

    /// Every lane.
    pub fn lanes(&self) -> impl Iterator<Item = &Arc<dyn Lane>> {
        self.networks.values().map(|network| &network.lane)
    }

    /// How many signers are up, and how many it takes.
    pub async fn signers(&self) -> (usize, usize) {
        let status = self.pool.status().await;
        (status.signers.iter().filter(|signer| signer.up).count(), usize::from(status.threshold))
    }

    /// The ceremonies of the signers' keys.
    pub fn ceremonies(&self) -> &Arc<Ceremonies> {
        &self.ceremonies
    }

    /// The store, for reading.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn sent(&self) -> MutexGuard<'_, BTreeMap<RecordId, Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tracking(&self, network: Network) -> Option<&track::Tracking> {
        self.networks.get(&network).map(|network| &network.tracking)
    }

    /// Drives a record in a task of its own. `judged` is told when the record has left `received` or has to wait there.
    pub(crate) fn spawn_drive(self: &Arc<Self>, id: RecordId, judged: Option<oneshot::Sender<()>>) {
        let fresh = self.driven.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        if fresh {
            let pipeline = Arc::clone(self);
            tokio::spawn(async move {
                pipeline.drive(id, judged).await;
                pipeline.driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            });
        }
    }

    /// Takes the record from state to state until it is done or the tracker's.
    async fn drive(&self, id: RecordId, mut judged: Option<oneshot::Sender<()>>) {
        let mut wait = RETRY.0;
        loop {
            let step = self.step(id).await;
            if let Some(judged) = judged.take() {
                let _ = judged.send(()); // the client may be gone
            }
            match step {
                Ok(Next::Go) => wait = RETRY.0,
                Ok(Next::Rest) => return,
                Err(StepError::Store(StoreError::Stale { .. })) => {} // somebody else moved it: look again
                Err(StepError::Store(error)) if !error.is_transient() => {
                    tracing::error!(%id, %error, "the record can't go on");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "the step will be tried again");
                    if let StepError::Retry(reason) = error
                        && let Err(error) = self.store.note(id, Some(reason), self.clock.unix_millis()).await
                    {
                        tracing::warn!(%id, %error, "the reason can't be noted");
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn step(&self, id: RecordId) -> Result<Next, StepError> {
        let record = self.store.get(id).await?.ok_or(StoreError::NoRecord(id))?;
        match record.state {
            State::Received => self.evaluate(&record).await,
            State::Queued => self.allocate_and_sign(&record).await,
            State::Signing => self.sign_again(&record).await,
            State::Signed => self.broadcast(&record).await,
            // Waits for people, is the tracker's, or is done.
            _ => Ok(Next::Rest),
        }
    }

    /// The wallet and the lane of a record. The configuration may have lost either since the record was accepted.
    fn place(&self, record: &Record) -> Result<(&Wallet, &Arc<dyn Lane>), StepError> {
        let gone =
            |kind: &str, message: String| StepError::Retry(Reason { kind: kind.to_owned(), message, rule: None });
        let wallet = self.wallets.get(&record.intent.wallet).ok_or_else(|| {
            gone("unknown_wallet", format!("wallet {} isn't configured any more", record.intent.wallet))
        })?;
        let lane = self
            .lane(record.network)
            .ok_or_else(|| gone("unknown_network", format!("network {} isn't configured any more", record.network)))?;
        Ok((wallet, lane))
    }
}
