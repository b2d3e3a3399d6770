//! The simulated nodes, one module per chain.

pub mod bitcoin;
pub mod ethereum;
pub mod solana;
