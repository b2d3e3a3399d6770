//! The writes as SQL. Each function runs inside a savepoint of the writer's transaction: an error undoes all of it. There is
//! one writer, so what it has read stands until it commits.

use chains::account::WalletId;
use chains::chain::Slot;
use chains::network::Network;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::request::{Claims, SignedRequest};

use super::rows::{found, record_id, tally};
use crate::fail;
use crate::mutation::Mutation;
use crate::record::{Event, Exposure, RecordId, State};
use crate::store::limits::{self, Tally};
use crate::store::rows::{Named, amount, optional_json, purpose_word, signed_int, to_json, unsigned_int};
use crate::store::steps::{Plan, Settlement, Write};
use crate::store::{
    Accepted, Cancelling, Draw, GatewayId, Hold, NewIntent, Paper, PaperKind, StoreError, TOKEN_GRACE_SECONDS,
    WalletFreeze,
};

pub(super) fn accept(db: &Connection, life: i64, new: &NewIntent) -> Result<Accepted, StoreError> {
    use_token(db, &new.claims, new.at)?;
    let client = new.claims.sub.to_string();
    let Named { intent, deal, digest } = Named::of(new)?;
    let known = db
        .prepare_cached("SELECT intent, record_id FROM idempotency WHERE client = ?1 AND key = ?2")?
        .query_row(params![client, new.idempotency_key.as_str()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, record_id(row, 1)?))
        })
        .optional()?;
    if let Some((known_digest, record)) = known {
        if known_digest != digest {
            return Err(StoreError::IdempotencyConflict(record));
        }
        if !found(db, record)?.burns_no_key() {
            return Ok(Accepted::Known(record));
        }
    }
    let hold = Hold { id: new.id, fence: 1 };
    db.prepare_cached(
        "INSERT INTO record (id, client, idempotency_key, wallet, network, intent, token, body, state, exposure, active,
                             owner, life, lease_until, fence, deal)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        new.id.to_string(),
        client,
        new.idempotency_key.as_str(),
        new.intent.wallet.to_string(),
        new.network.to_string(),
        intent,
        new.request.token,
        new.request.body,
        State::Received.as_str(),
        Exposure::None.as_str(),
        new.owner.to_string(),
        life,
        signed_int(new.until),
        signed_int(hold.fence),
        deal,
    ])?;
    if !Mutation::KeyNotDurable.on() {
        db.prepare_cached(
            "INSERT INTO idempotency (client, key, intent, record_id) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (client, key) DO UPDATE SET record_id = excluded.record_id",
        )?
        .execute(params![client, new.idempotency_key.as_str(), digest, new.id.to_string()])?;
    }
    event(db, new.id, &Event { at: new.at, state: State::Received, detail: None })?;
    Ok(Accepted::New(hold))
}

