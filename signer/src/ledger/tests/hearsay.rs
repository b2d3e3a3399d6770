//! What other signers tell adds to what is refused, and never takes anything away from it.

use super::limits::{Hand, NOON, above, draw, open_at, pay};
use super::*;

const HOUR: u64 = 3_600_000;

fn name(name: &str) -> SignerId {
    name.parse().expect("a name")
}

/// Payment n's one attempt, and what it drew on `l/24h`: when and how much.
fn told(n: u8, bytes: u8, names: &[&str], draws: &[(u64, u64)]) -> Told {
    let draws = draws.iter().map(|(at, amount)| Drawn::at(draw("l/24h", *amount, 0), *at)).collect();
    Told { tx: tx(n), intent: intent(n), attempts: vec![([bytes; 32], slots(names))], draws }
}

/// What is forgotten is known again, from whoever remembers it, and after a restart.
#[test]
fn a_ledger_that_went_back_in_time_is_made_whole() {
    let ((_one, path), (_two, other_path)) = (place(), place());
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    let mut other = open_at(&other_path, &clock);
    pay(&mut ledger, 1, 1, &[draw("l/24h", 10, 100)]).expect("a free slot");
    drop(ledger);
    let snapshot = fs::read(&path).expect("the file");
    let mut ledger = open_at(&path, &clock);
    for ledger in [&mut ledger, &mut other] {
        pay(ledger, 2, 2, &[draw("l/24h", 20, 100)]).expect("a free slot");
        burn(ledger, 3, 3, &["anchor", "a"]).expect("free slots");
        burn(ledger, 3, 4, &["anchor", "b"]).expect("it excludes the first attempt");
    }
    drop(ledger);
    fs::write(&path, snapshot).expect("the file");

    let mut ledger = open_at(&path, &clock);
    ledger.learn(&name("b"), other.tell()).expect("it is written down");
    let written = fs::read(&path).expect("the file");
    // Another one tells the same, and what it was told by the first.
    other.learn(&name("c"), other.tell()).expect("nothing that it doesn't know");
    ledger.learn(&name("c"), other.tell()).expect("nothing that it doesn't know");
    assert_eq!(fs::read(&path).expect("the file"), written, "it is counted once");
    assert_eq!(String::from_utf8(written).expect("JSON").matches(r#""learnt":"b""#).count(), 3);
    for _ in 0..2 {
        // The slot, the intent under another name, an attempt beside an earlier one, and the budget.
        assert!(matches!(burn(&mut ledger, 9, 9, &["b"]), Err(LedgerError::SlotTaken { tx, .. }) if tx == self::tx(3)));
        let renamed = ledger.burn(tx(9), intent(3), [3; 32], &uses(&["c"]), 0);
        assert!(matches!(renamed, Err(LedgerError::IntentTaken { tx }) if tx == self::tx(3)));
        let other = ledger.burn(tx(3), intent(9), [3; 32], &uses(&["anchor"]), 0);
        assert!(matches!(other, Err(LedgerError::OtherIntent { .. })));
        assert!(
            matches!(burn(&mut ledger, 3, 5, &["b"]), Err(LedgerError::NoConflict { earlier, .. }) if earlier == [3; 32])
        );
        assert!(matches!(burn(&mut ledger, 3, 4, &["anchor", "c"]), Err(LedgerError::SlotsChanged { .. })));
        assert_eq!(above(pay(&mut ledger, 9, 9, &[draw("l/24h", 71, 100)])), (30, 71));
        drop(ledger);
        ledger = open_at(&path, &clock);
    }
    // What is as it should be goes on: the same bytes, and a replacement of all attempts.
    burn(&mut ledger, 3, 4, &["anchor", "b"]).expect("the forgotten attempt itself");
    burn(&mut ledger, 3, 6, &["a", "b"]).expect("it excludes both");
    pay(&mut ledger, 9, 9, &[draw("l/24h", 70, 100)]).expect("30 and 70");
    drop(ledger);
    open(&path);
}

#[test]
fn a_claim_blocks_but_stands_for_nothing() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    pay(&mut ledger, 1, 1, &[]).expect("a free slot");
    let colluder = name("mallory");
    // It claims what this signer signed for, and slots that nobody used.
    ledger.learn(&colluder, vec![told(8, 8, &["1", "free"], &[])]).expect("a claim");
    pay(&mut ledger, 1, 1, &[]).expect("what was signed may be signed again");
    assert!(matches!(burn(&mut ledger, 2, 2, &["free"]), Err(LedgerError::SlotTaken { .. })), "denial of service");
    assert!(matches!(burn(&mut ledger, 8, 8, &["1"]), Err(LedgerError::SlotTaken { .. })), "the slot isn't its own");

    // It claims an attempt that doesn't exclude the one that an honest signer tells of: both count.
    for (n, order) in [(3, [0, 1]), (4, [1, 0])] {
        let (a, b) = (n.to_string(), format!("{n}-again"));
        let tellings = [(name("b"), told(n, n, &[&a], &[])), (colluder.clone(), told(n, n + 100, &[&b], &[]))];
        for which in order {
            let (from, telling) = tellings[which].clone();
            ledger.learn(&from, vec![telling]).expect("a claim");
        }
        for (bytes, slot) in [(n, &a), (n + 100, &b), (n + 50, &a)] {
            let refused = burn(&mut ledger, n, bytes, &[slot]);
            assert!(matches!(refused, Err(LedgerError::NoConflict { .. })), "{n} {bytes}");
        }
    }
    // Another intent, another owner and other slots for the same bytes: whatever differs is refused.
    let mut other_intent = told(5, 5, &["5"], &[]);
    other_intent.intent = intent(55);
    ledger.learn(&colluder, vec![other_intent]).expect("a claim");
    assert!(matches!(pay(&mut ledger, 5, 5, &[]), Err(LedgerError::OtherIntent { .. })));
    let mut other_owner = told(6, 6, &["6"], &[]);
    other_owner.tx = tx(66);
    ledger.learn(&colluder, vec![other_owner]).expect("a claim");
    assert!(matches!(pay(&mut ledger, 6, 6, &[]), Err(LedgerError::IntentTaken { .. })));
    ledger.learn(&colluder, vec![told(7, 7, &["7", "8"], &[])]).expect("a claim");
    assert!(matches!(pay(&mut ledger, 7, 7, &[]), Err(LedgerError::SlotsChanged { .. })));
}

#[test]
fn a_claim_frees_no_budget() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    let all = |amount| [draw("l/24h", amount, 100)];
    let colluder = name("mallory");
    pay(&mut ledger, 1, 1, &all(40)).expect("40 of 100");
    // Claims of payments to come, with no draws and with old ones, and of time to come.
    let long_ago = NOON - 23 * HOUR;
    let claims = vec![
        told(2, 2, &["2"], &[]),
        told(3, 3, &["3"], &[(long_ago, 30)]),
        told(4, 4, &["4"], &[(u64::MAX, 1)]),
        told(5, 5, &["5"], &[(0, 1_000)]),
    ];
    ledger.learn(&colluder, claims).expect("claims");
    assert_eq!(above(pay(&mut ledger, 9, 9, &all(30))), (71, 30), "40 of its own, 30 and 1 claimed");
    // The claimed payments draw in full all the same.
    assert_eq!(above(pay(&mut ledger, 2, 2, &all(30))), (71, 30));
    assert_eq!(above(pay(&mut ledger, 3, 3, &all(30))), (71, 30));
    pay(&mut ledger, 2, 2, &all(29)).expect("71 and 29");
    // A claim that is older than what an honest signer tells, before it and after it.
    for (n, order) in [(6, [0, 1]), (7, [1, 0])] {
        clock.set(clock.unix_millis() + 40 * HOUR);
        let now = clock.unix_millis();
        let claims = [(name("b"), (now, 50)), (colluder.clone(), (now - 24 * HOUR, 50))];
        for which in order {
            let (from, claim) = &claims[which];
            ledger.learn(from, vec![told(n, n, &[&n.to_string()], &[*claim])]).expect("a claim");
        }
        clock.set(now + 10 * HOUR);
        drop(ledger);
        ledger = open_at(&path, &clock);
        assert_eq!(above(pay(&mut ledger, 9, 9, &all(51))), (50, 51));
    }
}

