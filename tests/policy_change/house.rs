//! A gateway with three signers and a simulated node in this process, which can all be stopped and started again, under a clock that the
//! test turns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chains::account::Account;
use chains::ethereum::{Ethereum, EthereumClient};
use chains::rpc::{Auth, RpcClient};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gateway::api::view::TxView;
use gateway::clock::{Clock, SystemClock};
use gateway::config::{ApprovalsConfig, ServerConfig};
use gateway::lane::NodeLane;
use gateway::nodes::Nodes;
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::replace::FeePolicy;
use gateway::pipeline::track::Tracking;
use gateway::pipeline::{NetworkLane, Parts, Pipeline};
use gateway::screening::{Screening, ScreeningConfig};
use gateway::server::{self, Listening};
use gateway::store::Store;
use gateway::store::postgres::PostgresStore;
use gateway::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use signer::approval::{Approval, Approver, Decision};
use signer::policy::change::ChangeStatement;
use signer::policy::document::Document;
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{Pool, SignerId, WalletSpec};
use signer::roster::{Credential, Role, Roster};
use signer::transport::{Transport, TransportError};
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::SolanaConfig;
use simulator::world::{World, WorldConfig};
use sqlx::Connection as _;
use tokio::io::AsyncWriteExt as _;

#[path = "../support/trio.rs"]
#[allow(dead_code, unreachable_pub, reason = "each house needs another part of it")]
mod trio;

use trio::PATIENCE;

/// A day, in milliseconds.
pub(crate) const DAY: u64 = 86_400_000;
pub(crate) const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
pub(crate) const OTHER: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";
pub(crate) const NOBODY: &str = "0xde709f2102306220921060314715629080e2fb77";
const SIGNERS: [&str; 3] = ["a", "b", "c"];

/// Everybody with a credential: role, person, groups.
const PEOPLE: [(&str, Role, &str, &[&str]); 8] = [
    ("trader", Role::Initiator, "tina", &[]),
    ("ada", Role::PolicyAdmin, "ada", &[]),
    ("ada-approves", Role::Approver, "ada", &["policy", "ciso"]),
    ("pat", Role::Approver, "pat", &["policy"]),
    ("paul", Role::PolicyAdmin, "paul", &["policy"]),
    ("cis", Role::Approver, "cis", &["ciso"]),
    ("fay", Role::Approver, "fay", &["finance"]),
    ("olga", Role::Auditor, "olga", &[]),
];

/// What the gateway believes in; the signers let the wallet pay the payee, and be changed in a day.
#[derive(Clone, Copy)]
pub(crate) enum Gateway {
    /// The same.
    Honest,
    /// That the wallet may pay these.
    Claims(&'static [&'static str]),
    /// The same as the signers, which is that somebody approves, and 500 base units in a day.
    Limited,
}

/// A clock that only the test turns, for gateway and signers alike.
#[derive(Debug)]
pub(crate) struct Time(AtomicU64);

