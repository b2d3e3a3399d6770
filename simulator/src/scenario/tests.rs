//! Scenarios that can't be used are refused with their line, and every claim fails where its case is broken.

use super::judge::{Evidence, Purse, judge};
use super::*;
use crate::load::{Fate, Reached, orders};

const TEXT: &str = r#"
name = "try"
about = "Everything at once."
seed = 7
settle_ms = 30000

[chains.bitcoin]
nodes = 3
block_interval_ms = 1000
finality_depth = 3

[gateway]
signers = 3
threshold = 2

[[load]]
chain = "bitcoin"
per_minute = 60
for_ms = 10000

[[faults]]
id = "cut"
fault = { kind = "partition", groups = [[0], [1, 2]] }
scope = { on = "node" }
chain = "bitcoin"
after_ms = 2000
for_ms = 3000

[[kills]]
kill = "gateway"
after_ms = 1000
down_ms = 500

[expect]
recovery_ms = 9000
seen = ["reorg"]
latency = [{ chain = "bitcoin", p50_ms = 9000, p99_ms = 20000 }]

[broken]
claim = "settled"
how = "it lasts forever"
faults = [{ id = "lies", fault = { kind = "lie" }, scope = { on = "rpc" } }]
"#;

fn scenario() -> Scenario {
    Scenario::parse("try.toml", TEXT).unwrap()
}

#[test]
fn a_scenario_is_read() {
    let mut scenario = scenario();
    assert_eq!(scenario.load_end_ms(), 10_000);
    assert_eq!(scenario.faults_end_ms(), Some(5_000));
    assert_eq!(scenario.chain(ChainKind::Bitcoin).unwrap().nodes, 3);
    assert!(scenario.chain(ChainKind::Solana).is_none());
    assert_eq!(scenario.faults.len(), 1);
    assert!(scenario.sabotage());
    assert_eq!(scenario.faults.len(), 2);
}

