//! The store for several gateways: PostgreSQL, or a database that speaks its wire.
//!
//! Each method is one transaction that locks its record's row, asks the rules, and writes. What the database takes back
//! is tried again; a connection that broke is replaced by the next call. Where the answer to a commit is lost, the caller is
//! told that the database failed: every step is guarded by the record's fence and state, so it finds out by looking again.

mod policies;
mod rows;
mod schema;
mod session;
mod writes;

use std::collections::BTreeSet;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chains::account::WalletId;
use chains::chain::{Replacement, Slot};
use chains::network::Network;
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::policy::change::Version;
use signer::policy::document::PolicyDigest;
use signer::request::{Claims, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use self::session::Sessions;
use self::writes::Claim;
use super::policies::{PolicyRecord, PolicyStep};
use super::steps::{Found, Plan};
use super::{
    Accepted, Cancelling, Filter, GatewayId, Hold, Judgement, NewIntent, Paper, PaperKind, Sight, SlotRow, Store,
    StoreError, TOKEN_GRACE_SECONDS, Usage, WalletFreeze,
};
use crate::fail;
use crate::mutation::Mutation;
use crate::record::{Event, Reason, Record, RecordId, SignedBytes, State};

/// For how long a connection that was given back is taken to be there still.
const TRUST: Duration = Duration::from_secs(1);
/// How long a caller waits for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// The limits that the server itself keeps, in milliseconds: a gateway that is paused amid a transaction loses its locks.
const SERVER_LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "10000"), ("lock_timeout", "5000"), ("idle_in_transaction_session_timeout", "3000")];
/// How often used tokens that have expired are forgotten, in seconds.
const FORGET_EVERY_SECONDS: u64 = 30;

/// A database that several gateways may share.
#[derive(Debug)]
pub struct PostgresStore {
    sessions: Sessions,
    /// Which opening of the database this is.
    life: i64,
    /// When expired tokens were last forgotten, in seconds since the Unix epoch.
    forgotten: AtomicU64,
}

