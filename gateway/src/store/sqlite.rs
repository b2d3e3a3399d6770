//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, one writer thread with group commit.
//!
//! Every write is a closure that is sent to the writer. It runs all that have come together in one `BEGIN IMMEDIATE`, each
//! in a savepoint of its own, commits once, and only then answers them: one `fsync` carries many records.

mod rows;
mod schema;
mod writes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use chains::chain::Slot;
use chains::client::Inclusion;
use chains::network::Network;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use serde_json::Value;
use signer::request::IdempotencyKey;
use signer::roster::CredentialId;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Accepted, Filter, Judgement, NewIntent, Store, StoreError};
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
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
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
        schema::migrate(&mut connection)?;

        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(Duration::from_secs(5))?;

        let (writer, jobs) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write(&mut connection, jobs))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self { writer, reader: Arc::new(Mutex::new(reader)) })
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
        tokio::task::spawn_blocking(move || work(&connection)).await.map_err(|_| StoreError::Closed)?
    }
}

/// The writer thread: gathers what has come, runs it in one transaction, commits, answers.
fn write(connection: &mut Connection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.blocking_recv_many(&mut group, GROUP) > 0 {
        let mut replies = Vec::with_capacity(group.len());
        let committed = commit(connection, group.drain(..), &mut replies);
        for reply in replies {
            reply(committed.clone());
        }
    }
}

/// Runs the jobs in one transaction. Every job leaves a reply, whatever happens.
fn commit(
    connection: &mut Connection,
    jobs: impl Iterator<Item = Job>,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let mut transaction = begun.map_err(StoreError::from);
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
    Ok(())
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
        self.write(move |db| writes::accept(db, &intent)).await
    }

    async fn judge(&self, id: RecordId, steps: Vec<Event>, verdict: Judgement) -> Result<(), StoreError> {
        self.write(move |db| writes::judge(db, id, &steps, &verdict)).await
    }

    async fn freeze(&self, id: RecordId, unsigned: Vec<u8>, slots: BTreeSet<Slot>, at: u64) -> Result<u32, StoreError> {
        self.write(move |db| writes::freeze(db, id, &unsigned, &slots, at)).await
    }

    async fn thaw(&self, id: RecordId, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::thaw(db, id, at)).await
    }

    async fn burn(&self, id: RecordId, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::burn(db, id, at)).await
    }

    async fn signed(&self, id: RecordId, signed: SignedBytes, detail: Value, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::signed(db, id, &signed, &detail, at)).await
    }

    async fn broadcasting(&self, id: RecordId, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::advance(db, id, State::Signed, State::Broadcasting, None, None, at)).await
    }

    async fn observed(
        &self,
        id: RecordId,
        from: State,
        to: State,
        inclusion: Option<Inclusion>,
        reason: Option<Reason>,
        at: u64,
    ) -> Result<(), StoreError> {
        self.write(move |db| writes::observed(db, id, from, to, inclusion.as_ref(), reason.as_ref(), at)).await
    }

    async fn abandon(&self, id: RecordId, from: State, to: State, reason: Reason, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::abandon(db, id, from, to, &reason, at)).await
    }

    async fn note(&self, id: RecordId, reason: Option<Reason>, at: u64) -> Result<(), StoreError> {
        self.write(move |db| writes::note(db, id, reason.as_ref(), at)).await
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

    async fn save_chain_changes(&self, network: Network, node: u32, changes: Vec<u8>) -> Result<(), StoreError> {
        self.write(move |db| writes::save_chain_changes(db, network, node, &changes)).await
    }

    async fn chain_changes(&self, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(move |db| rows::chain_changes(db, network, node)).await
    }
}
