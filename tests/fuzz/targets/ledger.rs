//! A signer's ledger: a damaged file is refused, and what is read once is read again as the same.

#![no_main]

use fuzz::file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = file("ledger");
    std::fs::write(&path, data).expect("there is room");
    let Some(entries) = signer::fuzzing::ledger(&path) else { return };
    assert_eq!(signer::fuzzing::ledger(&path), Some(entries), "opening it once has changed it");
});
