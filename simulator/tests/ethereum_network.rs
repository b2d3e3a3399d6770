//! Several Ethereum nodes: gossip, branches, finality, partitions, crashes, subscriptions, and the gateway's own client through all of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests state their assumptions bluntly, in their helpers too"
)]

#[path = "ethereum/client.rs"]
#[expect(dead_code, reason = "shared with the tests of one node, which use the rest")]
mod client;
#[path = "ethereum_network/faults.rs"]
mod faults;
#[path = "ethereum_network/follow.rs"]
mod follow;
#[path = "ethereum_network/forks.rs"]
mod forks;
#[path = "ethereum_network/gossip.rs"]
mod gossip;
#[path = "ethereum_network/sockets.rs"]
mod sockets;
#[path = "ethereum_network/three.rs"]
mod three;
