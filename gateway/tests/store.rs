//! The conformance suite of every store: what the pipeline relies on, written once and run for each.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use chains::amount::Amount;
use chains::chain::Slot;
use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use gateway::record::{Event, Exposure, Reason, RecordId, SignedBytes, State};
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Accepted, Filter, Judgement, NewIntent, Store, StoreError};
use serde_json::json;
use signer::request::{Claims, SignedRequest};
use uuid::Uuid;

type Shop = Arc<dyn Store>;

/// Runs one test for every store.
fn for_each_store<F: Future<Output = ()>>(test: impl Fn(Shop) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(&dir.path().join("gateway.sqlite")).unwrap();
    runtime.block_on(test(Arc::new(sqlite)));
}

fn network() -> Network {
    "ethereum:31337".parse().unwrap()
}

fn intent(amount: u64) -> Intent {
    serde_json::from_value(json!({
        "wallet": "w",
        "action": {
            "kind": "transfer", "asset": "native",
            "to": "0x52908400098527886E0F7030069857D2E4169EE7", "amount": amount.to_string(),
        },
    }))
    .unwrap()
}

fn ask(key: &str, amount: u64) -> NewIntent {
    NewIntent {
        id: RecordId::new(Uuid::now_v7()),
        claims: Claims {
            sub: "trader".parse().unwrap(),
            uri: "/".to_owned(),
            jti: Uuid::now_v7().to_string(),
            iat: 1_000,
            exp: 1_030,
            body_hash: String::new(),
        },
        idempotency_key: key.parse().unwrap(),
        network: network(),
        intent: intent(amount),
        request: SignedRequest { token: "token".to_owned(), body: b"body".to_vec() },
        at: 1_000_000,
    }
}

async fn accept(store: &Shop, key: &str, amount: u64) -> RecordId {
    match store.accept(ask(key, amount)).await.unwrap() {
        Accepted::New(id) => id,
        Accepted::Known(id) => panic!("{key} is known as {id}"),
    }
}

fn reason(kind: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: kind.to_owned(), rule: None }
}

async fn judge(store: &Shop, id: RecordId, state: State) {
    let step = Event { at: 2, state: State::Screening, detail: None };
    let reason = (state != State::Queued).then(|| reason("because"));
    store.judge(id, vec![step], Judgement { state, reason, detail: None, at: 3 }).await.unwrap();
}

fn slot(nonce: u64) -> Slot {
    format!("ethereum:31337/0xabc/{nonce}").parse().unwrap()
}

async fn freeze(store: &Shop, id: RecordId, nonce: u64) -> Result<u32, StoreError> {
    store.freeze(id, vec![1, 2, 3], BTreeSet::from([slot(nonce)]), 4).await
}

async fn to_signed(store: &Shop, id: RecordId, nonce: u64) {
    judge(store, id, State::Queued).await;
    freeze(store, id, nonce).await.unwrap();
    store.burn(id, 5).await.unwrap();
    let signed = SignedBytes { bytes: vec![4, 5, 6], id: format!("0x{nonce:064x}") };
    store.signed(id, signed, json!({ "signers": ["a", "b"] }), 6).await.unwrap();
}

#[test]
fn one_key_one_intent() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        assert!(matches!(store.accept(ask("k", 1)).await, Ok(Accepted::Known(known)) if known == id));
        assert_eq!(store.accept(ask("k", 2)).await.unwrap_err(), StoreError::IdempotencyConflict(id));
        assert_ne!(accept(&store, "other", 1).await, id);
    });
}

#[test]
fn a_token_is_used_once() {
    for_each_store(|store| async move {
        let first = ask("k", 1);
        let mut replay = ask("k2", 1);
        replay.claims.jti.clone_from(&first.claims.jti);
        store.accept(first).await.unwrap();
        assert_eq!(store.accept(replay.clone()).await.unwrap_err(), StoreError::TokenReplayed);
        // Nothing of the replay is left: the key is free.
        replay.claims.jti = "fresh".to_owned();
        assert!(matches!(store.accept(replay).await, Ok(Accepted::New(_))));
    });
}

#[test]
fn a_conflict_uses_up_no_token() {
    for_each_store(|store| async move {
        accept(&store, "k", 1).await;
        let mut ask = ask("k", 2);
        assert!(store.accept(ask.clone()).await.is_err());
        ask.idempotency_key = "k2".parse().unwrap();
        assert!(matches!(store.accept(ask).await, Ok(Accepted::New(_))));
    });
}

