//! A whole house in one process: a simulated Ethereum node, three signers, and a gateway whose policy, roster and lists a test
//! chooses. The signers' own policy and roster can differ from the gateway's: a gateway that was taken over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chains::account::Account;
use chains::ethereum::{Ethereum, EthereumClient};
use chains::rpc::{Auth, RpcClient};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
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
use gateway::store::sqlite::SqliteStore;
use gateway::travel::TravelConfig;
use serde_json::{Value, json};
use signer::approval::passkey::Passkey;
use signer::approval::{Approval, Approver, Decision, Statement, Subject};
use signer::policy::{Policy, PolicyConfig};
use signer::pool::WalletSpec;
use signer::request::{IntentId, SignedRequest};
use signer::roster::{Credential, Role, Roster};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::SolanaConfig;
use simulator::world::{World, WorldConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

#[path = "trio.rs"]
#[allow(dead_code, unreachable_pub, reason = "each house needs another part of it")]
mod trio;

pub use trio::PATIENCE;

/// The wallet, on `ethereum:31337`.
pub const WALLET: &str = "cold";
/// Whom the wallet may pay.
pub const PAYEE: &str = "0x52908400098527886E0F7030069857D2E4169EE7";
/// Whom the house's list names.
pub const LISTED: &str = "0x8617E340B3D01FA5F11F306F4090FD50E238070D";

/// A credential: its name, role, person and groups.
pub type Member = (&'static str, Role, &'static str, &'static [&'static str]);

/// What a test chooses.
pub struct Plan {
    /// Everybody with a credential.
    pub members: Vec<Member>,
    /// The same as the gateway has it, where that differs.
    pub gateway_members: Option<Vec<Member>>,
    /// The passkeys of some of them, everywhere.
    pub passkeys: BTreeMap<&'static str, Passkey>,
    /// The policy, everywhere.
    pub policy: Value,
    /// How long payments wait.
    pub approvals: ApprovalsConfig,
    /// `[screening]` without its list.
    pub screening: Value,
    /// `[travel]`.
    pub travel: Value,
}

/// The house.
pub struct Office {
    world: World,
    listening: Listening,
    pipeline: Arc<Pipeline>,
    http: reqwest::Client,
    dir: tempfile::TempDir,
    members: Vec<Member>,
}

impl Plan {
    /// Payments to the payee need nobody, unless a test says so.
    pub fn new(members: &[Member]) -> Self {
        let rule = json!({ "id": "payee", "wallets": [WALLET], "addresses": [PAYEE] });
        Self {
            members: members.to_vec(),
            gateway_members: None,
            passkeys: BTreeMap::new(),
            policy: json!({ "rules": [rule] }),
            approvals: ApprovalsConfig::default(),
            travel: json!({}),
            screening: json!({}),
        }
    }

    /// Starts it.
    pub async fn start(self) -> Office {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let world = WorldConfig {
            dir: Some(dir.path().join("world")),
            bitcoin: BitcoinConfig::default(),
            ethereum: EthereumConfig::default(),
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(world, Arc::new(ManualClock::new(1_750_000_000_000))).await.unwrap();
        let spec = WalletSpec {
            wallet: WALLET.parse().unwrap(),
            network: "ethereum:31337".parse().unwrap(),
            key: "ecdsa".parse().unwrap(),
            path: "m".parse().unwrap(),
        };
        let networks = BTreeMap::from([(spec.wallet.clone(), spec.network)]);
        let config: PolicyConfig = serde_json::from_value(self.policy.clone()).unwrap();
        let policy: Policy = config.compile(&networks).unwrap();
        let pool = Arc::new(trio::start(dir.path()).await);
        trio::import_ecdsa(&pool).await;
        pool.install(roster(&self.members, &self.passkeys), policy.clone(), vec![spec.clone()]).await.unwrap();
        let account: Account = pool.account(&spec).unwrap();

        let (policy, clock): (_, Arc<dyn Clock>) = (Arc::new(policy), Arc::new(SystemClock));
        let list = dir.path().join("list.txt");
        std::fs::write(&list, format!("{LISTED}\n")).unwrap();
        let mut screening = self.screening.clone();
        screening["reload_seconds"] = json!(86_400); // a test says when
        screening["lists"] = json!([{ "id": "house", "format": "text", "path": list, "max_age_hours": 24 }]);
        let screening: ScreeningConfig = serde_json::from_value(screening).unwrap();
        let screening =
            Screening::open(&screening, Arc::clone(&policy), Arc::clone(&clock), |path: &Path| path.to_owned())
                .unwrap();
        let chains::network::Network::Ethereum(chain_id) = spec.network else { panic!("{spec:?}") };
        let node = rpc(&world);
        let client = EthereumClient::new(rpc(&world), chain_id, chains::ethereum::Options::default());
        let tracking = Tracking {
            confirmations: 1,
            finality_depth: None,
            poll_interval: Duration::from_millis(20),
            resend_after: Duration::from_millis(100),
            stuck_after: PATIENCE,
            fees: FeePolicy::default(),
        };
        let lane = Arc::new(NodeLane::new(Ethereum::new(chain_id), Nodes::new(vec![client]).unwrap()));
        let gateway_roster = roster(self.gateway_members.as_ref().unwrap_or(&self.members), &self.passkeys);
        let pipeline = Pipeline::new(Parts {
            store: Arc::new(SqliteStore::open(&dir.path().join("store")).unwrap()),
            pool,
            clock: Arc::clone(&clock),
            policy,
            screening,
            roster: gateway_roster.clone(),
            approvals: self.approvals,
            travel: serde_json::from_value::<TravelConfig>(self.travel).unwrap().compile().unwrap(),
            networks: vec![NetworkLane { lane, tracking }],
            accounts: vec![account.clone()],
            tenure: Tenure { owner: "office".parse().unwrap(), lease: Duration::from_secs(10) },
            fees: BTreeMap::new(),
        });
        pipeline.start().await.unwrap();
        let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
        let listening = server::serve(&config, Arc::clone(&pipeline), gateway_roster, clock).await.unwrap();
        let _: Value = node.call("sim_fund", json!([account.address(), "10000000000000000000"])).await.unwrap();
        let _: Value = node.call("sim_mine", json!([10])).await.unwrap();
        let members = self.gateway_members.unwrap_or(self.members);
        Office { world, listening, pipeline, http: reqwest::Client::new(), dir, members }
    }
}

impl Office {
    /// Calls a method, signed by one of the members.
    pub async fn call(&self, who: &str, method: &str, params: Value) -> Result<Value, Value> {
        let url = format!("http://{}", self.listening.addr);
        trio::call(&self.http, &url, (who, &key(who)), SystemClock.unix_seconds(), method, params).await
    }

