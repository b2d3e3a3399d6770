//! OFAC's XML: read whole or not at all.

#![no_main]

use gateway::screening::ofac;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(sdn) = ofac::parse(data) else { return };
    assert!(!sdn.addresses.is_empty(), "an empty list would let everything pass");
    let text = String::from_utf8_lossy(data);
    assert!(text.contains("Digital Currency Address - "), "addresses out of nothing");
    // Cut off anywhere before its end, it is no list.
    let end = data.iter().rposition(|byte| *byte == b'>').unwrap_or(0);
    assert!(ofac::parse(&data[..end]).is_err(), "a list that was cut off");
});
