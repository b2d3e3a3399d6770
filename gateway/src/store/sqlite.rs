//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, one writer thread with group commit.
//!
//! Every write is a closure that is sent to the writer. It runs all that have come together in one `BEGIN IMMEDIATE`, each
//! in a savepoint of its own, commits once, and only then answers them: one `fsync` carries many records.

mod file;
mod policies;
mod rows;
mod schema;
mod writes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use chains::account::WalletId;
use chains::chain::{Replacement, Slot};
use chains::network::Network;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::policy::change::Version;
use signer::policy::document::PolicyDigest;
use signer::request::{Claims, IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;
use tokio::sync::{Mutex, mpsc, oneshot};

use self::file::File;
use super::policies::{PolicyRecord, PolicyStep};
use super::steps::{Found, Plan};
use super::{
    Accepted, Cancelling, Filter, GatewayId, Hold, Judgement, NewIntent, Paper, PaperKind, Sight, SlotRow, Store,
    StoreError, Usage, WalletFreeze,
};
use crate::fail;
use crate::mutation::Mutation;
use crate::record::{Event, Reason, Record, RecordId, SignedBytes, State};

/// How many writes wait for the writer before callers wait too.
const QUEUE: usize = 4096;
/// How many writes share one commit at most.
const GROUP: usize = 256;

/// One write. Without a connection, because no transaction could be begun, it only makes its answer.
type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Outcome + Send>;
/// Sends the answer, once the commit has its outcome. The answer is an error where the commit failed.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Outcome {
    keep: bool,
    reply: Reply,
}

/// A SQLite database in one file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: mpsc::Sender<Job>,
    reader: Arc<Mutex<Connection>>,
    /// Which opening of the database this is.
    life: i64,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if writes::is_damage(&error) { Self::Corrupt(error.to_string()) } else { Self::Database(error.to_string()) }
    }
}

impl SqliteStore {
    /// Opens the database at `path`, making and migrating it where needed.
    ///
    /// # Errors
    /// Where the file can't be opened, is damaged, or was written by a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let life = schema::migrate(&mut connection)?;

        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(Duration::from_secs(5))?;

        let (writer, jobs) = mpsc::channel(QUEUE);
        let file = File::open(path)?;
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write(&mut connection, &file, jobs))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self { writer, reader: Arc::new(Mutex::new(reader)), life })
    }

    /// Lets the database grow to at most so many pages of 4 KiB. Beyond that writes fail as on a disk that is full, and succeed
    /// again once the limit is raised.
    ///
    /// # Errors
    /// Where the database failed.
    pub async fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.write(move |db| Ok(db.pragma_update(None, "max_page_count", pages)?)).await
    }

    /// One step of a record under a hold: reads what is known of it, and writes what the rules make of that. Answers the number
    /// of the attempt that was made, if one was.
    async fn step(
        &self,
        hold: Hold,
        plan: impl FnOnce(&Found) -> Result<Plan, StoreError> + Send + 'static,
    ) -> Result<u32, StoreError> {
        let (attempt, gives_back) = self
            .write(move |db| {
                let found = rows::found(db, hold.id)?;
                let hold = if Mutation::FenceIgnored.on() { Hold { fence: found.fence, ..hold } } else { hold };
                found.held(hold)?;
                let plan = plan(&found)?;
                writes::carry_out(db, hold, &plan)?;
                Ok((plan.attempt, plan.gives_back()))
            })
            .await?;
        if gives_back {
            fail::point("refund.after");
        }
        Ok(attempt)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.and_then(work);
            let keep = result.is_ok();
            let reply: Reply = Box::new(move |committed| {
                let _ = answer.send(committed.and(result));
            });
            Outcome { keep, reply }
        });
        self.writer.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let connection = Arc::clone(&self.reader).lock_owned().await;
        let reading = tokio::task::spawn_blocking(move || {
            let snapshot = connection.unchecked_transaction()?; // one state of the database for all queries of the work
            work(&snapshot)
        });
        reading.await.map_err(|_| StoreError::Closed)?
    }
}

/// The writer thread: gathers what has come, runs it in one transaction, commits, answers.
fn write(connection: &mut Connection, file: &File, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut replies = Vec::with_capacity(group.len());
        let committed = commit(connection, file, group.drain(..), &mut replies);
        for reply in replies {
            reply(committed.clone());
        }
    }
}

/// Runs the jobs in one transaction. Every job leaves a reply, whatever happens.
fn commit(
    connection: &mut Connection,
    file: &File,
    jobs: impl Iterator<Item = Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let mut transaction =
        file.in_place().and_then(|()| Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?));
    for job in jobs {
        let step = match &mut transaction {
            Ok(transaction) => in_savepoint(transaction, job, replies),
            Err(error) => {
                replies.push(job(Err(error.clone())).reply);
                Ok(())
            }
        };
        if let Err(error) = step {
            transaction = Err(error); // dropping the transaction rolls it back
        }
    }
    transaction?.commit()?;
    file.in_place() // a commit to a file that nobody can open again is none
}

