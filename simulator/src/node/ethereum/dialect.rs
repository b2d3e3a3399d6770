//! geth's method table.

use std::sync::Arc;

use alloy::consensus::Transaction as _;
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, U64, U256, keccak256};
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::simulate::SimulatePayload;
use alloy::rpc::types::state::StateOverride;
use revm::database::CacheDB;
use serde_json::{Map, Value, json};

use super::answer::{self, json as value};
use super::args::Args;
use super::block::Block;
use super::call::{self, FAILED, Place};
use super::control;
use super::executor::{Draft, Ground};
use super::host::Host;
use super::mempool::Pooled;
use super::sight::Sight;
use super::subscribe::Subscriptions;
use super::trace::{self, TraceConfig};
use super::{ControlError, fees, filter, simulate};
use crate::rpc::socket::Session;
use crate::rpc::{Dialect, INTERNAL_ERROR, JsonRpcVersion, METHOD_NOT_FOUND, RpcError};

/// A node that answers as geth does.
#[derive(Clone, Debug)]
pub(crate) struct Geth(pub(crate) Arc<Host>);

impl Dialect for Geth {
    const VERSION: JsonRpcVersion = JsonRpcVersion::V2;

    async fn call(&self, method: &str, params: &Value) -> Result<Value, RpcError> {
        self.call_behind(method, params, 0).await
    }

    async fn call_behind(&self, method: &str, params: &Value, blocks: u32) -> Result<Value, RpcError> {
        let (host, method, params) = (self.0.clone(), method.to_owned(), params.clone());
        // Execution takes its time, and writing the journal blocks.
        tokio::task::spawn_blocking(move || answer(&host, &method, Args::new(&params)?, blocks))
            .await
            .unwrap_or_else(|_| Err(RpcError::new(INTERNAL_ERROR, "method handler crashed")))
    }

    fn lie(&self, method: &str, params: &Value) -> Option<Result<Value, RpcError>> {
        let pretend = || {
            let raw = Args::new(params)?.required::<Bytes>(0)?;
            let tx = self.0.read(&raw).map_err(ControlError::from)?;
            Ok(value(tx.tx_hash()))
        };
        (method == "eth_sendRawTransaction").then(pretend)
    }

    fn session(&self) -> Option<Arc<dyn Session>> {
        Some(Arc::new(Subscriptions::new(Arc::clone(&self.0))))
    }
}

impl From<ControlError> for RpcError {
    fn from(error: ControlError) -> Self {
        let code = if matches!(error, ControlError::Stopped) { INTERNAL_ERROR } else { FAILED };
        Self::new(code, error.to_string())
    }
}

/// Answers one call, about the chain as it was before its newest `behind` blocks.
fn answer(host: &Host, method: &str, args: Args<'_>, behind: u32) -> Result<Value, RpcError> {
    match method {
        "eth_sendRawTransaction" => Ok(value(&host.submit(&args.required::<Bytes>(0)?)?)),
        "net_peerCount" => Ok(value(&U64::from(host.peers().len()))),
        _ => {
            if let Some(answer) = control::answer(host, method, args) {
                return answer;
            }
            let engine = host.engine()?;
            let sight = engine.sight(behind, host.least_fee());
            about(sight, method, args)
                .or_else(|| chain(host, sight, method, args))
                .or_else(|| state(host, sight, method, args))
                .or_else(|| filters(host, sight, method, args))
                .or_else(|| pool(sight, method))
                .unwrap_or_else(|| Err(unknown(method)))
        }
    }
}

fn unknown(method: &str) -> RpcError {
    if method == "eth_subscribe" || method == "eth_unsubscribe" {
        return RpcError::new(METHOD_NOT_FOUND, "notifications not supported");
    }
    RpcError::new(METHOD_NOT_FOUND, format!("the method {method} does not exist/is not available"))
}

type Answer = Option<Result<Value, RpcError>>;

