//! What a ledger remembers, across crashes and against damage.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

mod hearsay;
mod limits;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ledger");
    (dir, path)
}

fn open(path: &Path) -> Ledger {
    Ledger::open(path).expect("a sound ledger")
}

fn tx(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn intent(n: u8) -> IntentId {
    IntentId::try_from(hex::encode([n; 32])).expect("32 bytes")
}

fn slots(names: &[&str]) -> BTreeSet<Slot> {
    names.iter().map(|name| format!("bitcoin:regtest/{name}:0").parse().expect("a slot")).collect()
}

fn uses(names: &[&str]) -> Uses {
    Uses { slots: slots(names), draws: Vec::new() }
}

/// Burns for the intent of the same number.
fn burn(ledger: &mut Ledger, n: u8, bytes: u8, names: &[&str]) -> Result<(), LedgerError> {
    ledger.burn(tx(n), intent(n), [bytes; 32], &uses(names), 0)?.settle()
}

#[test]
fn a_slot_serves_one_intent() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["a", "b"]).expect("free slots");
    let check = |ledger: &mut Ledger| {
        let taken = burn(ledger, 2, 2, &["c", "b"]).expect_err("b is taken");
        assert!(matches!(taken, LedgerError::SlotTaken { slot, tx } if slot.what() == "b:0" && tx == self::tx(1)));
    };
    check(&mut ledger);
    drop(ledger);
    let mut ledger = open(&path);
    check(&mut ledger);
    burn(&mut ledger, 2, 2, &["c"]).expect("a refusal burns nothing");
    assert!(matches!(burn(&mut ledger, 3, 3, &[]), Err(LedgerError::NoSlot { .. })));
}

#[test]
fn the_same_bytes_may_be_signed_again() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["a"]).expect("a free slot");
    let written = fs::read(&path).expect("the file");
    burn(&mut ledger, 1, 1, &["a"]).expect("the same bytes");
    drop(ledger);
    burn(&mut open(&path), 1, 1, &["a"]).expect("the same bytes after a crash");
    assert_eq!(fs::read(&path).expect("the file"), written, "there is nothing to add");
    assert!(matches!(burn(&mut open(&path), 1, 1, &["a", "b"]), Err(LedgerError::SlotsChanged { .. })));
}

#[test]
fn a_replacement_excludes_every_earlier_attempt() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["anchor", "a"]).expect("the first attempt");
    burn(&mut ledger, 1, 2, &["anchor", "b"]).expect("it shares the anchor");
    // It shares with the second attempt, but could be mined beside the first.
    let error = burn(&mut ledger, 1, 3, &["b", "c"]).expect_err("it doesn't exclude the first");
    assert!(matches!(error, LedgerError::NoConflict { earlier, .. } if earlier == [1; 32]));
    drop(ledger);
    let mut ledger = open(&path);
    assert!(matches!(burn(&mut ledger, 1, 3, &["b", "c"]), Err(LedgerError::NoConflict { .. })));
    burn(&mut ledger, 1, 3, &["a", "b"]).expect("one of each");
    // What a replacement took in is taken as well.
    assert!(matches!(burn(&mut ledger, 2, 9, &["b"]), Err(LedgerError::SlotTaken { .. })));
}

#[test]
fn an_intent_has_one_name() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["a"]).expect("a free slot");
    // The client's one request under a second name, with slots of its own: it would pay twice.
    let again = ledger.burn(tx(2), intent(1), [2; 32], &uses(&["b"]), 0);
    assert!(matches!(again, Err(LedgerError::IntentTaken { tx }) if tx == self::tx(1)));
    // Another request under the first one's name.
    let other = ledger.burn(tx(1), intent(2), [2; 32], &uses(&["a"]), 0);
    assert!(matches!(other, Err(LedgerError::OtherIntent { .. })));
}

#[test]
fn one_process_at_a_time() {
    let (_dir, path) = place();
    let ledger = open(&path);
    assert!(matches!(Ledger::open(&path), Err(LedgerError::InUse { .. })));
    drop(ledger);
    open(&path);
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
}

/// A ledger of three entries, as bytes.
fn three() -> Vec<u8> {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    for (n, slot) in [(1, "a"), (2, "b"), (3, "c")] {
        burn(&mut ledger, n, n, &[slot]).expect("a free slot");
    }
    drop(ledger);
    fs::read(&path).expect("the file")
}

fn reopened(bytes: &[u8]) -> Result<(Ledger, Vec<u8>), LedgerError> {
    let (_dir, path) = place();
    fs::write(&path, bytes).expect("a new file");
    let ledger = Ledger::open(&path)?;
    let after = fs::read(&path).expect("the file");
    Ok((ledger, after))
}

/// Where the last line begins.
fn last_line(bytes: &[u8]) -> usize {
    bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("three lines") + 1
}

