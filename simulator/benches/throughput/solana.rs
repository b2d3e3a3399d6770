//! Transfers of one lamport between wallets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use criterion::Criterion;
use futures::StreamExt as _;
use litesvm::LiteSVM;
use serde_json::json;
use simulator::clock::SystemClock;
use simulator::node::solana::SolanaConfig;
use simulator::world::{NodeCounts, World, WorldConfig};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_sdk::hash::Hash;
use solana_sdk::message::{Message, VersionedMessage};
use solana_sdk::pubkey::Pubkey;
use solana_sdk::signature::{Keypair, Signer as _};
use solana_sdk::transaction::VersionedTransaction;
use tokio::runtime::Runtime;

use crate::Figure;
use crate::client::Client;

const SOL: u64 = 1_000_000_000;
/// So many accounts pay.
const PAYERS: u8 = 100;
/// So many transfers each in one run.
const EACH: u32 = 40;
/// Of them are in flight at once.
const AT_ONCE: usize = 32;
/// The time between the slots of three nodes, as on mainnet. A slot has room for 2,000 transfers.
const INTERVAL: Duration = Duration::from_millis(400);
/// What one run takes.
const SLOTS: u32 = 2;
/// An account without lamports can't be opened with one.
const PAYEE_BEGINS_WITH: u64 = SOL;

/// Accounts that pay. No two transfers are alike: they differ in the compute units that they ask for.
struct Payers {
    keys: Vec<Keypair>,
    payee: Pubkey,
    made: u32,
}

impl Payers {
    fn new() -> Self {
        let key = |number: u8| Keypair::new_from_array([number; 32]);
        Self { keys: (1..=PAYERS).map(key).collect(), payee: key(200).pubkey(), made: 0 }
    }

    fn addresses(&self) -> impl Iterator<Item = Pubkey> + '_ {
        self.keys.iter().map(Keypair::pubkey).chain([self.payee])
    }

    /// The next transfers of all of them, signed.
    fn sign(&mut self, blockhash: Hash) -> Vec<VersionedTransaction> {
        let mut signed = Vec::new();
        for _ in 0..EACH {
            self.made += 1;
            for key in &self.keys {
                let units = ComputeBudgetInstruction::set_compute_unit_limit(1_000 + self.made);
                let pay = solana_system_interface::instruction::transfer(&key.pubkey(), &self.payee, 1);
                let message = Message::new_with_blockhash(&[units, pay], Some(&key.pubkey()), &blockhash);
                signed.push(VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[key]).unwrap());
            }
        }
        signed
    }

    /// What the payee has when all transfers have been executed.
    fn paid(&self) -> u64 {
        PAYEE_BEGINS_WITH + u64::from(self.made) * u64::from(PAYERS)
    }
}

/// All figures, the bare engine's first.
pub(crate) fn measure(criterion: &mut Criterion) -> Vec<Figure> {
    let transfers = u32::from(PAYERS) * EACH;
    let mut group = criterion.benchmark_group("solana");
    let runtime = Runtime::new().unwrap();
    let figure = |name| Figure::new(name, transfers);
    let bare = figure("litesvm, signatures known").measure(&mut group, bare(false));
    let signed = figure("litesvm, signatures verified").measure(&mut group, self::bare(true));
    let one = figure("one node, over HTTP").measure(&mut group, nodes(&runtime, 1, false));
    let tried = figure("one node, over HTTP, with preflight").measure(&mut group, nodes(&runtime, 1, true));
    let three = figure("three nodes, over HTTP").measure(&mut group, nodes(&runtime, 3, false));
    group.finish();
    let clone = clone_of_the_engine();
    println!("solana     a clone of litesvm with 100,000 accounts takes {clone:?}");
    vec![bare, signed, one, tried, three]
}