#[test]
fn what_is_told_without_a_slot_is_taken_in_by_no_part() {
    let (_dir, path) = place();
    let mut ledger = open(&path);
    let mut nothing = told(2, 2, &["2"], &[]);
    nothing.attempts.clear();
    for bad in [told(2, 2, &[], &[]), nothing] {
        let told = vec![told(1, 1, &["1"], &[]), bad];
        assert!(matches!(ledger.learn(&name("b"), told), Err(LedgerError::NoSlot { .. })));
        assert_eq!(ledger.entries(), 0);
    }
    ledger.learn(&name("b"), Vec::new()).expect("nothing to learn");
    burn(&mut ledger, 1, 1, &["1"]).expect("nothing was taken in");
    // A disk that fails leaves the signer out until it is started again.
    ledger.file = File::open(&path).expect("the file");
    let fails = ledger.learn(&name("b"), vec![told(2, 2, &["2"], &[])]);
    assert!(matches!(fails, Err(LedgerError::Io { .. })));
    assert!(matches!(burn(&mut ledger, 3, 3, &["3"]), Err(LedgerError::Broken { .. })));
}

/// What happens to a ledger.
#[derive(Clone, Debug)]
enum Act {
    Burn { n: u8, bytes: u8, slots: BTreeSet<u8>, amount: u64 },
    Learn { from: bool, tx: u8, intent: u8, bytes: u8, slots: BTreeSet<u8>, draws: Vec<(u64, u64)> },
    Wait(u64),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let slots = || prop::collection::btree_set(0_u8..6, 1..4);
    let burn = (0_u8..4, 0_u8..5, slots(), 0_u64..60);
    let burn = burn.prop_map(|(n, bytes, slots, amount)| Act::Burn { n, bytes, slots, amount });
    let draws = prop::collection::vec((NOON - 40 * HOUR..NOON + 80 * HOUR, 0_u64..60), 0..3);
    let learn = (any::<bool>(), 0_u8..4, 0_u8..4, 0_u8..5, slots(), draws);
    let learn =
        learn.prop_map(|(from, tx, intent, bytes, slots, draws)| Act::Learn { from, tx, intent, bytes, slots, draws });
    let act = prop_oneof![4 => burn, 3 => learn, 1 => (0..10 * HOUR).prop_map(Act::Wait), 1 => Just(Act::Restart)];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever is told, and by whom: what a signer agrees to after it was told, it would have agreed to without.
    #[test]
    fn being_told_makes_nobody_agree(acts in acts()) {
        let ((_one, path), (_two, plain_path)) = (place(), place());
        let clock = Hand::at(NOON);
        let (mut ledger, mut plain) = (open_at(&path, &clock), open_at(&plain_path, &clock));
        for act in acts {
            match act {
                Act::Burn { n, bytes, slots, amount } => {
                    let names: Vec<String> = slots.iter().map(u8::to_string).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let uses = Uses { slots: self::slots(&names), draws: vec![draw("l/24h", amount, 100)] };
                    if ledger.burn(tx(n), intent(n), [bytes; 32], &uses, 0).is_ok() {
                        let without = plain.burn(tx(n), intent(n), [bytes; 32], &uses, 0);
                        prop_assert!(without.is_ok(), "{:?}", without);
                    }
                }
                Act::Learn { from, tx, intent, bytes, slots, draws } => {
                    let names: Vec<String> = slots.iter().map(u8::to_string).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    let mut told = told(tx, bytes, &names, &draws);
                    told.intent = self::intent(intent);
                    ledger.learn(&name(if from { "b" } else { "c" }), vec![told]).expect("it has slots");
                }
                Act::Wait(millis) => clock.set(clock.unix_millis() + millis),
                Act::Restart => {
                    drop(ledger);
                    ledger = open_at(&path, &clock);
                }
            }
        }
    }
}
