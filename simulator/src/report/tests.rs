//! A report survives its JSON, and its page is whole, self-contained and safe.

use super::*;
use crate::fault::rule::Rule;
use crate::load::{Mix, Order, Reached, Wave, orders};
use crate::scenario::Claim;
use crate::seed::Seed;

const CHAINS: [ChainKind; 3] = [ChainKind::Bitcoin, ChainKind::Ethereum, ChainKind::Solana];

fn fate(order: Order) -> Fate {
    let at = order.at_ms;
    let took = 1_000 + u64::from(order.payee[0]) * 10;
    let states = ["received", "queued", "signing", "signed", "in_mempool", "included", "finalized"];
    let step = |(number, state): (u64, &str)| Reached { state: state.to_owned(), at_ms: at + took * number / 6 };
    let steps = (0..).zip(states).map(step).collect();
    let (sent_ms, answered_ms) = (Some(at + 1), Some(at + 40));
    let record = Some("018f".to_owned());
    let state = "finalized".to_owned();
    Fate { sent_ms, answered_ms, tries: 1, record, steps, ended: true, state, ..Fate::new(order, "payee".to_owned()) }
}

fn told(fates: Vec<Fate>) -> Told {
    let verdict = |claim, holds, found: &str| Verdict { claim, holds, found: found.to_owned(), against: Vec::new() };
    Told {
        name: "try <b>".to_owned(),
        about: "A & B".to_owned(),
        seed: Seed(7),
        command: "portcullis sim run \"try\" --seed 7".to_owned(),
        began_unix_ms: 1_800_000_000_000,
        end_ms: 24_000,
        facts: vec![Fact { name: "signers".to_owned(), value: "2 of 3".to_owned() }],
        verdicts: vec![
            verdict(Claim::Settled, true, "all"),
            verdict(Claim::ExactlyOnce, false, "</script><script>alert(1)</script>"),
        ],
        faults: vec![FaultSpan {
            name: "cut".to_owned(),
            what: "</script>".to_owned(),
            place: "bitcoin".to_owned(),
            chain: Some(ChainKind::Bitcoin),
            from_ms: 2_000,
            to_ms: Some(9_000),
            strikes: 2,
            struck: vec![Struck { at_ms: 2_000, subject: "bitcoin network".to_owned(), event: 1 }],
        }],
        fates,
        ends: vec!["finalized".to_owned()],
    }
}

fn report() -> Report {
    let mix = Mix { transfers: 1, tokens: 1, calls: 1 };
    let wave = |chain| Wave { chain, per_minute: 120, from_ms: 0, for_ms: 20_000, mix };
    let mut fates: Vec<_> = orders(Seed(7), "try", &CHAINS.map(wave)).into_iter().map(fate).collect();
    fates[4].state = "rejected".to_owned();
    fates[4].reason = Some("no rule lets <this> wallet pay".to_owned());
    build(told(fates))
}

#[test]
fn a_report_survives_its_json() {
    let report = report();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    assert_eq!(html(&serde_json::from_str::<Report>(&json).unwrap()), html(&report));
}

#[test]
fn numbers_add_up() {
    let report = report();
    assert_eq!((report.totals.intended, report.totals.finalized, report.totals.ended_otherwise), (120, 119, 1));
    let sum = |of: fn(&ChainReport) -> &Vec<u64>| -> u64 { report.chains.iter().flat_map(of).sum() };
    assert_eq!((sum(|chain| &chain.intended), sum(|chain| &chain.finalized)), (120, 119));
    for chain in &report.chains {
        let counted: u64 = chain.latency.iter().flatten().map(|times| times.count).sum();
        assert_eq!(Some(counted), chain.overall.map(|times| times.count));
        assert_eq!(chain.stages.len(), 7);
    }
    assert_eq!(report.failures.len(), 1);
    assert!(!report.holds());
}

/// Every element that is opened is closed, in the right order, and attributes are quoted.
fn balanced(page: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start + 1..];
        let end = tag.find('>').expect("a tag ends");
        let (inside, after) = (&tag[..end], &tag[end + 1..]);
        assert_eq!(inside.matches('"').count() % 2, 0, "{inside}");
        let name: String = inside.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        rest = after;
        if inside.starts_with('!') || inside.ends_with('/') || ["meta", "br"].contains(&name.as_str()) {
            continue;
        }
        if inside.starts_with('/') {
            assert_eq!(open.pop().as_ref(), Some(&name), "</{name}> closes another");
            continue;
        }
        if name == "script" || name == "style" {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("it ends") + close.len()..];
            continue;
        }
        open.push(name);
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_is_whole_self_contained_and_safe() {
    let page = html(&report());
    balanced(&page);
    for foreign in ["http://", "https://", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(!page.contains("alert(1)</script>"), "what is told can't run");
    assert!(page.contains("no rule lets &lt;this&gt; wallet pay"));
    for part in
        ["prefers-color-scheme: dark", "@media print", "portcullis sim run &quot;try&quot; --seed 7", "class=\"timed\""]
    {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn a_payment_that_is_deep_at_once_has_its_stages() {
    let waves = [Wave { chain: ChainKind::Bitcoin, per_minute: 60, from_ms: 0, for_ms: 5_000, mix: Mix::default() }];
    let mut fates: Vec<_> = orders(Seed(2), "t", &waves).into_iter().map(fate).collect();
    for fate in &mut fates {
        fate.steps
            .iter_mut()
            .filter(|step| step.state == "included")
            .for_each(|step| step.state = "confirmed".to_owned());
    }
    let report = build(told(fates));
    let names: Vec<_> = report.chains[0].stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names[5..], ["into a block", "to finality"]);
}

#[test]
fn a_run_without_payments_has_a_page() {
    let mut told = told(Vec::new());
    (told.end_ms, told.faults, told.verdicts) = (0, Vec::new(), Vec::new());
    let report = build(told);
    balanced(&html(&report));
    assert!(summary(&report).contains("0 payments"));
}

#[test]
fn a_long_run_has_few_steps() {
    let mut long = told(Vec::new());
    long.end_ms = 48 * 3_600_000;
    let order = orders(
        Seed(1),
        "t",
        &[Wave { chain: ChainKind::Solana, per_minute: 1, from_ms: 0, for_ms: 60_000, mix: Mix::default() }],
    );
    long.fates = order.into_iter().map(fate).collect();
    let report = build(long);
    assert!(report.chains[0].intended.len() <= 72, "{}", report.chains[0].intended.len());
    balanced(&html(&report));
}

#[test]
fn scenario_rules_are_those_of_the_control_port() {
    // The same text as `sim_addFault` takes, in TOML.
    let rule: Rule = toml::from_str(
        "fault = { kind = \"lie\" }\nscope = { on = \"rpc\", methods = [\"send*\"] }\nprobability = 0.5",
    )
    .unwrap();
    rule.check().unwrap();
    assert_eq!(serde_json::from_value::<Rule>(serde_json::to_value(&rule).unwrap()).unwrap(), rule);
}
