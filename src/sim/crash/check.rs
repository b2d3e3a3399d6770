//! The invariants of a transaction's life, held against the durable records, what the gateway sent, and what the chain says.

use std::collections::{BTreeMap, BTreeSet};

use chains::chain::Slot;
use chains::intent::Action;
use chains::network::Family;
use gateway::record::{Exposure, Purpose, Record, State};
use gateway::store::{Filter, Store};

use super::relay::Sent;
use super::stand::Stand;
use crate::cli::Failure;

/// The counter that every payment under test draws from.
const COUNTER: &str = "crash-test";

/// Checks everything there is, and answers what is wrong.
///
/// # Errors
/// Where store or node can't be asked.
pub(super) async fn check(stand: &Stand, store: &dyn Store) -> Result<Vec<String>, Failure> {
    let filter = Filter { client: None, wallet: None, state: None, deals: false, before: None, limit: 1_000_000 };
    let records = store.list(filter).await?;
    let mut wrong = Vec::new();
    keys(&records, &mut wrong);
    for record in &records {
        conflicts(record, &mut wrong);
        history(record, &mut wrong);
        signatures(record, &mut wrong);
        exposure(record, &mut wrong);
    }
    sends(&records, &stand.relay.sent(), &mut wrong);
    slots(&records, &mut wrong);
    limits(stand, store, &records, &mut wrong).await?;
    chain(stand, &records, &mut wrong).await?;
    nonces(stand, store, &records, &mut wrong).await?;
    Ok(wrong)
}

/// I1: one key, one intent: of several records of a key at most one was ever signed for.
fn keys(records: &[Record], wrong: &mut Vec<String>) {
    let mut signed: BTreeMap<_, u32> = BTreeMap::new();
    for record in records.iter().filter(|record| was_signed_for(record)) {
        let count = signed.entry((record.client.to_string(), record.idempotency_key.as_str().to_owned())).or_default();
        *count = count.saturating_add(1);
    }
    for ((_, key), count) in signed.into_iter().filter(|(_, count)| *count > 1) {
        wrong.push(format!("I1: key {key} has {count} records that were signed for"));
    }
}

fn was_signed_for(record: &Record) -> bool {
    record.history.iter().any(|event| event.state >= State::Signing && event.state <= State::Finalized)
}

/// I2: every two attempts have a slot in common.
fn conflicts(record: &Record, wrong: &mut Vec<String>) {
    for (at, one) in record.attempts.iter().enumerate() {
        for other in record.attempts.iter().skip(at.saturating_add(1)) {
            if one.slots.is_disjoint(&other.slots) {
                wrong.push(format!("I2: {}: attempts {} and {} don't conflict", record.id, one.number, other.number));
            }
        }
    }
    let included = record.attempts.iter().filter(|attempt| attempt.inclusion.is_some()).count();
    if included > 1 {
        wrong.push(format!("I2: {}: {included} attempts are in a block", record.id));
    }
}

/// I8 and I9: no way back, as no block was ever taken back here, and an end.
fn history(record: &Record, wrong: &mut Vec<String>) {
    let within = |state: &State| matches!(state, State::Screening | State::Evaluating);
    let mut last: Option<State> = None;
    for state in record.history.iter().map(|event| event.state).filter(|state| !within(state)) {
        if let Some(before) = last.filter(|before| *before != state)
            && (state < before || !before.may_become(state))
        {
            wrong.push(format!("I8: {}: {before} became {state}", record.id));
        }
        last = Some(state);
    }
    if last != Some(record.state) {
        wrong.push(format!("I8: {}: the history ends {last:?}, the record is {}", record.id, record.state));
    }
    if !record.state.is_terminal() {
        wrong.push(format!("I9: {}: {} is no end ({:?})", record.id, record.state, record.reason));
    }
    if record.state == State::Quarantined {
        wrong.push(format!("I9: {}: quarantined though nobody else used the wallet ({:?})", record.id, record.reason));
    }
}

