//! What the others say: their blocks and votes, the branch that most votes are for, and what is settled by them.

use std::sync::Arc;

use super::{ProduceError, Validator, wires};
use crate::cluster::Seat;
use crate::network::Gossip;
use crate::node::solana::block::{Block, Message, Said};
use crate::node::solana::consensus::Consensus;
use crate::node::solana::engine::Engine;
use crate::node::solana::ledger::{BlockId, Executed, Slot};
use crate::node::solana::record::Record;
use crate::topology::NodeIndex;

impl Validator {
    /// Takes blocks that a peer has told, and follows what is best then. `false` where what one of them builds on is not known.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(in crate::node::solana) fn take_blocks(&mut self, blocks: Vec<Arc<Block>>) -> Result<bool, ProduceError> {
        let Some(consensus) = &mut self.consensus else { return Ok(true) };
        let mut fits = true;
        for block in blocks {
            let Block { id, parent, leader, millis, .. } = *block;
            let made = Block::new(parent, id.slot, leader, millis, block.transactions.clone());
            let known = consensus.tree().has(&id.hash) || id.slot <= consensus.tree().root().slot;
            if !known && made.id == id {
                fits &= consensus.add(block);
            }
        }
        self.agree()?;
        Ok(fits)
    }

    /// Takes in what a peer knows of the votes, and follows what is best then.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(in crate::node::solana) fn take_votes(&mut self, said: &Said) -> Result<(), ProduceError> {
        let Some(consensus) = &mut self.consensus else { return Ok(()) };
        let mut news = false;
        for vote in &said.votes {
            news |= consensus.hear(*vote);
        }
        let refused: Vec<BlockId> = said.refused.iter().copied().filter(|id| consensus.refuse(*id)).collect();
        for id in &refused {
            self.write(&Record::Refused { slot: id.slot, hash: id.hash.to_string() })?;
        }
        if news || !refused.is_empty() { self.agree() } else { Ok(()) }
    }

    /// Tells what is known of the votes: to one peer, or to all.
    pub(in crate::node::solana) fn say_votes(&self, to: Option<NodeIndex>) {
        let (Some(consensus), Some(endpoint)) = (&self.consensus, &self.seat.endpoint) else { return };
        let said = Gossip::Vote(Said { votes: consensus.votes(), refused: consensus.tree().refused() });
        match to {
            Some(peer) => endpoint.send(peer, said),
            None => endpoint.spread(&said, None),
        }
    }

    /// Follows the branch that most votes are for, and settles what the votes say.
    fn agree(&mut self) -> Result<(), ProduceError> {
        let mut lost = Vec::new();
        while let Some(consensus) = &mut self.consensus {
            let (best, head) = (consensus.best(), consensus.head());
            if best == head {
                break;
            }
            let tree = consensus.tree();
            let fork = tree.fork(&head, &best);
            let (below, path) = (tree.id(&fork), tree.path(&fork, &best));
            if fork != head
                && let Some(below) = below
            {
                consensus.follow(fork);
                lost.extend(self.back_to(below.slot)?);
            }
            for block in path {
                if !self.link(&block)? {
                    break;
                }
            }
        }
        self.queue_again(&lost);
        self.engine.show_sysvars();
        self.settle()
    }

    /// Takes a block from outside on top of the newest one. `false` where it breaks the rules: it is given up then.
    fn link(&mut self, block: &Block) -> Result<bool, ProduceError> {
        let Block { id, leader, millis, ref transactions, .. } = *block;
        self.write(&Record::Linked { slot: id.slot, leader, millis, transactions: wires(transactions) })?;
        let before = self.engine.ledger().tip();
        let made = self.engine.execute_block(id.slot, leader, millis, transactions);
        let Some(consensus) = &mut self.consensus else { return Ok(true) };
        if made.id != id {
            tracing::warn!(node = %self.seat.id, slot = id.slot, "a peer's block breaks the rules");
            consensus.condemn(id);
            self.back_to(before)?;
            return Ok(false);
        }
        consensus.follow(id.hash);
        self.queue.drop_included(transactions);
        self.tidy();
        Ok(true)
    }

    /// Sends what a lost branch held again, where a client has asked for it.
    pub(super) fn queue_again(&mut self, lost: &[Arc<Executed>]) {
        for executed in lost {
            let signature = executed.signature();
            let Some(wired) = self.queue.remembered(&signature).cloned() else { continue };
            if self.engine.ledger().transaction(&signature).is_none() && self.queue.add(&wired) == Ok(true) {
                self.spread(&Gossip::Transaction(wired), None);
            }
        }
    }

    /// Settles what the votes say, and casts the node's own.
    pub(super) fn settle(&mut self) -> Result<(), ProduceError> {
        let Some(consensus) = &mut self.consensus else { return Ok(()) };
        let settled = consensus.settle();
        let cast = consensus.cast();
        let slots = (settled.rooted.slot, settled.finalized.slot);
        if slots != self.settled {
            self.write(&Record::Settled { rooted: slots.0, finalized: slots.1 })?;
            self.settled = slots;
        }
        self.engine.settle(settled.confirmed, settled.finalized_height);
        if cast {
            self.say_votes(None);
        }
        self.tidy();
        Ok(())
    }
}

/// What the journal says of the agreement with the others.
pub(super) fn resume(
    engine: &Engine,
    seat: &Seat<Message>,
    depth: u64,
    rooted: Slot,
    refused: Vec<BlockId>,
) -> Consensus {
    let (ledger, root) = (engine.ledger(), engine.finalized_height());
    let id = ledger.at(root).unwrap_or_else(|| ledger.latest()).id();
    let mut consensus = Consensus::new(seat.id.index, seat.size, depth, id, root);
    let open = root.saturating_add(1)..=ledger.height();
    consensus.resume(open.filter_map(|height| engine.block_at(height)).collect(), rooted, refused);
    consensus
}
