//! The databases that the suite runs on, and short words for what its tests do.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use chains::amount::Amount;
use chains::chain::{Replacement, Slot};
use chains::client::Inclusion;
use chains::intent::Intent;
use chains::network::Network;
use gateway::record::{Event, Exposure, Reason, Record, RecordId, SignedBytes, State};
use gateway::store::postgres::PostgresStore;
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Accepted, Draw, GatewayId, Hold, Judgement, NewIntent, Sight, Store, StoreError};
use serde_json::json;
use signer::request::{Claims, SignedRequest};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

pub(crate) type Shop = Arc<dyn Store>;

/// The connections of one store in these tests.
const CONNECTIONS: u32 = 8;

/// One empty database, which any number of gateways can open.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Place {
    /// Opens it as one more gateway, or as one that was started again.
    pub(crate) async fn open(&self) -> Shop {
        match self {
            Self::Sqlite(path) => Arc::new(SqliteStore::open(path).unwrap()),
            Self::Postgres(url) => Arc::new(PostgresStore::open(url, CONNECTIONS).await.unwrap()),
        }
    }
}

/// The PostgreSQL that the tests may use, if there is one: `PORTCULLIS_POSTGRES=postgres://user@host:port/database`.
pub(crate) fn postgres() -> Option<String> {
    let url = std::env::var("PORTCULLIS_POSTGRES").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        println!("PORTCULLIS_POSTGRES isn't set: this ran on SQLite alone");
    }
    url
}

/// A schema of its own in the PostgreSQL of the tests. It stays there when its test fails.
pub(crate) struct Schema {
    admin: String,
    name: String,
}

impl Schema {
    pub(crate) async fn new(admin: String) -> Self {
        let name = format!("t{}", Uuid::now_v7().simple());
        let schema = Self { admin, name };
        schema.run(format!("CREATE SCHEMA {}", schema.name)).await;
        schema
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(&self.admin)
    }

    /// The same schema over another way to the server.
    pub(crate) fn url_at(&self, server: &str) -> String {
        let sep = if server.contains('?') { '&' } else { '?' };
        format!("{server}{sep}options[search_path]={}&application_name={}", self.name, self.name)
    }

    pub(crate) async fn run(&self, sql: String) {
        let mut admin = PgConnection::connect(&self.admin).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        admin.close().await.unwrap();
    }

    /// Ends every connection that gateways have to it, whatever they are doing.
    pub(crate) async fn hang_up(&self) {
        let name = &self.name;
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
        self.run(sql).await;
    }

    /// How many connections that gateways have to it wait amid a transaction.
    pub(crate) async fn in_transaction(&self) -> i64 {
        let mut admin = PgConnection::connect(&self.admin).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE application_name = $1 AND state = 'idle in transaction' AND query LIKE '%FOR UPDATE%'";
        sqlx::query_scalar(sql).bind(&self.name).fetch_one(&mut admin).await.unwrap()
    }