fn funded(addresses: impl Iterator<Item = Pubkey>) -> LiteSVM {
    let mut svm = LiteSVM::default().with_mainnet_features().with_builtins().with_sysvars();
    svm = svm.with_default_programs().with_transaction_history(0).with_blockhash_check(false);
    for address in addresses {
        let account = solana_sdk::account::Account { lamports: SOL, rent_epoch: u64::MAX, ..Default::default() };
        svm.set_account(address, account).unwrap();
    }
    svm
}

/// Why the node keeps an undo log: what a clone of the engine costs that has seen some use.
fn clone_of_the_engine() -> Duration {
    let svm = funded((0..100_000).map(|_| Pubkey::new_unique()));
    let began = Instant::now();
    let clone = svm.clone();
    let took = began.elapsed();
    drop(clone);
    took
}

/// Runs transfers on `litesvm` and nothing else, one after the other.
fn bare(verify: bool) -> impl FnMut() -> Duration {
    let mut payers = Payers::new();
    let mut svm = funded(payers.addresses()).with_sigverify(verify);
    move || {
        let signed = payers.sign(svm.latest_blockhash());
        let began = Instant::now();
        for transaction in signed {
            svm.send_transaction(transaction).unwrap();
        }
        let took = began.elapsed();
        assert_eq!(svm.get_balance(&payers.payee), Some(payers.paid()));
        took
    }
}

/// Submits transfers to the nodes in turn, and waits until all of them have them all in blocks. Journals are on the disk. One node makes
/// its slots on demand, several on an interval.
fn nodes(runtime: &Runtime, count: u16, preflight: bool) -> impl FnMut() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let mut payers = Payers::new();
    let interval = (count > 1).then_some(INTERVAL);
    let config = WorldConfig {
        dir: Some(folder.path().to_owned()),
        nodes: NodeCounts { solana: count, ..NodeCounts::default() },
        solana: SolanaConfig { block_interval: interval, ..SolanaConfig::default() },
        ..WorldConfig::default()
    };
    let client = Client::new();
    let world = runtime.block_on(async {
        let world = World::start(config, Arc::new(SystemClock)).await.unwrap();
        for address in payers.addresses() {
            world.solana().fund(&address.to_string(), SOL).await.unwrap();
        }
        world.solana().mine(16).await.unwrap();
        world
    });
    let urls: Vec<_> = world.solana_nodes().nodes().map(|node| node.url()).collect();
    runtime.block_on(async {
        for url in &urls {
            has(&client, url, &payers.payee, PAYEE_BEGINS_WITH).await;
        }
    });
    move || {
        let _folder = &folder;
        runtime.block_on(async {
            let signed = payers.sign(blockhash(&client, &urls[0]).await);
            let options =
                json!({ "encoding": "base64", "skipPreflight": !preflight, "preflightCommitment": "processed" });
            let encode = |signed: &VersionedTransaction| BASE64_STANDARD.encode(bincode::serialize(signed).unwrap());
            let calls: Vec<_> = signed.iter().map(|signed| json!([encode(signed), options])).collect();
            let began = Instant::now();
            let sent = futures::stream::iter(calls.into_iter().zip(urls.iter().cycle()))
                .map(|(params, url)| client.call(url, "sendTransaction", params))
                .buffer_unordered(AT_ONCE);
            sent.for_each(async |answer| assert!(answer["result"].is_string(), "{answer}")).await;
            if interval.is_none() {
                world.solana().mine(SLOTS).await.unwrap();
            }
            for url in &urls {
                has(&client, url, &payers.payee, payers.paid()).await;
            }
            began.elapsed()
        })
    }
}

/// A blockhash that no fork takes away.
async fn blockhash(client: &Client, url: &str) -> Hash {
    let answer = client.call(url, "getLatestBlockhash", json!([{ "commitment": "finalized" }])).await;
    answer["result"]["value"]["blockhash"].as_str().unwrap().parse().unwrap()
}

/// Waits until an account has so many lamports.
async fn has(client: &Client, url: &str, address: &Pubkey, lamports: u64) {
    let params = json!([address.to_string(), { "commitment": "processed" }]);
    while client.call(url, "getBalance", params.clone()).await["result"]["value"] != lamports {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
