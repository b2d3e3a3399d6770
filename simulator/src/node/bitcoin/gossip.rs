//! What the node says to its peers, and what it makes of what they say.
//!
//! Blocks and transactions are told on when they are news. A block whose parent is missing is asked for with all that lies between. Nodes
//! that meet tell each other their tips and mempools; tips are also told at intervals, so that a message which the network lost
//! delays a node but never leaves it behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Block, BlockHash, Transaction, Txid};
use tokio::time::{MissedTickBehavior, interval};

use super::chain::Chain;
use super::reject::RejectKind;
use super::{BitcoinError, Message, Node};
use crate::network::{Endpoint, Event, Gossip};
use crate::topology::NodeIndex;

/// The time between two announcements of the tip.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Most blocks in one answer, as in Core's `headers` message.
const MAX_BLOCKS: usize = 2_000;
/// Most transactions kept that spend coins which are not known yet, as in Core.
const MAX_ORPHANS: usize = 100;

/// Transactions that spend coins which are not known yet, oldest first.
type Orphans = VecDeque<(Txid, Arc<Transaction>)>;

/// Listens to the other nodes until the node is stopped, then leaves them.
pub(super) async fn listen(node: Arc<Node>, endpoint: Endpoint<Message>) {
    follow(&node, &endpoint).await;
    endpoint.leave();
}

async fn follow(node: &Node, endpoint: &Endpoint<Message>) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut orphans = Orphans::new();
    loop {
        let event = tokio::select! {
            () = node.shutdown.cancelled() => return,
            _ = heartbeat.tick() => {
                node.announce_tip();
                continue;
            }
            event = endpoint.receive() => event,
        };
        let heard = match event {
            Event::Met(peer) => greet(node, endpoint, peer),
            Event::Message { from, message } => hear(node, endpoint, &mut orphans, from, message),
        };
        match heard {
            Ok(()) => {}
            Err(BitcoinError::Rejected(reject)) => {
                tracing::debug!(node = %endpoint.index(), %reject, "a peer's block or transaction is refused");
            }
            Err(error) => {
                tracing::error!(node = %endpoint.index(), %error, "a simulated bitcoin node hears no more");
                return;
            }
        }
    }
}

/// Tells a node that could not be reached before what it may have missed.
fn greet(node: &Node, endpoint: &Endpoint<Message>, peer: NodeIndex) -> Result<(), BitcoinError> {
    let (tip, waiting) = node.read(|engine| {
        let mut waiting: Vec<_> = engine.mempool().entries().map(|e| (e.order, Arc::clone(&e.tx))).collect();
        waiting.sort_unstable_by_key(|(order, _)| *order);
        (engine.chain().tip().hash, waiting)
    })?;
    endpoint.send(peer, Gossip::Tip(tip));
    for (_, tx) in waiting {
        endpoint.send(peer, Gossip::Transaction(tx));
    }
    Ok(())
}

fn hear(
    node: &Node,
    endpoint: &Endpoint<Message>,
    orphans: &mut Orphans,
    from: NodeIndex,
    message: Message,
) -> Result<(), BitcoinError> {
    match message {
        Gossip::Transaction(tx) => take_transaction(node, orphans, from, tx),
        Gossip::Block(block) => {
            let hash = block.block_hash();
            take_blocks(node, endpoint, orphans, from, vec![block])?;
            want(node, endpoint, from, hash)
        }
        Gossip::Blocks(blocks) => take_blocks(node, endpoint, orphans, from, blocks),
        Gossip::Tip(hash) => want(node, endpoint, from, hash),
        Gossip::Request { want, have } => {
            let blocks = node.read(|engine| path(engine.chain(), &want, &have))?;
            let Some(last) = blocks.last().map(|block| block.block_hash()) else { return Ok(()) };
            endpoint.send(from, Gossip::Blocks(blocks));
            if last != want {
                // There was no room for all: the receiver is to ask again.
                endpoint.send(from, Gossip::Tip(want));
            }
            Ok(())
        }
        Gossip::Vote(never) => match never {},
    }
}

