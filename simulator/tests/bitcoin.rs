//! The Bitcoin node over HTTP, as bitcoind's clients use it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

#[path = "bitcoin/blocks.rs"]
mod blocks;
#[path = "bitcoin/calls.rs"]
mod calls;
#[path = "bitcoin/mempool.rs"]
mod mempool;
#[path = "bitcoin/money.rs"]
mod money;
#[path = "bitcoin/run.rs"]
mod run;
#[path = "bitcoin_support/wallet.rs"]
mod wallet;
