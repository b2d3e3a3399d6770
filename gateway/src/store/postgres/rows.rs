//! The rows of the tables, read.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::Slot;
use chains::network::Network;
use signer::request::IdempotencyKey;
use signer::roster::CredentialId;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::session::Fault;
use crate::record::{Record, RecordId, State};
use crate::store::limits::{self, TallyRow};
use crate::store::rows::{
    AttemptRow, EventRow, FreezeRow, HeadRow, RecordRow, parse, signed_int, slot_row, wallet_freeze,
};
use crate::store::steps::Found;
use crate::store::{Filter, Paper, PaperKind, SlotRow, StoreError, Usage, WalletFreeze};

/// Begins every query for whole records; the columns are those of [`record_row`].
macro_rules! select_record {
    ($rest:literal) => {
        concat!(
            "SELECT id, client, idempotency_key, network, intent, token, body, cancel_token, cancel_body, state, reason,
             exposure, deal FROM record ",
            $rest
        )
    };
}

fn record_row(row: &PgRow) -> Result<RecordRow, sqlx::Error> {
    Ok(RecordRow {
        id: RecordId::new(row.try_get(0)?),
        client: row.try_get(1)?,
        key: row.try_get(2)?,
        network: row.try_get(3)?,
        intent: row.try_get(4)?,
        token: row.try_get(5)?,
        body: row.try_get(6)?,
        cancel_token: row.try_get(7)?,
        cancel_body: row.try_get(8)?,
        state: row.try_get(9)?,
        reason: row.try_get(10)?,
        exposure: row.try_get(11)?,
        deal: row.try_get(12)?,
    })
}

/// The records of these rows, in their order.
async fn whole(db: &mut PgConnection, rows: &[PgRow]) -> Result<Vec<Record>, Fault> {
    let rows = rows.iter().map(record_row).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id.uuid()).collect();
    let mut attempts = attempts(db, &ids).await?;
    let mut history = history(db, &ids).await?;
    let mut approvals = approvals(db, &ids).await?;
    rows.into_iter()
        .map(|row| {
            let attempts = attempts.remove(&row.id).unwrap_or_default();
            let history = history.remove(&row.id).unwrap_or_default();
            let approvals = approvals.remove(&row.id).unwrap_or_default();
            Ok(row.whole(attempts, history, &approvals)?)
        })
        .collect()
}

/// What a step needs to know of its record, whose row is locked until the transaction ends.
pub(super) async fn found(db: &mut PgConnection, id: RecordId) -> Result<Found, Fault> {
    let row = sqlx::query(
        "SELECT state, reason, exposure, fence, cancel_token IS NOT NULL FROM record WHERE id = $1 FOR UPDATE",
    )
    .bind(id.uuid())
    .fetch_optional(&mut *db)
    .await?
    .ok_or(StoreError::NoRecord(id))?;
    let head = HeadRow {
        id,
        state: row.try_get(0)?,
        reason: row.try_get(1)?,
        exposure: row.try_get(2)?,
        fence: row.try_get(3)?,
        asked: row.try_get(4)?,
    };
    if head.is_bare() {
        return Ok(head.found(Vec::new(), Vec::new())?);
    }
    let attempts = attempts(db, &[id.uuid()]).await?.remove(&id).unwrap_or_default();
    let slots =
        sqlx::query_as("SELECT slot, burned FROM slot WHERE record_id = $1").bind(id.uuid()).fetch_all(db).await?;
    Ok(head.found(attempts, slots)?)
}

pub(super) async fn record(db: &mut PgConnection, id: RecordId) -> Result<Option<Record>, Fault> {
    let rows = sqlx::query(select_record!("WHERE id = $1")).bind(id.uuid()).fetch_all(&mut *db).await?;
    Ok(whole(db, &rows).await?.pop())
}

pub(super) async fn by_key(
    db: &mut PgConnection,
    client: &CredentialId,
    key: &IdempotencyKey,
) -> Result<Option<Record>, Fault> {
    let rows =
        sqlx::query(select_record!("WHERE id = (SELECT record_id FROM idempotency WHERE client = $1 AND key = $2)"))
            .bind(client.to_string())
            .bind(key.as_str())
            .fetch_all(&mut *db)
            .await?;
    Ok(whole(db, &rows).await?.pop())
}

pub(super) async fn list(db: &mut PgConnection, filter: &Filter) -> Result<Vec<Record>, Fault> {
    let rows = sqlx::query(select_record!(
        "WHERE ($1::text IS NULL OR client = $1) AND ($2::text IS NULL OR wallet = $2)
         AND ($3::text IS NULL OR state = $3) AND ($4::uuid IS NULL OR id < $4)
         AND (NOT $6 OR deal IS NOT NULL) ORDER BY id DESC LIMIT $5"
    ))
    .bind(filter.client.as_ref().map(ToString::to_string))
    .bind(filter.wallet.as_deref())
    .bind(filter.state.map(State::as_str))
    .bind(filter.before.map(RecordId::uuid))
    .bind(i64::from(filter.limit))
    .bind(filter.deals)
    .fetch_all(&mut *db)
    .await?;
    whole(db, &rows).await
}

pub(super) async fn frozen_wallets(db: &mut PgConnection) -> Result<Vec<WalletFreeze>, Fault> {
    let rows: Vec<FreezeRow> =
        sqlx::query_as("SELECT wallet, by, reason, at, nonce FROM wallet_freeze WHERE frozen ORDER BY wallet")
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().map(wallet_freeze).collect::<Result<_, _>>()?)
}

pub(super) async fn active(db: &mut PgConnection, network: Network) -> Result<Vec<RecordId>, Fault> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM record WHERE active AND network = $1 ORDER BY id")
        .bind(network.to_string())
        .fetch_all(db)
        .await?;
    Ok(ids.into_iter().map(RecordId::new).collect())
}

