//! Three simulated chains on real execution engines, each behind its own JSON-RPC dialect.
//!
//! - [`world`]: starts the chains and stops them; [`control`]: commands them while they run (`sim_*`);
//! - [`cluster`]: the nodes of one chain, which crash, restart and make blocks in turn;
//! - [`network`]: what carries messages between them, with latency, loss and partitions;
//! - [`fault`]: what goes wrong, as rules; [`seed`]: chance that repeats;
//! - [`node`]: one node per chain: an engine (a state machine), the dialect that it is spoken to in, blocks on an interval and on
//!   demand, a faucet;
//! - [`journal`]: the append-only file that an engine's state is rebuilt from;
//! - [`rpc`]: the HTTP server that all dialects share, and where faults strike calls;
//! - [`topology`]: names of chains, nodes and links;
//! - [`load`]: payments fixed ahead, and how long they took; [`scenario`]: worlds, loads and what must hold; [`report`]: what a run is told as;
//! - [`clock`]: what time it is.

pub mod clock;
pub mod cluster;
pub mod control;
pub mod fault;
pub mod journal;
pub mod load;
pub mod network;
pub mod node;
pub mod report;
pub mod rpc;
pub mod scenario;
pub mod seed;
pub mod topology;
pub mod world;
