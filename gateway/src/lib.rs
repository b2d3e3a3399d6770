//! The JSON-RPC gateway: it takes a client's signed request, and one payment later the transaction is final.
//!
//! In the order in which a payment walks through:
//!
//! - [`server`], [`auth`]: who is asking; the raw request is kept as evidence;
//! - [`api`]: thin: parse, call, answer;
//! - [`pipeline`]: one file per arrow of the life of a transaction;
//! - [`screening`]: is any party that the bytes touch on a denylist?
//! - [`travel`]: the data that the Travel Rule wants;
//! - [`lane`], [`nodes`]: one network's chain, accounts and nodes behind one object;
//! - [`ceremonies`]: refreshes and reshares of keys, asked for or on a schedule;
//! - [`store`], [`record`]: what is durable, in business transactions;
//! - [`error`]: the one place where JSON-RPC error codes are known;
//! - [`config`], [`clock`]: what is passed in;
//! - [`fail`], [`mutation`]: where crash tests stop the process, and known bugs that they must catch.

pub mod api;
pub mod auth;
pub mod ceremonies;
pub mod clock;
pub mod config;
pub mod error;
pub mod fail;
pub mod governance;
pub mod lane;
pub mod mutation;
pub mod nodes;
pub mod pipeline;
pub mod record;
pub mod screening;
pub mod server;
pub mod store;
pub mod travel;
