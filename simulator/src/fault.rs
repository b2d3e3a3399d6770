//! Faults as rules: a rule sees an event and returns a verdict.
//!
//! - [`rule`]: what goes wrong ([`rule::Fault`]), where ([`rule::Scope`]), how often and when;
//! - [`timeline`]: what has struck, in a form in which two runs can be compared;
//! - [`Faults`]: the rules in force, which RPC servers, links and nodes ask.
//!
//! A rule counts the events that it sees by subject (a node and a method, a link and a kind of message) and decides each by
//! the world's seed, its own id, the subject and that count. So one seed gives one fault timeline, whatever the threads do.

pub mod rule;
pub mod timeline;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;

use self::rule::{Fault, Layer, Rule, RuleError, RuleId, Scope};
use self::timeline::{Subject, Timeline};
use crate::network::MessageKind;
use crate::seed::{Draw, Seed, Stream};
use crate::topology::{ChainKind, Link, NodeId};

/// Changes that a slow listener may be behind.
const BACKLOG: usize = 1024;

/// The rules of a world that are in force, and what has struck.
pub struct Faults {
    seed: Seed,
    /// How long the world has been running.
    elapsed: Box<dyn Fn() -> Duration + Send + Sync>,
    /// How many rules there are on each layer, so that a world without faults pays nothing for them.
    rpc: AtomicUsize,
    link: AtomicUsize,
    node: AtomicUsize,
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("seed", &self.seed).field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    added: u64,
    rules: BTreeMap<RuleId, Standing>,
    timeline: Timeline,
}

/// A rule in force.
#[derive(Debug)]
struct Standing {
    rule: Rule,
    /// How long the world had been running when it was added.
    added: Duration,
    subjects: BTreeMap<Subject, Seen>,
}

/// What a rule has seen of one subject.
#[derive(Debug)]
struct Seen {
    stream: Stream,
    events: u64,
    struck: u64,
}

/// What has happened to the rules.
#[derive(Clone, Debug)]
pub enum Change {
    /// One was added.
    Added(RuleId, Rule),
    /// One was removed.
    Removed(RuleId),
}

/// A rule in force, as `sim_listFaults` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub id: RuleId,
    /// The rule.
    pub rule: Rule,
    /// Events seen.
    pub seen: u64,
    /// Events struck.
    pub struck: u64,
}

/// What a call is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallVerdict {
    /// How long it waits before anything else. Several rules' delays add up.
    pub delay: Duration,
    /// The first rule's verdict that is no delay.
    pub fault: Option<Fault>,
}

/// What a message is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkVerdict {
    /// How much later it arrives.
    pub delay: Duration,
    /// Whether it is lost.
    pub lost: bool,
    /// Whether it arrives twice.
    pub twice: bool,
}

/// What holds at a node because of the rules in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The least fee rate that gets into the mempool and into blocks, in the chain's own unit (satoshis per 1000 virtual bytes,
    /// wei per gas, micro-lamports per compute unit), where it is higher than usual.
    pub fee_floor: Option<u64>,
    /// Blocks have no room for anyone's transactions.
    pub full_blocks: bool,
    /// Transactions that wait can't be replaced.
    pub pinned: bool,
    /// The latest blockhash counts as expired.
    pub expired_blockhashes: bool,
}

impl Faults {
    /// No rules yet. The world begins here.
    pub fn new(seed: Seed) -> Self {
        let began = Instant::now();
        Self::with_time(seed, move || began.elapsed())
    }

    /// No rules yet, in a world that says itself how long it has been running.
    pub fn with_time(seed: Seed, elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        let (changes, _) = broadcast::channel(BACKLOG);
        Self {
            seed,
            elapsed: Box::new(elapsed),
            rpc: AtomicUsize::new(0),
            link: AtomicUsize::new(0),
            node: AtomicUsize::new(0),
            state: Mutex::default(),
            changes,
        }
    }

    /// The world's seed.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Puts a rule in force and names it: as it wishes, or `fault-N`.
    ///
    /// # Errors
    /// Where the rule makes no sense, or its name is taken.
    pub fn add(&self, rule: Rule) -> Result<RuleId, RuleError> {
        rule.check()?;
        let mut state = self.lock();
        state.added = state.added.saturating_add(1);
        let id = rule.id.clone().unwrap_or_else(|| RuleId(format!("fault-{}", state.added)));
        if state.rules.contains_key(&id) {
            return Err(RuleError::Taken(id));
        }
        let standing = Standing { rule: rule.clone(), added: (self.elapsed)(), subjects: BTreeMap::new() };
        state.rules.insert(id.clone(), standing);
        self.count(&state);
        // Nobody may be listening.
        let _ = self.changes.send(Change::Added(id.clone(), rule));
        Ok(id)
    }

