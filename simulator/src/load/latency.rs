//! Percentiles of times, by HdrHistogram (<https://hdrhistogram.org>): three significant digits from a millisecond to a day.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest time that is told apart, in milliseconds: a day.
const LONGEST_MS: u64 = 86_400_000;

/// Times that were measured.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// What times come to, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many there are.
    pub count: u64,
    /// Half of them are at most so long.
    pub p50: u64,
    /// Nine in ten.
    pub p90: u64,
    /// 99 in 100.
    pub p99: u64,
    /// All.
    pub max: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(LONGEST_MS, 3);
        Self(histogram.expect("three digits and a maximum above 2 make a histogram"))
    }
}

impl Latencies {
    /// Counts a time, in milliseconds.
    pub fn record(&mut self, millis: u64) {
        self.0.saturating_record(millis);
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they come to; nothing where there are none.
    pub fn percentiles(&self) -> Option<Percentiles> {
        (!self.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            p50: self.0.value_at_quantile(0.5),
            p90: self.0.value_at_quantile(0.9),
            p99: self.0.value_at_quantile(0.99),
            max: self.0.max(),
        })
    }
}

impl FromIterator<u64> for Latencies {
    fn from_iter<I: IntoIterator<Item = u64>>(times: I) -> Self {
        let mut latencies = Self::default();
        times.into_iter().for_each(|millis| latencies.record(millis));
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times: Latencies = (1..=1_000).rev().collect();
        let Percentiles { count, p50, p90, p99, max } = times.percentiles().unwrap();
        assert_eq!((count, p50, p90, p99, max), (1_000, 500, 900, 990, 1_000));
        assert_eq!(Latencies::default().percentiles(), None);
    }

    #[test]
    fn a_time_beyond_the_longest_counts_as_the_longest() {
        let times: Latencies = [u64::MAX].into_iter().collect();
        let max = times.percentiles().unwrap().max;
        assert!(max.abs_diff(LONGEST_MS) < LONGEST_MS / 1_000, "{max}");
    }
}
