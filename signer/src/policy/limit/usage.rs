//! What has been drawn, in memory.

use std::collections::BTreeMap;

use chains::amount::Amount;

use super::{BucketId, CounterKey, Draw};
use crate::policy::Denial;

/// How often all counters are looked through for buckets that count no more.
const SWEEP_MS: u64 = 3_600_000;

/// Counters with their buckets. Buckets that no window can count any more are dropped.
///
/// Its time never goes back: where a clock says less than has been seen, what has been seen counts, so that nobody frees
/// a budget by turning a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    counters: BTreeMap<CounterKey, BTreeMap<BucketId, Used>>,
    /// The latest time of a record, in milliseconds since 1970.
    seen: u64,
}

/// What a bucket or a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// The amounts together, in base units; 2^256 - 1 stands for that much and more.
    pub amount: Amount,
    /// The payments.
    pub count: u64,
}

impl Usage {
    /// What a counter's window holds at a time, in milliseconds since 1970.
    pub fn used(&self, counter: &CounterKey, at_unix_millis: u64) -> Used {
        let counted = counter.window().buckets_counted(self.time(at_unix_millis));
        let buckets = self.counters.get(counter).map(|buckets| buckets.range(counted));
        buckets.into_iter().flatten().fold(Used::default(), |sum, (_, used)| sum.plus(*used))
    }

    /// Whether all of the draws of one transaction fit under their caps at a time, in milliseconds since 1970. It records
    /// nothing.
    ///
    /// # Errors
    /// [`Denial::AboveVelocity`] or [`Denial::AboveCount`] for the first that doesn't.
    pub fn check(&self, draws: &[Draw], at_unix_millis: u64) -> Result<(), Denial> {
        let mut with_earlier: BTreeMap<&CounterKey, Used> = BTreeMap::new();
        for draw in draws {
            let before = || self.used(&draw.counter, at_unix_millis);
            let used = with_earlier.entry(&draw.counter).or_insert_with(before);
            draw.check(*used)?;
            *used = used.plus(draw.used());
        }
        Ok(())
    }

    /// Counts the draws of one transaction at a time, in milliseconds since 1970, whatever the caps are.
    pub fn record(&mut self, draws: &[Draw], at_unix_millis: u64) {
        let at = self.time(at_unix_millis);
        for draw in draws {
            self.add(&draw.counter, draw.counter.window().bucket(at), draw.used());
        }
        self.advance(at);
    }

    /// The time that counts where a clock shows `at_unix_millis`: never less than any that was recorded.
    pub fn time(&self, at_unix_millis: u64) -> u64 {
        self.seen.max(at_unix_millis)
    }

    /// Adds what was drawn in a bucket.
    pub(crate) fn add(&mut self, counter: &CounterKey, bucket: BucketId, drawn: Used) {
        let used = self.counters.entry(counter.clone()).or_default().entry(bucket).or_default();
        *used = used.plus(drawn);
    }

    /// Goes on to a time, in milliseconds since 1970. Once an hour it drops every bucket that no window can count.
    pub(crate) fn advance(&mut self, at_unix_millis: u64) {
        let before = self.seen;
        self.seen = self.time(at_unix_millis);
        if self.seen / SWEEP_MS == before / SWEEP_MS {
            return;
        }
        let seen = self.seen;
        self.counters.retain(|counter, buckets| {
            let counted = counter.window().buckets_counted(seen);
            buckets.retain(|bucket, _| bucket >= counted.start());
            !buckets.is_empty()
        });
    }
}

impl Draw {
    const fn used(&self) -> Used {
        Used { amount: self.amount, count: self.count }
    }

    /// Whether the draw fits on top of what the counter's window holds: for whoever keeps the counters elsewhere.
    ///
    /// # Errors
    /// [`Denial::AboveVelocity`] or [`Denial::AboveCount`].
    pub fn check(&self, used: Used) -> Result<(), Denial> {
        let limit = || self.counter.limit().to_owned();
        let total = used.amount.checked_add(self.amount);
        if let Some(max_amount) = self.max_amount
            && total.is_none_or(|total| total > max_amount)
        {
            let (used, amount) = (used.amount, self.amount);
            return Err(Denial::AboveVelocity { limit: limit(), used, amount, max_amount });
        }
        if let Some(max_count) = self.max_count
            && self.count > 0
            && used.count.checked_add(self.count).is_none_or(|total| total > max_count)
        {
            return Err(Denial::AboveCount { limit: limit(), used: used.count, max_count });
        }
        Ok(())
    }
}

impl Used {
    /// Both together.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            amount: self.amount.checked_add(other.amount).unwrap_or(Amount::MAX),
            count: self.count.saturating_add(other.count),
        }
    }
    /// The higher amount and the higher count.
    #[must_use]
    pub(crate) fn most(self, other: Self) -> Self {
        Self { amount: self.amount.max(other.amount), count: self.count.max(other.count) }
    }

    /// What there is more than in `other`.
    #[must_use]
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            amount: self.amount.checked_sub(other.amount).unwrap_or_default(),
            count: self.count.saturating_sub(other.count),
        }
    }
}
