//! The gateway of these tests, its signers and its simulated nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chains::account::Account;
use chains::address::Address;
use chains::bitcoin::{Bitcoin, BitcoinClient};
use chains::client::Client;
use chains::ethereum::{Ethereum, EthereumClient};
use chains::network::{Family, Network};
use chains::rpc::{Auth, RpcClient, RpcError};
use chains::solana::{Solana, SolanaClient};
use ed25519_dalek::SigningKey;
use gateway::api::view::TxView;
use gateway::clock::{Clock, SystemClock};
use gateway::config::{ApprovalsConfig, ServerConfig};
use gateway::lane::{Lane, LaneError, NodeLane};
use gateway::nodes::Nodes;
use gateway::pipeline::lease::Tenure;
use gateway::pipeline::replace::FeePolicy;
use gateway::pipeline::track::Tracking;
use gateway::pipeline::{NetworkLane, Parts, Pipeline};
use gateway::record::State;
use gateway::screening::{Screening, ScreeningConfig};
use gateway::server::{self, Listening};
use gateway::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use signer::policy::{Policy, PolicyConfig};
use signer::pool::{Pool, WalletSpec};
use signer::roster::{Credential, Role, Roster};
use simulator::clock::ManualClock;
use simulator::node::bitcoin::BitcoinConfig;
use simulator::node::ethereum::EthereumConfig;
use simulator::node::solana::SolanaConfig;
use simulator::world::{World, WorldConfig};

#[path = "../support/tapped.rs"]
#[allow(unreachable_pub, reason = "other tests include it, too")]
mod tapped;
#[path = "../support/trio.rs"]
#[allow(dead_code, unreachable_pub, reason = "each house needs another part of it")]
mod trio;

use tapped::{Tap, Tapped};
pub(crate) use trio::PATIENCE;

pub(crate) const FAMILIES: [Family; 3] = [Family::Bitcoin, Family::Ethereum, Family::Solana];

/// What becomes of bytes on their way to the nodes.
#[derive(Default)]
pub(crate) struct Cable {
    state: AtomicU8,
    taken: AtomicU32,
}

/// They arrive.
pub(crate) const WHOLE: u8 = 0;
/// They are lost, and nobody is told.
pub(crate) const LOST: u8 = 1;
/// They are lost, and that is known.
pub(crate) const CUT: u8 = 2;

impl Cable {
    pub(crate) fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    /// How often bytes were put into it. What became of them was settled then.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Tap for Cable {
    fn on_broadcast(&self) -> Option<Result<(), LaneError>> {
        let state = self.state.load(Ordering::SeqCst);
        self.taken.fetch_add(1, Ordering::SeqCst);
        match state {
            WHOLE => None,
            LOST => Some(Ok(())),
            _ => Some(Err(RpcError::Timeout { method: "the cable is cut".to_owned() }.into())),
        }
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn wallet(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "btc",
        Family::Ethereum => "eth",
        Family::Solana => "sol",
    }
}

pub(crate) fn payee(family: Family) -> &'static str {
    match family {
        Family::Bitcoin => "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        Family::Ethereum => "0x52908400098527886E0F7030069857D2E4169EE7",
        Family::Solana => "7v91N7iZ9mNicL8WfG6cgSCKyRXydQjLh6UYBWwm6y1Q",
    }
}

/// Far above any dust limit and rent, far below the funds.
pub(crate) const PAID: u64 = 50_000_000;

/// A gateway with signers and simulated nodes, in this process.
pub(crate) struct House {
    world: World,
    listening: Listening,
    pub(crate) pipeline: Arc<Pipeline>,
    cables: BTreeMap<&'static str, Arc<Cable>>,
    http: reqwest::Client,
    /// What another gateway on the same store works with.
    pub(crate) shared: Shared,
    dir: tempfile::TempDir,
}