pub(super) fn use_token(db: &Connection, claims: &Claims, at: u64) -> Result<(), StoreError> {
    let now = at / 1000;
    db.prepare_cached("DELETE FROM token WHERE expires < ?1")?
        .execute([signed_int(now.saturating_sub(TOKEN_GRACE_SECONDS))])?;
    let used = db
        .prepare_cached("INSERT INTO token (client, jti, expires) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![claims.sub.to_string(), claims.jti, signed_int(claims.exp)])?;
    if used == 1 || Mutation::TokenNotDurable.on() { Ok(()) } else { Err(StoreError::TokenReplayed) }
}

/// A further freeze because of a nonce counts only where an operator doesn't know of that nonce.
pub(super) fn freeze_wallet(
    db: &Connection,
    freeze: &WalletFreeze,
    claims: Option<&Claims>,
) -> Result<bool, StoreError> {
    if let Some(claims) = claims {
        use_token(db, claims, freeze.at)?;
    }
    let WalletFreeze { wallet, by, reason, at, nonce } = freeze;
    let written = db
        .prepare_cached(
            "INSERT INTO wallet_freeze (wallet, frozen, by, reason, at, nonce) VALUES (?1, 1, ?2, ?3, ?4, ?5)
         ON CONFLICT (wallet) DO UPDATE SET frozen = excluded.frozen, by = excluded.by, reason = excluded.reason, at = excluded.at,
             nonce = COALESCE(excluded.nonce, wallet_freeze.nonce)
         WHERE excluded.nonce IS NULL OR wallet_freeze.nonce IS NULL OR excluded.nonce > wallet_freeze.nonce",
        )?
        .execute(params![wallet.to_string(), by, reason, signed_int(*at), nonce.map(signed_int)])?;
    Ok(written == 1)
}

pub(super) fn unfreeze_wallet(
    db: &Connection,
    wallet: &WalletId,
    claims: &Claims,
    at: u64,
) -> Result<bool, StoreError> {
    use_token(db, claims, at)?;
    let lifted = db
        .prepare_cached("UPDATE wallet_freeze SET frozen = 0, by = ?2, at = ?3 WHERE wallet = ?1 AND frozen = 1")?
        .execute(params![wallet.to_string(), claims.sub.to_string(), signed_int(at)])?;
    Ok(lifted == 1)
}

/// A request to cancel, which needs no hold.
pub(super) fn cancel(
    db: &Connection,
    id: RecordId,
    claims: &Claims,
    request: &SignedRequest,
    at: u64,
) -> Result<(Plan, Cancelling), StoreError> {
    use_token(db, claims, at)?;
    let found = found(db, id)?;
    let (plan, outcome) = found.cancel(&claims.sub, request, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan)?;
    Ok((plan, outcome))
}

/// What an approver says, which needs no hold.
pub(super) fn approve(
    db: &Connection,
    id: RecordId,
    approval: &Approval,
    decision: Decision,
    claims: &Claims,
    at: u64,
) -> Result<Plan, StoreError> {
    use_token(db, claims, at)?;
    let found = found(db, id)?;
    let plan = found.approve(approval, decision, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan)?;
    Ok(plan)
}

/// The desk's go for a deal, which needs no hold.
pub(super) fn let_deal_go(
    db: &Connection,
    id: RecordId,
    claims: &Claims,
    request: &SignedRequest,
    at: u64,
) -> Result<(), StoreError> {
    use_token(db, claims, at)?;
    let found = found(db, id)?;
    let plan = found.let_deal_go(&claims.sub, request, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan)
}

/// Keeps a paper in place of the one of its name.
pub(super) fn keep(db: &Connection, paper: &Paper, at: u64) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR REPLACE INTO paper (kind, name, content, at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![paper.kind.as_str(), paper.name, paper.content, signed_int(at)])?;
    Ok(())
}

/// Travel Rule data with its event, which needs no hold.
pub(super) fn attach_travel(
    db: &Connection,
    id: RecordId,
    data: String,
    detail: Value,
    claims: &Claims,
    at: u64,
) -> Result<(), StoreError> {
    use_token(db, claims, at)?;
    let found = found(db, id)?;
    let plan = found.attach_travel(detail, at)?;
    keep(db, &Paper { kind: PaperKind::Travel, name: id.to_string(), content: data }, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan)
}

/// Writes what a step under this hold decided.
pub(super) fn carry_out(db: &Connection, hold: Hold, plan: &Plan) -> Result<(), StoreError> {
    plan.writes.iter().try_for_each(|write| carry_out_one(db, hold, write))
}

