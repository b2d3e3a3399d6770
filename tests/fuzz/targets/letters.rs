//! What signers and their coordinator say to each other: what is read is written again, and no letter opens that nobody sealed.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    signer::fuzzing::message(data);
    assert!(!signer::fuzzing::opens(data), "nobody has sealed this letter");
});
