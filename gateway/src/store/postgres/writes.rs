//! The writes as SQL, inside one transaction. Locks are taken in one order, a record before its counters and those by
//! name, so that nobody waits in a circle. No statement fails on a constraint that it may meet: a failed statement would
//! end the transaction before a rule could answer.

use std::collections::{BTreeMap, BTreeSet};

use chains::account::WalletId;
use chains::chain::Slot;
use chains::network::Network;
use serde_json::Value;
use signer::approval::{Approval, Decision};
use signer::request::{Claims, SignedRequest};
use sqlx::postgres::PgQueryResult;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::rows::{found, tally};
use super::session::Fault;
use crate::fail;
use crate::record::{Event, Exposure, RecordId, State};
use crate::store::limits::{self, Tally};
use crate::store::rows::{Named, amount, optional_json, purpose_word, signed_int, to_json, unsigned_int};
use crate::store::steps::{Plan, Settlement, Write};
use crate::store::{
    Accepted, Cancelling, Draw, GatewayId, Hold, NewIntent, Paper, PaperKind, StoreError, Usage, WalletFreeze,
};

pub(super) async fn accept(db: &mut PgConnection, life: i64, new: &NewIntent) -> Result<Accepted, Fault> {
    use_token(db, &new.claims).await?;
    let client = new.claims.sub.to_string();
    let Named { intent, deal, digest } = Named::of(new)?;
    let known: Option<(Vec<u8>, Uuid)> =
        sqlx::query_as("SELECT intent, record_id FROM idempotency WHERE client = $1 AND key = $2 FOR UPDATE")
            .bind(&client)
            .bind(new.idempotency_key.as_str())
            .fetch_optional(&mut *db)
            .await?;
    let known = known.map(|(digest, id)| (digest, RecordId::new(id)));
    if let Some((known_digest, record)) = &known {
        if *known_digest != digest {
            return Err(StoreError::IdempotencyConflict(*record).into());
        }
        if !found(db, *record).await?.burns_no_key() {
            return Ok(Accepted::Known(*record));
        }
    }
    let hold = Hold { id: new.id, fence: 1 };
    sqlx::query(
        "INSERT INTO record (id, client, idempotency_key, wallet, network, intent, token, body, state, exposure, active,
                             owner, life, lease_until, fence, deal)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true, $11, $12, $13, $14, $15)",
    )
    .bind(new.id.uuid())
    .bind(&client)
    .bind(new.idempotency_key.as_str())
    .bind(new.intent.wallet.to_string())
    .bind(new.network.to_string())
    .bind(&intent)
    .bind(&new.request.token)
    .bind(&new.request.body)
    .bind(State::Received.as_str())
    .bind(Exposure::None.as_str())
    .bind(new.owner.to_string())
    .bind(life)
    .bind(signed_int(new.until))
    .bind(signed_int(hold.fence))
    .bind(&deal)
    .execute(&mut *db)
    .await?;
    let statement = if known.is_some() {
        "UPDATE idempotency SET record_id = $4 WHERE client = $1 AND key = $2 AND intent = $3"
    } else {
        "INSERT INTO idempotency (client, key, intent, record_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    };
    let named = sqlx::query(statement)
        .bind(&client)
        .bind(new.idempotency_key.as_str())
        .bind(&digest)
        .bind(new.id.uuid())
        .execute(&mut *db)
        .await?;
    if named.rows_affected() != 1 {
        return Err(Fault::Again); // somebody has named an intent so since it was looked up
    }
    event(db, new.id, &Event { at: new.at, state: State::Received, detail: None }).await?;
    Ok(Accepted::New(hold))
}

