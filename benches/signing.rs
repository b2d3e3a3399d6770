//! What a threshold signature costs, beside what it must cost at least.
//!
//! `cargo bench --bench signing` has two parts. Criterion measures the single-key floor (libsecp256k1, ed25519-dalek), the
//! bare library calls of one 2-of-3 signature, and the same signature end to end through a pool in memory: evidence judged
//! by each signer, slots burned on the disk, letters sealed, the result verified. Then one run measures all of them side
//! by side and prints median, 99th percentile, ratios and the throughput with 1, 8 and 64 sessions in flight.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_arithmetic,
    reason = "a bench states its assumptions bluntly, and its figures are for people"
)]

#[path = "signing/library.rs"]
mod library;
#[allow(dead_code, unexpected_cfgs, reason = "shared with the tests of the pool, whose features the bench lacks")]
#[path = "../signer/tests/pool/world.rs"]
mod world;

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chains::account::Account;
use chains::amount::Amount;
use chains::chain::Chain;
use criterion::{BatchSize, Criterion};
use futures::StreamExt as _;
use signer::pool::SchemeId;
use signer::request::SigningRequest;

use library::{Floor, Library};
use world::{BTC_PAYEE, ETH_PAYEE, EVM, REGTEST, SOL_PAYEE, SVM, World, key, wallet};

const SCHEMES: [SchemeId; 3] = [SchemeId::Ed25519, SchemeId::Taproot, SchemeId::Ecdsa];

/// A pool with a wallet of each scheme, and the requests to it.
struct Bench {
    world: World,
    next: AtomicU32,
}

impl Bench {
    async fn start() -> Self {
        let world = World::start(|_| ()).await;
        let keys = SCHEMES.map(|scheme| key(scheme.name(), scheme));
        let wallets = vec![
            wallet("treasury-sol", SVM, "ed25519", "m"),
            wallet("treasury-tr", REGTEST, "taproot", "m"),
            wallet("treasury-eth", EVM, "ecdsa", "m/0"),
        ];
        world.pool.ensure_keys(&keys, |_| ()).await.unwrap();
        world.install(wallets).await;
        Self { world, next: AtomicU32::new(1) }
    }

    /// A payment that was never asked for before: one signature, one slot.
    fn request(&self, scheme: SchemeId) -> SigningRequest {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let spec = match scheme {
            SchemeId::Ed25519 => wallet("treasury-sol", SVM, "ed25519", "m"),
            SchemeId::Taproot => wallet("treasury-tr", REGTEST, "taproot", "m"),
            SchemeId::Ecdsa => wallet("treasury-eth", EVM, "ecdsa", "m/0"),
        };
        let account = self.world.pool.account(&spec).unwrap();
        match scheme {
            SchemeId::Ed25519 => {
                let amount = Amount::from_lamports(1_000_000 + u64::from(number));
                self.build(number, &world::solana(), &account, &world::solana_state(), SOL_PAYEE, amount)
            }
            SchemeId::Taproot => {
                let state = coin(&account, number);
                self.build(number, &world::bitcoin_chain(), &account, &state, BTC_PAYEE, Amount::from_sat(50_000))
            }
            SchemeId::Ecdsa => {
                let state = world::ethereum_state(number.into());
                self.build(number, &world::ethereum(), &account, &state, ETH_PAYEE, Amount::from_wei(1))
            }
        }
    }

    fn build<C: Chain>(
        &self,
        number: u32,
        chain: &C,
        account: &Account,
        state: &C::State,
        to: &str,
        amount: Amount,
    ) -> SigningRequest {
        let (body, intent) = world::intent(account.wallet(), number.into(), to, amount);
        let unsigned = chain.build(&intent, account, state).unwrap();
        self.world.request(number.into(), account, body, chain.encode_unsigned(&unsigned))
    }

    async fn sign(&self, request: SigningRequest) {
        let outcome = self.world.pool.sign(request).await.unwrap();
        assert!(outcome.culprits.is_empty() && outcome.signatures.len() == 1);
    }
}

/// A coin that no other request has.
fn coin(account: &Account, number: u32) -> chains::bitcoin::State {
    let mut state = world::bitcoin_state(account, &[60_000]);
    let mut previous = (**state.utxos[0].previous()).clone();
    previous.lock_time = bitcoin::absolute::LockTime::from_consensus(number);
    state.utxos = vec![chains::bitcoin::Utxo::new(previous.into(), 0, 6).unwrap()];
    state
}

