//! The chain as a deterministic state machine: blocks, state and mempool are the fold of the [`Record`]s. No clock, no randomness,
//! no I/O of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use alloy::eips::BlockNumberOrTag;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use serde::{Deserialize, Serialize};

use super::block::{Block, Transaction, genesis_header, next_base_fee, next_header, next_timestamp};
use super::executor::{Builder, Draft, Unfit};
use super::faucet::{DEMO_TOKEN, ENDOWMENT, Faucet, demo_token_code};
use super::mempool::{self, Mempool, TxError};
use super::state::{State, Undo, View};

/// How many blocks back the state can be read, as in a geth that isn't an archive.
pub const KEPT_STATES: usize = 128;

/// One change of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first record: what the genesis block depends on.
    Genesis(Genesis),
    /// A transaction came into the mempool, in its EIP-2718 form.
    Transaction(Bytes),
    /// A block without transactions, by its Unix time.
    Empty(u64),
    /// Any other block.
    Block(Body),
}

/// What the genesis block depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Genesis {
    /// EIP-155.
    pub(crate) chain_id: u64,
    /// Unix seconds.
    pub(crate) timestamp: u64,
}

/// A block to be executed again. The roots spare the replay the walk over the whole state, the hash proves that it came out the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Body {
    timestamp: u64,
    hash: B256,
    state_root: B256,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    balances: Vec<(Address, U256)>,
    transactions: Vec<Bytes>,
}

/// Why a journal can't be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The journal doesn't start with a genesis record, or has a second one.
    #[error("the journal's records are out of order; move the file away to start a fresh chain")]
    Order,
    /// The journal is another chain's.
    #[error("the journal belongs to chain {journal}, the configuration says {config}; use another folder")]
    ChainId {
        /// The journal's chain.
        journal: u64,
        /// The configured one.
        config: u64,
    },
    /// A transaction of a block can't be executed.
    #[error("block {number} of the journal can't be executed: {reason}; move the file away to start a fresh chain")]
    Block {
        /// The block's number.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Execution gave another block: the journal was made by another version of the engine.
    #[error(
        "block {number} of the journal came out as {computed} instead of {recorded}; move the file away to start a fresh chain"
    )]
    Hash {
        /// The block's number.
        number: u64,
        /// The hash as computed.
        computed: B256,
        /// The hash as recorded.
        recorded: B256,
    },
}

/// The chain of one node.
#[derive(Debug)]
pub(crate) struct Engine {
    chain_id: u64,
    finality_depth: u64,
    blocks: Vec<Block>,
    numbers: HashMap<B256, u64>,
    /// Where each mined transaction is: the block's number and the place in it.
    mined: HashMap<B256, (u64, usize)>,
    state: State,
    /// What the newest blocks overwrote, oldest first.
    undos: VecDeque<Undo>,
    pool: Mempool,
    pending: Mutex<Option<Arc<Draft>>>,
}

impl Engine {
    /// A chain that consists of its genesis block. The finalized block is `finality_depth` blocks behind the head.
    pub(crate) fn new(genesis: Genesis, finality_depth: u64) -> Self {
        let mut state = State::default();
        // The demo token takes the address of the faucet's first contract, so the faucet's first nonce is used.
        state.allocate(Faucet::new().address(), 1, ENDOWMENT, Bytes::new());
        state.allocate(DEMO_TOKEN, 1, U256::ZERO, demo_token_code());
        let block = Block::new(genesis_header(genesis.timestamp, state.root()), Vec::new(), Vec::new());
        Self {
            chain_id: genesis.chain_id,
            finality_depth,
            numbers: HashMap::from([(block.hash(), 0)]),
            blocks: vec![block],
            mined: HashMap::new(),
            state,
            undos: VecDeque::new(),
            pool: Mempool::default(),
            pending: Mutex::new(None),
        }
    }