pub(super) async fn use_token(db: &mut PgConnection, claims: &Claims) -> Result<(), Fault> {
    let used = sqlx::query("INSERT INTO token (client, jti, expires) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(claims.sub.to_string())
        .bind(&claims.jti)
        .bind(signed_int(claims.exp))
        .execute(db)
        .await?;
    if used.rows_affected() == 1 { Ok(()) } else { Err(StoreError::TokenReplayed.into()) }
}

/// Forgets tokens that expired before `before`, in seconds since the Unix epoch; not those that somebody else is forgetting.
pub(super) async fn forget_tokens(db: &mut PgConnection, before: u64) -> Result<(), Fault> {
    sqlx::query(
        "DELETE FROM token WHERE (client, jti) IN
         (SELECT client, jti FROM token WHERE expires < $1 LIMIT 10000 FOR UPDATE SKIP LOCKED)",
    )
    .bind(signed_int(before))
    .execute(db)
    .await?;
    Ok(())
}

/// A further freeze because of a nonce counts only where an operator doesn't know of that nonce.
pub(super) async fn freeze_wallet(
    db: &mut PgConnection,
    freeze: &WalletFreeze,
    claims: Option<&Claims>,
) -> Result<bool, Fault> {
    if let Some(claims) = claims {
        use_token(db, claims).await?;
    }
    let WalletFreeze { wallet, by, reason, at, nonce } = freeze;
    let written = sqlx::query(
        "INSERT INTO wallet_freeze (wallet, frozen, by, reason, at, nonce) VALUES ($1, true, $2, $3, $4, $5)
         ON CONFLICT (wallet) DO UPDATE SET frozen = excluded.frozen, by = excluded.by, reason = excluded.reason, at = excluded.at,
             nonce = COALESCE(excluded.nonce, wallet_freeze.nonce)
         WHERE excluded.nonce IS NULL OR wallet_freeze.nonce IS NULL OR excluded.nonce > wallet_freeze.nonce",
    )
    .bind(wallet.to_string())
    .bind(by)
    .bind(reason)
    .bind(signed_int(*at))
    .bind(nonce.map(signed_int))
    .execute(db)
    .await?;
    Ok(written.rows_affected() == 1)
}

pub(super) async fn unfreeze_wallet(
    db: &mut PgConnection,
    wallet: &WalletId,
    claims: &Claims,
    at: u64,
) -> Result<bool, Fault> {
    use_token(db, claims).await?;
    let lifted = sqlx::query("UPDATE wallet_freeze SET frozen = false, by = $2, at = $3 WHERE wallet = $1 AND frozen")
        .bind(wallet.to_string())
        .bind(claims.sub.to_string())
        .bind(signed_int(at))
        .execute(db)
        .await?;
    Ok(lifted.rows_affected() == 1)
}

/// A request to cancel, which needs no hold.
pub(super) async fn cancel(
    db: &mut PgConnection,
    id: RecordId,
    claims: &Claims,
    request: &SignedRequest,
    at: u64,
) -> Result<(Plan, Cancelling), Fault> {
    use_token(db, claims).await?;
    let found = found(db, id).await?;
    let (plan, outcome) = found.cancel(&claims.sub, request, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan).await?;
    Ok((plan, outcome))
}

/// What an approver says, which needs no hold.
pub(super) async fn approve(
    db: &mut PgConnection,
    id: RecordId,
    approval: &Approval,
    decision: Decision,
    claims: &Claims,
    at: u64,
) -> Result<Plan, Fault> {
    use_token(db, claims).await?;
    let found = found(db, id).await?;
    let plan = found.approve(approval, decision, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan).await?;
    Ok(plan)
}

/// The desk's go for a deal, which needs no hold.
pub(super) async fn let_deal_go(
    db: &mut PgConnection,
    id: RecordId,
    claims: &Claims,
    request: &SignedRequest,
    at: u64,
) -> Result<(), Fault> {
    use_token(db, claims).await?;
    let found = found(db, id).await?;
    let plan = found.let_deal_go(&claims.sub, request, at)?;
    carry_out(db, Hold { id, fence: found.fence }, &plan).await
}

/// Keeps a paper in place of the one of its name.
pub(super) async fn keep(db: &mut PgConnection, paper: &Paper, at: u64) -> Result<(), Fault> {
    let query = sqlx::query(
        "INSERT INTO paper (kind, name, content, at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kind, name) DO UPDATE SET content = excluded.content, at = excluded.at",
    );
    done(query.bind(paper.kind.as_str()).bind(&paper.name).bind(&paper.content).bind(signed_int(at)).execute(db).await)
}

/// Travel Rule data with its event, which needs no hold.
pub(super) async fn attach_travel(
    db: &mut PgConnection,
    id: RecordId,
    data: &str,
    detail: &Value,
    claims: &Claims,
    at: u64,
) -> Result<(), Fault> {
    use_token(db, claims).await?;
    let found = found(db, id).await?;
    let plan = found.attach_travel(detail.clone(), at)?;
    keep(db, &Paper { kind: PaperKind::Travel, name: id.to_string(), content: data.to_owned() }, at).await?;
    carry_out(db, Hold { id, fence: found.fence }, &plan).await
}

/// Writes what a step under this hold decided.
pub(super) async fn carry_out(db: &mut PgConnection, hold: Hold, plan: &Plan) -> Result<(), Fault> {
    for write in &plan.writes {
        carry_out_one(db, hold, write).await?;
    }
    Ok(())
}

async fn carry_out_one(db: &mut PgConnection, hold: Hold, write: &Write) -> Result<(), Fault> {
    let (id, fence) = (hold.id.uuid(), signed_int(hold.fence));
    match write {
        Write::State { state, reason, exposure, active } => {
            let query = sqlx::query(
                "UPDATE record SET state = $3, reason = $4, exposure = $5, active = $6,
                     owner = CASE WHEN $6 THEN owner END, lease_until = CASE WHEN $6 THEN lease_until END
                 WHERE id = $1 AND fence = $2",
            );
            let changed = query
                .bind(id)
                .bind(fence)
                .bind(state.as_str())
                .bind(optional_json(reason.as_ref())?)
                .bind(exposure.as_str())
                .bind(*active)
                .execute(db)
                .await?;
            held(hold, &changed)
        }
        Write::Reason(reason) => {
            let query = sqlx::query("UPDATE record SET reason = $3 WHERE id = $1 AND fence = $2");
            held(hold, &query.bind(id).bind(fence).bind(optional_json(reason.as_ref())?).execute(db).await?)
        }
        Write::Asked(request) => {
            let query = sqlx::query(
                "UPDATE record SET cancel_token = $3, cancel_body = $4, active = true WHERE id = $1 AND fence = $2",
            );
            held(hold, &query.bind(id).bind(fence).bind(&request.token).bind(&request.body).execute(db).await?)
        }
        Write::Fence => {
            let query = sqlx::query(
                "UPDATE record SET fence = fence + 1, owner = NULL, lease_until = NULL WHERE id = $1 AND fence = $2",
            );
            held(hold, &query.bind(id).bind(fence).execute(db).await?)
        }
        Write::Event(step) => event(db, hold.id, step).await,
        Write::Take { slot, burned } => take(db, id, slot, *burned).await,
        Write::Burn => {
            let query = sqlx::query("UPDATE slot SET burned = true WHERE record_id = $1");
            done(query.bind(id).execute(db).await)
        }
        Write::Free => {
            let query = sqlx::query("DELETE FROM slot WHERE record_id = $1 AND NOT burned");
            done(query.bind(id).execute(db).await)
        }
        Write::Attempt { number, purpose, unsigned, slots } => {
            let query = sqlx::query(
                "INSERT INTO attempt (record_id, number, purpose, unsigned, slots) VALUES ($1, $2, $3, $4, $5)",
            );
            let query = query.bind(id).bind(i64::from(*number)).bind(purpose_word(*purpose)).bind(unsigned);
            done(query.bind(to_json(slots)?).execute(db).await)
        }
        Write::Forget => {
            let query = sqlx::query("DELETE FROM attempt WHERE record_id = $1 AND signed IS NULL");
            done(query.bind(id).execute(db).await)
        }
        Write::Signed { number, signed } => {
            let query = sqlx::query("UPDATE attempt SET signed = $3, tx_id = $4 WHERE record_id = $1 AND number = $2");
            done(query.bind(id).bind(i64::from(*number)).bind(&signed.bytes).bind(&signed.id).execute(db).await)
        }
        Write::Approval { approval, at } => {
            let query = sqlx::query(
                "INSERT INTO approval (record_id, approver, approval, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (record_id, approver) DO UPDATE SET approval = excluded.approval, at = excluded.at",
            );
            let query = query.bind(id).bind(approval.approver.as_str()).bind(to_json(approval)?);
            done(query.bind(signed_int(*at)).execute(db).await)
        }
        Write::GivenUp { number, reason } => {
            let query = sqlx::query("UPDATE attempt SET given_up = $3 WHERE record_id = $1 AND number = $2");
            done(query.bind(id).bind(i64::from(*number)).bind(to_json(reason)?).execute(db).await)
        }
        Write::Sent { number, at } => {
            let query = sqlx::query("UPDATE attempt SET sent_at = $3 WHERE record_id = $1 AND number = $2");
            done(query.bind(id).bind(i64::from(*number)).bind(signed_int(*at)).execute(db).await)
        }
        Write::Included { number, inclusion } => {
            let query = sqlx::query(
                "UPDATE attempt SET inclusion = CASE WHEN number = $2 THEN $3 END
                 WHERE record_id = $1 AND (number = $2 OR inclusion IS NOT NULL)",
            );
            let inclusion = optional_json(inclusion.as_ref())?;
            done(query.bind(id).bind(i64::from(*number)).bind(inclusion).execute(db).await)
        }
        Write::Reserve(draws) => reserve(db, id, draws).await,
        Write::Settle(how) => settle(db, id, *how).await,
    }
}

/// A write of the record's row under a fence that is passed changes nothing.
fn held(hold: Hold, changed: &PgQueryResult) -> Result<(), Fault> {
    if changed.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Fenced(hold.id).into()) }
}

