//! The gateways, each the real pipeline behind a gate that crashes, pauses and disturbs it, and the one pool of real signers that all cases
//! share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use chains::account::Account;
use chains::amount::Amount;
use chains::network::{Cluster, Network};
use ed25519_dalek::SigningKey;
use gateway::clock::Clock;
use gateway::config::ApprovalsConfig;
use gateway::lane::NodeLane;
use gateway::nodes::Nodes;
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::replace::FeePolicy;
use gateway::pipeline::track::Tracking;
use gateway::pipeline::{NetworkLane, Parts, Pipeline};
use gateway::record::RecordId;
use gateway::screening::{Screening, ScreeningConfig};
use gateway::store::NewIntent;
use gateway::store::sqlite::SqliteStore;
use gateway::store::{Store, StoreError};
use serde_json::{Value, json};
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{KeySpec, Pool, PoolConfig, SchemeId, SignerConfig, WalletSpec};
use signer::request::{Claims, SignedRequest};
use signer::roster::{Credential, Role, Roster};
use signer::seal::software::SoftwareSeal;
use tokio::sync::watch;
use uuid::Uuid;

use super::chain::{NODES, Node, SOLANA};
use super::plan::Body;
use super::town::{Glass, Town};

/// Where all is.
pub(crate) const NETWORK: Network = Network::Solana(Cluster::Localnet);
/// The gateways.
pub(crate) const NAMES: [&str; 2] = ["a", "b"];
/// The least that a payment pays, in lamports; the digits below tell its key and its body.
pub(crate) const BASE: u64 = 1_000_000;
/// How long a lease lasts by the test's clock, and three times how often it is renewed by the real one.
const LEASE: Duration = Duration::from_millis(90);
const PAYEE: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
const STRANGER: &str = "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q";

/// Whether a fault comes before what it befalls, or after it, so that only the answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Something that goes wrong at one of the next writes or sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) left: u8,
    pub(crate) side: Side,
    pub(crate) crash: bool,
}

/// All that a gateway does to the world goes through here.
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    dead: AtomicBool,
    awake: watch::Sender<bool>,
    fault: Mutex<Option<Fault>>,
    rounds: AtomicU64,
}

