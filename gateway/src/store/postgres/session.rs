//! Transactions that end: with a commit, with a typed error, or after a bounded number of tries.
//!
//! Everything runs as READ COMMITTED, with the rows that a step depends on locked first; a database that only knows
//! SERIALIZABLE is fine too. What the database itself takes back (a serialization failure, a deadlock) is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::{Connection, PgConnection, PgPool};

use crate::store::StoreError;

/// How long one transaction may take, from its begin to its end. The database itself gives up earlier.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a transaction that the database took back is tried.
const TRIES: u32 = 12;

const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Why a transaction was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// A rule says no, or the rows are unreadable.
    Store(StoreError),
    /// The database or the way to it failed.
    Sql(sqlx::Error),
    /// The connection was gone before anything was begun on it.
    Broken(sqlx::Error),
    /// Somebody else was faster in a way that a further try sees.
    Again,
    /// It took too long.
    TimedOut,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Fault {
    /// Whether nothing was written and the same may succeed at once: `serialization_failure`, `deadlock_detected`, and
    /// `unique_violation`, which comes of two that number their rows at the same time.
    /// <https://www.postgresql.org/docs/15/errcodes-appendix.html>
    fn is_passing(&self) -> bool {
        match self {
            Self::Again | Self::Broken(_) => true,
            Self::Sql(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01" | "23505"))
            }
            _ => false,
        }
    }

    fn into_store(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sql(error @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
                StoreError::Corrupt(error.to_string())
            }
            Self::Sql(error) | Self::Broken(error) => StoreError::Database(error.to_string()),
            Self::Again => StoreError::Database("too many others at the same rows".to_owned()),
            Self::TimedOut => StoreError::Database(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Connections, and transactions over them.
#[derive(Debug)]
pub(super) struct Sessions {
    pool: PgPool,
    /// Spreads those who wait for the same rows.
    spread: AtomicU64,
}

impl Sessions {
    pub(super) const fn new(pool: PgPool) -> Self {
        Self { pool, spread: AtomicU64::new(0) }
    }

    /// Runs the work in one transaction and commits it. Where the answer to the commit is lost, it is
    /// [`StoreError::Database`], and the work may have been done.
    pub(super) async fn write<T: Send>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
    ) -> Result<T, StoreError> {
        self.transact(WRITE, work).await
    }

    /// Runs the work on one state of the database.
    pub(super) async fn read<T: Send>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
    ) -> Result<T, StoreError> {
        self.transact(READ, work).await
    }

    async fn transact<T: Send>(
        &self,
        begin: &'static str,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.once(begin, &work).await {
                Ok(done) => return Ok(done),
                Err(fault) if fault.is_passing() && tries < TRIES => {
                    let spread = self.spread.fetch_add(1, Ordering::Relaxed) % 8;
                    let millis = u64::from(tries * tries).saturating_add(spread);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    tries += 1;
                }
                Err(fault) => return Err(fault.into_store()),
            }
        }
    }

    async fn once<T: Send>(
        &self,
        begin: &'static str,
        work: &(impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault>> + Send + Sync),
    ) -> Result<T, Fault> {
        let mut connection = self.pool.acquire().await?;
        let whole = async {
            // A connection that broke while nobody used it: nothing is written yet, and another one may do.
            let begun = connection.begin_with(begin).await;
            let mut transaction = begun.map_err(|error| match error {
                sqlx::Error::Io(_) => Fault::Broken(error),
                other => Fault::Sql(other),
            })?;
            match work(&mut transaction).await {
                Ok(done) => {
                    transaction.commit().await?;
                    Ok(done)
                }
                Err(fault) => {
                    transaction.rollback().await?;
                    Err(fault)
                }
            }
        };
        let done = tokio::time::timeout(PATIENCE, whole).await.unwrap_or(Err(Fault::TimedOut));
        if matches!(
            done,
            Err(Fault::TimedOut | Fault::Broken(_) | Fault::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)))
        ) {
            connection.close_on_drop(); // nobody knows what would still come in on it
        }
        done
    }
}
