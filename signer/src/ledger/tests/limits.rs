//! The ledger counts what is drawn on limits: durably, at once with the slots, and never past a cap.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const HOUR: u64 = 3_600_000;
pub(super) const NOON: u64 = 20_000 * 24 * HOUR + 12 * HOUR;

/// A clock that a test sets.
#[derive(Debug)]
pub(super) struct Hand(AtomicU64);

impl Clock for Hand {
    fn unix_millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Hand {
    pub(super) fn at(millis: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(millis)))
    }

    pub(super) fn set(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

pub(super) fn open_at(path: &Path, clock: &Arc<Hand>) -> Ledger {
    open(path).with_clock(clock.clone())
}

pub(super) fn draw(counter: &str, amount: u64, cap: u64) -> Draw {
    let counter: CounterKey = counter.parse().expect("a counter");
    Draw {
        window: counter.window(),
        counter,
        amount: Amount::from_sat(amount),
        count: 1,
        max_amount: Some(Amount::from_sat(cap)),
        max_count: None,
    }
}

/// Burns the slot of the intent's number and what is drawn.
pub(super) fn pay(ledger: &mut Ledger, n: u8, bytes: u8, draws: &[Draw]) -> Result<(), LedgerError> {
    let uses = Uses { slots: slots(&[&n.to_string()]), draws: draws.to_vec() };
    ledger.burn(tx(n), intent(n), [bytes; 32], &uses, 0)?.settle()
}

pub(super) fn above(result: Result<(), LedgerError>) -> (u64, u64) {
    match result {
        Err(LedgerError::Limit(Denial::AboveVelocity { used, amount, .. })) => {
            (used.to_u64().expect("small"), amount.to_u64().expect("small"))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_restart_keeps_what_was_drawn_and_a_refusal_writes_nothing() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    pay(&mut ledger, 1, 1, &[draw("l/24h", 60, 100), draw("all/day", 60, 1000)]).expect("60 of 100");
    for _ in 0..2 {
        let before = fs::read(&path).expect("the file");
        assert_eq!(above(pay(&mut ledger, 2, 2, &[draw("all/day", 41, 1000), draw("l/24h", 41, 100)])), (60, 41));
        assert_eq!(fs::read(&path).expect("the file"), before, "neither slot nor draw");
        drop(ledger);
        ledger = open_at(&path, &clock);
    }
    pay(&mut ledger, 3, 3, &[draw("all/day", 940, 1000)]).expect("a refused payment drew on no limit");
    pay(&mut ledger, 2, 2, &[draw("l/24h", 40, 100)]).expect("its slot was not burned");
    assert_eq!(above(pay(&mut ledger, 4, 4, &[draw("l/24h", 1, 100)])), (100, 1));
}

#[test]
fn an_intent_draws_once() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    let all = |amount| [draw("l/24h", amount, 100)];
    pay(&mut ledger, 1, 1, &all(90)).expect("90 of 100");
    // The same bytes, at once, after a restart, and after midnight.
    let written = fs::read(&path).expect("the file");
    pay(&mut ledger, 1, 1, &all(90)).expect("the same bytes");
    drop(ledger);
    clock.set(NOON + 13 * HOUR);
    let mut ledger = open_at(&path, &clock);
    pay(&mut ledger, 1, 1, &all(90)).expect("the same bytes");
    assert_eq!(fs::read(&path).expect("the file"), written);
    // A replacement of the same amount, of less, and of more.
    pay(&mut ledger, 1, 2, &all(90)).expect("it is the same payment");
    pay(&mut ledger, 1, 3, &all(10)).expect("it is the same payment");
    assert_eq!(above(pay(&mut ledger, 1, 4, &all(101))), (90, 11));
    pay(&mut ledger, 1, 4, &all(95)).expect("5 more");
    drop(ledger);
    let mut ledger = open_at(&path, &clock);
    pay(&mut ledger, 1, 5, &all(95)).expect("drawn before the restart");
    assert_eq!(above(pay(&mut ledger, 2, 6, &all(6))), (95, 6));
    pay(&mut ledger, 2, 6, &all(5)).expect("95 and 5");
}

#[test]
fn a_later_attempt_is_no_further_payment() {
    let (_dir, path) = place();
    let mut ledger = open_at(&path, &Hand::at(NOON));
    let counted = |amount| Draw { max_amount: None, max_count: Some(1), ..draw("l/day", amount, 0) };
    pay(&mut ledger, 1, 1, &[counted(5)]).expect("the one payment");
    pay(&mut ledger, 1, 2, &[counted(9)]).expect("its replacement");
    assert!(matches!(
        pay(&mut ledger, 2, 3, &[counted(1)]),
        Err(LedgerError::Limit(Denial::AboveCount { used: 1, max_count: 1, .. }))
    ));
}

#[test]
fn a_window_ends_and_a_clock_that_goes_back_opens_none() {
    for (counter, held, ends) in [
        // Buckets of an hour; the draw is in the one that ends at 13:00.
        ("l/24h", NOON + 25 * HOUR - 1, NOON + 25 * HOUR),
        ("l/day", NOON + 12 * HOUR - 1, NOON + 12 * HOUR),
    ] {
        let (_dir, path) = place();
        let clock = Hand::at(NOON);
        let mut ledger = open_at(&path, &clock);
        pay(&mut ledger, 1, 1, &[draw(counter, 100, 100)]).expect("all of it");
        clock.set(held);
        above(pay(&mut ledger, 2, 2, &[draw(counter, 1, 100)]));
        clock.set(ends);
        pay(&mut ledger, 2, 2, &[draw(counter, 100, 100)]).expect("the next window");
        // Back to where the counter was empty, or held another window: within one process and across a restart.
        for back in [held, NOON, NOON - 40 * 24 * HOUR, 0] {
            clock.set(back);
            above(pay(&mut ledger, 3, 3, &[draw(counter, 1, 100)]));
            drop(ledger);
            ledger = open_at(&path, &clock);
            above(pay(&mut ledger, 3, 3, &[draw(counter, 1, 100)]));
        }
    }
}

#[test]
fn a_hundred_at_once_never_pass_the_cap() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let ledger = Mutex::new(open_at(&path, &clock));
    let cap = 1_000;
    let paid = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..100_u8 {
            let (ledger, paid) = (&ledger, &paid);
            scope.spawn(move || {
                // Together about four times the cap, so that some fit into what others leave.
                let amount = 7 + u64::from(n) * 37 % 71;
                let result = pay(&mut ledger.lock().expect("no panic"), n, n, &[draw("l/24h", amount, cap)]);
                match result {
                    Ok(()) => _ = paid.fetch_add(amount, Ordering::SeqCst),
                    Err(LedgerError::Limit(Denial::AboveVelocity { used, .. })) => {
                        assert!(used.to_u64().expect("small") + amount > cap);
                    }
                    Err(error) => panic!("{error}"),
                }
            });
        }
    });
    let paid = paid.into_inner();
    assert!(paid <= cap && paid > cap - 78, "{paid}");
    // To one base unit: what is left fits, and one more doesn't.
    drop(ledger);
    let mut ledger = open_at(&path, &clock);
    assert_eq!(above(pay(&mut ledger, 200, 200, &[draw("l/24h", cap - paid + 1, cap)])), (paid, cap - paid + 1));
    pay(&mut ledger, 200, 200, &[draw("l/24h", cap - paid, cap)]).expect("what is left");
    assert_eq!(above(pay(&mut ledger, 201, 201, &[draw("l/24h", 1, cap)])), (cap, 1));
}

