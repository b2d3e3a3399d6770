//! The engine where it meets the world: a lock, the journal, the clock.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use alloy::primitives::{Address, B256, U256};
use tokio_util::sync::CancellationToken;

use super::block::Transaction;
use super::engine::{Engine, Genesis, Record};
use super::faucet::{Coin, Faucet, Terms};
use super::filter::Filters;
use super::{ControlError, StartError};
use super::{fees, mempool};
use crate::clock::Clock;
use crate::journal::Journal;

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
    clock: Arc<dyn Clock>,
    /// How far the chain's time was moved ahead of the clock, in seconds.
    ahead: AtomicU64,
    shutdown: CancellationToken,
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
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let path = dir.map(|dir| dir.join(JOURNAL));
        let (mut journal, records) = Journal::open(path.as_deref())?;
        let engine = if records.is_empty() {
            let genesis = Genesis { chain_id, timestamp: clock.unix_seconds() };
            journal.append(&Record::Genesis(genesis))?;
            Engine::new(genesis, finality_depth)
        } else {
            Engine::replay(records, chain_id, finality_depth)?
        };
        Ok(Self {
            engine: RwLock::new(engine),
            journal: Mutex::new(journal),
            filters: Mutex::default(),
            clock,
            ahead: AtomicU64::new(0),
            shutdown,
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

    /// The chain's time in Unix seconds.
    pub(crate) fn seconds(&self) -> u64 {
        self.clock.unix_seconds().saturating_add(self.ahead.load(Ordering::SeqCst))
    }

    /// The clock's time in Unix milliseconds.
    pub(crate) fn millis(&self) -> u64 {
        self.clock.unix_millis()
    }

    /// Moves the chain's time ahead of the clock. Returns by how much it is ahead, in seconds.
    pub(crate) fn move_ahead(&self, seconds: u64) -> u64 {
        // The closure always returns a value, so the update can't fail.
        let _ =
            self.ahead.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |ahead| Some(ahead.saturating_add(seconds)));
        self.ahead.load(Ordering::SeqCst)
    }

    /// Changes the engine. The records of the change are in the journal before anybody can see it.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Engine, &mut Vec<Record>) -> Result<T, ControlError>,
    ) -> Result<T, ControlError> {
        let mut engine = self.engine.write().map_err(|_| ControlError::Stopped)?;
        if self.shutdown.is_cancelled() {
            return Err(ControlError::Stopped);
        }
        let mut records = Vec::new();
        let result = change(&mut engine, &mut records);
        let mut journal = self.journal.lock().map_err(|_| ControlError::Stopped)?;
        for record in &records {
            if let Err(error) = journal.append(record) {
                tracing::error!(%error, "the journal can't be written; the node stops");
                self.shutdown.cancel();
                return Err(ControlError::Stopped);
            }
        }
        result
    }

    /// Takes a transaction into the mempool.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn submit(&self, raw: &[u8]) -> Result<B256, ControlError> {
        // The signature is recovered before the lock is taken.
        let tx = mempool::decode(raw, self.engine()?.chain_id())?;
        mempool::check_fee_cap(&tx)?;
        self.change(|engine, records| add(engine, records, tx))
    }

    /// Makes one block, at Unix time `at` or at the chain's time. Returns its number.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn seal(&self, at: Option<u64>) -> Result<u64, ControlError> {
        let at = at.unwrap_or_else(|| self.seconds());
        self.change(|engine, records| {
            records.push(engine.seal(at, Vec::new()));
            Ok(engine.head().header.number)
        })
    }

    /// Makes several blocks. Returns the number of the last one.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn mine(&self, blocks: u32) -> Result<u64, ControlError> {
        for _ in 0..blocks {
            self.seal(None)?;
        }
        Ok(self.engine()?.head().header.number)
    }

    /// Sets a balance in a block of its own.
    ///
    /// # Errors
    /// Where the node has stopped.
    pub(crate) fn set_balance(&self, address: Address, wei: U256) -> Result<(), ControlError> {
        let at = self.seconds();
        self.change(|engine, records| {
            records.push(engine.seal(at, vec![(address, wei)]));
            Ok(())
        })
    }

    /// Lets the faucet pay, and makes the block that the payment is in. Returns the transaction's hash.
    ///
    /// # Errors
    /// Where the payment isn't possible.
    pub(crate) fn fund(&self, to: Address, amount: U256, coin: Coin) -> Result<B256, ControlError> {
        let (faucet, at) = (Faucet::new(), self.seconds());
        self.change(|engine, records| {
            if let Coin::Token(token) = coin
                && engine.latest().code(token).is_empty()
            {
                return Err(ControlError::NoContract(token));
            }
            let nonce = engine.pool().next_nonce(faucet.address(), engine.latest().nonce(faucet.address()));
            let terms = Terms {
                chain_id: engine.chain_id(),
                nonce,
                base_fee: engine.next_base_fee(),
                tip: fees::suggested_tip(engine),
            };
            let tx = faucet.pay(to, amount, coin, terms);
            let hash = add(engine, records, tx)?;
            for _ in 0..FAUCET_PATIENCE {
                records.push(engine.seal(at, Vec::new()));
                let Some((block, index)) = engine.find(hash) else { continue };
                let paid = block.outcomes.get(index).is_some_and(|outcome| outcome.receipt.status());
                return if paid { Ok(hash) } else { Err(ControlError::Reverted(hash)) };
            }
            Err(ControlError::NotMined(hash))
        })
    }
}

fn add(engine: &mut Engine, records: &mut Vec<Record>, tx: Transaction) -> Result<B256, ControlError> {
    let (hash, record) = engine.add(tx)?;
    records.push(record);
    Ok(hash)
}
