//! SQLite alone: older databases, and hard weather: a full disk, a locked, removed or damaged file. Every time the error is
//! typed, nothing is half written, and once it is mended the same store goes on.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use chains::amount::Amount;
use gateway::record::{Exposure, Purpose, State};
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Accepted, Filter, Hold, StoreError};
use rusqlite::Connection;

use crate::world::{
    Shop, accept, ask, cancel, draw, gateway, get, judge_with, network, observe, run, sign, slot, slots,
    to_broadcasting,
};

/// A database of version 1 with a record in every state that a record rests in.
const VERSION_1: &str = include_str!("version-1.sql");

fn open(path: &Path) -> Shop {
    Arc::new(SqliteStore::open(path).unwrap())
}

#[test]
fn a_database_of_version_1_is_migrated_with_everything_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(VERSION_1).unwrap();
    let states: Vec<(String, String)> = old
        .prepare("SELECT id, state FROM record ORDER BY id DESC")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    drop(old);
    run(async {
        let store = open(&path);
        let all = Filter { client: None, wallet: None, state: None, deals: false, before: None, limit: 100 };
        let records = store.list(all).await.unwrap();
        let found: Vec<_> = records.iter().map(|record| (record.id.to_string(), record.state.to_string())).collect();
        assert_eq!(found, states);
        assert_eq!(records.len(), 18, "two are queued, one of them frozen");
        for record in &records {
            assert_eq!(record.exposure, Exposure::of(record.state), "{}", record.id);
            assert_eq!((record.cancel.is_some(), record.history.is_empty()), (false, false));
            let frozen = record.state >= State::Signing
                && !matches!(record.state, State::Rejected | State::Blocked | State::Cancelled | State::Replaced);
            assert!(!frozen || record.attempts.len() == 1, "{} is {}", record.id, record.state);
            for attempt in &record.attempts {
                assert_eq!((attempt.number, attempt.purpose), (1, Purpose::Pay));
                assert_eq!((&attempt.given_up, attempt.sent_at), (&None, None));
                assert_eq!(attempt.signed.is_some(), record.state > State::Signing, "{}", record.state);
            }
        }
        // Everything unfinished is claimed at once, and goes on.
        let active = records.iter().filter(|record| !record.state.is_terminal()).count();
        let holds = store.claim(&gateway("a"), network(), 5, 10_000, 100).await.unwrap();
        assert_eq!(holds.len(), active);
        assert!(holds.iter().all(|hold| hold.fence == 1));
        let held = |state: State| -> Hold {
            let record = records.iter().find(|record| record.state == state).unwrap();
            *holds.iter().find(|hold| hold.id == record.id).unwrap()
        };
        let received = held(State::Received);
        judge_with(&store, received, State::Queued, vec![draw("c", 1, 10)]).await.unwrap();
        sign(&store, held(State::Signing), 1).await.unwrap();
        store.sending(held(State::Signed), 1, 9).await.unwrap();
        observe(&store, held(State::InMempool), State::InMempool, State::Finalized).await.unwrap();
        assert!(matches!(cancel(&store, received).await, Ok(gateway::store::Cancelling::Done)));
        // Burned slots are burned, used keys and tokens are used.
        let burned = store.slots(network(), "ethereum:31337/").await.unwrap();
        assert_eq!(burned.iter().filter(|row| !row.burned).count(), 1, "that of the one that is frozen");
        let known = records.iter().find(|record| record.state == State::Finalized).unwrap();
        let mut again = ask(known.idempotency_key.as_str(), 1);
        again.claims.jti = "used".to_owned();
        assert_eq!(store.accept(again.clone()).await.unwrap_err(), StoreError::TokenReplayed);
        again.claims.jti = "fresh".to_owned();
        assert!(matches!(store.accept(again).await, Ok(Accepted::Known(id)) if id == known.id));
        assert_eq!(store.chain_changes(network(), 0).await.unwrap(), [vec![1, 2, 3]]);
        assert_eq!(store.usage("c", 0, u64::MAX).await.unwrap().amount, Amount::ZERO);
    });
}

#[test]
fn a_later_versions_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    let later = Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 999).unwrap();
    drop(later);
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Corrupt(_))));
    fs::write(dir.path().join("noise"), b"this is no database, but it is long enough to be looked at").unwrap();
    assert!(matches!(SqliteStore::open(&dir.path().join("noise")), Err(StoreError::Corrupt(_))));
    let nowhere = dir.path().join("no/such/folder/gateway.sqlite");
    assert!(matches!(SqliteStore::open(&nowhere), Err(StoreError::Database(_))));
}