fn done(result: Result<PgQueryResult, sqlx::Error>) -> Result<(), Fault> {
    result.map(drop).map_err(Fault::from)
}

async fn take(db: &mut PgConnection, id: Uuid, slot: &Slot, burned: bool) -> Result<(), Fault> {
    let taken = sqlx::query(
        "INSERT INTO slot (slot, network, record_id, burned) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(slot.to_string())
    .bind(slot.network().to_string())
    .bind(id)
    .bind(burned)
    .execute(db)
    .await?;
    if taken.rows_affected() == 1 { Ok(()) } else { Err(StoreError::SlotTaken(slot.clone()).into()) }
}

/// Takes the locks of these counters, until the transaction ends. Whatever doesn't depend on them is done before, since all
/// payments that draw from a counter wait for each other here.
async fn lock(db: &mut PgConnection, counters: BTreeSet<&str>) -> Result<(), Fault> {
    const TAKE: &str = "SELECT 1 FROM counter WHERE name = $1 FOR UPDATE";
    for name in counters {
        if sqlx::query(TAKE).bind(name).fetch_optional(&mut *db).await?.is_none() {
            let query = sqlx::query("INSERT INTO counter (name) VALUES ($1) ON CONFLICT DO NOTHING");
            query.bind(name).execute(&mut *db).await?;
            sqlx::query(TAKE).bind(name).fetch_one(&mut *db).await?;
        }
    }
    Ok(())
}

async fn reserve(db: &mut PgConnection, id: Uuid, draws: &[Draw]) -> Result<(), Fault> {
    let next: i64 = sqlx::query_scalar("SELECT coalesce(max(number) + 1, 0) FROM draw WHERE record_id = $1")
        .bind(id)
        .fetch_one(&mut *db)
        .await?;
    for (number, draw) in (next..).zip(draws) {
        sqlx::query(
            "INSERT INTO draw (record_id, number, counter, bucket, amount, state)
             VALUES ($1, $2, $3, $4, $5, 'pending')",
        )
        .bind(id)
        .bind(number)
        .bind(&draw.counter)
        .bind(signed_int(draw.bucket))
        .bind(draw.amount.to_be_bytes().as_slice())
        .execute(&mut *db)
        .await?;
    }
    lock(db, draws.iter().map(|draw| draw.counter.as_str()).collect()).await?;
    for draw in draws {
        // Later buckets count too: another gateway's clock may be ahead.
        let window = tallies(db, &draw.counter, draw.since).await?;
        let total = window.values().try_fold(Usage::default(), |sum, tally| limits::add(sum, tally.total()?))?;
        limits::admit(draw, total)?;
        let bucket = signed_int(draw.bucket);
        let tally = match window.get(&bucket) {
            Some(tally) => *tally,
            None if draw.bucket >= draw.since => Tally::default(),
            None => tally_of(db, &draw.counter, bucket).await?,
        };
        save_tally(db, &draw.counter, bucket, tally.reserve(draw.amount)?).await?;
    }
    Ok(())
}

async fn settle(db: &mut PgConnection, id: Uuid, how: Settlement) -> Result<(), Fault> {
    if how == Settlement::GiveBack {
        fail::point("refund.before");
    }
    let pending: Vec<(String, i64, Vec<u8>)> = sqlx::query_as(
        "UPDATE draw SET state = $2 WHERE record_id = $1 AND state = 'pending' RETURNING counter, bucket, amount",
    )
    .bind(id)
    .bind(how.word())
    .fetch_all(&mut *db)
    .await?;
    lock(db, pending.iter().map(|(counter, ..)| counter.as_str()).collect()).await?;
    for (counter, bucket, drawn) in &pending {
        let tally = tally_of(db, counter, *bucket).await?.settle(amount(drawn)?, how)?;
        save_tally(db, counter, *bucket, tally).await?;
    }
    Ok(())
}

/// What is drawn from a counter, bucket by bucket, from `since` on.
async fn tallies(db: &mut PgConnection, counter: &str, since: u64) -> Result<BTreeMap<i64, Tally>, Fault> {
    let rows = sqlx::query(
        "SELECT pending, pending_count, posted, posted_count, bucket FROM usage WHERE counter = $1 AND bucket >= $2",
    )
    .bind(counter)
    .bind(signed_int(since))
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(4)?, tally(row)?.whole()?))).collect()
}

