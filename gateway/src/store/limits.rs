//! The arithmetic of limits, in 256 bits and checked. The databases only keep the numbers.

use chains::amount::Amount;

use super::rows::{amount, signed_int, unsigned_int};
use super::steps::Settlement;
use super::{Draw, StoreError, Usage};

/// A running counter: what is drawn from it in one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Reserved with a verdict; the end of the record isn't known.
    pub(super) pending: Usage,
    /// The money moved.
    pub(super) posted: Usage,
}

/// A counter's columns: amounts of 32 bytes big-endian, and counts.
pub(super) struct TallyRow {
    pub(super) pending: Vec<u8>,
    pub(super) pending_count: i64,
    pub(super) posted: Vec<u8>,
    pub(super) posted_count: i64,
}

impl Tally {
    pub(super) fn total(self) -> Result<Usage, StoreError> {
        add(self.pending, self.posted)
    }

    /// This counter with the draw in it.
    pub(super) fn reserve(self, drawn: Amount) -> Result<Self, StoreError> {
        Ok(Self { pending: add(self.pending, Usage { amount: drawn, count: 1 })?, ..self })
    }

    /// This counter with a reserved draw ended.
    pub(super) fn settle(self, drawn: Amount, how: Settlement) -> Result<Self, StoreError> {
        let one = Usage { amount: drawn, count: 1 };
        let pending = sub(self.pending, one)?;
        let posted = match how {
            Settlement::Post => add(self.posted, one)?,
            Settlement::GiveBack => self.posted,
        };
        Ok(Self { pending, posted })
    }

    pub(super) fn row(self) -> TallyRow {
        TallyRow {
            pending: self.pending.amount.to_be_bytes().to_vec(),
            pending_count: signed_int(self.pending.count),
            posted: self.posted.amount.to_be_bytes().to_vec(),
            posted_count: signed_int(self.posted.count),
        }
    }
}

impl TallyRow {
    pub(super) fn whole(&self) -> Result<Tally, StoreError> {
        Ok(Tally {
            pending: Usage { amount: amount(&self.pending)?, count: unsigned_int(self.pending_count)? },
            posted: Usage { amount: amount(&self.posted)?, count: unsigned_int(self.posted_count)? },
        })
    }
}

/// What is drawn in these buckets together.
pub(super) fn sum(rows: &[TallyRow]) -> Result<Usage, StoreError> {
    rows.iter().try_fold(Usage::default(), |sum, row| add(sum, row.whole()?.total()?))
}

/// Whether the draw fits beside what is `used` in its window (I5).
pub(super) fn admit(draw: &Draw, used: Usage) -> Result<(), StoreError> {
    // Where not even the sum fits into 256 bits, no limit admits it.
    let fits = add(used, Usage { amount: draw.amount, count: 1 }).is_ok_and(|after| {
        draw.max_amount.is_none_or(|most| after.amount <= most) && draw.max_count.is_none_or(|most| after.count <= most)
    });
    if fits {
        Ok(())
    } else {
        Err(StoreError::LimitExceeded { counter: draw.counter.clone(), amount: used.amount, count: used.count })
    }
}

/// The sum of two.
pub(super) fn add(one: Usage, other: Usage) -> Result<Usage, StoreError> {
    let amount = one.amount.checked_add(other.amount);
    let count = one.count.checked_add(other.count);
    match (amount, count) {
        (Some(amount), Some(count)) => Ok(Usage { amount, count }),
        _ => Err(StoreError::Corrupt("a limit's counter overflows".to_owned())),
    }
}

fn sub(one: Usage, other: Usage) -> Result<Usage, StoreError> {
    let amount = one.amount.checked_sub(other.amount);
    let count = one.count.checked_sub(other.count);
    match (amount, count) {
        (Some(amount), Some(count)) => Ok(Usage { amount, count }),
        _ => Err(StoreError::Corrupt("a limit's counter holds less than was reserved".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(amount: Amount, max_amount: Option<Amount>, max_count: Option<u64>) -> Draw {
        Draw { counter: "c".to_owned(), bucket: 0, since: 0, amount, max_amount, max_count }
    }

    #[test]
    fn a_limit_is_reached_and_never_passed() {
        let used = Usage { amount: Amount::from_sat(90), count: 2 };
        let cap = Some(Amount::from_sat(100));
        assert!(admit(&draw(Amount::from_sat(10), cap, Some(3)), used).is_ok());
        for refused in [
            draw(Amount::from_sat(11), cap, None),
            draw(Amount::from_sat(1), cap, Some(2)),
            draw(Amount::MAX, None, None),
            draw(Amount::MAX, Some(Amount::MAX), None),
        ] {
            assert!(matches!(admit(&refused, used), Err(StoreError::LimitExceeded { count: 2, .. })), "{refused:?}");
        }
        assert!(admit(&draw(Amount::MAX, Some(Amount::MAX), None), Usage::default()).is_ok());
    }

    #[test]
    fn settling_moves_what_was_reserved_once() {
        let ten = Amount::from_sat(10);
        let reserved = Tally::default().reserve(ten).unwrap();
        let posted = reserved.settle(ten, Settlement::Post).unwrap();
        assert_eq!(posted.total(), reserved.total());
        assert_eq!(posted.posted, Usage { amount: ten, count: 1 });
        assert_eq!(reserved.settle(ten, Settlement::GiveBack), Ok(Tally::default()));
        assert!(posted.settle(ten, Settlement::GiveBack).is_err());
    }
}
