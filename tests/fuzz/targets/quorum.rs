//! Quorum expressions: what is written reads again as the same, and nobody fulfils none.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use signer::policy::quorum::Quorum;

fuzz_target!(|text: &str| {
    let Ok(quorum) = text.parse::<Quorum>() else { return };
    assert_eq!(quorum.to_string().parse::<Quorum>().expect("it reads again"), quorum);
    let nobody = BTreeMap::new();
    assert!(!quorum.is_met_by(&nobody) && quorum.missing(&nobody) > 0, "nobody is no quorum");
    assert!(quorum.implies(&quorum) && quorum.or(&quorum).implies(&quorum));
});
