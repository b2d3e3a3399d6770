//! Several nodes: leaders, votes, forks, partitions, crashes, and the gateway's own client through all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chains::account::{Account, KeyPath, PublicKey};
use chains::asset::Asset;
use chains::client::Client as _;
use chains::network::{Cluster, Network};
use chains::rpc::{Auth, RpcClient};
use chains::solana::{Options, SolanaClient};
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::fault::rule::{Fault, Rule, Scope};
use simulator::fault::timeline::Timeline;
use simulator::network::{Conditions, Latency};
use simulator::node::solana::{SolanaConfig, SolanaNode};
use simulator::seed::{Probability, Seed};
use simulator::topology::{ChainKind, NodeIndex};
use simulator::world::{NodeCounts, World, WorldConfig};
use solana_sdk::hash::Hash;
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer};

use crate::node::{SOL, START_MILLIS, encode, sign, transfer};

/// How deep a block is rooted, in these worlds.
const DEPTH: u32 = 8;

struct Three {
    world: World,
    http: reqwest::Client,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Three {
    async fn with(conditions: Conditions, seed: u64, skip_rate: Probability) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START_MILLIS));
        let solana = SolanaConfig { block_interval: None, finality_depth: DEPTH, skip_rate, ..SolanaConfig::default() };
        let config = WorldConfig {
            dir: Some(folder.path().to_owned()),
            seed: Seed(seed),
            nodes: NodeCounts { solana: 3, ..NodeCounts::default() },
            network: conditions,
            solana,
            ..WorldConfig::default()
        };
        let world = World::start(config, clock.clone()).await.unwrap();
        Self { world, http: reqwest::Client::new(), clock, _folder: folder }
    }

    /// A quick network that loses nothing.
    async fn quick() -> Self {
        let latency = Latency { least_ms: 0, spread_ms: 2, tail_ms: 0 };
        Self::with(Conditions { latency, ..Conditions::default() }, 11, Probability::NEVER).await
    }

    fn node(&self, index: u16) -> Arc<SolanaNode> {
        self.world.solana_nodes().node(NodeIndex(index)).unwrap()
    }

    async fn call(&self, index: u16, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.http.post(self.node(index).url()).body(body.to_string()).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        match answer.get_mut("error").map(Value::take) {
            Some(error) => Err(error),
            None => Ok(answer["result"].take()),
        }
    }

    async fn ok(&self, index: u16, method: &str, params: Value) -> Value {
        self.call(index, method, params).await.unwrap_or_else(|error| panic!("{method} at node {index}: {error}"))
    }

    /// The newest blockhash of a commitment level.
    async fn hash(&self, index: u16, level: &str) -> Hash {
        let answer = self.ok(index, "getLatestBlockhash", json!([{ "commitment": level }])).await;
        answer["value"]["blockhash"].as_str().unwrap().parse().unwrap()
    }

    async fn slot(&self, index: u16, level: &str) -> u64 {
        self.ok(index, "getSlot", json!([{ "commitment": level }])).await.as_u64().unwrap()
    }

    async fn balance(&self, index: u16, address: &Pubkey, level: &str) -> u64 {
        let answer = self.ok(index, "getBalance", json!([address.to_string(), { "commitment": level }])).await;
        answer["value"].as_u64().unwrap()
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is: impl AsyncFn() -> bool) {
        let wait = async {
            while !is().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what}"));
    }

    /// Waits until the nodes follow what the first of them does.
    async fn agree(&self, nodes: &[u16]) {
        for node in nodes {
            let what = format!("node {node} follows node {}", nodes[0]);
            self.until(&what, async || self.hash(*node, "processed").await == self.hash(nodes[0], "processed").await)
                .await;
        }
    }

    /// Lets a node lead so many slots, each after the others follow it.
    async fn lead(&self, leader: u16, others: &[u16], slots: u32) {
        let nodes: Vec<u16> = [&[leader], others].concat();
        for _ in 0..slots {
            self.node(leader).mine(1).await.unwrap();
            self.agree(&nodes).await;
        }
    }

    /// Lets slots pass until everything so far is final everywhere.
    async fn finalize(&self) {
        let tip = self.slot(0, "processed").await;
        self.until("everything is final", async || {
            self.lead(0, &[1, 2], 1).await;
            let mut done = true;
            for node in 0..3 {
                done &= self.slot(node, "finalized").await >= tip;
            }
            done
        })
        .await;
    }

    fn partition(&self, groups: &[&[u16]]) {
        let groups: Vec<Vec<_>> = groups.iter().map(|group| group.iter().copied().map(NodeIndex).collect()).collect();
        self.world.solana_nodes().network().partition(&groups);
    }

    fn heal(&self) {
        self.world.solana_nodes().network().heal();
    }

    /// A key with so many lamports, final.
    async fn funded(&self, lamports: u64) -> Keypair {
        let key = Keypair::new();
        self.node(0).fund(&key.pubkey().to_string(), lamports).await.unwrap();
        self.lead(0, &[1, 2], 1).await;
        self.finalize().await;
        key
    }

    /// Sends a payment under a blockhash that no fork takes away.
    async fn send(
        &self,
        index: u16,
        from: &Keypair,
        to: &Pubkey,
        lamports: u64,
        config: Value,
    ) -> Result<Value, Value> {
        let blockhash = self.hash(index, "finalized").await;
        let transaction = sign(&[from], &[transfer(from, to, lamports)], blockhash);
        let mut options = json!({ "encoding": "base64" });
        for (name, value) in config.as_object().unwrap() {
            options[name] = value.clone();
        }
        self.call(index, "sendTransaction", json!([encode(&transaction), options])).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_blocks_reach_everyone() {
    let three = Three::quick().await;
    assert_eq!(three.ok(2, "getClusterNodes", json!([])).await.as_array().unwrap().len(), 3);
    let key = three.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    let signature = three.send(1, &key, &to, SOL, json!({})).await.unwrap();
    // It is forwarded to whoever leads next.
    three
        .until("node 2 includes it", async || {
            three.lead(2, &[0, 1], 1).await;
            three.balance(2, &to, "processed").await == SOL
        })
        .await;
    for node in 0..3 {
        assert_eq!(three.balance(node, &to, "processed").await, SOL);
        let leader = three.ok(node, "getSlotLeader", json!([{ "commitment": "processed" }])).await;
        assert_eq!(leader, three.ok(2, "getIdentity", json!([])).await["identity"]);
    }
    let slot = three.slot(0, "processed").await;
    three.finalize().await;
    let mut seen = BTreeSet::new();
    for node in 0..3 {
        let statuses = three.ok(node, "getSignatureStatuses", json!([[signature]])).await;
        let status = &statuses["value"][0];
        assert_eq!((&status["confirmationStatus"], &status["confirmations"]), (&json!("finalized"), &Value::Null));
        let block = three.ok(node, "getBlock", json!([slot, { "transactionDetails": "signatures" }])).await;
        assert_eq!(block["signatures"], json!([signature]));
        seen.insert(block["blockhash"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 1);
    let votes = three.ok(0, "getVoteAccounts", json!([])).await;
    assert_eq!(votes["current"].as_array().unwrap().len(), 3);
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_confirms_nothing_and_loses_its_fork() {
    let three = Three::quick().await;
    let key = three.funded(2 * SOL).await;
    let (lost, kept) = (Pubkey::new_unique(), Pubkey::new_unique());
    three.partition(&[&[0], &[1, 2]]);
    let (confirmed, finalized) = (three.slot(0, "confirmed").await, three.hash(0, "finalized").await);
    // A transaction that the node does not try again is lost with the block that it is in.
    three.send(0, &key, &lost, SOL, json!({ "maxRetries": 0 })).await.unwrap();
    three.lead(0, &[], 3 * DEPTH).await;
    assert_eq!(three.balance(0, &lost, "processed").await, SOL);
    assert_eq!(three.balance(0, &lost, "confirmed").await, 0);
    assert!(three.slot(0, "confirmed").await <= confirmed + 1, "the votes of the others are missing");
    assert_eq!(three.hash(0, "finalized").await, finalized);

    // The others are two thirds, and go on without it.
    three.send(1, &key, &kept, SOL / 2, json!({})).await.unwrap();
    three.lead(1, &[2], 2 * DEPTH).await;
    assert_eq!(three.balance(2, &kept, "confirmed").await, SOL / 2);
    three.until("the two finalize", async || three.balance(2, &kept, "finalized").await == SOL / 2).await;
    let fork = three.hash(0, "processed").await;

    three.heal();
    // The longer fork loses: it has a third of the votes.
    three.agree(&[1, 0, 2]).await;
    assert_ne!(three.hash(0, "processed").await, fork);
    assert_eq!(three.balance(0, &lost, "processed").await, 0);
    assert_eq!(three.balance(0, &kept, "confirmed").await, SOL / 2);
    // Slots are time: those of the lost fork have passed without a block.
    let parent = three.slot(1, "processed").await;
    three.lead(1, &[0, 2], 2).await;
    let blocks = three.ok(0, "getBlocks", json!([parent, { "commitment": "confirmed" }])).await;
    assert!(blocks[1].as_u64().unwrap() > parent + 1, "{blocks}");
    let skipped = three.call(0, "getBlock", json!([parent + 1, { "commitment": "confirmed" }])).await.unwrap_err();
    assert_eq!(skipped["code"], -32007);
    three.finalize().await;
    assert_eq!(three.balance(0, &kept, "finalized").await, SOL / 2);
    assert_eq!(three.balance(1, &lost, "finalized").await, 0);
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_fork_held_is_sent_again() {
    let three = Three::quick().await;
    let key = three.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    three.partition(&[&[0], &[1, 2]]);
    three.send(0, &key, &to, SOL, json!({})).await.unwrap();
    three.lead(0, &[], 1).await;
    assert_eq!(three.balance(0, &to, "processed").await, SOL);
    three.lead(2, &[1], 2).await;
    three.heal();
    three
        .until("it is included after all", async || {
            three.lead(2, &[0, 1], 1).await;
            three.balance(1, &to, "processed").await == SOL
        })
        .await;
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_node_resumes_and_catches_up() {
    let three = Three::quick().await;
    let to = three.funded(SOL).await.pubkey();
    let cluster = three.world.solana_nodes();
    let finalized = three.hash(2, "finalized").await;
    cluster.crash(NodeIndex(2)).await.unwrap();
    assert!(three.node(2).mine(1).await.is_err());
    // Two of three go on, further than one answer reaches.
    three.node(0).fund(&to.to_string(), SOL).await.unwrap();
    three.node(0).mine(700).await.unwrap();
    three.agree(&[0, 1]).await;
    three.lead(1, &[0], DEPTH + 2).await;
    assert_eq!(three.balance(0, &to, "finalized").await, 2 * SOL);

    // Alone with its journal it is where it was.
    three.partition(&[&[0, 1], &[2]]);
    cluster.restart(NodeIndex(2)).await.unwrap();
    assert_eq!(three.balance(2, &to, "finalized").await, SOL);
    assert_eq!(three.hash(2, "finalized").await, finalized);
    three.heal();
    three.agree(&[0, 2]).await;
    three.until("it finalizes", async || three.balance(2, &to, "finalized").await == 2 * SOL).await;
    three.lead(2, &[0, 1], 2).await;
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_on_command_takes_what_is_confirmed_but_never_what_is_final() {
    let three = Three::quick().await;
    let key = three.funded(2 * SOL).await;
    let to = Pubkey::new_unique();
    three.send(0, &key, &to, SOL, json!({ "maxRetries": 0 })).await.unwrap();
    three.lead(0, &[1, 2], 4).await;
    for node in 0..3 {
        three.until("it is confirmed", async || three.balance(node, &to, "confirmed").await == SOL).await;
    }
    let sure = three.hash(1, "finalized").await;
    let branch = three.ok(0, "sim_reorg", json!([{ "depth": 4 }])).await;
    assert_eq!(branch.as_array().unwrap().len(), 5);
    three.agree(&[0, 1, 2]).await;
    for node in 0..3 {
        assert_eq!(three.slot(node, "processed").await.to_string(), branch[4].as_str().unwrap());
        assert_eq!(three.balance(node, &to, "processed").await, 0);
    }
    let slots = three.ok(1, "getBlocks", json!([0])).await;
    let finals = async |node: u16| {
        let mut hashes = Vec::new();
        for slot in slots.as_array().unwrap() {
            let block = three.ok(node, "getBlock", json!([slot, { "transactionDetails": "none" }])).await;
            hashes.push(block["blockhash"].as_str().unwrap().to_owned());
        }
        hashes
    };
    assert!(finals(1).await.contains(&sure.to_string()), "what was final still is");

    three.finalize().await;
    assert!(three.balance(2, &to, "finalized").await == 0);
    for depth in [DEPTH - 1, DEPTH, 100] {
        let refused = three.call(1, "sim_reorg", json!([{ "depth": depth }])).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains("final"), "{refused}");
    }
    three.lead(2, &[0, 1], 1).await;
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_client_follows_a_node_through_reorganisations() {
    let three = Three::quick().await;
    let key = Keypair::new();
    let account = Account::new(
        "treasury".parse().unwrap(),
        Network::Solana(Cluster::Localnet),
        "ed25519".parse().unwrap(),
        KeyPath::root(),
        PublicKey::Ed25519(key.pubkey().to_bytes()),
    )
    .unwrap();
    let rpc = RpcClient::new(&three.node(0).url(), Auth::None, Duration::from_secs(10)).unwrap();
    let client = SolanaClient::new(rpc, Cluster::Localnet, Options::default());
    let balance = async || client.balance(&account, Asset::Native).await.unwrap().to_u64().unwrap();

    let mut held = 0;
    for depth in 1..=5 {
        for by_partition in [false, true] {
            three.agree(&[0, 1, 2]).await;
            let before = client.tip().await.unwrap();
            if by_partition {
                three.partition(&[&[0], &[1, 2]]);
                three.node(0).fund(&key.pubkey().to_string(), SOL).await.unwrap();
                three.lead(0, &[], depth).await;
                assert_eq!(balance().await, held, "one third confirms nothing");
                assert_eq!(three.balance(0, &key.pubkey(), "processed").await, held + SOL);
                three.lead(1, &[2], 2).await;
                three.heal();
                three.agree(&[1, 0, 2]).await;
            } else {
                three.node(0).fund(&key.pubkey().to_string(), SOL).await.unwrap();
                three.lead(0, &[1, 2], depth + 1).await;
                three.until("the client sees it", async || balance().await == held + SOL).await;
                three.ok(0, "sim_reorg", json!([{ "depth": depth + 1 }])).await;
                three.agree(&[0, 1, 2]).await;
                assert_eq!(balance().await, held, "a reorganisation of {depth} confirmed blocks takes it away");
            }
            three
                .until("it comes back", async || {
                    three.lead(1, &[0, 2], 1).await;
                    balance().await == held + SOL
                })
                .await;
            held += SOL;
            let after = client.tip().await.unwrap();
            assert!(after.finalized >= before.finalized && after.height > before.height);
            three.finalize().await;
        }
    }
    assert_eq!(three.balance(2, &key.pubkey(), "finalized").await, held);
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_solanas_own() {
    let three = Three::quick().await;
    let controller = Arc::clone(three.world.controller());
    let add = |fault, scope| {
        let rule = Rule { chain: Some(ChainKind::Solana), ..Rule::new(fault, scope) };
        controller.add_fault(rule).unwrap()
    };
    let calls = |methods: &[&str]| Scope::Rpc {
        nodes: vec![NodeIndex(0)],
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
    };
    let nodes = || Scope::Node { nodes: Vec::new() };
    let key = three.funded(3 * SOL).await;
    let to = Pubkey::new_unique();
    let pay = async |lamports: u64| three.send(0, &key, &to, lamports, json!({})).await;
    let seen = async |level: &str| three.balance(0, &to, level).await;

    // A lie is accepted and forgotten, by everyone.
    let lie = add(Fault::Lie, calls(&["sendTransaction"]));
    let payment = sign(&[&key], &[transfer(&key, &to, SOL)], three.hash(0, "finalized").await);
    let payment = json!([encode(&payment), { "encoding": "base64" }]);
    let signature = three.ok(0, "sendTransaction", payment.clone()).await;
    controller.faults().remove(&lie);
    three.lead(0, &[1, 2], 2).await;
    assert_eq!(three.ok(0, "getSignatureStatuses", json!([[signature]])).await["value"][0], Value::Null);
    assert_eq!(seen("processed").await, 0);

    // The same one, said again, is included.
    assert_eq!(three.ok(0, "sendTransaction", payment).await, signature);
    let (old, height) = (three.hash(0, "processed").await, three.ok(0, "getBlockHeight", json!([])).await);
    three.lead(0, &[1, 2], 3).await;
    let stale = add(Fault::Stale { blocks: 3 }, calls(&["get*"]));
    assert_eq!(three.hash(0, "processed").await, old);
    assert_eq!(seen("processed").await, 0);
    assert_eq!(three.ok(0, "getSignatureStatuses", json!([[signature]])).await["value"][0], Value::Null);
    assert!(three.ok(0, "getBlockHeight", json!([])).await.as_u64() <= height.as_u64());
    controller.faults().remove(&stale);
    assert_eq!(seen("processed").await, SOL);

    // Dear room: what offers less waits, and recent fees say so.
    let spike = add(Fault::FeeSpike { rate: 1_000 }, nodes());
    pay(SOL + 1).await.unwrap();
    three.lead(0, &[1, 2], 2).await;
    assert_eq!(seen("processed").await, SOL);
    let fees = three.ok(0, "getRecentPrioritizationFees", json!([])).await;
    assert!(fees.as_array().unwrap().iter().all(|fee| fee["prioritizationFee"] == 1_000));
    controller.faults().remove(&spike);

    // Full blocks: nothing gets in.
    let full = add(Fault::FullBlocks, nodes());
    three.lead(1, &[0, 2], 2).await;
    assert_eq!(seen("processed").await, SOL);
    // Evicted everywhere.
    for node in 0..3 {
        three.ok(node, "sim_evictMempool", json!([])).await;
    }
    controller.faults().remove(&full);
    three.lead(0, &[1, 2], 2).await;
    assert_eq!(seen("processed").await, SOL);

    // A node that holds all blockhashes for expired.
    let expired = add(Fault::ExpireBlockhash, nodes());
    let error = pay(7).await.unwrap_err();
    assert_eq!(error["data"]["err"], "BlockhashNotFound");
    let hash = three.hash(0, "processed").await.to_string();
    let valid = async |hash: &str| {
        three.ok(0, "isBlockhashValid", json!([hash, { "commitment": "processed" }])).await["value"].clone()
    };
    assert_eq!(valid(&hash).await, false);
    controller.faults().remove(&expired);
    assert_eq!(valid(&hash).await, true);
    // And one by which they are.
    three.ok(0, "sim_expireBlockhashes", json!([])).await;
    three.agree(&[0, 1, 2]).await;
    assert_eq!(valid(&hash).await, false);

    // A clock that is ahead stamps its blocks so.
    let skew = add(Fault::ClockSkew { millis: 3_600_000 }, Scope::Node { nodes: vec![NodeIndex(1)] });
    let slot = three.node(1).mine(1).await.unwrap();
    three.agree(&[1, 0]).await;
    let now = simulator::clock::Clock::unix_seconds(&*three.clock);
    assert_eq!(three.ok(0, "getBlockTime", json!([slot])).await, now + 3_600);
    controller.faults().remove(&skew);
    three.world.shutdown().await;
}

/// What a run of one seed skips, and what its bad network does: three nodes lead in turn.
async fn run(seed: u64) -> (Vec<u64>, Timeline) {
    let conditions = Conditions {
        latency: Latency { least_ms: 0, spread_ms: 3, tail_ms: 1 },
        loss: Probability::from_millionths(200_000),
        duplication: Probability::from_millionths(200_000),
    };
    let three = Three::with(conditions, seed, Probability::from_millionths(300_000)).await;
    for round in 0..12_u16 {
        let leader = round % 3;
        let others: Vec<u16> = (0..3).filter(|other| *other != leader).collect();
        three.lead(leader, &others, 1).await;
    }
    let height = three.ok(1, "getBlockHeight", json!([{ "commitment": "processed" }])).await;
    assert_eq!(height, 12, "a bad network delays but loses nothing");
    three.lead(0, &[1, 2], 1).await;
    three
        .until("all is confirmed", async || {
            three.ok(1, "getBlockHeight", json!([{ "commitment": "confirmed" }])).await == 12
        })
        .await;
    let blocks = three.ok(1, "getBlocks", json!([0, { "commitment": "confirmed" }])).await;
    let timeline = three.world.controller().faults().timeline();
    three.world.shutdown().await;
    (serde_json::from_value(blocks).unwrap(), timeline)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_seed_gives_one_timeline() {
    let (one, two, other) = tokio::join!(run(3), run(3), run(4));
    assert_eq!(one.0, two.0, "the same slots are skipped");
    assert!(one.0 != other.0 && one.0.last() > Some(&12));
    assert_eq!(one.1.difference(&two.1), None);
    assert!(one.1.strikes().len() > 10 && one.1.difference(&other.1).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_lead_in_turn() {
    let three = Three::quick().await;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": 5 }])).await;
    three.until("slots pass", async || three.slot(0, "finalized").await >= 12).await;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": null }])).await;
    three.agree(&[0, 1, 2]).await;
    let mut leaders = BTreeSet::new();
    for line in std::fs::read_to_string(three._folder.path().join("solana-1").join("journal")).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        leaders.extend(record["leader"].as_u64());
    }
    assert_eq!(leaders, BTreeSet::from([0, 1, 2]));
    three.world.shutdown().await;
}
