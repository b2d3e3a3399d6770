//! The rows of the tables, read.

use std::collections::BTreeSet;

use chains::chain::Slot;
use chains::network::Network;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use signer::request::IdempotencyKey;
use signer::roster::CredentialId;

use crate::mutation::Mutation;
use crate::record::{Record, RecordId, State};
use crate::store::limits::{self, TallyRow};
use crate::store::rows::{AttemptRow, EventRow, HeadRow, RecordRow, parse, signed_int, slot_row, wallet_freeze};
use crate::store::steps::Found;
use crate::store::{Filter, Paper, PaperKind, SlotRow, StoreError, Usage, WalletFreeze};

const COLUMNS: &str =
    "SELECT id, client, idempotency_key, network, intent, token, body, cancel_token, cancel_body, state,
     reason, exposure, deal FROM record";

pub(super) fn record_id(row: &Row<'_>, index: usize) -> rusqlite::Result<RecordId> {
    let text: String = row.get(index)?;
    text.parse().map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}

fn record_row(row: &Row<'_>) -> rusqlite::Result<RecordRow> {
    Ok(RecordRow {
        id: record_id(row, 0)?,
        client: row.get(1)?,
        key: row.get(2)?,
        network: row.get(3)?,
        intent: row.get(4)?,
        token: row.get(5)?,
        body: row.get(6)?,
        cancel_token: row.get(7)?,
        cancel_body: row.get(8)?,
        state: row.get(9)?,
        reason: row.get(10)?,
        exposure: row.get(11)?,
        deal: row.get(12)?,
    })
}

fn whole(db: &Connection, row: RecordRow) -> Result<Record, StoreError> {
    let id = row.id;
    row.whole(attempts(db, id)?, history(db, id)?, &approvals(db, id)?)
}

/// What a step needs to know of its record.
pub(super) fn found(db: &Connection, id: RecordId) -> Result<Found, StoreError> {
    let head = db
        .prepare_cached(
            "SELECT id, state, reason, exposure, fence, cancel_token IS NOT NULL FROM record WHERE id = ?1",
        )?
        .query_row([id.to_string()], |row| {
            Ok(HeadRow {
                id: record_id(row, 0)?,
                state: row.get(1)?,
                reason: row.get(2)?,
                exposure: row.get(3)?,
                fence: row.get(4)?,
                asked: row.get(5)?,
            })
        })
        .optional()?
        .ok_or(StoreError::NoRecord(id))?;
    if head.is_bare() {
        return head.found(Vec::new(), Vec::new());
    }
    head.found(attempts(db, id)?, held_slots(db, id)?)
}

pub(super) fn record(db: &Connection, id: RecordId) -> Result<Option<Record>, StoreError> {
    let row =
        db.prepare_cached(&format!("{COLUMNS} WHERE id = ?1"))?.query_row([id.to_string()], record_row).optional()?;
    row.map(|row| whole(db, row)).transpose()
}

pub(super) fn by_key(
    db: &Connection,
    client: &CredentialId,
    key: &IdempotencyKey,
) -> Result<Option<Record>, StoreError> {
    let found = db
        .prepare_cached("SELECT record_id FROM idempotency WHERE client = ?1 AND key = ?2")?
        .query_row(params![client.to_string(), key.as_str()], |row| record_id(row, 0))
        .optional()?;
    match found {
        Some(id) => record(db, id),
        None => Ok(None),
    }
}

pub(super) fn list(db: &Connection, filter: &Filter) -> Result<Vec<Record>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{COLUMNS} WHERE (?1 IS NULL OR client = ?1) AND (?2 IS NULL OR wallet = ?2) AND (?3 IS NULL OR state = ?3)
         AND (?4 IS NULL OR id < ?4) AND (NOT ?6 OR deal IS NOT NULL) ORDER BY id DESC LIMIT ?5"
    ))?;
    let rows = statement
        .query_map(
            params![
                filter.client.as_ref().map(ToString::to_string),
                filter.wallet,
                filter.state.map(State::as_str),
                filter.before.map(|id| id.to_string()),
                filter.limit,
                filter.deals,
            ],
            record_row,
        )?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|row| whole(db, row)).collect()
}

pub(super) fn active(db: &Connection, network: Network) -> Result<Vec<RecordId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id FROM record WHERE active = 1 AND network = ?1 ORDER BY id")?;
    let ids = statement.query_map([network.to_string()], |row| record_id(row, 0))?;
    ids.map(|id| id.map_err(StoreError::from)).collect()
}

