//! `key_*` over HTTP, on a pool of signers that holds one key.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use gateway::clock::{Clock, SystemClock};
use gateway::config::{ApprovalsConfig, ServerConfig};
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::{Parts, Pipeline};
use gateway::screening::{Screening, ScreeningConfig};
use gateway::server::{self, Listening};
use gateway::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use signer::policy::PolicyConfig;
use signer::pool::{ImportedKey, KeySpec, Pool, PoolConfig, PoolError, SchemeId, SignerConfig};
use signer::request::SignedRequest;
use signer::roster::{Credential, Role, Roster};
use signer::seal::software::SoftwareSeal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

struct World {
    listening: Listening,
    dir: tempfile::TempDir,
}

fn client(role: Role) -> SigningKey {
    SigningKey::from_bytes(&[if role == Role::Operator { 1 } else { 2 }; 32])
}

fn signers(dir: &Path) -> PoolConfig {
    let seal = Arc::new(SoftwareSeal::open_or_create(&dir.join("seal"), &dir.join("passphrase")).unwrap());
    let signer = |name: &str| SignerConfig { id: name.parse().unwrap(), dir: dir.join(name), seal: seal.clone() };
    let patience = Duration::from_secs(30);
    let signers = ["a", "b", "c"].map(signer).to_vec();
    PoolConfig { threshold: 2, signers, deadline: patience, round_timeout: patience }
}

