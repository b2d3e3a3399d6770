//! What a transaction costs: signature fee, priority fee, and the rent of the accounts that it creates.

use std::fmt;

use alloy::primitives::U256;

use super::token::TokenProgram;
use crate::amount::Amount;

/// Lamports: 10^-9 SOL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lamports(u64);

/// Micro-lamports: 10^-6 lamports, the unit in which a compute unit is priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroLamports(u64);

/// What a transaction may compute and what it offers for each unit
/// (<https://solana.com/docs/core/fees#prioritization-fees>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeBudget {
    /// The most compute units that the transaction may use. They are paid for whether used or not.
    pub unit_limit: u32,
    /// What is offered for each unit.
    pub unit_price: MicroLamports,
}

/// The most compute units that the runtime grants one transaction.
pub const MAX_COMPUTE_UNITS: u32 = 1_400_000;

/// What an instruction is granted where the transaction sets no limit; built-in programs are granted less.
pub(super) const DEFAULT_UNITS_PER_INSTRUCTION: u32 = 200_000;

/// The fee for each signature, in lamports.
pub(super) const SIGNATURE_FEE: u64 = 5_000;

/// Lamports that the cluster keeps for each byte of an account: 3480 a year, for two years. It is the protocol's default
/// and, on the public clusters, the highest that has ever been asked.
const RENT_PER_BYTE: u128 = 3_480 * 2;

/// What an account costs beside its data, in bytes.
const ACCOUNT_OVERHEAD: u128 = 128;

impl Lamports {
    /// An amount in lamports.
    pub const fn new(lamports: u64) -> Self {
        Self(lamports)
    }

    /// The number of lamports.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl MicroLamports {
    /// A price in micro-lamports.
    pub const fn new(micro_lamports: u64) -> Self {
        Self(micro_lamports)
    }

    /// The number of micro-lamports.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<Lamports> for Amount {
    fn from(lamports: Lamports) -> Self {
        Self::from_lamports(lamports.0)
    }
}

impl fmt::Display for Lamports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lamports", self.0)
    }
}

impl fmt::Display for MicroLamports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} micro-lamports", self.0)
    }
}

impl ComputeBudget {
    /// The priority fee in lamports: the whole limit at the price, rounded up. At most 2^96 / 10^6, so nothing overflows.
    fn priority_fee(self) -> u128 {
        let units = u128::from(self.unit_limit.min(MAX_COMPUTE_UNITS));
        (units * u128::from(self.unit_price.0)).div_ceil(1_000_000)
    }

    /// What a transaction with `signatures` signatures pays for being included, in lamports.
    pub(super) fn fee(self, signatures: u8) -> u128 {
        u128::from(SIGNATURE_FEE) * u128::from(signatures) + self.priority_fee()
    }
}

/// The most that a token account of `program` costs its creator, in lamports.
pub(super) fn max_token_account_rent(program: TokenProgram) -> u128 {
    (ACCOUNT_OVERHEAD + program.max_account_len()) * RENT_PER_BYTE
}

/// The most that a durable nonce account costs its creator, in lamports.
pub(super) fn max_nonce_account_rent() -> u128 {
    (ACCOUNT_OVERHEAD + super::nonce::ACCOUNT_LEN as u128) * RENT_PER_BYTE
}

/// The most that an empty address lookup table costs its payer, in lamports; it has 56 bytes before its addresses.
pub(super) const fn lookup_table_rent() -> u128 {
    (ACCOUNT_OVERHEAD + 56) * RENT_PER_BYTE
}

/// The most that an address in a lookup table costs its payer, in lamports.
pub(super) const fn lookup_entry_rent() -> u128 {
    32 * RENT_PER_BYTE
}

/// The most that a transaction can cost beyond what it transfers: its fee and the rent of each token account that it may
/// create.
pub(super) fn max_fee(
    signatures: u8,
    compute: ComputeBudget,
    created: impl IntoIterator<Item = TokenProgram>,
) -> Amount {
    let rent: u128 = created.into_iter().map(max_token_account_rent).sum();
    amount(compute.fee(signatures) + rent)
}

/// Lamports as an amount, for sums that pass 64 bits.
pub(super) fn amount(lamports: u128) -> Amount {
    Amount::from_base_units(U256::from(lamports))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(unit_limit: u32, price: u64) -> ComputeBudget {
        ComputeBudget { unit_limit, unit_price: MicroLamports::new(price) }
    }

    #[test]
    fn the_priority_fee_is_rounded_up() {
        assert_eq!(budget(0, 0).fee(1), 5_000);
        assert_eq!(budget(1, 1).fee(1), 5_001);
        assert_eq!(budget(1_000_000, 1).fee(1), 5_001);
        assert_eq!(budget(1_000_001, 1).fee(1), 5_002);
        assert_eq!(budget(30_000, 12_345).fee(1), 5_371);
        assert_eq!(
            budget(u32::MAX, u64::MAX).fee(u8::MAX),
            255 * 5_000 + (1_400_000 * u128::from(u64::MAX)).div_ceil(1_000_000)
        );
    }

    /// 2 039 280 lamports is what every explorer shows for a token account of 165 bytes.
    #[test]
    fn the_rent_of_a_token_account() {
        assert_eq!(max_token_account_rent(TokenProgram::Token), 2_039_280);
        assert!(max_token_account_rent(TokenProgram::Token2022) > 2_039_280);
        // What `solana rent 80` answers.
        assert_eq!(max_nonce_account_rent(), 1_447_680);
    }
}
