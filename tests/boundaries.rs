//! The arrows between the rooms, as `ARCHITECTURE.md` draws them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly"
)]

use std::collections::BTreeSet;
use std::process::Command;

/// The names of everything that `package` depends on, however far.
fn dependencies(package: &str, features: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "-p",
            package,
        ])
        .args(features)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names are text");
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != package).map(str::to_owned).collect()
}

fn assert_without(package: &str, features: &[&str], banned: &[&str]) {
    let dependencies = dependencies(package, features);
    assert!(!dependencies.is_empty(), "{package}");
    for name in banned {
        assert!(!dependencies.contains(*name), "{package} depends on {name}");
    }
}

#[test]
fn chains_depend_on_no_other_room() {
    assert_without("chains", &[], &["signer", "gateway", "simulator", "rusqlite", "jsonrpsee", "dkls23"]);
}

#[test]
fn signers_know_neither_gateway_nor_simulator_nor_http() {
    assert_without("signer", &[], &["gateway", "simulator", "rusqlite", "jsonrpsee", "axum", "reqwest", "hyper"]);
}

#[test]
fn signers_apart_add_no_http_client() {
    let features = ["--features", "grpc"];
    let banned = ["gateway", "simulator", "jsonrpsee", "axum", "reqwest", "openssl-sys", "native-tls", "aws-lc-sys"];
    assert_without("signer", &features, &banned);
}

#[test]
fn the_gateway_does_not_know_the_simulator() {
    assert_without("gateway", &[], &["simulator", "revm", "litesvm", "bitcoinconsensus"]);
}

#[test]
fn the_simulator_knows_nothing_that_it_tests() {
    assert_without("simulator", &[], &["gateway", "signer", "chains", "dkls23"]);
}

#[test]
fn a_production_build_can_leave_the_simulator_out() {
    assert_without("portcullis", &["--no-default-features"], &["simulator", "revm", "litesvm", "bitcoinconsensus"]);
}

#[test]
fn one_tls_library() {
    assert_without("portcullis", &[], &["openssl-sys", "native-tls", "aws-lc-sys"]);
}

/// `a/{b,c}.rs` and `a/<chain>/b.rs` stand for several paths.
fn expand(path: &str) -> Vec<String> {
    let path = path.replace("<chain>", "{bitcoin,ethereum,solana}");
    match (path.find('{'), path.find('}')) {
        (Some(open), Some(close)) => path[open + 1..close]
            .split(',')
            .map(|name| format!("{}{name}{}", &path[..open], &path[close + 1..]))
            .collect(),
        _ => vec![path],
    }
}

#[test]
fn the_documents_name_files_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for document in ["ARCHITECTURE.md", "README.md", "SECURITY.md", "docs/api.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        let words = text.split('`').skip(1).step_by(2).filter(|word| !word.contains(char::is_whitespace));
        for path in words.filter(|word| word.ends_with(".rs") || word.ends_with(".md") || word.ends_with('/')) {
            for path in expand(path).iter().filter(|path| !path.starts_with("portcullis-data")) {
                assert!(root.join(path).exists(), "{document} names {path}");
                named += 1;
            }
        }
    }
    assert!(named > 30, "{named}");
}