async fn tally_of(db: &mut PgConnection, counter: &str, bucket: i64) -> Result<Tally, Fault> {
    let row = sqlx::query(
        "SELECT pending, pending_count, posted, posted_count FROM usage WHERE counter = $1 AND bucket = $2",
    )
    .bind(counter)
    .bind(bucket)
    .fetch_optional(db)
    .await?;
    match row {
        Some(row) => Ok(tally(&row)?.whole()?),
        None => Ok(Tally::default()),
    }
}

async fn save_tally(db: &mut PgConnection, counter: &str, bucket: i64, tally: Tally) -> Result<(), Fault> {
    let row = tally.row();
    let query = sqlx::query(
        "INSERT INTO usage (counter, bucket, pending, pending_count, posted, posted_count)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (counter, bucket) DO UPDATE SET pending = excluded.pending,
             pending_count = excluded.pending_count, posted = excluded.posted, posted_count = excluded.posted_count",
    );
    let query = query.bind(counter).bind(bucket).bind(row.pending).bind(row.pending_count);
    done(query.bind(row.posted).bind(row.posted_count).execute(db).await)
}

/// What a gateway takes, of which network, and until when.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) owner: GatewayId,
    pub(super) life: i64,
    pub(super) network: Network,
    pub(super) at: u64,
    pub(super) until: u64,
    pub(super) limit: u32,
}

