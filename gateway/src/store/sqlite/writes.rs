//! The arrows as SQL. Each function runs inside a savepoint of the writer's transaction: an error undoes all of it.

use std::collections::BTreeSet;

use chains::chain::Slot;

use chains::client::Inclusion;
use chains::network::Network;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rows::{id_of, signed_int, state_of};
use crate::record::{Event, Exposure, Reason, RecordId, SignedBytes, State};
use crate::store::{Accepted, Judgement, NewIntent, StoreError};

/// How long a used token is kept past its expiry: the leeway that its check may grant.
const TOKEN_GRACE_SECONDS: u64 = 60;

pub(super) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(e.to_string()))
}

pub(super) fn accept(db: &Connection, new: &NewIntent) -> Result<Accepted, StoreError> {
    use_token(db, new)?;
    let client = new.claims.sub.to_string();
    let intent = to_json(&new.intent)?;
    let digest = Sha256::digest(intent.as_bytes()).to_vec();
    let known = db
        .prepare_cached("SELECT intent, record_id FROM idempotency WHERE client = ?1 AND key = ?2")?
        .query_row(params![client, new.idempotency_key.as_str()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    if let Some((known_digest, record)) = known {
        let record = id_of(&record)?;
        if known_digest != digest {
            return Err(StoreError::IdempotencyConflict(record));
        }
        if !burns_no_key(db, record)? {
            return Ok(Accepted::Known(record));
        }
    }
    db.prepare_cached(
        "INSERT INTO record (id, client, idempotency_key, wallet, network, intent, token, body, state, exposure, active)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1)",
    )?
    .execute(params![
        new.id.to_string(),
        client,
        new.idempotency_key.as_str(),
        new.intent.wallet.as_str(),
        new.network.to_string(),
        intent,
        new.request.token,
        new.request.body,
        State::Received.as_str(),
        Exposure::None.as_str(),
    ])?;
    db.prepare_cached(
        "INSERT INTO idempotency (client, key, intent, record_id) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (client, key) DO UPDATE SET record_id = excluded.record_id",
    )?
    .execute(params![client, new.idempotency_key.as_str(), digest, new.id.to_string()])?;
    event(db, new.id, &Event { at: new.at, state: State::Received, detail: None })?;
    Ok(Accepted::New(new.id))
}

/// Whether the record ended without a signature, so that its key may be used for the same intent again.
fn burns_no_key(db: &Connection, id: RecordId) -> Result<bool, StoreError> {
    let state = state_of(db, id)?;
    let signed: bool = db
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM slot WHERE record_id = ?1 AND burned = 1)")?
        .query_row([id.to_string()], |row| row.get(0))?;
    Ok(state.is_terminal() && !signed)
}

fn use_token(db: &Connection, new: &NewIntent) -> Result<(), StoreError> {
    let now = new.at / 1000;
    db.prepare_cached("DELETE FROM token WHERE expires < ?1")?
        .execute([signed_int(now.saturating_sub(TOKEN_GRACE_SECONDS))])?;
    let inserted = db.prepare_cached("INSERT INTO token (client, jti, expires) VALUES (?1, ?2, ?3)")?.execute(params![
        new.claims.sub.to_string(),
        new.claims.jti,
        signed_int(new.claims.exp)
    ]);
    match inserted {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(StoreError::TokenReplayed)
        }
        other => other.map(|_| ()).map_err(StoreError::from),
    }
}

pub(super) fn judge(db: &Connection, id: RecordId, steps: &[Event], verdict: &Judgement) -> Result<(), StoreError> {
    for step in steps {
        event(db, id, step)?;
    }
    advance(db, id, State::Received, verdict.state, verdict.reason.as_ref(), verdict.detail.as_ref(), verdict.at)
}

pub(super) fn freeze(
    db: &Connection,
    id: RecordId,
    unsigned: &[u8],
    slots: &BTreeSet<Slot>,
    at: u64,
) -> Result<u32, StoreError> {
    require(db, id, State::Queued)?;
    let number: u32 = db
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE record_id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))?;
    for slot in slots {
        let inserted = db
            .prepare_cached("INSERT INTO slot (slot, network, record_id, burned) VALUES (?1, ?2, ?3, 0)")?
            .execute(params![slot.to_string(), slot.network().to_string(), id.to_string()]);
        match inserted {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                return Err(StoreError::SlotTaken(slot.clone()));
            }
            other => other?,
        };
    }
    db.prepare_cached("INSERT INTO attempt (record_id, number, unsigned, slots) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.to_string(), number, unsigned, to_json(slots)?])?;
    let detail = json!({ "attempt": number, "slots": slots });
    event(db, id, &Event { at, state: State::Queued, detail: Some(detail) })?;
    Ok(number)
}

pub(super) fn thaw(db: &Connection, id: RecordId, at: u64) -> Result<(), StoreError> {
    require(db, id, State::Queued)?;
    release(db, id)?;
    event(db, id, &Event { at, state: State::Queued, detail: Some(json!({ "thawed": true })) })
}

