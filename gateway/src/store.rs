//! What is durable, in business transactions: each method of [`Store`] is one arrow of the life of a transaction, and
//! one database transaction that also writes its event.

pub mod postgres;
pub mod sqlite;

mod limits;
pub mod pages;
pub mod policies;
mod rows;
mod steps;

use std::collections::BTreeSet;

use async_trait::async_trait;
use chains::account::WalletId;
use chains::amount::Amount;
use chains::chain::{Replacement, Slot};
use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::policy::change::Version;
use signer::policy::document::PolicyDigest;
use signer::request::{Claims, Deal, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;

use self::policies::{PolicyRecord, PolicyStep};

use crate::record::{Event, Exposure, Reason, Record, RecordId, SignedBytes, State};

/// How long a used token is kept past its expiry: the leeway that its check may grant.
const TOKEN_GRACE_SECONDS: u64 = 60;

/// The durable side of the gateway. Every method is atomic: all of it is on disk when it returns, or nothing.
///
/// Records are worked on under a [`Hold`]: the record and the fence of the lease under which this gateway has it. Every
/// write of a hold that was lost (another gateway took the record over) fails with [`StoreError::Fenced`] and leaves nothing.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// T1: makes an intent durable, uses up its request token, and leases the record to its gateway.
    ///
    /// The same client, key and intent find what is there. A record that ended without ever being signed doesn't burn the
    /// key: the same intent then starts a new record.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], [`StoreError::IdempotencyConflict`] where the key names another intent.
    async fn accept(&self, intent: NewIntent) -> Result<Accepted, StoreError>;

    /// T2: what screening and policy say. `steps` are the states passed on the way, with their times. Where it goes on, the
    /// draws of the verdict are reserved, all of them or none.
    ///
    /// # Errors
    /// [`StoreError::LimitExceeded`] where a reservation would pass a limit; nothing is written.
    async fn judge(&self, hold: Hold, steps: Vec<Event>, verdict: Judgement) -> Result<(), StoreError>;

    /// Keeps what an approver says of a record that waits for approval, in place of what the same approver said before, and uses
    /// up the token of the request that it came in. A rejection ends the record; its draws are given back. Whether the signature
    /// holds is the caller's to check.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], and [`StoreError::Stale`] where the record doesn't wait for approval.
    async fn approve(
        &self,
        id: RecordId,
        approval: Approval,
        decision: Decision,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError>;

    /// Enough people have approved: the record that waited for them is queued.
    async fn approved(&self, hold: Hold, at: u64) -> Result<(), StoreError>;

    /// Keeps the go of whoever opened the deal that the record is a leg of, and uses up the token of that request. Whether
    /// everything else is there is the caller's to say.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], and [`StoreError::Stale`] where the record doesn't wait for approval.
    async fn let_deal_go(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<(), StoreError>;

    /// T3: reserves the slots and freezes the exact unsigned bytes of the first attempt.
    ///
    /// # Errors
    /// [`StoreError::SlotTaken`] where another payment holds one of the slots.
    async fn freeze(&self, hold: Hold, unsigned: Vec<u8>, slots: BTreeSet<Slot>, at: u64) -> Result<u32, StoreError>;

    /// Takes back T3: frees the slots of an attempt that no signer was asked for.
    async fn thaw(&self, hold: Hold, at: u64) -> Result<(), StoreError>;

    /// T4: burns the slots of the frozen attempt; from here on it can be signed.
    async fn burn(&self, hold: Hold, at: u64) -> Result<(), StoreError>;

    /// T3 and T4 of a replacement, of a record that is on its way or quarantined with a burned slot: freezes the bytes of a
    /// further attempt and burns the slots that it uses besides. A quarantined record is on its way again.
    ///
    /// # Errors
    /// [`StoreError::NoConflict`] where it could be included beside an earlier attempt (I2), [`StoreError::SlotTaken`], and
    /// [`StoreError::Stale`] where the record is in a block or at its end, or another attempt waits for its signatures.
    async fn replace(
        &self,
        hold: Hold,
        purpose: Replacement,
        unsigned: Vec<u8>,
        slots: BTreeSet<Slot>,
        at: u64,
    ) -> Result<u32, StoreError>;

    /// T5: the signed bytes of attempt `number`, before they are sent anywhere.
    async fn signed(
        &self,
        hold: Hold,
        number: u32,
        signed: SignedBytes,
        detail: Value,
        at: u64,
    ) -> Result<(), StoreError>;

    /// A replacement that no signer will sign; the attempts before it stand.
    async fn give_up(&self, hold: Hold, number: u32, reason: Reason, at: u64) -> Result<(), StoreError>;

    /// The bytes of attempt `number` are about to be sent for the first time.
    ///
    /// # Errors
    /// [`StoreError::Stale`] where they are not durable yet (I3).
    async fn sending(&self, hold: Hold, number: u32, at: u64) -> Result<(), StoreError>;

    /// What the chain says: a later state, after a reorg an earlier one, or the same with another block or attempt. At the end of the record its draws are posted,
    /// or given back where it can never move money any more (I6).
    async fn observed(&self, hold: Hold, sight: Sight) -> Result<(), StoreError>;

    /// Ends a record that was never signed; its slots become free and its draws are given back.
    async fn abandon(&self, hold: Hold, from: State, to: State, reason: Reason, at: u64) -> Result<(), StoreError>;

    /// A client asks that the record be cancelled: uses up the request's token. A record that has no frozen attempt ends
    /// there and then; of any other the request is kept, for a cancelling transaction to be signed on. A quarantined record is
    /// active again with such a request, so that somebody claims it; where its exposure is none, it ends there and then.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], and [`StoreError::Stale`] where the record is at its end or final.
    async fn cancel(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<Cancelling, StoreError>;

    /// Keeps a paper in place of the one that had its kind and name, if there was one, and uses up the token of the request that
    /// it came in. Whether what it says holds is the reader's to check.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`].
    async fn keep(&self, paper: Paper, claims: Claims, at: u64) -> Result<(), StoreError>;

    /// Keeps the Travel Rule data of a record that waits for approval, in place of what it had, and uses up the token of the request
    /// that it came in. The record's history gets `detail`, the data's digest in it; the data is a [`Paper`] of the record's name.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], and [`StoreError::Stale`] where the record doesn't wait for approval.
    async fn attach_travel(
        &self,
        id: RecordId,
        data: String,
        detail: Value,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError>;

    /// Every paper of a kind, in the order of their names.
    async fn papers(&self, kind: PaperKind) -> Result<Vec<Paper>, StoreError>;

    /// The paper of that name.
    async fn paper(&self, kind: PaperKind, name: &str) -> Result<Option<Paper>, StoreError>;

    /// Keeps a proposed change of the policy, or one that the signers have in force and that this store has lost. It uses up the
    /// token of the request that it came in, where it came in one.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], [`StoreError::PolicyOpen`] where another change is open, and [`StoreError::PolicyVersion`] where
    /// it isn't the next.
    async fn propose_policy(&self, record: PolicyRecord, claims: Option<Claims>, at: u64) -> Result<(), StoreError>;

    /// Takes a change of the policy a step further; answers it as it stands then. Whether a word holds is the caller's to check.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`], [`StoreError::NoPolicyChange`], and [`StoreError::PolicyEnded`] where nothing more can be said
    /// of it.
    async fn step_policy(
        &self,
        version: Version,
        digest: PolicyDigest,
        step: PolicyStep,
        claims: Option<Claims>,
        at: u64,
    ) -> Result<PolicyRecord, StoreError>;

    /// The changes of the policy from this version on, in their order; of one version the earlier proposed first.
    async fn policies(&self, from: Version) -> Result<Vec<PolicyRecord>, StoreError>;

    /// Every counter that was ever drawn on.
    async fn counters(&self) -> Result<Vec<String>, StoreError>;

    /// T2 again, under another policy, of a record that waits for approval or in the queue and has no attempt: what it had reserved is
    /// given back and the draws of this verdict are reserved, all of it or nothing.
    ///
    /// # Errors
    /// As [`Store::judge`].
    async fn judge_again(&self, hold: Hold, verdict: Judgement) -> Result<(), StoreError>;

    /// Uses up a request token that belongs to no stored step.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`].
    async fn use_token(&self, claims: Claims, at: u64) -> Result<(), StoreError>;

    /// Notes why a record stays where it is (a node that refuses, signers that are down), or that nothing holds it.
    async fn note(&self, hold: Hold, reason: Option<Reason>, at: u64) -> Result<(), StoreError>;

    /// Takes every active record of the network that nobody holds, whose lease has run out, or that `owner` itself held in an
    /// earlier life, at most `limit`, the oldest first. Each gets a fence above every earlier one of its own. A life begins
    /// with the opening of the store.
    async fn claim(
        &self,
        owner: &GatewayId,
        network: Network,
        at: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<Hold>, StoreError>;

    /// Extends the leases that still stand; answers those. The others are lost.
    async fn renew(&self, holds: Vec<Hold>, until: u64) -> Result<Vec<Hold>, StoreError>;

    /// Lets go of leases, so that others needn't wait until they run out. Nothing can be written under them any more.
    async fn release(&self, holds: Vec<Hold>) -> Result<(), StoreError>;

    /// The record by its name.
    async fn get(&self, id: RecordId) -> Result<Option<Record>, StoreError>;

    /// The record by its client's name for it.
    async fn by_key(&self, client: &CredentialId, key: &IdempotencyKey) -> Result<Option<Record>, StoreError>;

    /// Records, newest first.
    async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError>;

    /// The records of a network that still have a way to go, oldest first, whoever holds them.
    async fn active(&self, network: Network) -> Result<Vec<RecordId>, StoreError>;

    /// Every slot of the network that is held.
    async fn busy(&self, network: Network) -> Result<BTreeSet<Slot>, StoreError>;

    /// Every slot of the network whose text begins with `prefix`, finished payments' too, with its record and whether it is
    /// burned: what the nonce ledger is checked against the chain by.
    async fn slots(&self, network: Network, prefix: &str) -> Result<Vec<SlotRow>, StoreError>;

    /// What is drawn from a counter in the buckets `from..=to`: pending and posted together.
    async fn usage(&self, counter: &str, from: u64, to: u64) -> Result<Usage, StoreError>;

    /// Freezes a wallet: nothing but cancellations is signed for it until somebody lifts that. With the claims of whoever asked,
    /// whose token is used up. Without, it is the gateway itself, which finds a nonce used up by somebody else: it then freezes
    /// only where that nonce is above the one that the last freeze was for. Answers whether the wallet has become frozen.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`].
    async fn freeze_wallet(&self, freeze: WalletFreeze, claims: Option<Claims>) -> Result<bool, StoreError>;

    /// Lifts the freeze of a wallet, and uses up the request's token. Answers whether it was frozen.
    ///
    /// # Errors
    /// [`StoreError::TokenReplayed`].
    async fn unfreeze_wallet(&self, wallet: WalletId, claims: Claims, at: u64) -> Result<bool, StoreError>;

    /// The wallets that are frozen.
    async fn frozen_wallets(&self) -> Result<Vec<WalletFreeze>, StoreError>;

    /// Appends what the follower of the network's `node`-th node learnt, so that a restart needn't ask again.
    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError>;

    /// Everything that was appended for the node, in order.
    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError>;
}

/// A gateway's name among those that share a store: 1 to 64 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(String);

/// A record, and the fence of the lease under which it is held. Fences of one record only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hold {
    /// The record.
    pub id: RecordId,
    /// The fence.
    pub fence: u64,
}

/// What tracking saw of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// Where the record was when it was looked up.
    pub from: State,
    /// Where it is.
    pub to: State,
    /// The attempt that it is about: the one in the best chain, else the latest.
    pub attempt: u32,
    /// Where that attempt stands in the best chain; none where no attempt is in it.
    pub inclusion: Option<Inclusion>,
    /// Can the intent still move money?
    pub exposure: Exposure,
    /// Why.
    pub reason: Option<Reason>,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
}

/// What [`Store::cancel`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelling {
    /// The record is `cancelled`: no signature exists.
    Done,
    /// The request is kept: a cancelling transaction must win.
    Asked,
}

/// A slot and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// The slot.
    pub slot: Slot,
    /// The record that holds it.
    pub record: RecordId,
    /// The state of that record.
    pub state: State,
    /// Whether a signer may have been asked for it.
    pub burned: bool,
}

/// A part of a limit that a payment takes: reserved with the verdict, posted or given back at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The counter, a stable text.
    pub counter: String,
    /// The time bucket that it falls in.
    pub bucket: u64,
    /// The oldest bucket that still counts against the limit.
    pub since: u64,
    /// How much is drawn, in base units.
    pub amount: Amount,
    /// The most that may be drawn in the window.
    pub max_amount: Option<Amount>,
    /// How many payments there may be in the window.
    pub max_count: Option<u64>,
}

