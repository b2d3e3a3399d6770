//! Solana: messages as bytes, and instructions in a message that is well formed.

#![no_main]

use chains::account::PublicKey;
use chains::address::Address;
use chains::network::Cluster;
use chains::solana::Solana;
use fuzz::{solana, unsigned};
use libfuzzer_sys::fuzz_target;

/// Programs that are known, so that they needn't be guessed: system, compute budget, SPL Token, Token-2022, associated token accounts,
/// memo, address lookup tables.
const PROGRAMS: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0306466fe5211732ffecadba72c39be7bc8ce5bbc5f7126b2c439b3a40000000",
    "06ddf6e1d765a193d9cbe146ceeb79ac1cb485ed5f5b37913a8cf5857eff00a9",
    "06ddf6e1ee758fde18425dbce46ccddab61afc4d83b90d27febdf928d8a18bfc",
    "8c97258f4e2489f1bb3d1029148e0d830b5a1399daff1084048e7bd8dbe9f859",
    "054a535a992921064d24e87160da387c7c35b5ddbc92bb81e41fa8404105448d",
    "0277a6af97339b7ac88d1892c90446f50002309266f62e53c118244982000000",
];

fuzz_target!(|data: &[u8]| {
    let (chain, account) = (Solana::new(Cluster::Localnet), solana());
    let PublicKey::Ed25519(own) = account.public_key() else { return };
    let Some((kind, rest)) = data.split_first() else { return };
    if *kind == 0 {
        unsigned(&chain, &account, rest);
        return;
    }
    // One instruction: a known program, up to five accounts of which some are the wallet, and the data.
    let program = hex::decode(PROGRAMS[usize::from(*kind) % PROGRAMS.len()]).expect("hex");
    let Some((shape, instruction)) = rest.split_first_chunk::<2>() else { return };
    let count = shape[0] % 6;
    let others: Vec<u8> = (1..6_u8).flat_map(|at| [at ^ shape[1]; 32]).collect();
    let Ok(length) = u8::try_from(instruction.len()) else { return };
    if length > 127 || shape[1] < 8 {
        return;
    }
    // Format, cluster, last valid height, no owners; a legacy message of one signer with 7 accounts, of which the program is the last.
    let mut bytes =
        [&[1, 3][..], &9_u64.to_le_bytes(), &[0], &[1, 0, 1], &[7], own, &others, &program, &[9; 32]].concat();
    bytes.extend([1, 6, count]);
    bytes.extend((0..count).map(|at| if shape[0] & (8 << (at % 5)) == 0 { at } else { 0 }));
    bytes.push(length);
    bytes.extend(instruction);
    let Some(effects) = unsigned(&chain, &account, &bytes) else { return };
    let parties: Vec<Address> = effects.parties().collect();
    for key in others.chunks_exact(32).chain([program.as_slice()]) {
        let key: [u8; 32] = key.try_into().expect("32 bytes");
        assert!(parties.contains(&Address::Solana(key.into())), "an account isn't told");
    }
    assert!(effects.transfers.iter().all(|transfer| transfer.from == *account.address()), "somebody else pays");
    let told = effects.programs.len() + effects.transfers.len() + usize::from(effects.upkeep.is_some());
    assert!(told <= 2, "one instruction");
});
