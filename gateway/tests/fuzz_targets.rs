//! The fuzz targets of `tests/fuzz` over their seeds and over seeds that were changed at random, without a fuzzer: so that they
//! compile, hold what they assert, and find what is easily found. `FUZZ_CASES` says how many changed inputs each target gets.
#![allow(
    unused_attributes,
    unused_imports,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "targets are written for a crate of their own, and fail by panicking"
)]

// The targets name the crates that they have beside a fuzzer.
extern crate self as fuzz;
extern crate self as libfuzzer_sys;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

pub(crate) use self::shared::*;

#[path = "../../tests/fuzz/lib.rs"]
mod shared;

/// What the fuzzer's macro makes of a target, without the fuzzer.
macro_rules! fuzz_target {
    (|$data:ident: &[u8]| $body:block) => {
        pub(crate) fn run($data: &[u8]) {
            $body
        }
    };
    (|$text:ident: &str| $body:block) => {
        pub(crate) fn run(data: &[u8]) {
            let Ok($text) = str::from_utf8(data) else { return };
            $body
        }
    };
}
pub(crate) use fuzz_target;

macro_rules! targets {
    ($($name:ident $path:literal),+ $(,)?) => {
        $(#[path = $path]
        mod $name;)+

        mod seeds {
            $(#[test]
            fn $name() {
                super::try_out(stringify!($name), super::$name::run);
            })+
        }
    };
}

targets!(
    address "../../tests/fuzz/targets/address.rs",
    approval "../../tests/fuzz/targets/approval.rs",
    bitcoin_psbt "../../tests/fuzz/targets/bitcoin_psbt.rs",
    ethereum_decode "../../tests/fuzz/targets/ethereum_decode.rs",
    ethereum_typed "../../tests/fuzz/targets/ethereum_typed.rs",
    intent "../../tests/fuzz/targets/intent.rs",
    ledger "../../tests/fuzz/targets/ledger.rs",
    letters "../../tests/fuzz/targets/letters.rs",
    list "../../tests/fuzz/targets/list.rs",
    ofac "../../tests/fuzz/targets/ofac.rs",
    policy "../../tests/fuzz/targets/policy.rs",
    quorum "../../tests/fuzz/targets/quorum.rs",
    request "../../tests/fuzz/targets/request.rs",
    solana_message "../../tests/fuzz/targets/solana_message.rs",
    solana_tables "../../tests/fuzz/targets/solana_tables.rs",
    webauthn "../../tests/fuzz/targets/webauthn.rs",
);

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end.max(1)).expect("a length fits 64 bits");
        usize::try_from((z ^ (z >> 31)) % end).expect("below a length")
    }

    /// A seed with one to four changes.
    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let (at, other) = (self.below(data.len()), self.below(seeds.len()));
            match self.below(6) {
                0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                1 if !data.is_empty() => data[at] = u8::try_from(self.below(256)).expect("a byte"),
                2 => data.truncate(at),
                3 if !data.is_empty() => {
                    let end = at + self.below(data.len() - at);
                    data.drain(at..end);
                }
                4 => {
                    let piece = &seeds[other];
                    let from = self.below(piece.len());
                    let to = from + self.below(piece.len() - from);
                    data.splice(at..at, piece[from..to].iter().copied());
                }
                _ => data.insert(at, u8::try_from(self.below(256)).expect("a byte")),
            }
        }
        data
    }
}

fn try_out(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target);
    let files = std::fs::read_dir(&folder).expect("every target has seeds");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort_unstable();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect();
    assert!(!seeds.is_empty(), "every target has seeds");
    let cases = std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300_usize);
    let mut random = Random(7);
    let changed = (0..cases).map(|_| random.changed(&seeds));
    for data in seeds.iter().cloned().chain(changed.collect::<Vec<_>>()) {
        let held = catch_unwind(AssertUnwindSafe(|| run(&data)));
        assert!(
            held.is_ok(),
            "{target} fails for {}",
            data.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
    }
}
