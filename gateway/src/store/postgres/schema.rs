//! The tables, versioned by the one row of `schema_version`, which is also the lock of whoever migrates. A migration is never
//! edited once it has shipped; the next one is appended.

use sqlx::PgConnection;

use super::session::Fault;
use crate::store::StoreError;

const MIGRATIONS: [&str; 5] = [
    include_str!("schema/0001_records.sql"),
    include_str!("schema/0002_approvals.sql"),
    include_str!("schema/0003_deals.sql"),
    include_str!("schema/0004_policies.sql"),
    include_str!("schema/0005_wallets.sql"),
];

/// The lock of whoever creates the first table: "portcull" in ASCII.
const CREATING: i64 = 0x706f_7274_6375_6c6c;

/// Makes the row that versions the tables. Two gateways that start at once may both try. A server that answers before a commit
/// is on its disk is no store.
pub(super) async fn prepare(db: &mut PgConnection) -> Result<(), Fault> {
    let waits: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *db).await?;
    if waits == "off" {
        let why = "synchronous_commit is off, so what was accepted could be lost; turn it on";
        return Err(Fault::Store(StoreError::Database(why.to_owned())));
    }
    // `IF NOT EXISTS` alone fails where two create at once.
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CREATING).execute(&mut *db).await?;
    let there: Option<String> =
        sqlx::query_scalar("SELECT to_regclass('schema_version')::text").fetch_one(&mut *db).await?;
    if there.is_none() {
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS schema_version (one BOOLEAN PRIMARY KEY, version BIGINT NOT NULL)")
            .execute(&mut *db)
            .await?;
    }
    sqlx::query("INSERT INTO schema_version (one, version) VALUES (true, 0) ON CONFLICT DO NOTHING")
        .execute(db)
        .await?;
    Ok(())
}

/// Brings the database to this version's tables, and begins a further life of the store: answers its number.
pub(super) async fn migrate(db: &mut PgConnection) -> Result<i64, Fault> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM schema_version FOR UPDATE").fetch_one(&mut *db).await?;
    let known = (1_i64..).zip(MIGRATIONS);
    let latest = known.clone().map(|(number, _)| number).max().unwrap_or_default();
    if version > latest {
        return Err(Fault::Store(StoreError::Corrupt(format!(
            "its schema is version {version}, this program knows {latest}; use a later program"
        ))));
    }
    for (number, sql) in known.filter(|(number, _)| *number > version) {
        sqlx::raw_sql(sql).execute(&mut *db).await?;
        sqlx::query("UPDATE schema_version SET version = $1").bind(number).execute(&mut *db).await?;
    }
    Ok(sqlx::query_scalar("UPDATE life SET number = number + 1 RETURNING number").fetch_one(db).await?)
}
