//! Changes of the policy as SQL.

use signer::policy::change::Version;
use signer::policy::document::PolicyDigest;
use signer::request::Claims;
use sqlx::PgConnection;

use super::session::Fault;
use super::writes::use_token;
use crate::store::StoreError;
use crate::store::policies::{PolicyRecord, PolicyStep, admit};
use crate::store::rows::{from_json, signed_int, to_json, unsigned_int};

pub(super) async fn propose(
    db: &mut PgConnection,
    record: &PolicyRecord,
    claims: Option<&Claims>,
) -> Result<(), Fault> {
    if let Some(claims) = claims {
        use_token(db, claims).await?;
    }
    let _: bool = sqlx::query_scalar("SELECT one FROM policy_lock FOR UPDATE").fetch_one(&mut *db).await?;
    let open: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM policy_change WHERE state IN ('proposed', 'approved')")
            .fetch_one(&mut *db)
            .await?;
    let latest: Option<i64> =
        sqlx::query_scalar("SELECT max(version) FROM policy_change WHERE state = 'active'").fetch_one(&mut *db).await?;
    admit(record, open.map(unsigned_int).transpose()?, latest.map(unsigned_int).transpose()?)?;
    sqlx::query("INSERT INTO policy_change (version, digest, state, content) VALUES ($1, $2, $3, $4)")
        .bind(signed_int(record.version().get()))
        .bind(record.digest.to_string())
        .bind(record.state.as_str())
        .bind(to_json(record)?)
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn step(
    db: &mut PgConnection,
    digest: PolicyDigest,
    version: Version,
    step: PolicyStep,
    claims: Option<&Claims>,
    at: u64,
) -> Result<PolicyRecord, Fault> {
    if let Some(claims) = claims {
        use_token(db, claims).await?;
    }
    let found: Option<(i64, String)> = sqlx::query_as(
        "SELECT number, content FROM policy_change WHERE version = $1 AND digest = $2 ORDER BY number DESC LIMIT 1 FOR UPDATE",
    )
    .bind(signed_int(version.get()))
    .bind(digest.to_string())
    .fetch_optional(&mut *db)
    .await?;
    let (number, content) = found.ok_or(StoreError::NoPolicyChange(version))?;
    let record = from_json::<PolicyRecord>(&content)?.stepped(step, at)?;
    sqlx::query("UPDATE policy_change SET state = $2, content = $3 WHERE number = $1")
        .bind(number)
        .bind(record.state.as_str())
        .bind(to_json(&record)?)
        .execute(db)
        .await?;
    Ok(record)
}

pub(super) async fn all(db: &mut PgConnection, from: Version) -> Result<Vec<PolicyRecord>, Fault> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT content FROM policy_change WHERE version >= $1 ORDER BY version, number")
            .bind(signed_int(from.get()))
            .fetch_all(db)
            .await?;
    Ok(rows.iter().map(|row| from_json(row)).collect::<Result<_, StoreError>>()?)
}

/// Every counter that was ever drawn on.
pub(super) async fn counters(db: &mut PgConnection) -> Result<Vec<String>, Fault> {
    Ok(sqlx::query_scalar("SELECT DISTINCT counter FROM usage ORDER BY counter").fetch_all(db).await?)
}
