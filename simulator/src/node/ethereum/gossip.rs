//! What the node says to its peers, and what it makes of what they say.
//!
//! Transactions, blocks and votes are told on when they are news. A block whose parent is missing is asked for with all that lies between.
//! Nodes that meet tell each other their heads, votes and mempools; heads and votes are also told at intervals, so that a message
//! which the network lost delays a node but never leaves it behind.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use tokio::time::{MissedTickBehavior, interval};

use super::ControlError;
use super::block::{Block, Transaction};
use super::finality::Vote;
use super::host::Host;
use crate::network::{Endpoint, Event, Gossip, MessageKind};
use crate::topology::NodeIndex;

/// The time between two announcements of the head.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Most blocks in one answer.
const MAX_BLOCKS: usize = 256;

/// What nodes say to each other.
pub(crate) type Said = Gossip<Arc<Transaction>, Arc<Block>, B256, Vote>;

/// A message between Ethereum nodes.
#[derive(Clone, Debug)]
pub struct Message(pub(crate) Said);

impl crate::network::Message for Message {
    fn kind(&self) -> MessageKind {
        self.0.kind()
    }
}

/// Listens to the other nodes until the node is stopped, then leaves them.
pub(super) async fn listen(host: Arc<Host>, endpoint: Endpoint<Message>) {
    follow(&host, &endpoint).await;
    endpoint.leave();
}

async fn follow(host: &Arc<Host>, endpoint: &Endpoint<Message>) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = host.seat().shutdown.cancelled() => return,
            _ = heartbeat.tick() => None,
            event = endpoint.receive() => Some(event),
        };
        let (listener, speaker) = (Arc::clone(host), endpoint.clone());
        // Executing blocks takes its time, and writing the journal blocks.
        let heard = tokio::task::spawn_blocking(move || match event {
            None => announce(&listener, &speaker),
            Some(Event::Met(peer)) => greet(&listener, &speaker, peer),
            Some(Event::Message { from, message }) => hear(&listener, &speaker, from, message),
        });
        match heard.await {
            Ok(Ok(()) | Err(ControlError::Refused(_))) => {}
            Ok(Err(error)) => {
                tracing::debug!(node = %host.seat().id, %error, "a simulated Ethereum node hears no more");
                return;
            }
            Err(error) => {
                tracing::error!(node = %host.seat().id, %error, "a simulated Ethereum node can't go on; it stops");
                host.seat().shutdown.cancel();
                return;
            }
        }
    }
}

/// Tells all others the node's head and its own newest vote.
fn announce(host: &Host, endpoint: &Endpoint<Message>) -> Result<(), ControlError> {
    let (head, vote) = {
        let engine = host.engine()?;
        (engine.chain().head().hash(), engine.finality().of(host.role().node))
    };
    endpoint.spread(&Message(Gossip::Tip(head)), None);
    if let Some(vote) = vote {
        endpoint.spread(&Message(Gossip::Vote(vote)), None);
    }
    Ok(())
}

/// Tells a node that could not be reached before what it may have missed.
fn greet(host: &Host, endpoint: &Endpoint<Message>, peer: NodeIndex) -> Result<(), ControlError> {
    let (head, votes, waiting) = {
        let engine = host.engine()?;
        let votes: Vec<_> = engine.finality().latest().collect();
        (engine.chain().head().hash(), votes, engine.pool().in_order())
    };
    endpoint.send(peer, Message(Gossip::Tip(head)));
    for vote in votes {
        endpoint.send(peer, Message(Gossip::Vote(vote)));
    }
    for tx in waiting {
        endpoint.send(peer, Message(Gossip::Transaction(tx)));
    }
    Ok(())
}

fn hear(
    host: &Host,
    endpoint: &Endpoint<Message>,
    from: NodeIndex,
    Message(said): Message,
) -> Result<(), ControlError> {
    match said {
        Gossip::Transaction(tx) => {
            if host.engine()?.has_transaction(tx.tx_hash()) {
                return Ok(());
            }
            host.relay(&tx, Some(from)).map(drop)
        }
        Gossip::Block(block) => {
            let hash = block.hash();
            host.import(&[block], from)?;
            want(host, endpoint, from, hash)
        }
        Gossip::Blocks(blocks) => {
            let Some(last) = blocks.last().map(|block| block.hash()) else { return Ok(()) };
            host.import(&blocks, from)?;
            want(host, endpoint, from, last)
        }
        Gossip::Tip(hash) => want(host, endpoint, from, hash),
        Gossip::Request { want, have } => {
            let blocks = host.engine()?.path(&want, &have, MAX_BLOCKS);
            let Some(last) = blocks.last().map(|block| block.hash()) else { return Ok(()) };
            endpoint.send(from, Message(Gossip::Blocks(blocks)));
            if last != want {
                // There was no room for all: the receiver is to ask again.
                endpoint.send(from, Message(Gossip::Tip(want)));
            }
            Ok(())
        }
        Gossip::Vote(vote) => host.hear(vote, from),
    }
}

/// Asks for a block that is not known, with all that lie between.
fn want(host: &Host, endpoint: &Endpoint<Message>, from: NodeIndex, hash: B256) -> Result<(), ControlError> {
    let have = {
        let engine = host.engine()?;
        engine.chain().get(&hash).is_none().then(|| engine.locator())
    };
    if let Some(have) = have {
        endpoint.send(from, Message(Gossip::Request { want: hash, have }));
    }
    Ok(())
}
