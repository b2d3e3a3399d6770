//! A simulated Solana cluster, a gateway and its signers in one process. The signers' policy can differ from the gateway's: a
//! gateway that was taken over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chains::address::Address;
use chains::network::{Cluster, Network};
use chains::rpc::{Auth, RpcClient};
use chains::solana::{Options, Solana, SolanaClient, TokenProgram, associated_token_account};
use ed25519_dalek::SigningKey;
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
use serde_json::{Value, json};
use signer::policy::{Policy, PolicyConfig};
use signer::pool::WalletSpec;
use signer::roster::{Credential, Role, Roster};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::world::{World, WorldConfig};
use solana_sdk::hash::Hash;
use solana_sdk::instruction::Instruction;
use solana_sdk::message::Message;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer as _};
use solana_sdk::transaction::Transaction;

#[path = "../support/tapped.rs"]
#[allow(unreachable_pub, reason = "other tests include it, too")]
mod tapped;
#[path = "../support/trio.rs"]
#[allow(dead_code, unreachable_pub, reason = "each house needs another part of it")]
mod trio;

use tapped::{Tap, Tapped};
pub(crate) use trio::PATIENCE;

pub(crate) const SOL: u64 = 1_000_000_000;
/// What the wallet starts with of the demo token, in base units.
pub(crate) const TOKENS: u64 = 5_000_000;
/// An address that the gateway's list names.
pub(crate) const LISTED: &str = "4vJ9JU1bJJE96FWSJKvHsmmFADCg4gpZQff4P3bkLKi";

/// The cluster, and the wallet on it.
pub(crate) struct Town {
    world: World,
    node: RpcClient,
}

/// A gateway, its signers, and the cluster.
pub(crate) struct House {
    pub(crate) town: Town,
    listening: Listening,
    pub(crate) pipeline: Arc<Pipeline>,
    http: reqwest::Client,
    /// What happens before the next transaction is tried by a node.
    pub(crate) before_try: Arc<BeforeTry>,
    _dir: tempfile::TempDir,
}

type Happening = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something that happens once, between the verdict and the node's try.
#[derive(Default)]
pub(crate) struct BeforeTry(Mutex<Option<Happening>>);

impl BeforeTry {
    pub(crate) fn set(&self, happening: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::pin(happening));
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }
}

#[async_trait]
impl Tap for BeforeTry {
    async fn before_try(&self) {
        let happening = self.0.lock().unwrap().take();
        if let Some(happening) = happening {
            happening.await;
        }
    }
}

fn wallet_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// The wallet's address.
pub(crate) fn wallet() -> Pubkey {
    Pubkey::new_from_array(wallet_key().verifying_key().to_bytes())
}

/// The token account of `owner` for the demo token.
pub(crate) fn tokens_of(owner: &Pubkey) -> Pubkey {
    associated_token_account(owner, &SolanaNode::demo_mint(), TokenProgram::Token)
}

/// An instruction as an intent has it.
pub(crate) fn instruction(program: &str, accounts: &[(Pubkey, bool)], data: &[u8]) -> Value {
    let accounts: Vec<Value> = accounts
        .iter()
        .map(|(address, writable)| json!({ "address": address.to_string(), "writable": writable }))
        .collect();
    json!({ "program": program, "accounts": accounts, "data": format!("0x{}", hex::encode(data)) })
}

impl Town {
    /// A cluster on which the wallet has ten SOL and some of the demo token.
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = WorldConfig {
            bitcoin: BitcoinConfig::default(),
            ethereum: EthereumConfig::default(),
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(world, Arc::new(ManualClock::new(1_750_000_000_000))).await.unwrap();
        let node = rpc(&world.solana().url());
        let town = Self { world, node };
        town.fund(&wallet(), 10 * SOL).await;
        town.fund_tokens(&wallet(), TOKENS).await;
        town
    }

    pub(crate) fn url(&self) -> String {
        self.world.solana().url()
    }

    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        self.node.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub(crate) async fn mine(&self, slots: u64) {
        self.ask("sim_mine", json!([slots])).await;
    }

    pub(crate) async fn fund(&self, address: &Pubkey, lamports: u64) {
        self.ask("sim_fund", json!([address.to_string(), lamports.to_string()])).await;
        self.mine(9).await;
    }

