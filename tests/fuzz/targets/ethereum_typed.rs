//! EIP-712 typed data: what is read tells its hash and its effects, and whoever it lets spend is a party.

#![no_main]

use chains::address::Address;
use chains::ethereum::{Ethereum, typed};
use fuzz::ethereum;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(read) = typed::read(&Ethereum::new(1), &ethereum(), text) else { return };
    let parties: Vec<Address> = read.effects.parties().collect();
    assert!(read.effects.allowances.iter().all(|allowance| parties.contains(&allowance.spender)));
    assert!(!parties.is_empty());
    // White space between the tokens of JSON changes nothing that is signed.
    let spaced = format!(" {text} ");
    assert_eq!(typed::read(&Ethereum::new(1), &ethereum(), &spaced).map(|again| again.hash), Ok(read.hash));
});