impl PostgresStore {
    /// Connects to the database at `url` (`postgres://user:password@host:port/database?sslmode=verify-full`), making and
    /// migrating its tables where needed, with at most `connections` at a time.
    ///
    /// # Errors
    /// Where the URL can't be read, the database can't be reached, or its tables were written by a later version.
    pub async fn open(url: &str, connections: u32) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Database(format!("the URL can't be read: {error}")))?
            .options(SERVER_LIMITS);
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("portcullis"),
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(CONNECT)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUST {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        let sessions = Sessions::new(pool);
        sessions.write(|db| Box::pin(schema::prepare(db))).await?;
        let life = sessions.write(|db| Box::pin(schema::migrate(db))).await?;
        Ok(Self { sessions, life, forgotten: AtomicU64::new(0) })
    }

    /// One step of a record under a hold: locks it, reads what is known of it, and writes what the rules make of that. Answers
    /// the number of the attempt that was made, if one was.
    async fn step(
        &self,
        hold: Hold,
        plan: impl Fn(&Found) -> Result<Plan, StoreError> + Send + Sync + 'static,
    ) -> Result<u32, StoreError> {
        let plan = Arc::new(plan);
        let done = self
            .sessions
            .write(|db| {
                let plan = Arc::clone(&plan);
                Box::pin(async move {
                    let found = rows::found(db, hold.id).await?;
                    let hold = if Mutation::FenceIgnored.on() { Hold { fence: found.fence, ..hold } } else { hold };
                    found.held(hold)?;
                    let plan = plan(&found)?;
                    writes::carry_out(db, hold, &plan).await?;
                    Ok(plan)
                })
            })
            .await?;
        if done.gives_back() {
            fail::point("refund.after");
        }
        Ok(done.attempt)
    }

    /// Forgets used tokens that have expired, once in a while. Nobody waits for it to succeed.
    async fn forget_tokens(&self, at: u64) {
        let now = at / 1000;
        let last = self.forgotten.load(Ordering::Relaxed);
        let due = now >= last.saturating_add(FORGET_EVERY_SECONDS);
        if due && self.forgotten.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let before = now.saturating_sub(TOKEN_GRACE_SECONDS);
            if let Err(error) = self.sessions.write(|db| Box::pin(writes::forget_tokens(db, before))).await {
                tracing::debug!(%error, "expired tokens stay for a while");
            }
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn accept(&self, intent: NewIntent) -> Result<Accepted, StoreError> {
        let (life, at, intent) = (self.life, intent.at, Arc::new(intent));
        let accepted = self
            .sessions
            .write(|db| {
                let intent = Arc::clone(&intent);
                Box::pin(async move { writes::accept(db, life, &intent).await })
            })
            .await?;
        self.forget_tokens(at).await;
        Ok(accepted)
    }

    async fn judge(&self, hold: Hold, steps: Vec<Event>, verdict: Judgement) -> Result<(), StoreError> {
        self.step(hold, move |found| found.judge(&steps, &verdict)).await.map(drop)
    }

    async fn freeze(&self, hold: Hold, unsigned: Vec<u8>, slots: BTreeSet<Slot>, at: u64) -> Result<u32, StoreError> {
        self.step(hold, move |found| found.freeze(&unsigned, &slots, at)).await
    }

    async fn thaw(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.thaw(at)).await.map(drop)
    }

    async fn burn(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.burn(at)).await.map(drop)
    }

    async fn replace(
        &self,
        hold: Hold,
        purpose: Replacement,
        unsigned: Vec<u8>,
        slots: BTreeSet<Slot>,
        at: u64,
    ) -> Result<u32, StoreError> {
        self.step(hold, move |found| found.replace(purpose, &unsigned, &slots, at)).await
    }

    async fn signed(
        &self,
        hold: Hold,
        number: u32,
        signed: SignedBytes,
        detail: Value,
        at: u64,
    ) -> Result<(), StoreError> {
        self.step(hold, move |found| found.signed(number, &signed, &detail, at)).await.map(drop)
    }

    async fn give_up(&self, hold: Hold, number: u32, reason: Reason, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.give_up(number, &reason, at)).await.map(drop)
    }

    async fn sending(&self, hold: Hold, number: u32, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.sending(number, at)).await.map(drop)
    }

    async fn observed(&self, hold: Hold, sight: Sight) -> Result<(), StoreError> {
        self.step(hold, move |found| found.observed(&sight)).await.map(drop)
    }

    async fn abandon(&self, hold: Hold, from: State, to: State, reason: Reason, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.abandon(from, to, &reason, at)).await.map(drop)
    }

    async fn cancel(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<Cancelling, StoreError> {
        let asked = Arc::new((claims, request));
        let (plan, outcome) = self
            .sessions
            .write(|db| {
                let asked = Arc::clone(&asked);
                Box::pin(async move { writes::cancel(db, id, &asked.0, &asked.1, at).await })
            })
            .await?;
        if plan.gives_back() {
            fail::point("refund.after");
        }
        Ok(outcome)
    }

    async fn approve(
        &self,
        id: RecordId,
        approval: Approval,
        decision: Decision,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError> {
        let said = Arc::new((approval, claims));
        let plan = self
            .sessions
            .write(|db| {
                let said = Arc::clone(&said);
                Box::pin(async move { writes::approve(db, id, &said.0, decision, &said.1, at).await })
            })
            .await?;
        if plan.gives_back() {
            fail::point("refund.after");
        }
        Ok(())
    }

    async fn let_deal_go(
        &self,
        id: RecordId,
        claims: Claims,
        request: SignedRequest,
        at: u64,
    ) -> Result<(), StoreError> {
        let asked = Arc::new((claims, request));
        self.sessions
            .write(|db| {
                let asked = Arc::clone(&asked);
                Box::pin(async move { writes::let_deal_go(db, id, &asked.0, &asked.1, at).await })
            })
            .await
    }

    async fn approved(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.approved(at)).await.map(drop)
    }

    async fn keep(&self, paper: Paper, claims: Claims, at: u64) -> Result<(), StoreError> {
        let kept = Arc::new((paper, claims));
        self.sessions
            .write(|db| {
                let kept = Arc::clone(&kept);
                Box::pin(async move {
                    writes::use_token(db, &kept.1).await?;
                    writes::keep(db, &kept.0, at).await
                })
            })
            .await
    }

    async fn attach_travel(
        &self,
        id: RecordId,
        data: String,
        detail: Value,
        claims: Claims,
        at: u64,
    ) -> Result<(), StoreError> {
        let attached = Arc::new((data, detail, claims));
        self.sessions
            .write(|db| {
                let attached = Arc::clone(&attached);
                Box::pin(async move {
                    let (data, detail, claims) = &*attached;
                    writes::attach_travel(db, id, data, detail, claims, at).await
                })
            })
            .await
    }

    async fn papers(&self, kind: PaperKind) -> Result<Vec<Paper>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::papers(db, kind, None))).await
    }

    async fn paper(&self, kind: PaperKind, name: &str) -> Result<Option<Paper>, StoreError> {
        let name: Arc<str> = name.into();
        self.sessions
            .read(|db| {
                let name = Arc::clone(&name);
                Box::pin(async move { Ok(rows::papers(db, kind, Some(&name)).await?.pop()) })
            })
            .await
    }

    async fn propose_policy(&self, record: PolicyRecord, claims: Option<Claims>, _at: u64) -> Result<(), StoreError> {
        let proposed = Arc::new((record, claims));
        self.sessions
            .write(|db| {
                let proposed = Arc::clone(&proposed);
                Box::pin(async move { policies::propose(db, &proposed.0, proposed.1.as_ref()).await })
            })
            .await
    }

    async fn step_policy(
        &self,
        version: Version,
        digest: PolicyDigest,
        step: PolicyStep,
        claims: Option<Claims>,
        at: u64,
    ) -> Result<PolicyRecord, StoreError> {
        let asked = Arc::new((step, claims));
        self.sessions
            .write(|db| {
                let asked = Arc::clone(&asked);
                Box::pin(
                    async move { policies::step(db, digest, version, asked.0.clone(), asked.1.as_ref(), at).await },
                )
            })
            .await
    }

    async fn policies(&self, from: Version) -> Result<Vec<PolicyRecord>, StoreError> {
        self.sessions.read(|db| Box::pin(policies::all(db, from))).await
    }

    async fn counters(&self) -> Result<Vec<String>, StoreError> {
        self.sessions.read(|db| Box::pin(policies::counters(db))).await
    }

    async fn judge_again(&self, hold: Hold, verdict: Judgement) -> Result<(), StoreError> {
        self.step(hold, move |found| found.judge_again(&verdict)).await.map(drop)
    }

    async fn use_token(&self, claims: Claims, at: u64) -> Result<(), StoreError> {
        let claims = Arc::new(claims);
        self.sessions
            .write(|db| {
                let claims = Arc::clone(&claims);
                Box::pin(async move { writes::use_token(db, &claims).await })
            })
            .await?;
        self.forget_tokens(at).await;
        Ok(())
    }

    async fn note(&self, hold: Hold, reason: Option<Reason>, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| Ok(found.note(reason.as_ref(), at))).await.map(drop)
    }

    async fn claim(
        &self,
        owner: &GatewayId,
        network: Network,
        at: u64,
        until: u64,
        limit: u32,
    ) -> Result<Vec<Hold>, StoreError> {
        let claim = Arc::new(Claim { owner: owner.clone(), life: self.life, network, at, until, limit });
        self.sessions
            .write(|db| {
                let claim = Arc::clone(&claim);
                Box::pin(async move { writes::claim(db, &claim).await })
            })
            .await
    }

    async fn renew(&self, holds: Vec<Hold>, until: u64) -> Result<Vec<Hold>, StoreError> {
        let holds = Arc::new(holds);
        self.sessions
            .write(|db| {
                let holds = Arc::clone(&holds);
                Box::pin(async move { writes::renew(db, &holds, until).await })
            })
            .await
    }

    async fn release(&self, holds: Vec<Hold>) -> Result<(), StoreError> {
        let holds = Arc::new(holds);
        self.sessions
            .write(|db| {
                let holds = Arc::clone(&holds);
                Box::pin(async move { writes::release(db, &holds).await })
            })
            .await
    }

    async fn get(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::record(db, id))).await
    }

    async fn by_key(&self, client: &CredentialId, key: &IdempotencyKey) -> Result<Option<Record>, StoreError> {
        let name = Arc::new((client.clone(), key.clone()));
        self.sessions
            .read(|db| {
                let name = Arc::clone(&name);
                Box::pin(async move { rows::by_key(db, &name.0, &name.1).await })
            })
            .await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError> {
        let filter = Arc::new(filter);
        self.sessions
            .read(|db| {
                let filter = Arc::clone(&filter);
                Box::pin(async move { rows::list(db, &filter).await })
            })
            .await
    }

    async fn active(&self, network: Network) -> Result<Vec<RecordId>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::active(db, network))).await
    }

    async fn busy(&self, network: Network) -> Result<BTreeSet<Slot>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::busy(db, network))).await
    }

    async fn slots(&self, network: Network, prefix: &str) -> Result<Vec<SlotRow>, StoreError> {
        let prefix: Arc<str> = prefix.into();
        self.sessions
            .read(|db| {
                let prefix = Arc::clone(&prefix);
                Box::pin(async move { rows::slots(db, network, &prefix).await })
            })
            .await
    }

    async fn usage(&self, counter: &str, from: u64, to: u64) -> Result<Usage, StoreError> {
        let counter: Arc<str> = counter.into();
        self.sessions
            .read(|db| {
                let counter = Arc::clone(&counter);
                Box::pin(async move { rows::usage(db, &counter, from, to).await })
            })
            .await
    }

    async fn freeze_wallet(&self, freeze: WalletFreeze, claims: Option<Claims>) -> Result<bool, StoreError> {
        let asked = Arc::new((freeze, claims));
        self.sessions
            .write(|db| {
                let asked = Arc::clone(&asked);
                Box::pin(async move { writes::freeze_wallet(db, &asked.0, asked.1.as_ref()).await })
            })
            .await
    }

    async fn unfreeze_wallet(&self, wallet: WalletId, claims: Claims, at: u64) -> Result<bool, StoreError> {
        let asked = Arc::new((wallet, claims));
        self.sessions
            .write(|db| {
                let asked = Arc::clone(&asked);
                Box::pin(async move { writes::unfreeze_wallet(db, &asked.0, &asked.1, at).await })
            })
            .await
    }

    async fn frozen_wallets(&self) -> Result<Vec<WalletFreeze>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::frozen_wallets(db))).await
    }

    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError> {
        let changes: Arc<[u8]> = changes.into();
        self.sessions
            .write(|db| {
                let changes = Arc::clone(&changes);
                Box::pin(async move { writes::save_chain_changes(db, network, node, &changes).await })
            })
            .await
    }

    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.sessions.read(|db| Box::pin(rows::chain_changes(db, network, node))).await
    }
}