pub(super) async fn claim(db: &mut PgConnection, claim: &Claim) -> Result<Vec<Hold>, Fault> {
    let free: Vec<Uuid> = sqlx::query_scalar(
        "SELECT id FROM record WHERE active AND network = $1
         AND (owner IS NULL OR lease_until < $2 OR (owner = $3 AND life < $4)) ORDER BY id LIMIT $5
         FOR UPDATE SKIP LOCKED",
    )
    .bind(claim.network.to_string())
    .bind(signed_int(claim.at))
    .bind(claim.owner.to_string())
    .bind(claim.life)
    .bind(i64::from(claim.limit))
    .fetch_all(&mut *db)
    .await?;
    if free.is_empty() {
        return Ok(Vec::new());
    }
    let taken = sqlx::query_as(
        "UPDATE record SET owner = $2, life = $3, lease_until = $4, fence = fence + 1 WHERE id = ANY($1)
         RETURNING id, fence",
    )
    .bind(free)
    .bind(claim.owner.to_string())
    .bind(claim.life)
    .bind(signed_int(claim.until))
    .fetch_all(db)
    .await?;
    holds(taken)
}

pub(super) async fn renew(db: &mut PgConnection, held: &[Hold], until: u64) -> Result<Vec<Hold>, Fault> {
    let (ids, fences) = columns(held);
    let standing = sqlx::query_as(
        "UPDATE record SET lease_until = $3 FROM unnest($1::uuid[], $2::bigint[]) AS hold (id, fence)
         WHERE record.id = hold.id AND record.fence = hold.fence AND owner IS NOT NULL AND active
         RETURNING record.id, record.fence",
    )
    .bind(ids)
    .bind(fences)
    .bind(signed_int(until))
    .fetch_all(db)
    .await?;
    holds(standing)
}

