//! What the node says to its peers, and what it makes of what they say.
//!
//! Transactions are forwarded, blocks told by whoever made them, votes by everyone. A node that has no way to a block which another
//! votes for asks that one for all that lies between. What is known of the votes is repeated at intervals, so that a message which
//! the network lost delays a node but never leaves it behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use solana_sdk::hash::Hash;
use tokio::time::{MissedTickBehavior, interval};

use super::block::{Block, Message};
use super::consensus::Consensus;
use super::ledger::{BlockId, Height};
use super::validator::{ProduceError, Validator};
use super::{lock, on_thread};
use crate::network::{Endpoint, Event, Gossip};
use crate::rpc::CancellationToken;
use crate::topology::NodeIndex;

/// The time between two repetitions of the votes.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Most blocks in one answer.
const MAX_BLOCKS: usize = 512;
/// How many of the newest blocks are listed one by one to a peer that is asked for blocks.
const LISTED: usize = 10;

/// Where the node's branch ended when it asked a peer for blocks, so that it asks once.
type Asked = HashMap<NodeIndex, Hash>;

/// Listens to the other nodes until the node is stopped, then leaves them.
pub(super) async fn listen(validator: Arc<Mutex<Validator>>, endpoint: Endpoint<Message>, shutdown: CancellationToken) {
    follow(&validator, &endpoint, &shutdown).await;
    endpoint.leave();
}

async fn follow(validator: &Arc<Mutex<Validator>>, endpoint: &Endpoint<Message>, shutdown: &CancellationToken) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = Asked::new();
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = heartbeat.tick() => {
                asked.clear();
                lock(validator).say_votes(None);
                continue;
            }
            event = endpoint.receive() => event,
        };
        // Blocks are executed, which takes too long for the threads that serve connections.
        let (to, known) = (endpoint.clone(), std::mem::take(&mut asked));
        let heard = on_thread(validator, move |validator| hear(validator, &to, known, event)).await;
        match heard {
            Ok(known) => asked = known,
            Err(ProduceError::Stopped) => return,
            Err(error) => {
                tracing::error!(node = %endpoint.index(), %error, "a simulated solana node hears no more");
                return;
            }
        }
    }
}

fn hear(
    validator: &mut Validator,
    endpoint: &Endpoint<Message>,
    mut asked: Asked,
    event: Event<Message>,
) -> Result<Asked, ProduceError> {
    let (from, message) = match event {
        Event::Met(peer) => {
            asked.remove(&peer);
            greet(validator, endpoint, peer);
            return Ok(asked);
        }
        Event::Message { from, message } => (from, message),
    };
    match message {
        Gossip::Transaction(wired) => validator.relay(&wired, from),
        Gossip::Block(block) => {
            let id = block.id;
            if !validator.take_blocks(vec![block])? {
                ask(validator, endpoint, &mut asked, from, id);
            }
        }
        Gossip::Blocks(blocks) => {
            let last = blocks.last().map(|block| block.id);
            if let (false, Some(id)) = (validator.take_blocks(blocks)?, last) {
                ask(validator, endpoint, &mut asked, from, id);
            }
        }
        Gossip::Vote(said) => {
            validator.take_votes(&said)?;
            let wanted = validator.consensus().map(Consensus::wanted).unwrap_or_default();
            for (_, id) in wanted.into_iter().filter(|(voter, _)| *voter == from) {
                ask(validator, endpoint, &mut asked, from, id);
            }
        }
        Gossip::Request { want, have } => {
            let blocks = path(validator, want, &have);
            if !blocks.is_empty() {
                endpoint.send(from, Gossip::Blocks(blocks));
                // There may not have been room for all: the receiver is to ask again.
                validator.say_votes(Some(from));
            }
        }
        // Nodes say which block they follow by their votes.
        Gossip::Tip(_) => {}
    }
    Ok(asked)
}

/// Tells a node that could not be reached before what it may have missed.
fn greet(validator: &Validator, endpoint: &Endpoint<Message>, peer: NodeIndex) {
    validator.say_votes(Some(peer));
    for wired in validator.queue.waiting() {
        endpoint.send(peer, Gossip::Transaction(Arc::clone(wired)));
    }
}

/// Asks for a block that is not known, with all that lie between.
fn ask(validator: &Validator, endpoint: &Endpoint<Message>, asked: &mut Asked, from: NodeIndex, want: BlockId) {
    let head = validator.engine().ledger().latest().blockhash;
    if asked.insert(from, head) != Some(head) {
        endpoint.send(from, Gossip::Request { want, have: locator(validator) });
    }
}

/// Blocks of the node's branch: the newest ones, then with ever larger steps down to the first, and the newest final one.
fn locator(validator: &Validator) -> Vec<BlockId> {
    let (ledger, finalized) = (validator.engine().ledger(), validator.engine().finalized_height());
    let mut heights: Vec<Height> = vec![0, finalized];
    let (mut height, mut step) = (ledger.height(), 1_u64);
    while height > 0 {
        heights.push(height);
        if heights.len() >= LISTED {
            step = step.saturating_mul(2);
        }
        height = height.saturating_sub(step);
    }
    heights.sort_unstable_by_key(|height| std::cmp::Reverse(*height));
    heights.dedup();
    heights.into_iter().filter_map(|height| ledger.at(height)).map(|info| info.id()).collect()
}

/// The blocks up to `want` after the newest that is in `have`, oldest first, as many as there is room for.
fn path(validator: &Validator, want: BlockId, have: &[BlockId]) -> Vec<Arc<Block>> {
    let Some(consensus) = validator.consensus() else { return Vec::new() };
    let (engine, tree) = (validator.engine(), consensus.tree());
    let ledger = engine.ledger();
    let root = tree.root();
    // What is open comes from the tree, what is final from the ledger.
    let open: Vec<Hash> = tree.down(&want.hash).take_while(|at| !have.iter().any(|id| id.hash == *at)).collect();
    let reaches_down = open.last() == Some(&root.hash) || (open.is_empty() && !tree.has(&want.hash));
    let mut blocks = Vec::new();
    if reaches_down {
        let Some(common) = have.iter().find(|id| ledger.has(**id)) else { return Vec::new() };
        let last = if tree.has(&want.hash) { root.slot } else { want.slot };
        if !tree.has(&want.hash) && !ledger.has(want) {
            return Vec::new();
        }
        let heights = ledger.height_of(common.slot).saturating_add(1)..=ledger.height_of(last);
        blocks.extend(heights.take(MAX_BLOCKS).filter_map(|height| engine.block_at(height)).map(Arc::new));
    }
    let open = open.iter().rev().filter_map(|at| tree.block(at)).cloned();
    blocks.extend(open.take(MAX_BLOCKS.saturating_sub(blocks.len())));
    blocks
}
