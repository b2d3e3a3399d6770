//! What a node is given by its world.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::fault::{Conditions, Faults};
use crate::network::Endpoint;
use crate::rpc::gate::Gate;
use crate::topology::{ChainKind, NodeId, NodeIndex};

/// A node's place in its world.
#[derive(Clone, Debug)]
pub struct Seat<M> {
    /// Who it is.
    pub id: NodeId,
    /// What time it is there.
    pub clock: Arc<dyn Clock>,
    /// What stands before its dialect. `None` outside of a world.
    pub gate: Option<Gate>,
    /// Its connection to the others. `None` outside of a world.
    pub endpoint: Option<Endpoint<M>>,
    /// What the nodes that began earlier began with ([`ChainNode::origin`](super::ChainNode::origin)).
    pub origin: Option<u64>,
    /// How many nodes the chain has, running or not.
    pub size: u16,
    /// Ends the node.
    pub shutdown: CancellationToken,
}

impl<M> Seat<M> {
    /// The seat of a node that is alone and that nothing befalls.
    pub fn alone(chain: ChainKind, clock: Arc<dyn Clock>, shutdown: CancellationToken) -> Self {
        let id = NodeId { chain, index: NodeIndex(0) };
        Self { id, clock, gate: None, endpoint: None, origin: None, size: 1, shutdown }
    }

    /// What holds at the node because of faults.
    pub fn conditions(&self) -> Conditions {
        self.gate.as_ref().map(|gate| gate.faults.conditions(self.id)).unwrap_or_default()
    }
}

/// A node's clock, which faults can put wrong.
#[derive(Debug)]
pub struct SkewedClock {
    clock: Arc<dyn Clock>,
    faults: Arc<Faults>,
    node: NodeId,
}

impl SkewedClock {
    /// The clock of `node`, where the true time is `clock`'s.
    pub fn new(clock: Arc<dyn Clock>, faults: Arc<Faults>, node: NodeId) -> Self {
        Self { clock, faults, node }
    }
}

impl Clock for SkewedClock {
    fn unix_millis(&self) -> u64 {
        self.clock.unix_millis().saturating_add_signed(self.faults.clock_skew(self.node))
    }
}