    /// Takes a rule out of force. `false` where there is none of this name.
    pub fn remove(&self, id: &RuleId) -> bool {
        let mut state = self.lock();
        let removed = state.rules.remove(id).is_some();
        self.count(&state);
        if removed {
            let _ = self.changes.send(Change::Removed(id.clone()));
        }
        removed
    }

    /// The rules in force, by name. One whose time is over stays listed until it is removed.
    pub fn list(&self) -> Vec<Listed> {
        let state = self.lock();
        let sum = |standing: &Standing, of: fn(&Seen) -> u64| {
            standing.subjects.values().fold(0_u64, |sum, seen| sum.saturating_add(of(seen)))
        };
        let listed = state.rules.iter().map(|(id, standing)| Listed {
            id: id.clone(),
            rule: standing.rule.clone(),
            seen: sum(standing, |seen| seen.events),
            struck: sum(standing, |seen| seen.struck),
        });
        listed.collect()
    }

    /// Tells of rules that come and go from here on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// What has struck so far.
    pub fn timeline(&self) -> Timeline {
        self.lock().timeline.clone()
    }

    /// Writes down what was done by hand.
    pub fn record_command(&self, subject: Subject, what: impl Into<String>) {
        let at = millis((self.elapsed)());
        let rule = RuleId("command".to_owned());
        let mut state = self.lock();
        let event = state.timeline.seen(&rule, &subject).saturating_add(1);
        state.timeline.strike(at, rule, subject, event, what.into());
    }

    /// Writes down what was done by a network's own conditions, or at a rule's end.
    pub fn record(&self, by: &str, subject: Subject, event: u64, what: impl Into<String>) {
        let at = millis((self.elapsed)());
        self.lock().timeline.strike(at, RuleId(by.to_owned()), subject, event, what.into());
    }

    /// What is done to a call of `method` at `node`.
    pub fn call(&self, node: NodeId, method: &str) -> CallVerdict {
        let mut verdict = CallVerdict::default();
        if self.rpc.load(Ordering::Relaxed) == 0 {
            return verdict;
        }
        let subject = Subject::Call { node, method: method.to_owned() };
        for (fault, mut draw) in self.strikes(&subject, |scope, chain| scope.sees_call(chain, node, method)) {
            match fault {
                Fault::Delay { millis, jitter_millis } => {
                    let jitter = draw.below(jitter_millis.saturating_add(1));
                    let delay = Duration::from_millis(millis.saturating_add(jitter));
                    verdict.delay = verdict.delay.saturating_add(delay);
                }
                other => verdict.fault = verdict.fault.or(Some(other)),
            }
        }
        verdict
    }

    /// What is done to a message on a link.
    pub fn message(&self, link: Link, kind: MessageKind) -> LinkVerdict {
        let mut verdict = LinkVerdict::default();
        if self.link.load(Ordering::Relaxed) == 0 {
            return verdict;
        }
        let subject = Subject::Message { link, kind };
        for (fault, mut draw) in self.strikes(&subject, |scope, chain| scope.sees_message(chain, link, kind)) {
            match fault {
                Fault::Delay { millis, jitter_millis } => {
                    let jitter = draw.below(jitter_millis.saturating_add(1));
                    let delay = Duration::from_millis(millis.saturating_add(jitter));
                    verdict.delay = verdict.delay.saturating_add(delay);
                }
                Fault::Drop { .. } => verdict.lost = true,
                Fault::Duplicate => verdict.twice = true,
                // Rule::check lets nothing else on a link.
                _ => {}
            }
        }
        verdict
    }

    /// What holds at a node. The chances and counts of such rules don't apply: a condition holds for its whole time.
    pub fn conditions(&self, node: NodeId) -> Conditions {
        let mut conditions = Conditions::default();
        self.each_condition(node, |fault| match fault {
            Fault::FeeSpike { rate } => {
                conditions.fee_floor = Some(conditions.fee_floor.map_or(*rate, |floor| floor.max(*rate)));
            }
            Fault::FullBlocks => conditions.full_blocks = true,
            Fault::Pinning => conditions.pinned = true,
            Fault::ExpireBlockhash => conditions.expired_blockhashes = true,
            _ => {}
        });
        conditions
    }

