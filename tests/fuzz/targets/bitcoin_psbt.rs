//! Bitcoin: PSBTs as bytes, and built ones with some bytes changed. What goes in comes out again, as payments, change or fee.

#![no_main]

use std::sync::Arc;

use bitcoin::absolute::{Height, LockTime};
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use chains::address::{Address, UncheckedAddress};
use chains::amount::Amount;
use chains::asset::Asset;
use chains::bitcoin::{Bitcoin, State, Utxo, Waiting};
use chains::chain::Chain;
use chains::intent::{Action, Intent};
use chains::network::BitcoinNetwork;
use fuzz::{bitcoin as wallet, unsigned};
use libfuzzer_sys::fuzz_target;

const CHAIN: Bitcoin = Bitcoin::new(BitcoinNetwork::Regtest);

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    if kind % 2 == 0 {
        check(rest);
        return;
    }
    let Some((amount, changes)) = rest.split_first_chunk::<4>() else { return };
    let Some(mut bytes) = built(u32::from_le_bytes(*amount) % 200_000) else { return };
    assert!(check(&bytes), "what is built is decoded");
    for change in changes.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] ^= change[2];
    }
    check(&bytes);
});

/// Whether it is a transaction of the wallet's; then nothing is lost in it.
fn check(bytes: &[u8]) -> bool {
    let Some(effects) = unsigned(&CHAIN, &wallet(), bytes) else { return false };
    let read = CHAIN.decode_unsigned(bytes).expect("it was read before");
    let spent: u64 = read.spent().iter().map(|output| output.value.to_sat()).sum();
    let out = effects.transfers.iter().map(|transfer| transfer.amount).chain([effects.change, effects.max_fee]);
    let out = out.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).expect("less than all bitcoin"));
    assert_eq!(out, Amount::from_sat(spent));
    true
}

fn built(amount: u32) -> Option<Vec<u8>> {
    let account = wallet();
    let Address::Bitcoin(own) = account.address() else { return None };
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from_bytes(vec![0x51]),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let outputs =
        [60_000, 50_000].map(|sat| TxOut { value: bitcoin::Amount::from_sat(sat), script_pubkey: own.script_pubkey() });
    let previous =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: outputs.to_vec() };
    let previous = Arc::new(previous);
    let utxos = [0, 1].into_iter().filter_map(|vout| Utxo::new(previous.clone(), vout, 6));
    let state = State {
        utxos: utxos.collect(),
        fee_rate: FeeRate::from_sat_per_vb(2)?,
        max_fee_rate: FeeRate::from_sat_per_vb(500)?,
        tip: Height::from_consensus(100).ok()?,
        waiting: Waiting::Untouched,
    };
    let to = UncheckedAddress::new("bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6");
    let intent = Intent {
        wallet: account.wallet().clone(),
        action: Action::Transfer { asset: Asset::Native, to, amount: Amount::from_sat(amount.into()) },
        max_fee: None,
        reference: None,
    };
    CHAIN.build(&intent, &account, &state).ok().map(|unsigned| CHAIN.encode_unsigned(&unsigned))
}