fn carry_out_one(db: &Connection, hold: Hold, write: &Write) -> Result<(), StoreError> {
    let (id, fence) = (hold.id.to_string(), signed_int(hold.fence));
    match write {
        Write::State { state, reason, exposure, active } => {
            let changed = db
                .prepare_cached(
                    "UPDATE record SET state = ?3, reason = ?4, exposure = ?5, active = ?6,
                         owner = CASE WHEN ?6 THEN owner END, lease_until = CASE WHEN ?6 THEN lease_until END
                     WHERE id = ?1 AND fence = ?2",
                )?
                .execute(params![
                    id,
                    fence,
                    state.as_str(),
                    optional_json(reason.as_ref())?,
                    exposure.as_str(),
                    active
                ])?;
            held(hold, changed)?;
        }
        Write::Reason(reason) => {
            let changed = db
                .prepare_cached("UPDATE record SET reason = ?3 WHERE id = ?1 AND fence = ?2")?
                .execute(params![id, fence, optional_json(reason.as_ref())?])?;
            held(hold, changed)?;
        }
        Write::Asked(request) => {
            let changed = db
                .prepare_cached(
                    "UPDATE record SET cancel_token = ?3, cancel_body = ?4, active = 1 WHERE id = ?1 AND fence = ?2",
                )?
                .execute(params![id, fence, request.token, request.body])?;
            held(hold, changed)?;
        }
        Write::Fence => {
            let changed = db
                .prepare_cached(
                    "UPDATE record SET fence = fence + 1, owner = NULL, lease_until = NULL WHERE id = ?1 AND fence = ?2",
                )?
                .execute(params![id, fence])?;
            held(hold, changed)?;
        }
        Write::Event(step) => event(db, hold.id, step)?,
        Write::Take { slot, burned } => take(db, &id, slot, *burned)?,
        Write::Burn => {
            db.prepare_cached("UPDATE slot SET burned = 1 WHERE record_id = ?1")?.execute([id])?;
        }
        Write::Free => {
            db.prepare_cached("DELETE FROM slot WHERE record_id = ?1 AND burned = 0")?.execute([id])?;
        }
        Write::Attempt { number, purpose, unsigned, slots } => {
            db.prepare_cached(
                "INSERT INTO attempt (record_id, number, purpose, unsigned, slots) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id, number, purpose_word(*purpose), unsigned, to_json(slots)?])?;
        }
        Write::Forget => {
            db.prepare_cached("DELETE FROM attempt WHERE record_id = ?1 AND signed IS NULL")?.execute([id])?;
        }
        Write::Signed { number, signed } => {
            db.prepare_cached("UPDATE attempt SET signed = ?3, tx_id = ?4 WHERE record_id = ?1 AND number = ?2")?
                .execute(params![id, number, signed.bytes, signed.id])?;
        }
        Write::Approval { approval, at } => {
            db.prepare_cached(
                "INSERT OR REPLACE INTO approval (record_id, approver, approval, at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![id, approval.approver.as_str(), to_json(approval)?, signed_int(*at)])?;
        }
        Write::GivenUp { number, reason } => {
            db.prepare_cached("UPDATE attempt SET given_up = ?3 WHERE record_id = ?1 AND number = ?2")?
                .execute(params![id, number, to_json(reason)?])?;
        }
        Write::Sent { number, at } => {
            db.prepare_cached("UPDATE attempt SET sent_at = ?3 WHERE record_id = ?1 AND number = ?2")?
                .execute(params![id, number, signed_int(*at)])?;
        }
        Write::Included { number, inclusion } => {
            db.prepare_cached(
                "UPDATE attempt SET inclusion = CASE WHEN number = ?2 THEN ?3 END
                 WHERE record_id = ?1 AND (number = ?2 OR inclusion IS NOT NULL)",
            )?
            .execute(params![id, number, optional_json(inclusion.as_ref())?])?;
        }
        Write::Reserve(draws) => reserve(db, &id, draws)?,
        Write::Settle(how) => settle(db, &id, *how)?,
    }
    Ok(())
}

fn held(hold: Hold, changed: usize) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Fenced(hold.id)) }
}

