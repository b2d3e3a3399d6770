//! Addresses: what is read is written in one spelling, which reads as the same holder.

#![no_main]

use std::collections::BTreeSet;

use chains::address::UncheckedAddress;
use chains::asset::Asset;
use chains::holder::Holder;
use chains::network::Family;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for family in [Family::Bitcoin, Family::Ethereum, Family::Solana] {
        let Some(address) = Holder::read(&UncheckedAddress::new(text), family) else { continue };
        let spelled = address.to_string();
        let again = Holder::read(&UncheckedAddress::new(&*spelled), family).expect("the canonical spelling reads");
        assert_eq!(again, address);
        let names: BTreeSet<_> = Holder::names(&address).into_iter().collect();
        assert!(!names.is_empty() && names == Holder::names(&again).into_iter().collect());
        // Everything but the case of letters is in the bytes: nothing is skipped or made up.
        assert_eq!(spelled.to_ascii_lowercase(), text.to_ascii_lowercase());
    }
    if let Ok(asset) = text.parse::<Asset>() {
        assert_eq!(asset.to_string().parse(), Ok(asset));
    }
});
