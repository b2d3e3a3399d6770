//! What is durable, in business transactions: each method of [`Store`] is one arrow of the life of a transaction, and
//! one database transaction that also writes its event.

pub mod sqlite;

use std::collections::BTreeSet;

use async_trait::async_trait;
use chains::chain::Slot;
use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use serde_json::Value;
use signer::request::{Claims, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;

use crate::record::{Event, Reason, Record, RecordId, SignedBytes, State};

/// The durable side of the gateway. Every method is atomic: all of it is on disk when it returns, or nothing.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// T1: makes an intent durable and uses up its request token.
    ///
    /// The same client, key and intent find what is there. A record that ended without ever being signed doesn't burn the
    /// key: the same intent then starts a new record.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], [`StoreError::IdempotencyConflict`] where the key names another intent.
    async fn accept(&self, intent: NewIntent) -> Result<Accepted, StoreError>;

    /// T2: what screening and policy say. `steps` are the states passed on the way, with their times.
    async fn judge(&self, id: RecordId, steps: Vec<Event>, verdict: Judgement) -> Result<(), StoreError>;

    /// T3: reserves the slots and freezes the exact unsigned bytes.
    ///
    /// # Errors
    /// [`StoreError::SlotTaken`] where another payment holds one of the slots.
    async fn freeze(&self, id: RecordId, unsigned: Vec<u8>, slots: BTreeSet<Slot>, at: u64) -> Result<u32, StoreError>;

    /// Takes back T3: frees the slots of an attempt that no signer was asked for.
    async fn thaw(&self, id: RecordId, at: u64) -> Result<(), StoreError>;

    /// T4: burns the slots of the frozen attempt; from here on it can be signed.
    async fn burn(&self, id: RecordId, at: u64) -> Result<(), StoreError>;

    /// T5: the signed bytes, before they are sent anywhere.
    async fn signed(&self, id: RecordId, signed: SignedBytes, detail: Value, at: u64) -> Result<(), StoreError>;

    /// The bytes are about to be sent for the first time.
    async fn broadcasting(&self, id: RecordId, at: u64) -> Result<(), StoreError>;

    /// What the chain says: a later state, or after a reorg an earlier one.
    async fn observed(
        &self,
        id: RecordId,
        from: State,
        to: State,
        inclusion: Option<Inclusion>,
        reason: Option<Reason>,
        at: u64,
    ) -> Result<(), StoreError>;

    /// Ends a record that was never signed; its slots become free.
    async fn abandon(&self, id: RecordId, from: State, to: State, reason: Reason, at: u64) -> Result<(), StoreError>;

    /// Notes why a record stays where it is (a node that refuses, signers that are down), or that nothing holds it.
    async fn note(&self, id: RecordId, reason: Option<Reason>, at: u64) -> Result<(), StoreError>;

    /// The record by its name.
    async fn get(&self, id: RecordId) -> Result<Option<Record>, StoreError>;

    /// The record by its client's name for it.
    async fn by_key(&self, client: &CredentialId, key: &IdempotencyKey) -> Result<Option<Record>, StoreError>;

    /// Records, newest first.
    async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError>;

    /// The records of a network that still have a way to go, oldest first.
    async fn active(&self, network: Network) -> Result<Vec<RecordId>, StoreError>;

    /// Every slot of the network that is held.
    async fn busy(&self, network: Network) -> Result<BTreeSet<Slot>, StoreError>;

    /// Appends what the follower of the network's `node`-th node learnt, so that a restart needn't ask again.
    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError>;

    /// Everything that was appended for the node, in order.
    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError>;
}

/// An intent that asks to be accepted.
#[derive(Clone, Debug)]
pub struct NewIntent {
    /// The name for it, should it be accepted.
    pub id: RecordId,
    /// What the request's token claims; `sub` is the client.
    pub claims: Claims,
    /// The client's name for it.
    pub idempotency_key: IdempotencyKey,
    /// The network of the wallet.
    pub network: Network,
    /// What is asked for.
    pub intent: Intent,
    /// The request as it came in.
    pub request: SignedRequest,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// What [`Store::accept`] found.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// A new record in state `received`.
    New(RecordId),
    /// The record that the same intent has already.
    Known(RecordId),
}

/// What T2 decided.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// `queued`, `awaiting_approval`, `rejected` or `blocked`.
    pub state: State,
    /// Why, unless it is simply allowed.
    pub reason: Option<Reason>,
    /// What the event says of it.
    pub detail: Option<Value>,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// Which records [`Store::list`] answers.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this client's.
    pub client: Option<CredentialId>,
    /// Only this wallet's.
    pub wallet: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only older than this one.
    pub before: Option<RecordId>,
    /// At most so many.
    pub limit: u32,
}

/// Why the store didn't do it. Where it isn't said otherwise, nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The request token was used before.
    #[error("the request token was used before; sign every request anew")]
    TokenReplayed,
    /// The key names another intent.
    #[error("the idempotency key belongs to another intent (record {0}); use a new key for a new intent")]
    IdempotencyConflict(RecordId),
    /// Another payment holds the slot.
    #[error("slot {0} is held by another payment")]
    SlotTaken(Slot),
    /// There is no such record.
    #[error("no record {0}")]
    NoRecord(RecordId),
    /// The record is not in the state that the step starts from: somebody else was faster.
    #[error("record {id} is {found}, not {expected}")]
    Stale {
        /// The record.
        id: RecordId,
        /// Where the step starts.
        expected: State,
        /// Where the record is.
        found: State,
    },
    /// The step is no arrow of the life of a transaction.
    #[error("{from} never becomes {to}")]
    NoSuchArrow {
        /// Where it would start.
        from: State,
        /// Where it would end.
        to: State,
    },
    /// The database failed: disk full, file locked, file damaged.
    #[error("the database failed: {0}")]
    Database(String),
    /// The database holds what this version can't read.
    #[error("the database holds something unreadable: {0}")]
    Corrupt(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same step may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}
