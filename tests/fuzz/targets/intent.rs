//! Intents: what is read is written and read again as the same.

#![no_main]

use chains::intent::Intent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(intent) = serde_json::from_slice::<Intent>(data) else { return };
    let written = serde_json::to_vec(&intent).expect("an intent has a JSON");
    assert_eq!(serde_json::from_slice::<Intent>(&written).expect("it reads again"), intent);
});
