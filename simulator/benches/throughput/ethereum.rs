//! Transfers of one wei between externally owned accounts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::consensus::transaction::SignerRecoverable as _;
use alloy::consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718 as _, Encodable2718 as _};
use alloy::primitives::{Address, Bytes, TxKind, U256, keccak256};
use criterion::Criterion;
use futures::StreamExt as _;
use k256::ecdsa::SigningKey;
use revm::context::{Context, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::state::AccountInfo;
use revm::{ExecuteCommitEvm as _, MainBuilder as _, MainContext as _};
use serde_json::{Value, json};
use simulator::clock::{ManualClock, SystemClock};
use simulator::node::ethereum::{Coin, EthereumConfig, EthereumNode};
use simulator::node::solana::SolanaConfig;
use simulator::rpc::CancellationToken;
use simulator::topology::NodeIndex;
use simulator::world::{NodeCounts, World, WorldConfig};
use tokio::runtime::Runtime;

use crate::Figure;
use crate::client::Client;

const CHAIN: u64 = 31_337;
const GWEI: u128 = 1_000_000_000;
/// So many accounts pay.
const PAYERS: usize = 100;
/// So many transfers each in one run.
const EACH: usize = 10;
/// Of them are in flight at once.
const AT_ONCE: usize = 32;
const PAYEE: Address = Address::repeat_byte(0x77);
/// The time between the blocks of three nodes. A block has room for 1,428 transfers.
const INTERVAL: Duration = Duration::from_millis(250);

/// Accounts that pay, and the nonces that they have come to.
struct Payers {
    keys: Vec<SigningKey>,
    nonce: u64,
}

impl Payers {
    fn new() -> Self {
        let key = |number: usize| SigningKey::from_slice(keccak256(format!("payer {number}")).as_slice()).unwrap();
        Self { keys: (0..PAYERS).map(key).collect(), nonce: 0 }
    }

    fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.keys.iter().map(Address::from_private_key)
    }

    /// The next transfers of all of them, signed.
    fn sign(&mut self) -> Vec<Bytes> {
        let from = self.nonce;
        self.nonce += u64::try_from(EACH).unwrap();
        let transfers = (from..self.nonce).flat_map(|nonce| self.keys.iter().map(move |key| transfer(key, nonce)));
        transfers.collect()
    }

    fn paid(&self) -> U256 {
        U256::from(self.nonce) * U256::from(PAYERS)
    }
}

fn transfer(key: &SigningKey, nonce: u64) -> Bytes {
    let tx = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 100 * GWEI,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(PAYEE),
        value: U256::ONE,
        ..TxEip1559::default()
    };
    let signature = key.sign_prehash_recoverable(tx.signature_hash().as_slice()).unwrap();
    TxEnvelope::from(tx.into_signed(signature.into())).encoded_2718().into()
}

/// All figures, the bare engine's first.
pub(crate) fn measure(criterion: &mut Criterion) -> Vec<Figure> {
    let transfers = u32::try_from(PAYERS * EACH).unwrap();
    let mut group = criterion.benchmark_group("ethereum");
    let runtime = Runtime::new().unwrap();
    let figure = |name| Figure::new(name, transfers);
    let bare = figure("revm, signatures known").measure(&mut group, bare(false));
    let signed = figure("revm, signatures recovered").measure(&mut group, self::bare(true));
    let one = figure("one node, in the process").measure(&mut group, one_node(&runtime));
    let asked = figure("one node over HTTP, pending balance asked").measure(&mut group, one_node_asked(&runtime));
    let three = figure("three nodes over HTTP").measure(&mut group, three_nodes(&runtime));
    group.finish();
    vec![bare, signed, one, asked, three]
}

/// Runs transfers on `revm` and nothing else, one after the other.
fn bare(recover: bool) -> impl FnMut() -> Duration {
    let mut payers = Payers::new();
    let mut db = CacheDB::new(EmptyDB::new());
    for address in payers.addresses() {
        db.insert_account_info(address, AccountInfo::from_balance(U256::MAX >> 1));
    }
    let mut evm = Context::mainnet().with_db(db).modify_cfg_chained(|cfg| cfg.chain_id = CHAIN).build_mainnet();
    move || {
        let senders: Vec<_> = payers.addresses().collect();
        let raw = payers.sign();
        let decoded: Vec<_> = raw.iter().map(|raw| TxEnvelope::decode_2718_exact(raw).unwrap()).collect();
        let began = Instant::now();
        for (tx, sender) in decoded.iter().zip(senders.iter().cycle()) {
            let caller = if recover { tx.recover_signer().unwrap() } else { *sender };
            let env = TxEnv {
                tx_type: 2,
                caller,
                gas_limit: tx.gas_limit(),
                gas_price: tx.max_fee_per_gas(),
                gas_priority_fee: tx.max_priority_fee_per_gas(),
                kind: tx.kind(),
                value: tx.value(),
                nonce: tx.nonce(),
                chain_id: tx.chain_id(),
                ..TxEnv::default()
            };
            assert!(evm.transact_commit(env).unwrap().is_success());
        }
        began.elapsed()
    }
}

