//! The node as a deterministic state machine: block tree, coins and mempool as the fold of a journal's records.
//!
//! Every change goes through three steps: it is checked against the state, its [`Record`] is written, it is made. Nothing here reads
//! a clock, draws a random number or does I/O.

use std::sync::Arc;

use bitcoin::consensus::encode::{Decodable, Encodable, deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, Script, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::block::{self, Plan};
use super::chain::{Chain, Change, Tip, UnknownBlock};
use super::mempool::{Candidate, Capacity, Mempool, Mode};
use super::policy::{Policy, fee_at};
use super::reject::Reject;
use super::rules::{MAX_BLOCK_SIGOPS_COST, MAX_BLOCK_WEIGHT, subsidy};

/// What a template leaves for the header and the coinbase, in weight units.
const RESERVED_WEIGHT: u64 = 4_000;
/// What a template leaves for the coinbase, in the cost of signature operations.
const RESERVED_SIGOPS: u64 = 400;

/// One change of the engine's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A transaction entered the mempool at `time` (seconds since the Unix epoch).
    Transaction {
        /// The transaction.
        raw: Raw<Transaction>,
        /// When it entered.
        time: u64,
    },
    /// A block was mined on the tip.
    Mined(Mined),
    /// A block came from outside.
    Block {
        /// The block.
        raw: Raw<Block>,
    },
    /// A block was refused by command.
    Invalidated {
        /// Its hash.
        hash: BlockHash,
    },
    /// A block's refusal was taken back.
    Reconsidered {
        /// Its hash.
        hash: BlockHash,
    },
    /// The mempool was emptied.
    Evicted,
}

/// A mined block, as far as it doesn't follow from the state it was mined in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mined {
    /// The block's time, in seconds since the Unix epoch.
    time: u32,
    /// What the coinbase pays, in satoshis.
    reward: u64,
    /// Who it pays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    to: Option<ScriptBuf>,
    /// Tells apart what several nodes mine on one tip.
    #[serde(skip_serializing_if = "is_zero", default)]
    salt: u64,
    /// The block's other transactions.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    transactions: Vec<Raw<Transaction>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A value in consensus encoding, written as hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw<T>(pub T);

impl<T: Encodable> Serialize for Raw<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serialize_hex(&self.0))
    }
}

impl<'de, T: Decodable> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        deserialize_hex(&hex).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A record that doesn't fit the state it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A transaction or a block isn't valid there.
    #[error("{0}")]
    Rejected(Reject),
    /// A block to refuse or to reconsider isn't there.
    #[error(transparent)]
    UnknownBlock(#[from] UnknownBlock),
}

/// The node's state.
#[derive(Clone, Debug)]
pub struct Engine {
    chain: Chain,
    mempool: Mempool,
    policy: Policy,
    /// Who mined blocks pay by default.
    miner: ScriptBuf,
    /// Goes into the coinbases of mined blocks.
    salt: u64,
    /// The least fee rate that gets in, in satoshis per 1000 virtual bytes, where it is above the policy's.
    fee_floor: Option<u64>,
}

impl Engine {
    /// A node with nothing but the genesis block, whose mined blocks pay `miner`.
    pub fn new(policy: Policy, miner: ScriptBuf) -> Self {
        let (chain, mempool) = (Chain::default(), Mempool::default());
        Self { chain, mempool, policy, miner, salt: 0, fee_floor: None }
    }

    /// Makes the blocks that are mined from here on differ from those of engines with another salt.
    pub fn set_salt(&mut self, salt: u64) {
        self.salt = salt;
    }

    /// Sets the least fee rate that gets into the mempool and into mined blocks, in satoshis per 1000 virtual bytes, where it is to be
    /// above the policy's. It is no part of what is replayed.
    pub fn set_fee_floor(&mut self, rate: Option<u64>) {
        self.fee_floor = rate;
    }

    /// Whether a fee floor above the policy's is in force.
    pub fn is_dear(&self) -> bool {
        self.fee_floor.is_some()
    }