fn criterion(bench: &Bench, runtime: &tokio::runtime::Runtime, library: &Library) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    let floor = Floor::new();
    for scheme in SCHEMES {
        let mut group = criterion.benchmark_group(scheme.name());
        group.sample_size(if scheme == SchemeId::Ecdsa { 30 } else { 60 });
        group.bench_function("single key sign", |b| b.iter(|| floor.sign(scheme)));
        group.bench_function("single key verify", |b| b.iter(|| floor.verify(scheme)));
        group.bench_function("library 2-of-3", |b| b.iter(|| library.sign(scheme)));
        group.bench_function("pool 2-of-3", |b| {
            let setup = || bench.request(scheme);
            b.to_async(runtime).iter_batched(setup, |request| bench.sign(request), BatchSize::SmallInput);
        });
        group.bench_function("evidence", |b| {
            let request = bench.request(scheme);
            b.iter(|| bench.world.pool.judge(black_box(&request)).unwrap());
        });
        group.finish();
    }
    criterion.final_summary();
}

/// Times of a series, sorted.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    fn measure(count: usize, mut run: impl FnMut()) -> Self {
        let time = |_| {
            let began = Instant::now();
            run();
            began.elapsed()
        };
        Self::of((0..count).map(time).collect())
    }

    fn ms(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent / 100).min(self.0.len() - 1);
        self.0[at].as_secs_f64() * 1e3
    }
}

/// One table, all of it measured in the same run.
fn side_by_side(bench: &Bench, runtime: &tokio::runtime::Runtime, library: &Library) {
    let floor = Floor::new();
    println!("\n2-of-3, in memory, {} cores; times in ms", std::thread::available_parallelism().unwrap());
    println!(
        "{:8} | {:>15} | {:>15} {:>15} | {:>15} {:>9} {:>9} | {:>15}",
        "scheme",
        "floor p50",
        "library, 1 core",
        "2 cores p50",
        "pool p50 / p99",
        "/floor",
        "/2 cores",
        "evidence p50/99"
    );
    for scheme in SCHEMES {
        let count = if scheme == SchemeId::Ecdsa { 100 } else { 500 };
        let single = Times::measure(count, || floor.sign(scheme));
        let bare = Times::measure(count, || library.sign(scheme));
        let parallel = Times::measure(count, || library.sign_in_parallel(scheme));
        let times = runtime.block_on(async {
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let request = bench.request(scheme);
                let began = Instant::now();
                bench.sign(request).await;
                times.push(began.elapsed());
            }
            times
        });
        let pool = Times::of(times);
        let request = bench.request(scheme);
        let evidence = Times::measure(2_000, || bench.world.pool.judge(black_box(&request)).unwrap());
        println!(
            "{:8} | {:>15.3} | {:>15.3} {:>15.3} | {:>7.3} {:>7.3} {:>8.0}x {:>8.2}x | {:>7.3} {:>7.3}",
            scheme.name(),
            single.ms(50),
            bare.ms(50),
            parallel.ms(50),
            pool.ms(50),
            pool.ms(99),
            pool.ms(50) / single.ms(50),
            pool.ms(50) / parallel.ms(50),
            evidence.ms(50),
            evidence.ms(99),
        );
    }
    println!("\nsignatures a second with so many sessions in flight");
    println!("{:8} | {:>8} {:>8} {:>8}", "scheme", 1, 8, 64);
    for scheme in SCHEMES {
        let rate = |in_flight: usize| {
            let count = if scheme == SchemeId::Ecdsa { 192 } else { 1_024 };
            let requests = (0..count).map(|_| bench.request(scheme)).collect::<Vec<_>>();
            let began = Instant::now();
            let all = futures::stream::iter(requests).for_each_concurrent(in_flight, |request| bench.sign(request));
            runtime.block_on(all);
            f64::from(count) / began.elapsed().as_secs_f64()
        };
        println!("{:8} | {:>8.0} {:>8.0} {:>8.0}", scheme.name(), rate(1), rate(8), rate(64));
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::start());
    let library = Library::new();
    criterion(&bench, &runtime, &library);
    // `cargo test --benches` only wants to know that it runs.
    if !std::env::args().any(|argument| argument == "--test") {
        side_by_side(&bench, &runtime, &library);
    }
    runtime.block_on(bench.world.pool.shutdown());
}
