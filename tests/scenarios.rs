//! A short scenario through the binary: it holds, it repeats by its seed, it fails where it is broken, and what is no scenario is refused.

#![cfg(feature = "simulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const SHORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios/short.toml");

/// Runs `portcullis sim`, and answers its exit code and all that it printed.
fn sim(arguments: &[&str]) -> (i32, String) {
    let mut portcullis = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = portcullis.arg("sim").args(arguments).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    (output.status.code().expect("no signal ended it"), text)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The claims that fail.
fn failed(report: &Value) -> Vec<&str> {
    let verdicts = report["verdicts"].as_array().unwrap();
    verdicts
        .iter()
        .filter(|verdict| verdict["holds"] == false)
        .map(|verdict| verdict["claim"].as_str().unwrap())
        .collect()
}

/// What was struck, by rule and subject: the numbers of the events.
fn struck(report: &Value) -> BTreeMap<(String, String), Vec<u64>> {
    let mut all: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for fault in report["faults"].as_array().unwrap() {
        for struck in fault["struck"].as_array().unwrap() {
            let subject = struck["subject"].as_str().unwrap().to_owned();
            let key = (fault["name"].as_str().unwrap().to_owned(), subject);
            all.entry(key).or_default().push(struck["event"].as_u64().unwrap());
        }
    }
    all
}

#[test]
fn one_seed_gives_one_run_and_a_broken_one_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let path = |name: &str| file(name).display().to_string();
    let (code, text) = sim(&["run", SHORT, "--json", &path("one.json"), "--report", &path("one.html")]);
    assert_eq!(code, 0, "{text}");
    let one = json(&file("one.json"));
    assert!(failed(&one).is_empty());
    assert_eq!(one["totals"]["intended"], one["totals"]["finalized"]);

    // The same seed, and one payee is paid once more behind the gateway's back.
    let (code, text) = sim(&["run", SHORT, "--broken", "--json", &path("two.json")]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("again: portcullis sim run"), "{text}");
    let two = json(&file("two.json"));
    assert_eq!(failed(&two), ["exactly_once", "conservation"], "{text}");

    let orders = |report: &Value| -> Vec<Value> {
        report["payments"].as_array().unwrap().iter().map(|payment| payment["order"].clone()).collect()
    };
    assert_eq!(orders(&one), orders(&two), "the payments are the same, to the millisecond");
    assert_eq!(one["orders_digest"], two["orders_digest"]);
    let (first, second) = (struck(&one), struck(&two));
    let mut compared = 0;
    for (key, events) in &first {
        // How many events there are may differ; those that both runs saw are decided alike.
        let Some(others) = second.get(key) else { continue };
        let both = *events.iter().max().min(others.iter().max()).unwrap();
        let seen = |events: &[u64]| events.iter().copied().filter(|event| *event <= both).collect::<Vec<_>>();
        assert_eq!(seen(events), seen(others), "{key:?}");
        compared += seen(events).len();
    }
    assert!(compared > 10, "{compared}");

    // The page is rendered again from the JSON, the same.
    let (code, _) = sim(&["report", &path("one.json"), "--html", &path("again.html")]);
    assert_eq!(code, 0);
    assert_eq!(std::fs::read(file("one.html")).unwrap(), std::fs::read(file("again.html")).unwrap());
}

#[test]
fn what_is_no_scenario_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(SHORT).unwrap();
    let at = text.lines().position(|line| line == "probability = 0.25").unwrap() + 1;
    let file = dir.path().join("wrong.toml");
    for (from, to, told) in [
        ("probability = 0.25", "probability = 1.25", format!("line {at}")),
        ("probability = 0.25", "chance = 0.25", format!("line {at}")),
        ("nodes = [0] }", "nodes = [3] }", "there is no node 3 of bitcoin".to_owned()),
    ] {
        assert!(text.contains(from));
        std::fs::write(&file, text.replace(from, to)).unwrap();
        let (code, text) = sim(&["run", &file.display().to_string()]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains(&told), "{told}: {text}");
    }
    let (code, text) = sim(&["run", "no-such-scenario"]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("steady, burst, reorg-storm"), "{text}");
}
