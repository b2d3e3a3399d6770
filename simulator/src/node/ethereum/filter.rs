//! Logs by address and topic, and the filters that clients poll.

use std::collections::HashMap;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, U64};
use alloy::rpc::types::{Filter, FilterBlockOption, Log};
use serde_json::Value;

use super::answer;
use super::block::Block;
use super::call::FAILED;
use super::chain::Step;
use super::sight::Sight;
use crate::rpc::{INVALID_PARAMS, RpcError};

/// How long a filter lives that nobody asks, in milliseconds (geth: five minutes).
const LIFETIME: u64 = 5 * 60 * 1000;

/// `eth_getLogs`.
///
/// # Errors
/// As geth for an unknown block, a range that ends before it starts, or pending logs.
pub(crate) fn logs(engine: Sight<'_>, filter: &Filter) -> Result<Vec<Log>, RpcError> {
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = engine.block_of(hash).ok_or_else(|| RpcError::new(FAILED, "unknown block"))?;
            return Ok(matching(filter, block).collect());
        }
        FilterBlockOption::Range { from_block, to_block } => {
            let resolve = |tag: Option<BlockNumberOrTag>| {
                engine
                    .resolve(tag.unwrap_or(BlockNumberOrTag::Latest))
                    .ok_or_else(|| RpcError::new(FAILED, "pending logs are not supported"))
            };
            (resolve(from_block)?, resolve(to_block)?)
        }
    };
    if from > to {
        return Err(RpcError::new(FAILED, "invalid block range params"));
    }
    Ok(logs_between(engine, filter, from, to))
}

fn logs_between(engine: Sight<'_>, filter: &Filter, from: u64, to: u64) -> Vec<Log> {
    let to = to.min(engine.head().header.number);
    (from..=to).filter_map(|number| engine.block(number)).flat_map(|block| matching(filter, block)).collect()
}

/// The logs of a block that a filter's addresses and topics match.
fn matching<'a>(filter: &'a Filter, block: &'a Block) -> impl Iterator<Item = Log> + use<'a> {
    let may = !block.transactions.is_empty() && filter.matches_bloom(block.header.logs_bloom);
    let logs = may.then(|| answer::block_logs(block)).into_iter().flatten();
    logs.filter(|log| filter.matches_address(log.address()) && filter.matches_topics(log.topics()))
}

/// The matching logs of a block that joined the chain, or, marked as removed, of one that left it.
pub(crate) fn logs_of<'a>(filter: &'a Filter, step: &'a Step) -> impl Iterator<Item = Log> + use<'a> {
    matching(filter, &step.block).map(|log| Log { removed: step.removed, ..log })
}

/// What a filter looks for.
#[derive(Clone, Debug)]
enum Kind {
    Logs(Box<Filter>),
    Blocks,
    Pending,
}

#[derive(Debug)]
struct Polled {
    kind: Kind,
    /// How many steps of the chain (or, for pending transactions, arrivals) the client has been told of.
    seen: u64,
    /// When it was last asked, in Unix milliseconds.
    asked: u64,
}

/// The filters of all clients of one node.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    polled: HashMap<u64, Polled>,
    last: u64,
}

impl Filters {
    /// `eth_newFilter`.
    pub(crate) fn new_logs(&mut self, filter: Filter, engine: Sight<'_>, at: u64) -> Value {
        self.add(Kind::Logs(Box::new(filter)), engine, at)
    }

    /// `eth_newBlockFilter`.
    pub(crate) fn new_blocks(&mut self, engine: Sight<'_>, at: u64) -> Value {
        self.add(Kind::Blocks, engine, at)
    }

    /// `eth_newPendingTransactionFilter`.
    pub(crate) fn new_pending(&mut self, engine: Sight<'_>, at: u64) -> Value {
        self.add(Kind::Pending, engine, at)
    }

    fn add(&mut self, kind: Kind, engine: Sight<'_>, at: u64) -> Value {
        self.polled.retain(|_, filter| at.saturating_sub(filter.asked) < LIFETIME);
        let seen = match kind {
            Kind::Pending => engine.pool().arrivals(),
            Kind::Logs(_) | Kind::Blocks => engine.stepped(),
        };
        self.last = self.last.saturating_add(1);
        self.polled.insert(self.last, Polled { kind, seen, asked: at });
        answer::json(&U64::from(self.last))
    }

    /// `eth_getFilterChanges`: what happened since the last time.
    ///
    /// # Errors
    /// -32000 "filter not found".
    pub(crate) fn changes(&mut self, id: U64, engine: Sight<'_>, at: u64) -> Result<Value, RpcError> {
        let filter = self.polled.get_mut(&id.to()).ok_or_else(not_found)?;
        filter.asked = at;
        let seen = filter.seen;
        match &filter.kind {
            Kind::Pending => {
                filter.seen = engine.pool().arrivals();
                Ok(answer::json(&engine.pool().arrived_after(seen)))
            }
            Kind::Blocks => {
                filter.seen = engine.stepped();
                let joined = engine.steps_after(seen).filter(|step| !step.removed);
                let hashes: Vec<B256> = joined.map(|step| step.block.hash()).collect();
                Ok(answer::json(&hashes))
            }
            Kind::Logs(logs) => {
                filter.seen = engine.stepped();
                let (first, last) = match logs.block_option {
                    FilterBlockOption::Range { from_block, to_block } => (
                        from_block.filter(BlockNumberOrTag::is_number).and_then(|tag| engine.resolve(tag)),
                        to_block.filter(BlockNumberOrTag::is_number).and_then(|tag| engine.resolve(tag)),
                    ),
                    FilterBlockOption::AtBlockHash(_) => (None, None),
                };
                let range = first.unwrap_or_default()..=last.unwrap_or(u64::MAX);
                let steps = engine.steps_after(seen).filter(|step| range.contains(&step.block.header.number));
                let found: Vec<Log> = steps.flat_map(|step| logs_of(logs, step)).collect();
                Ok(answer::json(&found))
            }
        }
    }

    /// `eth_getFilterLogs`: everything that a log filter matches.
    ///
    /// # Errors
    /// -32000 where there is no such filter, or it isn't for logs.
    pub(crate) fn all(&mut self, id: U64, engine: Sight<'_>, at: u64) -> Result<Value, RpcError> {
        let filter = self.polled.get_mut(&id.to()).ok_or_else(not_found)?;
        filter.asked = at;
        match &filter.kind {
            Kind::Logs(filter) => Ok(answer::json(&logs(engine, filter)?)),
            Kind::Blocks | Kind::Pending => Err(not_found()),
        }
    }

    /// `eth_uninstallFilter`: whether there was one.
    pub(crate) fn remove(&mut self, id: U64) -> bool {
        self.polled.remove(&id.to()).is_some()
    }
}

fn not_found() -> RpcError {
    RpcError::new(FAILED, "filter not found")
}

/// A filter's parameters, read as geth reads them.
///
/// # Errors
/// -32602 where they are no filter.
pub(crate) fn parse(value: &Value) -> Result<Filter, RpcError> {
    serde_json::from_value(value.clone())
        .map_err(|error| RpcError::new(INVALID_PARAMS, format!("invalid argument 0: {error}")))
}
