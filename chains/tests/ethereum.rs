//! Ethereum from the outside: addresses, building, decoding, signing, and the client against a scripted node.

#[path = "ethereum/build.rs"]
mod build;
#[path = "ethereum/client.rs"]
mod client;
#[path = "ethereum/decode.rs"]
mod decode;
#[path = "ethereum/effects.rs"]
mod effects;
#[path = "ethereum/fake_node.rs"]
mod fake_node;
#[path = "ethereum/fixture.rs"]
mod fixture;
#[path = "ethereum/replace.rs"]
mod replace;
#[path = "ethereum/sign.rs"]
mod sign;
#[path = "ethereum/simulate.rs"]
mod simulate;
#[path = "ethereum/status.rs"]
mod status;
#[path = "ethereum/typed.rs"]
mod typed;
#[path = "ethereum/vectors.rs"]
mod vectors;
#[path = "ethereum/wire.rs"]
mod wire;
