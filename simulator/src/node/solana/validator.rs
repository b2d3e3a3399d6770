//! The validator: makes blocks from what is queued, follows the branch that the votes are for, and writes down what it does.
//!
//! A node that is alone makes every slot; runs of empty slots are one record. Of several nodes one leads each slot, and what they agree
//! on is [`Consensus`], which `agree` goes by.

mod agree;

use std::io;
use std::path::Path;
use std::sync::Arc;

use solana_sdk::signature::Signature;
use solana_sdk::transaction::VersionedTransaction;
use tokio::sync::watch;

use super::block::{Block, Message, Wired};
use super::consensus::Consensus;
use super::engine::{Engine, ReplayError, Settling, View, unit_price};
use super::genesis;
use super::ledger::{BlockId, Executed, Height, MAX_AGE, Slot};
use super::queue::{Queue, QueueFull};
use super::record::Record;
use crate::cluster::Seat;
use crate::journal::{Journal, JournalError};
use crate::network::Gossip;
use crate::seed::{Probability, Stream};
use crate::topology::NodeIndex;

/// The most transactions that one slot takes; the rest of the queue waits for the next one.
const MAX_PER_SLOT: usize = 2_000;

/// How far ahead a run of empty slots is recorded, in milliseconds. After a restart the chain goes on behind the
/// recorded run.
const RUN_MILLIS: u64 = 10_000;

/// The most slots that are skipped one after the other.
const MAX_SKIPPED: u64 = 64;

/// After how many blocks those transactions are forgotten whose time is over.
const TIDY_BLOCKS: u64 = 64;

/// How slots are made and settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Milliseconds from slot to slot, where slots are made on an interval.
    pub(super) interval: Option<u64>,
    /// How many blocks deep one is final.
    pub(super) depth: u64,
    /// How likely a slot is skipped.
    pub(super) skipped: Probability,
}

/// The validator's state: one at a time has it.
pub(super) struct Validator {
    pub(super) engine: Engine,
    pub(super) queue: Queue,
    pub(super) seat: Seat<Message>,
    /// Transactions that the faucet made since the start.
    pub(super) faucet_count: u32,
    journal: Journal<Record>,
    /// What is agreed on with the others; a node that is alone agrees with itself.
    consensus: Option<Consensus>,
    rules: Rules,
    skips: Stream,
    settled: (Slot, Slot),
    tidied: Height,
    /// Tells those who wait for it that something has changed.
    news: watch::Sender<()>,
    failed: bool,
}

/// How a chain's state can't be restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal can't be written.
    #[error("the journal can't be written: {0}")]
    Write(#[from] io::Error),
    /// The journal is not this chain's.
    #[error(transparent)]
    Replay(#[from] ReplayError),
}

/// Why no slot was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The journal can't be written. No further slot is made.
    #[error("the journal can't be written, so the node has stopped making slots: {0}")]
    Journal(#[from] io::Error),
    /// The node stopped earlier because its journal could not be written.
    #[error("the node has stopped making slots because its journal could not be written")]
    Stopped,
    /// The engine refused the node's own record.
    #[error(transparent)]
    Record(#[from] ReplayError),
}

/// A reorganisation that would replace what is final, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "can't replace {depth} blocks: the ones below the newest {most} are final or may be so somewhere; ask for fewer"
)]
pub struct TooDeep {
    /// How many were to be replaced.
    pub depth: u64,
    /// How many can be.
    pub most: u64,
}

