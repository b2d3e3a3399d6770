//! The life of a transaction, one file per arrow:
//!
//! | file | arrow | durable as |
//! |---|---|---|
//! | [`accept`] | request -> `received` | T1: the intent and its key |
//! | [`evaluate`] | `received` -> `queued`, `awaiting_approval`, `rejected`, `blocked` | T2: screening, policy, limits |
//! | [`approve`] | `awaiting_approval` -> `queued`, `rejected`, `expired` | what people say |
//! | [`allocate`] | `queued`: the slot is reserved, the bytes are frozen | T3 |
//! | [`sign`] | `queued` -> `signing` -> `signed` | T4: the slot is burned; T5: the signed bytes |
//! | [`broadcast`] | `signed` -> `broadcasting` | before the first send |
//! | [`track`] | `broadcasting` -> `in_mempool` -> `included` -> `confirmed` -> `finalized` | what the chain says |
//! | [`replace`] | a further attempt, faster or cancelling, while the record is on its way | T3 to T5 of its own |
//!
//! Each stage between build and signature is a type of its own ([`stage`]) and each step takes it by value, so what was
//! screened and allowed is what is frozen, and what is frozen is what is signed.
//!
//! A record is one gateway's at a time ([`lease`]), and one task's at a time within it. After a crash every record goes on
//! from its durable state: up to `queued` the steps run again, in `signing` the same frozen bytes are signed again, from
//! `signed` on the same signed bytes are sent again.
//!
//! [`deal`] is what is more about a payment that is a leg of a deal. [`nonces`] holds the ledger of nonces against the chain, and [`alerts`] keeps what an operator must know of.

pub mod accept;
pub mod alerts;
pub mod allocate;
pub mod approve;
pub mod broadcast;
pub mod deal;
pub mod delegations;
pub mod evaluate;
pub mod freeze;
pub mod lease;
pub mod nonces;
pub mod replace;
pub mod rescreen;
pub mod sign;
mod simulate;
pub mod stage;
pub mod track;
pub mod travel;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chains::account::{Account, WalletId};
use chains::network::Network;
use signer::approval::delegation::DelegationId;
use signer::policy::Policy;
use signer::pool::Pool;
use signer::roster::Roster;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::ceremonies::Ceremonies;
use crate::clock::Clock;
use crate::config::ApprovalsConfig;
use crate::governance::Governance;
use crate::lane::Lane;
use crate::record::{Reason, Record, RecordId, State};
use crate::screening::Screening;
use crate::store::{Hold, Store, StoreError};
use crate::travel::TravelRule;
use alerts::{Alert, Alerts, HALTED};
use lease::{Held, Tenure};
use replace::FeePolicy;

/// How long a step that failed for a passing reason waits before it is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The pipeline with everything it works with.
pub struct Pipeline {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) governance: Arc<Governance>,
    pub(crate) screening: Arc<Screening>,
    pub(crate) roster: Roster,
    pub(crate) approvals: ApprovalsConfig,
    travel: TravelRule,
    ceremonies: Arc<Ceremonies>,
    networks: BTreeMap<Network, NetworkLane>,
    wallets: BTreeMap<WalletId, Wallet>,
    pub(crate) tenure: Tenure,
    fees: BTreeMap<WalletId, FeePolicy>,
    /// Delegations that count for nothing any more.
    revoked: RwLock<Arc<BTreeSet<DelegationId>>>,
    /// Held while overrides or revocations are read: what was read earlier must not take the place of what was read later.
    reading: tokio::sync::Mutex<()>,
    /// The leases of this gateway.
    holds: Mutex<BTreeMap<RecordId, Held>>,
    /// The records that a task of this process is at.
    working: Mutex<BTreeSet<RecordId>>,
    /// Told whenever a task is done with a record.
    idle: Notify,
    /// When a record's bytes, which this process has sent before, go out again if no node knows them.
    due: Mutex<BTreeMap<RecordId, Instant>>,
    /// When a replacement that couldn't be made is tried again.
    later: Mutex<BTreeMap<RecordId, replace::Later>>,
    /// Told when whatever waits to be tried again should be tried at once.
    again: Notify,
    /// Told when a network should be looked at without waiting for the next turn.
    look: BTreeMap<Network, Notify>,
    alerts: Alerts,
    baselines: nonces::Baselines,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What a pipeline works with.
