//! How many transfers a second each simulated chain takes, beside what its bare engine does.
//!
//! `cargo bench -p simulator --bench throughput` measures, for each chain, the engine alone, one node by calls inside the process (mempool,
//! journal on disk, block) and three nodes over HTTP with blocks on an interval. Then it prints the transfers a second of the
//! fastest run of each and its ratio to the bare engine. The aim is 2,000 transfers a second and chain, so that the simulator is
//! not what a load test of the gateway measures.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::float_arithmetic,
    clippy::print_stdout,
    reason = "a bench states its assumptions bluntly, and its figures are for people"
)]

#[path = "throughput/bitcoin.rs"]
mod bitcoin;
#[path = "throughput/client.rs"]
mod client;
#[path = "throughput/ethereum.rs"]
mod ethereum;
#[path = "throughput/solana.rs"]
mod solana;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

/// What was measured of one way to take transfers in.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    name: &'static str,
    /// In one run.
    transfers: u32,
    /// The fastest run.
    best: Option<Duration>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, transfers: u32) -> Self {
        Self { name, transfers, best: None }
    }

    /// Measures `run`, which takes one run's transfers in and tells how long that took.
    pub(crate) fn measure(
        mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        mut run: impl FnMut() -> Duration,
    ) -> Self {
        group.throughput(Throughput::Elements(self.transfers.into()));
        let best = &mut self.best;
        group.bench_function(self.name, |bencher| {
            bencher.iter_custom(|runs| {
                let mut total = Duration::ZERO;
                for _ in 0..runs {
                    let took = run();
                    total += took;
                    *best = Some(best.map_or(took, |best| best.min(took)));
                }
                total
            });
        });
        self
    }

    fn per_second(&self) -> Option<f64> {
        Some(f64::from(self.transfers) / self.best?.as_secs_f64())
    }
}

/// Prints a chain's figures. The first is the bare engine.
fn print(chain: &str, figures: &[Figure]) {
    let bare = figures.first().and_then(Figure::per_second);
    for figure in figures {
        let Some(rate) = figure.per_second() else { continue };
        let ratio = bare.map_or(1.0, |bare| rate / bare);
        println!("{chain:<10} {:<40} {rate:>10.0} transfers/s {ratio:>8.3} of the bare engine", figure.name);
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let bitcoin = self::bitcoin::measure(&mut criterion);
    let ethereum = ethereum::measure(&mut criterion);
    let solana = solana::measure(&mut criterion);
    criterion.final_summary();
    print("bitcoin", &bitcoin);
    print("ethereum", &ethereum);
    print("solana", &solana);
}
