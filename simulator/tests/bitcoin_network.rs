//! Several Bitcoin nodes: gossip, branches, partitions, crashes, and the gateway's own client through all of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

#[path = "bitcoin_support/wallet.rs"]
#[expect(dead_code, reason = "shared with other tests, which use the rest")]
mod wallet;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction};
use chains::account::{Account, KeyPath, PublicKey};
use chains::asset::Asset;
use chains::bitcoin::{BitcoinClient, Options};
use chains::client::Client as _;
use chains::rpc::{Auth, RpcClient};
use serde_json::{Value, json};
use simulator::clock::ManualClock;
use simulator::fault::rule::{Fault, Rule, Scope};
use simulator::network::{Conditions, Latency};
use simulator::node::bitcoin::BitcoinNode;
use simulator::node::solana::SolanaConfig;
use simulator::seed::{Probability, Seed};
use simulator::topology::{ChainKind, NodeIndex};
use simulator::world::{NodeCounts, World, WorldConfig};
use wallet::{Client, Kind, Wallet};

const FUNDS: u64 = 1_000_000;

struct Three {
    world: World,
    clients: Vec<Client>,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
}

impl Three {
    async fn start(conditions: Conditions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_750_000_000_000));
        let config = WorldConfig {
            dir: Some(folder.path().to_owned()),
            seed: Seed(11),
            nodes: NodeCounts { bitcoin: 3, ..NodeCounts::default() },
            network: conditions,
            solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
            ..WorldConfig::default()
        };
        let world = World::start(config, clock.clone()).await.unwrap();
        let clients = (0..3).map(|index| client(&world.bitcoin_nodes().node(NodeIndex(index)).unwrap())).collect();
        Self { world, clients, clock, _folder: folder }
    }

    /// A quick network that loses nothing.
    async fn quick() -> Self {
        let latency = Latency { least_ms: 0, spread_ms: 2, tail_ms: 0 };
        Self::start(Conditions { latency, ..Conditions::default() }).await
    }

    fn node(&self, index: u16) -> Arc<BitcoinNode> {
        self.world.bitcoin_nodes().node(NodeIndex(index)).unwrap()
    }

    async fn ok(&self, index: usize, method: &str, params: Value) -> Value {
        self.clients[index].ok(method, params).await
    }

    async fn tip(&self, index: usize) -> Value {
        self.ok(index, "getbestblockhash", json!([])).await
    }

    /// Waits until a node answers a call like this.
    async fn until(&self, index: usize, method: &str, params: Value, is: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let answer = self.ok(index, method, params.clone()).await;
                if is(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{method} at node {index}"))
    }

    async fn agree(&self, nodes: &[usize]) {
        let tip = self.tip(nodes[0]).await;
        for node in nodes {
            self.until(*node, "getbestblockhash", json!([]), |other| *other == tip).await;
        }
    }

    fn partition(&self, groups: &[&[u16]]) {
        let groups: Vec<Vec<_>> = groups.iter().map(|group| group.iter().copied().map(NodeIndex).collect()).collect();
        self.world.bitcoin_nodes().network().partition(&groups);
    }

    async fn fund(&self, index: u16, wallet: &Wallet) -> (OutPoint, Amount) {
        let amount = Amount::from_sat(FUNDS);
        let txid = self.node(index).fund(&wallet.address().to_string(), amount).await.unwrap();
        let hex = self.ok(usize::from(index), "getrawtransaction", json!([txid])).await;
        let tx: Transaction = bitcoin::consensus::encode::deserialize_hex(hex.as_str().unwrap()).unwrap();
        let vout = tx.output.iter().position(|output| output.script_pubkey == wallet.script()).unwrap();
        (OutPoint::new(txid, u32::try_from(vout).unwrap()), amount)
    }
}

fn client(node: &BitcoinNode) -> Client {
    let cookie = std::fs::read_to_string(node.cookie_file().unwrap()).unwrap();
    Client::new(&node.url(), Some(&cookie))
}

