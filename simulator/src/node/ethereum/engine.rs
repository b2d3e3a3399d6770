//! The node as a deterministic state machine: block tree, votes and mempool are the fold of the [`Record`]s. No clock, no randomness, no
//! I/O of its own.

mod replay;

use std::sync::{Arc, Mutex, PoisonError};

use alloy::consensus::{Header, Sealed, Transaction as _};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, U256};

use super::ControlError;
use super::block::{Block, Terms, Transaction, genesis_header, next_base_fee, next_header, next_timestamp, signature};
use super::chain::{Chain, Change, checkpoint};
use super::executor::{Builder, Draft, Unfit};
use super::faucet::{Crowd, DEMO_TOKEN, ENDOWMENT, Faucet, demo_token_code};
use super::finality::{Finality, Vote};
use super::mempool::{Entry, Mempool, TxError};
use super::record::{Genesis, Record};
use super::sight::Sight;
use super::state::{Codes, State, View, codes};
use crate::topology::NodeIndex;

/// What a node is on its chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    /// EIP-155.
    pub(crate) chain_id: u64,
    /// How many blocks the finalized block is behind the head.
    pub(crate) finality_depth: u64,
    /// The node's place among those of the chain.
    pub(crate) node: NodeIndex,
    /// How many there are.
    pub(crate) size: u16,
}

/// A block to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    /// Unix seconds. The block comes later where its parent's time says so.
    pub(crate) at: u64,
    /// Balances to be set before the first transaction.
    pub(crate) balances: Vec<(Address, U256)>,
    /// The least base fee, in wei per gas.
    pub(crate) least_fee: Option<u64>,
    /// Whether the block is full before any transaction of the mempool gets in.
    pub(crate) crowded: bool,
}

impl Order {
    /// A block of what waits.
    pub(crate) fn at(at: u64) -> Self {
        Self { at, ..Self::default() }
    }
}

/// Why a block of another node isn't taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is there already.
    #[error("the block is known")]
    Known,
    /// The block before it isn't, or is too old to be built on.
    #[error("the block's parent is not known")]
    Orphan,
    /// It doesn't follow from its parent.
    #[error("the block is invalid: {0}")]
    Invalid(String),
}

/// A block that was executed, with what it leaves.
#[derive(Debug)]
pub(crate) struct Executed {
    block: Arc<Block>,
    state: State,
    codes: Codes,
    /// Whose accounts it has touched.
    touched: Vec<Address>,
}

/// The chain of one node.
#[derive(Debug)]
pub(crate) struct Engine {
    role: Role,
    chain: Chain,
    finality: Finality,
    /// The numbers of the safe and the finalized block.
    settled: Settled,
    pool: Mempool,
    /// Transactions that came back from blocks which left the chain, until somebody takes note of them.
    returned: Vec<Arc<Transaction>>,
    pending: Mutex<Option<Pending>>,
}

/// The next block as it would be.
#[derive(Debug)]
struct Pending {
    draft: Arc<Draft>,
    /// Transactions that came after it was made.
    fresh: Vec<Arc<Transaction>>,
}

/// Blocks that don't leave the chain any more, by number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) safe: u64,
    pub(crate) finalized: u64,
}

impl Engine {
    /// A chain that consists of its genesis block.
    pub(crate) fn new(genesis: Genesis, role: Role) -> Self {
        let (mut state, mut codes) = (State::default(), Codes::new());
        // The demo token takes the address of the faucet's first contract, so the faucet's first nonce is used.
        state.allocate(Faucet::new().address(), 1, ENDOWMENT, Bytes::new(), &mut codes);
        for node in (1..genesis.faucets).map(NodeIndex) {
            state.allocate(Faucet::of(node).address(), 0, ENDOWMENT, Bytes::new(), &mut codes);
        }
        state.allocate(DEMO_TOKEN, 1, U256::ZERO, demo_token_code(), &mut codes);
        let header = genesis_header(genesis.timestamp, state.root());
        let block = Block::new(header, Vec::new(), Vec::new(), Vec::new());
        let finality = Finality::new(role.size, checkpoint(&block));
        Self {
            role,
            chain: Chain::new(block, state, codes),
            finality,
            settled: Settled::default(),
            pool: Mempool::default(),
            returned: Vec::new(),
            pending: Mutex::new(None),
        }
    }

