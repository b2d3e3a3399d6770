//! What a rule says: which fault, where, how often, when.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::network::MessageKind;
use crate::seed::Probability;
use crate::topology::{ChainKind, Link, NodeId, NodeIndex};

/// A rule's name. It takes part in the rule's decisions: a rule of another name strikes other events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub String);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule, as scenario files and `sim_addFault` write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name; `fault-N` where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RuleId>,
    /// What goes wrong.
    pub fault: Fault,
    /// Where.
    pub scope: Scope,
    /// On which chain; all of them where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainKind>,
    /// How likely each event is struck.
    #[serde(default = "always")]
    pub probability: Probability,
    /// At most so many events are struck of each subject (a node and a method, a link and a kind of message).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// So many events of each subject pass first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u64,
    /// From when on, in milliseconds after the rule was added.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub after_ms: u64,
    /// For how long, in milliseconds; until it is removed where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

const fn always() -> Probability {
    Probability::ALWAYS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

const fn yes() -> bool {
    true
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// A call or a message waits.
    Delay {
        /// At least so long, in milliseconds.
        millis: u64,
        /// And up to so much longer.
        #[serde(default)]
        jitter_millis: u64,
    },
    /// A call is answered with an error, and not executed.
    Error {
        /// The JSON-RPC error code.
        code: i64,
        /// The message.
        message: String,
    },
    /// A call is taken and never answered.
    Timeout {
        /// Whether it is executed all the same.
        #[serde(default = "yes")]
        executed: bool,
    },
    /// The connection breaks under a call, without an answer; a message is lost.
    Drop {
        /// Whether the call is executed all the same.
        #[serde(default)]
        executed: bool,
    },
    /// A call is executed twice, and the second result answered; a message arrives twice.
    Duplicate,
    /// A call is answered from an older head.
    Stale {
        /// How many blocks older.
        blocks: u32,
    },
    /// A transaction is said to be accepted, and forgotten.
    Lie,
    /// A node dies; where the rule has an end, it starts again then.
    Crash,
    /// A chain's nodes fall apart into groups that don't hear of each other; where the rule has an end, they meet again then.
    Partition {
        /// The groups. Nodes that are in none are a group of their own together.
        groups: Vec<Vec<NodeIndex>>,
    },
    /// The node's newest blocks are replaced by a longer branch.
    Reorg {
        /// How many blocks are replaced.
        depth: u32,
    },
    /// Room in blocks is dear.
    FeeSpike {
        /// The least fee rate that gets in, in satoshis per 1000 virtual bytes, wei per gas or micro-lamports per compute unit.
        rate: u64,
    },
    /// The mempool is emptied.
    EvictMempool,
    /// Blocks have no room for anyone's transactions.
    FullBlocks,
    /// Transactions that wait can't be replaced, as if someone had attached descendants to them.
    Pinning,
    /// A node's clock goes wrong.
    ClockSkew {
        /// How far it is ahead, in milliseconds; behind where negative.
        millis: i64,
    },
    /// The blockhashes that transactions refer to count as expired (Solana).
    ExpireBlockhash,
}

impl Fault {
    /// Whether every chain's nodes know it, rather than those of some.
    pub const fn is_common(&self) -> bool {
        !matches!(self, Self::Pinning | Self::ExpireBlockhash)
    }

    /// Whether it holds for a time, rather than striking single events.
    pub const fn is_condition(&self) -> bool {
        matches!(
            self,
            Self::FeeSpike { .. } | Self::FullBlocks | Self::Pinning | Self::ClockSkew { .. } | Self::ExpireBlockhash
        )
    }

    /// Whether it is done once, by the world, when the rule's time has come.
    pub const fn is_act(&self) -> bool {
        matches!(self, Self::Crash | Self::Partition { .. } | Self::Reorg { .. } | Self::EvictMempool)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay { millis, jitter_millis: 0 } => write!(f, "delay {millis} ms"),
            Self::Delay { millis, jitter_millis } => write!(f, "delay {millis}+{jitter_millis} ms"),
            Self::Error { code, message } => write!(f, "error {code} {message}"),
            Self::Timeout { executed: true } => f.write_str("timeout after execution"),
            Self::Timeout { executed: false } => f.write_str("timeout"),
            Self::Drop { executed: true } => f.write_str("drop after execution"),
            Self::Drop { executed: false } => f.write_str("drop"),
            Self::Duplicate => f.write_str("duplicate"),
            Self::Stale { blocks } => write!(f, "stale by {blocks} blocks"),
            Self::Lie => f.write_str("lie"),
            Self::Crash => f.write_str("crash"),
            Self::Partition { groups } => {
                f.write_str("partition")?;
                for group in groups {
                    let names: Vec<_> = group.iter().map(ToString::to_string).collect();
                    write!(f, " [{}]", names.join(" "))?;
                }
                Ok(())
            }
            Self::Reorg { depth } => write!(f, "reorg of {depth} blocks"),
            Self::FeeSpike { rate } => write!(f, "fee spike to {rate}"),
            Self::EvictMempool => f.write_str("mempool evicted"),
            Self::FullBlocks => f.write_str("full blocks"),
            Self::Pinning => f.write_str("pinning"),
            Self::ClockSkew { millis } => write!(f, "clock {millis:+} ms"),
            Self::ExpireBlockhash => f.write_str("blockhashes expired"),
        }
    }
}