pub struct Parts {
    /// What is durable.
    pub store: Arc<dyn Store>,
    /// The signers.
    pub pool: Arc<Pool>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// What is allowed.
    pub policy: Arc<Policy>,
    /// What parties are looked up in.
    pub screening: Screening,
    /// Whose approvals count.
    pub roster: Roster,
    /// How long a payment waits for approvals.
    pub approvals: ApprovalsConfig,
    /// From which amounts on the Travel Rule wants data.
    pub travel: TravelRule,
    /// The networks.
    pub networks: Vec<NetworkLane>,
    /// The wallets' accounts. One whose network has no lane is never paid from.
    pub accounts: Vec<Account>,
    /// Under which name records are held.
    pub tenure: Tenure,
    /// The fee policies of wallets that don't go by their network's.
    pub fees: BTreeMap<WalletId, FeePolicy>,
}

/// A network's lane and how its transactions are followed.
#[derive(Clone)]
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

/// The right to work on a record.
struct Turn {
    pipeline: Arc<Pipeline>,
    id: RecordId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pipeline.working.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.pipeline.idle.notify_waiters();
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("wallets", &self.wallets.keys()).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            store,
            pool,
            clock,
            policy,
            screening,
            roster,
            approvals,
            travel,
            networks,
            accounts,
            tenure,
            fees,
        } = parts;
        let screening = Arc::new(screening);
        let governance = Governance::new(
            policy,
            Arc::clone(&store),
            Arc::clone(&pool),
            Arc::clone(&clock),
            Arc::clone(&screening),
            roster.clone(),
            accounts.iter().map(|account| (account.wallet().clone(), account.network())).collect(),
        );
        Arc::new(Self {
            store,
            ceremonies: Ceremonies::new(Arc::clone(&pool), Arc::clone(&clock)),
            pool,
            clock,
            screening,
            roster,
            approvals,
            travel,
            governance,
            look: networks.iter().map(|network| (network.lane.network(), Notify::new())).collect(),
            networks: networks.into_iter().map(|network| (network.lane.network(), network)).collect(),
            wallets: accounts
                .into_iter()
                .map(|account| (account.wallet().clone(), Wallet { account, turn: tokio::sync::Mutex::new(()) }))
                .collect(),
            tenure,
            fees,
            revoked: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            holds: Mutex::default(),
            working: Mutex::default(),
            idle: Notify::new(),
            due: Mutex::default(),
            later: Mutex::default(),
            again: Notify::new(),
            alerts: Alerts::default(),
            baselines: nonces::Baselines::default(),
            tasks: Mutex::default(),
        })
    }

    /// Takes up every record where it was left, as far as no other gateway works on it, and follows the chains from then on.
    ///
    /// # Errors
    /// Where the store can't be read.
    pub async fn start(self: &Arc<Self>) -> Result<(), StoreError> {
        self.load_waivers().await?; // before the first payment is screened
        self.load_revocations().await?; // and before the first approval is counted
        self.governance.take_up().await?; // before the first payment is judged
        self.take_up().await?;
        for NetworkLane { lane, .. } in self.networks.values() {
            self.keep(tokio::spawn(Arc::clone(self).track_network(Arc::clone(lane))).abort_handle());
            self.keep(tokio::spawn(Arc::clone(self).watch_nonces(Arc::clone(lane))).abort_handle());
        }
        self.keep(tokio::spawn(Arc::clone(self).watch_approvals()).abort_handle());
        self.keep(tokio::spawn(Arc::clone(self).watch_quarantined()).abort_handle());
        self.keep(tokio::spawn(Arc::clone(&self.governance).watch()).abort_handle());
        self.keep(tokio::spawn(Arc::clone(self).follow_policy()).abort_handle());
        if let Some(every) = self.screening.reload_every() {
            self.keep(tokio::spawn(Arc::clone(self).keep_lists(every)).abort_handle());
        }
        if self.screening.override_require().is_some() {
            self.keep(tokio::spawn(Arc::clone(self).keep_waivers()).abort_handle());
        }
        Ok(())
    }

    /// Remembers a task that goes on until the pipeline is stopped.
    fn keep(&self, task: AbortHandle) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
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

    /// What parties are looked up in.
    pub fn screening(&self) -> &Arc<Screening> {
        &self.screening
    }

    /// The policy in force, and how it changes.
    pub fn governance(&self) -> &Arc<Governance> {
        &self.governance
    }

    /// What an operator must know of.
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.all()
    }

    fn due(&self) -> MutexGuard<'_, BTreeMap<RecordId, Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn later(&self) -> MutexGuard<'_, BTreeMap<RecordId, replace::Later>> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tracking(&self, network: Network) -> Option<&track::Tracking> {
        self.networks.get(&network).map(|network| &network.tracking)
    }

    /// Notes the lease of a record and drives it in a task of its own. `judged` is told when the record has left `received` or
    /// has to wait there.
    pub(crate) fn hold_and_drive(self: &Arc<Self>, hold: Hold, network: Network, judged: Option<oneshot::Sender<()>>) {
        // The turn comes before the lease, so that the tracker, which goes by leases, can't be first.
        let turn = self.begin(hold.id);
        self.take(hold, network);
        if let Some(turn) = turn {
            self.drive_in(turn, judged);
        }
    }

    /// Drives a record in a task of its own.
    fn drive_in(self: &Arc<Self>, turn: Turn, judged: Option<oneshot::Sender<()>>) {
        let pipeline = Arc::clone(self);
        tokio::spawn(async move {
            pipeline.drive(turn.id, judged).await;
            drop(turn);
        });
    }

    /// The right to work on a record in this process, which one task has at a time; none while another has it.
    fn begin(self: &Arc<Self>, id: RecordId) -> Option<Turn> {
        let fresh = self.working.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        fresh.then(|| Turn { pipeline: Arc::clone(self), id })
    }

    /// The same, waited for.
    async fn turn(self: &Arc<Self>, id: RecordId) -> Turn {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable(); // a turn that ends between the next two lines is not missed
            if let Some(turn) = self.begin(id) {
                return turn;
            }
            idle.await;
        }
    }

    /// Takes the record from state to state until it is done, the tracker's, or another gateway's.
    async fn drive(&self, id: RecordId, mut judged: Option<oneshot::Sender<()>>) {
        let mut wait = RETRY.0;
        while let Ok(hold) = self.hold(id) {
            let step = self.step(hold).await;
            if let Some(judged) = judged.take() {
                let _ = judged.send(()); // the client may be gone
            }
            match step {
                Ok(Next::Go) => {
                    self.alerts.settle(&id.to_string());
                    wait = RETRY.0;
                }
                Ok(Next::Rest) => return,
                Err(StepError::Store(StoreError::Stale { .. })) => {} // somebody else moved it: look again
                Err(StepError::Store(StoreError::Fenced(_))) => {
                    tracing::info!(%id, "another gateway works on the record, or a client has cancelled it");
                    self.let_go(hold);
                }
                Err(StepError::Store(error)) if !error.is_transient() => {
                    tracing::error!(%id, %error, "the record can't go on");
                    let message = format!("it can't go on until the gateway is started again: {error}");
                    self.alerts.raise(HALTED, id.to_string(), message, self.clock.unix_millis());
                    if let Some(held) = self.holds().get_mut(&id) {
                        held.halted = true;
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "the step will be tried again");
                    if let Ok(Some(record)) = self.store.get(id).await {
                        self.raise_if_waiting(&record, &error.to_string());
                    }
                    if let StepError::Retry(reason) = error
                        && let Err(error) = self.store.note(hold, Some(reason), self.clock.unix_millis()).await
                    {
                        tracing::warn!(%id, %error, "the reason can't be noted");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.again.notified() => {}
                    }
                    wait = (wait * 2).min(RETRY.1);
                }
            }
        }
    }

    async fn step(&self, hold: Hold) -> Result<Next, StepError> {
        let record = self.store.get(hold.id).await?.ok_or(StoreError::NoRecord(hold.id))?;
        match record.state {
            State::Received => self.evaluate(&record, hold).await,
            // Parked under a policy that is over.
            State::AwaitingApproval | State::Queued if self.is_judged_by_another(&record) => {
                self.evaluate(&record, hold).await
            }
            State::AwaitingApproval => self.await_approval(&record, hold).await,
            State::Queued => self.allocate_and_sign(&record, hold).await,
            State::Signing => self.sign_again(&record, hold).await,
            State::Signed => self.broadcast(&record, hold).await,
            state if state.is_terminal() && record.cancel.is_none() => {
                self.let_go(hold);
                Ok(Next::Rest)
            }
            // The tracker's.
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
