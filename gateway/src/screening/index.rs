//! Ten million holders in memory, found in less than a microsecond.
//!
//! Fingerprints are uniformly distributed, so a sorted array with a table of where each prefix begins finds one in two or three
//! cache misses, at 16 bytes a name.

use chains::address::Address;
use chains::holder::Holder;

/// Names a bucket has on average, at most.
const PER_BUCKET: usize = 16;
/// The longest prefix that is tabulated, in bits: a table of 4 MiB.
const MAX_PREFIX_BITS: u32 = 20;

/// A set of holders. Immutable: a list that changes is built anew and put in its place.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Ascending, each once.
    names: Vec<u128>,
    /// Where the names of each prefix begin, and at the end the number of all.
    starts: Vec<u32>,
    prefix_bits: u32,
}

/// More holders than the index can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list has more than 4 billion names")]
pub struct TooMany;

impl Index {
    /// The set of these fingerprints, in any order.
    ///
    /// # Errors
    /// [`TooMany`] above 2^32 - 1.
    pub fn new(mut names: Vec<u128>) -> Result<Self, TooMany> {
        names.sort_unstable();
        names.dedup();
        names.shrink_to_fit();
        let count = u32::try_from(names.len()).map_err(|_| TooMany)?;
        let buckets = names.len().div_ceil(PER_BUCKET).next_power_of_two();
        let prefix_bits = buckets.trailing_zeros().min(MAX_PREFIX_BITS);
        let mut starts = Vec::with_capacity((1_usize << prefix_bits).saturating_add(1));
        let mut begin = 0_u32;
        let mut rest = names.as_slice();
        for prefix in 0..1_u128 << prefix_bits {
            starts.push(begin);
            let here = rest.partition_point(|name| prefix_of(*name, prefix_bits) <= prefix);
            rest = rest.get(here..).unwrap_or_default();
            begin = begin.saturating_add(u32::try_from(here).map_err(|_| TooMany)?);
        }
        starts.push(count);
        Ok(Self { names, starts, prefix_bits })
    }

    /// Whether the holder of `address` is in the set, under whatever name.
    pub fn contains(&self, address: &Address) -> bool {
        !self.names.is_empty() && Holder::names(address).iter().any(|name| self.contains_name(name.fingerprint()))
    }

    /// Whether this very name is in the set.
    pub fn contains_name(&self, name: u128) -> bool {
        let bucket = usize::try_from(prefix_of(name, self.prefix_bits)).ok();
        let range = bucket.and_then(|bucket| {
            let (from, to) = (*self.starts.get(bucket)?, *self.starts.get(bucket.checked_add(1)?)?);
            self.names.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
        });
        range.is_some_and(|names| names.binary_search(&name).is_ok())
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let names = self.names.capacity().saturating_mul(size_of::<u128>());
        names.saturating_add(self.starts.capacity().saturating_mul(size_of::<u32>()))
    }
}

/// The first `bits` bits of a name.
fn prefix_of(name: u128, bits: u32) -> u128 {
    name.checked_shr(u128::BITS.saturating_sub(bits)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_is_in_it_and_nothing_else(
            names in proptest::collection::vec(any::<u128>(), 0..500),
            others in proptest::collection::vec(any::<u128>(), 0..100),
        ) {
            let set: BTreeSet<u128> = names.iter().copied().collect();
            let index = Index::new(names.clone()).unwrap();
            prop_assert_eq!(index.len(), set.len());
            for name in names.iter().chain(&others) {
                prop_assert_eq!(index.contains_name(*name), set.contains(name));
                prop_assert_eq!(index.contains_name(name.wrapping_add(1)), set.contains(&name.wrapping_add(1)));
            }
        }

        #[test]
        fn names_that_crowd_one_prefix_are_found(names in proptest::collection::vec(0_u128..1000, 1..300)) {
            let index = Index::new(names.clone()).unwrap();
            for name in 0..1000 {
                prop_assert_eq!(index.contains_name(name), names.contains(&name));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_found() {
        let index = Index::new(vec![0, u128::MAX]).unwrap();
        assert!(index.contains_name(0) && index.contains_name(u128::MAX));
        assert!(!index.contains_name(1) && !Index::default().contains_name(0));
    }
}
