//! The engine where it meets the world: a lock, the journal, the clock, the other nodes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use alloy::primitives::{Address, B256, U256};
use tokio::sync::watch;

use super::block::{Block, Transaction};
use super::chain::Step;
use super::engine::{Engine, Order, Refusal, Role};
use super::faucet::{Coin, Terms};
use super::filter::Filters;
use super::finality::Vote;
use super::gossip::{Message, Said};
use super::mempool::{Entry, TxError};
use super::record::{Genesis, Record, ReplayError};
use super::{ControlError, StartError};
use super::{fees, mempool};
use crate::cluster::Seat;
use crate::journal::Journal;
use crate::network::{Endpoint, Gossip};
use crate::topology::NodeIndex;

/// The name of the journal in the node's folder.
const JOURNAL: &str = "ethereum.journal";
/// How many blocks the faucet's transaction is given to get in.
const FAUCET_PATIENCE: u32 = 4;

/// A node without its server.
#[derive(Debug)]
pub(crate) struct Host {
    engine: RwLock<Engine>,
    journal: Mutex<Journal<Record>>,
    filters: Mutex<Filters>,
    role: Role,
    genesis: Genesis,
    seat: Seat<Message>,
    /// How far the chain's time was moved ahead of the clock, in seconds.
    ahead: AtomicU64,
    /// Changes with the engine, for those who wait for it.
    news: watch::Sender<()>,
}

impl Host {
    /// Opens the chain in `dir`, or starts one.
    ///
    /// # Errors
    /// Where the journal can't be opened, written or replayed.
    pub(crate) fn open(
        dir: Option<&Path>,
        chain_id: u64,
        finality_depth: u64,
        seat: Seat<Message>,
    ) -> Result<Self, StartError> {
        let role = Role { chain_id, finality_depth, node: seat.id.index, size: seat.size };
        let path = dir.map(|dir| dir.join(JOURNAL));
        let (mut journal, records) = Journal::open(path.as_deref())?;
        let joined = seat.origin.map(|origin| Genesis::join(chain_id, origin));
        let (genesis, engine) = match records.first() {
            Some(Record::Genesis(genesis)) => {
                if joined.is_some_and(|joined| joined != *genesis) {
                    return Err(ReplayError::Origin.into());
                }
                (*genesis, Engine::replay(records, role)?)
            }
            Some(_) => return Err(ReplayError::Order.into()),
            None => {
                let first = Genesis { chain_id, timestamp: seat.clock.unix_seconds(), faucets: seat.size };
                let genesis = joined.unwrap_or(first);
                journal.append(&Record::Genesis(genesis))?;
                (genesis, Engine::new(genesis, role))
            }
        };
        Ok(Self {
            engine: RwLock::new(engine),
            journal: Mutex::new(journal),
            filters: Mutex::default(),
            role,
            genesis,
            seat,
            ahead: AtomicU64::new(0),
            news: watch::Sender::new(()),
        })
    }