    /// Admits a transaction to the mempool.
    ///
    /// # Errors
    /// geth's reason for refusing it.
    pub(crate) fn add(&mut self, tx: Arc<Transaction>, entry: Entry) -> Result<(B256, Record), TxError> {
        let raw = tx.encoded_2718().into();
        let replaces = self.pool.at(tx.signer(), tx.nonce()).is_some();
        let hash = self.pool.add(Arc::clone(&tx), &head_view(&self.chain), entry)?;
        match self.pending.get_mut().unwrap_or_else(PoisonError::into_inner) {
            Some(pending) if !replaces => pending.fresh.push(tx),
            pending => *pending = None,
        }
        Ok((hash, Record::Transaction(raw)))
    }

    /// Whether a transaction waits or is on the node's branch.
    pub(crate) fn has_transaction(&self, hash: &B256) -> bool {
        self.pool.contains(hash) || self.chain.position(hash).is_some()
    }

    /// The transactions that have come back from blocks which left the chain, once.
    pub(crate) fn take_returned(&mut self) -> Vec<Arc<Transaction>> {
        std::mem::take(&mut self.returned)
    }

    /// Empties the mempool. Returns how many transactions were in it.
    pub(crate) fn evict(&mut self) -> usize {
        self.forget_pending();
        self.pool.clear()
    }

    /// Makes the next block.
    pub(crate) fn seal(&mut self, order: Order) -> Record {
        let head = Arc::clone(self.chain.head());
        let Order { at, balances, least_fee, crowded } = order;
        let terms = Terms { at, extra: signature(self.role.node, 0), least_fee };
        let draft = if crowded {
            self.crowded(&head, terms, &balances)
        } else if self.pool.is_empty() && balances.is_empty() {
            Draft::empty(next_header(&head.header, terms))
        } else {
            let (builder, unfit) = self.draft(terms, &balances);
            let draft = builder.finish();
            for hash in unfit {
                self.pool.drop_one(hash);
            }
            draft
        };
        self.append(&head, draft)
    }

    /// Replaces the newest `depth` blocks by a branch that is one longer and holds nobody's transactions.
    ///
    /// # Errors
    /// Where one of them can't be taken back any more.
    pub(crate) fn reorganize(&mut self, depth: u32, at: u64) -> Result<Vec<Record>, ControlError> {
        let head = self.chain.head().header.number;
        let limit = head.saturating_sub(self.chain.root().number);
        let too_deep = || ControlError::TooDeep { depth, limit };
        let from = head.checked_sub(u64::from(depth)).filter(|_| u64::from(depth) <= limit).ok_or_else(too_deep)?;
        let mut parent = Arc::clone(self.chain.at(from).ok_or_else(too_deep)?);
        // No two branches that the node makes on one parent have the same number of steps before them.
        let branch = self.chain.stepped().saturating_add(1);
        let mut records = Vec::new();
        for _ in 0..=depth {
            let terms = Terms { at, extra: signature(self.role.node, branch), least_fee: None };
            let draft = Draft::empty(next_header(&parent.header, terms));
            records.push(self.append(&parent, draft));
            let made = records.last().and_then(Record::block_hash).and_then(|hash| self.chain.get(&hash));
            parent = Arc::clone(made.ok_or_else(too_deep)?);
        }
        Ok(records)
    }

