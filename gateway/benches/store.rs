//! How many intents a second become durable.
//!
//! `cargo bench -p gateway --bench store` accepts intents with 1, 8, 64 and 256 in flight and prints a table: SQLite with
//! `synchronous=FULL`, whose writer commits all that have come together at once, and PostgreSQL where
//! `PORTCULLIS_POSTGRES` names a server. An intent counts once its transaction is on disk. The second table is the life of a
//! payment up to `broadcasting`: six transactions each. `BENCH_SECONDS` is how long each cell runs, 3 s by default;
//! `BENCH_FOLDER` is where the SQLite file is, so that it lies on the disk that is meant.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    reason = "a bench states its assumptions bluntly, and its figures are for people"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chains::amount::Amount;
use chains::intent::Intent;
use gateway::record::{RecordId, SignedBytes, State};
use gateway::store::postgres::PostgresStore;
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Accepted, Draw, Hold, Judgement, NewIntent, Store};
use serde_json::json;
use signer::request::{Claims, SignedRequest};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

const IN_FLIGHT: [usize; 4] = [1, 8, 64, 256];
const AT: u64 = 1_763_683_200_000;

/// What is measured.
#[derive(Clone, Copy)]
enum Work {
    /// T1 alone.
    Accept,
    /// T1 to `broadcasting`, with a draw from one limit of a wallet.
    Life,
}

fn main() {
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let folder =
        std::env::var_os("BENCH_FOLDER").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (work, name) in [(Work::Accept, "intents accepted"), (Work::Life, "payments from accepted to broadcasting")]
        {
            println!(
                "\n{name}\n{:<12} {:>9} {:>11} {:>9} {:>9}",
                "store", "in flight", "per second", "p50 ms", "p99 ms"
            );
            for in_flight in IN_FLIGHT {
                let dir = tempfile::tempdir_in(&folder).unwrap();
                let store = SqliteStore::open(&dir.path().join("gateway.sqlite")).unwrap();
                measure("sqlite", Arc::new(store), work, in_flight, Duration::from_secs(seconds)).await;
            }
            let Ok(admin) = std::env::var("PORTCULLIS_POSTGRES") else {
                println!("postgres: PORTCULLIS_POSTGRES names no server");
                continue;
            };
            for in_flight in IN_FLIGHT {
                let schema = format!("bench{}", Uuid::now_v7().simple());
                let mut connection = PgConnection::connect(&admin).await.unwrap();
                run(&mut connection, format!("CREATE SCHEMA {schema}")).await;
                let sep = if admin.contains('?') { '&' } else { '?' };
                let url = format!("{admin}{sep}options[search_path]={schema}");
                let store = PostgresStore::open(&url, 16).await.unwrap();
                measure("postgres", Arc::new(store), work, in_flight, Duration::from_secs(seconds)).await;
                run(&mut connection, format!("DROP SCHEMA {schema} CASCADE")).await;
            }
        }
    });
}

async fn run(connection: &mut PgConnection, sql: String) {
    let sql = format!("SET client_min_messages = error; {sql}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Keeps so many in flight for so long, and prints what came of it.
async fn measure(name: &str, store: Arc<dyn Store>, work: Work, in_flight: usize, time: Duration) {
    let next = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begin.elapsed() < time {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let start = Instant::now();
                    let hold = accept(store.as_ref(), number).await;
                    if let Work::Life = work {
                        live(store.as_ref(), hold, number).await;
                    }
                    took.push(start.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    let rate = took.len() as f64 / begin.elapsed().as_secs_f64();
    took.sort_unstable();
    let millis = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)].as_secs_f64() * 1_000.0;
    println!("{name:<12} {in_flight:>9} {rate:>11.0} {:>9.2} {:>9.2}", millis(50), millis(99));
}

async fn accept(store: &dyn Store, number: u64) -> Hold {
    let intent: Intent = serde_json::from_value(json!({
        "wallet": "treasury",
        "action": {
            "kind": "transfer", "asset": "native",
            "to": "0x52908400098527886E0F7030069857D2E4169EE7", "amount": "1",
        },
    }))
    .unwrap();
    let new = NewIntent {
        id: RecordId::new(Uuid::now_v7()),
        claims: Claims {
            sub: "trader".parse().unwrap(),
            aud: None,
            uri: "/".to_owned(),
            jti: Uuid::now_v7().to_string(),
            iat: AT / 1_000,
            exp: AT / 1_000 + 30,
            body_hash: "0".repeat(64),
        },
        idempotency_key: format!("key-{number}").parse().unwrap(),
        network: "ethereum:1".parse().unwrap(),
        intent,
        deal: None,
        // As long as a real one.
        request: SignedRequest { token: "t".repeat(400), body: vec![b'b'; 300] },
        owner: "bench".parse().unwrap(),
        at: AT,
        until: AT + 10_000,
    };
    match store.accept(new).await.unwrap() {
        Accepted::New(hold) => hold,
        Accepted::Known(id) => panic!("{id} is known"),
    }
}

/// The steps from the verdict to the first send.
async fn live(store: &dyn Store, hold: Hold, number: u64) {
    let draw = Draw {
        counter: "treasury/native/day".to_owned(),
        bucket: AT / 3_600_000,
        since: AT / 3_600_000 - 23,
        amount: Amount::from_wei(1),
        max_amount: Some(Amount::MAX),
        max_count: None,
    };
    let verdict = Judgement { state: State::Queued, reason: None, detail: None, draws: vec![draw], at: AT };
    store.judge(hold, Vec::new(), verdict).await.unwrap();
    let slot = format!("ethereum:1/0x52908400098527886e0f7030069857d2e4169ee7/{number}").parse().unwrap();
    store.freeze(hold, vec![2; 120], BTreeSet::from([slot]), AT).await.unwrap();
    store.burn(hold, AT).await.unwrap();
    let signed = SignedBytes { bytes: vec![3; 190], id: format!("0x{number:064x}") };
    store.signed(hold, 1, signed, json!({ "signers": ["a", "b"] }), AT).await.unwrap();
    store.sending(hold, 1, AT).await.unwrap();
}