#[test]
fn a_refusal_burns_no_key() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        judge(&store, id, State::Rejected).await;
        let again = accept(&store, "k", 1).await;
        assert_ne!(again, id);
        assert_eq!(store.accept(ask("k", 2)).await.unwrap_err(), StoreError::IdempotencyConflict(again));
        assert_eq!(store.get(id).await.unwrap().unwrap().state, State::Rejected, "the refused record stays");
    });
}

#[test]
fn what_was_signed_burns_its_key_for_good() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        to_signed(&store, id, 7).await;
        store.broadcasting(id, 7).await.unwrap();
        store.observed(id, State::Broadcasting, State::Expired, None, Some(reason("expired")), 8).await.unwrap();
        assert!(matches!(store.accept(ask("k", 1)).await, Ok(Accepted::Known(known)) if known == id));
    });
}

#[test]
fn a_slot_serves_one_payment() {
    for_each_store(|store| async move {
        let (one, two) = (accept(&store, "one", 1).await, accept(&store, "two", 1).await);
        judge(&store, one, State::Queued).await;
        judge(&store, two, State::Queued).await;
        freeze(&store, one, 0).await.unwrap();
        assert_eq!(freeze(&store, two, 0).await.unwrap_err(), StoreError::SlotTaken(slot(0)));
        assert!(store.get(two).await.unwrap().unwrap().attempts.is_empty(), "a refused freeze leaves nothing");
        assert_eq!(store.busy(network()).await.unwrap(), BTreeSet::from([slot(0)]));

        store.thaw(one, 5).await.unwrap();
        assert!(store.get(one).await.unwrap().unwrap().attempts.is_empty());
        freeze(&store, two, 0).await.unwrap();
    });
}

#[test]
fn a_burned_slot_is_never_given_back() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        judge(&store, id, State::Queued).await;
        freeze(&store, id, 0).await.unwrap();
        store.burn(id, 5).await.unwrap();
        assert!(matches!(store.thaw(id, 6).await, Err(StoreError::Stale { .. })));
        let end = store.abandon(id, State::Signing, State::Cancelled, reason("x"), 6).await;
        assert!(matches!(end, Err(StoreError::NoSuchArrow { .. })));
        let two = accept(&store, "two", 1).await;
        judge(&store, two, State::Queued).await;
        assert_eq!(freeze(&store, two, 0).await.unwrap_err(), StoreError::SlotTaken(slot(0)));
    });
}

#[test]
fn nothing_is_signed_without_a_slot() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        assert!(freeze(&store, id, 0).await.is_err(), "not judged");
        judge(&store, id, State::Queued).await;
        assert!(store.burn(id, 5).await.is_err(), "not frozen");
        assert!(store.broadcasting(id, 5).await.is_err(), "not signed");
        let record = store.get(id).await.unwrap().unwrap();
        assert_eq!((record.state, record.exposure), (State::Queued, Exposure::None));
    });
}

#[test]
fn the_whole_walk_with_a_reorg() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        to_signed(&store, id, 3).await;
        store.broadcasting(id, 7).await.unwrap();
        let inclusion = Inclusion {
            height: 10,
            block: Some("0xaa".to_owned()),
            confirmations: 1,
            finalized: false,
            succeeded: true,
            failure: None,
            fee: Some(Amount::from_sat(21)),
        };
        let walk = [
            (State::Broadcasting, State::InMempool, None),
            (State::InMempool, State::Included, Some(inclusion.clone())),
            (State::Included, State::InMempool, None),
            (State::InMempool, State::Confirmed, Some(inclusion.clone())),
            (State::Confirmed, State::Finalized, Some(inclusion.clone())),
        ];
        for (from, to, inclusion) in walk {
            store.observed(id, from, to, inclusion, None, 8).await.unwrap();
        }
        let record = store.get(id).await.unwrap().unwrap();
        assert_eq!((record.state, record.exposure), (State::Finalized, Exposure::Certain));
        let attempt = record.attempt().unwrap();
        assert_eq!(attempt.signed.as_ref().unwrap().bytes, [4, 5, 6]);
        assert_eq!(attempt.inclusion, Some(inclusion));
        assert_eq!(attempt.slots, BTreeSet::from([slot(3)]));
        let states: Vec<_> = record.history.iter().map(|event| event.state).collect();
        assert_eq!(states.first(), Some(&State::Received));
        assert_eq!(states.last(), Some(&State::Finalized));
        assert!(store.active(network()).await.unwrap().is_empty());
        assert!(store.busy(network()).await.unwrap().is_empty(), "the chain itself has used the slot up");
        assert!(store.observed(id, State::Finalized, State::InMempool, None, None, 9).await.is_err());
    });
}

