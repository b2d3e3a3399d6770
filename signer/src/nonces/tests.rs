//! The journal and the stock by themselves; `node/tests/nonces.rs` has whole signers that are killed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::scheme::ed25519;
use crate::share::Share;

/// Compiles only while `$type` has none of the traits: with one of them, `A` cannot be inferred.
macro_rules! lacks {
    ($type:ty: $($of:path),+) => {$({
        trait Ambiguous<A> {
            fn some() {}
        }
        struct Has;
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + $of> Ambiguous<Has> for T {}
        let _ = <$type as Ambiguous<_>>::some;
    })+};
}

#[test]
fn what_is_for_one_use_can_be_neither_copied_nor_written_out() {
    lacks!(crate::scheme::OneTimeNonces<frost_ed25519::Ed25519Sha512>: Clone, serde::Serialize, std::fmt::Debug);
    lacks!(NonceId: Clone, serde::Serialize);
    lacks!(Stock<()>: Clone, serde::Serialize);
    lacks!(Share: Clone, serde::Serialize);
    lacks!(ed25519::KeyShare: Clone, serde::Serialize, std::fmt::Debug);
    lacks!(crate::node::Node: Clone, serde::Serialize, std::fmt::Debug);
}

#[test]
fn no_id_is_given_out_twice_not_even_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nonces");
    let mut seen = BTreeSet::new();
    for run in 0..20_u64 {
        let journal = NonceJournal::open(&path).unwrap();
        for _ in 0..run * 40 {
            let id = journal.burn().unwrap();
            let mark = fs::read_to_string(&path).unwrap().trim().parse::<u64>().unwrap();
            assert!(id.0 < mark, "it is burned before it is given out");
            assert!(seen.insert(id));
        }
        // A crash in the middle of a write leaves a temporary file and the mark of before.
        fs::write(dir.path().join("nonces.tmp"), "99").unwrap();
    }
}

#[test]
fn a_damaged_journal_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nonces");
    for damage in ["", "\n", "12", "-1\n", "x\n", "1\n2\n"] {
        fs::write(&path, damage).unwrap();
        assert!(NonceJournal::open(&path).is_err(), "{damage:?}");
    }
}

#[test]
fn where_an_id_cannot_be_burned_there_is_no_nonce() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("signer");
    fs::create_dir(&place).unwrap();
    let journal = Arc::new(NonceJournal::open(&place.join("nonces")).unwrap());
    let stock = Stock::default();
    stock.keep_in(&journal);
    fs::remove_dir(&place).unwrap();
    let made = Cell::new(0);
    let make = || made.set(made.get() + 1);
    assert!(stock.fill(8, make).is_err() && stock.take(make).is_err());
    assert_eq!((made.get(), stock.depth()), (0, 0));
}

#[test]
fn a_stock_fills_to_its_brim_and_gives_each_nonce_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(NonceJournal::open(&dir.path().join("nonces")).unwrap());
    let stock = Stock::default();
    let made = Cell::new(0_usize);
    let make = || made.replace(made.get() + 1);
    stock.fill(8, make).unwrap();
    assert_eq!(stock.depth(), 0, "nothing is made ahead without a journal");
    stock.keep_in(&journal);
    stock.fill(8, make).unwrap();
    assert_eq!(stock.depth(), 8);
    stock.fill(1_000, make).unwrap();
    assert_eq!(stock.depth(), FULL);
    let taken = (0..FULL + 3).map(|_| stock.take(make).unwrap()).collect::<BTreeSet<_>>();
    assert_eq!((taken.len(), stock.depth(), made.get()), (FULL + 3, 0, FULL + 3));
}
