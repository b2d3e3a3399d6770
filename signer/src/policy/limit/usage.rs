//! What has been drawn, in memory.

use std::collections::BTreeMap;

use chains::amount::Amount;

use super::{BucketId, CounterKey, Draw, Window};
use crate::policy::Denial;

/// Counters with their buckets. Buckets that no window can count any more are dropped.
///
/// Its time never goes back: where a clock says less than has been seen, what has been seen counts, so that nobody frees
/// a budget by turning a clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    counters: BTreeMap<CounterKey, Counter>,
    /// The latest time of a record, in milliseconds since 1970.
    seen: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counter {
    window: Window,
    buckets: BTreeMap<BucketId, Used>,
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
    pub fn used(&self, counter: &CounterKey, window: Window, at_unix_millis: u64) -> Used {
        let counted = window.buckets_counted(self.time(at_unix_millis));
        let buckets = self.counters.get(counter).map(|counter| counter.buckets.range(counted));
        buckets.into_iter().flatten().fold(Used::default(), |sum, (_, used)| sum.plus(used.amount, used.count))
    }

    /// Whether all of the draws of one transaction fit under their caps at a time, in milliseconds since 1970. It records
    /// nothing.
    ///
    /// # Errors
    /// [`Denial::AboveVelocity`] or [`Denial::AboveCount`] for the first that doesn't.
    pub fn check(&self, draws: &[Draw], at_unix_millis: u64) -> Result<(), Denial> {
        let mut earlier: BTreeMap<&CounterKey, Used> = BTreeMap::new();
        for draw in draws {
            let before = || self.used(&draw.counter, draw.window, at_unix_millis);
            let used = earlier.entry(&draw.counter).or_insert_with(before);
            draw.check(*used)?;
            *used = used.plus(draw.amount, draw.count);
        }
        Ok(())
    }

    /// Counts the draws of one transaction at a time, in milliseconds since 1970, whatever the caps are.
    pub fn record(&mut self, draws: &[Draw], at_unix_millis: u64) {
        let at = self.time(at_unix_millis);
        for Draw { counter, window, amount, count, .. } in draws {
            self.restore(counter, *window, window.bucket(at), Used { amount: *amount, count: *count }, at);
        }
        self.seen = at;
    }

    /// The time that counts where a clock shows `at_unix_millis`: never less than any that was recorded.
    pub fn time(&self, at_unix_millis: u64) -> u64 {
        self.seen.max(at_unix_millis)
    }

    /// Adds what was drawn in a bucket at the time `at`, and drops what no window can count then.
    pub(crate) fn restore(&mut self, counter: &CounterKey, window: Window, bucket: BucketId, drawn: Used, at: u64) {
        self.seen = self.time(at);
        let oldest = *window.buckets_counted(self.seen).start();
        let fresh = || Counter { window, buckets: BTreeMap::new() };
        let counter = self.counters.entry(counter.clone()).or_insert_with(fresh);
        let used = counter.buckets.entry(bucket).or_default();
        *used = used.plus(drawn.amount, drawn.count);
        counter.buckets.retain(|bucket, _| *bucket >= oldest);
    }

    /// Drops every bucket that no window can count, and every counter without buckets.
    pub(crate) fn prune(&mut self) {
        let seen = self.seen;
        self.counters.retain(|_, counter| {
            let oldest = *counter.window.buckets_counted(seen).start();
            counter.buckets.retain(|bucket, _| *bucket >= oldest);
            !counter.buckets.is_empty()
        });
    }
}

impl Draw {
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
    fn plus(self, amount: Amount, count: u64) -> Self {
        Self { amount: self.amount.checked_add(amount).unwrap_or(Amount::MAX), count: self.count.saturating_add(count) }
    }
}
