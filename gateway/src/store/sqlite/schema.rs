//! The tables, versioned by `user_version`. A migration is never edited once it has shipped; the next one is appended.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;

const MIGRATIONS: [&str; 6] = [
    include_str!("schema/0001_records.sql"),
    include_str!("schema/0002_leases.sql"),
    include_str!("schema/0003_approvals.sql"),
    include_str!("schema/0004_deals.sql"),
    include_str!("schema/0005_policies.sql"),
    include_str!("schema/0006_wallets.sql"),
];

/// Brings the database to this version's tables, and begins a further life of the store: answers its number.
///
/// # Errors
/// Where the database failed, or was written by a later version.
pub(super) fn migrate(connection: &mut Connection) -> Result<i64, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = (1..).zip(MIGRATIONS);
    let latest = known.clone().map(|(number, _)| number).max().unwrap_or_default();
    if version > latest {
        return Err(StoreError::Corrupt(format!(
            "its schema is version {version}, this program knows {latest}; use a later program"
        )));
    }
    for (_, sql) in known.filter(|(number, _)| *number > version) {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "user_version", latest)?;
    let life = transaction.query_row("UPDATE life SET number = number + 1 RETURNING number", [], |row| row.get(0))?;
    transaction.commit()?;
    Ok(life)
}