/// A node with its journal on the disk, where the payers have money.
fn node(runtime: &Runtime, payers: &Payers) -> (EthereumNode, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = EthereumConfig { dir: Some(folder.path().to_owned()), ..EthereumConfig::default() };
    let clock = Arc::new(ManualClock::new(1_750_000_000_000));
    let node = runtime.block_on(async {
        let node = EthereumNode::start(config, clock, CancellationToken::new()).await.unwrap();
        fund(&node, payers).await;
        node
    });
    (node, folder)
}

/// Submits transfers over HTTP, each after a question for the payer's pending balance, as the gateway's client does.
fn one_node_asked(runtime: &Runtime) -> impl FnMut() -> Duration {
    let mut payers = Payers::new();
    let (node, folder) = node(runtime, &payers);
    let client = Client::new();
    let url = node.url();
    move || {
        let _folder = &folder;
        let raw = payers.sign();
        let senders: Vec<_> = payers.addresses().collect();
        runtime.block_on(async {
            let began = Instant::now();
            let sent = futures::stream::iter(raw.iter().zip(senders.iter().cycle())).map(async |(raw, sender)| {
                amount(&client, &url, "eth_getBalance", json!([sender, "pending"])).await;
                client.call(&url, "eth_sendRawTransaction", json!([raw])).await
            });
            let sent = sent.buffer_unordered(AT_ONCE);
            sent.for_each(async |answer| assert!(answer["result"].is_string(), "{answer}")).await;
            node.mine(1).await.unwrap();
            let took = began.elapsed();
            assert_eq!(paid(&client, &url).await, payers.paid());
            node.mine(1).await.unwrap();
            took
        })
    }
}

/// Submits transfers to one node with its journal on the disk, and makes the block that they are in.
fn one_node(runtime: &Runtime) -> impl FnMut() -> Duration {
    let mut payers = Payers::new();
    let (node, folder) = node(runtime, &payers);
    let client = Client::new();
    move || {
        let _folder = &folder;
        let raw = payers.sign();
        runtime.block_on(async {
            let began = Instant::now();
            let sent = futures::stream::iter(raw).map(|raw| node.submit(raw)).buffer_unordered(AT_ONCE);
            sent.for_each(async |sent| assert!(sent.is_ok(), "{sent:?}")).await;
            node.mine(1).await.unwrap();
            let took = began.elapsed();
            assert_eq!(paid(&client, &node.url()).await, payers.paid());
            // An empty block, so that the base fee doesn't rise for ever.
            node.mine(1).await.unwrap();
            took
        })
    }
}

async fn fund(node: &EthereumNode, payers: &Payers) {
    for address in payers.addresses() {
        node.fund(&address.to_string(), U256::from(1_000 * GWEI * GWEI), Coin::Ether).await.unwrap();
    }
}

/// Submits transfers to three nodes in turn, and waits until all three have them all in blocks.
fn three_nodes(runtime: &Runtime) -> impl FnMut() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let mut payers = Payers::new();
    let config = WorldConfig {
        dir: Some(folder.path().to_owned()),
        nodes: NodeCounts { ethereum: 3, ..NodeCounts::default() },
        ethereum: EthereumConfig { block_interval: Some(INTERVAL), ..EthereumConfig::default() },
        solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
        ..WorldConfig::default()
    };
    let client = Client::new();
    let (world, urls) = runtime.block_on(async {
        let world = World::start(config, Arc::new(SystemClock)).await.unwrap();
        fund(&world.ethereum(), &payers).await;
        let urls: Vec<_> = world.ethereum_nodes().nodes().map(|node| node.url()).collect();
        let address = payers.addresses().last().unwrap();
        for url in &urls {
            while amount(&client, url, "eth_getBalance", json!([address, "latest"])).await.is_zero() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        (world, urls)
    });
    move || {
        let _folder = &folder;
        assert!(world.ethereum_nodes().node(NodeIndex(2)).is_ok());
        let raw = payers.sign();
        runtime.block_on(async {
            let began = Instant::now();
            let sent = futures::stream::iter(raw.iter().zip(urls.iter().cycle()))
                .map(|(raw, url)| client.call(url, "eth_sendRawTransaction", json!([raw])))
                .buffer_unordered(AT_ONCE);
            sent.for_each(async |answer| assert!(answer["result"].is_string(), "{answer}")).await;
            for url in &urls {
                while paid(&client, url).await != payers.paid() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            began.elapsed()
        })
    }
}

async fn amount(client: &Client, url: &str, method: &str, params: Value) -> U256 {
    serde_json::from_value(client.call(url, method, params).await["result"].take()).unwrap()
}

/// What the payee has in blocks.
async fn paid(client: &Client, url: &str) -> U256 {
    amount(client, url, "eth_getBalance", json!([PAYEE, "latest"])).await
}
