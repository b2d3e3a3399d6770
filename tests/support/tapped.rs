//! A lane that a test has a hand in.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chains::account::Account;
use chains::amount::Amount;
use chains::asset::Asset;
use chains::chain::{Replacement, Slot};
use chains::client::{Nonces, Tip};
use chains::intent::Intent;
use chains::network::Network;
use chains::payload::Signature;
use chains::simulation::Simulation;
use gateway::lane::{Draft, Lane, LaneError};
use gateway::nodes::Seen;
use gateway::record::SignedBytes;

/// The test's hand.
#[async_trait]
pub trait Tap: Send + Sync + 'static {
    /// What becomes of bytes on their way to the nodes; nothing, and they are sent.
    fn on_broadcast(&self) -> Option<Result<(), LaneError>> {
        None
    }

    /// What happens before a node tries a transaction.
    async fn before_try(&self) {}
}

/// A lane with a tap.
pub struct Tapped<L, T> {
    pub lane: L,
    pub tap: Arc<T>,
}

#[async_trait]
impl<L: Lane, T: Tap> Lane for Tapped<L, T> {
    fn network(&self) -> Network {
        self.lane.network()
    }

    async fn build(&self, intent: &Intent, account: &Account, busy: &BTreeSet<Slot>) -> Result<Draft, LaneError> {
        self.lane.build(intent, account, busy).await
    }

    async fn replace(
        &self,
        intent: &Intent,
        account: &Account,
        previous: &[Vec<u8>],
        purpose: Replacement,
        busy: &BTreeSet<Slot>,
    ) -> Result<Draft, LaneError> {
        self.lane.replace(intent, account, previous, purpose, busy).await
    }

    fn decode(&self, account: &Account, unsigned: Vec<u8>) -> Result<Draft, LaneError> {
        self.lane.decode(account, unsigned)
    }

    fn assemble(&self, account: &Account, unsigned: &[u8], signatures: &[Signature]) -> Result<SignedBytes, LaneError> {
        self.lane.assemble(account, unsigned, signatures)
    }

    async fn broadcast(&self, signed: &[u8]) -> Result<(), LaneError> {
        match self.tap.on_broadcast() {
            Some(fate) => fate,
            None => self.lane.broadcast(signed).await,
        }
    }

    async fn status(&self, signed: &[u8]) -> Result<Seen, LaneError> {
        self.lane.status(signed).await
    }

    async fn balance(&self, account: &Account, asset: Asset) -> Result<Amount, LaneError> {
        self.lane.balance(account, asset).await
    }

    async fn nonces(&self, account: &Account) -> Result<Option<Nonces>, LaneError> {
        self.lane.nonces(account).await
    }

    async fn simulate(&self, unsigned: &[u8]) -> Result<Simulation, LaneError> {
        self.tap.before_try().await;
        self.lane.simulate(unsigned).await
    }

    async fn tip(&self) -> Result<Tip, LaneError> {
        self.lane.tip().await
    }

    async fn take_changes(&self) -> Vec<(u32, Vec<u8>)> {
        self.lane.take_changes().await
    }
}
