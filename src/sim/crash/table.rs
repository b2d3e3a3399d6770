//! What is printed: a line for each cell as it is done, the table at the end.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::cell::Outcome;
use super::stand::StoreKind;

/// A cell and what came of its runs.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The chain.
    pub(super) chain: &'static str,
    /// The store.
    pub(super) store: StoreKind,
    /// The point, the scenario or the storm.
    pub(super) point: &'static str,
    /// How often it was run.
    pub(super) runs: u32,
    /// What is wrong.
    pub(super) violations: Vec<String>,
    /// From each restart to the first durable step of the payment, in milliseconds.
    pub(super) recovery_ms: Vec<u64>,
    /// From each restart to the first request that is served, in milliseconds.
    pub(super) ready_ms: Vec<u64>,
    /// What chance began with.
    pub(super) seed: u64,
    /// Where everything of a failed run is.
    pub(super) folder: Option<PathBuf>,
}

impl Row {
    pub(super) fn new(chain: &'static str, store: StoreKind, point: &'static str, seed: u64) -> Self {
        let (violations, recovery_ms, ready_ms) = (Vec::new(), Vec::new(), Vec::new());
        Self { chain, store, point, runs: 0, violations, recovery_ms, ready_ms, seed, folder: None }
    }

    pub(super) fn add(&mut self, outcome: &Outcome) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.runs = self.runs.saturating_add(1);
        self.violations.extend(outcome.violations.iter().cloned());
        self.recovery_ms.extend(outcome.recovery.map(millis));
        self.ready_ms.extend(outcome.ready.map(millis));
    }

    /// Prints it, with all that is wrong and how to see it again.
    pub(super) fn tell(&self) {
        println!("{}", self.line());
        for violation in &self.violations {
            println!("    {violation}");
        }
        if !self.violations.is_empty() {
            let store = format!("{:?}", self.store).to_lowercase();
            println!(
                "    again: portcullis sim crash-matrix --chain {} --store {store} --point {} --runs {} --seed {}",
                self.chain, self.point, self.runs, self.seed
            );
        }
        if let Some(folder) = &self.folder {
            println!("    kept: {}", folder.display());
        }
    }

    fn line(&self) -> String {
        let store = format!("{:?}", self.store).to_lowercase();
        format!(
            "{:<9} {:<9} {:<26} {:>5} {:>11} {:>12} {:>10}",
            self.chain,
            store,
            self.point,
            self.runs,
            self.violations.len(),
            shown(p99(&self.recovery_ms)),
            shown(p99(&self.ready_ms)),
        )
    }
}

/// The least number that 99 of 100 don't exceed.
fn p99(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = sorted.len().saturating_mul(99).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn shown(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value} ms"))
}

/// Prints all rows and their totals.
pub(super) fn print(rows: &[Row]) {
    println!(
        "\n{:<9} {:<9} {:<26} {:>5} {:>11} {:>12} {:>10}",
        "chain", "store", "killed", "runs", "violations", "p99 recovery", "p99 ready"
    );
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|row| (row.chain, format!("{:?}", row.store)));
    for row in &rows {
        println!("{}", row.line());
    }
    let runs: u64 = rows.iter().map(|row| u64::from(row.runs)).sum();
    let violations: usize = rows.iter().map(|row| row.violations.len()).sum();
    let all = |of: fn(&Row) -> &Vec<u64>| p99(&rows.iter().flat_map(|row| of(row).iter().copied()).collect::<Vec<_>>());
    println!(
        "\n{} cells, {runs} runs, {violations} violations, p99 recovery {}, p99 ready {}",
        rows.len(),
        shown(all(|row| &row.recovery_ms)),
        shown(all(|row| &row.ready_ms)),
    );
}

/// A number of a text, the same in every run: FNV-1a.
pub(super) fn mix(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
