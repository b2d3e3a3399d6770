//! Three simulated chains on real execution engines, each behind its own JSON-RPC dialect.
//!
//! - [`world`]: starts the three nodes and stops them;
//! - [`node`]: one node per chain: an engine (a state machine), the dialect that it is spoken to in, blocks on an interval and on
//!   demand, a faucet;
//! - [`journal`]: the append-only file that an engine's state is rebuilt from;
//! - [`rpc`]: the HTTP server that all dialects share;
//! - [`clock`]: what time it is.

pub mod clock;
pub mod journal;
pub mod node;
pub mod rpc;
pub mod world;