fn take(db: &Connection, id: &str, slot: &Slot, burned: bool) -> Result<(), StoreError> {
    let taken = db
        .prepare_cached(
            "INSERT INTO slot (slot, network, record_id, burned) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![slot.to_string(), slot.network().to_string(), id, burned])?;
    if taken == 0 && Mutation::BurnedIsFree.on() {
        db.execute(
            "UPDATE slot SET record_id = ?2, burned = ?3 WHERE slot = ?1",
            params![slot.to_string(), id, burned],
        )?;
        return Ok(());
    }
    if taken == 1 { Ok(()) } else { Err(StoreError::SlotTaken(slot.clone())) }
}

fn reserve(db: &Connection, id: &str, draws: &[Draw]) -> Result<(), StoreError> {
    let next: i64 = db
        .prepare_cached("SELECT coalesce(max(number) + 1, 0) FROM draw WHERE record_id = ?1")?
        .query_row([id], |row| row.get(0))?;
    for (number, draw) in (next..).zip(draws) {
        // Later buckets count too: another gateway's clock may be ahead.
        limits::admit(draw, super::rows::usage(db, &draw.counter, draw.since, u64::MAX)?)?;
        let bucket = signed_int(draw.bucket);
        let tally = tally_of(db, &draw.counter, bucket)?.reserve(draw.amount)?;
        save_tally(db, &draw.counter, bucket, tally)?;
        db.prepare_cached(
            "INSERT INTO draw (record_id, number, counter, bucket, amount, state) VALUES (?1, ?2, ?3, ?4, ?5, 'pending')",
        )?
        .execute(params![id, number, draw.counter, bucket, draw.amount.to_be_bytes()])?;
    }
    Ok(())
}

fn settle(db: &Connection, id: &str, how: Settlement) -> Result<(), StoreError> {
    if how == Settlement::GiveBack {
        fail::point("refund.before");
    }
    let pending = db
        .prepare_cached("SELECT counter, bucket, amount FROM draw WHERE record_id = ?1 AND state = 'pending'")?
        .query_map([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    for (counter, bucket, drawn) in &pending {
        let tally = tally_of(db, counter, *bucket)?.settle(amount(drawn)?, how)?;
        save_tally(db, counter, *bucket, tally)?;
    }
    if !pending.is_empty() {
        db.prepare_cached("UPDATE draw SET state = ?2 WHERE record_id = ?1 AND state = 'pending'")?
            .execute(params![id, how.word()])?;
    }
    Ok(())
}

fn tally_of(db: &Connection, counter: &str, bucket: i64) -> Result<Tally, StoreError> {
    let row = db
        .prepare_cached(
            "SELECT pending, pending_count, posted, posted_count FROM usage WHERE counter = ?1 AND bucket = ?2",
        )?
        .query_row(params![counter, bucket], tally)
        .optional()?;
    row.map_or(Ok(Tally::default()), |row| row.whole())
}

fn save_tally(db: &Connection, counter: &str, bucket: i64, tally: Tally) -> Result<(), StoreError> {
    let row = tally.row();
    db.prepare_cached(
        "INSERT OR REPLACE INTO usage (counter, bucket, pending, pending_count, posted, posted_count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![counter, bucket, row.pending, row.pending_count, row.posted, row.posted_count])?;
    Ok(())
}

pub(super) fn claim(
    db: &Connection,
    life: i64,
    owner: &GatewayId,
    network: Network,
    at: u64,
    until: u64,
    limit: u32,
) -> Result<Vec<Hold>, StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE record SET owner = ?1, life = ?2, lease_until = ?5, fence = fence + 1
         WHERE id IN (SELECT id FROM record WHERE active = 1 AND network = ?3
                      AND (owner IS NULL OR lease_until < ?4 OR (owner = ?1 AND life < ?2)) ORDER BY id LIMIT ?6)
         RETURNING id, fence",
    )?;
    let rows = statement
        .query_map(
            params![owner.to_string(), life, network.to_string(), signed_int(at), signed_int(until), limit],
            |row| Ok((record_id(row, 0)?, row.get::<_, i64>(1)?)),
        )?
        .collect::<Result<Vec<_>, _>>()?;
    let mut holds = rows
        .into_iter()
        .map(|(id, fence)| Ok(Hold { id, fence: unsigned_int(fence)? }))
        .collect::<Result<Vec<_>, StoreError>>()?;
    holds.sort_unstable();
    Ok(holds)
}

pub(super) fn renew(db: &Connection, holds: &[Hold], until: u64) -> Result<Vec<Hold>, StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE record SET lease_until = ?3 WHERE id = ?1 AND fence = ?2 AND owner IS NOT NULL AND active = 1",
    )?;
    let mut standing = Vec::with_capacity(holds.len());
    for hold in holds {
        if statement.execute(params![hold.id.to_string(), signed_int(hold.fence), signed_int(until)])? == 1 {
            standing.push(*hold);
        }
    }
    Ok(standing)
}

/// A lease that was let go is over: its fence is passed, so that nothing is written under it any more.
pub(super) fn release(db: &Connection, holds: &[Hold]) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached(
        "UPDATE record SET owner = NULL, lease_until = NULL, fence = fence + 1 WHERE id = ?1 AND fence = ?2",
    )?;
    for hold in holds {
        statement.execute(params![hold.id.to_string(), signed_int(hold.fence)])?;
    }
    Ok(())
}

fn event(db: &Connection, id: RecordId, event: &Event) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO event (record_id, at, state, detail) VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        id.to_string(),
        signed_int(event.at),
        event.state.as_str(),
        optional_json(event.detail.as_ref())?,
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

/// Whether the failure says that the file itself is broken.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