#[test]
fn a_stale_step_writes_nothing() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        to_signed(&store, id, 3).await;
        let events = store.get(id).await.unwrap().unwrap().history.len();
        assert!(matches!(
            store.observed(id, State::Broadcasting, State::Included, None, None, 8).await,
            Err(StoreError::Stale { found: State::Signed, .. })
        ));
        let record = store.get(id).await.unwrap().unwrap();
        assert_eq!((record.state, record.history.len()), (State::Signed, events));
    });
}

#[test]
fn notes_are_written_once() {
    for_each_store(|store| async move {
        let id = accept(&store, "k", 1).await;
        let events = store.get(id).await.unwrap().unwrap().history.len();
        for _ in 0..3 {
            store.note(id, Some(reason("node_unreachable")), 2).await.unwrap();
        }
        let record = store.get(id).await.unwrap().unwrap();
        assert_eq!(record.reason, Some(reason("node_unreachable")));
        assert_eq!(record.history.len(), events + 1);
        store.note(id, None, 3).await.unwrap();
        assert_eq!(store.get(id).await.unwrap().unwrap().reason, None);
    });
}

#[test]
fn lists_are_filtered_and_newest_first() {
    for_each_store(|store| async move {
        let mut ids = Vec::new();
        for number in 0..5 {
            ids.push(accept(&store, &format!("k{number}"), 1).await);
        }
        judge(&store, ids[1], State::Rejected).await;
        let all = Filter { client: None, wallet: None, state: None, before: None, limit: 10 };
        let list = |filter: Filter| {
            let store = Arc::clone(&store);
            async move { store.list(filter).await.unwrap().into_iter().map(|r| r.id).collect::<Vec<_>>() }
        };
        let newest_first: Vec<_> = ids.iter().rev().copied().collect();
        assert_eq!(list(all.clone()).await, newest_first);
        assert_eq!(list(Filter { before: Some(ids[2]), ..all.clone() }).await, [ids[1], ids[0]]);
        assert_eq!(list(Filter { state: Some(State::Rejected), ..all.clone() }).await, [ids[1]]);
        assert_eq!(list(Filter { limit: 2, ..all.clone() }).await, [ids[4], ids[3]]);
        assert!(list(Filter { client: Some("nobody".parse().unwrap()), ..all.clone() }).await.is_empty());
        assert!(list(Filter { wallet: Some("nothing".to_owned()), ..all }).await.is_empty());
    });
}

#[test]
fn a_hundred_at_once_with_one_key_are_one() {
    for_each_store(|store| async move {
        let asks = (0..100).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.accept(ask("same", 1)).await.unwrap() })
        });
        let mut new = 0;
        for answer in futures::future::join_all(asks).await {
            new += usize::from(matches!(answer.unwrap(), Accepted::New(_)));
        }
        assert_eq!(new, 1);
    });
}

#[test]
fn chain_changes_come_back_in_order() {
    for_each_store(|store| async move {
        let other: Network = "bitcoin:regtest".parse().unwrap();
        for byte in 0..3 {
            store.save_chain_changes(other, 0, vec![byte]).await.unwrap();
        }
        store.save_chain_changes(other, 1, vec![9]).await.unwrap();
        assert_eq!(store.chain_changes(other, 0).await.unwrap(), [[0], [1], [2]]);
    });
}

#[test]
fn a_store_opens_again_with_everything_in_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    runtime.block_on(async {
        let store: Shop = Arc::new(SqliteStore::open(&path).unwrap());
        let id = accept(&store, "k", 1).await;
        to_signed(&store, id, 3).await;
        let before = store.get(id).await.unwrap();
        drop(store);
        let store: Shop = Arc::new(SqliteStore::open(&path).unwrap());
        assert_eq!(store.get(id).await.unwrap(), before);
        assert_eq!(store.active(network()).await.unwrap(), [id]);
    });
}

#[test]
fn a_later_versions_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 999).unwrap();
    drop(later);
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Corrupt(_))));
    std::fs::write(dir.path().join("noise"), b"this is no database, but it is long enough to be looked at").unwrap();
    assert!(SqliteStore::open(&dir.path().join("noise")).is_err());
}
