//! The example policies are sound: each compiles for its own wallets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests state their assumptions bluntly")]

use std::path::Path;

use gateway::config::WalletConfig;
use serde::Deserialize;
use signer::policy::PolicyConfig;

/// An example: wallets, and the policy for them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    wallets: Vec<WalletConfig>,
    policy: PolicyConfig,
}

#[test]
fn every_example_policy_compiles() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies");
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let example: Example = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let networks = example.wallets.iter().map(|wallet| (wallet.id.clone(), wallet.network)).collect();
        if let Err(error) = example.policy.compile(&networks) {
            panic!("{name}: {error}");
        }
        // One wallet less, and it doesn't: the compilation looks at what the rules name.
        let fewer = example.wallets.iter().skip(1).map(|wallet| (wallet.id.clone(), wallet.network)).collect();
        assert!(example.policy.compile(&fewer).is_err(), "{name}");
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, ["asset-manager", "family-office", "hedge-fund", "otc-desk", "treasury"]);
}