/// Something that is kept beside the records, as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// What it is.
    pub kind: PaperKind,
    /// Its name among those of its kind.
    pub name: String,
    /// The thing itself, JSON.
    pub content: String,
}

/// What a paper is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperKind {
    /// An operator's request to override the screening, by the override's name.
    Override,
    /// An approver's word on one, by the override's name and the approver's.
    OverrideWord,
    /// The Travel Rule data of a record, by the record's name.
    Travel,
    /// An approver's delegation, by its name.
    Delegation,
    /// The end of one, by the delegation's name.
    Revocation,
}

impl PaperKind {
    /// What it is called in its row.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::OverrideWord => "override_word",
            Self::Travel => "travel",
            Self::Delegation => "delegation",
            Self::Revocation => "revocation",
        }
    }
}

/// What is drawn from a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In base units.
    pub amount: Amount,
    /// Payments.
    pub count: u64,
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
    /// The terms under which it is paid, where it is a deal's crypto leg. They are part of what the key names.
    pub deal: Option<Deal>,
    /// The request as it came in.
    pub request: SignedRequest,
    /// The gateway that works on it.
    pub owner: GatewayId,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// When the lease runs out, in milliseconds since the Unix epoch.
    pub until: u64,
}

/// What [`Store::accept`] found.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// A new record in state `received`, held by the gateway that asked.
    New(Hold),
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
    /// What it takes of the limits, where it goes on.
    pub draws: Vec<Draw>,
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
    /// Only legs of deals.
    pub deals: bool,
    /// Only older than this one.
    pub before: Option<RecordId>,
    /// At most so many.
    pub limit: u32,
}

