//! What has struck, and how two runs of one seed are compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::rule::RuleId;
use crate::network::MessageKind;
use crate::topology::{ChainKind, Link, NodeId};

/// Strikes that are kept one by one.
const MOST_STRIKES: usize = 200_000;

/// What an event is about. Events of one subject are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Calls of a method at a node.
    Call {
        /// The node.
        node: NodeId,
        /// The method.
        method: String,
    },
    /// Messages of a kind on a link.
    Message {
        /// The link.
        link: Link,
        /// The kind.
        kind: MessageKind,
    },
    /// A node itself.
    Node(NodeId),
    /// A chain's network.
    Network(ChainKind),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { node, method } => write!(f, "{node} {method}"),
            Self::Message { link, kind } => write!(f, "{link} {kind}"),
            Self::Node(node) => node.fmt(f),
            Self::Network(chain) => write!(f, "{chain} network"),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A fault that struck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Strike {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// The rule; `command` for what was done by hand, `network` for a link's own losses.
    pub rule: RuleId,
    /// What was struck.
    pub subject: Subject,
    /// The how manieth event of its subject that the rule saw, from 1.
    pub event: u64,
    /// What was done to it.
    pub what: String,
}

/// All that has struck, in the order in which it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    strikes: Vec<Strike>,
    /// Strikes that there was no room for.
    omitted: u64,
    #[serde(skip)]
    seen: BTreeMap<(RuleId, Subject), u64>,
}

impl Timeline {
    /// The strikes, oldest first.
    pub fn strikes(&self) -> &[Strike] {
        &self.strikes
    }

    /// How many strikes are not listed for want of room.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// How many events of a subject a rule has seen.
    pub(super) fn seen(&self, rule: &RuleId, subject: &Subject) -> u64 {
        self.seen.get(&(rule.clone(), subject.clone())).copied().unwrap_or(0)
    }

    /// Counts an event that a rule has seen.
    pub(super) fn see(&mut self, rule: &RuleId, subject: &Subject) {
        let seen = self.seen.entry((rule.clone(), subject.clone())).or_default();
        *seen = seen.saturating_add(1);
    }

    pub(super) fn strike(&mut self, at_ms: u64, rule: RuleId, subject: Subject, event: u64, what: String) {
        let seen = self.seen.entry((rule.clone(), subject.clone())).or_default();
        *seen = event.max(*seen);
        if self.strikes.len() < MOST_STRIKES {
            self.strikes.push(Strike { at_ms, rule, subject, event, what });
        } else {
            self.omitted = self.omitted.saturating_add(1);
        }
    }

    /// The strikes of each rule and subject by the event's number, as far as the first `events` of that subject go.
    fn decisions(&self, key: &(RuleId, Subject), events: u64) -> BTreeMap<u64, &str> {
        let own = self.strikes.iter().filter(|strike| strike.rule == key.0 && strike.subject == key.1);
        own.filter(|strike| strike.event <= events).map(|strike| (strike.event, strike.what.as_str())).collect()
    }

    /// Up to which event of a subject all strikes are listed.
    fn kept(&self, key: &(RuleId, Subject)) -> u64 {
        if self.omitted == 0 {
            return u64::MAX;
        }
        let own = self.strikes.iter().rev().find(|strike| strike.rule == key.0 && strike.subject == key.1);
        own.map_or(0, |strike| strike.event)
    }

    /// The first difference to another run's timeline, where the two can't be of one seed: an event that both have seen and
    /// decided differently. How many events there were, and when, may differ.
    pub fn difference(&self, other: &Self) -> Option<String> {
        self.seen.iter().find_map(|(key, seen)| {
            let events = (*seen).min(*other.seen.get(key)?).min(self.kept(key)).min(other.kept(key));
            let (own, others) = (self.decisions(key, events), other.decisions(key, events));
            (own != others).then(|| format!("rule {} on {}: {own:?} against {others:?}", key.0, key.1))
        })
    }
}