/// The node itself, and what it costs to send something.
fn about(engine: Sight<'_>, method: &str, args: Args<'_>) -> Answer {
    Some(match method {
        "web3_clientVersion" => Ok(concat!("Portcullis/v", env!("CARGO_PKG_VERSION"), "/simulator/revm").into()),
        "web3_sha3" => args.required::<Bytes>(0).map(|data| value(&keccak256(data))),
        "net_version" => Ok(engine.chain_id().to_string().into()),
        "net_listening" => Ok(true.into()),
        "rpc_modules" => {
            Ok(json!({ "debug": "1.0", "eth": "1.0", "net": "1.0", "rpc": "1.0", "txpool": "1.0", "web3": "1.0" }))
        }
        "eth_chainId" => Ok(value(&U64::from(engine.chain_id()))),
        "eth_syncing" => Ok(false.into()),
        "eth_accounts" => Ok(json!([])),
        "eth_gasPrice" => Ok(value(&U256::from(fees::gas_price(engine)))),
        "eth_maxPriorityFeePerGas" => Ok(value(&U256::from(fees::suggested_tip(engine)))),
        "eth_blobBaseFee" => Ok("0x1".into()),
        "eth_feeHistory" => fee_history(engine, args),
        _ => return None,
    })
}

fn fee_history(engine: Sight<'_>, args: Args<'_>) -> Result<Value, RpcError> {
    // Clients send the count as a quantity or, since geth takes both, as a number.
    let count = args.required::<U64>(0)?;
    let newest = args.required(1)?;
    let percentiles: Option<Vec<f64>> = args.optional(2)?;
    Ok(value(&fees::history(engine, count.to(), newest, percentiles.as_deref())?))
}

/// Blocks, transactions, receipts, logs.
fn chain(host: &Host, engine: Sight<'_>, method: &str, args: Args<'_>) -> Answer {
    Some(match method {
        "eth_blockNumber" => Ok(value(&U64::from(engine.head().header.number))),
        "eth_getBlockByNumber" => args.required(0).and_then(|tag| {
            let full = args.required(1)?;
            Ok(match tag {
                BlockNumberOrTag::Pending => {
                    let draft = engine.pending(host.seconds());
                    let Draft { header, transactions, outcomes, balances, .. } = Draft::clone(&draft).committed();
                    let block = Block::new(header, transactions, outcomes, balances);
                    answer::pending_block(&block, full)
                }
                tag => by_id(engine, tag.into()).map_or(Value::Null, |block| answer::block(block, full)),
            })
        }),
        "eth_getBlockByHash" => args.required::<B256>(0).and_then(|hash| {
            let full = args.required(1)?;
            Ok(by_id(engine, hash.into()).map_or(Value::Null, |block| answer::block(block, full)))
        }),
        "eth_getHeaderByNumber" => args
            .required::<BlockNumberOrTag>(0)
            .map(|tag| by_id(engine, tag.into()).map_or(Value::Null, answer::header)),
        "eth_getHeaderByHash" => {
            args.required::<B256>(0).map(|hash| by_id(engine, hash.into()).map_or(Value::Null, answer::header))
        }
        "eth_getBlockReceipts" => args.required::<BlockId>(0).map(|id| {
            by_id(engine, id).map_or(Value::Null, |block| {
                let receipts = (0..block.transactions.len()).filter_map(|index| answer::receipt(block, index));
                value(&receipts.collect::<Vec<_>>())
            })
        }),
        "eth_getBlockTransactionCountByNumber" => args.required::<BlockNumberOrTag>(0).map(|tag| match tag {
            BlockNumberOrTag::Pending => value(&U64::from(engine.pending(host.seconds()).transactions.len())),
            tag => by_id(engine, tag.into()).map_or(Value::Null, |block| value(&U64::from(block.transactions.len()))),
        }),
        "eth_getBlockTransactionCountByHash" => args.required::<B256>(0).map(|hash| {
            by_id(engine, hash.into()).map_or(Value::Null, |block| value(&U64::from(block.transactions.len())))
        }),
        "eth_getUncleCountByBlockNumber" => args
            .required::<BlockNumberOrTag>(0)
            .map(|tag| by_id(engine, tag.into()).map_or(Value::Null, |_| "0x0".into())),
        "eth_getUncleCountByBlockHash" => {
            args.required::<B256>(0).map(|hash| by_id(engine, hash.into()).map_or(Value::Null, |_| "0x0".into()))
        }
        "eth_getTransactionByHash" => args.required::<B256>(0).map(|hash| transaction(engine, hash)),
        "eth_getRawTransactionByHash" => args.required::<B256>(0).map(|hash| raw_transaction(engine, hash)),
        "eth_getTransactionByBlockNumberAndIndex" => {
            args.required::<BlockNumberOrTag>(0).and_then(|tag| Ok(by_index(engine, tag.into(), args.required(1)?)))
        }
        "eth_getTransactionByBlockHashAndIndex" => {
            args.required::<B256>(0).and_then(|hash| Ok(by_index(engine, hash.into(), args.required(1)?)))
        }
        "eth_getTransactionReceipt" => args.required::<B256>(0).map(|hash| {
            let receipt = engine.find(hash).and_then(|(block, index)| answer::receipt(block, index));
            receipt.map_or(Value::Null, |receipt| value(&receipt))
        }),
        "eth_getLogs" => {
            args.required::<Value>(0).and_then(|filter| Ok(value(&filter::logs(engine, &filter::parse(&filter)?)?)))
        }
        _ => return None,
    })
}

