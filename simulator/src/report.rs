//! What a run is told as: one value, which is written as JSON, as a self-contained page and as a summary for the terminal.
//!
//! - [`mod@build`]: fates, faults and verdicts become series, percentiles and tables;
//! - [`mod@html`]: the page, with its charts drawn in [`chart`];
//! - [`text`]: the summary.

pub mod build;
pub mod chart;
pub mod html;
#[cfg(test)]
mod tests;
pub mod text;

use serde::{Deserialize, Serialize};

pub use self::build::{Told, build};
pub use self::html::html;
pub use self::text::{seconds, summary};
use crate::load::{Fate, Percentiles};
use crate::scenario::Verdict;
use crate::topology::ChainKind;

/// The format of the JSON.
pub const FORMAT: u32 = 1;

/// A run. All offsets are in milliseconds since the load began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The JSON's format.
    pub format: u32,
    /// What was run.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// What all chance came from.
    pub seed: u64,
    /// The command that repeats it.
    pub command: String,
    /// When the load began, in milliseconds since the Unix epoch.
    pub began_unix_ms: u64,
    /// When all was over.
    pub end_ms: u64,
    /// What else there is to know, by name.
    pub facts: Vec<Fact>,
    /// The claims; none where nothing was claimed.
    pub verdicts: Vec<Verdict>,
    /// All payments together.
    pub totals: Totals,
    /// How long one step of the series is, in milliseconds.
    pub step_ms: u64,
    /// The chains.
    pub chains: Vec<ChainReport>,
    /// What went wrong, and when.
    pub faults: Vec<FaultSpan>,
    /// Payments that didn't end as they should.
    pub failures: Vec<Failure>,
    /// A short name of the set of orders; equal sets have equal names.
    pub orders_digest: String,
    /// Every payment, where there aren't too many of them.
    #[serde(default)]
    pub payments: Vec<Fate>,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// What.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How many payments came how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Were to be asked for.
    pub intended: u64,
    /// Were taken by the gateway.
    pub accepted: u64,
    /// Became final.
    pub finalized: u64,
    /// Ended otherwise.
    pub ended_otherwise: u64,
    /// Have not ended.
    pub open: u64,
    /// Were asked for more than once.
    pub retried: u64,
    /// Most that became final within one second.
    pub peak_per_second: u64,
}

/// One chain's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainReport {
    /// Which.
    pub chain: ChainKind,
    /// How many payments were to be asked for, by step.
    pub intended: Vec<u64>,
    /// How many became final, by step.
    pub finalized: Vec<u64>,
    /// From their moment to finality, of those that were to be asked for in each step.
    pub latency: Vec<Option<Percentiles>>,
    /// The same over the whole run.
    pub overall: Option<Percentiles>,
    /// From their moment to the gateway's answer, over the whole run.
    pub answer: Option<Percentiles>,
    /// How long each stage took.
    pub stages: Vec<Stage>,
}

/// A stage of a payment's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Percentiles,
}

/// A fault in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpan {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Where it strikes.
    pub place: String,
    /// The chain, where it is on one.
    #[serde(default)]
    pub chain: Option<ChainKind>,
    /// From when on.
    pub from_ms: u64,
    /// Until when; the same as the beginning for what is done at once, nothing where it has no end.
    pub to_ms: Option<u64>,
    /// How often it struck.
    pub strikes: u64,
    /// What it struck: the first ones.
    #[serde(default)]
    pub struck: Vec<Struck>,
}

/// Something that was struck. One seed gives one decision for each event of a subject; when it comes may differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// When.
    pub at_ms: u64,
    /// What.
    pub subject: String,
    /// The how manieth event of its subject, from 1.
    pub event: u64,
}

/// A payment that didn't end as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The chain.
    pub chain: ChainKind,
    /// What was asked for.
    pub what: String,
    /// The idempotency key.
    pub key: String,
    /// The gateway's name for it.
    pub record: Option<String>,
    /// The id of its last transaction on chain.
    pub transaction: Option<String>,
    /// When it was to be asked for.
    pub at_ms: u64,
    /// How it ended, or where it stands.
    pub state: String,
    /// Why.
    pub reason: String,
}

impl Report {
    /// Whether every claim holds.
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.holds)
    }
}