impl Time {
    pub(crate) fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl signer::pool::Clock for Time {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Lines to signers that can be cut.
struct Lines {
    inner: Arc<dyn Transport>,
    cut: Arc<Mutex<BTreeSet<SignerId>>>,
}

impl Transport for Lines {
    fn call<'a>(
        &'a self,
        to: &'a SignerId,
        request: Vec<u8>,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        if self.cut.lock().unwrap().contains(to) {
            return async { Err(TransportError::Unreachable) }.boxed();
        }
        self.inner.call(to, request, deadline)
    }
}

pub(crate) struct House {
    gateway: Gateway,
    world: World,
    pub(crate) clock: Arc<Time>,
    cut: Arc<Mutex<BTreeSet<SignerId>>>,
    running: Running,
    postgres: Option<(String, String)>,
    http: reqwest::Client,
    dir: tempfile::TempDir,
}

/// What ends and starts again.
struct Running {
    pool: Arc<Pool>,
    pipeline: Arc<Pipeline>,
    listening: Listening,
    account: Account,
}

/// A policy that lets the wallet pay these, and be changed after a delay.
pub(crate) fn document(payees: &[&str], delay_seconds: u64) -> String {
    let changes = json!({ "require": "2 of policy and 1 of ciso", "delay_seconds": delay_seconds });
    json!({ "rules": [{ "id": "pay", "wallets": ["cold"], "addresses": payees }], "changes": changes }).to_string()
}

fn limited() -> String {
    let rule = json!({ "id": "pay", "wallets": ["cold"], "addresses": [PAYEE], "require": "1 of finance" });
    let limit =
        json!({ "id": "velocity", "wallets": ["cold"], "asset": "native", "window": "24h", "max_amount": "500" });
    json!({ "rules": [rule], "limits": [limit] }).to_string()
}

/// The policy of a section of a configuration that says the same as the document.
fn configured(document: &str) -> Policy {
    let config: PolicyConfig = Document::new(document.as_bytes()).read().unwrap();
    config.compile(&BTreeMap::from([("cold".parse().unwrap(), "ethereum:31337".parse().unwrap())])).unwrap()
}

impl House {
    pub(crate) async fn open(gateway: Gateway) -> Self {
        Self::open_on(gateway, None).await
    }

