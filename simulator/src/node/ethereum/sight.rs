//! The node as its clients see it: from the head, or as it was some blocks ago.

use std::sync::Arc;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256};

use super::block::{Block, Terms, Transaction, next_header};
use super::chain::{Chain, Step};
use super::engine::Engine;
use super::executor::Draft;
use super::mempool::Mempool;
use super::state::View;

/// A look at a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    engine: &'a Engine,
    /// The newest block that is seen.
    height: u64,
    /// The least base fee of the next block, in wei per gas.
    least_fee: Option<u64>,
}

impl<'a> Sight<'a> {
    /// The node as it was when block `height` was its newest.
    pub(crate) fn new(engine: &'a Engine, height: u64, least_fee: Option<u64>) -> Self {
        Self { engine, height, least_fee }
    }

    fn chain(self) -> &'a Chain {
        self.engine.chain()
    }

    fn is_behind(self) -> bool {
        self.height < self.chain().head().header.number
    }

    /// The chain's EIP-155 number.
    pub(crate) fn chain_id(self) -> u64 {
        self.engine.role().chain_id
    }

    /// The newest block.
    pub(crate) fn head(self) -> &'a Block {
        self.block(self.height).unwrap_or_else(|| self.chain().head())
    }

    /// The newest blocks, newest first.
    pub(crate) fn newest(self) -> impl Iterator<Item = &'a Block> {
        (0..=self.height).rev().map_while(move |number| self.block(number))
    }

    /// A block by number.
    pub(crate) fn block(self, number: u64) -> Option<&'a Block> {
        self.chain().at(number).filter(|_| number <= self.height).map(|block| &**block)
    }

    /// A block by hash, on any branch.
    pub(crate) fn block_of(self, hash: B256) -> Option<&'a Block> {
        self.chain().get(&hash).filter(|block| block.header.number <= self.height).map(|block| &**block)
    }

    /// The number that a tag stands for; `None` for `pending`.
    pub(crate) fn resolve(self, tag: BlockNumberOrTag) -> Option<u64> {
        let settled = self.engine.settled();
        let behind = self.chain().head().header.number.saturating_sub(self.height);
        match tag {
            BlockNumberOrTag::Number(number) => Some(number),
            BlockNumberOrTag::Earliest => Some(0),
            BlockNumberOrTag::Latest => Some(self.height),
            BlockNumberOrTag::Safe => Some(settled.safe.saturating_sub(behind)),
            BlockNumberOrTag::Finalized => Some(settled.finalized.saturating_sub(behind)),
            BlockNumberOrTag::Pending => None,
        }
    }

    /// A mined transaction: its block and its place in it.
    pub(crate) fn find(self, hash: B256) -> Option<(&'a Block, usize)> {
        let (number, index) = self.chain().position(&hash)?;
        Some((self.block(number)?, index))
    }

    /// A transaction that waits, or did so at the time of this look.
    pub(crate) fn waiting(self, hash: B256) -> Option<&'a Transaction> {
        if let Some(pooled) = self.pool().get(hash) {
            return Some(&pooled.tx);
        }
        let (number, index) = self.chain().position(&hash).filter(|(number, _)| *number > self.height)?;
        self.chain().at(number)?.transactions.get(index).map(|tx| &**tx)
    }

    /// The nonce that follows a sender's waiting transactions.
    pub(crate) fn next_nonce(self, sender: Address) -> u64 {
        self.pool().next_nonce(sender, self.latest().nonce(sender))
    }

    /// The state after the newest block.
    pub(crate) fn latest(self) -> View<'a> {
        self.state_after(self.head()).unwrap_or_else(|| super::engine::head_view(self.chain()))
    }

    /// The state after a block, where it is still known.
    pub(crate) fn state_after(self, block: &Block) -> Option<View<'a>> {
        self.chain().view(&block.hash())
    }

    /// The mempool.
    pub(crate) fn pool(self) -> &'a Mempool {
        self.engine.pool()
    }

    /// The base fee of the next block, in wei per gas.
    pub(crate) fn next_base_fee(self) -> u64 {
        Engine::base_fee_after(&self.head().header, self.least_fee)
    }

    /// The next block as it would be if it were sealed at Unix time `at`.
    pub(crate) fn pending(self, at: u64) -> Arc<Draft> {
        if !self.is_behind() {
            return self.engine.pending(at, self.least_fee);
        }
        let header = next_header(&self.head().header, Terms { least_fee: self.least_fee, ..Terms::plain(at) });
        Arc::new(Draft::empty(header))
    }

    /// How many blocks have joined the node's branch or left it.
    pub(crate) fn stepped(self) -> u64 {
        self.chain().stepped()
    }

    /// Those after the first `seen`.
    pub(crate) fn steps_after(self, seen: u64) -> impl Iterator<Item = &'a Step> {
        self.chain().steps_after(seen)
    }
}