/// A lease that was let go is over: its fence is passed, so that nothing is written under it any more.
pub(super) async fn release(db: &mut PgConnection, holds: &[Hold]) -> Result<(), Fault> {
    let (ids, fences) = columns(holds);
    let query = sqlx::query(
        "UPDATE record SET owner = NULL, lease_until = NULL, fence = record.fence + 1
         FROM unnest($1::uuid[], $2::bigint[]) AS hold (id, fence)
         WHERE record.id = hold.id AND record.fence = hold.fence",
    );
    done(query.bind(ids).bind(fences).execute(db).await)
}

fn columns(holds: &[Hold]) -> (Vec<Uuid>, Vec<i64>) {
    holds.iter().map(|hold| (hold.id.uuid(), signed_int(hold.fence))).unzip()
}

fn holds(rows: Vec<(Uuid, i64)>) -> Result<Vec<Hold>, Fault> {
    let holds = rows.into_iter().map(|(id, fence)| Ok(Hold { id: RecordId::new(id), fence: unsigned_int(fence)? }));
    let mut holds = holds.collect::<Result<Vec<_>, StoreError>>()?;
    holds.sort_unstable();
    Ok(holds)
}

async fn event(db: &mut PgConnection, id: RecordId, event: &Event) -> Result<(), Fault> {
    let query = sqlx::query(
        "INSERT INTO event (record_id, number, at, state, detail)
         SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 FROM event WHERE record_id = $1",
    );
    let query = query.bind(id.uuid()).bind(signed_int(event.at)).bind(event.state.as_str());
    done(query.bind(optional_json(event.detail.as_ref())?).execute(db).await)
}

pub(super) async fn save_chain_changes(
    db: &mut PgConnection,
    network: Network,
    node: u32,
    changes: &[u8],
) -> Result<(), Fault> {
    let query = sqlx::query(
        "INSERT INTO chain_change (network, node, number, changes)
         SELECT $1, $2, coalesce(max(number), 0) + 1, $3 FROM chain_change WHERE network = $1 AND node = $2",
    );
    done(query.bind(network.to_string()).bind(i64::from(node)).bind(changes).execute(db).await)
}
