//! A simulated Ethereum node, driven over HTTP as any client would.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but not in their helpers"
)]

#[path = "ethereum/bad_input.rs"]
mod bad_input;
#[path = "ethereum/blocks.rs"]
mod blocks;
#[path = "ethereum/client.rs"]
mod client;
#[path = "ethereum/contracts.rs"]
mod contracts;
#[path = "ethereum/mempool.rs"]
mod mempool;
#[path = "ethereum/replacement.rs"]
mod replacement;
#[path = "ethereum/restart.rs"]
mod restart;
#[path = "ethereum/simulate.rs"]
mod simulate;
#[path = "support/storm.rs"]
mod storm;
#[path = "ethereum/trace.rs"]
mod trace;
