//! Payments from P2WPKH coins, one input and two outputs each: so many satoshis to the payee and the change back to the payer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::key::{CompressedPublicKey, Secp256k1};
use bitcoin::secp256k1::{All, Message, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{
    Address, Amount, KnownHrp, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute, ecdsa, transaction,
};
use criterion::Criterion;
use futures::StreamExt as _;
use serde_json::json;
use simulator::clock::SystemClock;
use simulator::node::bitcoin::rules::Coin;
use simulator::node::bitcoin::{BitcoinConfig, script};
use simulator::node::solana::SolanaConfig;
use simulator::world::{NodeCounts, World, WorldConfig};
use tokio::runtime::Runtime;

use crate::Figure;
use crate::client::Client;

/// So many coins are spent in one run, each once.
const COINS: u32 = 3_000;
/// Of the payments so many are in flight at once.
const AT_ONCE: usize = 32;
const SATOSHIS: Amount = Amount::from_sat(1_000);
const FEE: Amount = Amount::from_sat(300);
/// What each coin begins with.
const BEGINS_WITH: Amount = Amount::from_sat(1_000_000);
/// The time between the blocks of three nodes. A block has room for some 7,000 payments.
const INTERVAL: Duration = Duration::from_millis(250);

/// One key, and the coins that it has.
struct Payer {
    secp: Secp256k1<All>,
    key: SecretKey,
    script: ScriptBuf,
    payee: ScriptBuf,
    coins: Vec<(OutPoint, Amount)>,
}

impl Payer {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let script = |number: u8| {
            let key = SecretKey::from_slice(&[number; 32]).unwrap();
            (key, CompressedPublicKey(key.public_key(&secp)).wpubkey_hash())
        };
        let ((key, hash), (_, payee)) = (script(1), script(2));
        Self {
            key,
            script: ScriptBuf::new_p2wpkh(&hash),
            payee: ScriptBuf::new_p2wpkh(&payee),
            secp,
            coins: Vec::new(),
        }
    }

    fn address(&self) -> Address {
        let key = CompressedPublicKey(self.key.public_key(&self.secp));
        Address::p2wpkh(&key, KnownHrp::from(Network::Regtest))
    }

    /// Spends one coin.
    fn spend(&self, (outpoint, amount): (OutPoint, Amount), output: Vec<TxOut>) -> Transaction {
        let input = TxIn { previous_output: outpoint, sequence: Sequence::MAX, ..TxIn::default() };
        let mut tx = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![input],
            output,
        };
        let all = EcdsaSighashType::All;
        let hash = SighashCache::new(&tx).p2wpkh_signature_hash(0, &self.script, amount, all).unwrap();
        let signature = self.secp.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &self.key);
        let signature = ecdsa::Signature { signature, sighash_type: all };
        tx.input[0].witness = Witness::p2wpkh(&signature, &self.key.public_key(&self.secp));
        tx
    }

    /// Splits a coin into those that the runs begin with.
    fn split(&mut self, coin: (OutPoint, Amount)) -> Transaction {
        let output = TxOut { value: BEGINS_WITH, script_pubkey: self.script.clone() };
        let tx = self.spend(coin, vec![output; usize::try_from(COINS).unwrap()]);
        let txid = tx.compute_txid();
        self.coins = (0..COINS).map(|vout| (OutPoint { txid, vout }, BEGINS_WITH)).collect();
        tx
    }

    /// The next payments, one of every coin, with what they spend; the change is the next run's coin.
    fn pay(&mut self) -> Vec<(Transaction, Coin)> {
        let coins = std::mem::take(&mut self.coins);
        let mut paid = Vec::with_capacity(coins.len());
        for coin in coins {
            let change = coin.1 - SATOSHIS - FEE;
            let to = |value, script: &ScriptBuf| TxOut { value, script_pubkey: script.clone() };
            let tx = self.spend(coin, vec![to(SATOSHIS, &self.payee), to(change, &self.script)]);
            self.coins.push((OutPoint { txid: tx.compute_txid(), vout: 1 }, change));
            paid.push((tx, Coin { output: to(coin.1, &self.script), height: 1, coinbase: false }));
        }
        paid
    }
}

