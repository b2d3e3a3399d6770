//! How fast a list of ten million holders answers, what it weighs, how long OFAC's file takes to read, and what payments notice of
//! lists that are read again.
//!
//! `cargo bench -p gateway --bench screening` prints one table. The file is generated in the shape and size of the real one,
//! which has some 80 MB. It fails where a lookup fails, misses what is listed or finds what isn't.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::float_arithmetic,
    reason = "a bench states its assumptions bluntly, and its figures are for people"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chains::address::{Address, UncheckedAddress};
use gateway::clock::SystemClock;
use gateway::screening::index::Index;
use gateway::screening::list::{Format, ListConfig};
use gateway::screening::{Screening, ScreeningConfig, ofac};
use signer::policy::Policy;

const HOLDERS: u64 = 10_000_000;
const LOOKUPS: u64 = 1_000_000;
/// Entries of the generated file: each has some 4 kB around its address, as the real ones have.
const ENTRIES: u64 = 20_000;
/// So often the lists are read again while others look up.
const RELOADS: u32 = 5;
/// So many look up meanwhile.
const READERS: u64 = 2;

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
    if let (Some(resident), Some(most)) = (status("VmRSS:"), status("VmHWM:")) {
        println!("memory    {resident} kB resident with the index, {most} kB at most while it was built");
    }

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
    drop(index);
    reload(&mut random, &file, &read.addresses.first().unwrap().address);
}

/// A line of what the system says of this process, in kB.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Looks up without a pause while the lists, OFAC's file and a million lines of text, are read again and again.
fn reload(random: &mut Random, ofac: &str, listed: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut text = String::new();
    for _ in 0..1_000_000 {
        writeln!(text, "{}", random.address()).unwrap();
    }
    let write = |turn: u32| {
        std::fs::write(path("sdn_advanced.xml"), format!("{ofac}<!-- {turn} -->")).unwrap();
        std::fs::write(path("house.txt"), format!("# {turn}\n{text}")).unwrap();
    };
    write(0);
    let list =
        |id: &str, format, name| ListConfig { id: id.to_owned(), format, path: path(name), max_age_hours: Some(24) };
    let config = ScreeningConfig {
        lists: vec![list("ofac", Format::OfacXml, "sdn_advanced.xml"), list("house", Format::Text, "house.txt")],
        ..ScreeningConfig::default()
    };
    let clock = Arc::new(SystemClock);
    let screening = Screening::open(&config, Arc::new(Policy::default()), clock, Path::to_owned).unwrap();
    let network = "ethereum:1".parse().unwrap();
    let listed = BTreeSet::from([UncheckedAddress::new(listed.to_lowercase()).require_network(network).unwrap()]);
    let clean: Vec<BTreeSet<Address>> = (0..1_000).map(|_| BTreeSet::from([random.address()])).collect();
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let times = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    for parties in clean.iter().cycle() {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let began = Instant::now();
                        let clear = screening.look_up_again(black_box(parties)).is_ok();
                        times.push(began.elapsed());
                        assert!(clear, "a lookup failed");
                        assert!(screening.look_up_again(&listed).is_err(), "a listed address was clear");
                    }
                    times
                })
            })
            .collect();
        for turn in 1..=RELOADS {
            write(turn);
            let changed = screening.reload().unwrap();
            assert_eq!(changed, ["ofac", "house"]);
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
    });
    let (took, mut times) = (began.elapsed(), times);
    times.sort_unstable();
    let at = |percent: usize| *times.get(times.len() * percent / 100).unwrap();
    println!(
        "reload    {RELOADS} times in {took:?}, {} lookups meanwhile, 0 failed, p50 {:?}, p99 {:?} with its clearance",
        times.len(),
        at(50),
        at(99)
    );
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