impl Gate {
    fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            dead: AtomicBool::new(false),
            awake: watch::Sender::new(true),
            fault: Mutex::default(),
            rounds: AtomicU64::new(0),
        })
    }

    /// Waits while the gateway is paused; nothing gets through once it is dead.
    pub(crate) async fn pass(&self) -> Result<(), StoreError> {
        let mut awake = self.awake.subscribe();
        let _sender_lives = awake.wait_for(|awake| *awake).await;
        if self.is_dead() { Err(StoreError::Closed) } else { Ok(()) }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    pub(crate) fn is_awake(&self) -> bool {
        *self.awake.borrow()
    }

    pub(crate) fn wake(&self, awake: bool) {
        self.awake.send_replace(awake);
    }

    /// Orders a fault.
    pub(crate) fn arm(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Whether the fault that was ordered comes with this write or send.
    pub(crate) fn strike(&self) -> Option<Fault> {
        let mut ordered = self.fault.lock().unwrap();
        let fault = ordered.as_mut()?;
        if fault.left == 0 {
            return ordered.take();
        }
        fault.left -= 1;
        None
    }

    /// Lets the fault have its way.
    pub(crate) fn fall(&self, fault: Fault) -> StoreError {
        if fault.crash {
            self.dead.store(true, Ordering::SeqCst);
            return StoreError::Closed;
        }
        StoreError::Database("disturbed by the test".to_owned())
    }

    /// Counts a round of the tracker.
    pub(crate) fn round(&self) {
        self.rounds.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }
}

/// A running gateway.
pub(crate) struct House {
    pub(crate) gate: Arc<Gate>,
    pub(crate) pipeline: Arc<Pipeline>,
}

impl House {
    /// Opens the store's file and takes up what it holds.
    pub(crate) async fn open(name: &'static str, file: &Path, town: &Arc<Town>) -> Self {
        let gate = Gate::new(name);
        let inner = Arc::new(SqliteStore::open(file).unwrap());
        let store: Arc<dyn Store> = Arc::new(Glass { town: town.clone(), gate: gate.clone(), inner });
        let node = |index| Node { town: town.clone(), gate: gate.clone(), index };
        let nodes = Nodes::new((0..NODES).map(node).collect()).unwrap();
        let tracking = Tracking {
            confirmations: 2,
            finality_depth: None,
            poll_interval: Duration::from_millis(2),
            resend_after: Duration::from_millis(4),
            stuck_after: Duration::from_secs(3),
            fees: FeePolicy { bump_after: Some(Duration::from_secs(1)), bump_limit: 2 },
        };
        let signers = signers();
        let clock: Arc<dyn Clock> = town.clone();
        let policy = Arc::new(policy());
        let lists = ScreeningConfig::default();
        let screening = Screening::open(&lists, Arc::clone(&policy), Arc::clone(&clock), Path::to_path_buf).unwrap();
        let pipeline = Pipeline::new(Parts {
            store,
            pool: signers.pool.clone(),
            clock,
            policy,
            screening,
            roster: roster(),
            approvals: ApprovalsConfig::default(),
            travel: gateway::travel::TravelRule::default(),
            networks: vec![NetworkLane { lane: Arc::new(NodeLane::new(SOLANA, nodes)), tracking }],
            accounts: vec![signers.account.clone()],
            tenure: Tenure { owner: name.parse().unwrap(), lease: LEASE },
            fees: BTreeMap::new(),
        });
        pipeline.start().await.unwrap();
        Self { gate, pipeline }
    }

    /// Ends it as a crash does: nothing of it gets through any more.
    pub(crate) async fn kill(self) {
        self.gate.dead.store(true, Ordering::SeqCst);
        self.gate.wake(true);
        self.pipeline.stop().await;
    }

    pub(crate) fn works(&self) -> bool {
        !self.gate.is_dead() && self.gate.is_awake()
    }
}

/// The signers, and the account whose key they hold.
pub(crate) struct Signers {
    pool: Arc<Pool>,
    pub(crate) account: Account,
    _runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

/// One pool for all cases: three signers, two of which sign, over FROST. No two cases have a slot or a key in common, so that its ledgers
/// hold for all of them.
pub(crate) fn signers() -> &'static Signers {
    static SIGNERS: OnceLock<Signers> = OnceLock::new();
    SIGNERS.get_or_init(|| std::thread::spawn(start_signers).join().unwrap())
}

fn start_signers() -> Signers {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let passphrase = dir.path().join("passphrase");
    std::fs::write(&passphrase, "a passphrase for tests").unwrap();
    let seal = Arc::new(SoftwareSeal::open_or_create(&dir.path().join("key.json"), &passphrase).unwrap());
    let signer =
        |name: &str| SignerConfig { id: name.parse().unwrap(), dir: dir.path().join(name), seal: seal.clone() };
    let config = PoolConfig {
        threshold: 2,
        signers: ["signer-1", "signer-2", "signer-3"].map(signer).into(),
        deadline: Duration::from_secs(60),
        round_timeout: Duration::from_secs(20),
    };
    let (pool, account) = runtime.block_on(async {
        let pool = Pool::start(config).await.unwrap();
        let key = KeySpec { key: "main".parse().unwrap(), scheme: SchemeId::Ed25519 };
        pool.ensure_keys(&[key], |_| ()).await.unwrap();
        let wallet: WalletSpec =
            serde_json::from_value(json!({ "wallet": "treasury", "network": NETWORK, "key": "main" })).unwrap();
        pool.install(roster(), policy(), vec![wallet.clone()]).await.unwrap();
        let account = pool.account(&wallet).unwrap();
        (Arc::new(pool), account)
    });
    Signers { pool, account, _runtime: runtime, _dir: dir }
}

fn policy() -> Policy {
    let rule = json!({ "id": "payee", "wallets": ["treasury"], "addresses": [PAYEE] });
    let config: PolicyConfig = serde_json::from_value(json!({ "rules": [rule] })).unwrap();
    config.compile(&BTreeMap::from([("treasury".parse().unwrap(), NETWORK)])).unwrap()
}

/// When requests are signed, in seconds since 1970: so far ahead that none gets too old.
const NEVER_OLD: u64 = 4_102_444_800;

fn desk() -> SigningKey {
    SigningKey::from_bytes(&[42; 32])
}

fn roster() -> Roster {
    let public_key = desk().verifying_key();
    Roster::new(vec![Credential { id: "desk".parse().unwrap(), role: Role::Initiator, public_key }]).unwrap()
}

/// The client's signed request.
fn request(method: &str, params: Value) -> (SignedRequest, Claims) {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let (sub, jti) = ("desk".parse().unwrap(), Uuid::now_v7().to_string());
    let signed = SignedRequest::sign(&desk(), &sub, "/", &jti, NEVER_OLD, 60, serde_json::to_vec(&body).unwrap());
    let (_, claims) = signed.authenticate(&roster()).unwrap();
    (signed, claims)
}

/// What a client submits under a key of the case.
pub(crate) fn submission(case: u64, key: u8, body: Body, owner: &str, at: u64) -> NewIntent {
    let (to, variant, max_fee) = match body {
        Body::Plain => (PAYEE, 0, None),
        Body::Other => (PAYEE, 1, None),
        Body::Stranger => (STRANGER, 2, None),
        // What the first attempt costs, and not a tenth more.
        Body::Stingy => (PAYEE, 3, Some(Amount::from_lamports(6_050))),
    };
    let amount = Amount::from_lamports(BASE + u64::from(key) * 10 + variant);
    let action = json!({ "kind": "transfer", "asset": "native", "to": to, "amount": amount });
    let mut intent = json!({ "wallet": "treasury", "action": action });
    if let (Some(max_fee), Some(intent)) = (max_fee, intent.as_object_mut()) {
        intent.insert("max_fee".to_owned(), json!(max_fee));
    }
    let idempotency_key = format!("case-{case}-{key}");
    let (request, claims) = request("tx_submit", json!({ "idempotency_key": idempotency_key, "intent": intent }));
    NewIntent {
        id: RecordId::new(Uuid::now_v7()),
        claims,
        idempotency_key: idempotency_key.parse().unwrap(),
        network: NETWORK,
        intent: serde_json::from_value(intent).unwrap(),
        deal: None,
        request,
        owner: owner.parse().unwrap(),
        at,
        until: at + LEASE.as_millis() as u64,
    }
}

/// The client's request to cancel a record.
pub(crate) fn cancellation(id: RecordId) -> (SignedRequest, Claims) {
    request("tx_cancel", json!({ "tx_id": id }))
}
