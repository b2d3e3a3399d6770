//! The engine as the fold of its journal.

use std::sync::Arc;

use alloy::primitives::{Bytes, keccak256};

use super::super::block::{Terms, next_header, signature};
use super::super::executor::Draft;
use super::super::mempool::{self, Entry};
use super::super::record::{Body, Record, ReplayError};
use super::super::state::State;
use super::{Engine, Role};
use crate::topology::NodeIndex;

impl Engine {
    /// Rebuilds a chain from what was recorded of it.
    ///
    /// # Errors
    /// Where the records are no chain, another chain, or execute differently.
    pub(crate) fn replay(records: Vec<Record>, role: Role) -> Result<Self, ReplayError> {
        let mut records = records.into_iter();
        let Some(Record::Genesis(genesis)) = records.next() else { return Err(ReplayError::Order) };
        if genesis.chain_id != role.chain_id {
            return Err(ReplayError::ChainId { journal: genesis.chain_id, config: role.chain_id });
        }
        let mut engine = Self::new(genesis, role);
        let mut waiting = Vec::new();
        for record in records {
            match record {
                Record::Genesis(_) => return Err(ReplayError::Order),
                Record::Transaction(raw) => waiting.push(raw),
                Record::Empty(at) => {
                    let head = Arc::clone(engine.chain.head());
                    let draft = Draft::empty(next_header(&head.header, Terms::plain(at)));
                    let executed = engine.complete(&head, draft, None).ok_or(ReplayError::Order)?;
                    engine.insert(executed);
                }
                Record::Block(body) => engine.replay_block(body)?,
                Record::Vote(vote) => drop(engine.hear(vote)),
                Record::Evicted => {
                    waiting.clear();
                    engine.evict();
                }
            }
        }
        engine.check_root()?;
        engine.returned.clear();
        for raw in waiting {
            // Most of them are in blocks; what was replaced or has become impossible is refused again.
            if engine.chain.position(&keccak256(&raw)).is_none()
                && let Ok(tx) = mempool::decode(&raw, role.chain_id)
            {
                let _ = engine.add(Arc::new(tx), Entry::News);
            }
        }
        Ok(engine)
    }

    fn replay_block(&mut self, body: Body) -> Result<(), ReplayError> {
        let parent = match body.parent {
            Some(hash) => Arc::clone(self.chain.get(&hash).ok_or(ReplayError::Order)?),
            None => Arc::clone(self.chain.head()),
        };
        let number = parent.header.number.saturating_add(1);
        let failed = |reason: String| ReplayError::Block { number, reason };
        let decode = |raw: &Bytes| mempool::decode(raw, self.role.chain_id).map(Arc::new);
        let transactions: Result<Vec<_>, _> = body.transactions.iter().map(decode).collect();
        let transactions = transactions.map_err(|error| failed(error.to_string()))?;
        let terms = Terms {
            at: body.timestamp,
            extra: body.extra.unwrap_or_else(|| signature(NodeIndex(0), 0)),
            least_fee: body.base_fee,
        };
        let draft = self.execute(&parent, terms, &body.balances, &transactions).map_err(failed)?;
        let executed = self.complete(&parent, draft, Some(body.state_root)).ok_or(ReplayError::Order)?;
        let (computed, recorded) = (executed.block.hash(), body.hash);
        if computed != recorded {
            return Err(ReplayError::Hash { number, computed, recorded });
        }
        self.insert(executed);
        Ok(())
    }

    /// The state that a replay ends with must have the root that the head claims.
    fn check_root(&self) -> Result<(), ReplayError> {
        let head = self.chain.head();
        let (recorded, number) = (head.header.state_root, head.header.number);
        let computed = self.chain.state(&head.hash()).map(State::root).unwrap_or_default();
        if computed == recorded { Ok(()) } else { Err(ReplayError::Hash { number, computed, recorded }) }
    }
}