/// All figures, the bare engine's first.
pub(crate) fn measure(criterion: &mut Criterion) -> Vec<Figure> {
    let mut group = criterion.benchmark_group("bitcoin");
    let runtime = Runtime::new().unwrap();
    let figure = |name| Figure::new(name, COINS);
    let bare = figure("bitcoinconsensus, scripts verified").measure(&mut group, bare());
    let one = figure("one node over HTTP").measure(&mut group, nodes(&runtime, 1));
    let three = figure("three nodes over HTTP").measure(&mut group, nodes(&runtime, 3));
    group.finish();
    vec![bare, one, three]
}

/// Verifies the scripts of payments by Bitcoin Core's code and does nothing else, one after the other.
fn bare() -> impl FnMut() -> Duration {
    let mut payer = Payer::new();
    payer.split((OutPoint { txid: Txid::all_zeros(), vout: 0 }, Amount::ONE_BTC * 50));
    move || {
        let paid = payer.pay();
        let began = Instant::now();
        for (tx, coin) in &paid {
            script::verify(tx, std::slice::from_ref(coin)).unwrap();
        }
        began.elapsed()
    }
}

/// Submits payments to the nodes in turn, and waits until all of them have them all in blocks. Journals are on the disk. One node makes
/// its blocks on demand, several on an interval.
fn nodes(runtime: &Runtime, count: u16) -> impl FnMut() -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let interval = (count > 1).then_some(INTERVAL);
    let config = WorldConfig {
        dir: Some(folder.path().to_owned()),
        nodes: NodeCounts { bitcoin: count, ..NodeCounts::default() },
        bitcoin: BitcoinConfig { block_interval: interval, ..BitcoinConfig::default() },
        solana: SolanaConfig { block_interval: None, ..SolanaConfig::default() },
        ..WorldConfig::default()
    };
    let (client, mut payer) = (Client::new(), Payer::new());
    let world = runtime.block_on(World::start(config, Arc::new(SystemClock))).unwrap();
    let urls: Vec<_> = world
        .bitcoin_nodes()
        .nodes()
        .map(|node| {
            let cookie = std::fs::read_to_string(node.cookie_file().unwrap()).unwrap();
            node.url().replacen("http://", &format!("http://{cookie}@"), 1)
        })
        .collect();
    runtime.block_on(async {
        let all = BEGINS_WITH * u64::from(COINS) + Amount::from_sat(1_000_000);
        let txid = world.bitcoin().fund(&payer.address().to_string(), all).await.unwrap();
        let raw = client.call(&urls[0], "getrawtransaction", json!([txid])).await;
        let funding: Transaction = deserialize_hex(raw["result"].as_str().unwrap()).unwrap();
        let vout = funding.output.iter().position(|output| output.script_pubkey == payer.script).unwrap();
        let vout = u32::try_from(vout).unwrap();
        let split = payer.split((OutPoint { txid, vout }, all));
        let sent = client.call(&urls[0], "sendrawtransaction", json!([serialize_hex(&split)])).await;
        assert!(sent["result"].is_string(), "{sent}");
        world.bitcoin().mine(1).await.unwrap();
        settled(&client, &urls, &payer).await;
    });
    move || {
        let _folder = &folder;
        runtime.block_on(async {
            let raw: Vec<_> = payer.pay().iter().map(|(tx, _)| serialize_hex(tx)).collect();
            let began = Instant::now();
            let sent = futures::stream::iter(raw.into_iter().zip(urls.iter().cycle()))
                .map(|(raw, url)| client.call(url, "sendrawtransaction", json!([raw])))
                .buffer_unordered(AT_ONCE);
            sent.for_each(async |answer| assert!(answer["result"].is_string(), "{answer}")).await;
            if interval.is_none() {
                world.bitcoin().mine(1).await.unwrap();
            }
            settled(&client, &urls, &payer).await;
            began.elapsed()
        })
    }
}

/// Waits until every node has all of the payer's coins in blocks.
async fn settled(client: &Client, urls: &[String], payer: &Payer) {
    let (all, script) = (payer.coins.iter().map(|(_, amount)| *amount).sum(), payer.script.to_hex_string());
    let params = json!(["start", [format!("raw({script})")]]);
    for url in urls {
        loop {
            let answer = client.call(url, "scantxoutset", params.clone()).await;
            let found = answer["result"]["total_amount"].as_f64().unwrap_or_else(|| panic!("{answer}"));
            if Amount::from_btc(found) == Ok(all) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
