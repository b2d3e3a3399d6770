//! Sets of places in a table.

/// The bits of a word.
const WORD: usize = 64;

/// A set of places in a table, as the words of a bitmap that aren't empty, each with its number, in order. So it takes no more
/// room than a list of its places, and of many places an eighth of a byte each and a word's number for every 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Places(Vec<(usize, u64)>);

impl Places {
    /// Adds a place, which none in the set is beyond.
    pub(in crate::policy) fn push(&mut self, place: usize) {
        let (number, bit) = (place / WORD, 1 << (place % WORD));
        match self.0.last_mut() {
            Some((last, bits)) if *last == number => *bits |= bit,
            _ => self.0.push((number, bit)),
        }
    }

    pub(in crate::policy) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are in both.
    pub(in crate::policy) fn and(&self, other: &Self) -> Self {
        self.combined(other, |ours, theirs| ours & theirs)
    }

    /// Those that are in either.
    pub(in crate::policy) fn or(&self, other: &Self) -> Self {
        self.combined(other, |ours, theirs| ours | theirs)
    }

    /// Those that aren't in the other.
    pub(in crate::policy) fn without(&self, other: &Self) -> Self {
        self.combined(other, |ours, theirs| ours & !theirs)
    }

    /// The places, in rising order.
    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().flat_map(|(number, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = usize::try_from(left.trailing_zeros()).ok().filter(|bit| *bit < WORD)?;
                left &= left.wrapping_sub(1);
                Some(number * WORD + bit)
            })
        })
    }

    /// The words of both, side by side. `op` makes nothing of nothing.
    fn combined(&self, other: &Self, op: impl Fn(u64, u64) -> u64) -> Self {
        let (mut ours, mut theirs) = (self.0.as_slice(), other.0.as_slice());
        let mut words = Vec::with_capacity(ours.len());
        while let Some(number) = ours.first().into_iter().chain(theirs.first()).map(|(number, _)| *number).min() {
            let bits = op(take(&mut ours, number), take(&mut theirs, number));
            if bits != 0 {
                words.push((number, bits));
            }
        }
        Self(words)
    }
}

/// Takes the first word off, where it is the one of this number; else it is empty.
fn take(words: &mut &[(usize, u64)], number: usize) -> u64 {
    match words.split_first() {
        Some(((first, bits), rest)) if *first == number => {
            *words = rest;
            *bits
        }
        _ => 0,
    }
}

impl FromIterator<usize> for Places {
    /// The set of these, which come in rising order.
    fn from_iter<I: IntoIterator<Item = usize>>(places: I) -> Self {
        let mut set = Self::default();
        places.into_iter().for_each(|place| set.push(place));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    /// Some near each other and some far away, so that words are shared, missing on either side, and at the ends.
    fn some() -> impl Strategy<Value = BTreeSet<usize>> {
        btree_set(prop_oneof![0..140_usize, Just(63), Just(64), 5_000..5_100_usize], 0..60)
    }

    fn places(set: &BTreeSet<usize>) -> Places {
        set.iter().copied().collect()
    }

    proptest! {
        #[test]
        fn they_are_the_sets_of_the_same_places(one in some(), other in some()) {
            let (a, b) = (places(&one), places(&other));
            prop_assert!(a.iter().eq(one.iter().copied()));
            prop_assert_eq!(a.is_empty(), one.is_empty());
            prop_assert_eq!(a.and(&b), places(&(&one & &other)));
            prop_assert_eq!(a.or(&b), places(&(&one | &other)));
            prop_assert_eq!(a.without(&b), places(&(&one - &other)));
        }
    }
}