/// Why the newest blocks are not replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReorgError {
    /// It would go too deep.
    #[error(transparent)]
    TooDeep(#[from] TooDeep),
    /// The branch can't be made.
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

impl Validator {
    /// Restores the chain from the journal at `path`, or begins it.
    ///
    /// # Errors
    /// Where the journal can't be used or is another chain's.
    pub(super) fn restore(path: Option<&Path>, seat: Seat<Message>, rules: Rules) -> Result<Self, RestoreError> {
        let (mut journal, mut records) = Journal::open(path)?;
        if records.is_empty() {
            let millis = seat.origin.unwrap_or_else(|| seat.clock.unix_millis());
            let genesis = Record::Genesis { hash: genesis::genesis_hash().to_string(), millis };
            journal.append(&genesis)?;
            records.push(genesis);
        }
        let settling = Settling { depth: rules.depth, votes: seat.size > 1 };
        let mut records = records.iter();
        let mut engine = Engine::new(records.next().ok_or(ReplayError::Genesis)?, settling)?;
        let (mut rooted, mut refused) = (0, Vec::new());
        for record in records {
            engine.apply(record)?;
            match record {
                Record::Settled { rooted: slot, .. } => rooted = *slot,
                Record::Refused { slot, hash } => {
                    refused.extend(hash.parse().ok().map(|hash| BlockId { slot: *slot, hash }));
                }
                _ => {}
            }
        }
        engine.pass_all();
        engine.show_sysvars();
        let consensus = settling.votes.then(|| agree::resume(&engine, &seat, rules.depth, rooted, refused));
        let seed = seat.gate.as_ref().map(|gate| gate.faults.seed()).unwrap_or_default();
        Ok(Self {
            tidied: engine.ledger().height(),
            engine,
            journal,
            consensus,
            queue: Queue::default(),
            seat,
            rules,
            skips: seed.stream("skipped/solana"),
            settled: (rooted, 0),
            faucet_count: 0,
            news: watch::Sender::new(()),
            failed: false,
        })
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) const fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub(super) const fn consensus(&self) -> Option<&Consensus> {
        self.consensus.as_ref()
    }

    /// Tells of changes from here on.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The node's place.
    pub(super) const fn index(&self) -> NodeIndex {
        self.seat.id.index
    }

    /// How many nodes the chain has.
    pub(super) const fn size(&self) -> u16 {
        self.seat.size
    }

    /// Whether slots can still be made.
    pub(super) const fn is_healthy(&self) -> bool {
        !self.failed
    }

    /// Shows the state as it was `behind` blocks ago, under what holds at the node.
    pub(super) fn look(&mut self, behind: u32) {
        let conditions = self.seat.conditions();
        self.engine.set_view(View {
            behind: u64::from(behind),
            expired: conditions.expired_blockhashes,
            fee_floor: conditions.fee_floor.unwrap_or(0),
        });
    }

    /// Shows the state as it is.
    pub(super) fn look_up(&mut self) {
        self.engine.set_view(View::default());
    }

    /// Queues a transaction for the next slots and forwards it. One that waits already is not queued again. Where it is `retried`, it
    /// is sent again should its block lose.
    ///
    /// # Errors
    /// Where too many are waiting.
    pub(super) fn submit(&mut self, transaction: VersionedTransaction, retried: bool) -> Result<Signature, QueueFull> {
        let wired = Arc::new(Wired::new(transaction));
        if retried {
            self.queue.remember(&wired);
        }
        if self.queue.add(&wired)? {
            self.spread(&Gossip::Transaction(Arc::clone(&wired)), None);
        }
        Ok(wired.signature())
    }

    /// Takes a transaction that a peer has forwarded, and forwards it.
    pub(super) fn relay(&mut self, wired: &Arc<Wired>, from: NodeIndex) {
        if self.engine.ledger().transaction(&wired.signature()).is_none() && self.queue.add(wired) == Ok(true) {
            self.spread(&Gossip::Transaction(Arc::clone(wired)), Some(from));
        }
    }

    /// Forgets what waits. Returns how many transactions that were.
    pub(super) fn evict(&mut self) -> usize {
        self.queue.clear()
    }

    /// Makes the next slot, with what is queued.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(super) fn produce(&mut self) -> Result<Slot, ProduceError> {
        if self.leads() {
            return self.mine(1);
        }
        let interval = self.rules.interval.unwrap_or_default();
        let slots = RUN_MILLIS.checked_div(interval).unwrap_or(1).max(1);
        let tip = self.produce_within(slots, interval)?;
        self.engine.show_sysvars();
        Ok(tip)
    }

    /// Makes `slots` slots at once.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(super) fn mine(&mut self, slots: u32) -> Result<Slot, ProduceError> {
        if self.leads() {
            let mut blocks = Vec::new();
            for _ in 0..slots {
                let candidates = self.candidates();
                blocks.push(self.lead(candidates)?);
            }
            self.announce(blocks)?;
            return Ok(self.engine.ledger().tip());
        }
        let mut left = u64::from(slots);
        if left > 0 && self.queue.is_empty() {
            // The run under way is timed by the interval, which these slots do not wait for.
            self.begin_run(left, 0)?;
        }
        while left > 0 {
            self.produce_within(left, 0)?;
            left = left.saturating_sub(1);
        }
        self.engine.show_sysvars();
        Ok(self.engine.ledger().tip())
    }

    /// Makes so many empty blocks that every blockhash so far is too old.
    ///
    /// # Errors
    /// Where the journal can't be written.
    pub(super) fn expire_blockhashes(&mut self) -> Result<Slot, ProduceError> {
        let blocks = MAX_AGE.saturating_add(1);
        if self.leads() {
            let made = (0..blocks).map(|_| self.lead(Vec::new())).collect::<Result<_, _>>()?;
            self.announce(made)?;
        } else {
            self.begin_run(blocks, 0)?;
            self.engine.pass_all();
            self.tidy();
        }
        self.engine.show_sysvars();
        Ok(self.engine.ledger().tip())
    }

    /// Replaces the newest `depth` blocks by a branch that is one longer and holds nobody's transactions. Returns its blocks.
    ///
    /// # Errors
    /// Where that would replace what may be final, or the journal can't be written.
    pub(super) fn reorganize(&mut self, depth: u32) -> Result<Vec<BlockId>, ReorgError> {
        let depth = u64::from(depth);
        let ledger = self.engine.ledger();
        let height = ledger.height();
        let open = height.saturating_sub(self.engine.finalized_height());
        let most = self.consensus.as_ref().map_or(open, |consensus| consensus.most_refused().min(open));
        let first = height.checked_sub(depth).and_then(|fork| ledger.at(fork.checked_add(1)?)).map(|info| info.id());
        let first = first.filter(|_| depth <= most).ok_or(TooDeep { depth, most })?;
        if let Some(consensus) = &mut self.consensus {
            if !consensus.refuse(first) {
                return Err(TooDeep { depth, most }.into());
            }
            self.write(&Record::Refused { slot: first.slot, hash: first.hash.to_string() })?;
        }
        let fork = self.engine.ledger().slot_at(height.saturating_sub(depth));
        let lost = self.back_to(fork)?;
        let mut branch = Vec::new();
        for _ in 0..=depth {
            branch.push(self.lead(Vec::new())?);
        }
        let ids = branch.iter().map(|block| block.id).collect();
        self.say_votes(None);
        self.announce(branch)?;
        self.queue_again(&lost);
        self.engine.show_sysvars();
        Ok(ids)
    }

    /// Gives the journal back. A connection may hold the node a little longer, but no further slot is made.
    pub(crate) fn close(&mut self) {
        self.journal.close();
        self.failed = true;
    }

    /// Whether each block is made by itself: of several nodes one leads, and a node that is alone may skip slots.
    fn leads(&self) -> bool {
        self.consensus.is_some() || self.rules.skipped != Probability::NEVER
    }

    /// What may go into the next block, taken out of the queue.
    fn candidates(&mut self) -> Vec<Arc<Wired>> {
        let conditions = self.seat.conditions();
        if conditions.full_blocks || self.queue.is_empty() {
            return Vec::new();
        }
        self.look(0);
        let (engine, floor) = (&self.engine, conditions.fee_floor.unwrap_or(0));
        let tip = engine.ledger().tip();
        let candidates = self.queue.take(MAX_PER_SLOT, |wired| {
            let message = &wired.transaction.message;
            let due = !conditions.expired_blockhashes || engine.check_age(message, tip).is_ok();
            due && (floor == 0 || unit_price(message) >= floor)
        });
        self.look_up();
        candidates
    }

    /// Makes the next block, with those of `candidates` that it may include.
    fn lead(&mut self, candidates: Vec<Arc<Wired>>) -> Result<Arc<Block>, ProduceError> {
        let (slot, millis) = (self.slot_to_lead(), self.seat.clock.unix_millis());
        let leader = (self.seat.size > 1).then_some(self.seat.id.index);
        self.write(&Record::Linked { slot, leader, millis, transactions: wires(&candidates) })?;
        let block = Arc::new(self.engine.execute_block(slot, leader, millis, &candidates));
        if let Some(consensus) = &mut self.consensus {
            consensus.add(Arc::clone(&block));
            consensus.follow(block.id.hash);
        }
        self.tidy();
        Ok(block)
    }

    /// The next slot that is not skipped. Slots go on from the newest that was ever seen, on whatever branch.
    fn slot_to_lead(&self) -> Slot {
        let heard = self.consensus.as_ref().map_or(0, Consensus::newest_slot);
        let next = heard.max(self.engine.newest_slot()).saturating_add(1);
        let skipped = |slot: &Slot| self.skips.draw(*slot).happens(self.rules.skipped);
        let last = next.saturating_add(MAX_SKIPPED);
        (next..last).find(|slot| !skipped(slot)).unwrap_or(last)
    }

    /// Tells the others blocks that were made here, and settles what follows from them.
    fn announce(&mut self, mut blocks: Vec<Arc<Block>>) -> Result<(), ProduceError> {
        let news = match blocks.pop() {
            Some(only) if blocks.is_empty() => Gossip::Block(only),
            Some(last) => {
                blocks.push(last);
                Gossip::Blocks(blocks)
            }
            None => return Ok(()),
        };
        self.spread(&news, None);
        self.settle()
    }

    /// Takes all blocks after a slot back. Returns what was in them.
    fn back_to(&mut self, slot: Slot) -> Result<Vec<Arc<Executed>>, ProduceError> {
        self.write(&Record::Back { slot })?;
        let mut lost = Vec::new();
        while self.engine.ledger().tip() > slot {
            lost.push(self.engine.take_back());
        }
        // Oldest first again.
        lost.reverse();
        Ok(lost.into_iter().flatten().collect())
    }

    /// Tells that something has changed, and forgets transactions that were remembered for another try and need none.
    fn tidy(&mut self) {
        self.news.send_replace(());
        let height = self.engine.ledger().height();
        if height.abs_diff(self.tidied) < TIDY_BLOCKS {
            return;
        }
        self.tidied = height;
        let (engine, finalized) = (&self.engine, self.engine.finalized());
        let ledger = engine.ledger();
        self.queue.retain(|wired| match ledger.transaction(&wired.signature()) {
            Some(executed) => executed.slot > finalized,
            None => engine.check_age(&wired.transaction.message, ledger.tip()).is_ok(),
        });
    }

    /// Makes the next slot of a node that is alone. If it is empty and no run covers it, a run of `slots` is recorded.
    fn produce_within(&mut self, slots: u64, interval: u64) -> Result<Slot, ProduceError> {
        let candidates = self.candidates();
        if candidates.is_empty() {
            if !self.engine.pass_empty() {
                self.begin_run(slots, interval)?;
                self.engine.pass_empty();
            }
        } else {
            let (slot, millis) = (self.engine.next_slot(), self.seat.clock.unix_millis());
            self.write(&Record::Block { slot, millis, transactions: wires(&candidates) })?;
            self.engine.execute_block(slot, None, millis, &candidates);
        }
        self.tidy();
        Ok(self.engine.ledger().tip())
    }

    fn begin_run(&mut self, slots: u64, interval: u64) -> Result<(), ProduceError> {
        let (slot, millis) = (self.engine.next_slot(), self.seat.clock.unix_millis());
        let run = Record::Empty { slot, slots, millis, interval };
        self.write(&run)?;
        self.engine.apply(&run)?;
        Ok(())
    }

    fn spread(&self, message: &Message, except: Option<NodeIndex>) {
        if let Some(endpoint) = &self.seat.endpoint {
            endpoint.spread(message, except);
        }
    }

    /// Writes a record. Its effect may be shown then.
    fn write(&mut self, record: &Record) -> Result<(), ProduceError> {
        if self.failed {
            return Err(ProduceError::Stopped);
        }
        self.failed = true;
        self.journal.append(record)?;
        self.failed = false;
        Ok(())
    }
}

fn wires(transactions: &[Arc<Wired>]) -> Vec<String> {
    transactions.iter().map(|wired| wired.wire.clone()).collect()
}

#[cfg(test)]
mod tests;
