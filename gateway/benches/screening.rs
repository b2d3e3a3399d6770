//! How fast a list of ten million holders answers, what it weighs, and how long OFAC's file takes to read.
//!
//! `cargo bench -p gateway --bench screening` prints one table. The file is generated in the shape and size of the real one,
//! which has some 80 MB.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::float_arithmetic,
    reason = "a bench states its assumptions bluntly, and its figures are for people"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use chains::address::{Address, UncheckedAddress};
use gateway::screening::index::Index;
use gateway::screening::ofac;

const HOLDERS: u64 = 10_000_000;
const LOOKUPS: u64 = 1_000_000;
/// Entries of the generated file: each has some 4 kB around its address, as the real ones have.
const ENTRIES: u64 = 20_000;

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn address(&mut self) -> Address {
        let text = format!("0x{:016x}{:016x}{:08x}", self.next(), self.next(), self.next() >> 32);
        UncheckedAddress::new(text).require_network("ethereum:1".parse().unwrap()).unwrap()
    }
}

fn main() {
    let mut random = Random(2026);
    let began = Instant::now();
    let names = (0..HOLDERS).map(|_| (u128::from(random.next()) << 64) | u128::from(random.next())).collect();
    let index = Index::new(names).unwrap();
    let built = began.elapsed();
    println!(
        "index     {} holders in {built:?}, {:.0} MB",
        index.len(),
        f64::from(u32::try_from(index.bytes()).unwrap()) / 1e6
    );

    let mut times: Vec<Duration> = Vec::new();
    let addresses: Vec<Address> = (0..LOOKUPS).map(|_| random.address()).collect();
    for address in &addresses {
        let began = Instant::now();
        black_box(index.contains(black_box(address)));
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| *times.get(times.len() * percent / 100).unwrap();
    println!("lookup    p50 {:?}, p99 {:?}, address to answer, {LOOKUPS} of them", at(50), at(99));

    let file = sdn(&mut random);
    let began = Instant::now();
    let read = ofac::parse(file.as_bytes()).unwrap();
    let took = began.elapsed();
    println!("ofac      {} MB, {} addresses in {took:?}", file.len() / 1_000_000, read.addresses.len());
}

/// A file in the shape of `sdn_advanced.xml`.
fn sdn(random: &mut Random) -> String {
    let mut file = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Sanctions xmlns=\"x\">\n<ReferenceValueSets><FeatureTypeValues>\
         <FeatureType ID=\"25\" FeatureTypeGroupID=\"1\">Location</FeatureType>\
         <FeatureType ID=\"345\" FeatureTypeGroupID=\"1\">Digital Currency Address - ETH</FeatureType>\
         </FeatureTypeValues></ReferenceValueSets>\n<DistinctParties>\n",
    );
    for entry in 0..ENTRIES {
        write!(file, "<DistinctParty FixedRef=\"{entry}\"><Comment /><Profile ID=\"{entry}\" PartySubTypeID=\"4\">")
            .unwrap();
        for place in 0..20 {
            write!(
                file,
                "<Feature ID=\"{entry}{place}\" FeatureTypeID=\"25\"><FeatureVersion ID=\"1\" ReliabilityID=\"1560\"><Comment />\
                 <VersionDetail DetailTypeID=\"1432\">Somewhere in the world, {place}</VersionDetail></FeatureVersion></Feature>"
            )
            .unwrap();
        }
        if entry % 20 == 0 {
            write!(
                file,
                "<Feature ID=\"{entry}\" FeatureTypeID=\"345\"><FeatureVersion ID=\"1\" ReliabilityID=\"1560\"><Comment />\
                 <VersionDetail DetailTypeID=\"1432\">{}</VersionDetail></FeatureVersion></Feature>",
                random.address()
            )
            .unwrap();
        }
        file.push_str("</Profile></DistinctParty>\n");
    }
    file.push_str("</DistinctParties>\n</Sanctions>\n");
    file
}