/// Slots that the chain may still show as free. Those of finished payments are left out: the chain itself has used them
/// up, and should a lagging node offer one again, the primary key refuses it.
pub(super) async fn busy(db: &mut PgConnection, network: Network) -> Result<BTreeSet<Slot>, Fault> {
    let slots: Vec<String> = sqlx::query_scalar(
        "SELECT slot FROM slot JOIN record ON record.id = slot.record_id
         WHERE slot.network = $1 AND record.state NOT IN ('finalized', 'failed')",
    )
    .bind(network.to_string())
    .fetch_all(db)
    .await?;
    slots.iter().map(|slot| Ok(parse(slot)?)).collect()
}

pub(super) async fn slots(db: &mut PgConnection, network: Network, prefix: &str) -> Result<Vec<SlotRow>, Fault> {
    let rows: Vec<(String, Uuid, String, bool)> = sqlx::query_as(
        "SELECT slot, record.id, record.state, burned FROM slot JOIN record ON record.id = slot.record_id
         WHERE slot.network = $1 AND left(slot, length($2)) = $2",
    )
    .bind(network.to_string())
    .bind(prefix)
    .fetch_all(db)
    .await?;
    let mut slots = rows
        .into_iter()
        .map(|(slot, id, state, burned)| slot_row(&slot, RecordId::new(id), &state, burned))
        .collect::<Result<Vec<_>, _>>()?;
    slots.sort_by_cached_key(|row| row.slot.to_string()); // the database may sort by its own language
    Ok(slots)
}

pub(super) fn tally(row: &PgRow) -> Result<TallyRow, sqlx::Error> {
    Ok(TallyRow {
        pending: row.try_get(0)?,
        pending_count: row.try_get(1)?,
        posted: row.try_get(2)?,
        posted_count: row.try_get(3)?,
    })
}

pub(super) async fn usage(db: &mut PgConnection, counter: &str, from: u64, to: u64) -> Result<Usage, Fault> {
    let rows = sqlx::query(
        "SELECT pending, pending_count, posted, posted_count FROM usage
         WHERE counter = $1 AND bucket BETWEEN $2 AND $3",
    )
    .bind(counter)
    .bind(signed_int(from))
    .bind(signed_int(to))
    .fetch_all(db)
    .await?;
    let rows = rows.iter().map(tally).collect::<Result<Vec<_>, _>>()?;
    Ok(limits::sum(&rows)?)
}

pub(super) async fn chain_changes(db: &mut PgConnection, network: Network, node: u32) -> Result<Vec<Vec<u8>>, Fault> {
    let query = "SELECT changes FROM chain_change WHERE network = $1 AND node = $2 ORDER BY number";
    Ok(sqlx::query_scalar(query).bind(network.to_string()).bind(i64::from(node)).fetch_all(db).await?)
}

async fn attempts(db: &mut PgConnection, ids: &[Uuid]) -> Result<BTreeMap<RecordId, Vec<AttemptRow>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT record_id, number, purpose, unsigned, slots, signed, tx_id, given_up, sent_at, inclusion
         FROM attempt WHERE record_id = ANY($1) ORDER BY record_id, number",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    let mut attempts = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        attempts.entry(RecordId::new(row.try_get(0)?)).or_default().push(AttemptRow {
            number: row.try_get(1)?,
            purpose: row.try_get(2)?,
            unsigned: row.try_get(3)?,
            slots: row.try_get(4)?,
            signed: row.try_get(5)?,
            tx_id: row.try_get(6)?,
            given_up: row.try_get(7)?,
            sent_at: row.try_get(8)?,
            inclusion: row.try_get(9)?,
        });
    }
    Ok(attempts)
}

/// In the order of the approvers' names, whatever the database's language.
async fn approvals(db: &mut PgConnection, ids: &[Uuid]) -> Result<BTreeMap<RecordId, Vec<String>>, sqlx::Error> {
    let query = "SELECT record_id, approver, approval FROM approval WHERE record_id = ANY($1)";
    let mut rows: Vec<(Uuid, String, String)> = sqlx::query_as(query).bind(ids).fetch_all(db).await?;
    rows.sort_unstable();
    let mut approvals = BTreeMap::<_, Vec<_>>::new();
    for (id, _, approval) in rows {
        approvals.entry(RecordId::new(id)).or_default().push(approval);
    }
    Ok(approvals)
}

/// In the order of their names, whatever the database's language.
pub(super) async fn papers(db: &mut PgConnection, kind: PaperKind, name: Option<&str>) -> Result<Vec<Paper>, Fault> {
    let query = "SELECT name, content FROM paper WHERE kind = $1 AND ($2::text IS NULL OR name = $2)";
    let mut rows: Vec<(String, String)> = sqlx::query_as(query).bind(kind.as_str()).bind(name).fetch_all(db).await?;
    rows.sort_unstable();
    Ok(rows.into_iter().map(|(name, content)| Paper { kind, name, content }).collect())
}

async fn history(db: &mut PgConnection, ids: &[Uuid]) -> Result<BTreeMap<RecordId, Vec<EventRow>>, sqlx::Error> {
    let query = "SELECT record_id, at, state, detail FROM event WHERE record_id = ANY($1) ORDER BY record_id, number";
    let rows = sqlx::query(query).bind(ids).fetch_all(db).await?;
    let mut history = BTreeMap::<_, Vec<_>>::new();
    for row in rows {
        let event = EventRow { at: row.try_get(1)?, state: row.try_get(2)?, detail: row.try_get(3)? };
        history.entry(RecordId::new(row.try_get(0)?)).or_default().push(event);
    }
    Ok(history)
}