    /// The least fee rate that gets in, in satoshis per 1000 virtual bytes.
    pub fn min_fee_rate(&self) -> u64 {
        self.fee_floor.map_or(self.policy.min_relay_fee, |floor| floor.max(self.policy.min_relay_fee))
    }

    /// The blocks and coins.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The transactions that wait for a block.
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// What is relayed.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The ends of all branches, highest first.
    pub fn tips(&self) -> Vec<Tip> {
        self.chain.tips()
    }

    /// Checks whether a transaction may enter the mempool at `time`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Core's reason.
    pub fn check(&self, tx: Arc<Transaction>, time: u64) -> Result<Candidate, Reject> {
        self.check_in(&self.mempool, tx, time)
    }

    /// Checks whether a transaction may enter `pool`, under the fee floor of the moment.
    fn check_in(&self, pool: &Mempool, tx: Arc<Transaction>, time: u64) -> Result<Candidate, Reject> {
        let candidate = pool.check(tx, &self.chain, &self.policy, time, Mode::Relay)?;
        let least = fee_at(self.min_fee_rate(), candidate.entry.vsize);
        if candidate.entry.fee < least {
            let detail = format!("{} < {least}", candidate.entry.fee);
            return Err(Reject::with("mempool min fee not met", detail));
        }
        Ok(candidate)
    }

    /// Checks several transactions, each as if those before it that pass had entered. Nothing enters.
    pub fn check_all(&self, transactions: Vec<Arc<Transaction>>, time: u64) -> Vec<Result<Candidate, Reject>> {
        let mut pool = self.mempool.clone();
        let mut results = Vec::with_capacity(transactions.len());
        for tx in transactions {
            let result = self.check_in(&pool, tx, time);
            if let Ok(candidate) = &result {
                pool.insert(candidate.clone());
            }
            results.push(result);
        }
        results
    }

    /// Takes in a transaction that [`Self::check`] passed in this very state.
    pub fn enter(&mut self, candidate: Candidate) {
        self.mempool.insert(candidate);
    }

    /// Plans a block on the tip from the mempool, `wanted` first. `to` is who it pays (by default the node's miner), `now` the clock's
    /// time in seconds since the Unix epoch.
    pub fn plan(&self, to: Option<ScriptBuf>, now: u64, wanted: Option<&Txid>) -> Mined {
        let capacity = Capacity {
            weight: MAX_BLOCK_WEIGHT - RESERVED_WEIGHT,
            sigops: MAX_BLOCK_SIGOPS_COST - RESERVED_SIGOPS,
            min_rate: self.fee_floor.unwrap_or(0),
        };
        let selection = self.mempool.select(capacity, wanted);
        let transactions = selection.transactions.iter().map(|tx| Raw(Transaction::clone(tx))).collect();
        let reward = subsidy(self.chain.next_height()).saturating_add(selection.fees);
        Mined { time: self.block_time(now), reward, to, salt: self.salt, transactions }
    }

    /// Plans a block on the tip of exactly these transactions. Like Core's `generateblock` it leaves their fees to nobody.
    pub fn plan_exactly(&self, to: ScriptBuf, now: u64, transactions: Vec<Transaction>) -> Mined {
        let reward = subsidy(self.chain.next_height());
        let transactions = transactions.into_iter().map(Raw).collect();
        Mined { time: self.block_time(now), reward, to: Some(to), salt: self.salt, transactions }
    }

    /// Plans a block on the tip without anyone's transactions.
    pub fn plan_empty(&self, to: Option<ScriptBuf>, now: u64) -> Mined {
        self.plan_exactly(to.unwrap_or_else(|| self.miner.clone()), now, Vec::new())
    }

    /// The state as it was `depth` blocks ago, as far as the chain goes: what has left the chain waits again.
    #[must_use]
    pub fn rewound(&self, depth: u32) -> Self {
        let mut past = self.clone();
        let change = past.chain.rewind(depth);
        past.follow(&change);
        past
    }