/// Frees the slots of a record that no signer was asked for, with the attempt that they were for.
fn release(db: &Connection, id: RecordId) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM slot WHERE record_id = ?1 AND burned = 0")?.execute([id.to_string()])?;
    db.prepare_cached(
        "DELETE FROM attempt WHERE record_id = ?1 AND signed IS NULL
         AND NOT EXISTS (SELECT 1 FROM slot WHERE slot.record_id = ?1)",
    )?
    .execute([id.to_string()])?;
    Ok(())
}

pub(super) fn burn(db: &Connection, id: RecordId, at: u64) -> Result<(), StoreError> {
    let burned = db.prepare_cached("UPDATE slot SET burned = 1 WHERE record_id = ?1")?.execute([id.to_string()])?;
    if burned == 0 {
        return Err(StoreError::Corrupt(format!("record {id} has no slot to burn")));
    }
    advance(db, id, State::Queued, State::Signing, None, None, at)
}

pub(super) fn signed(
    db: &Connection,
    id: RecordId,
    signed: &SignedBytes,
    detail: &Value,
    at: u64,
) -> Result<(), StoreError> {
    let changed = db
        .prepare_cached(
            "UPDATE attempt SET signed = ?2, tx_id = ?3 WHERE record_id = ?1 AND signed IS NULL
             AND number = (SELECT max(number) FROM attempt WHERE record_id = ?1)",
        )?
        .execute(params![id.to_string(), signed.bytes, signed.id])?;
    if changed != 1 {
        return Err(StoreError::Corrupt(format!("record {id} has no unsigned attempt")));
    }
    advance(db, id, State::Signing, State::Signed, None, Some(detail), at)
}

pub(super) fn observed(
    db: &Connection,
    id: RecordId,
    from: State,
    to: State,
    inclusion: Option<&Inclusion>,
    reason: Option<&Reason>,
    at: u64,
) -> Result<(), StoreError> {
    let text = inclusion.map(to_json).transpose()?;
    db.prepare_cached(
        "UPDATE attempt SET inclusion = ?2 WHERE record_id = ?1
         AND number = (SELECT max(number) FROM attempt WHERE record_id = ?1)",
    )?
    .execute(params![id.to_string(), text])?;
    let detail = inclusion.map(|inclusion| json!(inclusion));
    advance(db, id, from, to, reason, detail.as_ref(), at)
}

pub(super) fn abandon(
    db: &Connection,
    id: RecordId,
    from: State,
    to: State,
    reason: &Reason,
    at: u64,
) -> Result<(), StoreError> {
    if from >= State::Signing {
        return Err(StoreError::NoSuchArrow { from, to });
    }
    release(db, id)?;
    advance(db, id, from, to, Some(reason), None, at)
}

pub(super) fn note(db: &Connection, id: RecordId, reason: Option<&Reason>, at: u64) -> Result<(), StoreError> {
    let text = reason.map(to_json).transpose()?;
    let changed = db
        .prepare_cached("UPDATE record SET reason = ?2 WHERE id = ?1 AND active = 1 AND reason IS NOT ?2")?
        .execute(params![id.to_string(), text])?;
    if changed == 1 {
        let state = state_of(db, id)?;
        event(db, id, &Event { at, state, detail: Some(json!({ "reason": reason })) })?;
    }
    Ok(())
}

/// Moves the record along one arrow and writes the event.
pub(super) fn advance(
    db: &Connection,
    id: RecordId,
    from: State,
    to: State,
    reason: Option<&Reason>,
    detail: Option<&Value>,
    at: u64,
) -> Result<(), StoreError> {
    if !from.may_become(to) {
        return Err(StoreError::NoSuchArrow { from, to });
    }
    let changed = db
        .prepare_cached(
            "UPDATE record SET state = ?3, reason = ?4, exposure = ?5, active = ?6 WHERE id = ?1 AND state = ?2",
        )?
        .execute(params![
            id.to_string(),
            from.as_str(),
            to.as_str(),
            reason.map(to_json).transpose()?,
            Exposure::of(to).as_str(),
            !to.is_terminal(),
        ])?;
    if changed != 1 {
        return Err(StoreError::Stale { id, expected: from, found: state_of(db, id)? });
    }
    let detail = detail.cloned().or_else(|| reason.map(|reason| json!({ "reason": reason })));
    event(db, id, &Event { at, state: to, detail })
}

fn require(db: &Connection, id: RecordId, expected: State) -> Result<(), StoreError> {
    let found = state_of(db, id)?;
    if found == expected { Ok(()) } else { Err(StoreError::Stale { id, expected, found }) }
}

fn event(db: &Connection, id: RecordId, event: &Event) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO event (record_id, at, state, detail) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        id.to_string(),
        signed_int(event.at),
        event.state.as_str(),
        event.detail.as_ref().map(to_json).transpose()?,
    ])?;
    Ok(())
}

pub(super) fn save_chain_changes(
    db: &Connection,
    network: Network,
    node: u32,
    changes: &[u8],
) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO chain_change (network, node, changes) VALUES (?1, ?2, ?3)")?.execute(params![
        network.to_string(),
        node,
        changes
    ])?;
    Ok(())
}