fn in_savepoint(transaction: &mut Transaction<'_>, job: Job, replies: &mut Vec<Reply>) -> Result<(), StoreError> {
    let mut savepoint = match transaction.savepoint() {
        Ok(savepoint) => savepoint,
        Err(error) => {
            let error = StoreError::from(error);
            replies.push(job(Err(error.clone())).reply);
            return Err(error);
        }
    };
    let Outcome { keep, reply } = job(Ok(&savepoint));
    replies.push(reply);
    if keep {
        savepoint.commit()?;
    } else {
        savepoint.rollback()?;
    }
    Ok(())
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept(&self, intent: NewIntent) -> Result<Accepted, StoreError> {
        let life = self.life;
        self.write(move |db| writes::accept(db, life, &intent)).await
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
        let (plan, outcome) = self.write(move |db| writes::cancel(db, id, &claims, &request, at)).await?;
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
        let plan = self.write(move |db| writes::approve(db, id, &approval, decision, &claims, at)).await?;
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
        self.write(move |db| writes::let_deal_go(db, id, &claims, &request, at)).await
    }

    async fn approved(&self, hold: Hold, at: u64) -> Result<(), StoreError> {
        self.step(hold, move |found| found.approved(at)).await.map(drop)
    }

    async fn keep(&self, paper: Paper, claims: Claims, at: u64) -> Result<(), StoreError> {
        self.write(move |db| {
            writes::use_token(db, &claims, at)?;
            writes::keep(db, &paper, at)
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
        self.write(move |db| writes::attach_travel(db, id, data, detail, &claims, at)).await
    }

    async fn papers(&self, kind: PaperKind) -> Result<Vec<Paper>, StoreError> {
        self.read(move |db| rows::papers(db, kind, None)).await
    }

    async fn paper(&self, kind: PaperKind, name: &str) -> Result<Option<Paper>, StoreError> {
        let name = name.to_owned();
        self.read(move |db| Ok(rows::papers(db, kind, Some(&name))?.pop())).await
    }

    async fn propose_policy(&self, record: PolicyRecord, claims: Option<Claims>, at: u64) -> Result<(), StoreError> {
        self.write(move |db| policies::propose(db, &record, claims.as_ref(), at)).await
    }

    async fn step_policy(
        &self,
        version: Version,
        digest: PolicyDigest,
        step: PolicyStep,
        claims: Option<Claims>,
        at: u64,
    ) -> Result<PolicyRecord, StoreError> {
        self.write(move |db| policies::step(db, digest, version, step, claims.as_ref(), at)).await
    }

    async fn policies(&self, from: Version) -> Result<Vec<PolicyRecord>, StoreError> {
        self.read(move |db| policies::all(db, from)).await
    }

    async fn counters(&self) -> Result<Vec<String>, StoreError> {
        self.read(policies::counters).await
    }

    async fn judge_again(&self, hold: Hold, verdict: Judgement) -> Result<(), StoreError> {
        self.step(hold, move |found| found.judge_again(&verdict)).await.map(drop)
    }

    async fn use_token(&self, claims: Claims, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::use_token(db, &claims, at)).await
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
        let (life, owner) = (self.life, owner.clone());
        self.write(move |db| writes::claim(db, life, &owner, network, at, until, limit)).await
    }

    async fn renew(&self, holds: Vec<Hold>, until: u64) -> Result<Vec<Hold>, StoreError> {
        self.write(move |db| writes::renew(db, &holds, until)).await
    }

    async fn release(&self, holds: Vec<Hold>) -> Result<(), StoreError> {
        self.write(move |db| writes::release(db, &holds)).await
    }

    async fn get(&self, id: RecordId) -> Result<Option<Record>, StoreError> {
        self.read(move |db| rows::record(db, id)).await
    }

    async fn by_key(&self, client: &CredentialId, key: &IdempotencyKey) -> Result<Option<Record>, StoreError> {
        let (client, key) = (client.clone(), key.clone());
        self.read(move |db| rows::by_key(db, &client, &key)).await
    }

    async fn list(&self, filter: Filter) -> Result<Vec<Record>, StoreError> {
        self.read(move |db| rows::list(db, &filter)).await
    }

    async fn active(&self, network: Network) -> Result<Vec<RecordId>, StoreError> {
        self.read(move |db| rows::active(db, network)).await
    }

    async fn busy(&self, network: Network) -> Result<BTreeSet<Slot>, StoreError> {
        self.read(move |db| rows::busy(db, network)).await
    }

    async fn slots(&self, network: Network, prefix: &str) -> Result<Vec<SlotRow>, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |db| rows::slots(db, network, &prefix)).await
    }

    async fn usage(&self, counter: &str, from: u64, to: u64) -> Result<Usage, StoreError> {
        let counter = counter.to_owned();
        self.read(move |db| rows::usage(db, &counter, from, to)).await
    }

    async fn freeze_wallet(&self, freeze: WalletFreeze, claims: Option<Claims>) -> Result<bool, StoreError> {
        self.write(move |db| writes::freeze_wallet(db, &freeze, claims.as_ref())).await
    }

    async fn unfreeze_wallet(&self, wallet: WalletId, claims: Claims, at: u64) -> Result<bool, StoreError> {
        self.write(move |db| writes::unfreeze_wallet(db, &wallet, &claims, at)).await
    }

    async fn frozen_wallets(&self) -> Result<Vec<WalletFreeze>, StoreError> {
        self.read(rows::frozen_wallets).await
    }

    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError> {
        self.write(move |db| writes::save_chain_changes(db, network, node, &changes)).await
    }

    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(move |db| rows::chain_changes(db, network, node)).await
    }
}