/// A line of a signer that knew no limits: neither time nor draws.
#[test]
fn a_ledger_without_draws_still_opens() {
    let entry = format!(
        r#"{{"tx":"{}","intent":"{}","unsigned":"{}","slots":["bitcoin:regtest/1:0"],"fence":0}}"#,
        tx(1),
        intent(1),
        hex::encode([1; 32])
    );
    let entry = RawValue::from_string(entry).expect("JSON");
    let mut line = serde_json::to_vec(&Line { check: link(genesis(), &entry), entry: &entry }).expect("JSON");
    line.push(b'\n');
    let (_dir, path) = place();
    fs::write(&path, &line).expect("a new file");
    let mut ledger = open_at(&path, &Hand::at(NOON));
    assert!(matches!(burn(&mut ledger, 2, 2, &["1"]), Err(LedgerError::SlotTaken { .. })));
    pay(&mut ledger, 3, 3, &[draw("l/day", 10, 10)]).expect("nothing was drawn before");
}

#[test]
fn a_counter_that_is_none_is_damage() {
    let (_dir, path) = place();
    let mut entry = serde_json::to_value(Entry {
        tx: tx(1),
        intent: intent(1),
        unsigned: [1; 32],
        slots: slots(&["a"]),
        fence: 0,
        at: NOON,
        draws: vec![Drawn::at(draw("l/day", 1, 1), NOON)],
        learnt: None,
    })
    .expect("JSON");
    for (counter, sound) in [("l/day", true), ("l", false), ("l/7d", false)] {
        entry["draws"][0]["counter"] = counter.into();
        let raw = serde_json::value::to_raw_value(&entry).expect("JSON");
        let mut line = serde_json::to_vec(&Line { check: link(genesis(), &raw), entry: &raw }).expect("JSON");
        line.push(b'\n');
        fs::write(&path, &line).expect("a file");
        let opened = Ledger::open(&path);
        assert_eq!(opened.is_ok(), sound, "{counter}: {opened:?}");
    }
}

