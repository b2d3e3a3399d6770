//! Parity: one contract suite per chain, run against the simulated node and the real thing, whose answers must agree.
//!
//! - `subject`: a node under test, simulated or real;
//! - `transcript`: what a suite noted of one node, and how two of them are compared;
//! - `ethereum`: against `anvil`; `bitcoin`: against `bitcoind`, which `bitcoind` starts; `solana`: against the bare `litesvm`;
//! - `gateway`: the gateway's own Bitcoin client on `bitcoind`.
//!
//! A difference is either a bug of the simulated node, or stands with its reason in the table of the suite. A row of a table that no
//! difference needs fails the suite too. `tests/run` runs what needs `anvil`, `just parity` what needs `bitcoind`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

mod bitcoin;
mod bitcoind;
#[allow(dead_code, reason = "of the Ethereum tests' client only the keys are used")]
#[path = "../ethereum/client.rs"]
mod client;
mod ethereum;
mod gateway;
#[path = "../bitcoin_support/payer.rs"]
mod payer;
mod solana;
mod subject;
mod transcript;
#[allow(dead_code, reason = "the Bitcoin tests ask in their own way")]
#[path = "../bitcoin_support/wallet.rs"]
mod wallet;