/// I10: every signature has its event.
fn signatures(record: &Record, wrong: &mut Vec<String>) {
    for attempt in &record.attempts {
        let Some(signed) = &attempt.signed else { continue };
        let told = record.history.iter().any(|event| {
            let Some(detail) = &event.detail else { return false };
            let id = detail.get("tx_id").or_else(|| detail.pointer("/signed/tx_id"));
            id.and_then(serde_json::Value::as_str) == Some(signed.id.as_str())
        });
        if !told {
            wrong.push(format!("I10: {}: the signature of attempt {} has no event", record.id, attempt.number));
        }
    }
}

/// What the record says of its exposure is what its state and its attempts say.
fn exposure(record: &Record, wrong: &mut Vec<String>) {
    let paid = record.attempts.iter().any(|one| one.inclusion.is_some() && one.purpose != Purpose::Cancel);
    let fits = match record.exposure {
        Exposure::None => !paid,
        Exposure::Certain => paid,
        Exposure::Possible => !record.state.is_terminal() || record.state == State::Quarantined,
    };
    if !fits {
        wrong.push(format!("exposure: {}: {:?} in {} (paid: {paid})", record.id, record.exposure, record.state));
    }
}

/// Whether what is stored of a signed transaction has the bytes in it that were sent: a chain's own encoding may hold more.
fn carries(stored: &[u8], sent: &[u8]) -> bool {
    !sent.is_empty() && stored.windows(sent.len()).any(|window| window == sent)
}

/// I3: whatever was sent is durable, and was before it was sent.
fn sends(records: &[Record], sent: &[Sent], wrong: &mut Vec<String>) {
    for one in sent {
        let found = records.iter().find_map(|record| {
            let attempt = record
                .attempts
                .iter()
                .find(|attempt| attempt.signed.as_ref().is_some_and(|signed| carries(&signed.bytes, &one.bytes)))?;
            Some((record, attempt))
        });
        let Some((record, attempt)) = found else {
            let bytes = hex::encode(&one.bytes);
            wrong.push(format!("I3: {} sent what no record has: {bytes}", one.method));
            continue;
        };
        if attempt.sent_at.is_none_or(|sent_at| sent_at > one.at) {
            wrong.push(format!("I3: {}: attempt {} was sent before that was durable", record.id, attempt.number));
        }
    }
}

/// I4: a slot that was signed for serves one payment.
fn slots(records: &[Record], wrong: &mut Vec<String>) {
    let mut taken: BTreeMap<&Slot, BTreeSet<_>> = BTreeMap::new();
    for record in records.iter().filter(|record| was_signed_for(record)) {
        for slot in record.attempts.iter().flat_map(|attempt| &attempt.slots) {
            taken.entry(slot).or_default().insert(record.id);
        }
    }
    for (slot, by) in taken.into_iter().filter(|(_, by)| by.len() > 1) {
        wrong.push(format!("I4: slot {slot} served {} payments", by.len()));
    }
}

/// What the finished payments of the listed payee come to, and how many there are.
fn paid(records: &[Record]) -> Result<(u128, u64), Failure> {
    let (mut sum, mut count) = (0_u128, 0_u64);
    for record in records.iter().filter(|record| record.state == State::Finalized) {
        if let Action::Transfer { amount, .. } = &record.intent.action {
            sum = sum.checked_add(amount.to_string().parse()?).ok_or("a sum above 2^128")?;
            count = count.saturating_add(1);
        }
    }
    Ok((sum, count))
}

