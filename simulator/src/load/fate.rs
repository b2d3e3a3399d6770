//! What became of an order.

use serde::{Deserialize, Serialize};

use super::plan::Order;

/// A state that a payment reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The state, in the gateway's words.
    pub state: String,
    /// When, in milliseconds since the load began.
    pub at_ms: u64,
}

/// One order and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// The order.
    pub order: Order,
    /// Who is paid, as the gateway was told.
    pub to: String,
    /// When it was first sent to the gateway, in milliseconds since the load began.
    #[serde(default)]
    pub sent_ms: Option<u64>,
    /// When the gateway had answered.
    #[serde(default)]
    pub answered_ms: Option<u64>,
    /// How often it was sent, by the same key.
    #[serde(default)]
    pub tries: u32,
    /// The gateway's name for it.
    #[serde(default)]
    pub record: Option<String>,
    /// The ids of its transactions on chain, the latest last.
    #[serde(default)]
    pub transactions: Vec<String>,
    /// Where it stands, in the gateway's words; empty where the gateway never took it.
    #[serde(default)]
    pub state: String,
    /// Whether the gateway is done with it.
    #[serde(default)]
    pub ended: bool,
    /// Why it ended so, or why the gateway didn't take it.
    #[serde(default)]
    pub reason: Option<String>,
    /// The states that it reached.
    #[serde(default)]
    pub steps: Vec<Reached>,
}

impl Fate {
    /// Nothing has happened yet.
    pub const fn new(order: Order, to: String) -> Self {
        Self {
            order,
            to,
            sent_ms: None,
            answered_ms: None,
            tries: 0,
            record: None,
            transactions: Vec::new(),
            state: String::new(),
            ended: false,
            reason: None,
            steps: Vec::new(),
        }
    }

    /// When it first reached a state.
    pub fn first(&self, state: &str) -> Option<u64> {
        self.steps.iter().find(|step| step.state == state).map(|step| step.at_ms)
    }

    /// When it last reached a state.
    pub fn last(&self, state: &str) -> Option<u64> {
        self.steps.iter().rev().find(|step| step.state == state).map(|step| step.at_ms)
    }

    /// From its moment until it reached a state for good, in milliseconds.
    pub fn took(&self, state: &str) -> Option<u64> {
        Some(self.last(state)?.saturating_sub(self.order.at_ms))
    }
}
