//! Text lists: what a line names is found, whatever else the list holds.

#![no_main]

use chains::address::UncheckedAddress;
use chains::holder::Holder;
use chains::network::Family;
use fuzz::file;
use gateway::screening::list::{Format, List, ListConfig};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = file("list");
    std::fs::write(&path, data).expect("there is room");
    let config = ListConfig { id: "list".to_owned(), format: Format::Text, path, max_age_hours: None };
    let Ok(list) = List::load(&config) else { return };
    let Ok(text) = str::from_utf8(data) else { return };
    for line in text.lines() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        for family in [Family::Bitcoin, Family::Ethereum, Family::Solana] {
            if let Some(address) = Holder::read(&UncheckedAddress::new(entry), family) {
                assert!(list.contains(&address), "{entry} is on the list and isn't found");
            }
        }
    }
});