    /// The same on a schema of its own in PostgreSQL.
    pub(crate) async fn open_on(gateway: Gateway, postgres: Option<&str>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let world = WorldConfig {
            dir: Some(dir.path().join("world")),
            bitcoin: BitcoinConfig::default(),
            ethereum: EthereumConfig::default(),
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world_clock = simulator::clock::ManualClock::new(1_750_000_000_000);
        let world = World::start(world, Arc::new(world_clock)).await.unwrap();
        let postgres = match postgres {
            None => None,
            Some(admin) => {
                let name = format!("p{}", uuid::Uuid::now_v7().simple());
                run(admin, format!("CREATE SCHEMA {name}")).await;
                Some((admin.to_owned(), name))
            }
        };
        let clock = Arc::new(Time(AtomicU64::new(SystemClock.unix_millis())));
        let cut = Arc::default();
        let running = start(gateway, dir.path(), &world, &clock, &cut, postgres.as_ref()).await;
        let node = rpc(&world);
        let _: Value = node.call("sim_fund", json!([running.account.address(), "10000000000000000000"])).await.unwrap();
        let _: Value = node.call("sim_mine", json!([10])).await.unwrap();
        Self { gateway, world, clock, cut, running, postgres, http: reqwest::Client::new(), dir }
    }

    /// Stops gateway and signers, and starts them again on what they have on disk.
    pub(crate) async fn restart(self) -> Self {
        let Self { gateway, world, clock, cut, running, postgres, http, dir } = self;
        stop(running, dir.path()).await;
        let running = start(gateway, dir.path(), &world, &clock, &cut, postgres.as_ref()).await;
        Self { gateway, world, clock, cut, running, postgres, http, dir }
    }

    pub(crate) async fn close(self) {
        stop(self.running, self.dir.path()).await;
        if let Some((admin, name)) = self.postgres {
            run(&admin, format!("SET client_min_messages = error; DROP SCHEMA {name} CASCADE")).await;
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.running.pool
    }

    /// Cuts the line to a signer, or mends it.
    pub(crate) fn cut(&self, signer: &str, cut: bool) {
        let signer = signer.parse().unwrap();
        let mut lines = self.cut.lock().unwrap();
        if cut {
            lines.insert(signer)
        } else {
            lines.remove(&signer)
        };
    }

    /// Calls a method, signed by one of the people.
    pub(crate) async fn call(&self, who: &str, method: &str, params: Value) -> Result<Value, Value> {
        trio::call(&self.http, &self.url(), (who, &key(who)), Clock::unix_seconds(&*self.clock), method, params).await
    }

    /// Asks for a payment of the wallet, and waits for the verdict.
    pub(crate) async fn pay(&self, name: &str, to: &str, amount: u64) -> Result<TxView, Value> {
        let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": amount.to_string() });
        let params = json!({ "idempotency_key": name, "intent": { "wallet": "cold", "action": action } });
        let mut view = self.call("trader", "tx_submit", params).await?;
        let wait = async {
            while view["state"] == "received" {
                tokio::time::sleep(Duration::from_millis(20)).await;
                view = self.call("trader", "tx_get", json!({ "tx_id": view["tx_id"] })).await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
        if view["state"] == "rejected" {
            return Err(json!({ "data": { "kind": view["reason"]["kind"] } }));
        }
        Ok(serde_json::from_value(view).unwrap())
    }

    /// Waits, with blocks, until the record is at its end.
    pub(crate) async fn ended(&self, tx: &TxView) -> TxView {
        let get = async || -> TxView {
            let view = self.call("trader", "tx_get", json!({ "tx_id": tx.tx_id })).await.unwrap();
            serde_json::from_value(view).unwrap()
        };
        let node = rpc(&self.world);
        let wait = async {
            loop {
                let view = get().await;
                if view.state.is_terminal() {
                    return view;
                }
                let _: Value = node.call("sim_mine", json!([1])).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("it never ends: {:#?}", get().await),
        }
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, so: impl AsyncFn(&Self) -> bool) {
        let wait = async {
            while !so(self).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("it never comes to that: {:#?}", self.call("olga", "policy_versions", json!({})).await);
        }
    }

    /// Runs `portcullis policy` as somebody, who types `typed`. Answers what was printed, and whether it was done.
    pub(crate) async fn type_in(&self, who: &str, args: &[&str], typed: &str) -> (String, bool) {
        let key_file = self.dir.path().join(format!("{who}.key"));
        std::fs::write(&key_file, key(who).to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["policy", "--url", &self.url(), "--credential", who, "--key"]).arg(key_file).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(typed.as_bytes()).await; // whoever isn't asked doesn't listen
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.success())
    }

    fn url(&self) -> String {
        format!("http://{}", self.running.listening.addr)
    }
}

async fn start(
    gateway: Gateway,
    dir: &Path,
    world: &World,
    clock: &Arc<Time>,
    cut: &Arc<Mutex<BTreeSet<SignerId>>>,
    postgres: Option<&(String, String)>,
) -> Running {
    let spec = WalletSpec {
        wallet: "cold".parse().unwrap(),
        network: "ethereum:31337".parse().unwrap(),
        key: "ecdsa".parse().unwrap(),
        path: "m".parse().unwrap(),
    };
    let signers = match gateway {
        Gateway::Honest | Gateway::Claims(_) => document(&[PAYEE], 86_400),
        Gateway::Limited => limited(),
    };
    let own = match gateway {
        Gateway::Claims(payees) => document(payees, 86_400),
        Gateway::Honest | Gateway::Limited => signers.clone(),
    };
    let pool = pool(dir, clock, cut).await;
    pool.install(roster(), configured(&signers), vec![spec.clone()]).await.unwrap();
    let account: Account = pool.account(&spec).unwrap();
    let policy = Arc::new(configured(&own));
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let lists = ScreeningConfig::default();
    let screening = Screening::open(&lists, Arc::clone(&policy), Arc::clone(&clock), |path: &Path| path.to_owned());
    let chains::network::Network::Ethereum(chain_id) = spec.network else { panic!("{spec:?}") };
    let client = EthereumClient::new(rpc(world), chain_id, chains::ethereum::Options::default());
    let tracking = Tracking {
        confirmations: 1,
        finality_depth: None,
        poll_interval: Duration::from_millis(20),
        resend_after: Duration::from_millis(100),
        stuck_after: Duration::from_secs(100 * 86_400),
        fees: FeePolicy::default(),
    };
    let lane = Arc::new(NodeLane::new(Ethereum::new(chain_id), Nodes::new(vec![client]).unwrap()));
    let store: Arc<dyn Store> = match postgres {
        None => Arc::new(SqliteStore::open(&dir.join("store")).unwrap()),
        Some((admin, name)) => {
            let sep = if admin.contains('?') { '&' } else { '?' };
            Arc::new(PostgresStore::open(&format!("{admin}{sep}options[search_path]={name}"), 32).await.unwrap())
        }
    };
    let pipeline = Pipeline::new(Parts {
        store,
        pool: Arc::clone(&pool),
        clock: Arc::clone(&clock),
        policy,
        screening: screening.unwrap(),
        roster: roster(),
        approvals: ApprovalsConfig { expire_hours: 24 * 365 },
        travel: gateway::travel::TravelRule::default(),
        networks: vec![NetworkLane { lane, tracking }],
        accounts: vec![account.clone()],
        tenure: Tenure { owner: "house".parse().unwrap(), lease: Duration::from_secs(100 * 86_400) },
        fees: BTreeMap::new(),
    });
    pipeline.start().await.unwrap();
    let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
    let listening = server::serve(&config, Arc::clone(&pipeline), roster(), clock).await.unwrap();
    Running { pool, pipeline, listening, account }
}

/// Stops everything, and waits until the signers have let go of their folders.
async fn stop(running: Running, dir: &Path) {
    let Running { pool, pipeline, listening, .. } = running;
    listening.stop().await;
    pipeline.stop().await;
    drop((pool, pipeline));
    let locks: Vec<PathBuf> = SIGNERS.iter().map(|name| dir.join(name).join("lock")).collect();
    let wait = async {
        while !locks.iter().all(|path| File::open(path).unwrap().try_lock().is_ok()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the signers let go of their folders");
}

async fn pool(dir: &Path, clock: &Arc<Time>, cut: &Arc<Mutex<BTreeSet<SignerId>>>) -> Arc<Pool> {
    let config = trio::config(dir, SIGNERS);
    let (clock, cut) = (Arc::clone(clock), Arc::clone(cut));
    let pool = Pool::start_by(config, clock, |inner| Arc::new(Lines { inner, cut })).await.unwrap();
    if pool.status().await.keys.is_empty() {
        trio::import_ecdsa(&pool).await;
    }
    Arc::new(pool)
}

/// Somebody's signed word on a version, as its view tells of it.
pub(crate) fn word(house: &House, who: &str, view: &Value, decision: Decision) -> Approval {
    let statement = ChangeStatement {
        decision,
        version: serde_json::from_value(view["version"].clone()).unwrap(),
        document: serde_json::from_value(view["digest"].clone()).unwrap(),
        previous: serde_json::from_value(view["change"]["previous"].clone()).unwrap(),
        expires: Clock::unix_seconds(&*house.clock) + 30 * 86_400,
    };
    statement.sign(who.parse().unwrap(), &key(who))
}

pub(crate) fn key(who: &str) -> SigningKey {
    let seed = PEOPLE.iter().position(|(id, ..)| *id == who).unwrap() + 1;
    SigningKey::from_bytes(&[u8::try_from(seed).unwrap(); 32])
}

fn roster() -> Roster {
    let credential = |(id, role, ..): &(&str, Role, &str, &[&str])| Credential {
        id: id.parse().unwrap(),
        role: *role,
        public_key: key(id).verifying_key(),
    };
    let people = PEOPLE.iter().map(|(id, _, person, groups)| {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        (id.parse().unwrap(), Approver { person: person.parse().unwrap(), groups, passkeys: Vec::new() })
    });
    Roster::new(PEOPLE.iter().map(credential).collect()).unwrap().with_people(people.collect()).unwrap()
}

fn rpc(world: &World) -> RpcClient {
    RpcClient::new(&world.ethereum().url(), Auth::None, Duration::from_secs(30)).unwrap()
}

async fn run(admin: &str, sql: String) {
    let mut connection = sqlx::PgConnection::connect(admin).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}
