//! The main job on a fresh folder, as a newcomer runs it: `portcullis dev --demo`, and again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

#[path = "support/process.rs"]
mod process;

use process::{Process, portcullis, quick_config};

fn demo(config: &std::path::Path, data: &std::path::Path) -> (bool, String) {
    let output = portcullis()
        .args(["dev", "--demo", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(data)
        .output()
        .expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn wallets(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("wallet "))
        .map(|line| line.split("  ").next().unwrap_or(line))
        .collect()
}

#[test]
fn one_payment_of_each_kind_becomes_final_and_a_second_start_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (quick_config(dir.path()), dir.path().join("data"));
    let (ok, first) = demo(&config, &data);
    assert!(ok, "{first}");
    assert_eq!(first.matches("finalized").count(), 6, "{first}");
    assert!(!first.contains("WRONG"), "{first}");
    assert!(first.contains("generated in"), "the first start generates keys:\n{first}");

    let (ok, second) = demo(&config, &data);
    assert!(ok, "{second}");
    assert!(!second.contains("generated in"), "the second start has them:\n{second}");
    assert_eq!(wallets(&first).len(), 4, "{first}");
    assert_eq!(wallets(&first), wallets(&second));
}

#[test]
fn a_killed_gateway_takes_up_its_payments() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (quick_config(dir.path()), dir.path().join("data"));
    let start = || Process::start(portcullis().args(["dev", "--config"]).arg(&config).arg("--data-dir").arg(&data));
    let mut house = start();
    let url = process::url_in(&house.wait_for("gateway "));
    house.wait_for("ready");
    let key = data.join("demo/demo-trader.key");
    let tx = |url: &str, args: &[&str]| {
        let output = portcullis().args(["tx", "--url", url, "--key"]).arg(&key).args(args).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let payee = "0x52908400098527886E0F7030069857D2E4169EE7";
    let send = ["send", "eth-main", payee, "12345", "--idempotency-key", "through-a-crash"];
    let (ok, answer) = tx(&url, &send);
    assert!(ok, "{answer}");
    house.kill();

    let mut house = start();
    let url = process::url_in(&house.wait_for("gateway "));
    // The same name finds the same payment, whatever it had come to, and brings it to its end without paying twice.
    let (ok, again) = tx(&url, &[&send[..], &["--watch"]].concat());
    assert!(ok, "{again}");
    assert!(again.contains("finalized"), "{again}");
    let (_, list) = tx(&url, &["list", "--wallet", "eth-main"]);
    assert_eq!(list.lines().count(), 1, "{list}");
}