/// I5, I6, I7: what is drawn is what was paid once everything has ended, and never above the limit.
async fn limits(stand: &Stand, store: &dyn Store, records: &[Record], wrong: &mut Vec<String>) -> Result<(), Failure> {
    let usage = store.usage(COUNTER, 0, u64::MAX).await?;
    let drawn: u128 = usage.amount.to_string().parse()?;
    if drawn > stand.plan.limit {
        wrong.push(format!("I5: {drawn} is drawn, {} is the limit", stand.plan.limit));
    }
    let (sum, count) = paid(records)?;
    if sum > stand.plan.limit {
        wrong.push(format!("I5: {sum} was paid, {} is the limit", stand.plan.limit));
    }
    if records.iter().all(|record| record.state.is_terminal()) && (drawn != sum || usage.count != count) {
        wrong.push(format!("I7: {drawn} in {} payments is drawn, {sum} in {count} was paid", usage.count));
    }
    Ok(())
}

/// I7: the chain's word: the payee has what the records say, and the wallet sent as many transactions as they say.
async fn chain(stand: &Stand, records: &[Record], wrong: &mut Vec<String>) -> Result<(), Failure> {
    let books = stand.chain.books(stand.payee(), &stand.wallet).await?;
    let (sum, count) = paid(records)?;
    let received = books.received.saturating_sub(stand.books.received);
    if received != sum {
        wrong.push(format!("I7: the payee received {received}, the records say {sum}"));
    }
    let included = || records.iter().flat_map(|record| &record.attempts).filter(|one| one.inclusion.is_some()).count();
    let expected = match stand.plan.family {
        Family::Bitcoin | Family::Solana => count,
        Family::Ethereum => u64::try_from(included())?,
    };
    let found = books.count.saturating_sub(stand.books.count);
    if found != expected {
        wrong.push(format!("I7: the chain has {found} transactions, the records say {expected}"));
    }
    Ok(())
}

/// The nonces on chain have no gap: each is held by a record, and none above them is burned once all payments have ended.
async fn nonces(stand: &Stand, store: &dyn Store, records: &[Record], wrong: &mut Vec<String>) -> Result<(), Failure> {
    let Some(prefix) = stand.nonce_prefix() else { return Ok(()) };
    let Some(network) = records.first().map(|record| record.network) else { return Ok(()) };
    let used = stand.chain.books(stand.payee(), &stand.wallet).await?.count;
    let slots = store.slots(network, &prefix).await?;
    let nonce = |text: &str| text.rsplit('/').next().and_then(|nonce| nonce.parse::<u64>().ok());
    let held: BTreeSet<u64> = slots.iter().filter_map(|row| nonce(&row.slot.to_string())).collect();
    let burned = slots.iter().filter(|row| row.burned).filter_map(|row| nonce(&row.slot.to_string()));
    for missing in (stand.books.count..used).filter(|nonce| !held.contains(nonce)) {
        wrong.push(format!("nonces: {missing} is used up on chain, and no record holds it"));
    }
    for above in burned.filter(|nonce| *nonce >= used) {
        wrong.push(format!("nonces: {above} is burned, and the chain is at {used}"));
    }
    Ok(())
}

/// Where the money can't move any more by its record's word: hands everything that was sent for it to the node once more.
///
/// # Errors
/// Where the node fails.
pub(super) async fn late(stand: &Stand, record: &Record, wrong: &mut Vec<String>) -> Result<(), Failure> {
    if record.exposure != Exposure::None {
        return Ok(());
    }
    let before = stand.chain.books(stand.payee(), &stand.wallet).await?;
    for sent in stand.relay.sent() {
        let its = |bytes: &[u8]| {
            record.attempts.iter().filter_map(|one| one.signed.as_ref()).any(|signed| carries(&signed.bytes, bytes))
        };
        if its(&sent.bytes) {
            stand.chain.deliver(&sent.method, &sent.params).await;
        }
    }
    stand.chain.mine(super::chain::FINAL.saturating_add(2)).await?;
    let after = stand.chain.books(stand.payee(), &stand.wallet).await?;
    if after.received != before.received {
        let moved = after.received.saturating_sub(before.received);
        wrong.push(format!("exposure: {}: none in {}, and {moved} moved late", record.id, record.state));
    }
    Ok(())
}
