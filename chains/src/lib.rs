//! What a transaction *is*, on Bitcoin, Ethereum and Solana: no keys, no policy, no storage.
//!
//! In the order in which one payment walks through:
//!
//! - [`intent`]: what the client asks for, with [`amount`] and [`address`] as checked types;
//! - [`network`], [`account`], [`asset`]: where, from whom, and what moves;
//! - [`chain`], [`client`]: the two traits that every chain implements, [`chain::Chain`] (pure) and [`client::Client`] (I/O);
//! - [`bitcoin`], [`ethereum`], [`solana`]: the chains, each folder with the same files: `address`, `build`, `effects`,
//!   `sign`, `wire`, `client`;
//! - [`effects`]: what the unsigned bytes do, decoded from them and from nothing else;
//! - [`payload`]: what exactly is signed, and the signatures that come back;
//! - [`simulation`]: what a node says that a transaction would do, held against its effects;
//! - [`derive`](mod@derive): public child keys by BIP-32;
//! - [`rpc`]: the JSON-RPC transport to a node;
//! - [`send`]: what nodes say to a transaction that is sent to them.
//!
//! `client`, `rpc` and `send` are behind the feature `client`, which is on by default and which signers do without.

#![cfg_attr(not(feature = "client"), allow(dead_code, reason = "what only node clients decode stands beside the rest"))]

pub mod account;
pub mod address;
pub mod amount;
pub mod asset;
pub mod bitcoin;
pub mod chain;
#[cfg(feature = "client")]
pub mod client;
pub mod derive;
pub mod effects;
pub mod ethereum;
pub mod holder;
pub mod intent;
pub mod network;
pub mod payload;
#[cfg(feature = "client")]
pub mod rpc;
#[cfg(feature = "client")]
pub mod send;
pub mod simulation;
pub mod solana;
mod text;