    /// Adds a block of the node's own.
    fn append(&mut self, parent: &Arc<Block>, draft: Draft) -> Record {
        let on_head = parent.hash() == self.chain.head().hash();
        let executed =
            self.complete(parent, draft, None).expect("the node builds on blocks only whose state it has kept");
        let record = Record::of(&executed.block, &parent.header, on_head);
        self.insert(executed);
        record
    }

    /// Executes a block of another node.
    ///
    /// # Errors
    /// Where it is known, can't be executed yet, or is invalid.
    pub(crate) fn check(&self, block: &Arc<Block>) -> Result<Executed, Refusal> {
        if self.chain.get(&block.hash()).is_some() {
            return Err(Refusal::Known);
        }
        let parent = self.chain.get(&block.header.parent_hash).ok_or(Refusal::Orphan)?;
        let terms = Terms {
            at: block.header.timestamp,
            extra: block.header.extra_data.clone(),
            least_fee: block.header.base_fee_per_gas,
        };
        if self.chain.state(&parent.hash()).is_none() {
            return Err(Refusal::Orphan);
        }
        let draft = self.execute(parent, terms, &block.balances, &block.transactions).map_err(Refusal::Invalid)?;
        let mut executed = self.complete(parent, draft, None).ok_or(Refusal::Orphan)?;
        if executed.block.hash() != block.hash() {
            let reason = format!("it is {}, not {}, by this node's account", executed.block.hash(), block.hash());
            return Err(Refusal::Invalid(reason));
        }
        // Both are the same, so that one of them is enough for all nodes.
        executed.block = Arc::clone(block);
        Ok(executed)
    }

    /// Takes a block that [`check`](Self::check) has passed. `None` where it has come by another way meanwhile.
    pub(crate) fn accept(&mut self, executed: Executed) -> Option<Record> {
        let (hash, parent) = (executed.block.hash(), executed.block.header.parent_hash);
        if self.chain.get(&hash).is_some() {
            return None;
        }
        let parent = self.chain.get(&parent)?;
        let record = Record::of(&executed.block, &parent.header, parent.hash() == self.chain.head().hash());
        self.insert(executed);
        Some(record)
    }

    /// Counts a vote. `None` where it is no news.
    pub(crate) fn hear(&mut self, vote: Vote) -> Option<Record> {
        if !self.finality.is_news(&vote) {
            return None;
        }
        self.finality.count(vote);
        self.settle();
        Some(Record::Vote(vote))
    }

    /// Votes, where there is something to vote for.
    pub(crate) fn cast(&mut self) -> Option<Vote> {
        let behind = self.role.finality_depth / 2;
        let target = self.chain.at(self.chain.head().header.number.saturating_sub(behind))?;
        let target = checkpoint(target);
        if !self.chain.is_active(self.finality.justified()) {
            return None;
        }
        let vote = self.finality.propose(self.role.node, target)?;
        self.hear(vote).map(|_| vote)
    }

    /// Runs these transactions as the block after `parent`.
    fn execute(
        &self,
        parent: &Block,
        terms: Terms,
        balances: &[(Address, U256)],
        transactions: &[Arc<Transaction>],
    ) -> Result<Draft, String> {
        let header = next_header(&parent.header, terms);
        if transactions.is_empty() && balances.is_empty() {
            return Ok(Draft::empty(header));
        }
        let view = self.chain.view(&parent.hash()).ok_or("its parent's state is not kept")?;
        let mut builder = self.builder(view, header, balances);
        for tx in transactions {
            builder.execute(tx).map_err(|unfit| unfit.to_string())?;
        }
        Ok(builder.finish())
    }

    /// Completes a block after `parent` by the root of its state: a known one, or computed.
    fn complete(&self, parent: &Block, draft: Draft, root: Option<B256>) -> Option<Executed> {
        let mut state = self.chain.state(&parent.hash())?.clone();
        let Draft { mut header, transactions, outcomes, balances, cache } = draft;
        state.apply(&cache);
        header.state_root = root.unwrap_or_else(|| state.root());
        let block = Arc::new(Block::new(header, transactions, outcomes, balances));
        Some(Executed { block, state, codes: codes(&cache).collect(), touched: cache.accounts.into_keys().collect() })
    }

