//! A node's try of a transaction before it is signed, by the method that tells most of those that the node has.
//!
//! `eth_simulateV1` (<https://github.com/ethereum/execution-apis/pull/484>) tells logs and transfers of the coin, `debug_traceCall`
//! logs, `eth_call` only whether it would revert. A node that answers one of them with an error of its own is asked the next.

use alloy::primitives::{Address, B256, Bytes, U64, U256, address};
use alloy::sol_types::SolEvent;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use super::node::Node;
use crate::address::Address as ChainAddress;
use crate::amount::Amount;
use crate::asset::Asset;
use crate::client::StateError;
use crate::ethereum::Unsigned;
use crate::rpc::RpcError;
use crate::simulation::{Movement, Simulation};

mod abi {
    alloy::sol! {
        // ERC-20 and ERC-721; of the latter the third argument is indexed, too
        event Transfer(address indexed from, address indexed to, uint256 amount);
        event Approval(address indexed owner, address indexed spender, uint256 amount);
        event ApprovalForAll(address indexed owner, address indexed operator, bool approved);
    }
}

/// In whose name `eth_simulateV1` logs transfers of the coin.
const COIN: Address = address!("0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE");

/// How deep calls in a trace are followed; the EVM goes no deeper.
const MAX_DEPTH: usize = 1024;

/// A log, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Log {
    address: Address,
    topics: Vec<B256>,
    #[serde(default)]
    data: Bytes,
}

/// A block of `eth_simulateV1`.
#[derive(Debug, Deserialize)]
struct Block {
    calls: Vec<Tried>,
}

#[derive(Debug, Deserialize)]
struct Tried {
    status: U64,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// A frame of `debug_traceCall` with geth's `callTracer`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    revert_reason: Option<String>,
    #[serde(default)]
    logs: Vec<Log>,
    #[serde(default)]
    calls: Vec<Frame>,
}

/// Has the node try the transaction on top of block `at`.
pub(super) async fn simulate(node: &Node, unsigned: &Unsigned, at: &str) -> Result<Simulation, RpcError> {
    let call = json!({
        "from": unsigned.from(), "to": unsigned.to(), "value": unsigned.value(), "data": unsigned.input(),
        "gas": U64::from(unsigned.gas_limit().units()),
    });
    let block = json!({ "blockStateCalls": [{ "calls": [call] }], "traceTransfers": true });
    match node.ask::<Vec<Block>>("eth_simulateV1", json!([block, at])).await {
        Ok(blocks) => {
            if let Some(tried) = blocks.into_iter().flat_map(|block| block.calls).next() {
                return Ok(tried.into());
            }
        }
        Err(RpcError::Node { .. }) => {}
        Err(error) => return Err(error),
    }
    let tracer = json!({ "tracer": "callTracer", "tracerConfig": { "withLog": true } });
    match node.ask::<Frame>("debug_traceCall", json!([call, at, tracer])).await {
        Ok(frame) => return Ok(frame.into()),
        Err(RpcError::Node { .. }) => {}
        Err(error) => return Err(error),
    }
    match node.ask::<Value>("eth_call", json!([call, at])).await.map_err(answer::reverted) {
        Ok(_) => Ok(Simulation::Passed(Vec::new())),
        Err(StateError::Reverted(why)) => Ok(Simulation::Reverted(why)),
        Err(StateError::Rpc(RpcError::Node { .. }) | StateError::Build(_)) => Ok(Simulation::Unsupported),
        Err(StateError::Rpc(error)) => Err(error),
    }
}

impl From<Tried> for Simulation {
    fn from(tried: Tried) -> Self {
        if tried.status != U64::from(1) {
            let why = tried.error.map(|error| error.message).filter(|why| !why.is_empty());
            return Self::Reverted(answer::cut(&why.unwrap_or_else(|| "the node doesn't say why".to_owned())));
        }
        Self::Passed(tried.logs.iter().filter_map(movement).collect())
    }
}

impl From<Frame> for Simulation {
    fn from(frame: Frame) -> Self {
        if let Some(error) = frame.error {
            return Self::Reverted(answer::cut(&frame.revert_reason.unwrap_or(error)));
        }
        let mut movements = Vec::new();
        // What a failed call has logged is undone with it.
        let mut open = vec![(0, frame)];
        while let Some((depth, frame)) = open.pop() {
            movements.extend(frame.logs.iter().filter_map(movement));
            let inner = frame.calls.into_iter().filter(|inner| inner.error.is_none() && depth < MAX_DEPTH);
            open.extend(inner.map(|inner| (depth + 1, inner)));
        }
        Self::Passed(movements)
    }
}

/// What a log tells of, if it is one of those that are looked at.
fn movement(log: &Log) -> Option<Movement> {
    let (event, rest) = log.topics.split_first()?;
    let who = |topic: &B256| ChainAddress::Ethereum(Address::from_word(*topic));
    let asset = if log.address == COIN { Asset::Native } else { Asset::Erc20(log.address) };
    let word = || <[u8; 32]>::try_from(log.data.as_ref()).ok().map(U256::from_be_bytes);
    let (first, second, value) = match rest {
        [first, second] => (who(first), who(second), word()?),
        [first, second, number] => (who(first), who(second), U256::from_be_bytes(number.0)),
        _ => return None,
    };
    let amount = Amount::from_base_units(value);
    match *event {
        abi::Transfer::SIGNATURE_HASH => Some(Movement::Transfer { asset, from: first, to: second, amount }),
        abi::Approval::SIGNATURE_HASH => Some(Movement::Allowance { asset, owner: first, spender: second, amount }),
        abi::ApprovalForAll::SIGNATURE_HASH => {
            let amount = if value.is_zero() { Amount::ZERO } else { Amount::MAX };
            Some(Movement::Allowance { asset, owner: first, spender: second, amount })
        }
        _ => None,
    }
}