fn by_id<'a>(engine: Sight<'a>, id: BlockId) -> Option<&'a Block> {
    match id {
        BlockId::Hash(hash) => engine.block_of(hash.block_hash),
        BlockId::Number(tag) => engine.block(engine.resolve(tag)?),
    }
}

fn by_index(engine: Sight<'_>, id: BlockId, index: U64) -> Value {
    let index = usize::try_from(index.to::<u64>()).ok();
    let found = by_id(engine, id).zip(index).and_then(|(block, index)| answer::mined(block, index));
    found.map_or(Value::Null, |tx| value(&tx))
}

fn transaction(engine: Sight<'_>, hash: B256) -> Value {
    let mined = engine.find(hash).and_then(|(block, index)| answer::mined(block, index));
    let found = mined.or_else(|| engine.waiting(hash).map(answer::waiting));
    found.map_or(Value::Null, |tx| value(&tx))
}

fn raw_transaction(engine: Sight<'_>, hash: B256) -> Value {
    let mined = engine.find(hash).and_then(|(block, index)| block.transactions.get(index));
    let found = mined.map(|tx| &**tx).or_else(|| engine.waiting(hash));
    found.map_or("0x".into(), |tx| value(&Bytes::from(tx.encoded_2718())))
}

/// Accounts, and calls on their code.
fn state(host: &Host, engine: Sight<'_>, method: &str, args: Args<'_>) -> Answer {
    Some(match method {
        "eth_getBalance" => args
            .required::<Address>(0)
            .and_then(|address| Ok(value(&place(host, engine, args.required(1)?)?.balance(address)))),
        "eth_getTransactionCount" => args.required::<Address>(0).and_then(|address| {
            let nonce = match args.required(1)? {
                BlockId::Number(BlockNumberOrTag::Pending) => engine.next_nonce(address),
                id => place(host, engine, id)?.nonce(address),
            };
            Ok(value(&U64::from(nonce)))
        }),
        "eth_getCode" => args
            .required::<Address>(0)
            .and_then(|address| Ok(value(&place(host, engine, args.required(1)?)?.code(address)))),
        "eth_getStorageAt" => args.required::<Address>(0).and_then(|address| {
            let slot = args.required::<U256>(1)?;
            Ok(value(&B256::from(place(host, engine, args.required(2)?)?.slot(address, slot))))
        }),
        "eth_call" => executed(host, engine, args)
            .and_then(|(request, place)| Ok(value(&call::call(place, &request, engine.chain_id())?))),
        "debug_traceCall" => args.required::<TransactionRequest>(0).and_then(|request| {
            let place = place(host, engine, args.block(1)?)?;
            let config = args.optional::<TraceConfig>(2)?.unwrap_or_default();
            trace::trace_call(place, &request, config, engine.chain_id())
        }),
        "eth_simulateV1" => args.required::<SimulatePayload>(0).and_then(|payload| {
            let place = place(host, engine, args.block(1)?)?;
            Ok(simulate::simulate(place, payload, engine.chain_id())?.into())
        }),
        "eth_estimateGas" => executed(host, engine, args)
            .and_then(|(request, place)| Ok(value(&U64::from(call::estimate(place, &request, engine.chain_id())?)))),
        _ => return None,
    })
}