async fn pool(dir: &Path) -> Pool {
    Pool::start(signers(dir)).await.unwrap()
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("passphrase"), "a passphrase for tests").unwrap();
        let pool = pool(dir.path()).await;
        let spec = KeySpec { key: "main".parse().unwrap(), scheme: SchemeId::Ed25519 };
        pool.import(&spec, ImportedKey::Ed25519Seed([7; 32].into()), |_| ()).await.unwrap();
        Self::serve(dir, pool).await
    }

    async fn serve(dir: tempfile::TempDir, pool: Pool) -> Self {
        let credential =
            |id: &str, role| Credential { id: id.parse().unwrap(), role, public_key: client(role).verifying_key() };
        let roster = vec![credential("ops", Role::Operator), credential("eyes", Role::Viewer)];
        let roster = Roster::new(roster).unwrap();
        let policy: PolicyConfig = serde_json::from_value(json!({})).unwrap();
        let policy = Arc::new(policy.compile(&BTreeMap::new()).unwrap());
        let store = Arc::new(SqliteStore::open(&dir.path().join("store")).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let nothing = ScreeningConfig::default();
        let screening =
            Screening::open(&nothing, Arc::clone(&policy), Arc::clone(&clock), |path: &Path| path.to_owned()).unwrap();
        let pipeline = Pipeline::new(Parts {
            store,
            pool: Arc::new(pool),
            clock: clock.clone(),
            policy,
            screening,
            roster: roster.clone(),
            approvals: ApprovalsConfig::default(),
            travel: gateway::travel::TravelRule::default(),
            networks: Vec::new(),
            accounts: Vec::new(),
            tenure: Tenure { owner: "keys".parse().unwrap(), lease: Duration::from_secs(10) },
            fees: BTreeMap::new(),
        });
        pipeline.ceremonies().take_up(&dir.path().join("ceremonies")).unwrap();
        let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
        let listening = server::serve(&config, pipeline, roster, clock).await.unwrap();
        Self { listening, dir }
    }

    /// Stops the gateway and starts it again on the same folder, in which `meanwhile` may do something.
    async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.listening.stop().await;
        meanwhile(self.dir.path());
        let pool = loop {
            // The signers let go of their folders a moment after they were dropped.
            match Pool::start(signers(self.dir.path())).await {
                Ok(pool) if pool.status().await.signers.iter().all(|signer| signer.up) => break pool,
                Ok(pool) => pool.shutdown().await,
                Err(PoolError::Start { reason, .. }) if reason.contains("in use") => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        Self::serve(self.dir, pool).await
    }

    async fn call(&self, role: Role, method: &str, params: Value) -> Value {
        self.send(&self.signed(role, method, params)).await
    }

    fn signed(&self, role: Role, method: &str, params: Value) -> SignedRequest {
        let name = if role == Role::Operator { "ops" } else { "eyes" };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let (jti, now) = (Uuid::now_v7().to_string(), SystemClock.unix_seconds());
        SignedRequest::sign(&client(role), &name.parse().unwrap(), "/", &jti, now, 30, body.into_bytes())
    }

    /// The key once its ceremony has ended.
    async fn ended(&self) -> Value {
        loop {
            let status = self.call(Role::Viewer, "key_status", json!({ "key": "main" })).await;
            if status["result"]["job"]["state"] != "running" {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn send(&self, request: &SignedRequest) -> Value {
        let mut stream = tokio::net::TcpStream::connect(self.listening.addr).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            request.token,
            request.body.len()
        );
        stream.write_all(&[head.as_bytes(), &request.body].concat()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_a_key_shared_anew_and_everybody_sees_it() {
    let world = World::start().await;
    let list = world.call(Role::Viewer, "key_list", json!({})).await;
    let key = &list["result"][0];
    assert_eq!((&key["key"], &key["scheme"], &key["epoch"]), (&json!("main"), &json!("ed25519"), &json!(1)), "{list}");
    assert_eq!((&key["signers_required"], &key["faults_tolerated"]), (&json!(2), &json!(1)));
    assert_eq!(key["signers_up"], json!(["a", "b", "c"]));
    assert!(key["job"].is_null() && key["last_culprit"].is_null() && key["since"].is_u64(), "{key}");

    let named = json!({ "key": "main" });
    let forbidden = world.call(Role::Viewer, "key_refresh", named.clone()).await;
    assert_eq!(forbidden["error"]["data"]["kind"], "forbidden", "{forbidden}");
    let unknown = world.call(Role::Operator, "key_refresh", json!({ "key": "other" })).await;
    assert_eq!(unknown["error"]["data"]["kind"], "unknown_key", "{unknown}");
    assert_eq!(unknown["error"]["code"], -32602);

    let request = world.signed(Role::Operator, "key_refresh", named.clone());
    let job = world.send(&request).await;
    assert_eq!((&job["result"]["kind"], &job["result"]["asked_by"]), (&json!("refresh"), &json!("ops")), "{job}");
    let replayed = world.send(&request).await;
    assert_eq!(replayed["error"]["data"]["kind"], "token_replayed", "{replayed}");
    let status = world.ended().await;
    let (status, ended) = (&status["result"], &status["result"]["job"]);
    assert_eq!((&ended["job"], &ended["state"], &ended["epoch"]), (&job["result"]["job"], &json!("done"), &json!(2)));
    assert_eq!((&status["epoch"], &status["public_key"]), (&json!(2), &key["public_key"]));
    assert_eq!(ended["unerased"], json!([]));

    // One holder fewer, and a circle that is none.
    let reshare = json!({ "key": "main", "holders": ["c", "a"] });
    let forbidden = world.call(Role::Viewer, "key_reshare", reshare.clone()).await;
    assert_eq!(forbidden["error"]["data"]["kind"], "forbidden", "{forbidden}");
    let job = world.call(Role::Operator, "key_reshare", reshare).await;
    assert_eq!(job["result"]["kind"], "reshare", "{job}");
    let status = &world.ended().await["result"];
    assert_eq!((&status["job"]["state"], &status["epoch"]), (&json!("done"), &json!(3)), "{status}");
    assert_eq!((&status["holders"], &status["faults_tolerated"]), (&json!(["c", "a"]), &json!(0)));
    assert_eq!(status["public_key"], key["public_key"]);
    let stranger = json!({ "key": "main", "holders": ["a", "stranger"] });
    world.call(Role::Operator, "key_reshare", stranger).await;
    let status = &world.ended().await["result"];
    assert_eq!((&status["job"]["state"], &status["epoch"]), (&json!("failed"), &json!(3)), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_and_used_tokens_outlive_the_gateway() {
    let world = World::start().await;
    let request = world.signed(Role::Operator, "key_refresh", json!({ "key": "main" }));
    let asked = world.send(&request).await["result"]["job"].clone();
    assert_eq!(world.ended().await["result"]["job"]["state"], "done");

    let world = world.restart(|_| ()).await;
    let replayed = world.send(&request).await;
    assert_eq!(replayed["error"]["data"]["kind"], "token_replayed", "{replayed}");
    let status = &world.ended().await["result"];
    assert_eq!((&status["epoch"], &status["job"]["job"], &status["job"]["attempt"]), (&json!(2), &asked, &json!(1)));
    assert_eq!((&status["job"]["state"], &status["job"]["epoch"]), (&json!("done"), &json!(2)), "{status}");

    // As after a stop in the middle of a ceremony that the signers never came to the end of, and of one that they did.
    let mut world = world;
    for (before, epoch, attempt) in [(2, 3, 2), (2, 3, 1)] {
        let running = json!({
            "job": asked, "key": "main", "kind": "refresh", "asked_by": "ops", "began": 1, "epoch_before": before,
            "attempt": 1, "state": "running", "round": 2, "of": 3
        });
        world = world.restart(|dir| append(dir, &json!({ "job": running }))).await;
        let status = &world.ended().await["result"];
        let job = &status["job"];
        assert_eq!((&job["state"], &job["epoch"], &job["job"]), (&json!("done"), &json!(epoch), &asked), "{status}");
        assert_eq!((&status["epoch"], &job["attempt"]), (&json!(epoch), &json!(attempt)), "{status}");
    }
}

/// Writes a line more into the journal of ceremonies.
fn append(dir: &Path, entry: &Value) {
    let mut journal = std::fs::OpenOptions::new().append(true).open(dir.join("ceremonies")).unwrap();
    std::io::Write::write_all(&mut journal, format!("{entry}\n").as_bytes()).unwrap();
}