    pub(crate) async fn fund_tokens(&self, owner: &Pubkey, amount: u64) {
        let mint = SolanaNode::demo_mint().to_string();
        self.ask("sim_fund", json!([owner.to_string(), amount.to_string(), mint])).await;
        self.mine(9).await;
    }

    /// Has a test's own key do something, and waits until it is confirmed.
    pub(crate) async fn execute(&self, by: &Keypair, instructions: &[Instruction]) {
        execute(&self.node, by, instructions).await;
    }

    /// What an owner has of the demo token, by confirmed blocks; 0 where there is no account.
    pub(crate) async fn tokens(&self, owner: &Pubkey) -> u64 {
        let params = json!([[tokens_of(owner).to_string()], { "commitment": "confirmed", "encoding": "jsonParsed" }]);
        let found = self.ask("getMultipleAccounts", params).await;
        let amount = found.pointer("/value/0/data/parsed/info/tokenAmount/amount").and_then(Value::as_str);
        amount.map_or(0, |amount| amount.parse().unwrap())
    }

    /// A transaction as confirmed blocks have it.
    pub(crate) async fn transaction(&self, id: &str) -> Value {
        let config = json!({ "commitment": "confirmed", "maxSupportedTransactionVersion": 0, "encoding": "json" });
        self.ask("getTransaction", json!([id, config])).await
    }

    /// A gateway with this policy, and signers with this one of theirs.
    pub(crate) async fn open(self, policy: &Value, of_signers: &Value) -> House {
        let dir = tempfile::tempdir().unwrap();
        let spec = WalletSpec {
            wallet: "sol".parse().unwrap(),
            network: Network::Solana(Cluster::Localnet),
            key: "ed25519".parse().unwrap(),
            path: "m".parse().unwrap(),
        };
        let networks = BTreeMap::from([(spec.wallet.clone(), spec.network)]);
        let compile = |policy: &Value| -> Policy {
            serde_json::from_value::<PolicyConfig>(policy.clone()).unwrap().compile(&networks).unwrap()
        };
        let trader =
            Credential { id: "trader".parse().unwrap(), role: Role::Initiator, public_key: trader().verifying_key() };
        let roster = Roster::new(vec![trader]).unwrap();
        let pool = Arc::new(trio::start(dir.path()).await);
        trio::import_ed25519(&pool, wallet_key().to_bytes()).await;
        pool.install(roster.clone(), compile(of_signers), vec![spec.clone()]).await.unwrap();
        let account = pool.account(&spec).unwrap();
        assert_eq!(*account.address(), Address::Solana(wallet()));

        let before_try = Arc::new(BeforeTry::default());
        let client = SolanaClient::new(rpc(&self.url()), Cluster::Localnet, Options::default());
        let lane = NodeLane::new(Solana::new(Cluster::Localnet), Nodes::new(vec![client]).unwrap());
        let lane = Arc::new(Tapped { lane, tap: Arc::clone(&before_try) });
        let tracking = Tracking {
            confirmations: 1,
            finality_depth: None,
            poll_interval: Duration::from_millis(20),
            resend_after: Duration::from_millis(100),
            stuck_after: PATIENCE,
            fees: FeePolicy { bump_after: None, bump_limit: 0 },
        };
        let (policy, clock): (_, Arc<dyn Clock>) = (Arc::new(compile(policy)), Arc::new(SystemClock));
        let list = dir.path().join("list.txt");
        std::fs::write(&list, format!("{LISTED}\n")).unwrap();
        let screening = json!({ "lists": [{ "id": "house", "format": "text", "path": list, "max_age_hours": 24 }] });
        let screening: ScreeningConfig = serde_json::from_value(screening).unwrap();
        let screening =
            Screening::open(&screening, Arc::clone(&policy), Arc::clone(&clock), |path: &Path| path.to_owned())
                .unwrap();
        let pipeline = Pipeline::new(Parts {
            store: Arc::new(SqliteStore::open(&dir.path().join("store")).unwrap()),
            pool,
            clock: Arc::clone(&clock),
            policy,
            screening,
            roster: roster.clone(),
            approvals: ApprovalsConfig::default(),
            travel: gateway::travel::TravelRule::default(),
            networks: vec![NetworkLane { lane, tracking }],
            accounts: vec![account],
            tenure: Tenure { owner: "house".parse().unwrap(), lease: Duration::from_secs(10) },
            fees: BTreeMap::new(),
        });
        pipeline.start().await.unwrap();
        let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
        let listening = server::serve(&config, Arc::clone(&pipeline), roster, clock).await.unwrap();
        House { town: self, listening, pipeline, http: reqwest::Client::new(), before_try, _dir: dir }
    }
}