    /// Rebuilds a chain from what was recorded of it.
    ///
    /// # Errors
    /// Where the records are no chain, another chain, or execute differently.
    pub(crate) fn replay(records: Vec<Record>, chain_id: u64, finality_depth: u64) -> Result<Self, ReplayError> {
        let mut records = records.into_iter();
        let Some(Record::Genesis(genesis)) = records.next() else { return Err(ReplayError::Order) };
        if genesis.chain_id != chain_id {
            return Err(ReplayError::ChainId { journal: genesis.chain_id, config: chain_id });
        }
        let mut engine = Self::new(genesis, finality_depth);
        let mut waiting = Vec::new();
        for record in records {
            match record {
                Record::Genesis(_) => return Err(ReplayError::Order),
                Record::Transaction(raw) => waiting.push(raw),
                Record::Empty(timestamp) => engine.seal_empty(timestamp),
                Record::Block(body) => engine.replay_block(body)?,
            }
        }
        engine.check_root()?;
        for raw in waiting {
            // Most of them are in blocks; what was replaced or has become impossible is refused again.
            if !engine.mined.contains_key(&keccak256(&raw)) {
                let _ = mempool::decode(&raw, chain_id).and_then(|tx| engine.add(tx));
            }
        }
        Ok(engine)
    }

    fn replay_block(&mut self, body: Body) -> Result<(), ReplayError> {
        let number = self.head().header.number.saturating_add(1);
        let failed = |reason: String| ReplayError::Block { number, reason };
        let mut builder = self.builder(body.timestamp);
        for (address, wei) in body.balances {
            builder.set_balance(address, wei);
        }
        for raw in &body.transactions {
            let tx = mempool::decode(raw, self.chain_id).map_err(|e| failed(e.to_string()))?;
            builder.execute(tx).map_err(|e| failed(e.to_string()))?;
        }
        let mut draft = builder.finish();
        draft.header.state_root = body.state_root;
        self.apply_state(&draft);
        let block = Block::new(draft.header, draft.transactions, draft.outcomes);
        if block.hash() != body.hash {
            return Err(ReplayError::Hash { number, computed: block.hash(), recorded: body.hash });
        }
        self.push(block);
        Ok(())
    }

    /// The state that a replay ends with must have the root that the head claims.
    fn check_root(&mut self) -> Result<(), ReplayError> {
        let (computed, recorded, number) =
            (self.state.root(), self.head().header.state_root, self.head().header.number);
        if computed == recorded { Ok(()) } else { Err(ReplayError::Hash { number, computed, recorded }) }
    }

