//! The crash matrix in its short form: a handful of cells on one chain, with the embedded store, and with PostgreSQL where it
//! is installed; and one known bug, to see that the cells can fail. `just crash-matrix` runs all of it.
//!
//! It needs a binary with the features `failpoints` and `mutations`, so it is run by name.

#![cfg(all(feature = "simulator", feature = "failpoints", feature = "mutations"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests state their assumptions bluntly")]

use std::process::Command;

fn sim(arguments: &[&str]) -> (bool, String) {
    let mut portcullis = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = portcullis.arg("sim").args(arguments).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    (output.status.success(), text)
}

#[test]
#[ignore = "minutes; tests/run runs it with the features that it needs"]
fn a_handful_of_cells_holds() {
    let points = ["accept.after", "burn.after", "sign.after", "sending.after", "final.before"];
    let points = points.iter().chain(["replace.stored", "refund.before", "two.payments", "holder.overtaken"].iter());
    let mut arguments = vec!["crash-matrix", "--chain", "ethereum", "--runs", "1", "--jobs", "2"];
    for point in points {
        arguments.extend(["--point", point]);
    }
    let (holds, text) = sim(&arguments);
    assert!(holds && text.contains(" 0 violations"), "{text}");
    // Each run was one: a cell that can't be run is no cell that holds.
    assert!(text.contains("17 cells, 17 runs") || text.contains("8 cells, 8 runs"), "{text}");
}

#[test]
#[ignore = "minutes; tests/run runs it with the features that it needs"]
fn a_known_bug_is_caught() {
    let (caught, text) = sim(&["mutation-check", "--mutation", "timer_refund", "--mutation", "token_not_durable"]);
    assert!(caught && text.contains("2 mutations, 2 caught"), "{text}");
}