    pub(crate) async fn done(self) {
        self.run(format!("SET client_min_messages = error; DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Runs one test on every kind of database, each time on a fresh one.
pub(crate) fn for_each_place<F: Future<Output = ()>>(test: impl Fn(Place) -> F) {
    let dir = tempfile::tempdir().unwrap();
    run(test(Place::Sqlite(dir.path().join("gateway.sqlite"))));
    if let Some(admin) = postgres() {
        run(async {
            let schema = Schema::new(admin).await;
            test(Place::Postgres(schema.url())).await;
            schema.done().await;
        });
    }
}

/// Runs one test for every store.
pub(crate) fn for_each_store<F: Future<Output = ()>>(test: impl Fn(Shop) -> F) {
    for_each_place(|place| {
        let test = &test;
        async move { test(place.open().await).await }
    });
}

pub(crate) fn network() -> Network {
    "ethereum:31337".parse().unwrap()
}

pub(crate) fn gateway(name: &str) -> GatewayId {
    name.parse().unwrap()
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

pub(crate) fn claims() -> Claims {
    Claims {
        sub: "trader".parse().unwrap(),
        aud: None,
        uri: "/".to_owned(),
        jti: Uuid::now_v7().to_string(),
        iat: 1_000,
        exp: 1_030,
        body_hash: String::new(),
    }
}

pub(crate) fn ask(key: &str, amount: u64) -> NewIntent {
    NewIntent {
        id: RecordId::new(Uuid::now_v7()),
        claims: claims(),
        idempotency_key: key.parse().unwrap(),
        network: network(),
        intent: intent(amount),
        deal: None,
        request: SignedRequest { token: "token".to_owned(), body: b"body".to_vec() },
        owner: gateway("a"),
        at: 1_000_000,
        until: 1_010_000,
    }
}

pub(crate) async fn accept(store: &Shop, key: &str, amount: u64) -> Hold {
    match store.accept(ask(key, amount)).await.unwrap() {
        Accepted::New(hold) => hold,
        Accepted::Known(id) => panic!("{key} is known as {id}"),
    }
}

pub(crate) async fn get(store: &Shop, hold: Hold) -> Record {
    store.get(hold.id).await.unwrap().unwrap()
}

pub(crate) fn reason(kind: &str) -> Reason {
    Reason { kind: kind.to_owned(), message: kind.to_owned(), rule: None }
}

pub(crate) async fn judge_with(store: &Shop, hold: Hold, state: State, draws: Vec<Draw>) -> Result<(), StoreError> {
    let step = Event { at: 2, state: State::Screening, detail: None };
    let reason = (state != State::Queued).then(|| reason("because"));
    store.judge(hold, vec![step], Judgement { state, reason, detail: None, draws, at: 3 }).await
}

pub(crate) async fn judge(store: &Shop, hold: Hold, state: State) {
    judge_with(store, hold, state, Vec::new()).await.unwrap();
}

pub(crate) fn draw(counter: &str, amount: u64, max: u64) -> Draw {
    Draw {
        counter: counter.to_owned(),
        bucket: 100,
        since: 77,
        amount: Amount::from_sat(amount),
        max_amount: Some(Amount::from_sat(max)),
        max_count: None,
    }
}

pub(crate) fn slot(nonce: u64) -> Slot {
    format!("ethereum:31337/0xabc/{nonce}").parse().unwrap()
}

pub(crate) fn slots(nonces: impl IntoIterator<Item = u64>) -> BTreeSet<Slot> {
    nonces.into_iter().map(slot).collect()
}

pub(crate) async fn freeze(store: &Shop, hold: Hold, nonce: u64) -> Result<u32, StoreError> {
    store.freeze(hold, vec![1, 2, 3], slots([nonce]), 4).await
}

pub(crate) async fn sign(store: &Shop, hold: Hold, number: u32) -> Result<(), StoreError> {
    let signed = SignedBytes { bytes: vec![4, 5, 6], id: format!("{}-{number}", hold.id) };
    store.signed(hold, number, signed, json!({ "signers": ["a", "b"] }), 6).await
}

pub(crate) async fn to_signing(store: &Shop, hold: Hold, nonce: u64) {
    judge(store, hold, State::Queued).await;
    freeze(store, hold, nonce).await.unwrap();
    store.burn(hold, 5).await.unwrap();
}

pub(crate) async fn to_signed(store: &Shop, hold: Hold, nonce: u64) {
    to_signing(store, hold, nonce).await;
    sign(store, hold, 1).await.unwrap();
}

pub(crate) async fn to_broadcasting(store: &Shop, hold: Hold, nonce: u64) {
    to_signed(store, hold, nonce).await;
    store.sending(hold, 1, 7).await.unwrap();
}

/// What tracking sees, with the exposure that mostly follows from the state.
pub(crate) fn sight(from: State, to: State) -> Sight {
    let reason = to.is_terminal().then(|| reason(to.as_str())).filter(|_| to != State::Finalized);
    Sight { from, to, attempt: 1, inclusion: None, exposure: Exposure::of(to), reason, at: 8 }
}

pub(crate) async fn observe(store: &Shop, hold: Hold, from: State, to: State) -> Result<(), StoreError> {
    store.observed(hold, sight(from, to)).await
}

pub(crate) fn inclusion(height: u64) -> Inclusion {
    Inclusion {
        height,
        block: Some(format!("0x{height:x}")),
        confirmations: 1,
        finalized: false,
        succeeded: true,
        failure: None,
        fee: Some(Amount::from_sat(21)),
    }
}

pub(crate) async fn replace(
    store: &Shop,
    hold: Hold,
    purpose: Replacement,
    nonces: impl IntoIterator<Item = u64>,
) -> Result<u32, StoreError> {
    store.replace(hold, purpose, vec![7, 8, 9], slots(nonces), 9).await
}

pub(crate) async fn cancel(store: &Shop, hold: Hold) -> Result<gateway::store::Cancelling, StoreError> {
    let request = SignedRequest { token: "cancel-token".to_owned(), body: b"cancel".to_vec() };
    store.cancel(hold.id, claims(), request, 11).await
}