#[test]
fn a_torn_last_line_is_cut_off() {
    let bytes = three();
    let last = last_line(&bytes);
    for end in last..bytes.len() - 1 {
        for zeros in [0, 1, 4096] {
            let torn = [&bytes[..end], &vec![0; zeros]].concat();
            let (mut ledger, after) = reopened(&torn).unwrap_or_else(|e| panic!("{end}+{zeros}: {e}"));
            assert_eq!(after, bytes[..last], "{end}+{zeros}");
            // The ledger goes on where it stopped, and forgot nothing before.
            assert!(matches!(burn(&mut ledger, 9, 9, &["b"]), Err(LedgerError::SlotTaken { .. })));
            burn(&mut ledger, 3, 3, &["c"]).expect("it was never burned");
        }
    }
    // All but the end of the line: that entry counts.
    for torn in [bytes[..bytes.len() - 1].to_vec(), [&bytes[..bytes.len() - 1], &[0; 7]].concat()] {
        let (mut ledger, after) = reopened(&torn).expect("a sound ledger");
        assert_eq!(after, bytes);
        assert!(matches!(burn(&mut ledger, 9, 9, &["c"]), Err(LedgerError::SlotTaken { .. })));
    }
}

#[test]
fn what_follows_a_cut_can_be_read_again() {
    let bytes = three();
    let (_dir, path) = place();
    fs::write(&path, &bytes[..bytes.len() - 20]).expect("a new file");
    let mut ledger = open(&path);
    burn(&mut ledger, 4, 4, &["d"]).expect("a free slot");
    drop(ledger);
    let mut ledger = open(&path);
    assert!(matches!(burn(&mut ledger, 9, 9, &["d"]), Err(LedgerError::SlotTaken { .. })));
    burn(&mut ledger, 3, 3, &["c"]).expect("it was cut off");
}

#[test]
fn lines_can_neither_leave_nor_move() {
    let bytes = three();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let orders: [&[usize]; 6] = [&[1, 2], &[0, 2], &[1, 0, 2], &[0, 0, 1, 2], &[0, 1, 2, 2], &[2]];
    for order in orders {
        let moved: Vec<u8> = order.iter().flat_map(|at| lines[*at]).copied().collect();
        assert!(matches!(reopened(&moved), Err(LedgerError::Damaged { .. })), "{order:?}");
    }
    let gap = [lines[0], b"\n", lines[1]].concat();
    assert!(matches!(reopened(&gap), Err(LedgerError::Damaged { line: 2, .. })));
}

/// Right checks don't make a wrong history right.
#[test]
fn a_history_that_contradicts_itself_is_refused() {
    let mut head = genesis();
    let mut bytes = Vec::new();
    for n in [1, 2] {
        let entry = Entry {
            tx: tx(n),
            intent: intent(n),
            unsigned: [n; 32],
            slots: slots(&["a"]),
            fence: 0,
            at: 0,
            draws: Vec::new(),
            learnt: None,
        };
        let entry = serde_json::value::to_raw_value(&entry).expect("JSON");
        head = link(head, &entry);
        bytes.extend(serde_json::to_vec(&Line { check: head, entry: &entry }).expect("JSON"));
        bytes.push(b'\n');
    }
    assert!(matches!(reopened(&bytes), Err(LedgerError::Damaged { line: 2, .. })));
}

#[test]
fn after_a_failed_write_nothing_is_burned() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["a"]).expect("a free slot");
    // A handle that can't write stands for a full or dying disk.
    ledger.file = File::open(&path).expect("the file");
    assert!(matches!(burn(&mut ledger, 2, 2, &["b"]), Err(LedgerError::Io { .. })));
    ledger.file = OpenOptions::new().append(true).open(&path).expect("the file");
    assert!(matches!(burn(&mut ledger, 2, 2, &["b"]), Err(LedgerError::Broken { .. })));
    drop(ledger);
    burn(&mut open(&path), 2, 2, &["b"]).expect("it was never burned");
}

#[test]
fn a_disk_that_fails_late_settles_nothing_any_more() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    burn(&mut ledger, 1, 1, &["a"]).expect("a free slot");
    // What can't be synced (a pipe) stands for a disk that takes bytes and loses them.
    let (_reader, pipe) = std::io::pipe().expect("a pipe");
    ledger.flush = Arc::new(Flush::new(&path, File::from(std::os::fd::OwnedFd::from(pipe)), 1));
    let earlier = ledger.burn(tx(2), intent(2), [2; 32], &uses(&["b"]), 0).expect("it is written");
    assert!(matches!(burn(&mut ledger, 3, 3, &["c"]), Err(LedgerError::Io { .. })));
    assert!(matches!(earlier.settle(), Err(LedgerError::Broken { .. })), "whoever waits hears of it");
    assert_eq!(ledger.entries(), 1, "only what is on the disk is told");
    assert!(matches!(burn(&mut ledger, 1, 1, &["a"]), Err(LedgerError::Broken { .. })));
}