/// A cut anywhere in a line leaves both the slot and the draw, or neither.
#[test]
fn slots_and_draws_are_one_step() {
    let (_dir, path) = place();
    let clock = Hand::at(NOON);
    let mut ledger = open_at(&path, &clock);
    pay(&mut ledger, 1, 1, &[draw("l/24h", 60, 100)]).expect("60 of 100");
    let first = fs::read(&path).expect("the file").len();
    pay(&mut ledger, 2, 2, &[draw("l/24h", 40, 100)]).expect("all of it");
    drop(ledger);
    let bytes = fs::read(&path).expect("the file");
    for end in first..=bytes.len() {
        fs::write(&path, &bytes[..end]).expect("a file");
        let mut ledger = open_at(&path, &clock);
        let slot_taken = matches!(burn(&mut ledger, 9, 9, &["2"]), Err(LedgerError::SlotTaken { .. }));
        let drawn = pay(&mut ledger, 8, 8, &[draw("l/24h", 1, 100)]).is_err();
        assert_eq!(slot_taken, drawn, "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Against a naive reference that sums over all that was ever agreed to: payments, replacements, restarts and a clock
    /// that jumps both ways.
    #[test]
    fn the_ledger_agrees_with_a_naive_reference(
        steps in prop::collection::vec((0_u8..12, 0_u8..3, 0_u64..60, 0_u64..30 * HOUR, 0_u8..8), 1..40),
    ) {
        let cap = 100;
        let (_dir, path) = place();
        let clock = Hand::at(NOON);
        let mut ledger = open_at(&path, &clock);
        // What each intent has drawn in all, and every draw with its day.
        let mut drawn: std::collections::BTreeMap<u8, u64> = std::collections::BTreeMap::new();
        let mut agreed: Vec<(u64, u64)> = Vec::new();
        // The latest time that was written down.
        let mut seen = 0;
        for (n, bytes, amount, step, what) in steps {
            match what {
                0 => {
                    drop(ledger);
                    ledger = open_at(&path, &clock);
                }
                1 => clock.set(clock.unix_millis() - step),
                2 | 3 => clock.set(clock.unix_millis() + step),
                _ => (),
            }
            // The same bytes are the same payment with the same amount.
            let amount = if bytes == 0 { 20 } else { amount };
            let day = seen.max(clock.unix_millis()) / (24 * HOUR);
            let before = drawn.get(&n).copied();
            let more = amount.saturating_sub(before.unwrap_or(0));
            let used: u64 = agreed.iter().filter(|(at, _)| *at == day).map(|(_, amount)| amount).sum();
            let length = fs::metadata(&path).expect("the file").len();
            // A payment's bytes are its own, and so is its amount.
            let code = if bytes == 0 { 0 } else { u8::try_from(amount).expect("below 60") + 1 };
            let result = pay(&mut ledger, n, code, &[draw("l/day", amount, cap)]);
            let nothing_to_draw = before.is_some() && more == 0;
            prop_assert_eq!(result.is_ok(), nothing_to_draw || used + more <= cap, "{} of {}", more, used);
            if result.is_ok() {
                agreed.push((day, more));
                *drawn.entry(n).or_default() += more;
                if fs::metadata(&path).expect("the file").len() > length {
                    seen = seen.max(clock.unix_millis());
                }
            }
        }
    }
}
