//! Bitcoin from the outside: addresses, building, decoding, signing, and the client against a scripted node.

#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests state their assumptions as bluntly as tests"
)]

#[path = "bitcoin/accelerate.rs"]
mod accelerate;
#[path = "bitcoin/address.rs"]
mod address;
#[path = "bitcoin/build.rs"]
mod build;
#[path = "bitcoin/client.rs"]
mod client;
#[path = "bitcoin/fake_node.rs"]
mod fake_node;
#[path = "bitcoin/fixture.rs"]
mod fixture;
#[path = "bitcoin/replace.rs"]
mod replace;
#[path = "bitcoin/sign.rs"]
mod sign;
#[path = "bitcoin/unreliable.rs"]
mod unreliable;
#[path = "bitcoin/wire.rs"]
mod wire;
