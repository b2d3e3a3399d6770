//! Three simulated chains on real execution engines, each behind its own JSON-RPC dialect.
//!
//! - [`world`]: starts the nodes, makes blocks on an interval and on demand, holds the faucet;
//! - [`node`]: one node per chain: an engine (a state machine) and the dialect that it is spoken to in;
//! - [`journal`]: the append-only file that an engine's state is rebuilt from;
//! - [`rpc`]: the HTTP server that all dialects share.

pub mod journal;
pub mod node;
pub mod rpc;
pub mod world;