impl House {
    pub(crate) async fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let url = format!("http://{}", self.listening.addr);
        trio::call(&self.http, &url, ("trader", &trader()), SystemClock.unix_seconds(), method, params).await
    }

    /// Asks for instructions to be called, with these members of the action beside them.
    pub(crate) async fn submit(&self, name: &str, instructions: &[Value], more: Value) -> Result<TxView, Value> {
        let mut action = json!({ "kind": "call_program", "instructions": instructions });
        action.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let intent = json!({ "wallet": "sol", "action": action });
        let params = json!({ "idempotency_key": name.replace([' ', '\''], "-"), "intent": intent });
        let answer = self.call("tx_submit", params).await?;
        Ok(serde_json::from_value(answer).unwrap())
    }

    /// The same for what comes to be tried: that may have ended before the answer is made.
    pub(crate) async fn tried(&self, name: &str, instructions: &[Value]) -> TxView {
        match self.submit(name, instructions, json!({})).await {
            Ok(view) => view,
            Err(ended) => {
                let answer = self.call("tx_get", json!({ "tx_id": ended["data"]["tx_id"] })).await;
                serde_json::from_value(answer.unwrap_or_else(|_| panic!("{ended}"))).unwrap()
            }
        }
    }

    /// What the policy says of it, and why.
    pub(crate) async fn evaluate(&self, instructions: &[Value], more: Value) -> Value {
        let mut action = json!({ "kind": "call_program", "instructions": instructions });
        action.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.call("policy_evaluate", json!({ "intent": { "wallet": "sol", "action": action } })).await.unwrap()
    }

    pub(crate) async fn get(&self, of: &TxView) -> TxView {
        serde_json::from_value(self.call("tx_get", json!({ "tx_id": of.tx_id })).await.unwrap()).unwrap()
    }

    /// Waits until the record is as it should be, with a slot whenever it isn't.
    pub(crate) async fn until(&self, of: &TxView, what: &str, test: impl Fn(&TxView) -> bool) -> TxView {
        let wait = async {
            loop {
                let view = self.get(of).await;
                if test(&view) {
                    return view;
                }
                self.town.mine(1).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("never {what}: {:#?}", self.get(of).await),
        }
    }

    pub(crate) async fn ended(&self, of: &TxView) -> TxView {
        self.until(of, "ended", |view| view.state.is_terminal()).await
    }

    pub(crate) async fn close(self) {
        self.listening.stop().await;
        self.pipeline.stop().await;
        self.town.world.shutdown().await;
    }
}

/// Has `by` sign and send, and makes slots until it is confirmed.
pub(crate) async fn execute(node: &RpcClient, by: &Keypair, instructions: &[Instruction]) {
    let latest: Value = node.call("getLatestBlockhash", json!([{ "commitment": "processed" }])).await.unwrap();
    let blockhash: Hash = latest["value"]["blockhash"].as_str().unwrap().parse().unwrap();
    let message = Message::new_with_blockhash(instructions, Some(&by.pubkey()), &blockhash);
    let transaction = Transaction::new(&[by], message, blockhash);
    let bytes = bs58::encode(bincode::serialize(&transaction).unwrap()).into_string();
    let id: String =
        node.call("sendTransaction", json!([bytes, { "preflightCommitment": "processed" }])).await.unwrap();
    let _: Value = node.call("sim_mine", json!([2])).await.unwrap();
    let found: Value = node.call("getSignatureStatuses", json!([[id]])).await.unwrap();
    assert_eq!(found.pointer("/value/0/err"), Some(&Value::Null), "{found}");
}

pub(crate) fn rpc(url: &str) -> RpcClient {
    RpcClient::new(url, Auth::None, Duration::from_secs(30)).unwrap()
}

fn trader() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