    /// Gives the journal back. A connection may hold the node a little longer, but it changes nothing any more.
    pub(crate) fn close(&self) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// The engine, for reading.
    ///
    /// # Errors
    /// Where a change was broken off.
    pub(crate) fn engine(&self) -> Result<RwLockReadGuard<'_, Engine>, ControlError> {
        self.engine.read().map_err(|_| ControlError::Stopped)
    }

    /// The clients' filters.
    pub(crate) fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the node is on its chain.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// What the chain began with.
    pub(crate) fn genesis(&self) -> Genesis {
        self.genesis
    }

    /// The node's place in its world.
    pub(crate) fn seat(&self) -> &Seat<Message> {
        &self.seat
    }

    /// Tells of changes of the engine from here on.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// The chain's time in Unix seconds.
    pub(crate) fn seconds(&self) -> u64 {
        self.seat.clock.unix_seconds().saturating_add(self.ahead.load(Ordering::SeqCst))
    }

    /// The clock's time in Unix milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        self.seat.clock.unix_millis()
    }

    /// The least base fee of the moment, in wei per gas.
    pub(crate) fn least_fee(&self) -> Option<u64> {
        self.seat.conditions().fee_floor
    }

    /// The nodes that can be reached.
    pub(crate) fn peers(&self) -> Vec<NodeIndex> {
        self.seat.endpoint.as_ref().map(Endpoint::peers).unwrap_or_default()
    }

    /// Moves the chain's time ahead of the clock. Returns by how much it is ahead, in seconds.
    pub(crate) fn move_ahead(&self, seconds: u64) -> u64 {
        // The closure always returns a value, so the update can't fail.
        let _ =
            self.ahead.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |ahead| Some(ahead.saturating_add(seconds)));
        self.ahead.load(Ordering::SeqCst)
    }

    /// Changes the engine, and votes for what has come of it. The records of the change are in the journal before anybody can see it.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Engine, &mut Vec<Record>) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut engine = self.engine.write().map_err(|_| ControlError::Stopped)?;
        if self.seat.shutdown.is_cancelled() {
            return Err(ControlError::Stopped);
        }
        let mut records = Vec::new();
        let result = change(&mut engine, &mut records);
        let vote = engine.cast();
        let returned = engine.take_returned();
        records.extend(vote.map(Record::Vote));
        let mut journal = self.journal.lock().map_err(|_| ControlError::Stopped)?;
        for record in &records {
            if let Err(error) = journal.append(record) {
                tracing::error!(%error, "the journal can't be written; the node stops");
                self.seat.shutdown.cancel();
                return Err(ControlError::Stopped);
            }
        }
        drop(journal);
        drop(engine);
        self.news.send_replace(());
        if let Some(vote) = vote {
            self.spread(Gossip::Vote(vote), None);
        }
        for tx in returned {
            self.spread(Gossip::Transaction(tx), None);
        }
        result
    }

    fn spread(&self, said: Said, except: Option<NodeIndex>) {
        if let Some(endpoint) = &self.seat.endpoint {
            endpoint.spread(&Message(said), except);
        }
    }

    /// Takes a transaction into the mempool.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn submit(&self, raw: &[u8]) -> Result<B256, ControlError> {
        // The signature is recovered before the lock is taken.
        let tx = self.read(raw)?;
        self.relay(&Arc::new(tx), None)
    }

    /// Reads a transaction as a client sends it.
    ///
    /// # Errors
    /// geth's reason for refusing it in any state.
    pub(crate) fn read(&self, raw: &[u8]) -> Result<Transaction, TxError> {
        let tx = mempool::decode(raw, self.role.chain_id)?;
        mempool::check_fee_cap(&tx)?;
        Ok(tx)
    }

    /// Takes a transaction into the mempool and tells it to all nodes but the one that it is from.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn relay(&self, tx: &Arc<Transaction>, from: Option<NodeIndex>) -> Result<B256, ControlError> {
        let entry = if self.seat.conditions().pinned { Entry::Pinned } else { Entry::News };
        let hash = self.change(|engine, records| add(engine, records, Arc::clone(tx), entry))?;
        self.spread(Gossip::Transaction(Arc::clone(tx)), from);
        Ok(hash)
    }

    /// A block by the rules of the moment, at Unix time `at`.
    fn order(&self, at: u64) -> Order {
        let conditions = self.seat.conditions();
        Order { least_fee: conditions.fee_floor, crowded: conditions.full_blocks, ..Order::at(at) }
    }

    /// Makes one block, at Unix time `at` or at the chain's time.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn seal(&self, at: Option<u64>) -> Result<Arc<Block>, ControlError> {
        let order = self.order(at.unwrap_or_else(|| self.seconds()));
        self.seal_as(order)
    }

    fn seal_as(&self, order: Order) -> Result<Arc<Block>, ControlError> {
        let block = self.change(|engine, records| {
            records.push(engine.seal(order));
            Ok(Arc::clone(engine.chain().head()))
        })?;
        self.spread(Gossip::Block(Arc::clone(&block)), None);
        Ok(block)
    }

    /// Makes several blocks.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn mine(&self, blocks: u32) -> Result<Vec<B256>, ControlError> {
        (0..blocks).map(|_| self.seal(None).map(|block| block.hash())).collect()
    }

    /// Replaces the newest `depth` blocks by a branch that is one longer.
    ///
    /// # Errors
    /// Where one of them can't be taken back any more, or the node has stopped.
    pub(crate) fn reorganize(&self, depth: u32) -> Result<Vec<B256>, ControlError> {
        let at = self.seconds();
        let branch = self.change(|engine, records| {
            records.extend(engine.reorganize(depth, at)?);
            let first = engine.chain().head().header.number.saturating_sub(depth.into());
            let made = usize::try_from(first).unwrap_or(usize::MAX);
            Ok(engine.chain().active().iter().skip(made).cloned().collect::<Vec<_>>())
        })?;
        let hashes = branch.iter().map(|block| block.hash()).collect();
        self.spread(Gossip::Blocks(branch), None);
        Ok(hashes)
    }

    /// Empties the mempool. Returns how many transactions were in it.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn evict(&self) -> Result<usize, ControlError> {
        self.change(|engine, records| {
            records.push(Record::Evicted);
            Ok(engine.evict())
        })
    }

    /// Sets a balance in a block of its own.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn set_balance(&self, address: Address, wei: U256) -> Result<(), ControlError> {
        let order = Order { balances: vec![(address, wei)], ..self.order(self.seconds()) };
        self.seal_as(order).map(drop)
    }

    /// Lets the faucet pay, and makes the block that the payment is in. Returns the transaction's hash.
    ///
    /// # Errors
    /// Where the payment isn't possible.
    pub(crate) fn fund(&self, to: Address, amount: U256, coin: Coin) -> Result<B256, ControlError> {
        let faucet = self.genesis.faucet(self.role.node);
        let order = self.order(self.seconds());
        let mut said = Vec::new();
        let result = self.change(|engine, records| {
            let sight = engine.sight(0, order.least_fee);
            if let Coin::Token(token) = coin
                && sight.latest().code(token).is_empty()
            {
                return Err(ControlError::NoContract(token));
            }
            let terms = Terms {
                chain_id: self.role.chain_id,
                nonce: sight.next_nonce(faucet.address()),
                base_fee: sight.next_base_fee(),
                tip: fees::suggested_tip(sight),
            };
            let tx = Arc::new(faucet.pay(to, amount, coin, terms));
            let hash = add(engine, records, Arc::clone(&tx), Entry::News)?;
            said.push(Gossip::Transaction(tx));
            for _ in 0..FAUCET_PATIENCE {
                records.push(engine.seal(order.clone()));
                said.push(Gossip::Block(Arc::clone(engine.chain().head())));
                let Some((block, index)) = engine.sight(0, None).find(hash) else { continue };
                let paid = block.outcomes.get(index).is_some_and(|outcome| outcome.receipt.status());
                return if paid { Ok(hash) } else { Err(ControlError::Reverted(hash)) };
            }
            Err(ControlError::NotMined(hash))
        });
        for said in said {
            self.spread(said, None);
        }
        result
    }

    /// Takes blocks that another node has told, oldest first, as far as they are valid and follow on what is known.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn import(&self, blocks: &[Arc<Block>], from: NodeIndex) -> Result<(), ControlError> {
        let before = self.engine()?.chain().stepped();
        for block in blocks {
            // Others may read while the block is executed.
            let checked = self.engine()?.check(block);
            match checked {
                Ok(executed) => self.change(|engine, records| {
                    records.extend(engine.accept(executed));
                    Ok(())
                })?,
                Err(Refusal::Known) => {}
                Err(Refusal::Orphan) => break,
                Err(refusal) => {
                    tracing::warn!(node = %self.seat.id, %from, %refusal, "a peer's block is refused");
                    break;
                }
            }
        }
        let newest = {
            let engine = self.engine()?;
            let last = engine.chain().steps_after(before).last();
            last.filter(|step: &&Step| !step.removed).map(|step| Arc::clone(&step.block))
        };
        if let Some(newest) = newest {
            self.spread(Gossip::Block(newest), Some(from));
        }
        Ok(())
    }

    /// Counts a vote that another node has told, and tells it on.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn hear(&self, vote: Vote, from: NodeIndex) -> Result<(), ControlError> {
        if !self.engine()?.finality().is_news(&vote) {
            return Ok(());
        }
        let news = self.change(|engine, records| {
            let record = engine.hear(vote);
            let news = record.is_some();
            records.extend(record);
            Ok(news)
        })?;
        if news {
            self.spread(Gossip::Vote(vote), Some(from));
        }
        Ok(())
    }
}

fn add(
    engine: &mut Engine,
    records: &mut Vec<Record>,
    tx: Arc<Transaction>,
    entry: Entry,
) -> Result<B256, ControlError> {
    let (hash, record) = engine.add(tx, entry)?;
    records.push(record);
    Ok(hash)
}