    /// Mines the block that was planned in this very state.
    pub fn assemble(&self, mined: &Mined) -> Block {
        let to: &Script = mined.to.as_deref().unwrap_or(&self.miner);
        let plan = Plan {
            parent: self.chain.tip().hash,
            height: self.chain.next_height(),
            time: mined.time,
            extra_nonce: self.chain.count().wrapping_add(mined.salt),
            to,
            reward: mined.reward,
        };
        block::mine(plan, mined.transactions.iter().map(|Raw(tx)| tx.clone()))
    }

    /// Checks a block that builds on the tip, without adding it.
    ///
    /// # Errors
    /// Core's reason.
    pub fn test(&self, block: &Block) -> Result<(), Reject> {
        self.chain.test(block, &|wtxid| self.mempool.has_verified(wtxid))
    }

    /// Adds a block, on the tip or elsewhere.
    ///
    /// # Errors
    /// Core's reason.
    pub fn accept(&mut self, block: Block) -> Result<Change, Reject> {
        let mempool = &self.mempool;
        let change = self.chain.accept(block, &|wtxid| mempool.has_verified(wtxid))?;
        self.follow(&change);
        Ok(change)
    }

    /// Refuses a block and all that build on it; the transactions of those that leave go back to the mempool.
    ///
    /// # Errors
    /// Where there is no such block.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Result<Change, UnknownBlock> {
        let change = self.chain.invalidate(hash)?;
        self.follow(&change);
        Ok(change)
    }

    /// Takes back a block's refusal.
    ///
    /// # Errors
    /// Where there is no such block.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<Change, UnknownBlock> {
        let change = self.chain.reconsider(hash)?;
        self.follow(&change);
        Ok(change)
    }

    /// Empties the mempool. Returns how many transactions were in it.
    pub fn evict(&mut self) -> usize {
        self.mempool.drain().len()
    }

    /// Applies a record of the journal. What was checked when it was written is taken for granted.
    ///
    /// # Errors
    /// Where the record doesn't fit: the journal is another node's, or damaged.
    pub fn replay(&mut self, record: Record) -> Result<(), ReplayError> {
        match record {
            Record::Transaction { raw: Raw(tx), time } => {
                let candidate = self
                    .mempool
                    .check(Arc::new(tx), &self.chain, &self.policy, time, Mode::Replay)
                    .map_err(ReplayError::Rejected)?;
                self.enter(candidate);
            }
            Record::Mined(mined) => {
                let block = self.assemble(&mined);
                let change = self.chain.extend(block).map_err(ReplayError::Rejected)?;
                self.follow(&change);
            }
            // A block that was refused once its branch was connected has a record too, and is refused again.
            Record::Block { raw: Raw(block) } => drop(self.accept(block)),
            Record::Invalidated { hash } => drop(self.invalidate(&hash)?),
            Record::Reconsidered { hash } => drop(self.reconsider(&hash)?),
            Record::Evicted => drop(self.evict()),
        }
        Ok(())
    }

    /// A block's time: the clock's, but after the median time past.
    fn block_time(&self, now: u64) -> u32 {
        let median = self.chain.median_time(&self.chain.tip().hash);
        u32::try_from(now).unwrap_or(u32::MAX).max(median.saturating_add(1))
    }

    /// Brings the mempool in line with the active branch.
    fn follow(&mut self, change: &Change) {
        if change.disconnected.is_empty() {
            for block in &change.connected {
                self.mempool.confirm(&block.txdata);
            }
            return;
        }
        let waiting = self.mempool.drain();
        for block in &change.disconnected {
            for tx in block.txdata.iter().skip(1) {
                self.reenter(Arc::new(tx.clone()), u64::from(block.header.time));
            }
        }
        for entry in waiting {
            self.reenter(entry.tx, entry.time);
        }
    }

    /// Takes a transaction in again after a reorganisation. One that is confirmed, conflicting or no longer final stays out.
    fn reenter(&mut self, tx: Arc<Transaction>, time: u64) {
        if let Ok(candidate) = self.mempool.check(tx, &self.chain, &self.policy, time, Mode::Reorg) {
            self.enter(candidate);
        }
    }
}