    /// Runs `portcullis` as a member, who types `typed`. Answers what was printed, and whether it was done.
    pub async fn type_in(&self, who: &str, args: &[&str], typed: &str) -> (String, bool) {
        let output = self.type_to(who, args, typed).await.wait_with_output().await.unwrap();
        let told = [output.stdout, output.stderr].concat();
        (String::from_utf8(told).unwrap(), output.status.success())
    }

    /// Starts `portcullis` as a member, who types `typed`.
    pub async fn type_to(&self, who: &str, args: &[&str], typed: &str) -> Child {
        let key_file = self.dir.path().join(format!("{who}.key"));
        std::fs::write(&key_file, key(who).to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let (name, rest) = args.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        let url = format!("http://{}", self.listening.addr);
        command.args([*name, "--url", &url, "--credential", who, "--key"]);
        command.arg(key_file).args(rest).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let _ = input.write_all(typed.as_bytes()).await; // whoever isn't asked doesn't listen
        child
    }

    /// The record.
    pub async fn tx(&self, id: &Value) -> TxView {
        let somebody = self.members.iter().find(|(_, role, ..)| *role == Role::Initiator).unwrap().0;
        serde_json::from_value(self.call(somebody, "tx_get", json!({ "tx_id": id })).await.unwrap()).unwrap()
    }

    /// Waits, with blocks, until the record fits.
    pub async fn until(&self, id: &Value, fits: impl Fn(&TxView) -> bool) -> TxView {
        let node = rpc(&self.world);
        let wait = async {
            loop {
                let view = self.tx(id).await;
                if fits(&view) {
                    return view;
                }
                let _: Value = node.call("sim_mine", json!([1])).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("it never comes to that: {:#?}", self.tx(id).await),
        }
    }

    /// Waits until the record is at its end.
    pub async fn ended(&self, id: &Value) -> TxView {
        self.until(id, |view| view.state.is_terminal()).await
    }

    /// The node, for what the gateway doesn't ask it.
    pub fn node(&self) -> RpcClient {
        rpc(&self.world)
    }

    /// The gateway's pipeline.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Where the house's list is.
    pub fn list(&self) -> PathBuf {
        self.dir.path().join("list.txt")
    }
}

/// A member's statement of a request, as its view tells of it (`request`, `intent_id`, `tx.client`).
pub fn statement(view: &Value, decision: Decision, seconds: u64) -> Statement {
    let initiator = view["tx"]["client"].as_str().unwrap().parse().unwrap();
    let request: SignedRequest = serde_json::from_value(view["request"].clone()).unwrap();
    let intent: IntentId = serde_json::from_value(view["intent_id"].clone()).unwrap();
    let subject = Subject { intent, initiator: &initiator, body: &request.body };
    Statement::about(&subject, decision, SystemClock.unix_seconds() + seconds)
}

/// A member's signed word on it.
pub fn word(who: &str, view: &Value, decision: Decision) -> Approval {
    Approval::sign(who.parse().unwrap(), &statement(view, decision, 3_600), &key(who))
}

/// The member's key: of its name.
pub fn key(who: &str) -> SigningKey {
    let mut seed = [0; 32];
    for (byte, letter) in seed.iter_mut().zip(who.bytes()) {
        *byte = letter;
    }
    SigningKey::from_bytes(&seed)
}

fn roster(members: &[Member], passkeys: &BTreeMap<&str, Passkey>) -> Roster {
    let credential = |(id, role, ..): &Member| Credential {
        id: id.parse().unwrap(),
        role: *role,
        public_key: key(id).verifying_key(),
    };
    let people = members.iter().map(|(id, _, person, groups)| {
        let groups = groups.iter().map(|group| group.parse().unwrap()).collect();
        let passkeys = passkeys.get(id).cloned().into_iter().collect();
        (id.parse().unwrap(), Approver { person: person.parse().unwrap(), groups, passkeys })
    });
    Roster::new(members.iter().map(credential).collect()).unwrap().with_people(people.collect()).unwrap()
}

fn rpc(world: &World) -> RpcClient {
    RpcClient::new(&world.ethereum().url(), Auth::None, Duration::from_secs(30)).unwrap()
}