/// Asks for a block that is not known, with all that lie between.
fn want(node: &Node, endpoint: &Endpoint<Message>, from: NodeIndex, hash: BlockHash) -> Result<(), BitcoinError> {
    let have = node.read(|engine| {
        let chain = engine.chain();
        chain.get(&hash).is_none().then(|| locator(chain))
    })?;
    if let Some(have) = have {
        endpoint.send(from, Gossip::Request { want: hash, have });
    }
    Ok(())
}

/// Blocks of the active branch: the newest ten, then with ever larger steps down to the genesis block (Core: `LocatorEntries`).
fn locator(chain: &Chain) -> Vec<BlockHash> {
    let mut hashes = Vec::new();
    let mut height = chain.tip().height;
    let mut step: u32 = 1;
    while let Some(known) = chain.at(height) {
        hashes.push(known.hash);
        if height == 0 {
            break;
        }
        if hashes.len() >= 10 {
            step = step.saturating_mul(2);
        }
        height = height.saturating_sub(step);
    }
    hashes
}

/// The blocks up to `want` after the latest that is in `have`, oldest first, as many as there is room for.
fn path(chain: &Chain, want: &BlockHash, have: &[BlockHash]) -> Vec<Arc<Block>> {
    let mut blocks = Vec::new();
    let mut at = chain.get(want);
    while let Some(known) = at.filter(|known| known.height > 0 && !have.contains(&known.hash)) {
        blocks.push(Arc::clone(&known.block));
        at = chain.get(&known.block.header.prev_blockhash);
    }
    blocks.reverse();
    blocks.truncate(MAX_BLOCKS);
    blocks
}

fn take_blocks(
    node: &Node,
    endpoint: &Endpoint<Message>,
    orphans: &mut Orphans,
    from: NodeIndex,
    blocks: Vec<Arc<Block>>,
) -> Result<(), BitcoinError> {
    let before = node.read(|engine| engine.chain().tip().hash)?;
    for block in blocks {
        let fits = node.read(|engine| {
            let chain = engine.chain();
            chain.get(&block.block_hash()).is_none() && chain.get(&block.header.prev_blockhash).is_some()
        })?;
        if fits {
            node.take_block(&block)?;
        }
    }
    let tip = node.read(|engine| {
        let tip = engine.chain().tip();
        (tip.hash != before).then(|| Arc::clone(&tip.block))
    })?;
    if let Some(tip) = tip {
        endpoint.spread(&Gossip::Block(tip), Some(from));
        retry(node, orphans)?;
    }
    Ok(())
}

fn take_transaction(
    node: &Node,
    orphans: &mut Orphans,
    from: NodeIndex,
    tx: Arc<Transaction>,
) -> Result<(), BitcoinError> {
    let txid = tx.compute_txid();
    // What waits or is confirmed already is no news.
    let known =
        node.read(|engine| engine.mempool().get(&txid).is_some() || engine.chain().position(&txid).is_some())?;
    if known {
        return Ok(());
    }
    match node.relay(&tx, Some(from)) {
        Ok(()) => retry(node, orphans),
        Err(BitcoinError::Rejected(reject)) if reject.kind == RejectKind::MissingInputs => {
            if !orphans.iter().any(|(other, _)| *other == txid) {
                orphans.push_back((txid, tx));
            }
            if orphans.len() > MAX_ORPHANS {
                orphans.pop_front();
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Tries the transactions again whose coins were missing, until none of them gets in any more.
fn retry(node: &Node, orphans: &mut Orphans) -> Result<(), BitcoinError> {
    loop {
        let before = orphans.len();
        for (txid, tx) in std::mem::take(orphans) {
            match node.relay(&tx, None) {
                Ok(()) => {}
                Err(BitcoinError::Rejected(reject)) if reject.kind == RejectKind::MissingInputs => {
                    orphans.push_back((txid, tx));
                }
                Err(BitcoinError::Rejected(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if orphans.is_empty() || orphans.len() == before {
            return Ok(());
        }
    }
}
