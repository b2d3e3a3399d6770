//! Reading records back. What the database holds is parsed like any other input.

use std::collections::BTreeSet;
use std::str::FromStr;

use chains::chain::Slot;

use chains::client::Inclusion;
use chains::network::Network;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use signer::request::{IdempotencyKey, SignedRequest};
use signer::roster::CredentialId;

use crate::record::{Attempt, Event, Exposure, Record, RecordId, SignedBytes, State};
use crate::store::{Filter, StoreError};

/// SQLite's integers are signed 64 bit; times and heights are far below that.
pub(super) fn signed_int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn parse<T: FromStr>(text: &str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| StoreError::Corrupt(e.to_string()))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt(e.to_string()))
}

pub(super) fn id_of(text: &str) -> Result<RecordId, StoreError> {
    parse(text)
}

pub(super) fn state_of(db: &Connection, id: RecordId) -> Result<State, StoreError> {
    let state = db
        .prepare_cached("SELECT state FROM record WHERE id = ?1")?
        .query_row([id.to_string()], |row| row.get::<_, String>(0))
        .optional()?;
    parse(&state.ok_or(StoreError::NoRecord(id))?)
}

const COLUMNS: &str =
    "SELECT id, client, idempotency_key, network, intent, token, body, state, reason, exposure FROM record";

/// A row of `record`, not parsed yet.
struct Raw {
    id: String,
    client: String,
    key: String,
    network: String,
    intent: String,
    token: String,
    body: Vec<u8>,
    state: String,
    reason: Option<String>,
    exposure: String,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        id: row.get(0)?,
        client: row.get(1)?,
        key: row.get(2)?,
        network: row.get(3)?,
        intent: row.get(4)?,
        token: row.get(5)?,
        body: row.get(6)?,
        state: row.get(7)?,
        reason: row.get(8)?,
        exposure: row.get(9)?,
    })
}

fn whole(db: &Connection, raw: Raw) -> Result<Record, StoreError> {
    let id: RecordId = parse(&raw.id)?;
    Ok(Record {
        id,
        client: parse(&raw.client)?,
        idempotency_key: parse(&raw.key)?,
        network: parse(&raw.network)?,
        intent: from_json(&raw.intent)?,
        request: SignedRequest { token: raw.token, body: raw.body },
        state: parse(&raw.state)?,
        reason: raw.reason.as_deref().map(from_json).transpose()?,
        exposure: match raw.exposure.as_str() {
            "none" => Exposure::None,
            "possible" => Exposure::Possible,
            "certain" => Exposure::Certain,
            other => return Err(StoreError::Corrupt(format!("{other:?} is no exposure"))),
        },
        attempts: attempts(db, id)?,
        history: history(db, id)?,
    })
}

pub(super) fn record(db: &Connection, id: RecordId) -> Result<Option<Record>, StoreError> {
    let found = db.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id.to_string()], raw).optional()?;
    found.map(|raw| whole(db, raw)).transpose()
}

pub(super) fn by_key(
    db: &Connection,
    client: &CredentialId,
    key: &IdempotencyKey,
) -> Result<Option<Record>, StoreError> {
    let found = db
        .prepare_cached("SELECT record_id FROM idempotency WHERE client = ?1 AND key = ?2")?
        .query_row(params![client.to_string(), key.as_str()], |row| row.get::<_, String>(0))
        .optional()?;
    match found {
        Some(id) => record(db, id_of(&id)?),
        None => Ok(None),
    }
}

pub(super) fn list(db: &Connection, filter: &Filter) -> Result<Vec<Record>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{COLUMNS} WHERE (?1 IS NULL OR client = ?1) AND (?2 IS NULL OR wallet = ?2) AND (?3 IS NULL OR state = ?3)
         AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5"
    ))?;
    let rows = statement
        .query_map(
            params![
                filter.client.as_ref().map(ToString::to_string),
                filter.wallet,
                filter.state.map(State::as_str),
                filter.before.map(|id| id.to_string()),
                filter.limit,
            ],
            raw,
        )?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|raw| whole(db, raw)).collect()
}

pub(super) fn active(db: &Connection, network: Network) -> Result<Vec<RecordId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id FROM record WHERE active = 1 AND network = ?1 ORDER BY id")?;
    let ids = statement.query_map([network.to_string()], |row| row.get::<_, String>(0))?;
    ids.map(|id| id_of(&id?)).collect()
}

/// Slots that the chain may still show as free. Those of finished payments are left out: the chain itself has used them
/// up, and should a lagging node offer one again, the primary key refuses it.
pub(super) fn busy(db: &Connection, network: Network) -> Result<BTreeSet<Slot>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT slot FROM slot JOIN record ON record.id = slot.record_id
         WHERE slot.network = ?1 AND record.state NOT IN ('finalized', 'failed')",
    )?;
    let slots = statement.query_map([network.to_string()], |row| row.get::<_, String>(0))?;
    slots.map(|slot| parse(&slot?)).collect()
}

pub(super) fn chain_changes(db: &Connection, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT changes FROM chain_change WHERE network = ?1 AND node = ?2 ORDER BY seq")?;
    let changes = statement.query_map(params![network.to_string(), node], |row| row.get(0))?;
    changes.map(|change| change.map_err(StoreError::from)).collect()
}

fn attempts(db: &Connection, id: RecordId) -> Result<Vec<Attempt>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT number, unsigned, slots, signed, tx_id, inclusion FROM attempt WHERE record_id = ?1 ORDER BY number",
    )?;
    type Columns = (u32, Vec<u8>, String, Option<Vec<u8>>, Option<String>, Option<String>);
    let rows = statement
        .query_map([id.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?
        .collect::<Result<Vec<Columns>, _>>()?;
    rows.into_iter()
        .map(|(number, unsigned, slots, signed, tx_id, inclusion)| {
            Ok(Attempt {
                number,
                unsigned,
                slots: from_json(&slots)?,
                signed: signed.zip(tx_id).map(|(bytes, id)| SignedBytes { bytes, id }),
                inclusion: inclusion.as_deref().map(from_json::<Inclusion>).transpose()?,
            })
        })
        .collect()
}

fn history(db: &Connection, id: RecordId) -> Result<Vec<Event>, StoreError> {
    let mut statement = db.prepare_cached("SELECT at, state, detail FROM event WHERE record_id = ?1 ORDER BY seq")?;
    let rows = statement
        .query_map([id.to_string()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter()
        .map(|(at, state, detail)| {
            Ok(Event {
                at: u64::try_from(at).unwrap_or_default(),
                state: parse(&state)?,
                detail: detail.as_deref().map(from_json).transpose()?,
            })
        })
        .collect()
}
