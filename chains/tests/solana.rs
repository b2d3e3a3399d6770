//! Solana from the outside: bytes, refusals, the real runtime, and the client against a scripted node.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests state their assumptions as bluntly as tests"
)]

#[path = "solana/bytes.rs"]
mod bytes;
#[path = "solana/client.rs"]
mod client;
#[path = "solana/durable.rs"]
mod durable;
#[path = "solana/ending.rs"]
mod ending;
#[path = "solana/fixture.rs"]
mod fixture;
#[path = "solana/nonces.rs"]
mod nonces;
#[path = "solana/programs.rs"]
mod programs;
#[path = "solana/refusals.rs"]
mod refusals;
#[path = "solana/runtime.rs"]
mod runtime;
#[path = "solana/tables.rs"]
mod tables;