fn destination() -> ScriptBuf {
    Wallet::new(9, Kind::P2wpkh).script()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_and_blocks_reach_everyone() {
    let three = Three::quick().await;
    assert_eq!(three.tip(0).await, three.tip(2).await, "all begin with the same blocks");
    for index in 0..3 {
        assert_eq!(three.ok(index, "getconnectioncount", json!([])).await, 2);
        let peers = three.ok(index, "getpeerinfo", json!([])).await;
        let inbound = peers.as_array().unwrap().iter().filter(|peer| peer["inbound"] == true).count();
        assert_eq!(three.ok(index, "getnetworkinfo", json!([])).await["connections_in"], inbound);
    }

    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = three.fund(0, &wallet).await;
    three.agree(&[0, 1, 2]).await;
    let tx = wallet.spend(&[coin], destination(), 1_000);
    let txid = three.ok(1, "sendrawtransaction", json!([serialize_hex(&tx)])).await;
    for index in [0, 2] {
        three.until(index, "getrawmempool", json!([]), |pool| *pool == json!([txid])).await;
    }
    let block = three.node(2).mine(1).await.unwrap()[0];
    for index in [0, 1] {
        let shown = three
            .until(index, "getrawtransaction", json!([txid, true]), |shown| shown.get("blockhash").is_some())
            .await;
        assert_eq!(shown["blockhash"], json!(block));
        three.until(index, "getrawmempool", json!([]), |pool| *pool == json!([])).await;
    }
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_reorganises_the_shorter_half() {
    let three = Three::quick().await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = three.fund(0, &wallet).await;
    three.agree(&[0, 1, 2]).await;

    three.partition(&[&[0], &[1, 2]]);
    assert_eq!(three.ok(0, "getconnectioncount", json!([])).await, 0);
    let tx = wallet.spend(&[coin], destination(), 1_000);
    let txid = three.ok(0, "sendrawtransaction", json!([serialize_hex(&tx)])).await;
    let lost = three.node(0).mine(2).await.unwrap();
    three.node(1).mine(3).await.unwrap();
    three.agree(&[1, 2]).await;
    assert_ne!(three.tip(0).await, three.tip(1).await);
    assert_eq!(three.ok(2, "getrawmempool", json!([])).await, json!([]), "nothing crosses the partition");

    three.world.bitcoin_nodes().network().heal();
    three.agree(&[1, 0]).await;
    let tips = three.ok(0, "getchaintips", json!([])).await;
    let fork = tips.as_array().unwrap().iter().find(|tip| tip["hash"] == json!(lost[1])).unwrap();
    assert_eq!((&fork["status"], &fork["branchlen"]), (&json!("valid-fork"), &json!(2)));
    // What the losing branch held waits again, and everyone gets to know of it.
    assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([txid]));
    three.node(0).mine(1).await.unwrap();
    three.agree(&[0, 1, 2]).await;
    assert_eq!(three.ok(2, "getrawtransaction", json!([txid, true])).await["confirmations"], 1);
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_refuses_the_others_block_keeps_its_own() {
    let three = Three::quick().await;
    let mined = three.node(1).mine(2).await.unwrap();
    three.agree(&[1, 0, 2]).await;
    three.node(0).invalidate(mined[0]).await.unwrap();
    let own = three.node(0).mine(1).await.unwrap();
    three.node(2).mine(2).await.unwrap();
    three.agree(&[2, 1]).await;
    let wallet = Wallet::new(1, Kind::P2wpkh);
    assert_eq!(three.tip(0).await, json!(own[0]));
    three.node(0).reconsider(mined[0]).await.unwrap();
    three.agree(&[1, 0]).await;
    three.fund(0, &wallet).await;
    three.agree(&[0, 1, 2]).await;
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_node_resumes_and_catches_up() {
    let three = Three::quick().await;
    let cluster = three.world.bitcoin_nodes();
    three.node(2).mine(1).await.unwrap();
    three.agree(&[2, 0, 1]).await;
    cluster.crash(NodeIndex(2)).await.unwrap();
    assert!(three.node(2).mine(1).await.is_err());
    // More than a locator lists one by one.
    three.node(0).mine(40).await.unwrap();
    three.agree(&[0, 1]).await;
    cluster.restart(NodeIndex(2)).await.unwrap();
    let three = Three { clients: (0..3).map(|index| client(&three.node(index))).collect(), ..three };
    three.agree(&[0, 2]).await;
    let tips = three.ok(2, "getchaintips", json!([])).await;
    assert_eq!(tips.as_array().unwrap().len(), 1, "its journal and its peers agree");
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_delays_but_loses_nothing() {
    let conditions = Conditions {
        latency: Latency { least_ms: 0, spread_ms: 3, tail_ms: 1 },
        loss: Probability::from_millionths(300_000),
        duplication: Probability::from_millionths(300_000),
    };
    let three = Three::start(conditions).await;
    for round in 0..12 {
        three.node(round % 3).mine(1).await.unwrap();
        let index = usize::from(round % 3);
        let others: Vec<_> = std::iter::once(index).chain((0..3).filter(|other| *other != index)).collect();
        three.agree(&others).await;
    }
    assert_eq!(three.ok(1, "getblockcount", json!([])).await, 142);
    three.world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_bitcoins_own() {
    let three = Three::quick().await;
    let controller = Arc::clone(three.world.controller());
    let add = |fault, scope| {
        let rule = Rule { chain: Some(ChainKind::Bitcoin), ..Rule::new(fault, scope) };
        controller.add_fault(rule).unwrap()
    };
    let calls = |methods: &[&str]| Scope::Rpc {
        nodes: vec![NodeIndex(0)],
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
    };
    let nodes = || Scope::Node { nodes: Vec::new() };
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let coin = three.fund(0, &wallet).await;
    three.agree(&[0, 1, 2]).await;
    let pay = |fee| wallet.spend(&[coin], destination(), fee);
    let raw = |fee| json!([serialize_hex(&pay(fee))]);

    // A lie is accepted and forgotten.
    let lie = add(Fault::Lie, calls(&["sendrawtransaction"]));
    let txid = three.ok(0, "sendrawtransaction", raw(500)).await;
    assert_eq!(txid, json!(pay(500).compute_txid()));
    assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([]));
    controller.faults().remove(&lie);

    // A stale answer is one of some blocks ago, blocks included.
    let (old, height) = (three.tip(0).await, three.ok(0, "getblockcount", json!([])).await);
    three.node(0).mine(3).await.unwrap();
    let newest = three.tip(0).await;
    let stale = add(Fault::Stale { blocks: 3 }, calls(&["getblock*", "getbest*"]));
    assert_eq!(three.tip(0).await, old);
    assert_eq!(three.ok(0, "getblockcount", json!([])).await, height);
    assert_eq!(three.clients[0].error("getblock", json!([newest])).await.0, -5);
    controller.faults().remove(&stale);
    assert_eq!(three.tip(0).await, newest);

    // Dear room: what pays less is refused, waits, and the estimate says so.
    let spike = add(Fault::FeeSpike { rate: 20_000 }, nodes());
    let (code, message) = three.clients[0].error("sendrawtransaction", raw(500)).await;
    assert_eq!((code, message.starts_with("mempool min fee not met")), (-26, true), "{message}");
    assert_eq!(three.ok(0, "estimatesmartfee", json!([6])).await["feerate"], json!(0.0002));
    assert_eq!(three.ok(0, "getmempoolinfo", json!([])).await["mempoolminfee"], json!(0.0002));
    controller.faults().remove(&spike);
    let txid = three.ok(0, "sendrawtransaction", raw(500)).await;
    let spike = add(Fault::FeeSpike { rate: 20_000 }, nodes());
    three.node(0).mine(1).await.unwrap();
    assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([txid]));
    controller.faults().remove(&spike);

    // Pinned: no replacement; without, the same one gets in.
    let pinned = add(Fault::Pinning, nodes());
    let (code, message) = three.clients[0].error("sendrawtransaction", raw(5_000)).await;
    assert_eq!((code, message.starts_with("insufficient fee")), (-26, true), "{message}");
    controller.faults().remove(&pinned);
    let txid = three.ok(0, "sendrawtransaction", raw(5_000)).await;

    // Full blocks: nothing gets in.
    let full = add(Fault::FullBlocks, nodes());
    three.node(0).mine(2).await.unwrap();
    assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([txid]));
    controller.faults().remove(&full);

    // Evicted, by the rule alone.
    add(Fault::EvictMempool, Scope::Node { nodes: vec![NodeIndex(0)] });
    three.until(0, "getrawmempool", json!([]), |pool| *pool == json!([])).await;

    // A clock that is ahead stamps its blocks so.
    let skew = add(Fault::ClockSkew { millis: 3_600_000 }, Scope::Node { nodes: vec![NodeIndex(1)] });
    three.agree(&[0, 1]).await;
    let hash = three.node(1).mine(1).await.unwrap()[0];
    let now = simulator::clock::Clock::unix_seconds(&*three.clock);
    assert_eq!(three.ok(1, "getblockheader", json!([hash])).await["time"], now + 3_600);
    controller.faults().remove(&skew);
    three.world.shutdown().await;
}

/// Who mined a block: where the coinbase's salt says so.
fn miner(block: &Value) -> u8 {
    let script = hex::decode(block["tx"][0]["vin"][0]["coinbase"].as_str().unwrap()).unwrap();
    // Eight bytes end the script, the lowest first; the node's place is in the uppermost two.
    script[script.len() - 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_make_blocks_in_turn() {
    let three = Three::quick().await;
    let first = three.node(0).height().await.unwrap() + 1;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": 3 }])).await;
    three.until(0, "getblockcount", json!([]), |height| height.as_u64().unwrap() >= u64::from(first) + 12).await;
    three.ok(1, "sim_setBlockProduction", json!([{ "interval_ms": null }])).await;
    let mut miners = std::collections::BTreeSet::new();
    for height in first..first + 12 {
        let hash = three.ok(0, "getblockhash", json!([height])).await;
        miners.insert(miner(&three.ok(0, "getblock", json!([hash, 2])).await));
    }
    assert!(miners.len() > 1 && miners.iter().all(|miner| *miner < 3), "{miners:?}");
    three.world.shutdown().await;
}

/// The client that the gateway uses, at the first node.
fn follower(three: &Three, wallet: &Wallet) -> (BitcoinClient, Account) {
    let node = three.node(0);
    let auth = Auth::BasicFile(node.cookie_file().unwrap().to_owned());
    let rpc = RpcClient::new(&node.url(), auth, Duration::from_secs(10)).unwrap();
    let secp = bitcoin::key::Secp256k1::new();
    let secret = bitcoin::secp256k1::SecretKey::from_slice(&[1; 32]).unwrap();
    let key = PublicKey::Ecdsa(bitcoin::CompressedPublicKey(secret.public_key(&secp)));
    let network = "bitcoin:regtest".parse().unwrap();
    let account = Account::new("test".parse().unwrap(), network, "key".parse().unwrap(), KeyPath::root(), key).unwrap();
    assert_eq!(account.address().to_string(), wallet.address().to_string());
    (BitcoinClient::new(rpc, Network::Regtest, [wallet.script()], 0, Options::default()), account)
}

/// A payment to the wallet that `depth` blocks confirm leaves the chain with them, and comes back.
async fn follow_through(three: &Three, depth: u32, by_partition: bool) {
    let wallet = Wallet::new(1, Kind::P2wpkh);
    let (client, account) = follower(three, &wallet);
    let balance = async || client.balance(&account, Asset::Native).await.unwrap();
    let sats = chains::amount::Amount::from_sat;
    let before = balance().await;
    let funded = before.checked_add(sats(FUNDS)).unwrap();

    three.agree(&[0, 1, 2]).await;
    if by_partition {
        three.partition(&[&[0], &[1, 2]]);
        let (outpoint, _) = three.fund(0, &wallet).await;
        three.node(0).mine(depth - 1).await.unwrap();
        assert_eq!(balance().await, funded);
        three.node(1).mine(depth + 1).await.unwrap();
        three.world.bitcoin_nodes().network().heal();
        three.agree(&[1, 0]).await;
        assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([outpoint.txid]));
    } else {
        let (outpoint, _) = three.fund(0, &wallet).await;
        three.node(0).mine(depth - 1).await.unwrap();
        assert_eq!(balance().await, funded);
        let branch = three.ok(0, "sim_reorg", json!([{ "depth": depth }])).await;
        let branch = branch.as_array().unwrap();
        assert_eq!(u32::try_from(branch.len()).unwrap(), depth + 1);
        assert_eq!(three.tip(0).await, *branch.last().unwrap());
        assert_eq!(three.ok(0, "getrawmempool", json!([])).await, json!([outpoint.txid]));
    }
    // Others' unconfirmed payments don't count.
    assert_eq!(balance().await, before, "a reorganisation of {depth} blocks takes the payment away");
    let height = client.tip().await.unwrap().height;
    assert_eq!(height, u64::from(three.node(0).height().await.unwrap()));
    three.node(0).mine(1).await.unwrap();
    assert_eq!(balance().await, funded, "and the next block brings it back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_client_survives_reorganisations() {
    let three = Three::quick().await;
    for depth in 1..=6 {
        follow_through(&three, depth, false).await;
        follow_through(&three, depth, true).await;
    }
    three.agree(&[0, 1, 2]).await;
    assert!(three.world.bitcoin_nodes().reorg(None, 100_000).await.is_err());
    three.world.shutdown().await;
}