pub(super) fn frozen_wallets(db: &Connection) -> Result<Vec<WalletFreeze>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT wallet, by, reason, at, nonce FROM wallet_freeze WHERE frozen = 1 ORDER BY wallet")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
    rows.map(|row| wallet_freeze(row?)).collect()
}

/// Slots that the chain may still show as free. Those of finished payments are left out: the chain itself has used them
/// up, and should a lagging node offer one again, the primary key refuses it.
pub(super) fn busy(db: &Connection, network: Network) -> Result<BTreeSet<Slot>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT slot FROM slot JOIN record ON record.id = slot.record_id
         WHERE slot.network = ?1 AND record.state NOT IN ('finalized', 'failed') AND (burned = 0 OR NOT ?2)",
    )?;
    let slots = statement
        .query_map(params![network.to_string(), Mutation::BurnedIsFree.on()], |row| row.get::<_, String>(0))?;
    slots.map(|slot| parse(&slot?)).collect()
}

pub(super) fn slots(db: &Connection, network: Network, prefix: &str) -> Result<Vec<SlotRow>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT slot, record.id, record.state, burned FROM slot JOIN record ON record.id = slot.record_id
         WHERE slot.network = ?1 AND substr(slot, 1, length(?2)) = ?2 ORDER BY slot",
    )?;
    let rows = statement
        .query_map(params![network.to_string(), prefix], |row| {
            Ok((row.get::<_, String>(0)?, record_id(row, 1)?, row.get::<_, String>(2)?, row.get(3)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|(slot, id, state, burned)| slot_row(&slot, id, &state, burned)).collect()
}

pub(super) fn tally(row: &Row<'_>) -> rusqlite::Result<TallyRow> {
    Ok(TallyRow { pending: row.get(0)?, pending_count: row.get(1)?, posted: row.get(2)?, posted_count: row.get(3)? })
}

pub(super) fn usage(db: &Connection, counter: &str, from: u64, to: u64) -> Result<Usage, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT pending, pending_count, posted, posted_count FROM usage
         WHERE counter = ?1 AND bucket BETWEEN ?2 AND ?3",
    )?;
    let rows = statement
        .query_map(params![counter, signed_int(from), signed_int(to)], tally)?
        .collect::<Result<Vec<_>, _>>()?;
    limits::sum(&rows)
}

pub(super) fn chain_changes(db: &Connection, network: Network, node: u32) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT changes FROM chain_change WHERE network = ?1 AND node = ?2 ORDER BY seq")?;
    let changes = statement.query_map(params![network.to_string(), node], |row| row.get(0))?;
    changes.map(|change| change.map_err(StoreError::from)).collect()
}

fn attempts(db: &Connection, id: RecordId) -> Result<Vec<AttemptRow>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT number, purpose, unsigned, slots, signed, tx_id, given_up, sent_at, inclusion
         FROM attempt WHERE record_id = ?1 ORDER BY number",
    )?;
    let rows = statement.query_map([id.to_string()], |row| {
        Ok(AttemptRow {
            number: row.get(0)?,
            purpose: row.get(1)?,
            unsigned: row.get(2)?,
            slots: row.get(3)?,
            signed: row.get(4)?,
            tx_id: row.get(5)?,
            given_up: row.get(6)?,
            sent_at: row.get(7)?,
            inclusion: row.get(8)?,
        })
    })?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn approvals(db: &Connection, id: RecordId) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare_cached("SELECT approval FROM approval WHERE record_id = ?1 ORDER BY approver")?;
    let rows = statement.query_map([id.to_string()], |row| row.get(0))?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

/// In the order of their names.
pub(super) fn papers(db: &Connection, kind: PaperKind, name: Option<&str>) -> Result<Vec<Paper>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT name, content FROM paper WHERE kind = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name",
    )?;
    let rows = statement
        .query_map(params![kind.as_str(), name], |row| Ok(Paper { kind, name: row.get(0)?, content: row.get(1)? }))?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn held_slots(db: &Connection, id: RecordId) -> Result<Vec<(String, bool)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT slot, burned FROM slot WHERE record_id = ?1")?;
    let rows = statement.query_map([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}

fn history(db: &Connection, id: RecordId) -> Result<Vec<EventRow>, StoreError> {
    let mut statement = db.prepare_cached("SELECT at, state, detail FROM event WHERE record_id = ?1 ORDER BY seq")?;
    let rows = statement
        .query_map([id.to_string()], |row| Ok(EventRow { at: row.get(0)?, state: row.get(1)?, detail: row.get(2)? }))?;
    rows.map(|row| row.map_err(StoreError::from)).collect()
}
