//! Solana: lookup tables as bytes, and the accounts that a message reads from them, held against a reader of its own.

#![no_main]

use chains::account::PublicKey;
use chains::address::Address;
use chains::network::Cluster;
use chains::solana::Solana;
use fuzz::{solana, unsigned};
use libfuzzer_sys::fuzz_target;

/// The address lookup table program.
const OWNER: &str = "0277a6af97339b7ac88d1892c90446f50002309266f62e53c118244982000000";

fuzz_target!(|data: &[u8]| {
    let (chain, account) = (Solana::new(Cluster::Localnet), solana());
    let PublicKey::Ed25519(own) = account.public_key() else { return };
    let Some((kind, rest)) = data.split_first() else { return };
    if *kind == 0 {
        unsigned(&chain, &account, rest);
        return;
    }
    // How many places are written and how many only read, the places, and the table's data.
    let Some((shape, rest)) = rest.split_first_chunk::<2>() else { return };
    let [written, read] = shape.map(|count| count % 5);
    let Some((places, table)) = rest.split_at_checked(usize::from(written + read)) else { return };
    let Ok(length) = u16::try_from(table.len()) else { return };
    let owner = if *kind == 1 { hex::decode(OWNER).expect("hex") } else { vec![*kind; 32] };
    let (written_places, read_places) = places.split_at(usize::from(written));
    // A v0 message of one signer and one program, which gets every account of the table that is read.
    let message = [
        &[0x80, 1, 0, 1, 2][..],
        own,
        &[9; 32],
        &[9; 32],
        &[1, 1, written + read],
        &(2..2 + written + read).collect::<Vec<u8>>(),
        &[1, 7, 1],
        &[8; 32],
        &[written],
        written_places,
        &[read],
        read_places,
    ];
    let head = [&[3, 3][..], &9_u64.to_le_bytes(), &[0, 1], &[8; 32], &owner, &length.to_le_bytes(), table];
    let Some(effects) = unsigned(&chain, &account, &[head.concat(), message.concat()].concat()) else { return };

    assert_eq!(*kind, 1, "another program's account is no table");
    let (about, entries) = table.split_at(56);
    assert_eq!(about[..12], [&[1, 0, 0, 0][..], &[0xff; 8]].concat(), "not set up, or given up");
    let entries: Vec<[u8; 32]> = entries.chunks(32).map(|entry| entry.try_into().expect("whole entries")).collect();
    let expected: Vec<([u8; 32], bool)> = places
        .iter()
        .enumerate()
        .map(|(at, place)| (entries[usize::from(*place)], at < usize::from(written)))
        .collect();
    let [call] = effects.programs.as_slice() else { panic!("one instruction") };
    let found: Vec<([u8; 32], bool)> =
        call.accounts.iter().map(|used| (used.address.to_bytes(), used.writable)).collect();
    assert_eq!(found, expected, "other accounts");
    let parties: Vec<Address> = effects.parties().collect();
    for key in expected.iter().map(|(key, _)| *key).chain([[8; 32], [9; 32]]) {
        assert!(parties.contains(&Address::Solana(key.into())), "an account isn't told");
    }
    let [told] = effects.tables.as_slice() else { panic!("one table") };
    assert_eq!((told.entries.len(), Some(&told.last)), (entries.len(), places.iter().max()));
});