    fn insert(&mut self, executed: Executed) {
        let Executed { block, state, codes, touched } = executed;
        let change = self.chain.add(block, state, codes);
        self.follow(&change, Some(touched));
        self.settle();
    }

    /// Brings mempool and pending block in line with the node's branch. `touched` are the accounts that differ where one block was added.
    fn follow(&mut self, change: &Change, touched: Option<Vec<Address>>) {
        if change.is_empty() {
            return;
        }
        self.forget_pending();
        let state = head_view(&self.chain);
        for block in change.disconnected.iter().rev() {
            for tx in &block.transactions {
                // What the other branch holds too, or has made impossible, stays out.
                if self.pool.add(Arc::clone(tx), &state, Entry::Returned).is_ok() {
                    self.returned.push(Arc::clone(tx));
                }
            }
        }
        match touched {
            Some(touched) if change.disconnected.is_empty() && change.connected.len() == 1 => {
                self.pool.prune_of(touched, &state);
            }
            _ => self.pool.prune(&state),
        }
    }

    /// Brings the branch in line with the votes, and says which blocks are safe and final.
    fn settle(&mut self) {
        let depth = self.role.finality_depth;
        if !self.finality.is_social()
            && let Some(block) = self.chain.at(self.chain.head().header.number.saturating_sub(depth / 2))
        {
            self.finality.settle(checkpoint(block));
        }
        let change = self.chain.hold_to(self.finality.justified());
        self.follow(&change, None);
        let (head, last) = (self.chain.head().header.number, self.finality.finalized());
        if self.chain.is_active(last) {
            let at_most = |depth: u64| last.number.min(head.saturating_sub(depth));
            self.settled.safe = self.settled.safe.max(at_most(depth / 2));
            self.settled.finalized = self.settled.finalized.max(at_most(depth));
            self.chain.forget(last.number);
        }
    }

    /// The next block as it would be, and the transactions that turned out to be invalid.
    fn draft(&self, terms: Terms, balances: &[(Address, U256)]) -> (Builder<'_>, Vec<B256>) {
        let state = head_view(&self.chain);
        let header = next_header(&self.chain.head().header, terms);
        let mut best = self.pool.best(&state, header.base_fee_per_gas.unwrap_or_default());
        let mut builder = self.builder(state, header, balances);
        let mut unfit = Vec::new();
        while let Some(pooled) = best.next() {
            match builder.execute(&pooled.tx) {
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
        (builder, unfit)
    }

    /// A block that somebody else has filled.
    fn crowded(&self, head: &Block, terms: Terms, balances: &[(Address, U256)]) -> Draft {
        let state = head_view(&self.chain);
        let header = next_header(&head.header, terms);
        let crowd = Crowd::new();
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        let (tx, cost) = crowd.fill(self.role.chain_id, state.nonce(crowd.address()), base_fee);
        let mut builder = self.builder(state, header, balances);
        builder.set_balance(crowd.address(), cost);
        if let Err(reason) = builder.execute(&Arc::new(tx)) {
            tracing::error!(%reason, "the transaction that fills a block can't be executed");
        }
        builder.finish()
    }

    fn builder<'a>(&self, view: View<'a>, header: Header, balances: &[(Address, U256)]) -> Builder<'a> {
        let mut builder = Builder::new(view, header, self.role.chain_id);
        for (address, wei) in balances {
            builder.set_balance(*address, *wei);
        }
        builder
    }

