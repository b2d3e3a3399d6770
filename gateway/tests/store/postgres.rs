//! PostgreSQL alone: servers that go away, answers that are lost, gateways that start at once. A proxy between store and
//! server makes the weather.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gateway::record::State;
use gateway::store::postgres::PostgresStore;
use gateway::store::{Accepted, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::{
    Schema, Shop, accept, ask, draw, freeze, get, judge_with, network, postgres, run, sign, to_broadcasting,
};

/// The way to the server.
struct Proxy {
    url: String,
    mood: Arc<AtomicU8>,
    /// Raised to end every connection.
    cut: watch::Sender<u64>,
}

const OPEN: u8 = 0;
/// Connections are closed as soon as they are made.
const CLOSED: u8 = 1;
/// Commits reach the server; their answers don't come back.
const DEAF: u8 = 2;
/// What follows upon a write of a record's reason is held up, as by a gateway that is paused there.
const PAUSED: u8 = 3;

impl Proxy {
    /// A way to the server of the URL, which is `postgres://user@host:port/database`.
    async fn start(server: &str) -> Self {
        let (user, rest) = server.split_once('@').unwrap();
        let (address, database) = rest.split_once('/').unwrap();
        let address = address.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{database}", listener.local_addr().unwrap());
        let mood = Arc::new(AtomicU8::new(OPEN));
        let (cut, cuts) = watch::channel(0);
        let moods = Arc::clone(&mood);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if moods.load(Ordering::SeqCst) != CLOSED {
                    let server = TcpStream::connect(&address).await.unwrap();
                    tokio::spawn(carry(client, server, Arc::clone(&moods), cuts.clone()));
                }
            }
        });
        Self { url, mood, cut }
    }

    fn set(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    /// Ends every connection, as when the server is killed.
    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mood: Arc<AtomicU8>, mut cuts: watch::Receiver<u64>) {
    cuts.mark_unchanged();
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            biased;
            _ = cuts.changed() => return,
            read = client.read(&mut up) => {
                let Ok(count @ 1..) = read else { return };
                let pauses = up[..count].windows(24).any(|word| word == b"UPDATE record SET reason");
                if pauses && mood.load(Ordering::SeqCst) == PAUSED {
                    let _ = cuts.changed().await;
                    return;
                }
                let commits = says_commit(&up[..count]);
                if server.write_all(&up[..count]).await.is_err() {
                    return;
                }
                if commits && mood.load(Ordering::SeqCst) == DEAF {
                    // It is done once the server says so.
                    loop {
                        let Ok(count @ 1..) = server.read(&mut down).await else { return };
                        if says_commit(&down[..count]) {
                            return;
                        }
                    }
                }
            }
            read = server.read(&mut down) => {
                let Ok(count @ 1..) = read else { return };
                if client.write_all(&down[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether a client asks for it, or a server says that it is done.
fn says_commit(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|word| word == b"COMMIT\0") // not READ COMMITTED
}

#[test]
fn gateways_that_start_at_once_on_an_empty_database_make_its_tables_once() {
    let Some(admin) = postgres() else { return };
    run(async {
        let schema = Schema::new(admin).await;
        let url = schema.url();
        let stores = futures::future::join_all((0..6).map(|_| PostgresStore::open(&url, 2))).await;
        let stores: Vec<Shop> = stores.into_iter().map(|store| Arc::new(store.unwrap()) as Shop).collect();
        for (number, store) in stores.iter().enumerate() {
            accept(store, &format!("k{number}"), 1).await;
        }
        assert_eq!(stores[0].active(network()).await.unwrap().len(), 6);
        schema.done().await;
    });
}

#[test]
fn a_later_versions_database_a_careless_server_and_a_wrong_url_are_refused() {
    let Some(admin) = postgres() else { return };
    run(async {
        let schema = Schema::new(admin).await;
        let url = schema.url();
        let careless = format!("{url}&options[synchronous_commit]=off");
        assert!(matches!(PostgresStore::open(&careless, 1).await, Err(StoreError::Database(_))));
        drop(PostgresStore::open(&url, 1).await.unwrap());
        schema.run(format!("UPDATE {}.schema_version SET version = 999", schema.name())).await;
        assert!(matches!(PostgresStore::open(&url, 1).await, Err(StoreError::Corrupt(_))));
        schema.done().await;
        for wrong in ["", "nonsense", "mysql://u@h/d", "postgres://u@127.0.0.1:1/d"] {
            assert!(matches!(PostgresStore::open(wrong, 1).await, Err(StoreError::Database(_))), "{wrong:?}");
        }
    });
}

#[test]
fn a_server_that_goes_away_fails_typed_and_is_found_again() {
    let Some(admin) = postgres() else { return };
    run(async {
        let proxy = Proxy::start(&admin).await;
        let schema = Schema::new(admin).await;
        let store: Shop = Arc::new(PostgresStore::open(&schema.url_at(&proxy.url), 4).await.unwrap());
        let hold = accept(&store, "before", 1).await;
        proxy.set(CLOSED);
        proxy.cut();
        let (refused, unread) = futures::join!(store.accept(ask("during", 1)), store.get(hold.id));
        assert!(matches!(&refused, Err(error @ StoreError::Database(_)) if error.is_transient()), "{refused:?}");
        assert!(matches!(unread, Err(StoreError::Database(_))), "{unread:?}");
        proxy.set(OPEN);
        assert_eq!(get(&store, hold).await.state, State::Received);
        to_broadcasting(&store, hold, 1).await;
        accept(&store, "during", 1).await;
        schema.done().await;
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_no_success_and_the_step_is_safe_to_repeat() {
    let Some(admin) = postgres() else { return };
    run(async {
        let proxy = Proxy::start(&admin).await;
        let schema = Schema::new(admin).await;
        let store: Shop = Arc::new(PostgresStore::open(&schema.url_at(&proxy.url), 4).await.unwrap());
        macro_rules! deaf {
            ($call:expr) => {{
                proxy.set(DEAF);
                let outcome = $call;
                proxy.set(OPEN);
                assert!(matches!(outcome, Err(StoreError::Database(_))), "{outcome:?}");
            }};
        }
        deaf!(store.accept(ask("k", 1)).await);
        let stored = store.accept(ask("k", 1)).await.unwrap();
        let Accepted::Known(id) = stored else { panic!("{stored:?}") };
        // Its gateway doesn't know of the lease, and takes the record over once that has run out.
        let hold = store.claim(&"a".parse().unwrap(), network(), 1_010_001, 2_000_000, 9).await.unwrap()[0];
        assert_eq!(hold.id, id);

        deaf!(judge_with(&store, hold, State::Queued, vec![draw("c", 5, 10)]).await);
        let repeated = judge_with(&store, hold, State::Queued, vec![draw("c", 5, 10)]).await;
        assert!(matches!(repeated, Err(StoreError::Stale { found: State::Queued, .. })));
        assert_eq!(store.usage("c", 0, 1_000).await.unwrap().count, 1, "drawn once");
        deaf!(freeze(&store, hold, 1).await);
        store.thaw(hold, 5).await.unwrap();
        freeze(&store, hold, 2).await.unwrap();
        deaf!(store.burn(hold, 5).await);
        assert!(matches!(store.burn(hold, 5).await, Err(StoreError::Stale { found: State::Signing, .. })));
        deaf!(sign(&store, hold, 1).await);
        sign(&store, hold, 1).await.unwrap();
        deaf!(store.sending(hold, 1, 7).await);
        store.sending(hold, 1, 8).await.unwrap();
        assert_eq!(get(&store, hold).await.attempt().unwrap().sent_at, Some(7));
        schema.done().await;
    });
}

#[test]
fn connections_that_end_amid_the_work_leave_nothing_half_done() {
    let Some(admin) = postgres() else { return };
    run(async {
        let schema = Schema::new(admin).await;
        let store: Shop = Arc::new(PostgresStore::open(&schema.url(), 8).await.unwrap());
        let work: Vec<_> = (0..60_u64)
            .map(|number| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let key = format!("k{number}");
                    // As a client would: the same key until there is an answer.
                    let id = loop {
                        match store.accept(ask(&key, 1)).await {
                            Ok(Accepted::New(hold)) => break hold.id,
                            Ok(Accepted::Known(id)) => break id,
                            Err(StoreError::Database(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    };
                    let hold = gateway::store::Hold { id, fence: 1 };
                    loop {
                        match judge_with(&store, hold, State::Queued, vec![draw("c", 1, 1_000)]).await {
                            Ok(()) | Err(StoreError::Stale { found: State::Queued, .. }) => return id,
                            Err(StoreError::Database(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            schema.hang_up().await;
            tokio::task::yield_now().await;
        }
        let mut ids = Vec::new();
        for done in work {
            ids.push(done.await.unwrap());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 60);
        assert_eq!(store.active(network()).await.unwrap(), ids);
        assert_eq!(store.usage("c", 0, 1_000).await.unwrap().count, 60, "each drew once");
        for id in ids {
            let record = store.get(id).await.unwrap().unwrap();
            assert_eq!((record.state, record.history.len()), (State::Queued, 3));
        }
        schema.done().await;
    });
}

#[test]
fn a_gateway_that_is_paused_amid_a_transaction_loses_its_locks_and_writes_nothing() {
    let Some(admin) = postgres() else { return };
    run(async {
        let proxy = Proxy::start(&admin).await;
        let schema = Schema::new(admin).await;
        let paused: Shop = Arc::new(PostgresStore::open(&schema.url_at(&proxy.url), 1).await.unwrap());
        let awake: Shop = Arc::new(PostgresStore::open(&schema.url(), 4).await.unwrap());
        let hold = accept(&paused, "k", 1).await;
        proxy.set(PAUSED);
        let stuck = Arc::clone(&paused);
        let stuck = tokio::spawn(async move { stuck.note(hold, Some(crate::world::reason("stale")), 5).await });
        while schema.in_transaction().await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        // It has the lock of the row. Others don't take what it is at, until the server takes the lock away from it.
        let claim = || async { awake.claim(&"b".parse().unwrap(), network(), 1_010_001, 2_000_000, 9).await.unwrap() };
        assert!(claim().await.is_empty());
        while schema.in_transaction().await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let taken = claim().await[0];
        assert_eq!(taken.id, hold.id);
        awake.note(taken, Some(crate::world::reason("fresh")), 6).await.unwrap();
        proxy.set(OPEN);
        proxy.cut();
        assert!(matches!(stuck.await.unwrap(), Err(StoreError::Database(_))));
        let stale = paused.note(hold, Some(crate::world::reason("stale")), 7).await;
        assert_eq!(stale, Err(StoreError::Fenced(hold.id)));
        assert_eq!(get(&awake, hold).await.reason, Some(crate::world::reason("fresh")));
        schema.done().await;
    });
}

#[test]
fn a_caller_that_goes_away_amid_a_step_leaves_no_lock_behind() {
    let Some(admin) = postgres() else { return };
    run(async {
        let schema = Schema::new(admin).await;
        // One connection: were it left in a transaction, nobody else could go on.
        let store = PostgresStore::open(&schema.url(), 1).await.unwrap();
        let shop: Shop = Arc::new(store);
        let hold = accept(&shop, "k", 1).await;
        for polls in 1..40 {
            let mut step = Box::pin(shop.note(hold, Some(crate::world::reason(&format!("r{polls}"))), 1));
            for _ in 0..polls {
                let _ = futures::poll!(step.as_mut());
                tokio::task::yield_now().await;
            }
            drop(step);
        }
        judge_with(&shop, hold, State::Queued, Vec::new()).await.unwrap();
        assert_eq!(get(&shop, hold).await.state, State::Queued);
        schema.done().await;
    });
}
