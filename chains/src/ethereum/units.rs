//! Gas, its price, and nonces: numbers that look alike and must not be mixed.

use std::fmt;

use alloy::primitives::U256;

use crate::amount::Amount;

/// Units of gas: how much work the EVM does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gas(u64);

/// What one unit of gas costs, in wei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GasPrice(u128);

/// A share in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BasisPoints(u32);

/// How many transactions an account has sent before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(u64);

impl Gas {
    /// So many units.
    pub const fn from_units(units: u64) -> Self {
        Self(units)
    }

    /// The number of units.
    pub const fn units(self) -> u64 {
        self.0
    }

    /// This much gas and `percent` of it on top, rounded down; at most 2^64 - 1.
    pub fn with_margin(self, percent: u32) -> Self {
        let scaled = u128::from(self.0).saturating_mul(100 + u128::from(percent)) / 100;
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// What this much gas costs at `price`.
    pub fn cost(self, price: GasPrice) -> Amount {
        // 64 and 128 bits make at most 192: the product always fits.
        Amount::from_base_units(U256::from(self.0).saturating_mul(U256::from(price.0)))
    }
}

impl GasPrice {
    /// A price in wei per unit of gas.
    pub const fn from_wei(wei: u128) -> Self {
        Self(wei)
    }

    /// A price in gwei (10^9 wei) per unit of gas.
    pub const fn from_gwei(gwei: u64) -> Self {
        Self(gwei as u128 * 1_000_000_000)
    }

    /// Wei per unit of gas.
    pub const fn wei(self) -> u128 {
        self.0
    }

    /// The sum, or `None` above 2^128 - 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `percent` of this price, rounded down, or `None` above 2^128 - 1.
    pub fn checked_percent(self, percent: u32) -> Option<Self> {
        self.0.checked_mul(u128::from(percent)).map(|scaled| Self(scaled / 100))
    }

    /// This price and `share` of it on top, rounded up and above this price in any case; `None` above 2^128 - 1.
    pub fn checked_bump(self, share: BasisPoints) -> Option<Self> {
        let added = U256::from(self.0).saturating_mul(U256::from(share.0)).div_ceil(U256::from(BasisPoints::WHOLE));
        let added = u128::try_from(added).ok()?.max(1);
        self.0.checked_add(added).map(Self)
    }
}

impl BasisPoints {
    /// What a whole has.
    const WHOLE: u32 = 10_000;

    /// So many ten-thousandths: 1,250 are 12.5 %.
    pub const fn new(ten_thousandths: u32) -> Self {
        Self(ten_thousandths)
    }

    /// The number of ten-thousandths.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Nonce {
    /// The nonce of a transaction before which `count` were sent.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The nonce after this one, or `None` where an account has none: EIP-2681 ends them at 2^64 - 2.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            None | Some(u64::MAX) => None,
            Some(next) => Some(Self(next)),
        }
    }
}

impl fmt::Display for Gas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GasPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei per gas", self.0)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges() {
        assert_eq!(Gas::from_units(21_000).with_margin(20), Gas::from_units(25_200));
        assert_eq!(Gas::from_units(1).with_margin(0), Gas::from_units(1));
        assert_eq!(Gas::from_units(u64::MAX).with_margin(u32::MAX), Gas::from_units(u64::MAX));
        let most = Gas::from_units(u64::MAX).cost(GasPrice::from_wei(u128::MAX));
        assert_eq!(most.base_units(), U256::from(u64::MAX) * U256::from(u128::MAX));
        assert_eq!(GasPrice::from_wei(u128::MAX).checked_percent(2), None);
        assert_eq!(GasPrice::from_gwei(3).checked_percent(150), Some(GasPrice::from_wei(4_500_000_000)));
        let bump = |wei: u128| GasPrice::from_wei(wei).checked_bump(BasisPoints::new(1_250)).map(GasPrice::wei);
        assert_eq!([bump(0), bump(1), bump(80), bump(81)], [Some(1), Some(2), Some(90), Some(92)], "rounded up");
        assert_eq!(bump(u128::MAX), None);
        assert_eq!(bump(u128::MAX / 10 * 8), Some(u128::MAX / 10 * 9));
        assert_eq!(Nonce::new(u64::MAX - 1).next(), None);
        assert_eq!(Nonce::new(7).next(), Some(Nonce::new(8)));
    }
}
