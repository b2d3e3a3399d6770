//! Bitcoin: PSBTs as bytes. What goes in comes out again, as payments, change or fee.

#![no_main]

use chains::amount::Amount;
use chains::bitcoin::Bitcoin;
use chains::chain::Chain;
use chains::network::BitcoinNetwork;
use fuzz::{bitcoin, unsigned};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (chain, account) = (Bitcoin::new(BitcoinNetwork::Regtest), bitcoin());
    let Some(effects) = unsigned(&chain, &account, data) else { return };
    let read = chain.decode_unsigned(data).expect("it was read before");
    let spent: u64 = read.spent().iter().map(|output| output.value.to_sat()).sum();
    let out = effects.transfers.iter().map(|transfer| transfer.amount).chain([effects.change, effects.max_fee]);
    let out = out.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).expect("less than all bitcoin"));
    assert_eq!(out, Amount::from_sat(spent));
});