#[test]
fn a_full_disk_fails_what_needs_room_and_is_over_when_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    run(async {
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        let shop: Shop = Arc::clone(&store) as Shop;
        let hold = accept(&shop, "before", 1).await;
        store.limit_pages(1).await.unwrap(); // no more than there are
        let before = get(&shop, hold).await;
        // Many at once, so that some of a group find room and are taken back with the others.
        let mut refused = 0;
        let mut stored = Vec::new();
        for round in 0..20 {
            let asks = (0..20).map(|number| {
                let shop = Arc::clone(&shop);
                tokio::spawn(async move {
                    let mut ask = ask(&format!("k{round}-{number}"), 1);
                    ask.request.body = vec![0; 2_000];
                    shop.accept(ask).await
                })
            });
            for answer in futures::future::join_all(asks).await {
                match answer.unwrap() {
                    Ok(Accepted::New(hold)) => stored.push(hold),
                    Err(error @ StoreError::Database(_)) => {
                        assert!(error.is_transient());
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(refused > 300, "{refused} were refused");
        for hold in stored {
            assert!(shop.get(hold.id).await.unwrap().is_some(), "what was accepted is there");
        }
        assert_eq!(get(&shop, hold).await, before, "reading goes on");
        store.limit_pages(100_000).await.unwrap();
        accept(&shop, "after", 1).await;
        to_broadcasting(&shop, hold, 1).await;
        assert_eq!(shop.busy(network()).await.unwrap(), slots([1]));
    });
}

#[test]
fn a_database_that_another_process_has_locked_is_waited_for_and_then_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    run(async {
        let store = open(&path);
        let hold = accept(&store, "before", 1).await;
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (one, two) = futures::join!(store.accept(ask("one", 1)), store.accept(ask("two", 1)));
        for refused in [one, two] {
            assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
        }
        assert_eq!(get(&store, hold).await.state, State::Received, "reading goes on");
        other.execute_batch("ROLLBACK").unwrap();
        accept(&store, "one", 1).await;
    });
}

#[test]
fn a_file_that_was_removed_is_noticed_and_the_store_goes_on_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    let aside = dir.path().join("aside.sqlite");
    run(async {
        let store = open(&path);
        let hold = accept(&store, "before", 1).await;
        fs::rename(&path, &aside).unwrap();
        let refused = store.accept(ask("lost", 1)).await;
        assert!(matches!(refused, Err(StoreError::Database(_))), "{refused:?}");
        fs::write(&path, b"").unwrap();
        assert!(
            matches!(store.accept(ask("lost", 1)).await, Err(StoreError::Database(_))),
            "another file in its place"
        );
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        accept(&store, "after", 1).await;
        to_broadcasting(&store, hold, 1).await;
        drop(store);
        assert_eq!(get(&open(&path), hold).await.state, State::Broadcasting);
    });
}

#[test]
fn a_damaged_file_is_named_and_the_store_goes_on_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.sqlite");
    run(async {
        let mut holds = Vec::new();
        let store = open(&path);
        for number in 0..300 {
            let mut ask = ask(&format!("k{number}"), 1);
            ask.request.body = vec![7; 3_000];
            match store.accept(ask).await.unwrap() {
                Accepted::New(hold) => holds.push(hold),
                Accepted::Known(id) => panic!("{id}"),
            }
        }
        drop(store);
        // Everything is in the one file, as after a stop.
        Connection::open(&path).unwrap().pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
        let store = open(&path);
        store.chain_changes(network(), 0).await.unwrap();

        let whole = fs::read(&path).unwrap();
        let mut broken = whole.clone();
        let from = broken.len() / 4;
        broken[from..].fill(0xA5);
        fs::write(&path, &broken).unwrap();
        let mut refused = 0;
        for hold in &holds {
            match store.note(*hold, Some(crate::world::reason("x")), 9).await {
                Ok(()) => {}
                Err(StoreError::Corrupt(_) | StoreError::Database(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            match store.get(hold.id).await {
                Ok(record) => assert!(record.is_some()),
                Err(StoreError::Corrupt(_) | StoreError::Database(_)) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            if refused > 20 {
                break; // some would be written into the broken pages' neighbours
            }
        }
        assert!(refused > 20, "{refused}");
        drop(store);

        // Mended from a copy, under another name: the broken one's writer may still be at its end.
        let mended = dir.path().join("mended.sqlite");
        fs::write(&mended, &whole).unwrap();
        let store = open(&mended);
        for hold in holds {
            assert_eq!(get(&store, hold).await.state, State::Received);
        }
        let hold = accept(&store, "after", 1).await;
        to_broadcasting(&store, hold, 7).await;
        assert_eq!(store.slots(network(), "").await.unwrap()[0].slot, slot(7));
    });
}