impl House {
    pub(crate) async fn start(fees: FeePolicy, stuck_after: Duration) -> Self {
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

        let specs = [
            ("btc", "bitcoin:regtest", "ecdsa"),
            ("eth", "ethereum:31337", "ecdsa"),
            ("sol", "solana:localnet", "ed25519"),
        ]
        .map(|(wallet, network, key)| WalletSpec {
            wallet: wallet.parse().unwrap(),
            network: network.parse().unwrap(),
            key: key.parse().unwrap(),
            path: "m".parse().unwrap(),
        });
        let networks = specs.iter().map(|spec| (spec.wallet.clone(), spec.network)).collect();
        let rules: Vec<Value> = FAMILIES
            .into_iter()
            .map(|family| json!({ "id": wallet(family), "wallets": [wallet(family)], "addresses": [payee(family)] }))
            .collect();
        let policy: PolicyConfig = serde_json::from_value(json!({ "rules": rules })).unwrap();
        let policy = policy.compile(&networks).unwrap();
        let credentials = [("trader", Role::Initiator, 1), ("other", Role::Initiator, 2), ("ops", Role::Operator, 3)]
            .into_iter()
            .chain([("eyes", Role::Viewer, 4)])
            .map(|(id, role, seed)| Credential {
                id: id.parse().unwrap(),
                role,
                public_key: key(seed).verifying_key(),
            });
        let roster = Roster::new(credentials.collect()).unwrap();
        let pool = pool(dir.path()).await;
        pool.install(roster.clone(), policy.clone(), specs.to_vec()).await.unwrap();
        let accounts: Vec<Account> = specs.iter().map(|spec| pool.account(spec).unwrap()).collect();

        let mut cables = BTreeMap::new();
        let mut lanes = Vec::new();
        for account in &accounts {
            let cable = Arc::new(Cable::default());
            cables.insert(wallet(account.network().family()), Arc::clone(&cable));
            let lane = lane(account, &world, cable);
            let tracking = Tracking {
                confirmations: 1,
                finality_depth: (account.network().family() == Family::Bitcoin).then_some(6),
                poll_interval: Duration::from_millis(20),
                resend_after: Duration::from_millis(100),
                stuck_after,
                fees,
            };
            lanes.push(NetworkLane { lane, tracking });
        }
        let shared =
            Shared { pool, policy: Arc::new(policy), roster: roster.clone(), lanes, accounts: accounts.clone() };
        let pipeline = gateway(&shared, dir.path(), "house").await;
        let listening = shared.serve(&pipeline).await;
        let http = reqwest::Client::new();
        let house = Self { world, listening, pipeline, shared, cables, http, dir };
        for account in &accounts {
            let node = house.node(account.network().family());
            let _: Value = node
                .call("sim_fund", json!([account.address(), "10000000000000000000".get(..funds(account)).unwrap()]))
                .await
                .unwrap();
            house.mine(account.network().family(), 10).await;
        }
        house
    }

    pub(crate) fn node(&self, family: Family) -> RpcClient {
        match family {
            Family::Bitcoin => rpc(&self.world.bitcoin().url(), self.world.bitcoin().cookie_file()),
            Family::Ethereum => rpc(&self.world.ethereum().url(), None),
            Family::Solana => rpc(&self.world.solana().url(), None),
        }
    }

    pub(crate) async fn mine(&self, family: Family, blocks: u64) {
        let _: Value = self.node(family).call("sim_mine", json!([blocks])).await.unwrap();
    }

    pub(crate) fn cable(&self, family: Family) -> &Cable {
        &self.cables[wallet(family)]
    }

    pub(crate) async fn call(&self, who: &str, method: &str, params: Value) -> Result<Value, Value> {
        self.call_at(self.listening.addr, who, method, params).await
    }

