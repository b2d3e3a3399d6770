//! Chance that repeats: every random decision is a function of the world's seed, the name of what is decided and a counter.
//!
//! No generator is shared, so which thread asks first changes nothing.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// What all chance of a world comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Seed {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Seed {
    /// The decisions of one name. Equal names have equal decisions.
    pub fn stream(self, name: impl fmt::Display) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.0.to_be_bytes());
        hash.update(name.to_string());
        Stream { key: hash.finalize().into() }
    }
}

/// A sequence of decisions, each found by its number.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u8; 32],
}

impl Stream {
    /// What chance says to decision `number`.
    pub fn draw(&self, number: u64) -> Draw {
        Draw { key: self.key, number, block: 0, words: Vec::new() }
    }
}

/// The random numbers of one decision: SHA-256 of the stream's key, the decision's number and a block counter.
#[derive(Clone, Debug)]
pub struct Draw {
    key: [u8; 32],
    number: u64,
    block: u64,
    words: Vec<u64>,
}

impl Draw {
    /// The next number, any equally likely.
    pub fn word(&mut self) -> u64 {
        loop {
            if let Some(word) = self.words.pop() {
                return word;
            }
            let mut hash = Sha256::new();
            hash.update(self.key);
            hash.update(self.number.to_be_bytes());
            hash.update(self.block.to_be_bytes());
            self.block = self.block.wrapping_add(1);
            let digest: [u8; 32] = hash.finalize().into();
            let (words, _) = digest.as_chunks::<8>();
            self.words.extend(words.iter().rev().map(|bytes| u64::from_be_bytes(*bytes)));
        }
    }

    /// The next number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.word()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a product of two words is a word")
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: Probability) -> bool {
        self.below(u64::from(Probability::SCALE)) < u64::from(probability.0)
    }
}

/// A probability, in millionths. Written as a decimal number from 0 to 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probability(u32);

impl Probability {
    const SCALE: u32 = 1_000_000;

    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(Self::SCALE);

    /// From millionths. More than a million is [`Self::ALWAYS`].
    pub const fn from_millionths(millionths: u32) -> Self {
        Self(if millionths > Self::SCALE { Self::SCALE } else { millionths })
    }

    /// In millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// A text that is no probability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no probability; write a decimal number from 0 to 1 with at most six digits after the point")]
pub struct ProbabilityError(String);

impl FromStr for Probability {
    type Err = ProbabilityError;

    fn from_str(text: &str) -> Result<Self, ProbabilityError> {
        let invalid = || ProbabilityError(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let millionths = format!("{fraction:0<6}").parse::<u32>().map_err(|_| invalid())?;
        match whole {
            "0" => Ok(Self(millionths)),
            "1" if millionths == 0 => Ok(Self::ALWAYS),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NEVER => f.write_str("0"),
            Self::ALWAYS => f.write_str("1"),
            Self(millionths) => {
                let digits = format!("{millionths:06}");
                write!(f, "0.{}", digits.trim_end_matches('0'))
            }
        }
    }
}

impl fmt::Debug for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Probability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.to_string().parse().map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decimal;

        impl Visitor<'_> for Decimal {
            type Value = Probability;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal number from 0 to 1")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Probability, E> {
                // The shortest text that means this number is what was written.
                value.to_string().parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Probability, E> {
                value.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Probability, E> {
                value.to_string().parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Decimal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_decision_depends_on_seed_name_and_number_only() {
        let words = |seed, name: &str, number| {
            let mut draw = Seed(seed).stream(name).draw(number);
            [draw.word(), draw.word(), draw.word(), draw.word(), draw.word()]
        };
        let first = words(1, "a", 7);
        assert_eq!(first, words(1, "a", 7));
        for other in [words(2, "a", 7), words(1, "b", 7), words(1, "a", 8)] {
            assert!(first.iter().all(|word| !other.contains(word)));
        }
    }

    #[test]
    fn frequency_follows_probability() {
        let stream = Seed(5).stream("coin");
        let half = Probability::from_millionths(250_000);
        let hits = (0..4_000).filter(|number| stream.draw(*number).happens(half)).count();
        assert!((850..1_150).contains(&hits), "{hits} of 4000 at 1 in 4");
        assert!((0..100).all(|number| stream.draw(number).happens(Probability::ALWAYS)));
        assert!(!(0..100).any(|number| stream.draw(number).happens(Probability::NEVER)));
    }

    proptest! {
        #[test]
        fn a_probability_survives_its_json(millionths in 0..=1_000_000_u32) {
            let probability = Probability::from_millionths(millionths);
            let text = serde_json::to_string(&probability).unwrap();
            prop_assert_eq!(serde_json::from_str::<Probability>(&text).unwrap(), probability);
            prop_assert_eq!(probability.to_string().parse::<Probability>().unwrap(), probability);
        }
    }

    #[test]
    fn other_numbers_are_no_probabilities() {
        for wrong in ["1.000001", "2", "-0.5", "0.1234567", "1e3", "\"x\"", "null"] {
            assert!(serde_json::from_str::<Probability>(wrong).is_err(), "{wrong}");
        }
        for right in ["0", "1", "0.5", "1.0", "0.000001"] {
            assert!(serde_json::from_str::<Probability>(right).is_ok(), "{right}");
        }
    }
}
