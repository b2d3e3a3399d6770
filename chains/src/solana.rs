//! Solana: legacy and v0 messages, SOL and SPL transfers.

pub mod address;