#[test]
fn many_at_once_are_all_on_the_disk_when_they_are_told_so() {
    let (_dir, path) = place();
    let ledger = std::sync::Mutex::new(open(&path));
    std::thread::scope(|scope| {
        for n in 0..40_u8 {
            let ledger = &ledger;
            scope.spawn(move || {
                let slot = n.to_string();
                let written = ledger.lock().unwrap().burn(tx(n), intent(n), [n; 32], &uses(&[&slot]), 0).unwrap();
                written.settle().unwrap();
                // The same bytes again wait for the same line.
                let again = ledger.lock().unwrap().burn(tx(n), intent(n), [n; 32], &uses(&[&slot]), 0).unwrap();
                again.settle().unwrap();
                assert!(ledger.lock().unwrap().entries() >= written.entries());
            });
        }
    });
    drop(ledger);
    assert_eq!(open(&path).entries(), 40);
}

#[test]
fn a_fence_only_rises() {
    let (_dir, path) = place();
    let fenced = |ledger: &mut Ledger, n: u8, bytes: u8, fence: u64| {
        ledger.burn(tx(n), intent(n), [bytes; 32], &uses(&[&n.to_string()]), fence)?.settle()
    };
    let mut ledger = open(&path);
    fenced(&mut ledger, 1, 1, 5).expect("the first lease");
    assert!(matches!(fenced(&mut ledger, 1, 9, 4), Err(LedgerError::StaleFence { given: 4, seen: 5 })));
    assert!(matches!(fenced(&mut ledger, 1, 1, 4), Err(LedgerError::StaleFence { .. })), "not even the same bytes");
    // Several gateways work side by side, each on payments of its own: their fences say nothing of each other.
    fenced(&mut ledger, 2, 2, 1).expect("another payment's first lease");
    for wild in [6 + MAX_FENCE_STEP, u64::MAX] {
        assert!(matches!(fenced(&mut ledger, 1, 1, wild), Err(LedgerError::WildFence { .. })), "{wild}");
        assert!(matches!(fenced(&mut ledger, 3, 3, wild), Err(LedgerError::WildFence { .. })), "{wild}");
    }
    // A takeover is remembered, even where it has nothing to sign but what was signed before.
    fenced(&mut ledger, 1, 1, 6).expect("the next lease");
    drop(ledger);
    let mut ledger = open(&path);
    assert!(matches!(fenced(&mut ledger, 1, 9, 5), Err(LedgerError::StaleFence { given: 5, seen: 6 })));
    fenced(&mut ledger, 1, 9, 6).expect("a further attempt");
    fenced(&mut ledger, 2, 2, 2).expect("the other payment's next lease");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One flipped bit is found, or it says the same (a hexadecimal digit's case); no slot is ever forgotten.
    #[test]
    fn a_flipped_bit_forgets_nothing(at: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = three();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        match reopened(&bytes) {
            Err(LedgerError::Damaged { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
            Ok((mut ledger, _)) => {
                prop_assert!(bytes[at].is_ascii_hexdigit(), "byte {}", at);
                for slot in ["a", "b", "c"] {
                    let taken = matches!(burn(&mut ledger, 9, 9, &[slot]), Err(LedgerError::SlotTaken { .. }));
                    prop_assert!(taken, "byte {}: slot {} is forgotten", at, slot);
                }
            }
        }
    }

    /// However attempts come, the attempts that were agreed to exclude each other in pairs, no slot has two owners, and
    /// a crash between any two changes no answer.
    #[test]
    fn attempts_exclude_each_other(
        attempts in prop::collection::vec((0_u8..3, 0_u8..6, prop::collection::btree_set(0_u8..6, 1..4)), 1..20),
        crash: u32,
    ) {
        let (_dir, path) = place();
        let mut ledger = open(&path);
        let mut agreed: Vec<(u8, u8, BTreeSet<Slot>)> = Vec::new();
        for (step, (n, bytes, slots)) in attempts.into_iter().enumerate() {
            let names: Vec<String> = slots.iter().map(u8::to_string).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if crash >> (step % 32) & 1 == 1 {
                drop(ledger);
                ledger = open(&path);
            }
            if burn(&mut ledger, n, bytes, &names).is_ok() {
                agreed.push((n, bytes, self::slots(&names)));
            }
        }
        for (i, (n, bytes, slots)) in agreed.iter().enumerate() {
            for (m, other_bytes, other_slots) in &agreed[i + 1..] {
                if n != m {
                    prop_assert!(slots.is_disjoint(other_slots));
                } else if bytes == other_bytes {
                    prop_assert_eq!(slots, other_slots);
                } else {
                    prop_assert!(!slots.is_disjoint(other_slots));
                }
            }
        }
    }
}
