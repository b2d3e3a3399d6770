//! Changes of the policy as SQL.

use rusqlite::{Connection, OptionalExtension, params};
use signer::policy::change::Version;
use signer::policy::document::PolicyDigest;
use signer::request::Claims;

use super::writes::use_token;
use crate::store::StoreError;
use crate::store::policies::{PolicyRecord, PolicyStep, admit};
use crate::store::rows::{from_json, signed_int, to_json, unsigned_int};

pub(super) fn propose(
    db: &Connection,
    record: &PolicyRecord,
    claims: Option<&Claims>,
    at: u64,
) -> Result<(), StoreError> {
    if let Some(claims) = claims {
        use_token(db, claims, at)?;
    }
    let number = |sql: &str| -> Result<Option<u64>, StoreError> {
        let found: Option<i64> = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        found.map(unsigned_int).transpose()
    };
    let open = number("SELECT max(version) FROM policy_change WHERE state IN ('proposed', 'approved')")?;
    admit(record, open, number("SELECT max(version) FROM policy_change WHERE state = 'active'")?)?;
    db.prepare_cached("INSERT INTO policy_change (version, digest, state, content) VALUES (?1, ?2, ?3, ?4)")?.execute(
        params![signed_int(record.version().get()), record.digest.to_string(), record.state.as_str(), to_json(record)?],
    )?;
    Ok(())
}

pub(super) fn step(
    db: &Connection,
    digest: PolicyDigest,
    version: Version,
    step: PolicyStep,
    claims: Option<&Claims>,
    at: u64,
) -> Result<PolicyRecord, StoreError> {
    if let Some(claims) = claims {
        use_token(db, claims, at)?;
    }
    let found = db
        .prepare_cached(
            "SELECT number, content FROM policy_change WHERE version = ?1 AND digest = ?2 ORDER BY number DESC LIMIT 1",
        )?
        .query_row(params![signed_int(version.get()), digest.to_string()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let (number, content) = found.ok_or(StoreError::NoPolicyChange(version))?;
    let record = from_json::<PolicyRecord>(&content)?.stepped(step, at)?;
    db.prepare_cached("UPDATE policy_change SET state = ?2, content = ?3 WHERE number = ?1")?.execute(params![
        number,
        record.state.as_str(),
        to_json(&record)?
    ])?;
    Ok(record)
}

pub(super) fn all(db: &Connection, from: Version) -> Result<Vec<PolicyRecord>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT content FROM policy_change WHERE version >= ?1 ORDER BY version, number")?;
    let rows = statement.query_map([signed_int(from.get())], |row| row.get::<_, String>(0))?;
    rows.map(|row| from_json(&row?)).collect()
}

/// Every counter that was ever drawn on.
pub(super) fn counters(db: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare_cached("SELECT DISTINCT counter FROM usage ORDER BY counter")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}