/// The text with `from` replaced, and the line that the error names.
fn line_of(from: &str, to: &str) -> (usize, String) {
    let text = TEXT.replacen(from, to, 1);
    assert_ne!(text, TEXT, "{from}");
    match Scenario::parse("try.toml", &text) {
        Err(ScenarioError::Invalid { line, reason, .. }) => (line, reason),
        Err(ScenarioError::Parse { reason, .. }) => {
            let start = reason.span().unwrap().start;
            (text[..start].matches('\n').count() + 1, reason.to_string())
        }
        Ok(_) => panic!("{to} is taken"),
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let line = |part: &str| TEXT.lines().position(|line| line == part).unwrap() + 1;
    for (from, to, at) in [
        ("nodes = 3", "nodes = 0", "[chains.bitcoin]"),
        ("nodes = 3", "knots = 3", "nodes = 3"),
        ("per_minute = 60", "per_minute = -1", "per_minute = 60"),
        ("chain = \"bitcoin\"\nper_minute", "chain = \"solana\"\nper_minute", "[[load]]"),
        ("groups = [[0], [1, 2]]", "pairs = 1", "fault = { kind = \"partition\", groups = [[0], [1, 2]] }"),
        ("{ on = \"node\" }", "{ on = \"rpc\" }", "[[faults]]"),
        ("{ on = \"node\" }", "{ on = \"node\", nodes = [3] }", "[[faults]]"),
        ("kill = \"gateway\"", "kill = \"nobody\"", "kill = \"gateway\""),
        ("kill = \"gateway\"", "kill = \"signer-1\"", "[[kills]]"),
        ("threshold = 2", "threshold = 4", "[gateway]"),
        ("claim = \"settled\"", "claim = \"luck\"", "claim = \"settled\""),
        ("seen = [\"reorg\"]", "seen = [\"ghosts\"]", "seen = [\"reorg\"]"),
    ] {
        let (found, reason) = line_of(from, to);
        assert_eq!(found, line(at), "{to}: {reason}");
    }
}

fn finished(number: usize) -> Evidence {
    let scenario = scenario();
    let mut evidence = Evidence { strikes: [("cut".to_owned(), 1)].into(), ..Evidence::default() };
    evidence.sights.insert(Sight::Reorg);
    for order in orders(Seed(1), "try", &scenario.load).into_iter().take(number) {
        evidence.received.insert(order.number, order.amount.into());
        let step = |state: &str, after: u64| Reached { state: state.to_owned(), at_ms: order.at_ms + after };
        let steps = vec![step("received", 3), step("included", 900), step("finalized", 3_000)];
        let mut fate = Fate { steps, ended: true, state: "finalized".to_owned(), ..Fate::new(order, "x".to_owned()) };
        fate.record = Some("r".to_owned());
        evidence.fates.push(fate);
    }
    let paid = evidence.received.values().sum();
    evidence.purses.push(Purse {
        chain: ChainKind::Bitcoin,
        asset: "native".to_owned(),
        before: 1_000_000_000,
        after: 1_000_000_000 - paid - 5_000,
        paid,
        taken: 5_000,
    });
    evidence
}

fn failing(evidence: &Evidence) -> Vec<Claim> {
    judge(&scenario(), evidence).into_iter().filter(|verdict| !verdict.holds).map(|verdict| verdict.claim).collect()
}

#[test]
fn a_sound_run_passes() {
    let verdicts = judge(&scenario(), &finished(9));
    assert_eq!(verdicts.len(), 11, "{verdicts:?}");
    assert!(verdicts.iter().all(|verdict| verdict.holds), "{verdicts:?}");
}

#[test]
fn every_claim_fails_where_its_case_is_broken() {
    let broken = |how: &dyn Fn(&mut Evidence)| {
        let mut evidence = finished(9);
        how(&mut evidence);
        failing(&evidence)
    };
    // The chain record is tampered with: paid twice, not at all, in part.
    for got in [2, 0] {
        let twice = broken(&|evidence| *evidence.received.get_mut(&3).unwrap() *= got);
        assert_eq!(twice, [Claim::ExactlyOnce], "{got} times");
    }
    assert_eq!(broken(&|evidence| *evidence.received.get_mut(&3).unwrap() += 1), [Claim::ExactlyOnce]);
    assert_eq!(broken(&|evidence| evidence.purses[0].after += 1), [Claim::Conservation]);
    assert_eq!(broken(&|evidence| evidence.purses[0].paid = u128::MAX), [Claim::Conservation]);
    assert_eq!(broken(&|evidence| evidence.unfounded.push("one".to_owned())), [Claim::Finality]);
    let open = broken(&|evidence| evidence.fates[8].ended = false);
    assert_eq!(open, [Claim::Settled]);
    let early = broken(&|evidence| evidence.fates[0].ended = false);
    assert_eq!(early, [Claim::Settled, Claim::Recovery]);
    let rejected = broken(&|evidence| {
        evidence.fates[8].state = "rejected".to_owned();
        evidence.received.remove(&8);
    });
    assert_eq!(rejected, [Claim::Passed]);
    // Called expired, and paid all the same.
    let expired = broken(&|evidence| evidence.fates[8].state = "expired".to_owned());
    assert_eq!(expired, [Claim::Passed, Claim::ExactlyOnce]);
    // In quarantine it may have been paid, or not, and not twice.
    for (got, claims) in [
        (0, &[Claim::Passed, Claim::Quarantine][..]),
        (1, &[Claim::Passed, Claim::Quarantine]),
        (2, &[Claim::Passed, Claim::Quarantine, Claim::ExactlyOnce]),
    ] {
        let quarantined = broken(&|evidence| {
            evidence.fates[8].state = "quarantined".to_owned();
            *evidence.received.get_mut(&8).unwrap() *= got;
        });
        assert_eq!(quarantined, claims, "{got} times");
    }
    let slow = broken(&|evidence| evidence.fates[8].steps[2].at_ms += 100_000);
    assert_eq!(slow, [Claim::Latency]);
    let slow_start = broken(&|evidence| evidence.fates[0].steps[2].at_ms = 5_000 + 9_001);
    assert_eq!(slow_start, [Claim::Recovery]);
    assert_eq!(broken(&|evidence| evidence.strikes.clear()), [Claim::Struck]);
    assert_eq!(broken(&|evidence| evidence.sights.clear()), [Claim::Seen]);
    assert_eq!(broken(&|evidence| evidence.panics.push("panicked at".to_owned())), [Claim::Sound]);
}