/// Why nothing is signed for a wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletFreeze {
    /// The wallet.
    pub wallet: WalletId,
    /// Who froze it: a credential's name, or `gateway`.
    pub by: String,
    /// Why, in words.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The highest nonce that was used up by somebody else, where that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<u64>,
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
    /// It would pass a limit.
    #[error("limit {counter}: {amount} in {count} payments are drawn already")]
    LimitExceeded {
        /// The limit's counter.
        counter: String,
        /// What is drawn in the window, in base units.
        amount: Amount,
        /// In how many payments.
        count: u64,
    },
    /// Another change of the policy is open.
    #[error("another change of the policy is open, to version {0}; it has to end first")]
    PolicyOpen(Version),
    /// Not the policy's next version.
    #[error("the change makes version {version} of the policy; the next one is {next}")]
    PolicyVersion {
        /// What it makes.
        version: Version,
        /// What comes next.
        next: Version,
    },
    /// There is no such change.
    #[error("there is no change of the policy to version {0}")]
    NoPolicyChange(Version),
    /// The change has ended: it is in force, or rejected.
    #[error("the change of the policy to version {0} is at its end")]
    PolicyEnded(Version),
    /// The attempt could be included beside an earlier one.
    #[error("the attempt has no slot in common with attempt {0}")]
    NoConflict(u32),
    /// Another gateway has taken the record over.
    #[error("record {0} was taken over by another gateway")]
    Fenced(RecordId),
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

/// A string that is no gateway's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no gateway's name; use 1 to 64 printable ASCII characters without spaces")]
pub struct GatewayIdError(String);

impl std::str::FromStr for GatewayId {
    type Err = GatewayIdError;

    fn from_str(text: &str) -> Result<Self, GatewayIdError> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(GatewayIdError(text.chars().take(100).collect()))
        }
    }
}

impl std::fmt::Display for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
