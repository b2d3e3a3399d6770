//! What may be signed, and the threshold signers that sign it. A share of a key never leaves this crate.
//!
//! In the order in which one signing request walks through:
//!
//! - [`request`]: what a pool is asked: an unsigned transaction with its evidence, never a hash;
//! - [`roster`], [`approval`]: who may ask, and who approved;
//! - [`policy`]: what may be signed, a pure function that the gateway calls too;
//! - [`pool`]: the coordinator: chooses a quorum, drives it, verifies the result;
//! - `session`, [`transport`]: one session round by round, over bytes between coordinator and signers;
//! - `node`: one signer, an actor with a directory of its own; `station` runs it in a process of its own;
//! - `verify`, `ledger`: a signer's own judgement, and its memory of the slots it has signed for;
//! - [`protocol`]: a round-based protocol as a value that each step consumes;
//! - `scheme`: threshold ECDSA, Taproot and Ed25519, three files of the same shape;
//! - `ceremony`: how keys come into being, whole in no place; [`escrow`]: and how they survive their signers;
//! - `share`, `vault`, [`seal`]: the secrets, in memory and at rest.
//!
//! A share cannot be named outside of this crate:
//!
//! ```compile_fail,E0603
//! use signer::share::Share;
//! ```
//!
//! nor can a nonce, and what holds one, a run of a protocol, can be neither copied nor written out:
//!
//! ```compile_fail,E0603
//! use signer::nonces::Stock;
//! ```
//!
//! ```compile_fail,E0599
//! fn twice<O>(run: signer::protocol::Run<O>) -> [signer::protocol::Run<O>; 2] {
//!     [run.clone(), run]
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn out<O>(run: signer::protocol::Run<O>) -> serde_json::Result<String> {
//!     serde_json::to_string(&run)
//! }
//! ```

pub mod approval;
mod ceremony;
pub use ceremony::escrow;
mod disk;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod ledger;
mod node;
mod nonces;
pub mod policy;
pub mod pool;
pub mod protocol;
pub mod request;
pub mod roster;
mod scheme;
pub mod seal;
mod session;
mod share;
#[cfg(feature = "grpc")]
pub mod station;
#[cfg(test)]
mod tests;
pub mod transport;
mod vault;
mod verify;