    /// Asks a gateway that isn't the house's own.
    pub(crate) async fn call_at(
        &self,
        addr: SocketAddr,
        who: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, Value> {
        let seed = match who {
            "trader" => 1,
            "other" => 2,
            "ops" => 3,
            _ => 4,
        };
        let (url, now) = (format!("http://{addr}"), SystemClock.unix_seconds());
        trio::call(&self.http, &url, (who, &key(seed)), now, method, params).await
    }

    pub(crate) async fn act(&self, method: &str, id: &TxView) -> TxView {
        let answer = self.call("trader", method, json!({ "tx_id": id.tx_id })).await;
        serde_json::from_value(answer.unwrap_or_else(|error| panic!("{method}: {error}"))).unwrap()
    }

    pub(crate) async fn submit(&self, name: &str, wallet: &str, action: Value) -> TxView {
        let params =
            json!({ "idempotency_key": format!("{name}-{wallet}"), "intent": { "wallet": wallet, "action": action } });
        serde_json::from_value(self.call("trader", "tx_submit", params).await.unwrap()).unwrap()
    }

    pub(crate) async fn pay(&self, name: &str, family: Family) -> TxView {
        let action = json!({ "kind": "transfer", "asset": "native", "to": payee(family), "amount": PAID.to_string() });
        self.submit(name, wallet(family), action).await
    }

    /// Waits until the wallet is frozen by somebody, or by nobody.
    pub(crate) async fn until_frozen(&self, wallet: &str, by: Option<&str>) {
        let wait = async {
            loop {
                let wallets = self.call("ops", "wallet_list", json!({})).await.unwrap();
                let found = wallets.as_array().unwrap().iter().find(|view| view["wallet"] == wallet).unwrap();
                if found["frozen"]["by"].as_str() == by {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    /// Waits until the record is as it should be.
    pub(crate) async fn until(&self, of: &TxView, what: &str, test: impl Fn(&TxView) -> bool) -> TxView {
        let wait = async {
            loop {
                let view = self.act("tx_get", of).await;
                if test(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("never {what}: {:#?}", self.act("tx_get", of).await),
        }
    }

    pub(crate) async fn sent(&self, of: &TxView) -> TxView {
        self.until(of, "sent", |view| matches!(view.state, State::Broadcasting | State::InMempool)).await
    }

    /// Waits for the record's end, with a block whenever it hasn't come.
    pub(crate) async fn ended(&self, family: Family, of: &TxView) -> TxView {
        let wait = async {
            loop {
                self.mine(family, 1).await;
                let view = self.act("tx_get", of).await;
                if view.state.is_terminal() {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(view) => view,
            Err(_) => panic!("never ended: {:#?}", self.act("tx_get", of).await),
        }
    }

    /// What the payee has, by the node's word.
    pub(crate) async fn received(&self, family: Family) -> u64 {
        let node = self.node(family);
        match family {
            Family::Bitcoin => {
                let found: Value =
                    node.call("scantxoutset", json!(["start", [format!("addr({})", payee(family))]])).await.unwrap();
                let outputs = found["unspents"].as_array().unwrap();
                let sats = outputs.iter().map(|output| {
                    let text = output["amount"].to_string();
                    bitcoin::Amount::from_str_in(&text, bitcoin::Denomination::Bitcoin).unwrap().to_sat()
                });
                sats.sum()
            }
            Family::Ethereum => {
                let balance: String = node.call("eth_getBalance", json!([payee(family), "latest"])).await.unwrap();
                u64::from_str_radix(balance.trim_start_matches("0x"), 16).unwrap()
            }
            Family::Solana => {
                let balance: Value =
                    node.call("getBalance", json!([payee(family), { "commitment": "finalized" }])).await.unwrap();
                balance["value"].as_u64().unwrap()
            }
        }
    }

    /// A payment on Solana can be replaced only where it was made under a durable nonce.
    pub(crate) async fn open_nonce(&self) {
        let view = self.submit("nonce", "sol", json!({ "kind": "open_nonce", "index": 0 })).await;
        let view = self.ended(Family::Solana, &view).await;
        assert_eq!(view.state, State::Finalized, "{view:#?}");
    }

    /// Another gateway on the same store.
    pub(crate) async fn another(&self, name: &str) -> Arc<Pipeline> {
        gateway(&self.shared, self.dir.path(), name).await
    }

    pub(crate) async fn close(self) {
        self.listening.stop().await;
        self.pipeline.stop().await;
        self.world.shutdown().await;
    }
}

/// What several gateways of one house have in common.
pub(crate) struct Shared {
    pool: Arc<Pool>,
    policy: Arc<Policy>,
    roster: Roster,
    lanes: Vec<NetworkLane>,
    accounts: Vec<Account>,
}

impl Shared {
    /// Serves a gateway.
    pub(crate) async fn serve(&self, pipeline: &Arc<Pipeline>) -> Listening {
        let config = ServerConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServerConfig::default() };
        server::serve(&config, Arc::clone(pipeline), self.roster.clone(), Arc::new(SystemClock)).await.unwrap()
    }
}

/// A gateway that works on the store in a folder, under a name of its own.
pub(crate) async fn gateway(shared: &Shared, dir: &Path, name: &str) -> Arc<Pipeline> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let policy = Arc::clone(&shared.policy);
    let nothing = ScreeningConfig::default();
    let screening = Screening::open(&nothing, policy, Arc::clone(&clock), |path: &Path| path.to_owned()).unwrap();
    let pipeline = Pipeline::new(Parts {
        store: Arc::new(SqliteStore::open(&dir.join("store")).unwrap()),
        pool: Arc::clone(&shared.pool),
        clock,
        policy: Arc::clone(&shared.policy),
        screening,
        roster: shared.roster.clone(),
        approvals: ApprovalsConfig::default(),
        travel: gateway::travel::TravelRule::default(),
        networks: shared.lanes.clone(),
        accounts: shared.accounts.clone(),
        tenure: Tenure { owner: name.parse().unwrap(), lease: Duration::from_secs(10) },
        fees: BTreeMap::new(),
    });
    pipeline.start().await.unwrap();
    pipeline
}

/// How many digits of 10^19 a wallet starts with: 100 BTC, 10 ETH, 1000 SOL.
pub(crate) fn funds(account: &Account) -> usize {
    match account.network().family() {
        Family::Bitcoin => 11,
        Family::Ethereum => 20,
        Family::Solana => 13,
    }
}

pub(crate) fn rpc(url: &str, cookie: Option<&std::path::Path>) -> RpcClient {
    let auth = cookie.map_or(Auth::None, |path| Auth::BasicFile(path.to_owned()));
    RpcClient::new(url, auth, Duration::from_secs(30)).unwrap()
}

pub(crate) async fn pool(dir: &Path) -> Arc<Pool> {
    let pool = trio::start(dir).await;
    trio::import_ecdsa(&pool).await;
    trio::import_ed25519(&pool, [7; 32]).await;
    Arc::new(pool)
}

pub(crate) fn lane(account: &Account, world: &World, cable: Arc<Cable>) -> Arc<dyn Lane> {
    match account.network() {
        Network::Bitcoin(network) => {
            let Address::Bitcoin(address) = account.address() else { panic!("{account:?}") };
            let rpc = rpc(&world.bitcoin().url(), world.bitcoin().cookie_file());
            let scripts = vec![address.script_pubkey()];
            let client = BitcoinClient::new(rpc, network, scripts, 0, chains::bitcoin::Options::default());
            wired(NodeLane::new(Bitcoin::new(network), Nodes::new(vec![client]).unwrap()), cable)
        }
        Network::Ethereum(chain_id) => {
            let rpc = rpc(&world.ethereum().url(), None);
            let client = EthereumClient::new(rpc, chain_id, chains::ethereum::Options::default());
            wired(NodeLane::new(Ethereum::new(chain_id), Nodes::new(vec![client]).unwrap()), cable)
        }
        Network::Solana(cluster) => {
            let rpc = rpc(&world.solana().url(), None);
            let client = SolanaClient::new(rpc, cluster, chains::solana::Options::default());
            wired(NodeLane::new(Solana::new(cluster), Nodes::new(vec![client]).unwrap()), cable)
        }
    }
}

pub(crate) fn wired<N: Client>(lane: NodeLane<N>, cable: Arc<Cable>) -> Arc<dyn Lane> {
    Arc::new(Tapped { lane, tap: cable })
}

pub(crate) const NEVER: FeePolicy = FeePolicy { bump_after: None, bump_limit: 0 };
pub(crate) const LONG: Duration = Duration::from_secs(3600);