/// The request, block and state overrides of a call.
fn executed<'a>(host: &Host, engine: Sight<'a>, args: Args<'_>) -> Result<(TransactionRequest, Place<'a>), RpcError> {
    let request = args.required::<TransactionRequest>(0)?;
    let mut place = place(host, engine, args.block(1)?)?;
    if let Some(overrides) = args.optional::<StateOverride>(2)? {
        place.override_state(overrides)?;
    }
    Ok((request, place))
}

/// The state and header that `id` names.
fn place<'a>(host: &Host, engine: Sight<'a>, id: BlockId) -> Result<Place<'a>, RpcError> {
    if id == BlockId::pending() {
        let draft = engine.pending(host.seconds());
        let header = draft.header.clone();
        return Ok(Place { db: CacheDB::new(Ground { view: engine.latest(), draft: Some(draft) }), header });
    }
    let missing = match id {
        BlockId::Hash(_) => "header for hash not found",
        BlockId::Number(_) => "header not found",
    };
    let block = by_id(engine, id).ok_or_else(|| RpcError::new(FAILED, missing))?;
    let header = block.header.inner().clone();
    let view = engine.state_after(block).ok_or_else(|| {
        let root = header.state_root;
        RpcError::new(FAILED, format!("missing trie node {root:x} (path ) state {root} is not available"))
    })?;
    Ok(Place { db: CacheDB::new(Ground { view, draft: None }), header })
}

/// What clients poll.
fn filters(host: &Host, engine: Sight<'_>, method: &str, args: Args<'_>) -> Answer {
    let at = host.millis();
    Some(match method {
        "eth_newFilter" => args
            .required::<Value>(0)
            .and_then(|filter| Ok(host.filters().new_logs(filter::parse(&filter)?, engine, at))),
        "eth_newBlockFilter" => Ok(host.filters().new_blocks(engine, at)),
        "eth_newPendingTransactionFilter" => Ok(host.filters().new_pending(engine, at)),
        "eth_getFilterChanges" => args.required(0).and_then(|id| host.filters().changes(id, engine, at)),
        "eth_getFilterLogs" => args.required(0).and_then(|id| host.filters().all(id, engine, at)),
        "eth_uninstallFilter" => args.required(0).map(|id| host.filters().remove(id).into()),
        _ => return None,
    })
}

/// The mempool.
fn pool(engine: Sight<'_>, method: &str) -> Answer {
    let mut pending = Map::new();
    let mut queued = Map::new();
    let mut counts = [0_u64; 2];
    match method {
        "txpool_status" | "txpool_content" => {}
        _ => return None,
    }
    let show = |pooled: &Pooled| (pooled.tx.nonce().to_string(), value(&answer::waiting(&pooled.tx)));
    for (sender, waiting) in engine.pool().content() {
        let next = engine.next_nonce(sender);
        let (ready, later): (Vec<&Pooled>, Vec<&Pooled>) = waiting.partition(|pooled| pooled.tx.nonce() < next);
        let [pending_count, queued_count] = &mut counts;
        for (list, count, part) in [(&mut pending, pending_count, ready), (&mut queued, queued_count, later)] {
            *count = count.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX));
            if !part.is_empty() && method == "txpool_content" {
                list.insert(sender.to_string(), Value::Object(part.into_iter().map(show).collect()));
            }
        }
    }
    let [pending_count, queued_count] = counts;
    Some(Ok(if method == "txpool_status" {
        json!({ "pending": U64::from(pending_count), "queued": U64::from(queued_count) })
    } else {
        json!({ "pending": pending, "queued": queued })
    }))
}
