//! What is claimed of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Every payment came to an end in time.
    Settled,
    /// Nothing was rejected that should pass: every payment ended as it should.
    Passed,
    /// Nothing is left in quarantine.
    Quarantine,
    /// Every payment has at most one effect on its chain, every final one has exactly one, and every other has none.
    ExactlyOnce,
    /// What was called final is in the best chain, and was final by the chain's own rules.
    Finality,
    /// What the wallets lost is what the payees got and what the chains took.
    Conservation,
    /// Payments were as quick as they should be.
    Latency,
    /// What was under way when the last fault was over ended soon after.
    Recovery,
    /// Every fault struck.
    Struck,
    /// What the scenario is about was seen.
    Seen,
    /// No process of the gateway's panicked.
    Sound,
}

impl Claim {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Passed => "passed",
            Self::Quarantine => "quarantine",
            Self::ExactlyOnce => "exactly_once",
            Self::Finality => "finality",
            Self::Conservation => "conservation",
            Self::Latency => "latency",
            Self::Recovery => "recovery",
            Self::Struck => "struck",
            Self::Seen => "seen",
            Self::Sound => "sound",
        }
    }

    /// What it says.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Settled => "Every payment came to an end",
            Self::Passed => "Nothing was rejected that should pass",
            Self::Quarantine => "Nothing is left in quarantine",
            Self::ExactlyOnce => "Every payment moved money exactly once, or never",
            Self::Finality => "What was called final is final on the chain",
            Self::Conservation => "Value is conserved",
            Self::Latency => "Payments were quick enough",
            Self::Recovery => "The gateway recovered after the last fault",
            Self::Struck => "Every fault struck",
            Self::Seen => "What the scenario is about was seen",
            Self::Sound => "No process panicked",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that a run must have seen, lest it shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// A payment was sped up.
    SpeedUp,
    /// A payment that was in a block was taken back by a reorganisation.
    Reorg,
    /// A payment expired, and wasn't paid.
    Expiry,
    /// A client had to ask again.
    Retry,
    /// The pool named a signer that misbehaved.
    Culprit,
}

impl Sight {
    /// What is seen.
    pub const fn says(self) -> &'static str {
        match self {
            Self::SpeedUp => "a payment was sped up",
            Self::Reorg => "a reorganisation took a payment back",
            Self::Expiry => "a payment expired",
            Self::Retry => "a client had to ask again",
            Self::Culprit => "the pool named a signer that misbehaved",
        }
    }
}

/// A claim and whether it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The claim.
    pub claim: Claim,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in a sentence.
    pub found: String,
    /// Cases against it, the first ones.
    #[serde(default)]
    pub against: Vec<String>,
}
