//! Amounts in base units: satoshi, wei, lamports, or a token's smallest unit.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in the base units of its asset, 0 to 2^256 - 1. What the unit is, the [`Asset`](crate::asset::Asset)
/// beside it says.
///
/// JSON carries it as a decimal string (`"1000000"`): never as a number, which most readers round at 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(U256);

/// Why a string is no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Something other than ASCII digits: a sign, a point, an exponent, a space, nothing at all.
    #[error("an amount is a decimal string of base units, digits only; got {0:?}")]
    NotDecimal(String),
    /// A leading zero, so that one amount has one spelling.
    #[error("an amount has no leading zero; got {0:?}")]
    LeadingZero(String),
    /// More than 2^256 - 1.
    #[error("the amount is above 2^256 - 1")]
    Overflow,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);
    /// 2^256 - 1.
    pub const MAX: Self = Self(U256::MAX);

    /// An amount in the asset's base units.
    pub const fn from_base_units(units: U256) -> Self {
        Self(units)
    }

    /// An amount in satoshi.
    pub fn from_sat(sat: u64) -> Self {
        Self(U256::from(sat))
    }

    /// An amount in wei.
    pub fn from_wei(wei: u128) -> Self {
        Self(U256::from(wei))
    }

    /// An amount in lamports.
    pub fn from_lamports(lamports: u64) -> Self {
        Self(U256::from(lamports))
    }

    /// The number of base units.
    pub const fn base_units(self) -> U256 {
        self.0
    }

    /// The number of base units where the chain counts in 64 bits (Bitcoin, Solana); `None` above 2^64 - 1.
    pub fn to_u64(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }

    /// The number of base units in 128 bits; `None` above 2^128 - 1.
    pub fn to_u128(self) -> Option<u128> {
        u128::try_from(self.0).ok()
    }

    /// 32 bytes, big-endian: byte order is numeric order, as a store wants it.
    pub fn to_be_bytes(self) -> [u8; 32] {
        self.0.to_be_bytes()
    }

    /// The inverse of [`Amount::to_be_bytes`].
    pub fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(U256::from_be_bytes(bytes))
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// The sum, or `None` above 2^256 - 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AmountError::NotDecimal(text.chars().take(100).collect()));
        }
        if text.len() > 1 && text.starts_with('0') {
            return Err(AmountError::LeadingZero(text.chars().take(100).collect()));
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| AmountError::Overflow)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_spelling_only() {
        for bad in ["", "+1", "-1", "1.0", "1e3", " 1", "1 ", "0x1", "١"] {
            assert!(matches!(bad.parse::<Amount>(), Err(AmountError::NotDecimal(_))), "{bad:?}");
        }
        assert!(matches!("01".parse::<Amount>(), Err(AmountError::LeadingZero(_))));
        assert_eq!("0".parse(), Ok(Amount::ZERO));
    }

    #[test]
    fn the_edge_of_256_bits() {
        let max = Amount::MAX.to_string();
        assert_eq!(max.parse(), Ok(Amount::MAX));
        assert_eq!(format!("{max}0").parse::<Amount>(), Err(AmountError::Overflow));
        assert_eq!(Amount::MAX.checked_add(Amount::from_sat(1)), None);
        assert_eq!(Amount::ZERO.checked_sub(Amount::from_sat(1)), None);
    }

    #[test]
    fn json_is_a_string_never_a_number() {
        assert!(serde_json::from_str::<Amount>("1").is_err());
        assert_eq!(serde_json::to_string(&Amount::from_sat(1)).expect("an amount is a string"), "\"1\"");
    }

    proptest! {
        #[test]
        fn text_and_bytes_round_trip(bytes: [u8; 32]) {
            let amount = Amount::from_be_bytes(bytes);
            prop_assert_eq!(amount.to_be_bytes(), bytes);
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }

        #[test]
        fn byte_order_is_numeric_order(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(a.cmp(&b), Amount::from_be_bytes(a).cmp(&Amount::from_be_bytes(b)));
        }
    }
}