    /// Admits a transaction to the mempool.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn add(&mut self, tx: Transaction) -> Result<(B256, Record), TxError> {
        let raw = tx.encoded_2718().into();
        let state = View::new(&self.state, Vec::new(), &self.blocks);
        let hash = self.pool.add(tx, &state)?;
        self.forget_pending();
        Ok((hash, Record::Transaction(raw)))
    }

    /// Makes the next block of what the mempool holds, at Unix time `at` or as soon after the parent as a block can be.
    /// `balances` are set before the first transaction.
    pub(crate) fn seal(&mut self, at: u64, balances: Vec<(Address, U256)>) -> Record {
        let timestamp = next_timestamp(&self.head().header, at);
        if self.pool.is_empty() && balances.is_empty() {
            self.seal_empty(timestamp);
            return Record::Empty(timestamp);
        }
        let (mut draft, unfit) = self.draft(timestamp, &balances);
        for hash in unfit {
            self.pool.drop_one(hash);
        }
        if draft.transactions.is_empty() && balances.is_empty() {
            self.seal_empty(timestamp);
            return Record::Empty(timestamp);
        }
        self.apply_state(&draft);
        draft.header.state_root = self.state.root();
        let block = Block::new(draft.header, draft.transactions, draft.outcomes);
        let body = Body {
            timestamp,
            hash: block.hash(),
            state_root: block.header.state_root,
            balances,
            transactions: block.transactions.iter().map(|tx| tx.encoded_2718().into()).collect(),
        };
        self.push(block);
        self.prune();
        Record::Block(body)
    }

    fn prune(&mut self) {
        let state = View::new(&self.state, Vec::new(), &self.blocks);
        self.pool.prune(&state);
    }

    /// The next block as it would be, and the transactions that turned out to be invalid.
    fn draft(&self, timestamp: u64, balances: &[(Address, U256)]) -> (Draft, Vec<B256>) {
        let mut builder = self.builder(timestamp);
        for (address, wei) in balances {
            builder.set_balance(*address, *wei);
        }
        let mut unfit = Vec::new();
        let mut best = self.pool.best(&self.latest(), self.next_base_fee());
        while let Some(pooled) = best.next() {
            match builder.execute(pooled.tx.clone()) {
                Ok(()) => best.accept(pooled.tx.signer()),
                // A smaller transaction of somebody else may still fit.
                Err(Unfit::NoRoom) => {}
                Err(Unfit::Invalid(reason)) => {
                    tracing::debug!(hash = %pooled.hash(), %reason, "a waiting transaction can't be executed");
                    unfit.push(pooled.hash());
                }
                Err(Unfit::Engine(reason)) => {
                    tracing::error!(hash = %pooled.hash(), %reason, "the engine failed on a transaction");
                    unfit.push(pooled.hash());
                }
            }
        }
        (builder.finish(), unfit)
    }

    fn builder(&self, timestamp: u64) -> Builder<'_> {
        Builder::new(self.latest(), next_header(&self.head().header, timestamp), self.chain_id)
    }

    fn seal_empty(&mut self, timestamp: u64) {
        let block = Block::new(next_header(&self.head().header, timestamp), Vec::new(), Vec::new());
        self.remember(Undo::default());
        self.push(block);
    }

    fn apply_state(&mut self, draft: &Draft) {
        let undo = self.state.apply(&draft.cache);
        self.remember(undo);
    }

    fn remember(&mut self, undo: Undo) {
        self.undos.push_back(undo);
        if self.undos.len() >= KEPT_STATES {
            self.undos.pop_front();
        }
    }

    fn push(&mut self, block: Block) {
        let number = block.header.number;
        for (index, tx) in block.transactions.iter().enumerate() {
            self.mined.insert(*tx.tx_hash(), (number, index));
        }
        self.numbers.insert(block.hash(), number);
        self.blocks.push(block);
        self.forget_pending();
    }

    fn forget_pending(&mut self) {
        *self.pending.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The chain's EIP-155 number.
    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The newest block.
    pub(crate) fn head(&self) -> &Block {
        self.blocks.last().expect("the genesis block is there from the start and no block is ever removed")
    }

    /// The mempool.
    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// All blocks, by number.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// A block by number.
    pub(crate) fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    /// The number of the block with this hash.
    pub(crate) fn number_of(&self, hash: B256) -> Option<u64> {
        self.numbers.get(&hash).copied()
    }

    /// The number that a tag stands for; `None` for `pending`. The safe block is half as deep as the finalized one.
    pub(crate) fn resolve(&self, tag: BlockNumberOrTag) -> Option<u64> {
        let head = self.head().header.number;
        match tag {
            BlockNumberOrTag::Number(number) => Some(number),
            BlockNumberOrTag::Earliest => Some(0),
            BlockNumberOrTag::Latest => Some(head),
            BlockNumberOrTag::Safe => Some(head.saturating_sub(self.finality_depth / 2)),
            BlockNumberOrTag::Finalized => Some(head.saturating_sub(self.finality_depth)),
            BlockNumberOrTag::Pending => None,
        }
    }

    /// A mined transaction: its block and its place in it.
    pub(crate) fn find(&self, hash: B256) -> Option<(&Block, usize)> {
        let (number, index) = self.mined.get(&hash)?;
        Some((self.block(*number)?, *index))
    }

    /// The state after the newest block.
    pub(crate) fn latest(&self) -> View<'_> {
        View::new(&self.state, Vec::new(), &self.blocks)
    }

    /// The state after the block with this number, where it is still known.
    pub(crate) fn state_at(&self, number: u64) -> Option<View<'_>> {
        let back = usize::try_from(self.head().header.number.checked_sub(number)?).ok()?;
        let skipped = self.undos.len().checked_sub(back)?;
        Some(View::new(&self.state, self.undos.iter().skip(skipped).collect(), &self.blocks))
    }

    /// The base fee of the next block, in wei per gas.
    pub(crate) fn next_base_fee(&self) -> u64 {
        next_base_fee(&self.head().header)
    }

    /// The next block as it would be if it were sealed at Unix time `at`. Computed once for each state of chain and mempool.
    pub(crate) fn pending(&self, at: u64) -> Arc<Draft> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.get_or_insert_with(|| Arc::new(self.draft(next_timestamp(&self.head().header, at), &[]).0)).clone()
    }
}