    /// How far a node's clock is ahead, in milliseconds.
    pub fn clock_skew(&self, node: NodeId) -> i64 {
        let mut skew = 0_i64;
        self.each_condition(node, |fault| {
            if let Fault::ClockSkew { millis } = fault {
                skew = skew.saturating_add(*millis);
            }
        });
        skew
    }

    /// Whether chance lets a rule that acts once on its own act on `subject`, and where so writes it down.
    pub fn acts(&self, id: &RuleId, subject: Subject) -> bool {
        let at = millis((self.elapsed)());
        let mut state = self.lock();
        let Some(standing) = state.rules.get_mut(id) else { return false };
        let Some((event, _)) = standing.strike(self.seed, id, &subject) else { return false };
        let what = standing.rule.fault.to_string();
        state.timeline.strike(at, id.clone(), subject, event, what);
        true
    }

    fn each_condition(&self, node: NodeId, mut see: impl FnMut(&Fault)) {
        if self.node.load(Ordering::Relaxed) == 0 {
            return;
        }
        let now = (self.elapsed)();
        let at = millis(now);
        let mut state = self.lock();
        let State { rules, timeline, .. } = &mut *state;
        for (id, standing) in rules.iter_mut() {
            let Rule { fault, scope, chain, .. } = &standing.rule;
            if !fault.is_condition() || !standing.is_due(now) || !scope.sees_node(*chain, node) {
                continue;
            }
            see(fault);
            let subject = Subject::Node(node);
            let what = fault.to_string();
            if !standing.subjects.contains_key(&subject) {
                standing.seen(self.seed, id, &subject).struck = 1;
                timeline.strike(at, id.clone(), subject, 1, what);
            }
        }
    }

    /// The faults that strike an event, in the order of the rules' names, each with the chance that it was decided by.
    fn strikes(&self, subject: &Subject, sees: impl Fn(&Scope, Option<ChainKind>) -> bool) -> Vec<(Fault, Draw)> {
        let now = (self.elapsed)();
        let at = millis(now);
        let mut struck = Vec::new();
        let mut state = self.lock();
        let State { rules, timeline, .. } = &mut *state;
        for (id, standing) in rules.iter_mut() {
            if !sees(&standing.rule.scope, standing.rule.chain) || !standing.is_due(now) {
                continue;
            }
            let decided = standing.strike(self.seed, id, subject);
            timeline.see(id, subject);
            if let Some((event, draw)) = decided {
                let fault = standing.rule.fault.clone();
                timeline.strike(at, id.clone(), subject.clone(), event, fault.to_string());
                struck.push((fault, draw));
            }
        }
        struck
    }

    fn count(&self, state: &State) {
        let on = |layer| state.rules.values().filter(|standing| standing.rule.scope.layer() == layer).count();
        self.rpc.store(on(Layer::Rpc), Ordering::Relaxed);
        self.link.store(on(Layer::Link), Ordering::Relaxed);
        self.node.store(on(Layer::Node), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing that holds the rules can panic")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Standing {
    /// Whether the rule's time has come and is not over.
    fn is_due(&self, now: Duration) -> bool {
        let age = now.saturating_sub(self.added);
        let after = self.rule.after();
        age >= after && self.rule.lasts().is_none_or(|lasts| age < after.saturating_add(lasts))
    }

    fn seen(&mut self, seed: Seed, id: &RuleId, subject: &Subject) -> &mut Seen {
        self.subjects.entry(subject.clone()).or_insert_with(|| Seen {
            stream: seed.stream(format_args!("rule/{id}/{subject}")),
            events: 0,
            struck: 0,
        })
    }

    /// Counts an event and decides it. Returns its number, from 1, and what is left of the chance.
    fn strike(&mut self, seed: Seed, id: &RuleId, subject: &Subject) -> Option<(u64, Draw)> {
        let (probability, count, skip) = (self.rule.probability, self.rule.count, self.rule.skip);
        let seen = self.seen(seed, id, subject);
        seen.events = seen.events.saturating_add(1);
        let mut draw = seen.stream.draw(seen.events);
        let strikes = draw.happens(probability) && seen.events > skip && count.is_none_or(|count| seen.struck < count);
        if !strikes {
            return None;
        }
        seen.struck = seen.struck.saturating_add(1);
        Some((seen.events, draw))
    }
}

#[cfg(test)]
mod tests;
