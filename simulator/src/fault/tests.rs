//! Rules strike what they are meant to, by the seed alone.

use std::sync::Arc;

use super::*;
use crate::seed::Probability;
use crate::topology::NodeIndex;

const NODE: NodeId = NodeId { chain: ChainKind::Bitcoin, index: NodeIndex(1) };
const OTHER: NodeId = NodeId { chain: ChainKind::Bitcoin, index: NodeIndex(0) };

/// Rules under a time that stands still until it is moved.
fn at_will(seed: u64) -> (Faults, Arc<Mutex<Duration>>) {
    let time = Arc::new(Mutex::new(Duration::ZERO));
    let shown = Arc::clone(&time);
    (Faults::with_time(Seed(seed), move || *shown.lock().unwrap()), time)
}

fn rule(json: serde_json::Value) -> Rule {
    serde_json::from_value(json).unwrap()
}

fn busy() -> serde_json::Value {
    serde_json::json!({
        "id": "busy",
        "fault": { "kind": "error", "code": -28, "message": "busy" },
        "scope": { "on": "rpc", "nodes": [1], "methods": ["send*"] },
        "chain": "bitcoin",
    })
}

#[test]
fn a_rule_strikes_what_it_names() {
    let faults = at_will(1).0;
    let id = faults.add(rule(busy())).unwrap();
    let struck = |node, method| faults.call(node, method).fault.is_some();
    assert!(struck(NODE, "sendrawtransaction"));
    assert!(!struck(OTHER, "sendrawtransaction"));
    assert!(!struck(NODE, "getblockcount"));
    assert!(!struck(NodeId { chain: ChainKind::Solana, ..NODE }, "sendTransaction"));
    assert_eq!(faults.list()[0].struck, 1);
    assert!(matches!(faults.add(rule(busy())), Err(RuleError::Taken(_))));
    assert!(faults.remove(&id) && !faults.remove(&id));
    assert!(!struck(NODE, "sendrawtransaction"));
    assert_eq!(faults.timeline().strikes().len(), 1);
}

#[test]
fn a_rule_has_its_time_and_count() {
    let (faults, time) = at_will(1);
    let json = serde_json::json!({
        "fault": { "kind": "delay", "millis": 10 },
        "scope": { "on": "rpc" },
        "count": 2, "skip": 1, "after_ms": 1000, "for_ms": 1000,
    });
    faults.add(rule(json)).unwrap();
    let later = |seconds| *time.lock().unwrap() += Duration::from_secs(seconds);
    let delayed = || faults.call(NODE, "x").delay == Duration::from_millis(10);
    assert!(!delayed(), "too early");
    later(1);
    assert_eq!([delayed(), delayed(), delayed(), delayed()], [false, true, true, false]);
    assert_eq!(faults.call(NODE, "y").delay, Duration::ZERO, "the first of another subject passes");
    assert_eq!(faults.call(NODE, "y").delay, Duration::from_millis(10));
    later(1);
    assert_eq!(faults.call(NODE, "y").delay, Duration::ZERO, "too late");
}

/// Calls in an order of their own, decided under a seed.
fn run(seed: u64, order: &[&str]) -> Timeline {
    let faults = at_will(seed).0;
    let mut rare = rule(busy());
    rare.probability = Probability::from_millionths(300_000);
    faults.add(rare).unwrap();
    for method in order {
        faults.call(NODE, method);
    }
    faults.timeline()
}

#[test]
fn one_seed_gives_one_timeline_in_any_order() {
    let apart: Vec<_> = std::iter::repeat_n("send1", 40).chain(std::iter::repeat_n("send2", 40)).collect();
    let mixed: Vec<_> = std::iter::repeat_n(["send2", "send1"], 50).flatten().collect();
    let (one, two) = (run(9, &apart), run(9, &mixed));
    assert!(!one.strikes().is_empty());
    assert_eq!(one.difference(&two), None);
    assert_eq!(two.difference(&one), None);
    assert!(run(10, &mixed).difference(&two).is_some());
}

#[test]
fn conditions_hold_for_their_time() {
    let (faults, time) = at_will(1);
    let on = serde_json::json!({ "on": "node", "nodes": [1] });
    for fault in [
        serde_json::json!({ "kind": "fee_spike", "rate": 5000 }),
        serde_json::json!({ "kind": "clock_skew", "millis": -90000 }),
        serde_json::json!({ "kind": "pinning" }),
    ] {
        faults.add(rule(serde_json::json!({ "fault": fault, "scope": on, "for_ms": 500 }))).unwrap();
    }
    let expected = Conditions { fee_floor: Some(5_000), pinned: true, ..Conditions::default() };
    assert_eq!((faults.conditions(NODE), faults.clock_skew(NODE)), (expected, -90_000));
    assert_eq!((faults.conditions(OTHER), faults.clock_skew(OTHER)), (Conditions::default(), 0));
    assert_eq!(faults.timeline().strikes().len(), 3, "each is written down once");
    *time.lock().unwrap() += Duration::from_millis(500);
    assert_eq!(faults.conditions(NODE), Conditions::default());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (fault, scope) in [
        (serde_json::json!({ "kind": "lie" }), serde_json::json!({ "on": "link" })),
        (serde_json::json!({ "kind": "delay", "millis": 1 }), serde_json::json!({ "on": "node" })),
        (serde_json::json!({ "kind": "reorg", "depth": 1 }), serde_json::json!({ "on": "rpc" })),
    ] {
        let nonsense = rule(serde_json::json!({ "fault": fault, "scope": scope }));
        assert!(matches!(nonsense.check(), Err(RuleError::Scope { .. })), "{nonsense:?}");
    }
    let unnamed = serde_json::json!({ "fault": { "kind": "partition", "groups": [[0]] }, "scope": { "on": "node" } });
    assert_eq!(rule(unnamed).check(), Err(RuleError::ChainMissing));
    for wrong in [
        serde_json::json!({ "fault": { "kind": "delay", "millis": 1, "much": 1 }, "scope": { "on": "rpc" } }),
        serde_json::json!({ "fault": { "kind": "lie" }, "scope": { "on": "rpc" }, "probabilty": 1 }),
        serde_json::json!({ "fault": { "kind": "lie" }, "scope": { "on": "rpc", "node": [1] } }),
    ] {
        assert!(serde_json::from_value::<Rule>(wrong.clone()).is_err(), "{wrong}");
    }
}