    fn forget_pending(&mut self) {
        *self.pending.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the node is.
    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The block tree.
    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The mempool.
    pub(crate) fn pool(&self) -> &Mempool {
        &self.pool
    }

    /// The votes.
    pub(crate) fn finality(&self) -> &Finality {
        &self.finality
    }

    /// Which blocks don't leave the chain any more.
    pub(crate) fn settled(&self) -> Settled {
        self.settled
    }

    /// The node as a client sees it that is told of all but the newest `behind` blocks, while the base fee is at least `least_fee`
    /// (wei per gas).
    pub(crate) fn sight(&self, behind: u32, least_fee: Option<u64>) -> Sight<'_> {
        Sight::new(self, self.chain.head().header.number.saturating_sub(behind.into()), least_fee)
    }

    /// The base fee of the block after `parent`, in wei per gas.
    pub(crate) fn base_fee_after(parent: &Sealed<Header>, least_fee: Option<u64>) -> u64 {
        let fee = next_base_fee(parent);
        least_fee.map_or(fee, |least| least.max(fee))
    }

    /// The next block as it would be if it were sealed at Unix time `at`. It is made once for each head; what comes later follows
    /// in the order of arrival as far as there is room.
    pub(crate) fn pending(&self, at: u64, least_fee: Option<u64>) -> Arc<Draft> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let head = &self.chain.head().header;
        let base_fee = Some(Self::base_fee_after(head, least_fee));
        let made = pending.take().filter(|pending| pending.draft.header.base_fee_per_gas == base_fee);
        let draft = match made {
            Some(Pending { draft, fresh }) if fresh.is_empty() => draft,
            Some(Pending { draft, fresh }) => Arc::new(self.go_on(Arc::unwrap_or_clone(draft), &fresh)),
            None => {
                let terms = Terms { at: next_timestamp(head, at), extra: signature(self.role.node, 0), least_fee };
                Arc::new(self.draft(terms, &[]).0.pause())
            }
        };
        *pending = Some(Pending { draft: Arc::clone(&draft), fresh: Vec::new() });
        draft
    }

    /// The draft with `fresh` transactions after it, and those that waited for them.
    fn go_on(&self, draft: Draft, fresh: &[Arc<Transaction>]) -> Draft {
        let mut builder = Builder::resume(head_view(&self.chain), draft, self.role.chain_id);
        for tx in fresh {
            let mut next = Some(tx);
            while let Some(tx) = next {
                // What can't be executed yet follows on what it waits for.
                let executed = builder.execute(tx);
                let nonce = tx.nonce().checked_add(1).filter(|_| executed.is_ok());
                next = nonce.and_then(|nonce| self.pool.at(tx.signer(), nonce)).map(|pooled| &pooled.tx);
            }
        }
        builder.pause()
    }

    /// Blocks of the node's branch from the newest on, with ever larger steps between them after the first ten.
    pub(crate) fn locator(&self) -> Vec<B256> {
        let mut hashes = Vec::new();
        let mut number = self.chain.head().header.number;
        let mut step: u64 = 1;
        while let Some(block) = self.chain.at(number) {
            hashes.push(block.hash());
            if number == 0 {
                break;
            }
            if hashes.len() >= 10 {
                step = step.saturating_mul(2);
            }
            number = number.saturating_sub(step);
        }
        hashes
    }

    /// The blocks up to `want` after the latest that is in `have`, oldest first, at most `limit`.
    pub(crate) fn path(&self, want: &B256, have: &[B256], limit: usize) -> Vec<Arc<Block>> {
        let mut blocks = Vec::new();
        let mut at = self.chain.get(want);
        while let Some(block) = at.filter(|block| block.header.number > 0 && !have.contains(&block.hash())) {
            blocks.push(Arc::clone(block));
            at = self.chain.get(&block.header.parent_hash);
        }
        blocks.reverse();
        blocks.truncate(limit);
        blocks
    }
}

/// The state after the newest block.
pub(crate) fn head_view(chain: &Chain) -> View<'_> {
    chain.view(&chain.head().hash()).expect("the state after the newest block is always kept")
}

#[cfg(test)]
mod tests;