/// Where a rule looks. An empty list means all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Scope {
    /// At calls of clients.
    Rpc {
        /// At which nodes.
        #[serde(default)]
        nodes: Vec<NodeIndex>,
        /// Of which methods. One that ends in `*` stands for all that begin so.
        #[serde(default)]
        methods: Vec<String>,
    },
    /// At messages between nodes.
    Link {
        /// From which nodes.
        #[serde(default)]
        from: Vec<NodeIndex>,
        /// To which nodes.
        #[serde(default)]
        to: Vec<NodeIndex>,
        /// Of which kinds.
        #[serde(default)]
        messages: Vec<MessageKind>,
    },
    /// At nodes themselves.
    Node {
        /// Which.
        #[serde(default)]
        nodes: Vec<NodeIndex>,
    },
}

/// The layers that rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Calls of clients.
    Rpc,
    /// Messages between nodes.
    Link,
    /// Nodes themselves.
    Node,
}

impl Scope {
    /// The layer that it looks at.
    pub const fn layer(&self) -> Layer {
        match self {
            Self::Rpc { .. } => Layer::Rpc,
            Self::Link { .. } => Layer::Link,
            Self::Node { .. } => Layer::Node,
        }
    }

    pub(super) fn sees_call(&self, chain: Option<ChainKind>, node: NodeId, method: &str) -> bool {
        let Self::Rpc { nodes, methods } = self else { return false };
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => method.starts_with(start),
            None => method == pattern,
        };
        on(chain, node.chain) && among(nodes, node.index) && (methods.is_empty() || methods.iter().any(is_meant))
    }

    pub(super) fn sees_message(&self, chain: Option<ChainKind>, link: Link, kind: MessageKind) -> bool {
        let Self::Link { from, to, messages } = self else { return false };
        let kinds = messages.is_empty() || messages.contains(&kind);
        on(chain, link.chain) && among(from, link.from) && among(to, link.to) && kinds
    }

    /// Whether it looks at a node itself.
    pub fn sees_node(&self, chain: Option<ChainKind>, node: NodeId) -> bool {
        let Self::Node { nodes } = self else { return false };
        on(chain, node.chain) && among(nodes, node.index)
    }
}

fn on(wanted: Option<ChainKind>, chain: ChainKind) -> bool {
    wanted.is_none_or(|wanted| wanted == chain)
}

fn among(nodes: &[NodeIndex], node: NodeIndex) -> bool {
    nodes.is_empty() || nodes.contains(&node)
}

/// A rule that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// A fault that its scope can't have.
    #[error("{fault} is no fault of this scope; it belongs on {belongs}")]
    Scope {
        /// The fault.
        fault: String,
        /// The scopes that can have it.
        belongs: &'static str,
    },
    /// A name that another rule has.
    #[error("there is a fault {0} already; remove it or use another name")]
    Taken(RuleId),
    /// A chain that has no such thing.
    #[error("the simulated {chain} node has no {fault}; use it on another chain")]
    Unsupported {
        /// The chain.
        chain: ChainKind,
        /// The fault.
        fault: String,
    },
    /// A partition of no chain in particular.
    #[error("name the chain that is partitioned")]
    ChainMissing,
}

impl Rule {
    /// A rule that always strikes, on all chains.
    pub fn new(fault: Fault, scope: Scope) -> Self {
        Self {
            id: None,
            fault,
            scope,
            chain: None,
            probability: Probability::ALWAYS,
            count: None,
            skip: 0,
            after_ms: 0,
            for_ms: None,
        }
    }

    /// Checks that the scope can have the fault.
    ///
    /// # Errors
    /// Where it can't.
    pub fn check(&self) -> Result<(), RuleError> {
        let layer = self.scope.layer();
        let (fits, belongs) = match &self.fault {
            Fault::Delay { .. } | Fault::Drop { .. } | Fault::Duplicate => (layer != Layer::Node, "rpc or link"),
            Fault::Error { .. } | Fault::Timeout { .. } | Fault::Stale { .. } | Fault::Lie => {
                (layer == Layer::Rpc, "rpc")
            }
            Fault::Crash
            | Fault::Partition { .. }
            | Fault::Reorg { .. }
            | Fault::FeeSpike { .. }
            | Fault::EvictMempool
            | Fault::FullBlocks
            | Fault::Pinning
            | Fault::ClockSkew { .. }
            | Fault::ExpireBlockhash => (layer == Layer::Node, "node"),
        };
        if !fits {
            return Err(RuleError::Scope { fault: self.fault.to_string(), belongs });
        }
        if matches!(self.fault, Fault::Partition { .. }) && self.chain.is_none() {
            return Err(RuleError::ChainMissing);
        }
        Ok(())
    }

    /// How long after it was added it begins.
    pub fn after(&self) -> Duration {
        Duration::from_millis(self.after_ms)
    }

    /// How long it is in force from then on. `None`: until it is removed.
    pub fn lasts(&self) -> Option<Duration> {
        self.for_ms.map(Duration::from_millis)
    }
}
