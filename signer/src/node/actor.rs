//! The actor: a signer's loop in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Node;
#[cfg(feature = "grpc")]
use super::Orders;
use super::wire::{self, Command};
use crate::ceremony::escrow::Recipient;
use crate::nonces::LOW;
use crate::policy::Policy;
use crate::pool::WalletSpec;
use crate::roster::Roster;
use crate::share::Share;
use crate::transport::SignerId;
use crate::transport::memory::Delivery;
use crate::vault::KeyInfo;

/// How long nobody must have asked anything before a signer fills up its nonces: signing goes first.
const QUIET: Duration = Duration::from_millis(20);

/// A signer that runs in this process.
pub(crate) struct Handle {
    node: Arc<Node>,
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Handle {
    /// Starts the actor on a task of its own. It serves `requests` until it is stopped; each command is computed on the
    /// blocking pool, no more at a time than the machine has cores. Nonces are made ahead in quiet moments, so that no
    /// signing competes for a core with them.
    pub(crate) fn spawn(node: Node, mut requests: mpsc::Receiver<Delivery>, cores: usize) -> Self {
        let node = Arc::new(node);
        let (stop, mut stopped) = oneshot::channel();
        let actor = node.clone();
        let task = tokio::spawn(async move {
            let workers = Arc::new(Semaphore::new(cores));
            // Set where signing has taken nonces that were not made again.
            let taken = Arc::new(AtomicBool::new(false));
            loop {
                let delivery = tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    delivery = requests.recv() => match delivery { Some(delivery) => Some(delivery), None => break },
                    () = tokio::time::sleep(QUIET), if taken.load(Ordering::Relaxed) => None,
                };
                if delivery.is_none() {
                    taken.store(false, Ordering::Relaxed);
                }
                let Ok(permit) = workers.clone().acquire_owned().await else { break };
                // Whoever asked has given up: it is as if this had never arrived.
                if delivery.as_ref().is_some_and(|delivery| delivery.answer.is_closed()) {
                    continue;
                }
                let (node, taken) = (actor.clone(), taken.clone());
                tokio::task::spawn_blocking(move || {
                    match delivery {
                        None => node.fill_up(),
                        Some(delivery) => {
                            let command = wire::from_bytes(&delivery.request);
                            let signing = matches!(command, Some(Command::Sign { .. } | Command::Round { .. }));
                            // Where nobody waits any more, the answer is of no use.
                            let _ = delivery.answer.send(node.answer_to(command));
                            if !signing || node.short_of_nonces(LOW) {
                                node.restock();
                            } else {
                                taken.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                    // The signer's files are let go before the actor may end.
                    drop(node);
                    drop(permit);
                });
            }
            requests.close();
            // Commands under way end before the signer's files are let go.
            let _ = workers.acquire_many(u32::try_from(cores).unwrap_or(u32::MAX)).await;
        });
        Self { node, task, stop }
    }

    /// Hands the signer its copy of roster, policy and wallets. It derives each wallet's account from its own share.
    ///
    /// # Errors
    /// Names a wallet whose key cannot serve it.
    pub(crate) fn install(
        &self,
        roster: Arc<Roster>,
        policy: Arc<Policy>,
        wallets: &[WalletSpec],
    ) -> Result<(), String> {
        self.node.install(roster, policy, wallets)
    }

    /// Replaces the orders of a signer that has its own.
    ///
    /// # Errors
    /// Names a wallet whose key cannot serve it.
    #[cfg(feature = "grpc")]
    pub(crate) fn take_orders(&self, orders: Orders) -> Result<(), String> {
        self.node.take_orders(orders)
    }

    /// Lets the signer help in making escrows for these recipients, and for nobody else.
    pub(crate) fn permit_escrow(&self, recipients: &[Recipient]) {
        self.node.permit_escrow(recipients);
    }

    /// The signer's name.
    pub(crate) fn id(&self) -> &SignerId {
        self.node.id()
    }

    /// Hands the signer its share of a key that was whole until here; it is sealed when this returns.
    ///
    /// # Errors
    /// Where the signer holds a key of that name, or cannot seal.
    pub(crate) fn import(&self, info: &KeyInfo, share: &Share) -> Result<(), String> {
        self.node.import(info, share)
    }

    /// Stops the actor and waits until it has let go of its files.
    pub(crate) async fn stop(self) {
        // The actor may have ended by itself.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
